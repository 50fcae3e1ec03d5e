"""What grows, lies and waves in a drawn scene and is no character: trees, plants, fruit, stone, waves, cloth.

As in :mod:`engines.train.sprites.props`, each family draws a :class:`Sketch` of unit size, y down.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engines.train.sprites.cels import (
    BARE,
    Floats,
    Palette,
    Sketch,
    between,
    blob,
    curve,
    hsv,
    polar,
    shade,
    tube,
)


def _tree(sk: Sketch, rng: np.random.Generator, p: Palette) -> None:
    """Gnarled wood: a trunk, forking branches, roots, hollows, seldom leaves."""
    g = sk.group()
    bark = shade(p.main, between(rng, 0.6, 1.1))
    tips: list[Floats] = []

    def limb(at: Floats, angle: float, length: float, width: float, level: int) -> None:
        bends = [at]
        for _ in range(3):
            angle += rng.normal(0, 28)
            bends.append(bends[-1] + polar(angle, length / 3))
        sk.fill(tube(bends, [width, width * 0.55], 4), bark, g)
        tips.append(bends[-1])
        for _ in range(int(rng.integers(1, 4)) if level else 0):
            limb(
                bends[int(rng.integers(1, 4))],
                angle + rng.normal(0, 55),
                length * 0.6,
                width * 0.5,
                level - 1,
            )

    width = between(rng, 0.05, 0.2)
    limb(np.zeros(2), -90.0, between(rng, 0.6, 1.1), width, int(rng.integers(1, 4)))
    for _ in range(int(rng.integers(0, 5))):
        limb(np.zeros(2), between(rng, 0, 180), between(rng, 0.2, 0.5), width * 0.6, 0)
    for _ in range(int(rng.integers(0, 4))):
        sk.fill(
            blob(rng, rng.uniform(-0.4, 0.4, 2) * [width * 2, 1] - [0, 0.3], 0.25 * width, 0.4 * width),
            p.black,
            BARE,
        )
    if rng.random() < 0.35:
        crown = sk.group()
        for tip in tips:
            sk.fill(blob(rng, tip, between(rng, 0.1, 0.35), between(rng, 0.1, 0.25), 0.15), p.second, crown)


def _plant(sk: Sketch, rng: np.random.Generator, p: Palette) -> None:
    """Fern, bush, palm, flower, corn: leaves about a stem or a point, blossoms, a pot."""
    green = (
        hsv(between(rng, 0.15, 0.45), between(rng, 0.2, 0.9), between(rng, 0.2, 0.8))
        if rng.random() < 0.7
        else p.main
    )
    n, length, width = int(rng.integers(3, 14)), between(rng, 0.4, 1.0), between(rng, 0.03, 0.18)
    stem = between(rng, 0, 0.9)
    if stem > 0.2:
        sk.fill(tube([[0.0, 0.0], [rng.normal(0, 0.1), -stem]], [0.04, 0.025]), shade(green, 0.7))
    for _ in range(n):
        at = np.array([0.0, -stem * (rng.random() if rng.random() < 0.5 else 1.0)])
        angle = -90 + rng.normal(0, 50)
        tip = at + polar(angle + rng.normal(0, 25), length * between(rng, 0.6, 1))
        middle = (at + tip) / 2 + polar(angle, 0.1)
        leaf = tube([at, middle, tip], [0.01, width, 0.005], 5)
        sk.fill(leaf, shade(green, between(rng, 0.75, 1.25)))
        if rng.random() < 0.5:
            sk.stroke([at, middle, tip], shade(green, 0.6), 0.012)
        if rng.random() < 0.15:
            sk.fill(blob(rng, tip, 0.12, 0.12, 0.2), p.accent)
    if rng.random() < 0.3:
        sk.fill([[-0.3, 0], [0.3, 0], [0.2, 0.4], [-0.2, 0.4]], p.second)


def _fruit(sk: Sketch, rng: np.random.Generator, p: Palette) -> None:
    """Round things alone or in a heap: balls, fruit, balloons, eggs, shells, bombs."""
    for _ in range(int(rng.integers(1, 8))):
        at, r = rng.normal(0, 0.4, 2), between(rng, 0.15, 0.4)
        colour = p.main if rng.random() < 0.6 else p.accent if rng.random() < 0.5 else p.second
        g = sk.group()
        sk.fill(blob(rng, at, r, r * between(rng, 0.7, 1.2), 0.04), colour, g)
        if rng.random() < 0.5:
            sk.fill(blob(rng, at - 0.4 * r, r * 0.2, r * 0.15), p.white, BARE)
        if rng.random() < 0.4:
            sk.fill(
                tube([at - [0, r], at - [rng.normal(0, 0.1), r + between(rng, 0.05, 0.4)]], [0.02, 0.02]),
                p.black,
            )
        for k in range(int(rng.integers(0, 4)) if rng.random() < 0.3 else 0):
            sk.stroke(
                curve(
                    [at + polar(90, r), at + polar(0, r * (k - 1.5) / 2), at + polar(-90, r)], 5, closed=False
                ),
                shade(colour, 0.7),
                0.02,
            )


def _cliff(sk: Sketch, rng: np.random.Generator, p: Palette) -> None:
    """Stone: stacked and standing boulders, stalagmites, walls of blocks, with cracks and dark gaps."""
    stone = shade(p.main, between(rng, 0.7, 1.1))
    for _ in range(int(rng.integers(1, 7))):
        at = rng.normal(0, 0.45, 2)
        rx, ry = between(rng, 0.15, 0.5), between(rng, 0.15, 0.9)
        t = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(5, 11))))
        rough = rng.uniform(0.75, 1.1, len(t))
        sk.fill(
            at + np.stack([rx * rough * np.cos(t), ry * rough * np.sin(t)], 1),
            shade(stone, between(rng, 0.75, 1.25)),
        )
        for _ in range(int(rng.integers(0, 4))):
            a = at + rng.uniform(-0.5, 0.5, 2) * [rx, ry]
            sk.stroke(
                curve([a, a + rng.normal(0, 0.1, 2), a + rng.normal(0, 0.2, 2)], 4, closed=False),
                shade(stone, 0.5),
                0.02,
            )
        if rng.random() < 0.3:
            sk.fill(blob(rng, at, rx * 0.25, ry * 0.3, 0.25), shade(stone, 0.3), BARE)


def _crests(sk: Sketch, rng: np.random.Generator, p: Palette) -> None:
    """Waves: crooked ridges, light on one side and dark on the other, or ragged patches of spray."""
    water = hsv(between(rng, 0.4, 0.65), between(rng, 0.1, 0.6), between(rng, 0.3, 0.8))
    for _ in range(int(rng.integers(1, 5))):
        at = rng.normal(0, 0.5, 2)
        bends = at + np.cumsum(rng.normal(0, 0.15, (4, 2)) + np.array([between(rng, -0.1, 0.25), 0.08]), 0)
        widths = rng.uniform(0.01, 0.09, 5)
        sk.fill(tube(bends + np.array([0.04, 0.03]), widths), shade(water, 0.6), BARE)
        sk.fill(tube(bends, widths), p.white if rng.random() < 0.6 else shade(water, 1.3), BARE)
        for spot in bends[rng.random(len(bends)) < 0.5]:
            sk.fill(
                blob(
                    rng,
                    spot + rng.normal(0, 0.08, 2),
                    between(rng, 0.02, 0.12),
                    between(rng, 0.01, 0.08),
                    0.3,
                ),
                p.white,
                BARE,
            )


def _cloth(sk: Sketch, rng: np.random.Generator, p: Palette) -> None:
    """Flag, curtain, sail, washing, cloak: a waving sheet with folds and stripes, sometimes on a pole."""
    t = np.linspace(0, 1, 7)
    wave = rng.uniform(-0.15, 0.15, 7)
    fall = between(rng, 0.4, 1.3)
    top = np.stack([1.4 * t - 0.7, wave * t], 1)
    low = np.stack(
        [(1.4 * t - 0.7) * between(rng, 0.7, 1.3), fall + 0.8 * np.roll(wave, 1) + rng.uniform(-0.1, 0.1, 7)],
        1,
    )
    if rng.random() < 0.5:
        sk.fill(tube([[-0.72, -0.15], [-0.72, between(rng, fall, 2)]], [0.03, 0.03]), p.second)
    g = sk.group()
    sk.fill(np.vstack([curve(top, 5, closed=False), curve(low[::-1], 5, closed=False)]), p.main, g)
    for k in range(1, 6):
        if rng.random() < 0.6:
            a, b = top[k], low[k]
            sk.fill(
                [a, a * 0.3 + b * 0.7 + [0.07, 0], b, a * 0.5 + b * 0.5 - [0.03, 0]],
                shade(p.main, between(rng, 0.6, 0.9)),
                BARE,
            )


NATURE: dict[str, Callable[[Sketch, np.random.Generator, Palette], None]] = {
    "tree": _tree,
    "plant": _plant,
    "fruit": _fruit,
    "cliff": _cliff,
    "crests": _crests,
    "cloth": _cloth,
}
