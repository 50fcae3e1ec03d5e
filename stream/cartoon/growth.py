"""Growing and natural clutter, one unit tall, standing at y = 0."""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np

from stream.cartoon.draw import Canvas, Color, Points, blob, ellipse, hose, hsv, lit

Rng = np.random.Generator


def any_color(
    rng: Rng, saturation: tuple[float, float] = (0.3, 0.9), value: tuple[float, float] = (0.35, 0.95)
) -> Color:
    return hsv(float(rng.random()), float(rng.uniform(*saturation)), float(rng.uniform(*value)))


def leaf_color(rng: Rng) -> Color:
    if rng.random() < 0.2:
        return any_color(rng)
    return hsv(float(rng.uniform(0.2, 0.42)), float(rng.uniform(0.35, 0.8)), float(rng.uniform(0.25, 0.8)))


def wood_color(rng: Rng) -> Color:
    return hsv(float(rng.uniform(0.04, 0.1)), float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.25, 0.65)))


def stone_color(rng: Rng) -> Color:
    return hsv(float(rng.random()), float(rng.uniform(0.0, 0.25)), float(rng.uniform(0.3, 0.8)))


def lumps(rng: Rng, x: float, y: float, rx: float, ry: float, count: int, rough: float) -> Points:
    radius = 1.0 + rng.uniform(-rough, rough, count)
    points = [
        (x + cos(2 * pi * k / count) * rx * radius[k], y + sin(2 * pi * k / count) * ry * radius[k])
        for k in range(count)
    ]
    return blob(points, 5)


def draw_tree(k: Canvas, rng: Rng) -> None:
    wood, leaf, wide = wood_color(rng), leaf_color(rng), float(rng.uniform(0.06, 0.14))
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
                lumps(rng, float(rng.normal(0, 0.16)), float(rng.uniform(-0.85, -0.55)), 0.24, 0.2, 9, 0.12),
                leaf,
                fuzzy=True,
            )


def draw_bush(k: Canvas, rng: Rng) -> None:
    leaf = leaf_color(rng)
    with k.group():
        for _ in range(int(rng.integers(2, 6))):
            k.part(lumps(rng, float(rng.normal(0, 0.5)), -0.4, 0.5, 0.45, 10, 0.1), leaf, fuzzy=True)
    if rng.random() < 0.4:
        berry = any_color(rng)
        for _ in range(7):
            k.raw(
                ellipse(float(rng.normal(0, 0.4)), float(rng.uniform(-0.7, -0.2)), 0.05, 0.05, count=12),
                berry,
            )


def draw_rock(k: Canvas, rng: Rng) -> None:
    stone = stone_color(rng)
    for _ in range(int(rng.integers(1, 4))):
        k.part(lumps(rng, float(rng.normal(0, 0.5)), -0.4, float(rng.uniform(0.4, 0.8)), 0.5, 7, 0.16), stone)
    k.stroke([(-0.2, -0.6), (0, -0.4), (0.05, -0.2)], 0.025)


def draw_flower(k: Canvas, rng: Rng) -> None:
    stem, petal = leaf_color(rng), any_color(rng, (0.4, 0.9), (0.7, 1.0))
    sway = float(rng.normal(0, 0.1))
    k.limb((0, 0), (sway, -0.4), (0, -0.75), 0.05, stem, 0.04, shade=False)
    k.part(ellipse(0.14, -0.3, 0.14, 0.05, rot=-0.5), stem, shade=False)
    count = int(rng.integers(5, 9))
    with k.group():
        for n in range(count):
            a = 2 * pi * n / count
            k.part(ellipse(cos(a) * 0.15, -0.78 + sin(a) * 0.15, 0.11, 0.11, count=16), petal, shade=False)
    k.part(ellipse(0, -0.78, 0.1, 0.1, count=16), hsv(0.13, 0.8, 0.9))


def draw_mushroom(k: Canvas, rng: Rng) -> None:
    color = any_color(rng)
    k.part(hose((0, 0), (0, -0.2), (0, -0.5), 0.36, 0.28), (240, 230, 210))
    k.part(blob([(-0.5, -0.45), (-0.35, -0.85), (0, -1), (0.35, -0.85), (0.5, -0.45), (0, -0.38)], 4), color)
    for x, y in ((-0.22, -0.66), (0.1, -0.8), (0.26, -0.58)):
        k.raw(ellipse(x, y, 0.07, 0.06, count=14), lit(color, 0.8))


def draw_cactus(k: Canvas, rng: Rng) -> None:
    green = leaf_color(rng)
    with k.group():
        k.limb((0, 0), (0, -0.5), (0, -0.9), 0.22, green)
        k.limb((0, -0.35), (0.36, -0.3), (0.34, -0.7), 0.15, green)
        if rng.random() < 0.7:
            k.limb((0, -0.45), (-0.36, -0.4), (-0.34, -0.78), 0.15, green)


def draw_fruit(k: Canvas, rng: Rng) -> None:
    color = hsv(float(rng.choice([0.0, 0.08, 0.15, 0.3, 0.8])), 0.8, 0.85)
    k.part(lumps(rng, 0, -0.42, 0.46, 0.42, 8, 0.05), color)
    k.stroke([(0, -0.8), (0.03, -0.9), (0.1, -1)], 0.07, (90, 60, 40))
    k.part(ellipse(0.2, -0.9, 0.16, 0.07, rot=-0.4), leaf_color(rng), shade=False)


def draw_cloud(k: Canvas, rng: Rng) -> None:
    color = lit(any_color(rng, (0.0, 0.3), (0.8, 1.0)), 0.6)
    with k.group():
        for n in range(int(rng.integers(3, 7))):
            k.part(
                ellipse(
                    (n - 2) * 0.42, -0.4 - float(rng.uniform(0, 0.2)), 0.5, float(rng.uniform(0.28, 0.45))
                ),
                color,
            )


def draw_seaweed(k: Canvas, rng: Rng) -> None:
    color = leaf_color(rng)
    for n in range(int(rng.integers(2, 5))):
        x, sway = (n - 1.5) * 0.14, float(rng.normal(0, 0.3))
        k.limb((x, 0), (x + sway, -0.5), (x - sway * 0.4, -float(rng.uniform(0.6, 1.0))), 0.1, color, 0.02)


def draw_coral(k: Canvas, rng: Rng) -> None:
    color = any_color(rng)
    with k.group():
        for _ in range(5):
            x = float(rng.normal(0, 0.3))
            k.limb((0, 0), (x * 0.3, -0.5), (x, -float(rng.uniform(0.5, 1.0))), 0.16, color, 0.1)
