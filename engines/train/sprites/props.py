"""Props in ink and paint: what stands about in a drawn scene, is used, and is no character.

Effects (:mod:`engines.train.sprites.effects`) are what moves by itself; props are furniture, vessels,
vehicles, tools, signs, and what :mod:`engines.train.sprites.nature` adds. Each family draws a
:class:`Sketch` of unit size, y down.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from engines.train.sprites.cels import (
    BARE,
    Bytes,
    Floats,
    Palette,
    Sketch,
    between,
    blob,
    curve,
    hsv,
    palette,
    polar,
    shade,
    tube,
    turned,
)
from engines.train.sprites.nature import NATURE


def draw_prop(rng: np.random.Generator, side: int) -> Bytes:
    """One of them, cropped to what is seen: RGBA uint8 (h, w, 4), h and w at most ``side``."""
    sketch = Sketch()
    names = list(PROPS)
    PROPS[names[int(rng.integers(len(names)))]](sketch, rng, palette(rng, dark=0.15))
    if not sketch.parts:  # a sign without a letter
        return draw_prop(rng, side)
    flip = 1.0 if rng.random() < 0.5 else -1.0
    sketch.turn(rng.normal(0, 0.12), between(rng, 0.75, 1.25), flip)
    ink = float(rng.choice([0.0, 0.7, 1.0, 1.5, 2.2]))
    rgba, _ = sketch.paint(rng, side, ink, toned=rng.random() < 0.6)
    ys, xs = np.nonzero(rgba[..., 3] > 20)
    return np.ascontiguousarray(rgba[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1])


def _box(x1: float, y1: float, x2: float, y2: float, lean: float = 0.0) -> Floats:
    """A rectangle whose top is shifted by ``lean``: (4, 2)."""
    return np.array([[x1 + lean, y1], [x2 + lean, y1], [x2, y2], [x1, y2]])


def _disc(at: ArrayLike, rx: float, ry: float | None = None) -> Floats:
    t = np.linspace(0, 2 * np.pi, 25)[:-1]
    return np.asarray(at) + np.stack([rx * np.cos(t), (rx if ry is None else ry) * np.sin(t)], 1)


def _boat(sk: Sketch, rng: np.random.Generator, p: Palette) -> None:
    """A rowing boat that is looked into: hull, rim, planks, thwarts, oars."""
    wide, deep = between(rng, 0.25, 0.5), between(rng, 0.03, 0.3)
    blunt, down = between(rng, 0.3, 1.0), np.array([0.0, deep])
    half = wide * blunt * 0.4
    rim = curve(
        [
            [-1.0, 0.0],
            [-0.5, -wide],
            [0.4, -wide * 0.95],
            [1, -half],
            [1, half],
            [0.4, wide * 0.95],
            [-0.5, wide],
        ]
    )
    hull = np.vstack([rim, rim + down])
    sk.fill(hull[_hull_of(hull)], p.second)
    g = sk.group()
    sk.fill(rim, p.light if rng.random() < 0.5 else p.main, g)
    inner = rim * between(rng, 0.84, 0.93)
    wood = hsv(between(rng, 0.04, 0.13), between(rng, 0.2, 0.7), between(rng, 0.25, 0.85))
    sk.fill(inner, wood)
    for k in range(int(rng.integers(3, 9))):
        y = wide * 0.85 * (2 * (k + 0.5) / 8 - 1)
        reach = 0.85 * np.sqrt(max(0.05, 1 - (y / wide) ** 2))
        sk.stroke([[-reach, y], [reach * 0.95, y]], shade(wood, 0.75), 0.012)
    for x in np.sort(rng.uniform(-0.6, 0.7, int(rng.integers(1, 4)))):
        across = wide * 0.88
        sk.fill(
            _box(x, -across, x + 0.12, across, between(rng, -0.05, 0.05)), shade(wood, between(rng, 0.6, 1.3))
        )
    for _ in range(int(rng.integers(0, 3))):
        a = rng.uniform(-0.6, 0.6, 2)
        b = a + polar(between(rng, -60, 60), between(rng, 0.6, 1.2))
        sk.fill(tube([a, b], [0.02, 0.02]), p.accent)
        sk.fill(blob(rng, b, 0.1, 0.06), p.accent)


def _hull_of(points: Floats) -> list[int]:
    """Indices of the convex hull, in order (Andrew 1979)."""
    order = np.lexsort((points[:, 1], points[:, 0])).tolist()
    halves = []
    for run in (order, order[::-1]):
        half: list[int] = []
        for i in run:
            while len(half) > 1:
                (ax, ay), (bx, by) = points[half[-1]] - points[half[-2]], points[i] - points[half[-2]]
                if ax * by - ay * bx > 0:
                    break
                half.pop()
            half.append(i)
        halves.append(half[:-1])
    return halves[0] + halves[1]


def _chain(sk: Sketch, rng: np.random.Generator, p: Palette) -> None:
    """Heavy links, in turn face on and edge on, along a hanging curve; sometimes a shackle or a ball."""
    n = int(rng.integers(4, 13))
    sag = between(rng, -0.3, 0.3)
    at = np.array([0.0, 0.0])
    size, thick = 0.12, between(rng, 0.02, 0.045)
    for k in range(n):
        lean = 90 + 60 * sag * np.cos(np.pi * k / n)
        along = polar(lean, size)
        colour = shade(p.main, between(rng, 0.85, 1.15))
        if k % 2:
            sk.fill(tube([at - 0.55 * along, at + 0.55 * along], [thick * 1.1, thick * 1.1]), colour)
        else:
            ring = turned(_disc((0, 0), size * 0.85, size * 0.5), np.deg2rad(lean), at)
            sk.fill(tube(np.vstack([ring, ring[:2]]), [thick, thick], 1), colour)
        at = at + along * 1.05
    if rng.random() < 0.5:
        r = between(rng, 0.08, 0.3)
        sk.fill(blob(rng, at + polar(90, r), r, r), p.second)


def _wagon(sk: Sketch, rng: np.random.Generator, p: Palette) -> None:
    """Anything on wheels: cart, car, engine, carriage; body, cabin, windows, wheels with spokes."""
    high = between(rng, 0.2, 0.6)
    body = [
        [-1, 0],
        [-1 + between(rng, -0.1, 0.3), -high],
        [1 - between(rng, -0.1, 0.3), -high * between(rng, 0.6, 1.1)],
        [1, 0],
    ]
    outline = curve(np.array(body), 6) if rng.random() < 0.4 else np.array(body)
    if rng.random() < 0.7:
        x, w, tall = between(rng, -0.6, 0.2), between(rng, 0.4, 0.9), between(rng, 0.25, 0.7)
        sk.fill(_box(x, -high - tall, x + w, -high * 0.5, between(rng, -0.15, 0.15)), p.second)
        for k in range(int(rng.integers(1, 4))):
            left = x + 0.06 + k * w / 3
            sk.fill(_box(left, -high - tall * 0.85, left + w / 3 - 0.1, -high - tall * 0.2), p.light)
    sk.fill(outline, p.main)
    for k in range(int(rng.integers(0, 4))):
        sk.stroke([[-0.9, -high * (k + 1) / 5], [0.9, -high * (k + 1) / 5]], shade(p.main, 0.7), 0.015)
    for x in np.linspace(-0.65, 0.65, int(rng.integers(2, 4))):
        r = between(rng, 0.15, 0.35)
        sk.fill(_disc((x, 0.05), r), p.black if rng.random() < 0.6 else p.accent)
        sk.fill(_disc((x, 0.05), r * between(rng, 0.4, 0.8)), p.light if rng.random() < 0.6 else p.second)
        for angle in np.arange(int(rng.choice([0, 4, 6]))) * 45.0:
            sk.stroke(
                [np.array([x, 0.05]) + polar(angle, r * 0.8), np.array([x, 0.05]) - polar(angle, r * 0.8)],
                p.black,
                0.02,
            )
    if rng.random() < 0.4:
        sk.fill(tube([[0.7, -high], [0.75, -high - between(rng, 0.2, 0.6)]], [0.05, 0.09]), p.black)


def _cabinet(sk: Sketch, rng: np.random.Generator, p: Palette) -> None:
    """Furniture and machines of boxes: panels, drawers, doors, shelves with things, dials, lamps, legs."""
    wide, tall, side = between(rng, 0.3, 1.0), between(rng, 0.3, 1.0), between(rng, 0.0, 0.3)
    if side > 0.08:
        sk.fill(
            [[wide, -tall], [wide + side, -tall - side / 2], [wide + side, tall - side / 2], [wide, tall]],
            shade(p.main, 0.65),
        )
        sk.fill(
            [
                [-wide, -tall],
                [-wide + side, -tall - side / 2],
                [wide + side, -tall - side / 2],
                [wide, -tall],
            ],
            shade(p.main, 1.2),
        )
    sk.fill(_box(-wide, -tall, wide, tall), p.main)
    rows, columns = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    open_front = rng.random() < 0.4
    for r in range(rows):
        for c in range(columns):
            x1, y1 = -wide + 2 * wide * c / columns + 0.04, -tall + 2 * tall * r / rows + 0.04
            x2, y2 = x1 + 2 * wide / columns - 0.08, y1 + 2 * tall / rows - 0.08
            if x2 - x1 < 0.05 or y2 - y1 < 0.05 or rng.random() < 0.15:
                continue
            middle, r_ = np.array([(x1 + x2) / 2, (y1 + y2) / 2]), min(x2 - x1, y2 - y1) / 2
            sk.fill(_box(x1, y1, x2, y2), p.black if open_front else shade(p.main, between(rng, 0.8, 1.2)))
            if open_front:
                for x in np.arange(x1 + 0.02, x2 - 0.05, between(rng, 0.06, 0.12)):
                    if rng.random() < 0.8:
                        top = y2 - (y2 - y1) * between(rng, 0.4, 0.9)
                        sk.fill(
                            _box(x, top, x + 0.05, y2),
                            hsv(rng.uniform(), between(rng, 0.2, 0.9), between(rng, 0.3, 1)),
                        )
            elif rng.random() < 0.6:
                sk.fill(
                    _disc(middle, r_ * between(rng, 0.2, 0.9)), p.light if rng.random() < 0.5 else p.accent
                )
                if rng.random() < 0.5:
                    sk.stroke([middle, middle + polar(between(rng, 0, 360), r_ * 0.6)], p.black, 0.03)
    for x in (-wide * 0.85, wide * 0.85) if rng.random() < 0.5 else ():
        sk.fill(_box(x - 0.05, tall, x + 0.05, tall + between(rng, 0.1, 0.5)), p.second)


def _seat(sk: Sketch, rng: np.random.Generator, p: Palette) -> None:
    """Chair, bench, table, bed: legs, a slab in perspective, a back, a cloth."""
    wide, deep, leg = between(rng, 0.3, 1.0), between(rng, 0.1, 0.4), between(rng, 0.2, 0.8)
    slab = np.array([[-wide, 0], [-wide + deep, -deep * 0.6], [wide + deep * 0.3, -deep * 0.6], [wide, 0]])
    if rng.random() < 0.6:
        tall = between(rng, 0.3, 1.0)
        back = slab[[1, 2]]
        panel = np.vstack([back, back[::-1] - [0, tall]])
        sk.fill(curve(panel, 5) if rng.random() < 0.3 else panel, p.second)
        for k in range(int(rng.integers(0, 5))):
            x = back[0, 0] + (back[1, 0] - back[0, 0]) * (k + 1) / 6
            sk.stroke([[x, back[0, 1]], [x, back[0, 1] - tall * 0.9]], shade(p.second, 0.6), 0.03)
    for x, y in (*slab[[1, 2]].tolist(), *slab[[0, 3]].tolist()):
        sk.fill(
            tube([[x * 0.95, y], [x * between(rng, 0.85, 1.05), y + leg]], [0.05, between(rng, 0.02, 0.06)]),
            shade(p.main, 0.8),
        )
    sk.fill(slab, p.main)
    sk.fill(_box(-wide, 0, wide, between(rng, 0.04, 0.2)), shade(p.main, 0.85))


def _vessel(sk: Sketch, rng: np.random.Generator, p: Palette) -> None:
    """Turned on a wheel: vase, jug, bottle, lamp, goblet, column, bell; bands, a handle."""
    n = int(rng.integers(4, 8))
    half = rng.uniform(0.08, 0.5, n)
    y = np.linspace(-between(rng, 0.5, 1.2), between(rng, 0.5, 1), n)
    right = curve(np.stack([half, y], 1), 6, closed=False)
    if rng.random() < 0.4:
        loop = np.array(
            [[half[1], y[1]], [half.max() + 0.25, y[1]], [half.max() + 0.2, y[-2]], [half[-2], y[-2]]]
        )
        sk.fill(tube(loop, [0.05, 0.05]), p.second)
    right[:, 0] = np.maximum(right[:, 0], 0.04)
    sk.fill(np.vstack([right, right[::-1] * [-1, 1]]), p.main)
    for _ in range(int(rng.integers(0, 4))):
        i = int(rng.integers(0, len(right) - 4))
        band = right[i : i + int(rng.integers(2, 5))]
        sk.fill(np.vstack([band, band[::-1] * [-1, 1]]), p.accent if rng.random() < 0.5 else p.second, BARE)
    if rng.random() < 0.5:
        sk.stroke(right[2:-2] * [-0.6, 1], p.white, 0.04)


def _tool(sk: Sketch, rng: np.random.Generator, p: Palette) -> None:
    """What is held or leans on a wall: sword, axe, broom, umbrella, key, ladder, anchor, sign."""
    kind = int(rng.integers(5))
    handle = shade(p.second, between(rng, 0.7, 1.2))
    if kind == 0:  # ladder, fence, grid
        wide, n = between(rng, 0.15, 0.5), int(rng.integers(4, 10))
        for k in range(n):
            sk.fill(_box(-wide, -1 + 2 * (k + 0.3) / n, wide, -1 + 2 * (k + 0.6) / n), handle)
        for x in (-wide, wide):
            sk.fill(_box(x - 0.05, -1, x + 0.05, 1), p.main)
        return
    sk.fill(tube([[0, -0.3], [rng.normal(0, 0.05), 1]], [between(rng, 0.03, 0.07)] * 2), handle)
    if kind == 1:  # blade
        w, guard = between(rng, 0.06, 0.2), between(rng, 0.15, 0.4)
        sk.fill(
            curve([[-w, 0.2], [-w, -0.6], [between(rng, -0.2, 0.2), -1.1], [w, -0.6], [w, 0.2]], 4), p.light
        )
        sk.fill(_box(-guard, 0.18, guard, 0.28), p.accent)
    elif kind == 2:  # head of a hammer, an axe, a broom
        spread, high = between(rng, 0.15, 0.5), between(rng, 0.2, 0.5)
        sk.fill(
            [
                [-0.1, -0.3],
                [-spread, -0.3 - high],
                [spread * between(rng, 0.2, 1), -0.35 - high],
                [0.12, -0.3],
            ],
            p.main,
        )
    elif kind == 3:  # canopy
        n, r, low = int(rng.integers(3, 8)), between(rng, 0.5, 0.9), np.array([0.0, 0.2])
        for k in range(n):
            a, b = polar(180 + 180 * k / n, r), polar(180 + 180 * (k + 1) / n, r)
            sk.fill(
                [[0, -0.3 - r * 0.2], a - low, 0.9 * (a + b) / 2 - low, b - low],
                p.main if k % 2 else p.accent,
            )
    else:  # board with writing
        w, h = between(rng, 0.3, 0.8), between(rng, 0.2, 0.5)
        sk.fill(_box(-w, -0.3 - 2 * h, w, -0.3, between(rng, -0.1, 0.1)), p.main)
        _write(sk, rng, p, (-w * 0.85, -0.3 - 1.7 * h, w * 0.85, -0.3 - 0.3 * h))


def _write(
    sk: Sketch, rng: np.random.Generator, p: Palette, place: tuple[float, float, float, float]
) -> None:
    """Signs that look like letters: two to four strokes each between the points of a small grid."""
    x1, y1, x2, y2 = place
    rows = int(rng.integers(1, 4))
    tall = (y2 - y1) / rows
    colour = p.black if rng.random() < 0.5 else p.white if rng.random() < 0.5 else p.accent
    step = tall * between(rng, 0.5, 0.9)
    bold = tall * between(rng, 0.08, 0.2)
    for row in range(rows):
        for x in np.arange(x1, x2 - step * 0.7, step):
            if rng.random() < 0.12:
                continue
            spots = rng.integers(0, 3, (int(rng.integers(3, 6)), 2)) / 2 * [step * 0.7, tall * 0.7]
            for a, b in pairwise(spots):
                if np.abs(a - b).sum() > 0:
                    sk.stroke(np.array([a, b]) + np.array([x, y1 + row * tall]), colour, bold)


def _lettering(sk: Sketch, rng: np.random.Generator, p: Palette) -> None:
    """A title: lines of writing alone, or on a plate."""
    wide, tall = 1.0, between(rng, 0.15, 0.8)
    if rng.random() < 0.4:
        sk.fill(
            blob(rng, (0, 0), wide * 1.3, tall * 1.4, 0.03)
            if rng.random() < 0.5
            else _box(-1.1, -tall * 1.2, 1.1, tall * 1.2),
            p.main,
        )
    _write(sk, rng, p, (-wide, -tall, wide, tall))


PROPS: dict[str, Callable[[Sketch, np.random.Generator, Palette], None]] = {
    "boat": _boat,
    "chain": _chain,
    "wagon": _wagon,
    "cabinet": _cabinet,
    "seat": _seat,
    "vessel": _vessel,
    "tool": _tool,
    "lettering": _lettering,
    **NATURE,
}
