"""Painted backgrounds with clutter and without anybody in them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from stream.cartoon.characters import Look
from stream.cartoon.draw import Color, hsv, mix, shaded
from stream.cartoon.props import draw_prop, foreground_prop

Rng = np.random.Generator
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def _paste(image: Image.Image, rgba: NDArray[np.uint8], x: float, foot: float) -> None:
    """Paste a prop centred at x, standing at height `foot`."""
    height, width = rgba.shape[:2]
    sprite = Image.fromarray(rgba)
    image.paste(sprite, (round(x - width / 2), round(foot - height)), sprite)


def _gradient(width: int, height: int, colors: list[Color]) -> Image.Image:
    """A smooth gradient from top to bottom."""
    stops = np.asarray(colors, dtype=np.float32)
    at = np.linspace(0, len(colors) - 1, height)
    column = np.stack([np.interp(at, np.arange(len(colors)), stops[:, k]) for k in range(3)], axis=1)
    return Image.fromarray(np.repeat(column[:, None], width, axis=1).astype(np.uint8))


def _scatter(
    image: Image.Image,
    rng: Rng,
    look: Look,
    kinds: str,
    count: int,
    foot: tuple[float, float],
    size: tuple[float, float],
) -> None:
    """Scatter props, far ones first; `foot` and `size` are ranges in shares of the picture's height, far to near."""
    width, height = image.size
    names = kinds.split()
    for depth in np.sort(rng.random(count)):
        tall = height * (size[0] + (size[1] - size[0]) * float(depth)) * float(rng.uniform(0.7, 1.3))
        rgba = draw_prop(str(rng.choice(names)), rng, min(max(tall, 3.0), height * 1.2), look)
        _paste(
            image,
            rgba,
            float(rng.uniform(-0.05, 1.05)) * width,
            height * (foot[0] + (foot[1] - foot[0]) * float(depth)),
        )


def _ridge(
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


def _sky_colors(rng: Rng) -> list[Color]:
    hue = float(rng.choice([0.55, 0.58, 0.6, 0.5, 0.05, 0.08, 0.75, 0.9, rng.random()]))
    top = hsv(hue, float(rng.uniform(0.25, 0.8)), float(rng.uniform(0.45, 1.0)))
    low = hsv(
        hue + float(rng.uniform(-0.1, 0.1)), float(rng.uniform(0.05, 0.4)), float(rng.uniform(0.75, 1.0))
    )
    return [top, low]


def _hills(rng: Rng, width: int, height: int, look: Look) -> Image.Image:
    image = _gradient(width, height, _sky_colors(rng))
    _scatter(image, rng, look, "cloud", int(rng.integers(0, 5)), (0.2, 0.4), (0.05, 0.14))
    base = hsv(
        float(rng.uniform(0.15, 0.45)) if rng.random() < 0.75 else float(rng.random()),
        float(rng.uniform(0.3, 0.7)),
        float(rng.uniform(0.4, 0.85)),
    )
    far = mix(base, (190, 205, 225), 0.6)
    level = float(rng.uniform(0.4, 0.6))
    for k in range(3):
        _ridge(image, rng, mix(far, base, k / 2), level + 0.1 * k, 0.12, sharp=k == 0 and rng.random() < 0.5)
        if rng.random() < 0.7:
            _scatter(
                image,
                rng,
                look,
                "tree bush house rock tree",
                int(rng.integers(1, 6)),
                (level + 0.1 * k + 0.02, level + 0.1 * k + 0.1),
                (0.08, 0.22),
            )
    _scatter(
        image,
        rng,
        look,
        "flower bush rock post mushroom fence sign ball barrel flower",
        int(rng.integers(2, 12)),
        (0.75, 1.02),
        (0.08, 0.25),
    )
    return image


def _forest(rng: Rng, width: int, height: int, look: Look) -> Image.Image:
    hue = float(rng.uniform(0.2, 0.5))
    image = _gradient(
        width,
        height,
        [hsv(hue, 0.5, float(rng.uniform(0.2, 0.9))), hsv(hue - 0.06, 0.3, float(rng.uniform(0.4, 1.0)))],
    )
    ground = hsv(float(rng.uniform(0.05, 0.35)), 0.5, float(rng.uniform(0.25, 0.6)))
    _scatter(image, rng, look, "tree", int(rng.integers(5, 12)), (0.6, 0.72), (0.4, 0.7))
    _ridge(image, rng, ground, 0.7, 0.05)
    _scatter(
        image,
        rng,
        look,
        "tree tree bush rock mushroom flower post",
        int(rng.integers(4, 12)),
        (0.72, 1.05),
        (0.2, 0.8),
    )
    return image


def _sky(rng: Rng, width: int, height: int, look: Look) -> Image.Image:
    image = _gradient(width, height, _sky_colors(rng))
    _scatter(
        image, rng, look, "cloud cloud cloud balloon", int(rng.integers(2, 10)), (0.15, 1.0), (0.06, 0.3)
    )
    return image


def _city(rng: Rng, width: int, height: int, look: Look) -> Image.Image:
    image = _gradient(width, height, _sky_colors(rng))
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
    _scatter(
        image,
        rng,
        look,
        "lamp car sign hydrant post tree car crate barrel",
        int(rng.integers(2, 9)),
        (ground + 0.05, 1.0),
        (0.12, 0.35),
    )
    return image


def _interior(rng: Rng, width: int, height: int, look: Look) -> Image.Image:
    wall = hsv(float(rng.random()), float(rng.uniform(0.1, 0.6)), float(rng.uniform(0.4, 0.95)))
    image = _gradient(width, height, [wall, shaded(wall, 0.15)])
    pen = ImageDraw.Draw(image)
    floor = float(rng.uniform(0.65, 0.82))
    kind = int(rng.integers(4))
    if kind == 0:
        step = max(5, width // int(rng.integers(8, 24)))
        for x in range(0, width, step):
            pen.rectangle((x, 0, x + step // 2, height), fill=shaded(wall, 0.1))
    elif kind == 1:
        for x in range(0, width, max(8, width // 14)):
            for y in range(0, height, max(8, width // 14)):
                radius = max(1, width // 80)
                pen.ellipse(
                    (x - radius, y - radius, x + radius, y + radius), fill=mix(wall, (255, 255, 255), 0.3)
                )
    elif kind == 2:
        step = max(6, height // 14)
        for row, y in enumerate(range(0, height, step)):
            pen.line((0, y, width, y), fill=shaded(wall, 0.2))
            for x in range(-(row % 2) * step, width, step * 2):
                pen.line((x, y, x, y + step), fill=shaded(wall, 0.2))
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
    _scatter(image, rng, look, "clock vase", int(rng.integers(0, 2)), (0.3, 0.4), (0.1, 0.16))
    _scatter(
        image,
        rng,
        look,
        "sofa table chair lamp vase crate ball barrel hanging fruit",
        int(rng.integers(2, 8)),
        (floor + 0.03, 1.03),
        (0.15, 0.42),
    )
    return image


def _underwater(rng: Rng, width: int, height: int, look: Look) -> Image.Image:
    hue = float(rng.uniform(0.45, 0.65))
    image = _gradient(width, height, [hsv(hue, 0.5, 0.9), hsv(hue, 0.8, float(rng.uniform(0.25, 0.7)))])
    _ridge(image, rng, hsv(hue + 0.03, 0.5, 0.5), 0.75, 0.15, sharp=True)
    _ridge(image, rng, hsv(0.12, 0.3, float(rng.uniform(0.5, 0.9))), 0.86, 0.05)
    _scatter(
        image,
        rng,
        look,
        "seaweed coral rock seaweed coral barrel",
        int(rng.integers(4, 14)),
        (0.82, 1.04),
        (0.12, 0.5),
    )
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(3, 20))):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.005, 0.025) * height
        pen.ellipse((x - r, y - r, x + r, y + r), outline=(225, 245, 255))
    return image


def _night(rng: Rng, width: int, height: int, look: Look) -> Image.Image:
    hue = float(rng.uniform(0.58, 0.8))
    image = _gradient(width, height, [hsv(hue, 0.8, 0.12), hsv(hue, 0.6, float(rng.uniform(0.25, 0.5)))])
    pen = ImageDraw.Draw(image)
    for x, y in rng.random((60, 2)):
        pen.point((x * width, y * height * 0.6), fill=(230, 230, 250))
    x, y, r = rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.35) * height, rng.uniform(0.04, 0.1) * height
    pen.ellipse((x - r, y - r, x + r, y + r), fill=(244, 240, 208))
    ground = hsv(hue + float(rng.uniform(-0.3, 0.1)), 0.5, 0.22)
    for k in range(2):
        _ridge(image, rng, shaded(ground, 0.4 * (1 - k)), 0.6 + 0.12 * k, 0.1)
    _scatter(
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


def _desert(rng: Rng, width: int, height: int, look: Look) -> Image.Image:
    image = _gradient(width, height, _sky_colors(rng))
    snow = rng.random() < 0.4
    sand = (
        hsv(0.58, 0.08, 0.95)
        if snow
        else hsv(float(rng.uniform(0.06, 0.13)), float(rng.uniform(0.3, 0.7)), 0.88)
    )
    for k in range(3):
        _ridge(image, rng, shaded(sand, 0.22 - 0.1 * k), 0.5 + 0.13 * k, 0.14, sharp=k == 0)
    _scatter(
        image,
        rng,
        look,
        "tree rock fence house" if snow else "cactus rock cactus post barrel",
        int(rng.integers(2, 10)),
        (0.65, 1.0),
        (0.1, 0.35),
    )
    return image


def _abstract(rng: Rng, width: int, height: int, look: Look) -> Image.Image:
    image = _gradient(
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
    _scatter(
        image,
        rng,
        look,
        "ball balloon clock fruit rock vase sign",
        int(rng.integers(0, 5)),
        (0.5, 1.0),
        (0.1, 0.3),
    )
    return image


_STYLES: dict[str, Callable[[Rng, int, int, Look], Image.Image]] = {
    "hills": _hills, "forest": _forest, "sky": _sky, "city": _city, "interior": _interior, "underwater": _underwater,
    "night": _night, "desert": _desert, "abstract": _abstract,
}  # fmt: skip
STYLES = tuple(_STYLES)
"""Every painted style."""
_LIKELY = (0.2, 0.15, 0.08, 0.14, 0.18, 0.06, 0.07, 0.07, 0.05)


def _noise(rng: Rng, width: int, height: int, cell: float) -> NDArray[np.float32]:
    """Smooth noise, standard deviation about 1, with lumps of `cell` pixels."""
    small = rng.normal(0, 1, (max(2, int(height / cell) + 2), max(2, int(width / cell) + 2))).astype(
        np.float32
    )
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def _finish(image: Image.Image, rng: Rng, look: Look) -> NDArray[np.uint8]:
    """Brush texture, grain, vignette, soft focus, black and white: what paint, film and print add."""
    width, height = image.size
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 2.5)) * height / 360))
    pixels = np.asarray(image, dtype=np.float32).copy()
    if rng.random() < 0.65:
        strength = float(rng.uniform(0.01, 0.07))
        brush = 0.6 * _noise(rng, width, height, max(3.0, height / 24)) + 0.4 * _noise(
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
        pixels *= 1.0 - float(rng.uniform(0.1, 0.35)) * ((xs**2 + ys**2) / 2)[..., None]
    if look.grey:
        pixels = np.repeat((pixels @ _LUMA)[..., None], 3, axis=2)
    return np.asarray(pixels.clip(0, 255), dtype=np.uint8)


def paint_background(
    rng: np.random.Generator, width: int, height: int, style: str | None = None, look: Look | None = None
) -> NDArray[np.uint8]:
    """A painted background, uint8 RGB (height, width, 3), in `style` (one of STYLES; random where None).

    `look` gives the clutter's ink and shading, and black and white (random where None). Raises ValueError for an
    unknown style or a size under 1 pixel.
    """
    if style is not None and style not in _STYLES:
        raise ValueError(f"style: expected one of {', '.join(STYLES)}, got {style!r}")
    if width < 1 or height < 1:
        raise ValueError(f"size: expected at least 1x1 pixels, got {width}x{height}")
    look = look or Look.random(rng)
    style = style or str(rng.choice(STYLES, p=_LIKELY))
    return _finish(_STYLES[style](rng, width, height, look), rng, look)


__all__ = ["STYLES", "foreground_prop", "paint_background"]
