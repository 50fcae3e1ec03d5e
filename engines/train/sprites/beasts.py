"""Hand-drawn cel animals, ogres and cloaked figures: what cartoons have besides round, neat heroes.

A detector that has seen only bipeds, blobs and shaded creatures overlooks a vulture with spread wings, a
coiled serpent, a giant as broad as tall or a dark figure from behind. The families here are drawn with the
cel painter's means of :mod:`engines.train.sprites.cels`; every call invents another animal.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from engines.train.sprites.cels import (
    BARE,
    Box,
    Bytes,
    Colour,
    Floats,
    Palette,
    Sketch,
    between,
    blob,
    curve,
    palette,
    polar,
    shade,
    sides,
    tube,
)
from engines.train.sprites.heads import beast_head, bird_head, eyes, human_head, owl_head, serpent_head
from engines.train.sprites.ogres import dark_figure, giant, limb
from engines.train.sprites.wings import winged

_LEAST_FACE = 8.0  # pixels of the longer side; under that a face is a dot
_WHOLE = 0.97  # of the drawn area in one piece, or it is drawn again


def draw_beast(rng: np.random.Generator, side: int = 176) -> tuple[NDArray[np.uint8], Box | None]:
    """A beast as straight-alpha RGBA uint8 (h, w, 4), h and w at most ``side``, cropped; and its face.

    The face is the box xyxy in the picture's pixels from eyes to chin or beak; None where none is seen (from
    behind) or where it is smaller than 8 pixels.
    """
    while True:
        sketch = Sketch()
        FAMILIES[str(rng.choice(list(FAMILIES), p=_CHANCES))](rng, sketch)
        ink = float(rng.choice([0.0, 0.5, 0.8, 1.2, 1.8]) * side / 176)
        rgba, face = sketch.paint(rng, side, ink, rng.random() < 0.4)
        seen = rgba[..., 3] > 20
        pieces, _ = label(seen, np.ones((3, 3)))
        sizes = np.bincount(pieces.ravel())[1:]
        if len(sizes) and sizes.max() >= _WHOLE * sizes.sum():
            break
    rgba = np.where((pieces == 1 + sizes.argmax())[..., None] | ~seen[..., None], rgba, 0).astype(np.uint8)
    return _cropped(rgba, face)


def _cropped(rgba: Bytes, face: Floats | None) -> tuple[Bytes, Box | None]:
    ys, xs = np.nonzero(rgba[..., 3] > 20)
    x0, y0, x1, y1 = int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1
    rgba = np.ascontiguousarray(rgba[y0:y1, x0:x1])
    if face is None:
        return rgba, None
    low = np.clip(face.min(0) - [x0, y0], 0, [x1 - x0, y1 - y0])
    high = np.clip(face.max(0) - [x0, y0], 0, [x1 - x0, y1 - y0])
    if float((high - low).max()) < _LEAST_FACE or float((high - low).min()) < 2:
        return rgba, None
    return rgba, (float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def _serpentine(rng: np.random.Generator, sk: Sketch) -> None:
    """Snakes, eels, worms, dragons without wings, long necks out of the water."""
    p = palette(rng, 0.2)
    steps = int(rng.integers(5, 9))
    shape = int(rng.choice([0, 0, 1, 1, 2, 3]))
    steps = 11 if shape == 1 else steps
    t = np.linspace(0, 1, steps)
    if shape == 0:  # lying or swimming in waves
        path = np.stack(
            [3 * t, rng.uniform(0.15, 0.6) * np.sin(t * rng.uniform(5, 11) + rng.uniform(0, 6))], 1
        )
    elif shape == 1:  # a coil the neck rises from
        turns = t * rng.uniform(6, 13)
        path = np.stack([np.cos(turns) * (1 - 0.5 * t), 0.4 * np.sin(turns) * (1 - 0.4 * t) - 0.3 * t], 1)
        path = np.vstack([path, path[-1] + np.array([[0.1, -0.5], [0.3, -1.0], [0.5, -1.3]])])
    elif shape == 2:  # upright S
        path = np.stack([rng.uniform(0.2, 0.5) * np.sin(t * rng.uniform(4, 7)), -2.2 * t], 1)
        path = np.vstack([[[-0.9, 0.25], [-0.4, 0.1]], path])
    else:  # wandering, over itself too
        turn = np.cumsum(rng.normal(rng.normal(0, 0.4), 0.55, steps))
        path = np.cumsum(0.5 * np.stack([np.cos(turn), np.sin(turn)], 1), 0)
    path = path + rng.normal(0, 0.04, path.shape)
    thick = between(rng, 0.09, 0.27)
    widths = thick * np.array([0.12, 0.6, 1.0, 1.05, 0.9, between(rng, 0.6, 0.9)])
    if rng.random() < 0.25:
        widths = widths[::-1] * [0.7, 1, 1, 1, 0.9, 0.8] + 0.04  # broad at the bottom: a neck
    mid, left, right = sides(path, widths, 4 if shape == 1 else 6)
    pattern = str(rng.choice(["plain", "stripes", "spots", "belly", "spines", "belly"]))
    if path[-1][0] < path[0][0]:
        left, right = right, left
    every = int(rng.integers(3, 6))
    line = p.black if rng.random() < 0.6 else shade(p.main, 0.6)
    outlined = rng.random() < 0.7
    skin = BARE if outlined else 0
    rough = 1.0 + 0.5 * (pattern == "spines")
    for k in range(len(mid) - 1):  # piece by piece, so that a loop passes over itself
        w = float(np.linalg.norm(left[k + 1] - right[k + 1])) / 2
        if pattern == "spines" and k % every == 0:
            sk.fill([left[k], mid[k] + (left[k + 1] - mid[k]) * (rough + 0.5), left[k + 1]], p.accent, skin)
        hide = p.second if pattern == "stripes" and k % every == 0 else p.main
        sk.fill(np.stack([left[k], left[k + 1], right[k + 1], right[k]]), hide, skin)
        a = np.linspace(0, 2 * np.pi, 9)[:-1]
        sk.fill(mid[k + 1] + w * np.stack([np.cos(a), np.sin(a)], 1), hide, skin)
        if pattern == "belly":
            sk.fill(
                np.stack(
                    [
                        mid[k] * 0.6 + right[k] * 0.4,
                        mid[k + 1] * 0.6 + right[k + 1] * 0.4,
                        right[k + 1],
                        right[k],
                    ]
                ),
                p.light,
                skin,
            )
            if k % every == 0:
                sk.stroke(np.stack([mid[k] * 0.6 + right[k] * 0.4, right[k]]), line, 0.08 * thick)
        if pattern == "spots" and k % every == 0:
            sk.fill(blob(rng, mid[k], 0.4 * w, 0.4 * w), p.second, skin)
        if outlined and k:
            sk.stroke(np.stack([left[k - 1], left[k]]), line, 0.1 * thick)
            sk.stroke(np.stack([right[k - 1], right[k]]), line, 0.1 * thick)
    ahead = mid[-1] - mid[-4]
    sk.turn(0.0, 1.0, 1.0 if ahead[0] >= 0 else -1.0)
    at = mid[-1] * [1.0 if ahead[0] >= 0 else -1.0, 1.0]
    angle = float(np.arctan2(ahead[1], abs(ahead[0])))
    r = thick * between(rng, 1.0, 1.7)
    serpent_head(sk, rng, at, r, p, angle * 0.4 + rng.normal(0, 0.2))
    sk.turn(rng.normal(0, 0.2), 1.0, float(rng.choice([-1, 1])))


def _quadruped(rng: np.random.Generator, sk: Sketch) -> None:
    """Horse, lion, wolf, cow, elephant, camel, lizard in profile, the legs in mid-gait."""
    p = palette(rng, 0.25)
    kind = str(rng.choice(["horse", "lion", "wolf", "cow", "elephant", "camel", "lizard"]))
    # depth of the body, length of the legs, neck, head's radius, muzzle, degrees of the neck
    deep, leg, neck, r, muzzle, lift = {
        "horse": (0.26, 0.65, 0.6, 0.15, 1.7, -50),
        "lion": (0.26, 0.45, 0.25, 0.2, 0.7, -30),
        "wolf": (0.22, 0.5, 0.3, 0.15, 1.2, -30),
        "cow": (0.34, 0.45, 0.25, 0.18, 1.2, -15),
        "elephant": (0.42, 0.5, 0.2, 0.27, 0.3, -25),
        "camel": (0.28, 0.7, 0.65, 0.13, 1.3, -40),
        "lizard": (0.2, 0.3, 0.35, 0.15, 1.8, -20),
    }[kind]
    deep, leg, neck, r = (v * between(rng, 0.8, 1.3) for v in (deep, leg, neck, r))
    rise = lift + rng.normal(0, 14)
    thick = deep * (0.5 if kind == "elephant" else between(rng, 0.28, 0.42))
    gait = rng.uniform(0, 2 * np.pi)
    stride = between(rng, 5, 40)
    far, g = shade(p.main, 0.75), sk.group()
    hoof = p.second if rng.random() < 0.5 else p.black

    def walk(x: float, phase: float, colour: Colour, group: int) -> None:
        swing = stride * np.sin(gait + phase)
        knee = between(rng, 5, 30) * (1 if x < 0 else -1) + max(0.0, stride * float(np.cos(gait + phase)))
        foot = limb(
            sk,
            [x, 0.4 * deep],
            (90 + swing - 0.4 * knee, 90 + swing + 0.5 * knee),
            (leg / 2 + 0.1, leg / 2),
            [thick * 1.4, thick * 0.8, thick * 0.6],
            colour,
            group,
        )
        sk.fill(
            blob(rng, foot + np.array([0.25 * thick, 0]), thick * 0.95, thick * 0.5),
            hoof if kind in ("horse", "cow", "camel") else colour,
            group,
        )

    walk(-0.42, 3.0, far, g)
    walk(0.42, 0.3, far, g)
    g = sk.group()
    if kind == "lizard":
        tail = np.cumsum(np.vstack([[[-0.4, 0]], rng.normal([-0.28, 0.04], 0.08, (4, 2))]), 0)
        sk.fill(tube(tail, [deep * 0.8, deep * 0.5, 0.05, 0.02]), p.main, g)
    else:
        tail = np.cumsum(np.vstack([[[-0.5, -0.4 * deep]], rng.normal([-0.1, 0.1], 0.09, (3, 2))]), 0)
        bushy = between(rng, 0.03, 0.12)
        sk.fill(tube(tail, [0.05, 0.03, bushy, 0.02]), p.main if rng.random() < 0.5 else p.second, g)
    start = np.array([0.45, -0.35 * deep])
    head = start + polar(rise, neck + r)
    sk.fill(
        tube(
            np.array([[0.25, 0], start + polar(rise + 20, 0.5 * neck), head]),
            [deep * 0.8, deep * 0.55, r * 0.8],
        ),
        p.main,
        g,
    )
    hump = between(rng, 0.5, 1.0) if kind == "camel" else 0.0
    back = [
        [-0.62, -0.1 * deep],
        [-0.45, -0.9 * deep],
        [0, -deep * (0.85 + hump)],
        [0.4, -deep],
        [0.62, -0.2 * deep],
        [0.5, 0.7 * deep],
        [0.05, deep * between(rng, 0.6, 0.95)],
        [-0.45, 0.75 * deep],
    ]
    sk.fill(curve(back), p.main, g)
    walk(-0.45, 0.0, p.main, g)
    walk(0.4, 3.3, p.main, g)
    if rng.random() < 0.35:
        for _ in range(int(rng.integers(3, 9))):  # patches or stripes
            at = [between(rng, -0.4, 0.4), between(rng, -0.5, 0.4) * deep]
            sk.fill(
                blob(rng, at, between(rng, 0.02, 0.12), between(rng, 0.15, 0.35) * deep, 0.15), p.second, 0
            )
    elif rng.random() < 0.3:
        sk.fill(
            curve(
                [
                    [-0.35, 0.65 * deep],
                    [0.1, 0.4 * deep],
                    [0.5, 0.4 * deep],
                    [0.45, 0.7 * deep],
                    [0.05, 0.75 * deep],
                ]
            ),
            p.light,
        )
    droop = between(rng, 0.1, 0.9)
    if kind == "lion" and rng.random() < 0.75:
        t = np.linspace(0, 2 * np.pi, 23)[:-1]
        ring = (1.6 + 0.25 * (np.arange(22) % 2) + rng.normal(0, 0.08, 22))[:, None]
        sk.fill(
            curve(head + np.array([-0.4 * r, 0.1 * r]) + r * ring * np.stack([np.cos(t), np.sin(t)], 1), 3),
            p.second,
        )
    elif kind in ("horse", "wolf", "camel") and rng.random() < 0.6:
        mane = [
            start + polar(rise, k * (neck + r) / 5) + polar(rise - 90, 0.35 * deep + 0.07 * (k % 2))
            for k in range(6)
        ]
        sk.fill(curve([*mane, head, start]), p.second)
    if kind == "lizard":
        serpent_head(sk, rng, head, r, p, between(rng, -0.2, 0.4))
    elif kind == "elephant":
        _elephant_head(rng, sk, head, r, p)
    else:
        beast_head(sk, rng, head, r, p, muzzle, droop * (0.4 if kind in ("lion", "wolf") else 1.0), g)
    sk.turn(
        rng.normal(0, 0.12) - (0.5 if rng.random() < 0.1 else 0),
        between(rng, 0.75, 1.1),
        float(rng.choice([-1, 1])),
    )


def _elephant_head(rng: np.random.Generator, sk: Sketch, at: Floats, r: float, p: Palette) -> None:
    trunk = at + r * np.array(
        [[0.5, 0.2], [1.2, 0.7], [1.3, 1.5], [1.2 + rng.normal(0, 0.4), 2.2], [1.6 + rng.normal(0, 0.4), 2.5]]
    )
    g = sk.group()
    sk.fill(tube(trunk, r * np.array([0.5, 0.35, 0.2])), p.main, g)
    sk.fill(blob(rng, at, r, r * 1.05), p.main, g)
    sk.fill(curve(at + r * np.array([[0.6, 0.6], [1.1, 1.0], [1.8, 0.8], [1.1, 0.75]])), p.white)
    sk.fill(
        blob(rng, at + np.array([-0.6 * r, 0.1 * r]), r * between(rng, 0.5, 0.9), r * between(rng, 0.8, 1.2)),
        shade(p.main, 0.88),
    )
    eyes(sk, rng, at + np.array([0.4 * r, -0.2 * r]), 0.17 * r, p)
    sk.face(at + r * np.array([[0.2, -0.4], [1.2, 1.0]]))


def _head_alone(rng: np.random.Generator, sk: Sketch) -> None:
    """A huge head on its neck, as when the frame shows no more."""
    p = palette(rng, 0.25)
    lean = polar(between(rng, 65, 130), between(rng, 1.3, 2.8))
    g = sk.group()
    neck = [0.15 * lean, 0.6 * lean + rng.normal(0, 0.15, 2), lean]
    thin, thick = between(rng, 0.4, 0.75), between(rng, 0.5, 1.3)
    kind = str(rng.choice(["bird", "bird", "serpent", "beast", "lion", "human", "owl"]))
    sk.fill(tube(neck, [thin, (thin + thick) / 2, thick]), p.light if kind == "human" else p.main, g)
    if kind == "lion":
        t = np.linspace(0, 2 * np.pi, 29)[:-1]
        ring = (1.5 + 0.3 * (np.arange(28) % 2) + rng.normal(0, 0.08, 28))[:, None]
        sk.fill(curve(ring * np.stack([np.cos(t), np.sin(t)], 1) - [0.2, 0], 3), p.second)
    angle = between(rng, -0.5, 0.6)
    if kind == "bird":
        bird_head(sk, rng, [0, 0], 1.0, p, angle, g)
    elif kind == "serpent":
        serpent_head(sk, rng, [0, 0], 1.0, p, angle)
    elif kind == "human":
        sk.fill(
            curve(
                [
                    lean + np.array([-1.6, 0.9]),
                    lean + np.array([-1.2, 0]),
                    lean * 0.75,
                    lean + np.array([1.2, 0]),
                    lean + np.array([1.6, 0.9]),
                ]
            ),
            p.main,
        )
        human_head(sk, rng, [0, 0], 1.0, p, str(rng.choice(["front", "side"])), p.second)
    elif kind == "owl" or (kind == "lion" and rng.random() < 0.5):
        owl_head(sk, rng, [0, 0], 1.0, p)
    else:
        beast_head(sk, rng, [0, 0], 1.0, p, between(rng, 0.4, 1.7), angle, g)
    sk.turn(rng.normal(0, 0.15), 1.0, float(rng.choice([-1, 1])))


FAMILIES: dict[str, Callable[[np.random.Generator, Sketch], None]] = {
    "winged": winged,
    "giants": giant,
    "dark figures": dark_figure,
    "serpentine": _serpentine,
    "quadrupeds": _quadruped,
    "heads": _head_alone,
}
_CHANCES = (0.35, 0.15, 0.15, 0.12, 0.13, 0.10)
