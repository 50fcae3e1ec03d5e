"""How creatures and things are built, the computer-animated family of the training pictures.

A creature is a heap of ellipsoids (trunk, head, limbs and tails as chains of spheres) turned about its
vertical axis, painted front to back with a light, fur or cloth, or with flat cel tones and an ink line.
What matters to a detector is that heaps of very different build share limbs, a head, eyes, and one
light.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass
class _Heap:
    """Ellipsoids so far: x, y (down), z (to the viewer), rx, ry, rz, r, g, b, fur, pattern, part."""

    rows: list[list[float]] = field(default_factory=list)
    part: int = 0
    fur: float = 0.0

    def ball(
        self,
        at: Floats,
        radius: float | tuple[float, float, float],
        color: Floats,
        fur: float | None = None,
        pattern: float = 0.0,
    ) -> None:
        rx, ry, rz = radius if isinstance(radius, tuple) else (radius, radius, radius)
        self.rows.append(
            [float(at[0]), float(at[1]), float(at[2]), rx, ry, rz]
            + [float(c) for c in color]
            + [self.fur if fur is None else fur, pattern, float(self.part)]
        )

    def chain(
        self, points: list[Any], radii: list[float], color: Floats, end: Floats | None = None, **kw: float
    ) -> None:
        """Spheres along a bent line through ``points``; ``end`` colours its last quarter."""
        self.part += 1
        line = np.array(points, np.float32)
        steps = 20
        t = np.linspace(0, len(points) - 1, steps)
        for n, value in enumerate(t):
            i = min(int(value), len(points) - 2)
            share = value - i
            share = share * share * (3 - 2 * share) if len(points) > 2 else share
            at = line[i] * (1 - share) + line[i + 1] * share
            radius = radii[i] * (1 - share) + radii[i + 1] * share
            late = end is not None and n >= steps - 5
            if late and n == steps - 5:
                self.part += 1
            self.ball(at, float(radius), end if late and end is not None else color, **kw)


def _vec(x: float, y: float, z: float = 0.0) -> Floats:
    return np.array([x, y, z], np.float32)


def _color(rng: np.random.Generator, dull: float = 0.5) -> Floats:
    """A colour 0..1; ``dull`` is the chance of a fur tone: greys, browns, creams."""
    if rng.random() < dull:
        base = rng.uniform(0.25, 1.0) if rng.random() < 0.8 else rng.uniform(0.06, 0.3)
        warm = rng.uniform(-0.02, 0.28) * base
        color = np.array([base + warm * 0.5, base, base - warm], np.float32)
    else:
        h, s, v = rng.random() * 6, rng.uniform(0.3, 0.95), rng.uniform(0.3, 1)
        k = (np.array([5.0, 3.0, 1.0]) + h) % 6
        color = (v - v * s * np.clip(np.minimum(k, 4 - k), 0, 1)).astype(np.float32)
    return np.clip(color, 0.02, 0.98)


def _head(rng: np.random.Generator, heap: _Heap, at: Floats, r: float, skin: Floats, human: bool) -> None:
    u = rng.uniform
    heap.part += 1
    tall = u(0.85, 1.2)
    heap.ball(at, (r * u(0.85, 1.2), r * tall, r * u(0.85, 1.1)), skin, fur=0.0 if human else None)
    pale = np.clip(skin * u(1.0, 1.5) + u(0, 0.15), 0, 1).astype(np.float32)
    if rng.random() < 0.6:  # cheeks or jowls
        for side in (-1, 1):
            heap.ball(at + _vec(side * r * 0.45, r * 0.35, r * 0.45), r * u(0.3, 0.55), pale)
    long = u(0.1, 0.8) if not human else u(0, 0.25)
    nose = _color(rng, 0.8) * 0.4 if not human else np.clip(skin * u(0.8, 1.05), 0, 1).astype(np.float32)
    heap.ball(
        at + _vec(0, r * u(0.2, 0.4), r * (0.75 + long * 0.4)),
        (r * u(0.2, 0.5), r * u(0.2, 0.4), r * (0.2 + long)),
        pale,
    )
    heap.part += 1
    heap.ball(at + _vec(0, r * u(0.05, 0.3), r * (1.0 + long * 1.2)), r * u(0.08, 0.25), nose, fur=0)
    if rng.random() < 0.7:
        dark = np.array([u(0.1, 0.4), 0.05, 0.05], np.float32)
        heap.ball(
            at + _vec(0, r * u(0.5, 0.7), r * (0.75 + long * 0.3)),
            (r * u(0.15, 0.5), r * u(0.05, 0.3), r * 0.15),
            dark,
            fur=0,
        )
        if rng.random() < 0.4:
            heap.ball(
                at + _vec(0, r * 0.5, r * (0.85 + long * 0.4)),
                (r * 0.15, r * 0.08, r * 0.1),
                _vec(0.95, 0.93, 0.88),
                fur=0,
            )
    size, apart, high = r * u(0.13, 0.36), r * u(0.28, 0.5), -r * u(0.0, 0.4)
    white = _vec(0.95, 0.95, 0.92) if rng.random() < 0.8 else _color(rng, 0.2)
    iris = _color(rng, 0.3) * 0.5
    look = _vec(u(-0.3, 0.3), u(-0.3, 0.3))
    dot = rng.random() < 0.2
    for side in (-1, 1):
        heap.part += 1
        eye = at + _vec(side * apart, high, r * 0.78)
        if not dot:
            heap.ball(eye, (size, size * u(0.9, 1.5), size), white, fur=0)
        pupil = eye + look * size + _vec(0, 0, size * 0.75)
        heap.part += 1
        heap.ball(pupil, size * u(0.35, 0.6), iris * (0.3 if rng.random() < 0.7 else 1), fur=0)
        if rng.random() < 0.35:
            heap.ball(eye + _vec(0, -size * u(0.4, 0.9), size * 0.3), (size * 1.15, size * 0.6, size), skin)
        if rng.random() < 0.3:
            heap.ball(
                eye + _vec(0, -size * 1.6, size * 0.4),
                (size * 1.2, size * 0.25, size * 0.4),
                _color(rng, 0.9) * 0.5,
            )


def _ears_or_hair(
    rng: np.random.Generator, heap: _Heap, at: Floats, r: float, skin: Floats, human: bool
) -> None:
    u = rng.uniform
    kind = (
        rng.choice(["hair", "hat", "bald", "hair"])
        if human
        else rng.choice(["long", "round", "point", "none", "long"])
    )
    other = _color(rng, 0.5)
    if kind in ("long", "point", "round"):
        length = {"long": u(0.8, 1.9), "point": u(0.5, 0.9), "round": u(0.35, 0.6)}[kind] * r
        wide = {"long": u(0.15, 0.3), "point": u(0.25, 0.4), "round": u(0.35, 0.6)}[kind] * r
        for side in (-1, 1):
            lean = side * u(0.2, 1.0) if rng.random() < 0.8 else side * u(1.0, 2.2)
            root = at + _vec(side * r * 0.55, -r * 0.65, 0)
            tip = root + _vec(np.sin(lean), -np.cos(lean)) * length
            mid = (root + tip) / 2 + _vec(u(-0.2, 0.2), u(-0.2, 0.2)) * length
            heap.chain([root, mid, tip], [wide * 0.7, wide, wide * (0.2 if kind == "point" else 0.7)], skin)
            inner = np.clip(skin * 0.6 + _vec(0.4, 0.2, 0.2), 0, 1).astype(np.float32)
            heap.chain(
                [root + _vec(0, 0, wide * 0.6), mid + _vec(0, 0, wide * 0.6)], [wide * 0.4, wide * 0.6], inner
            )
    elif kind == "hair":
        heap.part += 1
        for _ in range(int(u(6, 24))):
            a, b = u(-2.4, 2.4), u(0, 1)
            heap.ball(
                at
                + _vec(
                    np.sin(a) * r * 0.85,
                    -abs(np.cos(a)) * r * 0.8 + (r * 0.4 * b if abs(a) > 1.2 else 0),
                    -r * u(-0.3, 0.6),
                ),
                r * u(0.2, 0.5),
                other,
                fur=0.5,
            )
    elif kind == "hat":
        heap.part += 1
        heap.ball(at + _vec(0, -r * 0.6, 0), (r * u(1.0, 1.7), r * 0.18, r * u(1, 1.5)), other, fur=0)
        heap.ball(
            at + _vec(0, -r * u(0.8, 1.2), 0),
            (r * 0.8, r * u(0.4, 0.9), r * 0.8),
            other if rng.random() < 0.6 else _color(rng),
            fur=0,
        )


def build(rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
    """Ellipsoids of a random creature in a random pose and view: (N, 12) rows as in the heap, and which of
    them make up the face (head, muzzle, eyes; ears and hair are not counted)."""
    u = rng.uniform
    heap = _Heap(fur=float(u(0.3, 1)) if rng.random() < 0.6 else 0.0)
    family = rng.choice(["human", "biped", "biped", "biped", "four", "bird", "flyer", "blob"])
    human = family == "human"
    skin = (
        _color(rng, 0.8)
        if not human
        else np.clip(_vec(0.95, 0.72, 0.58) * u(0.35, 1.05) + u(-0.05, 0.05), 0, 1).astype(np.float32)
    )
    cloth, second = _color(rng, 0.2), _color(rng, 0.4)
    if human:
        heap.fur = 0.0
    dressed = human or rng.random() < 0.3
    top = cloth if dressed else skin
    legs = second if dressed and rng.random() < 0.8 else skin
    shoe = _color(rng, 0.7) * 0.7 if dressed else np.clip(skin * u(0.6, 1.2), 0, 1).astype(np.float32)
    hand = skin if rng.random() < 0.7 else _vec(0.95, 0.95, 0.95)
    pattern = float(rng.integers(1, 4)) if rng.random() < 0.3 else 0.0
    r = float(u(0.13, 0.34))  # head radius
    body = (float(u(0.12, 0.42)), float(u(0.25, 0.5)), float(u(0.12, 0.36)))
    belly = np.clip(top * u(0.9, 1.4) + u(0, 0.2), 0, 1).astype(np.float32)
    heap.part += 1
    lay = family == "four" or (family == "bird" and rng.random() < 0.5)
    if lay:
        body = (body[0] * 0.8, body[0] * u(0.7, 1.1), body[1] * 1.1)
    heap.ball(_vec(0, 0), body, top, pattern=pattern, fur=0.0 if dressed else None)
    heap.ball(
        _vec(0, -body[1] * 0.6, body[2] * (0.5 if lay else 0)),
        (body[0] * u(0.7, 1), body[1] * u(0.4, 0.7), body[2] * u(0.7, 1)),
        top,
        pattern=pattern,
        fur=0.0 if dressed else None,
    )
    if rng.random() < 0.5:
        heap.ball(
            _vec(0, body[1] * 0.15, body[2] * 0.3), (body[0] * 0.75, body[1] * 0.75, body[2] * 0.8), belly
        )
    limb = float(u(0.035, 0.12))
    leg = float(u(0.15, 0.55)) if family != "blob" else float(u(0.05, 0.2))
    feet = []
    rows_z = (-body[2] * 0.7, body[2] * 0.7) if family == "four" else (0.0,)
    if family != "flyer" or rng.random() < 0.3:
        for z in rows_z:
            for side in (-1, 1):
                hip = _vec(side * body[0] * 0.6, body[1] * 0.7, z)
                swing, spread = u(-0.9, 0.9), side * u(0, 0.35)
                knee = hip + _vec(np.sin(spread), np.cos(swing) * 0.9, np.sin(swing)) * leg * 0.5
                bend = swing - u(0, 0.9)
                foot = knee + _vec(np.sin(spread) * 0.3, np.cos(bend), np.sin(bend)) * leg * 0.5
                thick = limb * u(1, 1.7)
                heap.chain([hip, knee, foot], [thick * 1.3, thick, thick * 0.8], legs)
                heap.part += 1
                heap.ball(
                    foot + _vec(0, thick * 0.3, thick * 1.2),
                    (thick * 1.2, thick * 0.8, thick * u(1.6, 3)),
                    shoe,
                    fur=0,
                )
                feet.append(foot)
    wings = family in ("bird", "flyer")
    for side in (-1, 1):
        if family == "four":
            break
        shoulder = _vec(side * body[0] * 0.85, -body[1] * 0.6, 0)
        a, b = u(-0.6, 2.6), u(-1.5, 1.5)
        arm = float(u(0.25, 0.6))
        elbow = shoulder + _vec(side * np.sin(a), np.cos(a), u(-0.5, 0.7)) * arm * 0.5
        wrist = elbow + _vec(side * np.sin(a + b), np.cos(a + b), u(-0.4, 0.9)) * arm * 0.5
        if wings:
            span = float(u(0.25, 0.8))
            lift = u(-0.5, 1.4)
            tone = second if family == "flyer" else skin
            tip = shoulder + _vec(side * np.cos(lift), -np.sin(lift), -0.2) * span
            low = shoulder + _vec(side * np.cos(lift - 0.9), -np.sin(lift - 0.9), -0.2) * span * u(0.5, 0.9)
            heap.chain(
                [shoulder, (shoulder + tip) * np.float32(0.5), tip],
                [limb, span * u(0.15, 0.35), span * u(0.1, 0.3)],
                tone,
                pattern=float(rng.integers(0, 4)),
            )
            heap.chain([shoulder, low], [span * 0.1, span * u(0.1, 0.25)], tone)
        else:
            heap.chain(
                [shoulder, elbow, wrist], [limb * 1.1, limb, limb * 0.8], top if rng.random() < 0.7 else skin
            )
            heap.part += 1
            heap.ball(wrist, limb * u(1.0, 1.7), hand)
            for _ in range(int(u(0, 4))):
                heap.ball(wrist + _vec(u(-1, 1), u(-1, 1), u(0, 1)) * limb * 1.5, limb * 0.55, hand)
    if not human and rng.random() < 0.7:
        root = _vec(0, body[1] * 0.6, -body[2] * 0.9)
        thick = limb * u(0.5, 2.5)
        curl = [
            root,
            root + _vec(u(-0.4, 0.4), u(-0.3, 0.2), -u(0.1, 0.3)),
            root + _vec(u(-0.6, 0.6), u(-0.7, 0.2), -u(0.1, 0.5)),
        ]
        heap.chain(
            curl,
            [thick * 0.6, thick * u(0.6, 1.5), thick * u(0.2, 1.2)],
            skin,
            end=_color(rng, 0.8) if rng.random() < 0.3 else None,
        )
    neck = float(u(-0.1, 0.35)) * r if rng.random() < 0.85 else float(u(0.5, 2)) * r
    head_at = _vec(u(-0.05, 0.05), -body[1] - r * 0.75 - neck, body[2] * u(0.0, 0.3))
    if lay:
        head_at = _vec(0, -body[1] * u(0.2, 1.2) - r * 0.4 - max(neck, 0), body[2] * 0.95 + r * 0.4)
    if family == "blob":
        r = body[0] * u(0.7, 1.0)
        head_at = _vec(0, -body[1] * u(0.1, 0.5), 0)
    else:
        heap.chain(
            [_vec(0, -body[1] * 0.6, body[2] * (0.6 if lay else 0)), head_at],
            [limb * 1.6, limb * u(1.2, 2)],
            skin,
        )
    begin = len(heap.rows)
    if family == "bird":
        _head(rng, heap, head_at, r, skin, True)
        heap.chain(
            [head_at + _vec(0, r * 0.2, r * 0.8), head_at + _vec(0, r * u(0.2, 0.6), r * u(1.3, 2.4))],
            [r * u(0.2, 0.4), r * 0.06],
            _vec(0.95, u(0.5, 0.8), 0.1),
        )
    else:
        _head(rng, heap, head_at, r, skin, human)
    finish = len(heap.rows)
    _ears_or_hair(rng, heap, head_at, r, skin, human)
    rows = np.array(heap.rows, np.float32)
    face = np.zeros(len(rows), bool)
    face[begin:finish] = True
    # The head turns a little on its own, then everything turns about the vertical, tilts, and may lie down.
    rows[begin:, :3] = _turn(rows[begin:, :3] - head_at, u(-0.5, 0.5), u(-0.35, 0.35), u(-0.3, 0.3)) + head_at
    yaw = u(-1.6, 1.6) if rng.random() < 0.85 else u(1.6, 4.7)
    roll = u(-0.25, 0.25) if rng.random() < 0.85 else u(-1.7, 1.7)
    rows[:, :3] = _turn(rows[:, :3], yaw, u(-0.3, 0.3), roll)
    c, s = abs(np.cos(yaw)), abs(np.sin(yaw))
    rx, rz = rows[:, 3].copy(), rows[:, 5].copy()
    rows[:, 3] = np.sqrt((rx * c) ** 2 + (rz * s) ** 2)
    rows[:, 5] = np.sqrt((rx * s) ** 2 + (rz * c) ** 2)
    if abs(roll) > 0.8:
        rows[:, [3, 4]] = rows[:, [4, 3]]
    return rows, face


def build_clutter(rng: np.random.Generator) -> Floats:
    """Ellipsoids of a thing that is no character: stones, bush, post, fruit, cloud, log, furniture legs."""
    u = rng.uniform
    heap = _Heap(fur=float(u(0, 1)))
    color = _color(rng, 0.6)
    kind = rng.integers(0, 6)
    heap.part = 1
    if kind == 0:  # bush or heap of stones
        for _ in range(int(u(4, 30))):
            heap.part += int(rng.random() < 0.5)
            heap.ball(
                _vec(u(-0.5, 0.5), u(-0.35, 0.35), u(-0.3, 0.3)),
                (u(0.08, 0.25), u(0.06, 0.25), 0.15),
                np.clip(color * u(0.7, 1.3), 0, 1),
            )
    elif kind == 1:  # post, trunk, column
        x, wide = 0.0, float(u(0.05, 0.2))
        heap.chain(
            [_vec(x, 0.5), _vec(x + u(-0.1, 0.1), 0), _vec(x + u(-0.2, 0.2), -0.5)],
            [wide, wide * u(0.7, 1.1), wide * u(0.5, 1.2)],
            color,
        )
        for _ in range(int(u(0, 5))):
            heap.chain(
                [_vec(0, u(-0.5, 0.3)), _vec(u(-0.6, 0.6), u(-0.6, 0.2))], [wide * 0.5, wide * 0.2], color
            )
        if rng.random() < 0.4:
            leaf = _color(rng, 0.1)
            for _ in range(12):
                heap.ball(
                    _vec(u(-0.4, 0.4), u(-0.7, -0.3), u(-0.2, 0.2)),
                    u(0.1, 0.25),
                    np.clip(leaf * u(0.8, 1.2), 0, 1),
                )
    elif kind == 2:  # one smooth thing
        heap.ball(
            _vec(0, 0), (u(0.2, 0.5), u(0.2, 0.5), u(0.2, 0.5)), color, pattern=float(rng.integers(0, 4))
        )
        if rng.random() < 0.5:
            heap.chain([_vec(0, -0.3), _vec(u(-0.2, 0.2), -0.6)], [0.04, 0.03], _color(rng, 0.8))
    elif kind == 3:  # legs of furniture, fence
        for x in np.linspace(-0.45, 0.45, int(u(2, 6))):
            heap.chain([_vec(x, 0.45), _vec(x + u(-0.03, 0.03), u(-0.45, -0.1))], [0.04, 0.04], color)
        for y in (u(-0.3, 0), u(0, 0.3)):
            heap.chain([_vec(-0.5, y), _vec(0.5, y)], [u(0.03, 0.1), u(0.03, 0.1)], color)
    elif kind == 4:  # grass, leaves, ropes
        for _ in range(int(u(4, 16))):
            x = u(-0.5, 0.5)
            heap.chain(
                [_vec(x, 0.45), _vec(x + u(-0.2, 0.2), 0), _vec(x + u(-0.4, 0.4), u(-0.5, -0.1))],
                [0.03, 0.025, 0.008],
                np.clip(color * u(0.7, 1.3), 0, 1),
            )
    else:  # flower, lamp, wheel
        for a in np.linspace(0, 6.28, int(u(4, 10))):
            heap.ball(_vec(np.cos(a) * 0.25, np.sin(a) * 0.25), u(0.08, 0.16), color)
        heap.part += 1
        heap.ball(_vec(0, 0, 0.2), u(0.1, 0.2), _color(rng, 0.2))
        heap.chain([_vec(0, 0, -0.2), _vec(u(-0.2, 0.2), 0.8, -0.2)], [0.03, 0.03], _color(rng, 0.2))
    return np.array(heap.rows, np.float32)


def _turn(p: Floats, yaw: float, pitch: float, roll: float) -> Floats:
    cy, sy, cp, sp, cr, sr = (
        np.cos(yaw),
        np.sin(yaw),
        np.cos(pitch),
        np.sin(pitch),
        np.cos(roll),
        np.sin(roll),
    )
    x, y, z = p[:, 0] * cy + p[:, 2] * sy, p[:, 1], -p[:, 0] * sy + p[:, 2] * cy
    y, z = y * cp - z * sp, y * sp + z * cp
    x, y = x * cr - y * sr, x * sr + y * cr
    return np.stack([x, y, z], 1).astype(np.float32)
