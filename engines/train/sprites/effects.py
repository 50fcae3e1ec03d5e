"""What moves or stands out in a cartoon and is no character: foam, smoke, flames, ships, chains, shadows.

A detector that has learned what moves in films takes these for characters; drawn as things, never boxed, they
teach it otherwise. The names are those of effects animation.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Bytes = NDArray[np.uint8]
Colour = tuple[int, int, int]
_OVER = 2  # supersampling


def draw_effect(rng: np.random.Generator, side: int) -> Bytes:
    """One of them, cropped to what is seen: RGBA uint8 (h, w, 4), h and w at most ``side``."""
    n = side * _OVER
    image = Image.new("RGBA", (n, n))
    kinds = list(EFFECTS)
    EFFECTS[kinds[int(rng.integers(len(kinds)))]](rng, image)
    if rng.random() < 0.4:
        image = _inked(image, _OVER * int(rng.integers(1, 3)))
    rgba = np.asarray(image.resize((side, side), Image.Resampling.BOX))
    ys, xs = np.nonzero(rgba[..., 3] > 20)
    if not len(ys):
        return draw_effect(rng, side)
    return np.ascontiguousarray(rgba[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1])


def _colour(
    rng: np.random.Generator, hue: tuple[float, float], sat: float, low: float, high: float
) -> Colour:
    r, g, b = colorsys.hsv_to_rgb(
        float(rng.uniform(*hue)) % 1, float(rng.uniform(0, sat)), float(rng.uniform(low, high))
    )
    return int(r * 255), int(g * 255), int(b * 255)


def _shade(colour: Colour, by: float) -> Colour:
    r, g, b = (max(0, min(255, round(c * by))) for c in colour)
    return r, g, b


def _inked(image: Image.Image, width: int) -> Image.Image:
    """The picture with a dark line around it."""
    alpha = image.getchannel("A")
    line = ImageChops.subtract(alpha.filter(ImageFilter.MaxFilter(2 * width + 1)), alpha)
    ink = Image.new("RGBA", image.size, (20, 18, 22, 255))
    ink.putalpha(line)
    return Image.alpha_composite(ink, image)


def _discs(
    rng: np.random.Generator,
    image: Image.Image,
    count: int,
    spread: tuple[float, float],
    colours: list[Colour],
) -> None:
    """Overlapping discs around the middle, the later ones smaller and in the later colours."""
    n, draw = image.width, ImageDraw.Draw(image)
    for k in range(count):
        r = n * rng.uniform(0.04, 0.16) * (1 - 0.5 * k / count)
        x = n * (0.5 + rng.normal(0, spread[0]))
        y = n * (0.5 + rng.normal(0, spread[1]))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colours[k * len(colours) // count])


def _foam(rng: np.random.Generator, image: Image.Image) -> None:
    """Streaks and drops of spray, white over water."""
    n, draw = image.width, ImageDraw.Draw(image)
    light = _colour(rng, (0.45, 0.65), 0.2, 0.75, 1.0)
    flat = rng.uniform(0.15, 1.0)
    x, y, turn = 0.5 * n, 0.5 * n, rng.uniform(0, 2 * np.pi)
    for _ in range(int(rng.integers(15, 60))):
        turn += rng.normal(0, 0.7)
        x = float(np.clip(x + n * 0.05 * np.cos(turn), 0.08 * n, 0.92 * n))
        y = float(np.clip(y + n * 0.05 * flat * np.sin(turn), 0.08 * n, 0.92 * n))
        r = n * rng.uniform(0.006, 0.045)
        fill = light if rng.random() < 0.7 else _shade(light, 0.75)
        draw.ellipse((x - r, y - r * rng.uniform(0.4, 1), x + r, y + r * rng.uniform(0.4, 1)), fill=fill)
    for _ in range(int(rng.integers(0, 14))):
        x, y, r = (*(n * rng.uniform(0.05, 0.95, 2)), n * rng.uniform(0.004, 0.015))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=light)


def _smoke(rng: np.random.Generator, image: Image.Image) -> None:
    """A puff, a cloud, dust, an explosion."""
    base = _colour(rng, (0, 1), 0.35 if rng.random() < 0.7 else 0.9, 0.3, 1.0)
    colours = [_shade(base, 0.75), base, _shade(base, 1.15)]
    _discs(rng, image, int(rng.integers(8, 40)), (rng.uniform(0.05, 0.2), rng.uniform(0.03, 0.15)), colours)
    if rng.random() < 0.3:
        image.paste(image.filter(ImageFilter.GaussianBlur(image.width * 0.02)))


def _flame(rng: np.random.Generator, image: Image.Image) -> None:
    """Tongues of fire, each colour within the one before."""
    n, draw = image.width, ImageDraw.Draw(image)
    tongues = int(rng.integers(3, 8))
    heights = rng.uniform(0.35, 0.85, tongues)
    for size, hue in ((1.0, 0.02), (0.75, 0.08), (0.45, 0.14)):
        fill = _colour(rng, (hue, hue + 0.03), 1.0, 0.9, 1.0)
        points = [(n * (0.5 - 0.4 * size), 0.9 * n)]
        for k, height in enumerate(heights * size):
            left = 0.5 + 0.8 * size * (k / tongues - 0.5)
            points.append((n * (left + 0.4 * size / tongues), n * (0.9 - height)))
            points.append((n * (left + 0.8 * size / tongues), n * (0.9 - 0.4 * height)))
        draw.polygon([*points, (n * (0.5 + 0.4 * size), 0.9 * n)], fill=fill)


def _ship(rng: np.random.Generator, image: Image.Image) -> None:
    """A hull with planks, masts and sails, or a bare boat."""
    n, draw = image.width, ImageDraw.Draw(image)
    wood = _colour(rng, (0.02, 0.14), 0.8, 0.3, 0.85)
    deck, keel = n * rng.uniform(0.55, 0.7), n * rng.uniform(0.8, 0.95)
    bow, stern = n * rng.uniform(0.02, 0.15), n * rng.uniform(0.85, 0.98)
    rise = n * rng.uniform(0, 0.15)
    hull = [
        (bow, deck - rise),
        (n * 0.3, deck),
        (n * 0.7, deck),
        (stern, deck - rise * rng.uniform(0.3, 1.2)),
    ]
    hull += [(n * rng.uniform(0.75, 0.9), keel), (n * rng.uniform(0.12, 0.3), keel)]
    draw.polygon(hull, fill=wood)
    for k in range(int(rng.integers(0, 5))):
        y = deck + (keel - deck) * (k + 1) / 6
        draw.line((n * 0.2, y, n * 0.82, y), fill=_shade(wood, 0.7), width=max(1, n // 120))
    for _ in range(int(rng.integers(0, 4))):
        x, top = n * rng.uniform(0.25, 0.75), n * rng.uniform(0.03, 0.3)
        draw.line((x, deck, x, top), fill=_shade(wood, 0.6), width=max(2, n // 60))
        if rng.random() < 0.8:
            cloth = _colour(rng, (0, 1), 0.4, 0.6, 1.0)
            w, low = n * rng.uniform(0.06, 0.2), top + (deck - top) * rng.uniform(0.5, 0.9)
            draw.polygon(
                [(x - w * rng.uniform(0, 1), top), (x + w * 0.5, top), (x + w, low), (x - w, low)], fill=cloth
            )


def _chain(rng: np.random.Generator, image: Image.Image) -> None:
    """Links, a rope or a vine along a curve."""
    n, draw = image.width, ImageDraw.Draw(image)
    colour = _colour(rng, (0, 0.45), 0.7, 0.15, 0.8)
    t = np.linspace(0, 1, int(rng.integers(8, 26)))
    bend = rng.uniform(-0.25, 0.25, 3)
    x = n * (0.5 + bend[0] * np.sin(np.pi * t) + bend[1] * np.sin(2 * np.pi * t))
    y = n * (0.05 + 0.9 * t)
    r, width = n * rng.uniform(0.012, 0.05), int(n * rng.uniform(0.008, 0.02)) + 1
    ropy = rng.random() < 0.4
    if ropy:
        draw.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=colour, width=2 * width)
    for k, (px, py) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        flat = 0.5 if k % 2 else 1.0
        box = (px - r * flat, py - r * 1.3, px + r * flat, py + r * 1.3)
        if ropy and k % 3 == 0:
            draw.ellipse(box, fill=_shade(colour, rng.uniform(0.7, 1.3)))  # a leaf, a knot
        elif not ropy:
            draw.ellipse(box, outline=colour, width=width)


def _rock(rng: np.random.Generator, image: Image.Image) -> None:
    """A boulder, a stump, a heap of earth: facets under one light."""
    n, draw = image.width, ImageDraw.Draw(image)
    colour = _colour(rng, (0.02, 0.4), 0.5, 0.25, 0.75)
    corners = int(rng.integers(6, 14))
    turns = np.sort(rng.uniform(0, 2 * np.pi, corners))
    tall, wide = rng.uniform(0.2, 0.47), rng.uniform(0.2, 0.47)
    reach = rng.uniform(0.7, 1.0, corners)
    outline = [
        (float(n * (0.5 + wide * r * np.cos(t))), float(n * (0.5 + tall * r * np.sin(t))))
        for r, t in zip(reach, turns, strict=True)
    ]
    middle = (n * rng.uniform(0.4, 0.6), n * rng.uniform(0.35, 0.55))
    draw.polygon(outline, fill=colour)
    for a, b in zip(outline, [*outline[1:], outline[0]], strict=True):
        draw.polygon([middle, a, b], fill=_shade(colour, rng.uniform(0.75, 1.2)))
    for _ in range(int(rng.integers(0, 30))):
        x, y, r = (*(n * rng.uniform(0.3, 0.7, 2)), n * rng.uniform(0.003, 0.02))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=_shade(colour, rng.uniform(0.6, 1.3)))


def _shadow(rng: np.random.Generator, image: Image.Image) -> None:
    """What a character throws on the ground or the water: its flattened outline, half transparent."""
    from engines.train.sprites.creatures import draw_creature

    n = image.width
    rgba, _ = draw_creature(rng, 128)
    mask = Image.fromarray(np.ascontiguousarray(rgba[..., 3]))
    tall = max(4, int(n * rng.uniform(0.1, 0.4)))
    mask = mask.resize((int(n * rng.uniform(0.5, 1)), tall)).rotate(float(rng.choice([0, 180])))
    mask = mask.point([int(v * rng.uniform(0.35, 0.9)) for v in range(256)])
    dark = Image.new("RGBA", mask.size, (*_colour(rng, (0, 1), 0.3, 0.0, 0.25), 255))
    dark.putalpha(mask)
    image.paste(dark, (0, (n - tall) // 2))


EFFECTS: dict[str, Callable[[np.random.Generator, Image.Image], None]] = {
    "foam": _foam,
    "smoke": _smoke,
    "flame": _flame,
    "ship": _ship,
    "chain": _chain,
    "rock": _rock,
    "shadow": _shadow,
}
