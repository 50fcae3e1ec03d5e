"""Heads of cel animals, each with what a painter shows of a face: beak, jaws, muzzle, eyes, hair, hat."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from engines.train.sprites.cels import Colour, Floats, Palette, Sketch, blob, curve, shade, turned


def eyes(sk: Sketch, rng: np.random.Generator, spots: ArrayLike, r: float, p: Palette) -> None:
    """White or coloured balls with pupils, or bare dots, at (n, 2) places; all alike, looking one way."""
    ball = None if rng.random() < 0.25 else p.white if rng.random() < 0.75 else p.accent
    narrow, look = rng.uniform(0.7, 1.1), rng.uniform(-0.35, 0.35, 2) * r
    for at in np.asarray(spots, np.float64).reshape(-1, 2):
        g = sk.group()
        if ball:
            sk.fill(blob(rng, at, r * narrow, r, 0.02), ball, g)
            sk.fill(blob(rng, at + look, r * 0.45, r * 0.5, 0.02), (15, 12, 15), sk.group())
        else:
            sk.fill(blob(rng, at, r * 0.6, r * 0.7, 0.02), (15, 12, 15), g)
        sk.face(at + np.array([[-r, -r], [r, r]]))


def bird_head(
    sk: Sketch,
    rng: np.random.Generator,
    at: ArrayLike,
    r: float,
    p: Palette,
    angle: float = 0.0,
    group: int | None = None,
) -> None:
    """In profile towards +x, turned by ``angle``: hooked, straight or wide beak, open or closed; crest."""

    def here(points: ArrayLike) -> Floats:
        return turned(points, angle, at, r)

    skin = p.light if rng.random() < 0.5 else p.main if rng.random() < 0.6 else p.second
    long = rng.uniform(0.8, 1.5)
    gape = rng.uniform(0.2, 0.6) if rng.random() < 0.35 else 0.0
    kind = int(rng.integers(3))
    if rng.random() < 0.35:  # crest or ruff of feathers
        k = int(rng.integers(2, 5))
        tips = [
            here(
                [
                    [-0.4 - 0.5 * j / k, -0.7 + 0.5 * j / k],
                    [-1.2 - 0.3 * j / k, -1.5 + 0.9 * j / k],
                    [-0.9, 0.1],
                ]
            )
            for j in range(k)
        ]
        g = sk.group()
        for tip in tips:
            sk.fill(tip, p.main, g)
    lower = np.array([[0.4, 0.2], [0.8 + 0.7 * long, 0.35], [0.6, 0.65]])
    if kind == 2:
        lower = np.array([[0.4, 0.1], [0.7 + 1.1 * long, 0.3], [0.6 + 0.9 * long, 0.6], [0.5, 0.65]])
    sk.fill(turned(lower, angle + gape, at, r), shade(p.accent, 0.8))
    upper: ArrayLike = [[0.4, -0.5], [0.6 + 0.9 * long, 0.1], [0.6 + 0.85 * long, 0.3], [0.5, 0.4]]
    if kind == 0:
        e = 0.9 + long * 0.8
        upper = [[0.5, -0.6], [e - 0.3, -0.5], [e, 0.0], [e - 0.1, 0.75], [e - 0.35, 0.35], [0.5, 0.4]]
    elif kind == 2:
        upper = [[0.5, -0.5], [1.1, -0.2], [0.8 + 1.1 * long, -0.05], [0.8 + 1.1 * long, 0.3], [0.5, 0.35]]
    sk.fill(blob(rng, at, r * rng.uniform(0.9, 1.15), r * rng.uniform(0.85, 1.05)), skin, group)
    bill = curve(here(upper), 4) if kind != 1 else here(upper)
    sk.fill(bill, p.accent)
    eyes(sk, rng, here([[0.3, -0.3]]), r * rng.uniform(0.2, 0.36), p)
    sk.face(bill)


def owl_head(
    sk: Sketch, rng: np.random.Generator, at: ArrayLike, r: float, p: Palette, group: int | None = None
) -> None:
    """A bird, bat or cat that looks at us: round, two eyes, ears or tufts, beak or snout."""
    c = np.asarray(at, np.float64)
    if rng.random() < 0.6:
        tall, out = rng.uniform(1.1, 1.9), rng.uniform(0.6, 1.0)
        for s in (-1, 1):
            sk.fill(c + r * np.array([[s * 0.2, -0.8], [s * out, -tall], [s * 0.9, -0.2]]), p.main, group)
    sk.fill(blob(rng, c, r * rng.uniform(0.95, 1.2), r), p.main, group)
    if rng.random() < 0.6:
        sk.fill(blob(rng, c + np.array([0, 0.15 * r]), 0.8 * r, 0.7 * r), p.light, sk.group())
    size = rng.uniform(0.18, 0.38)
    eyes(sk, rng, c + r * np.array([[-0.4, -0.15], [0.4, -0.15]]), r * size, p)
    w = rng.uniform(0.12, 0.4)
    beak = c + r * np.array([[-w, 0.15], [w, 0.15], [0.0, 0.4 + w]])
    sk.fill(beak, p.accent)
    sk.face(beak)
    sk.face(c + np.array([[-0.6 * r, 0], [0.6 * r, 0.8 * r]]))


def serpent_head(
    sk: Sketch, rng: np.random.Generator, at: ArrayLike, r: float, p: Palette, angle: float = 0.0
) -> None:
    """In profile: long jaws open or closed, tongue, teeth, horns or ridge, nostril."""
    long, gape = rng.uniform(1.3, 2.4), rng.uniform(0.25, 0.65) if rng.random() < 0.55 else 0.05

    def here(points: ArrayLike, more: float = 0.0) -> Floats:
        return turned(points, angle + more, at, r)

    jaw = curve(
        here([[-0.9, 0.1], [0.2, 0.1], [long * 0.9, 0.1], [long * 0.85, 0.4], [0, 0.75], [-0.8, 0.7]], gape),
        4,
    )
    if gape > 0.2:
        mouth = here([[-0.3, 0.0], [long * 0.75, 0.0], *turned([[long * 0.7, 0.2]], gape)])
        sk.fill(mouth, (150, 40, 50) if p.accent[0] != p.accent[1] else (60, 60, 60))
    sk.fill(jaw, p.light if rng.random() < 0.4 else p.main)
    if gape > 0.2 and rng.random() < 0.6:
        t = here([[0, 0.2], [long * 0.6, 0.2], [long * 1.2, 0.45 + 0.3 * gape], [long * 1.5, 0.2]])
        sk.stroke(
            curve(t, 4, closed=False), (190, 40, 60) if p.accent[0] != p.accent[1] else (90, 90, 90), 0.14 * r
        )
    if rng.random() < 0.35:
        back = rng.uniform(1.0, 2.0)
        sk.fill(here([[-0.2, -0.6], [-back, -1.3], [-0.8, -0.3]]), p.accent)
    brow = rng.uniform(0.8, 1.15)
    skull = here(
        [
            [-1.0, 0.4],
            [-0.9, -0.6],
            [-0.1, -brow],
            [0.7, -0.5],
            [long * 0.8, -0.55],
            [long, -0.15],
            [long * 0.8, 0.15],
            [0.2, 0.25],
        ]
    )
    skull = curve(skull, 4)
    sk.fill(skull, p.main)
    if gape > 0.2 and rng.random() < 0.5:
        for x in (0.9, 0.7, 0.5):
            sk.fill(here([[long * x, 0.1], [long * x - 0.2, 0.1], [long * x - 0.1, 0.4]]), p.white)
    eyes(sk, rng, here([[0.15, -0.4]]), r * rng.uniform(0.2, 0.36), p)
    sk.fill(blob(rng, here([[long * 0.85, -0.25]])[0], 0.08 * r, 0.08 * r), p.black, sk.group())
    sk.face(here([[0, -0.6], [long, 0.2], [0.2, 0.7]]))
    sk.face(jaw[len(jaw) // 4 :])


def beast_head(
    sk: Sketch,
    rng: np.random.Generator,
    at: ArrayLike,
    r: float,
    p: Palette,
    muzzle: float,
    angle: float = 0.0,
    group: int | None = None,
) -> None:
    """A mammal's in profile towards +x: skull, muzzle of that length, ear, horn, nose, jaw."""

    def here(points: ArrayLike) -> Floats:
        return turned(points, angle, at, r)

    deep = rng.uniform(0.35, 0.6)
    tall, back = rng.uniform(1.2, 2.1), rng.uniform(0.1, 0.7)
    if rng.random() < 0.3:
        sk.stroke(curve(here([[0.1, -0.7], [0.1, -1.4], [0.6, -1.9]]), 4, closed=False), p.light, 0.28 * r)
    sk.fill(curve(here([[-0.5, -0.6], [-back, -tall], [0.15, -0.75]]), 4), p.second, group)
    if rng.random() < 0.4:  # jaws apart
        low = turned(
            [[-0.2, 0.3], [0.5, 0.4], [0.5 + 0.9 * muzzle, 0.45], [0.4 + 0.8 * muzzle, 0.8], [0.2, 0.9]],
            angle + 0.3,
            at,
            r,
        )
        sk.fill(curve(low, 4), p.second)
    m = 0.7 + muzzle
    head = [
        [-0.9, 0.5],
        [-0.95, -0.3],
        [-0.2, -0.95],
        [0.6, -0.6],
        [m * 0.75, -0.25],
        [m, 0.05],
        [m * 0.95, 0.1 + deep],
        [m * 0.5, 0.2 + deep],
        [0.1, 0.95],
    ]
    skull = curve(here(head), 4)
    sk.fill(skull, p.main, group)
    if rng.random() < 0.5:
        sk.fill(
            curve(
                here([[m * 0.6, 0.0], [m * 0.95, 0.05], [m * 0.92, 0.05 + deep], [m * 0.5, 0.15 + deep]]), 4
            ),
            p.light,
            sk.group(),
        )
    sk.fill(blob(rng, here([[m * 0.98, 0.02]])[0], 0.17 * r, 0.15 * r), p.black, sk.group())
    sk.stroke(here([[m * 0.9, 0.1 + 0.6 * deep], [m * 0.4, 0.15 + 0.5 * deep]]), p.black, 0.07 * r)
    eyes(sk, rng, here([[0.35, -0.35]]), r * rng.uniform(0.16, 0.3), p)
    sk.face(here([[0.3, -0.6], [m, 0.0], [0.3, 0.9]]))


def human_head(
    sk: Sketch, rng: np.random.Generator, at: ArrayLike, r: float, p: Palette, view: str, cloth: Colour
) -> None:
    """Man-like, seen from the "front", the "side" (towards +x) or the "back"; hair, beard, hat or bare."""
    c = np.asarray(at, np.float64)
    tall = rng.uniform(1.0, 1.3)
    hair = p.second if rng.random() < 0.5 else shade(p.main, rng.uniform(0.3, 0.8))
    skin = p.light
    if view == "back":
        g = sk.group()
        for s in (-1, 1):
            sk.fill(blob(rng, c + np.array([s * r, 0.1 * r]), 0.25 * r, 0.3 * r), skin, g)
        sk.fill(blob(rng, c, r, r * tall), hair if rng.random() < 0.7 else skin, g)
    elif view == "front":
        g = sk.group()
        for s in (-1, 1):
            sk.fill(blob(rng, c + np.array([s * r, 0]), 0.25 * r, 0.32 * r), skin, g)
        jaw = rng.uniform(0.5, 1.0)
        outline = [[-0.95, -0.4], [0, -tall], [0.95, -0.4], [jaw, 0.6], [0, tall], [-jaw, 0.6]]
        sk.fill(curve(c + r * np.array(outline), 4), skin, g)
        if rng.random() < 0.55:
            top = rng.uniform(-0.6, -0.2)
            sk.fill(
                curve(
                    c
                    + r
                    * np.array(
                        [
                            [-1.05, top + 0.3],
                            [-0.7, -0.9],
                            [0, -tall * 1.12],
                            [0.7, -0.9],
                            [1.05, top + 0.3],
                            [0.3, top - 0.2],
                            [-0.4, top],
                        ]
                    ),
                    4,
                ),
                hair,
            )
        if rng.random() < 0.4:
            beard = curve(
                c
                + r
                * np.array(
                    [
                        [-0.95, 0.0],
                        [-0.4, 0.45],
                        [0.4, 0.45],
                        [0.95, 0.0],
                        [0.7, 1.0],
                        [0, tall * rng.uniform(1.1, 1.9)],
                        [-0.7, 1.0],
                    ]
                ),
                4,
            )
            sk.fill(beard, hair)
        eyes(sk, rng, c + r * np.array([[-0.38, -0.12], [0.38, -0.12]]), r * rng.uniform(0.14, 0.24), p)
        for s in (-1, 1):
            drop = rng.uniform(-0.1, 0.25)
            sk.stroke(
                c + r * np.array([[s * 0.7, -0.4 - drop], [s * 0.15, -0.4]]), shade(hair, 0.5), 0.13 * r
            )
        nose = rng.uniform(0.15, 0.35)
        sk.fill(
            blob(rng, c + np.array([0, 0.25 * r]), nose * r, nose * r * 0.9), shade(skin, 0.88), sk.group()
        )
        wide = rng.uniform(0.2, 0.5)
        sk.stroke(
            curve(
                c + r * np.array([[-wide, 0.65], [0, 0.65 + rng.uniform(-0.12, 0.15)], [wide, 0.65]]),
                3,
                closed=False,
            ),
            (60, 25, 25),
            0.1 * r,
        )
        sk.face(c + r * np.array([[-0.7, -0.4], [0.7, tall * 0.95]]))
    else:
        nose = rng.uniform(1.2, 1.7)
        outline = [
            [-0.95, 0.2],
            [-0.8, -0.7],
            [0, -tall],
            [0.75, -0.65],
            [0.85, -0.2],
            [nose, 0.2],
            [0.85, 0.35],
            [0.85, 0.8],
            [0.4, tall],
            [-0.5, 0.8],
        ]
        sk.fill(curve(c + r * np.array(outline), 3), skin)
        sk.fill(
            curve(
                c
                + r
                * np.array(
                    [[-1.05, 0.5], [-1, -0.6], [0, -tall * 1.1], [0.7, -0.75], [0, -0.4], [-0.4, 0.3]]
                ),
                4,
            ),
            hair,
        )
        if rng.random() < 0.4:
            sk.fill(
                curve(
                    c
                    + r
                    * np.array(
                        [[-0.3, 0.2], [0.6, 0.5], [1.0, 0.6], [0.8, tall * rng.uniform(1.1, 1.8)], [0, 1.0]]
                    ),
                    4,
                ),
                hair,
            )
        eyes(sk, rng, c + r * np.array([0.5, -0.15]), r * 0.17, p)
        sk.face(c + r * np.array([[0.2, -0.35], [nose, tall * 0.95]]))
    if rng.random() < 0.4:  # hat
        brim, high = rng.uniform(1.2, 2.0), rng.uniform(0.6, 1.3)
        g = sk.group()
        crown = [
            [-0.95, -0.55],
            [-0.8, -0.6 - high],
            [0, -0.7 - high * rng.uniform(0.7, 1.2)],
            [0.8, -0.6 - high],
            [0.95, -0.55],
        ]
        sk.fill(curve(c + r * np.array(crown), 4), cloth, g)
        sk.fill(blob(rng, c + np.array([0, -0.6 * r]), brim * r, 0.25 * r), cloth, g)
