"""The folders of material that a run trains on, each made once and kept in its scratch folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engines.train.films import HEIGHT, WIDTH
from engines.train.material import Bank, build_bank, more_material
from engines.train.recipe import Recipe

Say = Callable[[str], None]
#: What a part adds, by the names that both :class:`Part` and :func:`more_material` have for it.
MATERIAL = ("creatures", "cartoons", "episodes", "effects", "least_visible", "beasts", "props")


def prepare(
    recipe: Recipe, seed: int, scratch: Path, art: Path | None, media: Path | None, say: Say = print
) -> Path:
    """The bank's folder, built unless it is there with the same recipe; raises ConfigError as build_bank."""
    want: dict[str, object] = {
        "seed": seed,
        "creatures": recipe.creatures,
        "cartoons": recipe.cartoons,
        "backdrops": recipe.backdrops,
        "art": str(art) if art else None,
        "media": str(media) if media else None,
        "film_picture": [HEIGHT, WIDTH],
    }
    folder = scratch / "bank"
    note = folder / "recipe.json"
    if not note.exists() or json.loads(note.read_text()) != want:
        bank = build_bank(seed, recipe.creatures, recipe.cartoons, recipe.backdrops, art, media, say)
        bank.save(folder, want)
        for old in scratch.glob("bank-self*"):  # made from the former bank
            shutil.rmtree(old)
    return folder


def bank_of_part(bank: Path, recipe: Recipe, seed: int, k: int, say: Say = print) -> Path:
    """The folder of the material of part ``k``: that of the part before, and what the recipe adds."""
    if not k:
        return bank
    before = bank_of_part(bank, recipe, seed, k - 1, say)
    folder = bank.with_name(f"{bank.name}-part{k}")
    part = recipe.later[k - 1]
    sizes: dict[str, Any] = {field: getattr(part, field) for field in MATERIAL}
    want: dict[str, object] = {
        "before": json.loads((before / "recipe.json").read_text()),
        "more": sizes,
    }
    if not (folder / "recipe.json").exists() or json.loads((folder / "recipe.json").read_text()) != want:
        more = more_material(seed + 500 * k, **sizes)
        say(f"part {k}: {len(more.sprites)} more sprites, {len(more.films)} more frames of episodes")
        Bank.load(before).with_more(more).save(folder, want)
    return folder
