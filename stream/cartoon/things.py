"""Clutter that people made: furniture, vehicles, street things, toys, one unit tall, standing at y = 0."""

from __future__ import annotations

from math import cos, pi, sin

from stream.cartoon.draw import Canvas, blob, ellipse, hose, hsv, lit, shaded
from stream.cartoon.growth import Rng, any_color, stone_color, wood_color


def draw_post(k: Canvas, rng: Rng) -> None:
    color, wide = wood_color(rng) if rng.random() < 0.6 else any_color(rng), float(rng.uniform(0.06, 0.2))
    k.part(blob([(-wide, 0), (-wide, -1), (wide, -1), (wide, 0)], 1), color)
    if rng.random() < 0.6:
        k.part(ellipse(0, -1, wide * 1.4, wide * 0.9), shaded(color, 0.2))
    if rng.random() < 0.4:
        for y in (-0.3, -0.6):
            k.raw(blob([(-wide, y), (wide, y), (wide, y - 0.08), (-wide, y - 0.08)], 1), lit(color, 0.5))


def draw_lamp(k: Canvas, rng: Rng) -> None:
    k.part(hose((0, 0), (0, -0.4), (0, -0.8), 0.07, 0.05), stone_color(rng))
    glow = hsv(0.13, float(rng.uniform(0.1, 0.6)), 1.0)
    if rng.random() < 0.5:
        k.part(ellipse(0, -0.9, 0.14, 0.14), glow)
    else:
        k.part(blob([(-0.14, -0.78), (-0.08, -1.0), (0.08, -1.0), (0.14, -0.78)], 1), any_color(rng))
    k.part(ellipse(0, 0, 0.16, 0.04), stone_color(rng))


def draw_ball(k: Canvas, rng: Rng) -> None:
    color, other = any_color(rng), any_color(rng)
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


def draw_balloon(k: Canvas, rng: Rng) -> None:
    k.stroke([(0, 0), (0.05, -0.25), (0, -0.5)], 0.015)
    k.part(ellipse(0, -0.74, 0.22, 0.27), any_color(rng))


def draw_barrel(k: Canvas, rng: Rng) -> None:
    wood, wide = wood_color(rng), float(rng.uniform(0.3, 0.42))
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


def draw_crate(k: Canvas, rng: Rng) -> None:
    wood = wood_color(rng)
    k.part(blob([(-0.5, 0), (-0.5, -1), (0.5, -1), (0.5, 0)], 1), wood)
    k.raw(hose((-0.45, -0.05), (0, -0.5), (0.45, -0.95), 0.1), shaded(wood, 0.25))
    for y in (-0.06, -0.94):
        k.part(
            blob([(-0.5, y - 0.06), (0.5, y - 0.06), (0.5, y + 0.06), (-0.5, y + 0.06)], 1),
            lit(wood, 0.1),
            shade=False,
        )


def draw_house(k: Canvas, rng: Rng) -> None:
    wall, roof = any_color(rng, (0.1, 0.6), (0.5, 0.95)), any_color(rng)
    k.part(blob([(-0.45, 0), (-0.45, -0.55), (0.45, -0.55), (0.45, 0)], 1), wall, shade=False)
    k.part(blob([(-0.56, -0.53), (0, -1), (0.56, -0.53)], 1), roof)
    k.part(blob([(-0.1, 0), (-0.1, -0.3), (0.1, -0.3), (0.1, 0)], 1), wood_color(rng), shade=False)
    for x in (-0.29, 0.29):
        k.part(
            blob([(x - 0.09, -0.22), (x - 0.09, -0.42), (x + 0.09, -0.42), (x + 0.09, -0.22)], 1),
            hsv(0.14, 0.4, 0.95),
            shade=False,
        )


def draw_car(k: Canvas, rng: Rng) -> None:
    color = any_color(rng)
    k.part(blob([(-0.5, -0.5), (-0.35, -0.95), (0.35, -0.95), (0.55, -0.5)], 2), lit(color, 0.15))
    k.raw(blob([(-0.38, -0.52), (-0.28, -0.85), (0.02, -0.85), (0.02, -0.52)], 1), (190, 220, 236))
    k.raw(blob([(0.08, -0.52), (0.08, -0.85), (0.28, -0.85), (0.42, -0.52)], 1), (190, 220, 236))
    k.part(ellipse(0, -0.36, 0.95, 0.24, exponent=4), color)
    k.raw(ellipse(0.86, -0.42, 0.06, 0.06, count=12), (255, 240, 170))
    for x in (-0.55, 0.55):
        k.part(ellipse(x, -0.16, 0.18, 0.18), (40, 38, 42))
        k.raw(ellipse(x, -0.16, 0.09, 0.09, count=16), (180, 180, 186))


def draw_sign(k: Canvas, rng: Rng) -> None:
    k.part(hose((0, 0), (0, -0.4), (0, -0.7), 0.06), wood_color(rng))
    kind, color = int(rng.integers(3)), any_color(rng)
    shape = (
        ellipse(0, -0.78, 0.2, 0.2),
        ellipse(0, -0.78, 0.36, 0.18, exponent=8),
        blob([(-0.22, -0.62), (0, -1), (0.22, -0.62)], 1),
    )[kind]
    k.part(shape, color)
    for y in (-0.74, -0.82):
        k.stroke([(-0.12, y), (0, y), (0.12, y)], 0.025)


def draw_chair(k: Canvas, rng: Rng) -> None:
    wood = wood_color(rng) if rng.random() < 0.6 else any_color(rng)
    for x in (-0.26, 0.26):
        k.part(hose((x, 0), (x, -0.2), (x, -0.48), 0.08), wood, shade=False)
    k.part(blob([(-0.3, -0.42), (-0.28, -1), (0.28, -1), (0.3, -0.42)], 2), shaded(wood, 0.15))
    k.part(ellipse(0, -0.45, 0.34, 0.09, exponent=4), wood)


def draw_sofa(k: Canvas, rng: Rng) -> None:
    color = any_color(rng)
    k.part(ellipse(0, -0.6, 0.8, 0.4, exponent=4), shaded(color, 0.15))
    k.part(ellipse(0, -0.25, 0.75, 0.2, exponent=4), color)
    for x in (-0.8, 0.8):
        k.part(ellipse(x, -0.36, 0.16, 0.34, exponent=3), color)


def draw_table(k: Canvas, rng: Rng) -> None:
    wood = wood_color(rng)
    for x in (-0.6, 0.6):
        k.part(hose((x, 0), (x, -0.3), (x, -0.9), 0.1), wood, shade=False)
    k.part(ellipse(0, -0.92, 0.8, 0.1, exponent=6), lit(wood, 0.1))


def draw_vase(k: Canvas, rng: Rng) -> None:
    color = any_color(rng)
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


def draw_clock(k: Canvas, rng: Rng) -> None:
    k.part(ellipse(0, -0.5, 0.48, 0.48, count=32), any_color(rng))
    k.part(ellipse(0, -0.5, 0.38, 0.38, count=32), (248, 246, 236), shade=False, line=0.6)
    a, b = rng.uniform(0, 2 * pi, 2)
    k.stroke([(0, -0.5), (0.1 * cos(a), -0.5 + 0.1 * sin(a)), (0.2 * cos(a), -0.5 + 0.2 * sin(a))], 0.05)
    k.stroke([(0, -0.5), (0.15 * cos(b), -0.5 + 0.15 * sin(b)), (0.32 * cos(b), -0.5 + 0.32 * sin(b))], 0.035)


def draw_fence(k: Canvas, rng: Rng) -> None:
    wood = wood_color(rng) if rng.random() < 0.5 else (240, 238, 230)
    for y in (-0.3, -0.68):
        k.part(hose((-1.2, y), (0, y), (1.2, y), 0.1), shaded(wood, 0.1), shade=False)
    for n in range(6):
        x = -1.0 + n * 0.4
        k.part(
            blob([(x - 0.1, 0), (x - 0.1, -0.85), (x, -1), (x + 0.1, -0.85), (x + 0.1, 0)], 1),
            wood,
            shade=False,
        )


def draw_hydrant(k: Canvas, rng: Rng) -> None:
    color = any_color(rng, (0.6, 0.95))
    k.part(ellipse(0, -0.4, 0.24, 0.42, exponent=4), color)
    k.part(ellipse(0, -0.82, 0.26, 0.18), color)
    for x in (-0.28, 0.28):
        k.part(ellipse(x, -0.5, 0.1, 0.1), shaded(color, 0.2))
    k.part(ellipse(0, -0.03, 0.34, 0.06), shaded(color, 0.3))


def draw_hanging(k: Canvas, rng: Rng) -> None:
    """Laundry, a coat or a sack: limbs of cloth without anybody in them."""
    color = any_color(rng)
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
