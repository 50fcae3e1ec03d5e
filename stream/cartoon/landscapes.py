"""Painters of the outdoors: hills, forest, sky, sea floor, night, desert and snow."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from stream.cartoon.draw import hsv, mix, shaded
from stream.cartoon.model import Look
from stream.cartoon.painting import Rng, gradient, ridge, scatter, sky_colors


def hills(rng: Rng, width: int, height: int, look: Look) -> Image.Image:
    image = gradient(width, height, sky_colors(rng))
    scatter(image, rng, look, "cloud", int(rng.integers(0, 5)), (0.2, 0.4), (0.08, 0.24))
    base = hsv(
        float(rng.uniform(0.3, 0.7)) if rng.random() < 0.75 else float(rng.random()),
        float(rng.uniform(0.3, 0.7)),
        float(rng.uniform(0.4, 0.85)),
    )
    far = mix(base, (190, 205, 225), 0.6)
    level = float(rng.uniform(0.4, 0.6))
    for k in range(3):
        ridge(image, rng, mix(far, base, k / 2), level + 0.1 * k, 0.12, sharp=k == 0 and rng.random() < 0.5)
        if rng.random() < 0.7:
            scatter(
                image,
                rng,
                look,
                "tree bush house rock tree",
                int(rng.integers(1, 6)),
                (level + 0.1 * k + 0.02, level + 0.1 * k + 0.1),
                (0.12, 0.3),
            )
    scatter(
        image,
        rng,
        look,
        "flower bush rock post mushroom fence sign ball barrel flower",
        int(rng.integers(2, 12)),
        (0.75, 1.02),
        (0.25, 0.75),
    )
    return image


def forest(rng: Rng, width: int, height: int, look: Look) -> Image.Image:
    hue = float(rng.uniform(0.2, 0.5))
    image = gradient(
        width,
        height,
        [hsv(hue, 0.5, float(rng.uniform(0.2, 0.9))), hsv(hue - 0.06, 0.3, float(rng.uniform(0.4, 1.0)))],
    )
    ground = hsv(float(rng.uniform(0.05, 0.35)), 0.5, float(rng.uniform(0.25, 0.6)))
    scatter(image, rng, look, "tree", int(rng.integers(5, 12)), (0.6, 0.72), (0.4, 0.7))
    ridge(image, rng, ground, 0.7, 0.05)
    scatter(
        image,
        rng,
        look,
        "tree tree bush rock mushroom flower post",
        int(rng.integers(4, 12)),
        (0.72, 1.05),
        (0.3, 0.95),
    )
    return image


def sky(rng: Rng, width: int, height: int, look: Look) -> Image.Image:
    image = gradient(width, height, sky_colors(rng))
    scatter(
        image,
        rng,
        look,
        "cloud cloud cloud balloon",
        int(rng.integers(2, 10)),
        (0.15, 1.0),
        (0.25, 0.8),
    )
    return image


def underwater(rng: Rng, width: int, height: int, look: Look) -> Image.Image:
    hue = float(rng.uniform(0.45, 0.65))
    image = gradient(width, height, [hsv(hue, 0.5, 0.9), hsv(hue, 0.8, float(rng.uniform(0.25, 0.7)))])
    ridge(image, rng, hsv(hue + 0.03, 0.5, 0.5), 0.75, 0.15, sharp=True)
    ridge(image, rng, hsv(0.12, 0.3, float(rng.uniform(0.5, 0.9))), 0.86, 0.05)
    scatter(
        image,
        rng,
        look,
        "seaweed coral rock seaweed coral barrel",
        int(rng.integers(4, 14)),
        (0.82, 1.04),
        (0.25, 0.8),
    )
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(3, 20))):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.005, 0.025) * height
        pen.ellipse((x - r, y - r, x + r, y + r), outline=(225, 245, 255))
    return image


def night(rng: Rng, width: int, height: int, look: Look) -> Image.Image:
    hue = float(rng.uniform(0.58, 0.8))
    image = gradient(width, height, [hsv(hue, 0.8, 0.12), hsv(hue, 0.6, float(rng.uniform(0.25, 0.5)))])
    pen = ImageDraw.Draw(image)
    for x, y in rng.random((60, 2)):
        pen.point((x * width, y * height * 0.6), fill=(230, 230, 250))
    x, y, r = rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.35) * height, rng.uniform(0.04, 0.1) * height
    pen.ellipse((x - r, y - r, x + r, y + r), fill=(244, 240, 208))
    ground = hsv(hue + float(rng.uniform(-0.3, 0.1)), 0.5, 0.22)
    for k in range(2):
        ridge(image, rng, shaded(ground, 0.4 * (1 - k)), 0.6 + 0.12 * k, 0.1)
    scatter(
        image,
        rng,
        look,
        "tree post lamp rock house fence bush",
        int(rng.integers(3, 9)),
        (0.7, 1.0),
        (0.15, 0.45),
    )
    pixels = np.asarray(image, dtype=np.float32) * np.array([0.62, 0.66, 0.86], dtype=np.float32)
    return Image.fromarray(pixels.astype(np.uint8))


def desert(rng: Rng, width: int, height: int, look: Look) -> Image.Image:
    image = gradient(width, height, sky_colors(rng))
    snow = rng.random() < 0.4
    sand = (
        hsv(0.58, 0.08, 0.95)
        if snow
        else hsv(float(rng.uniform(0.06, 0.13)), float(rng.uniform(0.3, 0.7)), 0.88)
    )
    for k in range(3):
        ridge(image, rng, shaded(sand, 0.22 - 0.1 * k), 0.5 + 0.13 * k, 0.14, sharp=k == 0)
    scatter(
        image,
        rng,
        look,
        "tree rock fence house" if snow else "cactus rock cactus post barrel",
        int(rng.integers(2, 10)),
        (0.65, 1.0),
        (0.1, 0.35),
    )
    return image
