"""Things that are not characters: trees, rocks, posts, furniture, vehicles, balls, signs, flowers, drawn like them.

They share the characters' ink and shading on purpose: what tells a character from a ball or a barrel is the drawing,
not the style.
"""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray

from stream.cartoon.characters import Look
from stream.cartoon.draw import Canvas, Color, blob, ellipse, grey, hose, hsv, lit, shaded

Rng = np.random.Generator


def _any(
    rng: Rng, saturation: tuple[float, float] = (0.3, 0.9), value: tuple[float, float] = (0.35, 0.95)
) -> Color:
    return hsv(float(rng.random()), float(rng.uniform(*saturation)), float(rng.uniform(*value)))


def _green(rng: Rng) -> Color:
    if rng.random() < 0.2:
        return _any(rng)
    return hsv(float(rng.uniform(0.2, 0.42)), float(rng.uniform(0.35, 0.8)), float(rng.uniform(0.25, 0.8)))


def _wood(rng: Rng) -> Color:
    return hsv(float(rng.uniform(0.04, 0.1)), float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.25, 0.65)))


def _stone(rng: Rng) -> Color:
    return hsv(float(rng.random()), float(rng.uniform(0.0, 0.25)), float(rng.uniform(0.3, 0.8)))


def _lumps(
    rng: Rng, x: float, y: float, rx: float, ry: float, count: int, rough: float
) -> NDArray[np.float64]:
    radius = 1.0 + rng.uniform(-rough, rough, count)
    points = [
        (x + cos(2 * pi * k / count) * rx * radius[k], y + sin(2 * pi * k / count) * ry * radius[k])
        for k in range(count)
    ]
    return blob(points, 5)


def _tree(k: Canvas, rng: Rng) -> None:
    wood, leaf, wide = _wood(rng), _green(rng), float(rng.uniform(0.06, 0.14))
    if rng.random() < 0.35:
        k.part(hose((0, 0), (0, -0.2), (0, -0.4), wide, wide * 0.7), wood)
        for step in range(3):
            y, half = -0.22 - 0.22 * step, 0.36 - 0.09 * step
            k.part(blob([(-half, y), (0, y - 0.36), (half, y)], 1), leaf)
        return
    k.part(hose((0, 0), (float(rng.normal(0, 0.06)), -0.3), (0, -0.6), wide * 1.4, wide * 0.6), wood)
    if rng.random() < 0.15:  # bare branches
        for _ in range(5):
            y, out = float(rng.uniform(-0.7, -0.3)), float(rng.uniform(-0.4, 0.4))
            k.part(hose((0, y), (out * 0.5, y - 0.02), (out, y - 0.3), wide * 0.5, 0.01), wood, shade=False)
        return
    with k.group():
        for _ in range(int(rng.integers(3, 7))):
            k.part(
                _lumps(rng, float(rng.normal(0, 0.16)), float(rng.uniform(-0.85, -0.55)), 0.24, 0.2, 9, 0.12),
                leaf,
                fuzzy=True,
            )


def _bush(k: Canvas, rng: Rng) -> None:
    leaf = _green(rng)
    with k.group():
        for _ in range(int(rng.integers(2, 6))):
            k.part(_lumps(rng, float(rng.normal(0, 0.5)), -0.4, 0.5, 0.45, 10, 0.1), leaf, fuzzy=True)
    if rng.random() < 0.4:
        berry = _any(rng)
        for _ in range(7):
            k.raw(
                ellipse(float(rng.normal(0, 0.4)), float(rng.uniform(-0.7, -0.2)), 0.05, 0.05, count=12),
                berry,
            )


def _rock(k: Canvas, rng: Rng) -> None:
    stone = _stone(rng)
    for _ in range(int(rng.integers(1, 4))):
        k.part(
            _lumps(rng, float(rng.normal(0, 0.5)), -0.4, float(rng.uniform(0.4, 0.8)), 0.5, 7, 0.16), stone
        )
    k.stroke([(-0.2, -0.6), (0, -0.4), (0.05, -0.2)], 0.025)


def _post(k: Canvas, rng: Rng) -> None:
    color, wide = _wood(rng) if rng.random() < 0.6 else _any(rng), float(rng.uniform(0.06, 0.2))
    k.part(blob([(-wide, 0), (-wide, -1), (wide, -1), (wide, 0)], 1), color)
    if rng.random() < 0.6:
        k.part(ellipse(0, -1, wide * 1.4, wide * 0.9), shaded(color, 0.2))
    if rng.random() < 0.4:
        for y in (-0.3, -0.6):
            k.raw(blob([(-wide, y), (wide, y), (wide, y - 0.08), (-wide, y - 0.08)], 1), lit(color, 0.5))


def _lamp(k: Canvas, rng: Rng) -> None:
    k.part(hose((0, 0), (0, -0.4), (0, -0.8), 0.07, 0.05), _stone(rng))
    glow = hsv(0.13, float(rng.uniform(0.1, 0.6)), 1.0)
    if rng.random() < 0.5:
        k.part(ellipse(0, -0.9, 0.14, 0.14), glow)
    else:
        k.part(blob([(-0.14, -0.78), (-0.08, -1.0), (0.08, -1.0), (0.14, -0.78)], 1), _any(rng))
    k.part(ellipse(0, 0, 0.16, 0.04), _stone(rng))


def _ball(k: Canvas, rng: Rng) -> None:
    color, other = _any(rng), _any(rng)
    k.part(ellipse(0, -0.5, 0.5, 0.5, count=36), color)
    kind = int(rng.integers(4))
    if kind == 0:
        k.raw(hose((-0.46, -0.5), (0, -0.3), (0.46, -0.5), 0.14), other)
    elif kind == 1:
        k.stroke([(0.0, -0.98), (0.25, -0.5), (0.0, -0.02)], 0.03)
        k.stroke([(-0.48, -0.5), (0.0, -0.3), (0.48, -0.5)], 0.03)
    elif kind == 2:
        for _ in range(4):
            k.raw(
                ellipse(
                    float(rng.uniform(-0.25, 0.25)), float(rng.uniform(-0.75, -0.25)), 0.09, 0.09, count=14
                ),
                other,
            )


def _balloon(k: Canvas, rng: Rng) -> None:
    k.stroke([(0, 0), (0.05, -0.25), (0, -0.5)], 0.015)
    k.part(ellipse(0, -0.74, 0.22, 0.27), _any(rng))


def _barrel(k: Canvas, rng: Rng) -> None:
    wood, wide = _wood(rng), float(rng.uniform(0.3, 0.42))
    k.part(
        blob(
            [
                (-wide * 0.8, 0),
                (-wide, -0.5),
                (-wide * 0.8, -1),
                (wide * 0.8, -1),
                (wide, -0.5),
                (wide * 0.8, 0),
            ],
            3,
        ),
        wood,
    )
    for y in (-0.2, -0.8):
        k.raw(hose((-wide * 0.9, y), (0, y + 0.04), (wide * 0.9, y), 0.07), shaded(wood, 0.5))
    k.part(ellipse(0, -1, wide * 0.85, 0.09), lit(wood, 0.1))


def _crate(k: Canvas, rng: Rng) -> None:
    wood = _wood(rng)
    k.part(blob([(-0.5, 0), (-0.5, -1), (0.5, -1), (0.5, 0)], 1), wood)
    k.raw(hose((-0.45, -0.05), (0, -0.5), (0.45, -0.95), 0.1), shaded(wood, 0.25))
    for y in (-0.06, -0.94):
        k.part(
            blob([(-0.5, y - 0.06), (0.5, y - 0.06), (0.5, y + 0.06), (-0.5, y + 0.06)], 1),
            lit(wood, 0.1),
            shade=False,
        )


def _house(k: Canvas, rng: Rng) -> None:
    wall, roof = _any(rng, (0.1, 0.6), (0.5, 0.95)), _any(rng)
    k.part(blob([(-0.45, 0), (-0.45, -0.55), (0.45, -0.55), (0.45, 0)], 1), wall, shade=False)
    k.part(blob([(-0.56, -0.53), (0, -1), (0.56, -0.53)], 1), roof)
    k.part(blob([(-0.1, 0), (-0.1, -0.3), (0.1, -0.3), (0.1, 0)], 1), _wood(rng), shade=False)
    for x in (-0.29, 0.29):
        k.part(
            blob([(x - 0.09, -0.22), (x - 0.09, -0.42), (x + 0.09, -0.42), (x + 0.09, -0.22)], 1),
            hsv(0.14, 0.4, 0.95),
            shade=False,
        )


def _car(k: Canvas, rng: Rng) -> None:
    color = _any(rng)
    k.part(blob([(-0.5, -0.5), (-0.35, -0.95), (0.35, -0.95), (0.55, -0.5)], 2), lit(color, 0.15))
    k.raw(blob([(-0.38, -0.52), (-0.28, -0.85), (0.02, -0.85), (0.02, -0.52)], 1), (190, 220, 236))
    k.raw(blob([(0.08, -0.52), (0.08, -0.85), (0.28, -0.85), (0.42, -0.52)], 1), (190, 220, 236))
    k.part(ellipse(0, -0.36, 0.95, 0.24, exponent=4), color)
    k.raw(ellipse(0.86, -0.42, 0.06, 0.06, count=12), (255, 240, 170))
    for x in (-0.55, 0.55):
        k.part(ellipse(x, -0.16, 0.18, 0.18), (40, 38, 42))
        k.raw(ellipse(x, -0.16, 0.09, 0.09, count=16), (180, 180, 186))


def _sign(k: Canvas, rng: Rng) -> None:
    k.part(hose((0, 0), (0, -0.4), (0, -0.7), 0.06), _wood(rng))
    kind, color = int(rng.integers(3)), _any(rng)
    shape = (
        ellipse(0, -0.78, 0.2, 0.2),
        ellipse(0, -0.78, 0.36, 0.18, exponent=8),
        blob([(-0.22, -0.62), (0, -1), (0.22, -0.62)], 1),
    )[kind]
    k.part(shape, color)
    for y in (-0.74, -0.82):
        k.stroke([(-0.12, y), (0, y), (0.12, y)], 0.025)


def _flower(k: Canvas, rng: Rng) -> None:
    stem, petal = _green(rng), _any(rng, (0.4, 0.9), (0.7, 1.0))
    sway = float(rng.normal(0, 0.1))
    k.limb((0, 0), (sway, -0.4), (0, -0.75), 0.05, stem, 0.04, shade=False)
    k.part(ellipse(0.14, -0.3, 0.14, 0.05, rot=-0.5), stem, shade=False)
    count = int(rng.integers(5, 9))
    with k.group():
        for n in range(count):
            a = 2 * pi * n / count
            k.part(ellipse(cos(a) * 0.15, -0.78 + sin(a) * 0.15, 0.11, 0.11, count=16), petal, shade=False)
    k.part(ellipse(0, -0.78, 0.1, 0.1, count=16), hsv(0.13, 0.8, 0.9))


def _mushroom(k: Canvas, rng: Rng) -> None:
    color = _any(rng)
    k.part(hose((0, 0), (0, -0.2), (0, -0.5), 0.36, 0.28), (240, 230, 210))
    k.part(blob([(-0.5, -0.45), (-0.35, -0.85), (0, -1), (0.35, -0.85), (0.5, -0.45), (0, -0.38)], 4), color)
    for x, y in ((-0.22, -0.66), (0.1, -0.8), (0.26, -0.58)):
        k.raw(ellipse(x, y, 0.07, 0.06, count=14), lit(color, 0.8))


def _chair(k: Canvas, rng: Rng) -> None:
    wood = _wood(rng) if rng.random() < 0.6 else _any(rng)
    for x in (-0.26, 0.26):
        k.part(hose((x, 0), (x, -0.2), (x, -0.48), 0.08), wood, shade=False)
    k.part(blob([(-0.3, -0.42), (-0.28, -1), (0.28, -1), (0.3, -0.42)], 2), shaded(wood, 0.15))
    k.part(ellipse(0, -0.45, 0.34, 0.09, exponent=4), wood)


def _sofa(k: Canvas, rng: Rng) -> None:
    color = _any(rng)
    k.part(ellipse(0, -0.6, 0.8, 0.4, exponent=4), shaded(color, 0.15))
    k.part(ellipse(0, -0.25, 0.75, 0.2, exponent=4), color)
    for x in (-0.8, 0.8):
        k.part(ellipse(x, -0.36, 0.16, 0.34, exponent=3), color)


def _table(k: Canvas, rng: Rng) -> None:
    wood = _wood(rng)
    for x in (-0.6, 0.6):
        k.part(hose((x, 0), (x, -0.3), (x, -0.9), 0.1), wood, shade=False)
    k.part(ellipse(0, -0.92, 0.8, 0.1, exponent=6), lit(wood, 0.1))


def _vase(k: Canvas, rng: Rng) -> None:
    color = _any(rng)
    k.part(
        blob(
            [
                (-0.15, 0),
                (-0.34, -0.35),
                (-0.12, -0.75),
                (-0.18, -1),
                (0.18, -1),
                (0.12, -0.75),
                (0.34, -0.35),
                (0.15, 0),
            ],
            4,
        ),
        color,
    )
    k.raw(hose((-0.28, -0.4), (0, -0.36), (0.28, -0.4), 0.08), lit(color, 0.5))


def _clock(k: Canvas, rng: Rng) -> None:
    k.part(ellipse(0, -0.5, 0.48, 0.48, count=32), _any(rng))
    k.part(ellipse(0, -0.5, 0.38, 0.38, count=32), (248, 246, 236), shade=False, line=0.6)
    a, b = rng.uniform(0, 2 * pi, 2)
    k.stroke([(0, -0.5), (0.1 * cos(a), -0.5 + 0.1 * sin(a)), (0.2 * cos(a), -0.5 + 0.2 * sin(a))], 0.05)
    k.stroke([(0, -0.5), (0.15 * cos(b), -0.5 + 0.15 * sin(b)), (0.32 * cos(b), -0.5 + 0.32 * sin(b))], 0.035)


def _fence(k: Canvas, rng: Rng) -> None:
    wood = _wood(rng) if rng.random() < 0.5 else (240, 238, 230)
    for y in (-0.3, -0.68):
        k.part(hose((-1.2, y), (0, y), (1.2, y), 0.1), shaded(wood, 0.1), shade=False)
    for n in range(6):
        x = -1.0 + n * 0.4
        k.part(
            blob([(x - 0.1, 0), (x - 0.1, -0.85), (x, -1), (x + 0.1, -0.85), (x + 0.1, 0)], 1),
            wood,
            shade=False,
        )


def _cactus(k: Canvas, rng: Rng) -> None:
    green = _green(rng)
    with k.group():
        k.limb((0, 0), (0, -0.5), (0, -0.9), 0.22, green)
        k.limb((0, -0.35), (0.36, -0.3), (0.34, -0.7), 0.15, green)
        if rng.random() < 0.7:
            k.limb((0, -0.45), (-0.36, -0.4), (-0.34, -0.78), 0.15, green)


def _hydrant(k: Canvas, rng: Rng) -> None:
    color = _any(rng, (0.6, 0.95))
    k.part(ellipse(0, -0.4, 0.24, 0.42, exponent=4), color)
    k.part(ellipse(0, -0.82, 0.26, 0.18), color)
    for x in (-0.28, 0.28):
        k.part(ellipse(x, -0.5, 0.1, 0.1), shaded(color, 0.2))
    k.part(ellipse(0, -0.03, 0.34, 0.06), shaded(color, 0.3))


def _fruit(k: Canvas, rng: Rng) -> None:
    color = hsv(float(rng.choice([0.0, 0.08, 0.15, 0.3, 0.8])), 0.8, 0.85)
    k.part(_lumps(rng, 0, -0.42, 0.46, 0.42, 8, 0.05), color)
    k.stroke([(0, -0.8), (0.03, -0.9), (0.1, -1)], 0.07, (90, 60, 40))
    k.part(ellipse(0.2, -0.9, 0.16, 0.07, rot=-0.4), _green(rng), shade=False)


def _hanging(k: Canvas, rng: Rng) -> None:
    """Laundry, a coat or a sack: limbs of cloth without anybody in them."""
    color = _any(rng)
    k.part(
        blob(
            [
                (-0.5, -0.9),
                (-0.2, -1),
                (0.2, -1),
                (0.5, -0.9),
                (0.42, -0.6),
                (0.3, -0.65),
                (0.32, 0),
                (-0.32, 0),
                (-0.3, -0.65),
                (-0.42, -0.6),
            ],
            2,
        ),
        color,
    )
    k.stroke([(0, -0.9), (0.02, -0.5), (0, -0.05)], 0.02)


def _cloud(k: Canvas, rng: Rng) -> None:
    color = lit(_any(rng, (0.0, 0.3), (0.8, 1.0)), 0.6)
    with k.group():
        for n in range(int(rng.integers(3, 7))):
            k.part(
                ellipse(
                    (n - 2) * 0.42, -0.4 - float(rng.uniform(0, 0.2)), 0.5, float(rng.uniform(0.28, 0.45))
                ),
                color,
            )


def _seaweed(k: Canvas, rng: Rng) -> None:
    color = _green(rng)
    for n in range(int(rng.integers(2, 5))):
        x, sway = (n - 1.5) * 0.14, float(rng.normal(0, 0.3))
        k.limb((x, 0), (x + sway, -0.5), (x - sway * 0.4, -float(rng.uniform(0.6, 1.0))), 0.1, color, 0.02)


def _coral(k: Canvas, rng: Rng) -> None:
    color = _any(rng)
    with k.group():
        for _ in range(5):
            x = float(rng.normal(0, 0.3))
            k.limb((0, 0), (x * 0.3, -0.5), (x, -float(rng.uniform(0.5, 1.0))), 0.16, color, 0.1)


_KINDS: dict[str, Callable[[Canvas, Rng], None]] = {
    "tree": _tree, "bush": _bush, "rock": _rock, "post": _post, "lamp": _lamp, "ball": _ball, "balloon": _balloon,
    "barrel": _barrel, "crate": _crate, "house": _house, "car": _car, "sign": _sign, "flower": _flower,
    "mushroom": _mushroom, "chair": _chair, "sofa": _sofa, "table": _table, "vase": _vase, "clock": _clock,
    "fence": _fence, "cactus": _cactus, "hydrant": _hydrant, "fruit": _fruit, "hanging": _hanging, "cloud": _cloud,
    "seaweed": _seaweed, "coral": _coral,
}  # fmt: skip
PROPS = tuple(_KINDS)
"""Every kind of prop."""

OCCLUDERS = (
    "tree",
    "bush",
    "bush",
    "rock",
    "post",
    "barrel",
    "crate",
    "fence",
    "fence",
    "sofa",
    "table",
    "chair",
    "hydrant",
    "car",
)
"""Kinds that stand in front of characters; repeated kinds are likelier."""


def draw_prop(kind: str, rng: Rng, height: float, look: Look | None = None) -> NDArray[np.uint8]:
    """A prop about `height` pixels tall, uint8 RGBA (h, w, 4), standing on the picture's lower edge.

    Raises ValueError for a kind that is not in PROPS.
    """
    if kind not in _KINDS:
        raise ValueError(f"kind: expected one of {', '.join(PROPS)}, got {kind!r}")
    look = look or Look.random(rng)
    canvas = Canvas(look.ink, look.line * 1.1, look.shading, look.fur * 1.5)
    _KINDS[kind](canvas, rng)
    image, _, _ = canvas.paint(max(2.0, height), supersample=2 if height < 400 else 1)
    image = image.crop(image.getchannel("A").getbbox())
    rgba = np.array(image)
    if rng.random() < 0.5:
        rgba = np.ascontiguousarray(rgba[:, ::-1])
    if look.grey:
        luma = rgba[..., :3] @ np.array([0.299, 0.587, 0.114])
        rgba[..., :3] = luma[..., None].astype(np.uint8)
    return rgba


def foreground_prop(rng: Rng, height: float, look: Look | None = None) -> NDArray[np.uint8]:
    """A random prop to hide characters behind, uint8 RGBA (h, w, 4), about `height` pixels tall."""
    return draw_prop(str(rng.choice(OCCLUDERS)), rng, height, look)


__all__ = ["OCCLUDERS", "PROPS", "draw_prop", "foreground_prop", "grey"]
