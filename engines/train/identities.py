"""The bank that the default embedder is trained on: rendered casts, drawn sprites, and what moves in films.

Rendered characters are the only ones with thousands of identities. A cast shares one look (line, shading,
fur), as in a production: then the look cannot tell its members apart, and colour and shape have to.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engines.runtime.base import EngineError
from engines.train import film_crops
from engines.train.views import BOX, KINDS, STORED, Bank

TRAINING, VALIDATION = 0, 1  # parts of a seed: no character of one is in the other
NOT_A_CHARACTER = re.compile(r"death")  # puffs of smoke among the sprites
WITH_CHARACTERS = ("loading_screen", "tree")  # painted backgrounds that are not only background


@dataclass(frozen=True)
class BankSize:
    """How much is rendered. Raising any of them takes proportionally longer and more disk."""

    casts: int = 350  # 6 characters each
    members: int = 6
    pictures: int = 8  # of each character
    backgrounds: int = 400


def rendered(
    size: BankSize, seed: int, part: int = TRAINING, distinct: bool = False
) -> dict[str, np.ndarray]:
    """Rendered characters as bank columns. ``distinct`` casts them as episodes do: all differ."""
    from stream.cartoon.characters import Look, Pose, draw_character, make_cast, random_character

    rng = np.random.default_rng([seed, part, 0xE3B])
    pictures, boxes, identities = [], [], []
    for cast in range(size.casts):
        look = Look.random(rng)
        if distinct:
            members: Sequence[Any] = make_cast(size.members, int(rng.integers(1 << 30)), look)
        else:
            members = [random_character(rng, look) for _ in range(size.members)]
        for number, member in enumerate(members):
            for _ in range(size.pictures):
                height = float(rng.uniform(70, 120))
                sprite = draw_character(member, Pose.random(rng), height, supersample=2)
                rgba, box = fit(sprite.rgba)
                pictures.append(rgba)
                boxes.append(box)
                identities.append(cast * size.members + number)
        if sys.stderr.isatty() and cast % 10 == 0:
            print(f"\r{cast}/{size.casts} casts", end="", file=sys.stderr)
    return _columns(pictures, boxes, identities, "rendered")


def fit(rgba: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A sprite (h, w, 4) as a stored picture (96, 96, 4), its longer side 76, and its box (4,) in it."""
    h, w = rgba.shape[:2]
    scale = BOX / max(h, w)
    size = max(1, round(w * scale)), max(1, round(h * scale))
    # Pillow weights colours by alpha when it resizes premultiplied pictures only
    small = Image.fromarray(rgba).convert("RGBa").resize(size, Image.Resampling.BILINEAR).convert("RGBA")
    left, top = (STORED - size[0]) // 2, (STORED - size[1]) // 2
    out = np.zeros((STORED, STORED, 4), np.uint8)
    out[top : top + size[1], left : left + size[0]] = np.asarray(small)
    return out, np.array([left, top, left + size[0], top + size[1]], np.float32)


def sprites(folder: Path) -> dict[str, np.ndarray]:
    """Drawn sprites as bank columns; the word before ``-``, ``_`` or a number names the character.

    Raises:
        EngineError: there is no PNG in ``folder``.
    """
    files = [f for f in sorted(folder.glob("*.png")) if not NOT_A_CHARACTER.search(f.name)]
    if not files:
        raise EngineError(f"{folder}: expected sprites as PNG files, found none; give the folder of the art")
    names = [re.split(r"[-_0-9]", f.stem)[0] for f in files]
    known = sorted(set(names))
    pictures, boxes = [], []
    for file in files:
        rgba = np.array(Image.open(file).convert("RGBA"))
        visible = np.argwhere(rgba[..., 3] > 24)
        (y1, x1), (y2, x2) = visible.min(0), visible.max(0) + 1
        picture, box = fit(rgba[y1:y2, x1:x2])
        pictures.append(picture)
        boxes.append(box)
    return _columns(pictures, boxes, [known.index(n) for n in names], "art")


def films(paths: Iterable[Path], seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What moves in the films as bank columns, and places of their frames (B, 96, 96, 3) as backgrounds."""
    found: list[film_crops.FilmPicture] = []
    places: list[np.ndarray] = []
    for number, path in enumerate(paths):
        rng = np.random.default_rng([seed, number, 0xF11])
        track = max((p.track for p in found), default=-1) + 1
        frame = max((p.frame for p in found), default=-1) + 1
        found += film_crops.pictures(path, rng, track, frame, places)
    columns = _columns(
        [p.rgba for p in found],
        [p.box for p in found],
        [p.track for p in found],
        "film",
        [p.frame for p in found],
    )
    return columns, np.array(places, np.uint8).reshape(-1, STORED, STORED, 3)


def backgrounds(count: int, seed: int, part: int = TRAINING) -> np.ndarray:
    """Rendered scenery, (count, 96, 96, 3): four places of each painting."""
    from stream.cartoon.backgrounds import paint_background

    rng = np.random.default_rng([seed, part, 0xBAC])
    out: list[np.ndarray] = []
    while len(out) < count:
        painting = Image.fromarray(np.asarray(paint_background(rng, 320, 180))[..., :3])
        out += [place(painting, rng) for _ in range(4)]
    return np.array(out[:count], np.uint8).reshape(-1, STORED, STORED, 3)


def paintings(folder: Path, count: int, seed: int) -> np.ndarray:
    """Places of the painted backgrounds in a folder, (count, 96, 96, 3)."""
    files = [f for f in sorted(folder.glob("*.png")) if f.stem not in WITH_CHARACTERS]
    rng = np.random.default_rng([seed, 0xBAC])
    images = [Image.open(f).convert("RGB") for f in files]
    out = [place(images[i % len(images)], rng) for i in range(count if images else 0)]
    return np.array(out, np.uint8).reshape(-1, STORED, STORED, 3)


def place(image: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """A random square of a picture, (96, 96, 3)."""
    side = int(min(image.size) * rng.uniform(0.25, 1.0))
    x, y = (int(rng.integers(0, whole - side + 1)) for whole in image.size)
    square = image.crop((x, y, x + side, y + side)).resize((STORED, STORED), Image.Resampling.BILINEAR)
    return np.asarray(square)


def _columns(
    pictures: list[np.ndarray],
    boxes: list[np.ndarray],
    identities: list[int],
    kind: str,
    frames: list[int] | None = None,
) -> dict[str, np.ndarray]:
    m = len(pictures)
    return {
        "pictures": np.array(pictures, np.uint8).reshape(m, STORED, STORED, 4),
        "boxes": np.array(boxes, np.float32).reshape(m, 4),
        "identities": np.array(identities, np.int32),
        "kinds": np.full(m, KINDS.index(kind), np.uint8),
        "frames": np.full(m, -1, np.int32) if frames is None else np.array(frames, np.int32),
    }


def join(parts: Sequence[dict[str, np.ndarray]], grounds: Sequence[np.ndarray]) -> Bank:
    """One bank; identities and frames of each part are renumbered so that no two parts share one."""
    offset = 0
    shifted = []
    for part in parts:
        shifted.append(part | {"identities": part["identities"] + offset})
        offset += int(part["identities"].max(initial=-1)) + 1
    columns = {name: np.concatenate([part[name] for part in shifted]) for name in shifted[0]}
    return Bank(**columns, backgrounds=np.concatenate(list(grounds)))


def training_bank(size: BankSize, seed: int, media: Path | None, art: Path | None) -> Bank:
    """Everything the default recipe learns from. ``media`` and ``art`` are folders, None leaves them out.

    Raises:
        EngineError: ``media`` holds no film, or ``art`` no sprite.
    """
    parts: list[dict[str, np.ndarray]] = []
    grounds: list[np.ndarray] = []  # what can be missing first: rendering takes minutes
    if art is not None:
        parts.append(sprites(art / "sprites" if (art / "sprites").is_dir() else art))
        grounds.append(paintings(art / "backgrounds", size.backgrounds // 8, seed))
    if media is not None:
        columns, places = films(film_files(media), seed)
        parts.append(columns)
        grounds.append(places)
    return join([rendered(size, seed), *parts], [backgrounds(size.backgrounds, seed), *grounds])


def film_files(media: Path) -> list[Path]:
    """The films of a folder.

    Raises:
        EngineError: there is none.
    """
    found = [
        f for f in sorted(media.iterdir()) if f.suffix.lower() in (".mp4", ".mkv", ".mpg", ".webm", ".mov")
    ]
    if not found:
        raise EngineError(
            f"{media}: expected films (.mp4, .mkv, .mpg, .webm, .mov), found none; give another folder"
        )
    return found


def validation_bank(seed: int, casts: int = 6, members: int = 6, pictures: int = 16) -> Bank:
    """Unseen characters before unseen scenery, what the recipe is selected by.

    ``casts`` casts as episodes have them, and as many whose members are alike by chance, which is harder.
    """
    size = BankSize(casts, members, pictures)
    parts = [rendered(size, seed + hard, VALIDATION, distinct=not hard) for hard in (False, True)]
    return join(parts, [backgrounds(24 * casts, seed, VALIDATION)])


def kept(folder: Path, name: str, facts: dict[str, Any], make: Callable[[], Bank]) -> Bank:
    """The bank in ``folder``, made if it is not there; pictures stay on disk and are read as needed."""
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:10]
    home = folder / f"{name}-{key}"
    if not (home / "facts.json").exists():
        bank = make()
        home.mkdir(parents=True, exist_ok=True)
        for field in fields(Bank):
            np.save(home / f"{field.name}.npy", getattr(bank, field.name))
        (home / "facts.json").write_text(json.dumps(facts))
    return Bank(**{f.name: np.load(home / f"{f.name}.npy", mmap_mode="r") for f in fields(Bank)})


def facts_of(size: BankSize, seed: int, media: Path | None, art: Path | None) -> dict[str, Any]:
    """What a training bank depends on."""
    return {**asdict(size), "seed": seed, "media": str(media), "art": str(art), "version": 1}
