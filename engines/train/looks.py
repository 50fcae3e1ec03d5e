"""What lens, film, age and compression do to a picture, and how film frames are made safe as backgrounds."""

from __future__ import annotations

import io

import numba
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
CELL = 8  # pixels per cell of the map of what is not judged


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


def look(rng: np.random.Generator, canvas: Bytes, grain: Floats) -> Bytes:
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
        grain,
        strength,
        int(rng.integers(256)),
        int(rng.integers(256)),
    )
    if rng.random() < 0.3:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=int(rng.integers(12, 70)))
        image = np.array(Image.open(buffer))
    return image


def broken(rng: np.random.Generator, source: Bytes) -> Bytes:
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


def letterbox(
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
