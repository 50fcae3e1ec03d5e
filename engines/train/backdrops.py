"""Plain procedural backgrounds: skies, hills, walls, woods, water, rooms, made of noise and a few edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from engines.train.material import Shelf

WIDTH, HEIGHT = 384, 224


def cloud_noise(rng: np.random.Generator, width: int, height: int, octaves: int = 5) -> NDArray[np.float32]:
    """Smooth noise (height, width), 0..1; raising ``octaves`` adds finer grain."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        cells = 2 ** (octave + 1)
        stretch = rng.uniform(0.5, 3)
        grid = rng.random((cells + 1, max(2, int(cells * stretch) + 1)), np.float32)
        layer = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(layer) * 0.6**octave
    total -= total.min()
    return total / max(1e-6, float(total.max()))


def _tone(rng: np.random.Generator) -> NDArray[np.float32]:
    base = rng.uniform(20, 235)
    return np.clip(base + rng.normal(size=3) * rng.uniform(5, 70), 0, 255).astype(np.float32)


def plain_backdrop(rng: np.random.Generator) -> NDArray[np.uint8]:
    """One background, uint8 (224, 384, 3)."""
    ramp = np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None, None]
    if rng.random() < 0.3:
        ramp = np.linspace(0, 1, WIDTH, dtype=np.float32)[None, :, None]
    image = np.broadcast_to(_tone(rng) * (1 - ramp) + _tone(rng) * ramp, (HEIGHT, WIDTH, 3)).copy()
    noise = cloud_noise(rng, WIDTH, HEIGHT)[..., None]
    image += (noise - 0.5) * rng.uniform(0, 1.2) * (_tone(rng) - 100)
    for _ in range(int(rng.integers(0, 4))):  # ridges, each lower and nearer than the last
        line = cloud_noise(rng, WIDTH, 4, int(rng.integers(2, 6)))[0]
        edge = (rng.uniform(0.25, 0.9) + (line - 0.5) * rng.uniform(0.05, 0.6)) * HEIGHT
        below = np.arange(HEIGHT)[:, None] > edge[None, :]
        grain = cloud_noise(rng, WIDTH, HEIGHT, 6)[..., None]
        layer = _tone(rng) + (grain - 0.5) * rng.uniform(0, 160)
        image = np.where(below[..., None], layer, image)
    picture = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    kind = rng.random()
    if kind < 0.3:  # walls, doors, frames, shelves
        for _ in range(int(rng.integers(1, 12))):
            x, y = rng.uniform(-40, WIDTH), rng.uniform(-40, HEIGHT)
            w, h = rng.uniform(6, 180), rng.uniform(6, 180)
            color = tuple(int(v) for v in _tone(rng))
            outline = tuple(int(v) for v in _tone(rng)) if rng.random() < 0.6 else None
            pen.rectangle([x, y, x + w, y + h], fill=color, outline=outline, width=int(rng.integers(1, 5)))
    elif kind < 0.6:  # leaves, grass, stones
        tone = _tone(rng)
        top = rng.uniform(-20, HEIGHT)
        slim = rng.uniform(0.2, 1.5)
        for _ in range(int(rng.integers(60, 500))):
            x, y, r = rng.uniform(0, WIDTH), rng.uniform(top, HEIGHT), rng.uniform(1, 12)
            color = tuple(int(v) for v in np.clip(tone * rng.uniform(0.6, 1.4), 0, 255))
            pen.ellipse([x - r * slim, y - r, x + r * slim, y + r], fill=color)
    elif kind < 0.75:  # trunks, posts, branches, lettering-like strokes
        for _ in range(int(rng.integers(2, 14))):
            x, y = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)
            lean = rng.normal(size=2) * (20, 120)
            color = tuple(int(v) for v in _tone(rng))
            pen.line([x, y, x + lean[0], y + lean[1]], fill=color, width=int(rng.integers(1, 30)))
    if rng.random() < 0.15:
        _lettering(rng, pen)
    return np.asarray(picture)


def _lettering(rng: np.random.Generator, pen: ImageDraw.ImageDraw) -> None:
    """Titles and credits: lines of made-up words, which are no characters of the kind looked for."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    size = int(rng.choice([7, 8, 10, 14, 22, 40, 60]))
    font = ImageFont.load_default(size)
    color = tuple(int(v) for v in _tone(rng)) if rng.random() < 0.5 else (245, 245, 240)
    if size < 20 and rng.random() < 0.6:
        pen.rectangle([0, 0, WIDTH, HEIGHT], fill=tuple(int(v) for v in _tone(rng) * 0.2))
    columns = int(rng.integers(1, 6)) if size < 12 else 1
    top, bottom = sorted(rng.uniform(0, HEIGHT, 2)) if size < 20 else (rng.uniform(0, HEIGHT * 0.7), HEIGHT)
    y = top
    while y < bottom:
        for column in range(columns):
            words = [
                "".join(rng.choice(letters, int(rng.integers(2, 9)))) for _ in range(int(rng.integers(1, 4)))
            ]
            pen.text((10 + column * WIDTH / columns, y), " ".join(words), fill=color, font=font)
        y += size * rng.uniform(1.1, 2.0)


def plain_backdrops(count: int, seed: int) -> Shelf:
    """``count`` backgrounds, fixed by ``seed``."""
    return Shelf.of(((plain_backdrop(np.random.default_rng((seed, 4, i))), [0.0]) for i in range(count)), 1)
