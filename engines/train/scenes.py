"""Training pictures: sprites pasted onto backgrounds with exact boxes, then made to look like film.

A picture depends on (seed, number) alone, so training can stop and go on anywhere. Boxes are the visible
extent of a character, clipped to the frame, as a careful person would draw them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines.train.material import CHARACTER, Bank, Shelf

MAX_BOXES = 24
CELL = 8  # cells of the map of what is not judged
NO_OWNER = 255
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

    ``film``: share of pictures on real frames with their motion's knowledge (raising it teaches real
    backgrounds and less variety). ``broken_film``: share on shuffled or blurred real frames. ``most``: most
    characters in one picture. ``smallest``, ``largest``: character height as a share of the picture's;
    raising ``largest`` gives more close-ups. ``empty``: share without any character.
    """

    film: float = 0.30
    broken_film: float = 0.25
    most: int = 4
    smallest: float = 0.10
    largest: float = 1.5
    empty: float = 0.06


@numba.njit(cache=True, fastmath=True)
def paste(
    canvas: Bytes,
    owner: Bytes,
    sprite: Bytes,
    inverse: Floats,
    gain: Floats,
    offset: Floats,
    alpha_gain: float,
    number: int,
) -> tuple[int, int]:
    """Draw a premultiplied sprite through ``inverse`` (2x3, canvas to sprite pixels), bilinear, averaged.

    Pixels of alpha over one half get ``number`` in ``owner`` (255: leave ``owner`` alone). Returns the number
    of such pixels in the canvas, and of such pixels had the canvas no edges.
    """
    height, width = canvas.shape[:2]
    sh, sw = sprite.shape[:2]
    a, b, c, d, e, f = (
        inverse[0, 0],
        inverse[0, 1],
        inverse[0, 2],
        inverse[1, 0],
        inverse[1, 1],
        inverse[1, 2],
    )
    det = a * e - b * d
    # The sprite's corners in the canvas bound the loop.
    x_low, x_high, y_low, y_high = 1e9, -1e9, 1e9, -1e9
    for k in range(4):
        u, v = (k % 2) * sw - c, (k // 2) * sh - f
        x, y = (e * u - b * v) / det, (a * v - d * u) / det
        x_low, x_high, y_low, y_high = min(x_low, x), max(x_high, x), min(y_low, y), max(y_high, y)
    step = np.sqrt(abs(det))  # sprite pixels per canvas pixel
    taps = max(1, min(4, int(step + 0.5)))
    inside = 0
    outside = 0
    for y in range(int(y_low) - 1, int(y_high) + 2):
        row_in = 0 <= y < height
        if not row_in and y % 2:
            continue
        for x in range(int(x_low) - 1, int(x_high) + 2):
            seen = row_in and 0 <= x < width
            if not seen and (x % 2 or y % 2):
                continue  # out of sight a quarter of the pixels is enough to count
            r = g = bl = al = 0.0
            for k in range(taps * taps if seen else 1):
                px = x + ((k % taps) + 0.5) / taps if seen else x + 0.5
                py = y + ((k // taps) + 0.5) / taps if seen else y + 0.5
                u = a * px + b * py + c - 0.5
                v = d * px + e * py + f - 0.5
                u0, v0 = int(np.floor(u)), int(np.floor(v))
                if u0 < -1 or v0 < -1 or u0 >= sw or v0 >= sh:
                    continue
                fu, fv = u - u0, v - v0
                for corner in range(4):
                    uu, vv = u0 + corner % 2, v0 + corner // 2
                    if 0 <= uu < sw and 0 <= vv < sh:
                        weight = (fu if corner % 2 else 1 - fu) * (fv if corner // 2 else 1 - fv)
                        r += weight * sprite[vv, uu, 0]
                        g += weight * sprite[vv, uu, 1]
                        bl += weight * sprite[vv, uu, 2]
                        al += weight * sprite[vv, uu, 3]
            n = taps * taps if seen else 1
            al = al / n * alpha_gain
            if not seen:
                outside += 4 if al > 127 else 0
                continue
            if al < 1:
                continue
            keep = 1 - al / 255
            canvas[y, x, 0] = min(
                255,
                max(0, int(canvas[y, x, 0] * keep + (r / n * gain[0] + offset[0] * al / 255) * alpha_gain)),
            )
            canvas[y, x, 1] = min(
                255,
                max(0, int(canvas[y, x, 1] * keep + (g / n * gain[1] + offset[1] * al / 255) * alpha_gain)),
            )
            canvas[y, x, 2] = min(
                255,
                max(0, int(canvas[y, x, 2] * keep + (bl / n * gain[2] + offset[2] * al / 255) * alpha_gain)),
            )
            if al > 127:
                inside += 1
                if number != 255:
                    owner[y, x] = number
    return inside, inside + outside


@numba.njit(cache=True)
def extents(owner: Bytes, count: int) -> NDArray[np.int64]:
    """Visible pixels and extent of owners 0..count-1: int64 (count, 5): pixels, x1, y1, x2, y2."""
    out = np.zeros((count, 5), np.int64)
    out[:, 1:3] = 1 << 30
    for y in range(owner.shape[0]):
        for x in range(owner.shape[1]):
            n = owner[y, x]
            if n < count:
                out[n, 0] += 1
                out[n, 1] = min(out[n, 1], x)
                out[n, 2] = min(out[n, 2], y)
                out[n, 3] = max(out[n, 3], x + 1)
                out[n, 4] = max(out[n, 4], y + 1)
    return out


@numba.njit(cache=True, fastmath=True)
def develop(
    image: Bytes,
    curve: Bytes,
    grey: float,
    tint: Floats,
    vignette: float,
    grain: Floats,
    strength: float,
    oy: int,
    ox: int,
) -> None:
    """In place: tone curve (256, 3), share of grey, its tint, dark corners, grain from a noise field."""
    height, width = image.shape[:2]
    n = grain.shape[0]
    for y in range(height):
        for x in range(width):
            r = float(curve[image[y, x, 0], 0])
            g = float(curve[image[y, x, 1], 1])
            b = float(curve[image[y, x, 2], 2])
            if grey > 0:
                luma = 0.3 * r + 0.59 * g + 0.11 * b
                r += (luma * tint[0] - r) * grey
                g += (luma * tint[1] - g) * grey
                b += (luma * tint[2] - b) * grey
            dy, dx = (2.0 * y / height - 1), (2.0 * x / width - 1)
            shade = 1 - vignette * (dx * dx + dy * dy) * 0.5
            noise = strength * grain[(y + oy) % n, (x + ox) % n]
            image[y, x, 0] = min(255, max(0, int(r * shade + noise + 0.5)))
            image[y, x, 1] = min(255, max(0, int(g * shade + noise + 0.5)))
            image[y, x, 2] = min(255, max(0, int(b * shade + noise + 0.5)))


def _around(
    cx: float, cy: float, scale_x: float, scale_y: float, angle: float, at: tuple[float, float]
) -> Floats:
    """Inverse map (canvas to sprite): sprite point (cx, cy) lands on ``at``; a negative scale mirrors."""
    c, s = np.cos(angle), np.sin(angle)
    m = np.array([[c / scale_x, s / scale_x], [-s / scale_y, c / scale_y]])
    shift = np.array([cx, cy]) - m @ np.array(at)
    return np.hstack([m, shift[:, None]]).astype(np.float32)


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
        share = np.array([1.0, 1.2, 0.5, 0.5])[source] / np.bincount(source, minlength=4)[source]
        self.chance = np.cumsum(share / share.sum())
        self.grain = np.random.default_rng(seed).normal(size=(256, 256)).astype(np.float32)
        self.registered = np.nonzero(bank.films.notes[:, 16] > 0)[0] if len(bank.films) else np.zeros(0, int)

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
        if draw < s.film and len(self.registered):
            boxes, crowd = self._film(rng, canvas, ignore)
        else:
            self._backdrop(rng, canvas, draw < s.film + s.broken_film and len(self.bank.films) > 0)
            crowd = True
        for _ in range(int(rng.integers(0, 4)) if crowd and rng.random() < 0.6 and len(self.things) else 0):
            self._thing(rng, canvas, owner)
        if crowd and rng.random() >= s.empty:
            boxes = self._crowd(rng, canvas, owner, ignore, boxes)
        image = self._look(rng, canvas)
        if rng.random() < 0.15:
            image, boxes, ignore = _letterbox(rng, image, boxes, ignore)
        found = np.array(boxes, np.float32).reshape(-1, 6)[:MAX_BOXES]
        return Scene(image, found, ignore)

    def _backdrop(self, rng: np.random.Generator, canvas: Bytes, film: bool) -> None:
        height, width = canvas.shape[:2]
        shelf: Shelf = self.bank.films if film else self.bank.backdrops
        source = np.ascontiguousarray(shelf[int(rng.integers(len(shelf)))][..., :3])
        if film:
            source = _broken(rng, source)
        zoom = max(width / source.shape[1], height / source.shape[0]) * float(np.exp(rng.uniform(0, 1.1)))
        _cover(rng, canvas, source, zoom)

    def _film(
        self, rng: np.random.Generator, canvas: Bytes, ignore: NDArray[np.bool_]
    ) -> tuple[list[list[float]], bool]:
        """A real frame: what moved is not judged, or is a box if it is compact."""
        height, width = canvas.shape[:2]
        n = int(self.registered[rng.integers(len(self.registered))])
        source = self.bank.films[n]
        zoom = max(width / source.shape[1], height / source.shape[0]) * float(np.exp(rng.uniform(0, 0.5)))
        inverse = _cover(rng, canvas, np.ascontiguousarray(source[..., :3]), zoom)
        ys = (np.arange(height // CELL) + 0.5) * CELL
        xs = (np.arange(width // CELL) + 0.5) * CELL
        v = np.clip(inverse[1, 1] * ys + inverse[1, 2], 0, source.shape[0] - 1).astype(int)
        u = np.clip(inverse[0, 0] * xs + inverse[0, 2], 0, source.shape[1] - 1).astype(int)
        ignore |= (source[..., 3][np.ix_(v, u)] > 0)[..., None]
        boxes = []
        for box in self.bank.films.notes[n, :16].reshape(4, 4):
            if not np.isnan(box[0]):
                x = (box[[0, 2]] - inverse[0, 2]) / inverse[0, 0]
                y = (box[[1, 3]] - inverse[1, 2]) / inverse[1, 1]
                moved = [x.min(), y.min(), x.max(), y.max()]
                inner = [max(0, moved[0]), max(0, moved[1]), min(width, moved[2]), min(height, moved[3])]
                area = (moved[2] - moved[0]) * (moved[3] - moved[1])
                w, h = max(0.0, inner[2] - inner[0]), max(0.0, inner[3] - inner[1])
                if w * h > 0.7 * area:
                    boxes.append([0.0, *(float(v) for v in inner), 0.5])
        return boxes, rng.random() < 0.6

    def _thing(self, rng: np.random.Generator, canvas: Bytes, owner: Bytes, front: bool = False) -> None:
        sprite = self.bank.sprites[int(self.things[rng.integers(len(self.things))])]
        height, width = canvas.shape[:2]
        size = float(np.exp(rng.uniform(np.log(0.1), np.log(0.9)))) * height / max(sprite.shape[:2])
        at = (float(rng.uniform(0, width)), float(rng.uniform(height * 0.2, height * 1.05)))
        inverse = _around(
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
        inverse = _around(sw / 2, sh / 2, mirror * scale * stretch, scale / stretch, angle, at)
        gain = (np.exp(rng.normal(0, 0.12)) * np.exp(rng.normal(0, 0.06, 3))).astype(np.float32)
        offset = np.full(3, rng.uniform(-15, 25), np.float32) if rng.random() < 0.4 else _ZERO
        if rng.random() < 0.35:  # a shadow on the ground
            wide = sw * scale * 0.5
            disc = _disc()
            flat = _around(32, 32, wide / 32, wide / 32 * 0.2, 0.0, (at[0], at[1] + sh * scale * 0.48))
            paste(canvas, owner, disc, flat, _ONE, _ZERO, float(rng.uniform(0.2, 0.6)), NO_OWNER)
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

    def _look(self, rng: np.random.Generator, canvas: Bytes) -> Bytes:
        """What lens, film, age and compression do."""
        image = canvas
        height, width = image.shape[:2]
        if rng.random() < 0.35:  # soft: a smaller master, or out of focus
            k = rng.uniform(1.2, 2.6)
            small = Image.fromarray(image).resize(
                (max(8, int(width / k)), max(8, int(height / k))), Image.Resampling.BILINEAR
            )
            image = np.array(small.resize((width, height), Image.Resampling.BILINEAR))
        gamma = np.exp(rng.normal(-0.1, 0.25))
        low, high = rng.uniform(-25, 30), rng.uniform(200, 285)
        cast = rng.normal(0, 0.07, 3) if rng.random() < 0.5 else np.zeros(3)
        ramp = (np.arange(256) / 255.0) ** gamma
        curve = np.clip((low + (high - low) * ramp[:, None]) * (1 + cast), 0, 255).astype(np.uint8)
        old = rng.random()
        grey = 1.0 if old < 0.15 else (float(rng.uniform(0.2, 0.9)) if old < 0.35 else 0.0)
        tint = np.array([1 + rng.uniform(-0.02, 0.12), 1.0, 1 - rng.uniform(-0.02, 0.15)], np.float32)
        vignette = float(rng.uniform(0, 0.6)) if rng.random() < 0.3 else 0.0
        strength = float(min(24.0, rng.exponential(5))) if rng.random() < 0.5 else 0.0
        develop(
            image,
            curve,
            grey,
            tint,
            vignette,
            self.grain,
            strength,
            int(rng.integers(256)),
            int(rng.integers(256)),
        )
        if rng.random() < 0.3:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "JPEG", quality=int(rng.integers(12, 70)))
            image = np.array(Image.open(buffer))
        return image


def _cover(rng: np.random.Generator, canvas: Bytes, source: Bytes, zoom: float) -> Floats:
    """Fill the canvas with a random part of ``source``, perhaps mirrored; returns the inverse map."""
    height, width = canvas.shape[:2]
    sh, sw = source.shape[:2]
    x = float(rng.uniform(0, max(1e-3, sw - width / zoom)))
    y = float(rng.uniform(0, max(1e-3, sh - height / zoom)))
    inverse = np.array([[1 / zoom, 0, x], [0, 1 / zoom, y]], np.float32)
    if rng.random() < 0.5:
        inverse[0] = (-1 / zoom, 0, x + width / zoom)
    box = (x, y, min(sw, x + width / zoom), min(sh, y + height / zoom))
    part = Image.fromarray(source).resize((width, height), Image.Resampling.BILINEAR, box=box)
    canvas[:] = np.asarray(part)[:, ::-1] if inverse[0, 0] < 0 else np.asarray(part)
    return inverse


def _broken(rng: np.random.Generator, source: Bytes) -> Bytes:
    """A film frame in which no character survives: blurred far, or cut into patches and shuffled."""
    height, width = source.shape[:2]
    if rng.random() < 0.4:
        k = int(rng.integers(10, 28))
        small = Image.fromarray(source).resize(
            (max(2, width // k), max(2, height // k)), Image.Resampling.BOX
        )
        return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
    side = int(rng.choice([24, 32, 48]))
    rows, cols = height // side, width // side
    tiles = (
        source[: rows * side, : cols * side]
        .reshape(rows, side, cols, side, 3)
        .swapaxes(1, 2)
        .reshape(-1, side, side, 3)
    )
    tiles = tiles[rng.permutation(len(tiles))]
    if rng.random() < 0.5:
        tiles = tiles[:, :, ::-1]
    out = tiles.reshape(rows, cols, side, side, 3).swapaxes(1, 2).reshape(rows * side, cols * side, 3)
    return np.ascontiguousarray(out)


def _letterbox(
    rng: np.random.Generator, image: Bytes, boxes: list[list[float]], ignore: NDArray[np.bool_]
) -> tuple[Bytes, list[list[float]], NDArray[np.bool_]]:
    """Shrink the picture into a frame of grey or black bars, as a letterboxed input has them."""
    height, width = image.shape[:2]
    narrow = rng.random() < 0.6
    share = float(rng.uniform(0.7, 0.95))
    w = int(width * share) // CELL * CELL if narrow else width
    h = height if narrow else int(height * share) // CELL * CELL
    x = (width - w) // 2 // CELL * CELL
    y = (height - h) // 2 // CELL * CELL
    out = np.full_like(image, 114 if rng.random() < 0.6 else 0)
    out[y : y + h, x : x + w] = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR))
    fx, fy = w / width, h / height
    moved = [[b[0], b[1] * fx + x, b[2] * fy + y, b[3] * fx + x, b[4] * fy + y, b[5]] for b in boxes]
    veil = np.zeros_like(ignore)
    rows = np.minimum((np.arange(h // CELL) / fy).astype(int), ignore.shape[0] - 1)
    cols = np.minimum((np.arange(w // CELL) / fx).astype(int), ignore.shape[1] - 1)
    veil[y // CELL : (y + h) // CELL, x // CELL : (x + w) // CELL] = ignore[np.ix_(rows, cols)]
    return out, moved, veil


_DISC: list[Bytes] = []


def _disc() -> Bytes:
    """A soft black disc, premultiplied RGBA 64x64, for shadows."""
    if not _DISC:
        y, x = np.mgrid[-1:1:64j, -1:1:64j]
        disc = np.zeros((64, 64, 4), np.uint8)
        disc[..., 3] = np.clip((1 - np.hypot(x, y)) * 4, 0, 1) * 255
        _DISC.append(disc)
    return _DISC[0]
