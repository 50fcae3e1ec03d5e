"""The bank: sprites, things, backgrounds and film frames, drawn or decoded once, kept in a scratch folder.

Making pictures is then only pasting. Everything in the bank is one flat memory-mapped byte array per kind
with an index, so that several processes read the same pages.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines.train.films import WIDTH
from engines.train.sprites.beasts import draw_beast
from engines.train.sprites.creatures import draw_creature
from engines.train.sprites.effects import draw_effect
from engines.train.sprites.props import draw_prop
from stream.errors import ConfigError

CHARACTER, THING = 0, 1
NOT_CHARACTERS = ("loading_screen", "tree")  # painted backgrounds that do contain characters
CARTOON_SEED = 1000  # the demo's episodes use seeds 0..99; the tests use those below this one
SPRITE_PX = 176

Bytes = NDArray[np.uint8]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Shelf:
    """Pictures of different sizes in one flat array: picture i is ``flat[offset : offset + h*w*c]``.

    ``index``: int64 (n, 4): offset, height, width, channels. ``notes``: float32 (n, k), what belongs to each.
    """

    flat: Bytes
    index: NDArray[np.int64]
    notes: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> Bytes:
        offset, h, w, c = (int(v) for v in self.index[i])
        return self.flat[offset : offset + h * w * c].reshape(h, w, c)

    def save(self, folder: Path, name: str) -> None:
        np.save(folder / f"{name}.pixels.npy", self.flat)
        np.savez(folder / f"{name}.index.npz", index=self.index, notes=self.notes)

    @classmethod
    def load(cls, folder: Path, name: str) -> Shelf:
        with np.load(folder / f"{name}.index.npz") as z:
            return cls(np.load(folder / f"{name}.pixels.npy", mmap_mode="r"), z["index"], z["notes"])

    @classmethod
    def of(cls, pictures: Iterable[tuple[Bytes, Iterable[float]]], width: int) -> Shelf:
        """``pictures``: (pixels (h, w, c), notes of ``width`` numbers)."""
        parts, index, notes, offset = [], [], [], 0
        for pixels, note in pictures:
            h, w, c = pixels.shape
            parts.append(np.ascontiguousarray(pixels).ravel())
            index.append((offset, h, w, c))
            notes.append(tuple(note))
            offset += h * w * c
        flat = np.concatenate(parts) if parts else np.zeros(0, np.uint8)
        return cls(
            flat,
            np.array(index, np.int64).reshape(-1, 4),
            np.array(notes, np.float32).reshape(-1, width),
        )

    @classmethod
    def join(cls, shelves: list[Shelf]) -> Shelf:
        flat = np.concatenate([s.flat for s in shelves])
        index, start = [], 0
        for s in shelves:
            moved = s.index.copy()
            moved[:, 0] += start
            index.append(moved)
            start += len(s.flat)
        return cls(flat, np.concatenate(index), np.concatenate([s.notes for s in shelves]))


# Notes of a sprite: kind, whether its face is known, the face's box (NaN: none shown), its source.
SPRITE_NOTES = 7
SOURCES = ("creature", "cartoon", "art", "film", "beast")
FILM_BOXES = 8
# Notes of a film picture: its boxes, whether its window was registered, the trust in the boxes, its film.
REGISTERED, TRUST, FILM = (FILM_BOXES * 4 + i for i in range(3))
FILM_NOTES = FILM_BOXES * 4 + 3


@dataclass(frozen=True)
class Bank:
    """All material: ``sprites`` premultiplied RGBA, ``backdrops`` RGB, ``films`` RGB + knowledge channel.

    A film picture has 4 channels: RGB and 255 where nothing is known (else 0); its notes are up to eight
    boxes xyxy, NaN where there are fewer, 1 if its window was registered, the trust in the boxes 0..1, and
    the number of the film it is from (drawn episodes: -1).
    """

    sprites: Shelf
    backdrops: Shelf
    films: Shelf

    def with_more(self, other: Bank) -> Bank:
        """Both together; the films of ``other`` have to be drawn ones, as films are told apart by number."""
        names = ("sprites", "backdrops", "films")
        return Bank(*(Shelf.join([getattr(self, name), getattr(other, name)]) for name in names))

    def save(self, folder: Path, recipe: dict[str, object], but_films: Path | None = None) -> None:
        """Write the bank. ``but_films``: folder of one that differs in its films alone, whose other files get
        a second name here, as a bank has gigabytes."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("sprites", "backdrops"):
            if but_films is None:
                getattr(self, name).save(folder, name)
            else:
                for file in but_films.glob(f"{name}.*"):
                    _link(file, folder / file.name)
        self.films.save(folder, "films")
        (folder / "recipe.json").write_text(json.dumps(recipe, indent=1, sort_keys=True))

    @classmethod
    def load(cls, folder: Path) -> Bank:
        return cls(*(Shelf.load(folder, name) for name in ("sprites", "backdrops", "films")))


def _link(file: Path, to: Path) -> None:
    """A second name of a file, or a copy where the file system has no links."""
    to.unlink(missing_ok=True)
    try:
        os.link(file, to)
    except OSError:
        shutil.copyfile(file, to)


def premultiplied(rgba: Bytes, limit: int = SPRITE_PX) -> tuple[Bytes, float]:
    """RGB times alpha, shrunk so that no side exceeds ``limit``; and the scale applied."""
    scale = min(1.0, limit / max(rgba.shape[:2]))
    if scale < 1:
        size = (max(1, round(rgba.shape[1] * scale)), max(1, round(rgba.shape[0] * scale)))
        rgba = np.asarray(Image.fromarray(rgba).resize(size, Image.Resampling.BOX))
    out = rgba.astype(np.uint16)
    out[..., :3] = (out[..., :3] * out[..., 3:] + 127) // 255
    return out.astype(np.uint8), scale


def _note(kind: int, source: str, face_known: bool, face: Box | None, scale: float) -> list[float]:
    box = [np.nan] * 4 if face is None else [v * scale for v in face]
    return [kind, float(face_known), *box, SOURCES.index(source)]


def creature_sprites(count: int, things: int, seed: int) -> Shelf:
    """Softly shaded creatures and things of :mod:`engines.train.sprites.creatures`."""

    def each() -> Iterable[tuple[Bytes, list[float]]]:
        for i in range(count + things):
            rng = np.random.default_rng((seed, 1, i))
            rgba, face = draw_creature(rng, SPRITE_PX, clutter=i >= count)
            pixels, scale = premultiplied(rgba)
            yield pixels, _note(CHARACTER if i < count else THING, "creature", True, face, scale)

    return Shelf.of(each(), SPRITE_NOTES)


def cartoon_sprites(count: int, seed: int) -> Shelf:
    """Cel characters of :mod:`stream.cartoon`, each in four poses; none of the demo's cast."""
    # The pipeline never imports the trainer, so this one import against the usual direction makes no circle.
    from stream.cartoon.casting import random_character
    from stream.cartoon.characters import Pose, draw_character

    def each() -> Iterable[tuple[Bytes, list[float]]]:
        for i in range(count // 4):
            rng = np.random.default_rng((CARTOON_SEED + seed, 2, i))
            character = random_character(rng)
            for _ in range(4):
                sprite = draw_character(character, Pose.random(rng), float(rng.uniform(120, SPRITE_PX)), 2)
                if min(sprite.rgba.shape[:2]) >= 8:
                    pixels, scale = premultiplied(sprite.rgba)
                    yield pixels, _note(CHARACTER, "cartoon", True, sprite.face, scale)

    return Shelf.of(each(), SPRITE_NOTES)


def cartoon_things(count: int, seed: int) -> Shelf:
    """Trees, furniture, cars and other things of :mod:`stream.cartoon`, never to be boxed."""
    from stream.cartoon.props import PROPS, draw_prop

    def each() -> Iterable[tuple[Bytes, list[float]]]:
        for i in range(count):
            rng = np.random.default_rng((CARTOON_SEED + seed, 5, i))
            pixels, scale = premultiplied(draw_prop(PROPS[i % len(PROPS)], rng, 140.0))
            yield pixels, _note(THING, "cartoon", True, None, scale)

    return Shelf.of(each(), SPRITE_NOTES)


def art_sprites(folder: Path) -> Shelf:
    """Hand-drawn sprites: characters with unknown faces; ``*-death`` are puffs of smoke, that is things."""

    def each() -> Iterable[tuple[Bytes, list[float]]]:
        for file in sorted((folder / "sprites").glob("*.png")):
            rgba = np.asarray(Image.open(file).convert("RGBA"))
            ys, xs = np.nonzero(rgba[..., 3] > 40)
            if len(ys) < 60:
                continue
            rgba = rgba[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
            thing = "-death" in file.name
            pixels, scale = premultiplied(rgba)
            yield pixels, _note(THING if thing else CHARACTER, "art", thing, None, scale)

    return Shelf.of(each(), SPRITE_NOTES)


def _fit(image: Image.Image, side: int) -> Bytes:
    scale = side / min(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BOX))


def painted_backdrops(folder: Path) -> Shelf:
    """The art's painted backgrounds without those that contain characters, at three sizes."""
    files = [f for f in sorted((folder / "backgrounds").glob("*.png")) if f.stem not in NOT_CHARACTERS]
    made = ((_fit(Image.open(f), side), [2.0]) for f in files for side in (240, 400, 640))
    return Shelf.of(made, 1)


def cartoon_backdrops(count: int, seed: int) -> Shelf:
    """Painted backgrounds of :mod:`stream.cartoon`."""
    from stream.cartoon.backgrounds import paint_background

    def each() -> Iterable[tuple[Bytes, list[float]]]:
        for i in range(count):
            rng = np.random.default_rng((CARTOON_SEED + seed, 3, i))
            yield np.asarray(paint_background(rng, 384, 224))[..., :3], [1.0]

    return Shelf.of(each(), 1)


def film_shelf(files: list[Path], say: Callable[[str], None]) -> Shelf:
    """Frames of films with what their motion says; short films are sampled more densely."""
    from engines.train.films import film_frames

    def each() -> Iterable[tuple[Bytes, list[float]]]:
        for number, file in enumerate(files):
            count = 0
            dense = file.stat().st_size < 12_000_000
            for frame in film_frames(file, 4.0, 1 if dense else 3):
                h, w = frame.image.shape[:2]
                veil = np.kron(frame.unknown, np.full((4, 4), 255, np.uint8)).astype(np.uint8)
                full = np.full((h, w), 255, np.uint8)
                full[: veil.shape[0], : veil.shape[1]] = veil[:h, :w]
                count += 1
                yield np.dstack([frame.image, full]), film_note(frame.boxes, frame.registered, 0.5, number)
            say(f"{file.name}: {count} frames")

    return Shelf.of(each(), FILM_NOTES)


def film_note(boxes: NDArray[np.float32], registered: bool, trust: float, film: int = -1) -> list[float]:
    """Notes of a film picture, as :class:`Bank` says; boxes beyond the eighth are left out."""
    rows = np.full((FILM_BOXES, 4), np.nan, np.float32)
    rows[: len(boxes)] = boxes[:FILM_BOXES]
    return [*rows.ravel().tolist(), float(registered), trust, float(film)]


EPISODE_SIZES = ((320, 180), (320, 180), (256, 192))
LARGER_SIZES = ((WIDTH, 234), (WIDTH, 234), (320, 240))


def episode_shelf(
    episodes: int,
    seed: int,
    seconds: int = 24,
    sizes: Sequence[tuple[int, int]] = EPISODE_SIZES,
    least_visible: float = 0.3,
) -> Shelf:
    """Whole frames of drawn episodes, one per second, with their true boxes; none of the demo's seeds.

    Characters that are hidden but for less than ``least_visible`` of them are not judged; raising it asks for
    fewer hidden ones.
    """
    from stream.cartoon.characters import make_cast
    from stream.cartoon.episode import render_frames
    from stream.cartoon.script import Script

    def each() -> Iterable[tuple[Bytes, list[float]]]:
        for i in range(episodes):
            number = CARTOON_SEED + seed * 1000 + i
            width, height = sizes[i % len(sizes)]
            cast = make_cast(4 + i % 5, number)
            script = Script.random(cast, number, seconds=seconds, width=width, height=height, fps=1)
            for image, truths in render_frames(script):
                veil = np.zeros((height, width, 1), np.uint8)
                boxes = []
                for truth in truths:
                    if truth.visible < least_visible or truth.box[3] - truth.box[1] < 10:
                        x1, y1, x2, y2 = (int(v) for v in truth.box)
                        veil[max(0, y1 - 2) : y2 + 2, max(0, x1 - 2) : x2 + 2] = 255
                    else:
                        boxes.append(truth.box)
                note = film_note(np.array(boxes, np.float32).reshape(-1, 4), True, 1.0)
                if len(boxes) <= FILM_BOXES:
                    yield np.dstack([image, veil]), note

    return Shelf.of(each(), FILM_NOTES)


def effect_sprites(count: int, seed: int) -> Shelf:
    """Foam, smoke, ships and other things of :mod:`engines.train.sprites.effects`, never to be boxed."""

    def each() -> Iterable[tuple[Bytes, list[float]]]:
        for i in range(count):
            pixels, scale = premultiplied(draw_effect(np.random.default_rng((seed, 6, i)), 140))
            yield pixels, _note(THING, "creature", True, None, scale)

    return Shelf.of(each(), SPRITE_NOTES)


def prop_sprites(count: int, seed: int) -> Shelf:
    """Furniture, vessels, plants and more of :mod:`engines.train.sprites.props`, never to be boxed."""

    def each() -> Iterable[tuple[Bytes, list[float]]]:
        for i in range(count):
            pixels, scale = premultiplied(draw_prop(np.random.default_rng((seed, 8, i)), SPRITE_PX))
            yield pixels, _note(THING, "cartoon", True, None, scale)

    return Shelf.of(each(), SPRITE_NOTES)


def beast_sprites(count: int, seed: int) -> Shelf:
    """Winged, serpentine, heavy and dark cel characters of :mod:`engines.train.sprites.beasts`."""

    def each() -> Iterable[tuple[Bytes, list[float]]]:
        for i in range(count):
            rgba, face = draw_beast(np.random.default_rng((seed, 7, i)), SPRITE_PX)
            pixels, scale = premultiplied(rgba)
            yield pixels, _note(CHARACTER, "beast", True, face, scale)

    return Shelf.of(each(), SPRITE_NOTES)


def more_material(
    seed: int,
    creatures: int,
    cartoons: int,
    episodes: int,
    effects: int,
    least_visible: float,
    beasts: int = 0,
    props: int = 0,
) -> Bank:
    """Characters, things and episodes to add to a bank that was built with another seed."""
    sprites = [creature_sprites(creatures, creatures // 3, seed)]
    sprites += [cartoon_sprites(cartoons, seed), cartoon_things(cartoons // 8, seed)]
    sprites += [effect_sprites(effects, seed), beast_sprites(beasts, seed), prop_sprites(props, seed)]
    return Bank(
        Shelf.join(sprites),
        cartoon_backdrops(cartoons // 12, seed),
        episode_shelf(episodes, seed, 16, LARGER_SIZES, least_visible),
    )


def build_bank(
    seed: int,
    creatures: int,
    cartoons: int,
    backdrops: int,
    art: Path | None,
    media: Path | None,
    say: Callable[[str], None] = print,
) -> Bank:
    """Draw and decode everything. ``art``: folder with sprites/ and backgrounds/; ``media``: folder of films;
    None leaves them out. Raises ConfigError for a folder that is not there."""
    for name, folder in (("--art", art), ("--media", media)):
        if folder is not None and not folder.is_dir():
            raise ConfigError(
                f"{name} {folder}: expected a folder, found none; leave the option out to train without"
            )
    sprites = [creature_sprites(creatures, creatures // 3, seed)]
    say(f"{len(sprites[0])} creatures and things")
    grounds = []
    if cartoons:
        sprites += [cartoon_sprites(cartoons, seed), cartoon_things(cartoons // 8, seed)]
        say(f"{len(sprites[-2])} cel characters, {len(sprites[-1])} cel things")
    if backdrops:
        grounds.append(cartoon_backdrops(backdrops, seed))
        say(f"{len(grounds[-1])} painted backgrounds")
    if art is not None:
        sprites.append(art_sprites(art))
        grounds.append(painted_backdrops(art))
        say(f"{len(sprites[-1])} sprites and {len(grounds[-1])} paintings of {art}")
    from engines.train.backdrops import plain_backdrops

    grounds.append(plain_backdrops(max(60, backdrops), seed))
    kinds = (".mp4", ".mkv", ".webm", ".ogv", ".mpg")
    files = [f for f in sorted(media.iterdir()) if f.suffix in kinds] if media is not None else []
    films = [film_shelf(files, say)]
    if cartoons:
        films.append(episode_shelf(cartoons // 100, seed))
        say(f"{len(films[-1])} frames of drawn episodes")
    return Bank(Shelf.join(sprites), Shelf.join(grounds), Shelf.join(films))
