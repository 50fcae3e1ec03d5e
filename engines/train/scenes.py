"""Training pictures: sprites pasted onto backgrounds with exact boxes, then made to look like film.

A picture depends on (seed, number) alone, so training can stop and go on anywhere. Boxes are the visible
extent of a character, clipped to the frame, as a careful person would draw them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.train.looks import CELL, broken, letterbox, look
from engines.train.material import CHARACTER, FILM, FILM_BOXES, REGISTERED, TRUST, Bank, Shelf
from engines.train.pasting import NO_OWNER, around, cover, disc, extents, paste

MAX_BOXES = 24
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """A training picture.

    ``image``: uint8 (H, W, 3). ``boxes``: float32 (n, 6): class, x1, y1, x2, y2, trust 0..1. ``ignore``: bool
    (H/8, W/8, 2): cells where the background of a class is not judged.
    """

    image: Bytes
    boxes: Floats
    ignore: NDArray[np.bool_]


@dataclass(frozen=True)
class SceneSettings:
    """Shares and ranges of what is drawn.

    ``film``: share of pictures that are whole frames, ``real`` of them of real films with their motion's
    knowledge (raising it teaches real backgrounds and less variety), the others of drawn episodes with the
    truth. ``broken_film``: share on shuffled or blurred real frames. ``most``: most
    characters in one picture. ``smallest``, ``largest``: character height as a share of the picture's;
    raising ``largest`` gives more close-ups. ``empty``: share without any character.
    """

    film: float = 0.46
    real: float = 0.58
    broken_film: float = 0.12
    most: int = 4
    smallest: float = 0.10
    largest: float = 1.5
    empty: float = 0.06


SHARES = np.array([1.2, 1.2, 0.5, 0.5, 0.8])  # of creatures, cartoons, art, film and beasts in a crowd
_ONE, _ZERO = np.ones(3, np.float32), np.zeros(3, np.float32)


class SceneMaker:
    """Makes pictures from a bank. ``make(number, height, width)`` is a function of (seed, number) alone."""

    def __init__(self, bank: Bank, seed: int = 0, settings: SceneSettings | None = None) -> None:
        self.bank, self.seed, self.settings = bank, seed, settings or SceneSettings()
        notes = bank.sprites.notes
        self.characters = np.nonzero(notes[:, 0] == CHARACTER)[0]
        self.things = np.nonzero(notes[:, 0] != CHARACTER)[0]
        # Every source of characters is drawn equally often, however many sprites it has; art by half.
        source = notes[self.characters, 6].astype(int)
        share = SHARES[source] / np.bincount(source, minlength=len(SHARES))[source]
        self.chance = np.cumsum(share / share.sum())
        self.grain = np.random.default_rng(seed).normal(size=(256, 256)).astype(np.float32)
        films = bank.films.notes
        drawn = films[:, TRUST] == 1
        known = (films[:, REGISTERED] > 0) & ~drawn
        # A long film is drawn from no more often than a short one, but a handful of frames is not worn out.
        self.real = [np.flatnonzero(known & (films[:, FILM] == n)) for n in np.unique(films[known, FILM])]
        weight = np.array([min(len(frames), 120) for frames in self.real], float)
        self.film_chance = np.cumsum(weight / weight.sum())
        self.drawn = np.flatnonzero(drawn)

    def _character(self, rng: np.random.Generator) -> int:
        return int(
            self.characters[min(int(np.searchsorted(self.chance, rng.random())), len(self.characters) - 1)]
        )

    def make(self, number: int, height: int = 192, width: int = 320) -> Scene:
        """The ``number``-th picture in the given size (multiples of 32)."""
        rng = np.random.default_rng((self.seed, 7, number))
        s = self.settings
        canvas = np.empty((height, width, 3), np.uint8)
        owner = np.full((height, width), NO_OWNER, np.uint8)
        ignore = np.zeros((height // CELL, width // CELL, 2), bool)
        boxes: list[list[float]] = []
        draw = rng.random()
        if draw < s.film and (self.real or len(self.drawn)):
            boxes, crowd = self._film(rng, canvas, ignore)
        else:
            self._backdrop(rng, canvas, draw < s.film + s.broken_film and len(self.bank.films) > 0)
            crowd = True
        for _ in range(int(rng.integers(0, 4)) if crowd and rng.random() < 0.6 and len(self.things) else 0):
            self._thing(rng, canvas, owner)
        if crowd and rng.random() >= s.empty:
            boxes = self._crowd(rng, canvas, owner, ignore, boxes)
        image = look(rng, canvas, self.grain)
        if rng.random() < 0.15:
            image, boxes, ignore = letterbox(rng, image, boxes, ignore)
        found = np.array(boxes, np.float32).reshape(-1, 6)[:MAX_BOXES]
        return Scene(image, found, ignore)

    def _backdrop(self, rng: np.random.Generator, canvas: Bytes, film: bool) -> None:
        height, width = canvas.shape[:2]
        shelf: Shelf = self.bank.films if film else self.bank.backdrops
        source = np.ascontiguousarray(shelf[int(rng.integers(len(shelf)))][..., :3])
        if film:
            source = broken(rng, source)
        zoom = max(width / source.shape[1], height / source.shape[0]) * float(np.exp(rng.uniform(0, 1.1)))
        cover(rng, canvas, source, zoom)

    def _film(
        self, rng: np.random.Generator, canvas: Bytes, ignore: NDArray[np.bool_]
    ) -> tuple[list[list[float]], bool]:
        """A whole frame. Real: what moved is not judged, or a box if compact. Drawn: the true boxes."""
        height, width = canvas.shape[:2]
        real = self.real and (rng.random() < self.settings.real or not len(self.drawn))
        film = min(int(np.searchsorted(self.film_chance, rng.random())), len(self.real) - 1)
        pool = self.real[film] if real else self.drawn
        n = int(pool[rng.integers(len(pool))])
        source = self.bank.films[n]
        zoom = max(width / source.shape[1], height / source.shape[0]) * float(np.exp(rng.uniform(0, 0.5)))
        inverse = cover(rng, canvas, np.ascontiguousarray(source[..., :3]), zoom)
        ys = (np.arange(height // CELL) + 0.5) * CELL
        xs = (np.arange(width // CELL) + 0.5) * CELL
        v = np.clip(inverse[1, 1] * ys + inverse[1, 2], 0, source.shape[0] - 1).astype(int)
        u = np.clip(inverse[0, 0] * xs + inverse[0, 2], 0, source.shape[1] - 1).astype(int)
        ignore |= (source[..., 3][np.ix_(v, u)] > 0)[..., None]
        boxes = []
        trust = float(self.bank.films.notes[n, TRUST])
        for box in self.bank.films.notes[n, : 4 * FILM_BOXES].reshape(FILM_BOXES, 4):
            if not np.isnan(box[0]):
                x = (box[[0, 2]] - inverse[0, 2]) / inverse[0, 0]
                y = (box[[1, 3]] - inverse[1, 2]) / inverse[1, 1]
                moved = [x.min(), y.min(), x.max(), y.max()]
                inner = [max(0, moved[0]), max(0, moved[1]), min(width, moved[2]), min(height, moved[3])]
                area = (moved[2] - moved[0]) * (moved[3] - moved[1])
                w, h = max(0.0, inner[2] - inner[0]), max(0.0, inner[3] - inner[1])
                x1, y1, x2, y2 = (int(v) // CELL for v in inner)
                # A drawn character that is cut is still one; of a moving blob only the whole can be trusted.
                if w * h > (0.2 if trust == 1 else 0.7) * area:
                    boxes.append([0.0, *(float(v) for v in inner), trust])
                    ignore[y1 : y2 + 1, x1 : x2 + 1, 1] = True  # nobody says where its face is
                elif w * h > 0:
                    ignore[y1 : y2 + 1, x1 : x2 + 1] = True
        return boxes, rng.random() < (0.2 if trust == 1 else 0.6)

    def _thing(self, rng: np.random.Generator, canvas: Bytes, owner: Bytes, front: bool = False) -> None:
        sprite = self.bank.sprites[int(self.things[rng.integers(len(self.things))])]
        height, width = canvas.shape[:2]
        size = float(np.exp(rng.uniform(np.log(0.1), np.log(0.9)))) * height / max(sprite.shape[:2])
        at = (float(rng.uniform(0, width)), float(rng.uniform(height * 0.2, height * 1.05)))
        inverse = around(
            sprite.shape[1] / 2, sprite.shape[0] / 2, size, size, float(rng.uniform(-0.4, 0.4)), at
        )
        gain = rng.uniform(0.6, 1.2, 3).astype(np.float32)
        paste(canvas, owner, sprite, inverse, gain, _ZERO, 1.0, 254 if front else NO_OWNER)

    def _crowd(
        self,
        rng: np.random.Generator,
        canvas: Bytes,
        owner: Bytes,
        ignore: NDArray[np.bool_],
        boxes: list[list[float]],
    ) -> list[list[float]]:
        s = self.settings
        height, width = canvas.shape[:2]
        count = 1 + int(rng.random() ** 1.6 * s.most)
        close = rng.random() < 0.22
        sizes = np.exp(rng.uniform(np.log(s.smallest), np.log(0.95), count))
        base = np.exp(rng.uniform(np.log(0.25), np.log(0.95)))
        if rng.random() < 0.6:  # one scene, one scale
            sizes = base * np.exp(rng.normal(0, 0.25, count))
        if close:
            sizes[-1] = rng.uniform(0.9, s.largest)
        placed = []
        for n in range(count):
            placed.append(self._place(rng, canvas, owner, float(np.clip(sizes[n], s.smallest, s.largest)), n))
            if rng.random() < 0.15 and len(self.things):
                self._thing(rng, canvas, owner, front=True)
        seen = extents(owner, count)
        # Pasted characters may hide what a real frame showed.
        kept = []
        for box in boxes:
            x1, y1, x2, y2 = (int(v) for v in box[1:5])
            patch = owner[y1:y2, x1:x2]
            if patch.size and float((patch == NO_OWNER).mean()) > 0.75:
                kept.append(box)
        for n, (inside, whole, faces_known, face) in enumerate(placed):
            pixels, x1, y1, x2, y2 = (int(v) for v in seen[n])
            if pixels == 0:
                continue
            tall = y2 - y1
            hidden = pixels < 0.3 * inside or inside < 0.12 * whole or pixels < 60 or tall < 10
            area = (slice(max(0, y1 // CELL), -(-y2 // CELL)), slice(max(0, x1 // CELL), -(-x2 // CELL)))
            if hidden:
                ignore[area] = True  # too little of it to ask for, too much to call background
                continue
            kept.append([0.0, x1, y1, x2, y2, 1.0])
            if not faces_known:
                ignore[(*area, 1)] = True
            elif face is not None:
                fx1, fy1, fx2, fy2 = face
                ix1, iy1, ix2, iy2 = (
                    max(0, int(fx1)),
                    max(0, int(fy1)),
                    min(width, int(fx2)),
                    min(height, int(fy2)),
                )
                full = max(1.0, (fx2 - fx1) * (fy2 - fy1))
                if ix2 - ix1 >= 5 and iy2 - iy1 >= 5 and (ix2 - ix1) * (iy2 - iy1) > 0.55 * full:
                    mine = float((owner[iy1:iy2, ix1:ix2] == n).mean())
                    if mine > 0.45:
                        kept.append([1.0, ix1, iy1, ix2, iy2, 1.0])
        return kept

    def _place(
        self, rng: np.random.Generator, canvas: Bytes, owner: Bytes, tall: float, n: int
    ) -> tuple[int, int, bool, tuple[float, float, float, float] | None]:
        """Paste one character; returns its pixels inside, its pixels in all, and its face in the canvas."""
        height, width = canvas.shape[:2]
        i = self._character(rng)
        sprite, note = self.bank.sprites[i], self.bank.sprites.notes[i]
        sh, sw = sprite.shape[:2]
        scale = tall * height / sh
        if sw * scale > 1.3 * width:
            scale = 1.3 * width / sw
        stretch = float(np.exp(rng.normal(0, 0.08)))
        mirror = -1.0 if rng.random() < 0.5 else 1.0
        angle = float(rng.normal(0, 0.12)) if rng.random() < 0.9 else float(rng.uniform(-0.9, 0.9))
        if tall < 0.85:
            at = (
                float(rng.uniform(0.02, 0.98)) * width,
                float(rng.uniform(min(0.5, tall / 2), 1.0 - tall * rng.uniform(0.1, 0.5))) * height,
            )
        else:  # a close-up shows the head: the bottom is what the frame cuts
            at = (
                float(rng.uniform(0.15, 0.85)) * width,
                height * (tall / 2 + float(rng.uniform(-0.12, 0.15))),
            )
        inverse = around(sw / 2, sh / 2, mirror * scale * stretch, scale / stretch, angle, at)
        gain = (np.exp(rng.normal(0, 0.12)) * np.exp(rng.normal(0, 0.06, 3))).astype(np.float32)
        offset = np.full(3, rng.uniform(-15, 25), np.float32) if rng.random() < 0.4 else _ZERO
        if rng.random() < 0.35:  # a shadow on the ground
            wide = sw * scale * 0.5
            shade = disc()
            flat = around(32, 32, wide / 32, wide / 32 * 0.2, 0.0, (at[0], at[1] + sh * scale * 0.48))
            paste(canvas, owner, shade, flat, _ONE, _ZERO, float(rng.uniform(0.2, 0.6)), NO_OWNER)
        if rng.random() < 0.08:  # sometimes it is a silhouette in the dark
            gain *= np.float32(rng.uniform(0.15, 0.5))
        inside, whole = paste(canvas, owner, sprite, inverse, gain, offset, 1.0, n)
        face = None
        if not np.isnan(note[2]):
            m = np.linalg.inv(inverse[:, :2].astype(np.float64))
            x1, y1, x2, y2 = note[2:6]
            centre = m @ (np.array([(x1 + x2) / 2, (y1 + y2) / 2]) - inverse[:, 2])
            half = np.abs(m) @ np.array([(x2 - x1) / 2, (y2 - y1) / 2]) * (1 - 0.25 * abs(np.sin(2 * angle)))
            face = (centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1])
        return inside, whole, bool(note[1]), face
