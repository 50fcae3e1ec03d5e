"""Pasting: sprites through an affine map onto a canvas, backgrounds over it, and who owns which pixel."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
NO_OWNER = 255


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


def around(
    cx: float, cy: float, scale_x: float, scale_y: float, angle: float, at: tuple[float, float]
) -> Floats:
    """Inverse map (canvas to sprite): sprite point (cx, cy) lands on ``at``; a negative scale mirrors."""
    c, s = np.cos(angle), np.sin(angle)
    m = np.array([[c / scale_x, s / scale_x], [-s / scale_y, c / scale_y]])
    shift = np.array([cx, cy]) - m @ np.array(at)
    return np.hstack([m, shift[:, None]]).astype(np.float32)


def cover(rng: np.random.Generator, canvas: Bytes, source: Bytes, zoom: float) -> Floats:
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


_DISC: list[Bytes] = []


def disc() -> Bytes:
    """A soft black disc, premultiplied RGBA 64x64, for shadows."""
    if not _DISC:
        y, x = np.mgrid[-1:1:64j, -1:1:64j]
        disc = np.zeros((64, 64, 4), np.uint8)
        disc[..., 3] = np.clip((1 - np.hypot(x, y)) * 4, 0, 1) * 255
        _DISC.append(disc)
    return _DISC[0]
