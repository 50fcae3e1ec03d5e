"""Brushes of the background painters: gradients, hills, noise, and clutter scattered in depth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stream.cartoon.draw import Color, hsv
from stream.cartoon.model import Look
from stream.cartoon.props import HEIGHTS, draw_prop

Rng = np.random.Generator


def paste(image: Image.Image, rgba: NDArray[np.uint8], x: float, foot: float) -> None:
    """Paste a prop centred at x, standing at height `foot`."""
    height, width = rgba.shape[:2]
    sprite = Image.fromarray(rgba)
    image.paste(sprite, (round(x - width / 2), round(foot - height)), sprite)


def gradient(width: int, height: int, colors: list[Color]) -> Image.Image:
    """A smooth gradient from top to bottom."""
    stops = np.asarray(colors, dtype=np.float32)
    at = np.linspace(0, len(colors) - 1, height)
    column = np.stack([np.interp(at, np.arange(len(colors)), stops[:, k]) for k in range(3)], axis=1)
    return Image.fromarray(np.repeat(column[:, None], width, axis=1).astype(np.uint8))


def scatter(
    image: Image.Image,
    rng: Rng,
    look: Look,
    kinds: str,
    count: int,
    foot: tuple[float, float],
    size: tuple[float, float],
) -> None:
    """Scatter props, far ones first; `foot` and `size` are ranges in shares of the picture's height, far
    to near.
    """
    width, height = image.size
    names = kinds.split()
    for depth in np.sort(rng.random(count)):
        kind = str(rng.choice(names))
        tall = height * (size[0] + (size[1] - size[0]) * float(depth)) * float(rng.uniform(0.7, 1.3))
        # One in twelve is of no natural size: giant flowers and boulders are what fools a detector.
        tall *= 0.9 if rng.random() < 0.08 else HEIGHTS[kind]
        rgba = draw_prop(kind, rng, min(max(tall, 3.0), height * 1.2), look)
        paste(
            image,
            rgba,
            float(rng.uniform(-0.05, 1.05)) * width,
            height * (foot[0] + (foot[1] - foot[0]) * float(depth)),
        )


def ridge(
    image: Image.Image, rng: Rng, color: Color, level: float, rough: float, sharp: bool = False
) -> None:
    """A range of hills or mountains filled down to the lower edge."""
    width, height = image.size
    xs = np.linspace(-5, width + 5, 40)
    waves = sum(np.sin(xs / width * np.pi * f + rng.uniform(0, 6.3)) / f for f in rng.uniform(1.0, 9.0, 4))
    if sharp:
        waves = waves + 0.6 * rng.uniform(-1, 1, len(xs))
    ys = height * (level - rough * waves * 0.4)
    points = [(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]
    ImageDraw.Draw(image).polygon([*points, (width + 5.0, height + 5.0), (-5.0, height + 5.0)], fill=color)


def sky_colors(rng: Rng) -> list[Color]:
    hue = float(rng.choice([0.55, 0.58, 0.6, 0.5, 0.05, 0.08, 0.75, 0.9, rng.random()]))
    top = hsv(hue, float(rng.uniform(0.25, 0.8)), float(rng.uniform(0.45, 1.0)))
    low = hsv(
        hue + float(rng.uniform(-0.1, 0.1)), float(rng.uniform(0.05, 0.4)), float(rng.uniform(0.75, 1.0))
    )
    return [top, low]


def noise(rng: Rng, width: int, height: int, cell: float) -> NDArray[np.float32]:
    """Smooth noise, standard deviation about 1, with lumps of `cell` pixels."""
    small = rng.normal(0, 1, (max(2, int(height / cell) + 2), max(2, int(width / cell) + 2))).astype(
        np.float32
    )
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
