"""Softly shaded creatures: the ellipsoids of :mod:`engines.train.sprites.heaps` with light, fur and ink."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from engines.train.sprites.heaps import Floats, build, build_clutter


@numba.njit(cache=True, fastmath=True)
def _paint(
    rows: Floats, noise: Floats, size: int, light: Floats, style: int, gloss: float, ambient: float
) -> NDArray[np.uint8]:
    """Z-buffer of shaded ellipsoids; ``style`` 0 soft light, 1 cel tones with an ink line, 2 cel without."""
    out = np.zeros((size, size, 4), np.uint8)
    depth = np.full((size, size), -1e9, np.float32)
    part = np.zeros((size, size), np.int32)
    n = noise.shape[0]
    for k in range(rows.shape[0]):
        cx, cy, cz, rx, ry, rz = rows[k, 0], rows[k, 1], rows[k, 2], rows[k, 3], rows[k, 4], rows[k, 5]
        fur, pattern = rows[k, 9], rows[k, 10]
        grow = 1.0 + 0.25 * fur
        for y in range(max(0, int(cy - ry * grow) - 1), min(size, int(cy + ry * grow) + 2)):
            for x in range(max(0, int(cx - rx * grow) - 1), min(size, int(cx + rx * grow) + 2)):
                u, v = (x - cx) / rx, (y - cy) / ry
                grain = noise[(y + k * 37) % n, (x + k * 71) % n]
                q = u * u + v * v
                if q > 1.0 + fur * 0.3 * grain:
                    continue
                w = np.sqrt(max(0.0, 1.0 - q))
                z = cz + rz * w
                if z <= depth[y, x]:
                    continue
                depth[y, x] = z
                part[y, x] = int(rows[k, 11])
                nx, ny, nz = u / rx, v / ry, w / rz + 1e-4
                length = np.sqrt(nx * nx + ny * ny + nz * nz)
                nx, ny, nz = nx / length + fur * grain * 0.25, ny / length + fur * grain * 0.2, nz / length
                d = nx * light[0] + ny * light[1] + nz * light[2]
                tone = 1.0
                if pattern == 1.0 and (int((y - cy + 1000) / (0.25 * ry + 1)) % 2) == 0:
                    tone = 0.55
                if pattern == 2.0 and (int((x - cx + 1000) / (0.25 * rx + 1)) % 2) == 0:
                    tone = 1.4
                if pattern == 3.0 and noise[(y // 3) % n, (x // 3) % n] > 0.35:
                    tone = 0.5
                if style == 0:
                    shade = ambient + (1.0 - ambient) * max(0.0, 0.25 + 0.75 * d)
                    shade *= 0.75 + 0.25 * nz  # corners that little light reaches
                    shade *= 1.0 + fur * grain * 0.35
                    shine = gloss * max(0.0, d) ** 24 + 0.25 * gloss * (1.0 - nz) ** 3
                else:
                    shade = 1.0 if d > 0.15 else 0.72
                    shine = 0.0
                for c in range(3):
                    value = rows[k, 6 + c] * tone * shade + shine
                    out[y, x, c] = np.uint8(min(255.0, max(0.0, value * 255.0)))
                out[y, x, 3] = 255
    if style == 1:
        for y in range(1, size - 1):
            for x in range(1, size - 1):
                own = part[y, x]
                if own != part[y + 1, x] or own != part[y, x + 1] or own != part[y - 1, x]:
                    out[y, x, 0] = out[y, x, 1] = out[y, x, 2] = 25
                    out[y, x, 3] = 255
    return out


_noise: dict[int, Floats] = {}


def fur_noise(seed: int, side: int = 256) -> Floats:
    """Short streaks, (side, side) about -1..1: white noise smeared downwards."""
    if seed not in _noise:
        rng = np.random.default_rng(seed)
        streaks = rng.normal(size=(side, side))
        for _ in range(3):
            streaks = (streaks + np.roll(streaks, 1, 0) + 0.4 * np.roll(streaks, 1, 1)) / 1.7
        _noise[seed] = np.clip(streaks / (2 * streaks.std()), -1, 1).astype(np.float32)
    return _noise[seed]


def draw_creature(
    rng: np.random.Generator, height_px: int = 176, clutter: bool = False
) -> tuple[NDArray[np.uint8], tuple[float, float, float, float] | None]:
    """Render one creature (or one thing, with ``clutter``), longest side ``height_px``.

    Returns straight-alpha RGBA (h, w, 4) cut to what is visible, and the face's box xyxy in its pixels, None
    where there is no face or it is turned away.
    """
    if clutter:
        rows, face = build_clutter(rng), np.zeros(0, bool)
        face = np.zeros(len(rows), bool)
    else:
        rows, face = build(rng)
    grow = 1 + 0.2 * rows[:, 9]
    low = (rows[:, :2] - rows[:, 3:5] * grow[:, None]).min(0)
    high = (rows[:, :2] + rows[:, 3:5] * grow[:, None]).max(0)
    scale = (height_px - 6) / float((high - low).max())
    rows[:, :2] = (rows[:, :2] - low) * scale + 3
    rows[:, 2:6] *= scale
    rows[:, 3:6] = np.maximum(rows[:, 3:6], 0.8)
    light = np.array([rng.uniform(-0.8, 0.8), rng.uniform(-1, 0.1), rng.uniform(0.2, 0.9)], np.float32)
    light /= np.linalg.norm(light)
    style = int(rng.choice([0, 0, 0, 0, 1, 1, 2]))
    gloss = float(rng.uniform(0, 0.5)) if rng.random() < 0.5 else 0.0
    rgba = _paint(
        rows, fur_noise(int(rng.integers(4))), height_px, light, style, gloss, float(rng.uniform(0.2, 0.6))
    )
    box = None
    if face.any():
        part = rows[face]
        x1, y1 = (part[:, :2] - part[:, 3:5]).min(0)
        x2, y2 = (part[:, :2] + part[:, 3:5]).max(0)
        head_z = part[0, 2]
        if np.median(part[1:, 2]) > head_z - 0.2 * part[0, 5]:  # turned away otherwise
            box = (float(x1), float(y1), float(x2), float(y2))
    ys, xs = np.nonzero(rgba[..., 3])
    if len(ys) == 0:
        return draw_creature(rng, height_px, clutter)
    top, bottom, left, right = ys.min(), ys.max() + 1, xs.min(), xs.max() + 1
    if box is not None:
        box = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    return np.ascontiguousarray(rgba[top:bottom, left:right]), box
