"""Painted backgrounds with clutter and without anybody in them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from stream.cartoon.draw import hsv, mix, shaded
from stream.cartoon.landscapes import desert, forest, hills, night, sky, underwater
from stream.cartoon.model import Look
from stream.cartoon.painting import Rng, gradient, noise, scatter, sky_colors
from stream.cartoon.props import foreground_prop

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def _city(rng: Rng, width: int, height: int, look: Look) -> Image.Image:
    image = gradient(width, height, sky_colors(rng))
    pen = ImageDraw.Draw(image)
    base, ground = (
        hsv(float(rng.random()), float(rng.uniform(0.05, 0.5)), float(rng.uniform(0.4, 0.8))),
        float(rng.uniform(0.68, 0.82)),
    )
    for layer in range(2):
        x = -10.0
        while x < width:
            wide, tall = width * float(rng.uniform(0.07, 0.18)), height * float(rng.uniform(0.25, 0.65))
            color = mix(
                mix(base, hsv(float(rng.random()), 0.4, 0.7), 0.5), (210, 215, 230), 0.45 * (1 - layer)
            )
            top = height * ground - tall * (1.1 if layer == 0 else 0.8)
            pen.rectangle(
                (x, top, x + wide, height * ground),
                fill=color,
                outline=look.ink if look.line and layer else None,
            )
            step, pane = (
                max(6.0, wide / float(rng.integers(3, 6))),
                hsv(0.14, float(rng.uniform(0, 0.6)), float(rng.uniform(0.3, 1.0))),
            )
            for wx in np.arange(x + step * 0.4, x + wide - step * 0.5, step):
                for wy in np.arange(top + step * 0.5, height * ground - step, step * 1.4):
                    pen.rectangle(
                        (float(wx), float(wy), float(wx) + step * 0.5, float(wy) + step * 0.7),
                        fill=pane if rng.random() < 0.8 else shaded(color, 0.5),
                    )
            x += wide * float(rng.uniform(0.9, 1.2))
    street = hsv(float(rng.random()), 0.08, float(rng.uniform(0.3, 0.7)))
    pen.rectangle((0, height * ground, width, height), fill=street)
    pen.rectangle(
        (0, height * (ground + 0.05), width, height * (ground + 0.065)),
        fill=mix(street, (255, 255, 255), 0.35),
    )
    scatter(
        image,
        rng,
        look,
        "lamp car sign hydrant post tree car crate barrel",
        int(rng.integers(2, 9)),
        (ground + 0.05, 1.0),
        (0.3, 0.85),
    )
    return image


def _interior(rng: Rng, width: int, height: int, look: Look) -> Image.Image:
    wall = hsv(float(rng.random()), float(rng.uniform(0.1, 0.6)), float(rng.uniform(0.4, 0.95)))
    image = gradient(width, height, [wall, shaded(wall, 0.15)])
    pen = ImageDraw.Draw(image)
    floor = float(rng.uniform(0.65, 0.82))
    kind = int(rng.integers(4))
    if kind == 0:
        step = max(5, width // int(rng.integers(8, 24)))
        for left in range(0, width, step):
            pen.rectangle((left, 0, left + step // 2, height), fill=shaded(wall, 0.1))
    elif kind == 1:
        for column in range(0, width, max(8, width // 14)):
            for line in range(0, height, max(8, width // 14)):
                radius = max(1, width // 80)
                pen.ellipse(
                    (column - radius, line - radius, column + radius, line + radius),
                    fill=mix(wall, (255, 255, 255), 0.3),
                )
    elif kind == 2:
        step = max(6, height // 14)
        for row, line in enumerate(range(0, height, step)):
            pen.line((0, line, width, line), fill=shaded(wall, 0.2))
            for joint in range(-(row % 2) * step, width, step * 2):
                pen.line((joint, line, joint, line + step), fill=shaded(wall, 0.2))
    for _ in range(int(rng.integers(0, 4))):  # windows and framed pictures
        x, y, w, h = (
            rng.uniform(0, 0.85) * width,
            rng.uniform(0.05, 0.35) * height,
            rng.uniform(0.08, 0.2) * width,
            rng.uniform(0.15, 0.32) * height,
        )
        pen.rectangle((x - 3, y - 3, x + w + 3, y + h + 3), fill=hsv(0.08, 0.5, 0.4), outline=look.ink)
        pen.rectangle((x, y, x + w, y + h), fill=hsv(float(rng.random()), 0.3, 0.9))
        if rng.random() < 0.6:
            pen.line((x + w / 2, y, x + w / 2, y + h), fill=look.ink, width=2)
            pen.line((x, y + h / 2, x + w, y + h / 2), fill=look.ink, width=2)
        else:
            pen.polygon(
                [(x, y + h), (x + w * 0.4, y + h * 0.3), (x + w, y + h)],
                fill=hsv(float(rng.random()), 0.5, 0.6),
            )
    ground = hsv(float(rng.random()), float(rng.uniform(0.1, 0.6)), float(rng.uniform(0.3, 0.8)))
    pen.rectangle((0, height * floor, width, height), fill=ground)
    for k in range(1, 6):
        y = height * (floor + (1 - floor) * (k / 6) ** 1.5)
        pen.line((0, y, width, y), fill=shaded(ground, 0.2))
    scatter(image, rng, look, "clock vase", int(rng.integers(0, 2)), (0.3, 0.4), (0.25, 0.4))
    scatter(
        image,
        rng,
        look,
        "sofa table chair lamp vase crate ball barrel hanging fruit",
        int(rng.integers(2, 8)),
        (floor + 0.03, 1.03),
        (0.45, 1.0),
    )
    return image


def _abstract(rng: Rng, width: int, height: int, look: Look) -> Image.Image:
    image = gradient(
        width,
        height,
        [
            hsv(float(rng.random()), float(rng.uniform(0, 0.8)), float(rng.uniform(0.2, 1)))
            for _ in range(int(rng.integers(1, 4)))
        ],
    )
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 14))):
        color = hsv(float(rng.random()), float(rng.uniform(0, 0.9)), float(rng.uniform(0.2, 1)))
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.03, 0.3) * height
        kind = int(rng.integers(3))
        if kind == 0:
            pen.ellipse((x - r, y - r, x + r, y + r), fill=color, outline=look.ink if look.line else None)
        elif kind == 1:
            pen.rectangle((x - r, y - r * 0.6, x + r, y + r * 0.6), fill=color)
        else:
            pen.line((x - r, y - r, x + r * 2, y + r), fill=color, width=max(1, int(r * 0.15)))
    scatter(
        image,
        rng,
        look,
        "ball balloon clock fruit rock vase sign",
        int(rng.integers(0, 5)),
        (0.5, 1.0),
        (0.3, 0.9),
    )
    return image


_STYLES: dict[str, Callable[[Rng, int, int, Look], Image.Image]] = {
    "hills": hills,
    "forest": forest,
    "sky": sky,
    "city": _city,
    "interior": _interior,
    "underwater": underwater,
    "night": night,
    "desert": desert,
    "abstract": _abstract,
}
STYLES = tuple(_STYLES)
"""Every painted style."""
_LIKELY = (0.2, 0.15, 0.08, 0.14, 0.18, 0.06, 0.07, 0.07, 0.05)


def _finish(image: Image.Image, rng: Rng, look: Look) -> NDArray[np.uint8]:
    """Brush texture, grain, vignette, soft focus, black and white: what paint, film and print add."""
    width, height = image.size
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 2.5)) * height / 360))
    pixels = np.asarray(image, dtype=np.float32).copy()
    if rng.random() < 0.65:
        strength = float(rng.uniform(0.01, 0.07))
        brush = 0.6 * noise(rng, width, height, max(3.0, height / 24)) + 0.4 * noise(
            rng, width, height, max(2.0, height / 110)
        )
        pixels *= 1.0 + strength * brush[..., None]
    if rng.random() < 0.4:
        pixels += float(rng.uniform(1.0, 7.0)) * rng.standard_normal((height, width, 1), dtype=np.float32)
    if rng.random() < 0.25:
        ys, xs = (
            np.linspace(-1, 1, height, dtype=np.float32)[:, None],
            np.linspace(-1, 1, width, dtype=np.float32)[None],
        )
        pixels *= 1.0 - float(rng.uniform(0.25, 0.7)) * ((xs**2 + ys**2) / 2)[..., None]
    if look.grey:
        pixels = np.repeat((pixels @ _LUMA)[..., None], 3, axis=2)
    return np.asarray(pixels.clip(0, 255), dtype=np.uint8)


def paint_background(
    rng: np.random.Generator, width: int, height: int, style: str | None = None, look: Look | None = None
) -> NDArray[np.uint8]:
    """A painted background, uint8 RGB (height, width, 3), in `style` (one of STYLES; random where None).

    `look` gives the clutter's ink and shading, and black and white (random where None). Raises ValueError
    for an unknown style or a size under 1 pixel.
    """
    if style is not None and style not in _STYLES:
        raise ValueError(f"style: expected one of {', '.join(STYLES)}, got {style!r}")
    if width < 1 or height < 1:
        raise ValueError(f"size: expected at least 1x1 pixels, got {width}x{height}")
    look = look or Look.random(rng)
    style = style or str(rng.choice(STYLES, p=_LIKELY))
    return _finish(_STYLES[style](rng, width, height, look), rng, look)


__all__ = ["STYLES", "foreground_prop", "paint_background"]
