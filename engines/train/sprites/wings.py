"""Winged cel animals: birds, bats and dragons in flight, banking, diving, or perched with wings held out."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from engines.train.sprites.cels import (
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
    tube,
    turned,
)
from engines.train.sprites.heads import bird_head, owl_head, serpent_head


class _Wing:
    """One way of holding and feathering a wing; drawn twice, near and far or left and right.

    ``inner`` and ``outer`` are the degrees at which arm and hand point from the shoulder, ``trail`` those at
    which the innermost feathers point.
    """

    def __init__(
        self, rng: np.random.Generator, kind: str, span: float, inner: float, outer: float, trail: float
    ) -> None:
        self.rng, self.kind, self.span = rng, kind, span
        self.inner, self.outer, self.trail = inner, outer, trail
        self.chord = span * between(rng, 0.25, 0.5)
        self.fingers = int(rng.integers(3, 6)) if kind == "ribs" else int(rng.integers(6, 10))
        self.notch = {
            "fingers": between(rng, 0.25, 0.6),
            "scallops": between(rng, 0.05, 0.15),
            "ribs": 0.0,
        }[kind]
        self.sag = between(rng, 0.15, 0.4)
        self.tips = between(rng, 0.3, 0.5)
        self.covert = rng.random() < 0.45
        self.lines = rng.random() < 0.4
        self.spread = between(rng, 1.0, 2.0)

    def draw(
        self, sk: Sketch, at: ArrayLike, flip: float, colours: tuple[Colour, Colour], flat: bool, group: int
    ) -> None:
        """At the shoulder ``at``; ``flip`` -1 for the left one; ``flat``: one colour, no lines."""
        s = self.span
        wrist = polar(self.inner, (1 - self.tips) * 0.55 * s)
        hand = wrist + polar(self.outer, (1 - self.tips) * 0.5 * s)
        lead = curve(
            np.stack([np.zeros(2), 0.5 * wrist + polar(self.inner - 90, 0.03 * s), wrist, hand]),
            5,
            closed=False,
        )
        t = np.linspace(0, 1, self.fingers) ** 0.9
        angles = self.trail + (self.outer - self.trail) * t**self.spread
        reach = self.chord + (self.tips * s - self.chord) * t**1.3
        bases = np.stack([np.interp(t, np.linspace(0, 1, len(lead)), lead[:, k]) for k in (0, 1)], 1)
        if self.kind == "ribs":
            bases = np.vstack([bases[:1], np.repeat(wrist[None], self.fingers - 1, 0)])
            reach[1:] = np.linalg.norm(hand + polar(self.outer, reach[-1]) - wrist) * np.linspace(
                0.7, 1, self.fingers - 1
            )
        rays = np.stack([polar(float(a)) for a in angles])
        tips = bases + rays * reach[:, None]
        outline = [lead if self.kind != "ribs" else np.vstack([lead, tips[-1:]])]
        seams = []
        for k in range(self.fingers - 1, -1, -1):
            apart = tips[k] - tips[max(k - 1, 0)] if k else tips[1] - tips[0]
            if self.kind == "ribs":
                if k:
                    mid = 0.5 * (tips[k] + tips[k - 1])
                    low = mid + self.sag * (wrist - mid)
                    u = np.linspace(0, 1, 6)[:, None]
                    outline.append((1 - u) ** 2 * tips[k] + 2 * u * (1 - u) * low + u**2 * tips[k - 1])
                seams.append(np.stack([bases[k], tips[k]]))
                continue
            half = 0.36 * apart
            back = 0.1 * reach[k] * rays[k]
            feather = [
                tips[k] - back + half,
                tips[k] - 0.3 * back + 0.5 * half,
                tips[k] - 0.2 * back - 0.4 * half,
            ]
            outline.append(np.stack([*feather, tips[k] - 1.3 * back - half]))
            if k:
                depth = self.notch if t[k] > 0.45 else 0.12
                root = 0.5 * (bases[k] + bases[k - 1])
                mid = 0.5 * (tips[k] + tips[k - 1])
                outline.append((mid + depth * (root - mid))[None])
                seams.append(np.stack([mid + 0.55 * (root - mid), mid + depth * (root - mid)]))
        sk.fill(turned(np.vstack(outline), 0, at, flip=flip), colours[0], group)
        if flat:
            return
        if self.covert:
            inner = bases + rays * (reach * 0.45)[:, None]
            sk.fill(
                turned(np.vstack([lead, curve(inner[::-1], 4, closed=False)]), 0, at, flip=flip), colours[1]
            )
        if self.lines or self.kind == "ribs":
            for seam in seams:
                sk.stroke(turned(seam, 0, at, flip=flip), shade(colours[0], 0.6), 0.012 * s)


def _feet(sk: Sketch, rng: np.random.Generator, at: Floats, length: float, p: Palette, angle: float) -> None:
    """A bird's leg with its claws."""
    foot = at + polar(angle, length)
    g = sk.group()
    sk.fill(
        tube(
            [at, 0.5 * (at + foot) + rng.normal(0, 0.06 * length, 2), foot], [0.16 * length, 0.1 * length], 3
        ),
        p.accent,
        g,
    )
    for a in (-50, 0, 45):
        sk.fill(
            tube([foot, foot + polar(angle + a, 0.45 * length)], [0.11 * length, 0.04 * length], 3),
            p.accent,
            g,
        )


def winged(rng: np.random.Generator, sk: Sketch) -> None:
    """Birds, bats and dragons, in flight or perched."""
    p = palette(rng, 0.55)
    kind = str(rng.choice(["fingers", "fingers", "scallops", "ribs"]))
    flat = rng.random() < 0.55
    view = str(rng.choice(["spread", "spread", "spread", "perched", "side", "side"]))
    if flat:  # one mass: wings, body and tail differ hardly
        p.second = shade(p.main, between(rng, 0.85, 1.2))
    {"spread": _spread, "perched": _perched, "side": _aside}[view](rng, sk, p, kind, flat)


def _neck_and_head(
    rng: np.random.Generator,
    sk: Sketch,
    p: Palette,
    kind: str,
    at: Floats,
    reach: Floats,
    r: float,
    group: int,
) -> None:
    """A neck from ``at`` along ``reach`` with the head of a bird (or a dragon, a bat) turned to its side."""
    head = at + reach
    bare = rng.random() < 0.35
    bend = np.array([-reach[1], reach[0]]) * between(rng, -0.4, 0.4)
    neck = [at - 0.3 * reach, at + 0.5 * reach + bend, head]
    sk.fill(tube(neck, [0.95 * r, 0.6 * r, 0.7 * r]), p.light if bare else p.main, None if bare else group)
    if kind == "ribs" and rng.random() < 0.6:
        serpent_head(sk, rng, head, r, p, between(rng, -0.3, 0.5))
    elif kind == "ribs":
        owl_head(sk, rng, head, r, p, group)
    else:
        bird_head(sk, rng, head, r, p, between(rng, -0.4, 0.5), group)


def _tail_fan(
    sk: Sketch, rng: np.random.Generator, at: Floats, angle: float, size: float, colour: Colour, group: int
) -> None:
    half, count = between(rng, 8, 35), int(rng.integers(3, 6))
    for a in np.linspace(-half, half, count):
        tip = at + polar(angle + float(a), size * between(rng, 0.85, 1.0))
        sk.fill(
            tube([at, 0.6 * tip + 0.4 * at, tip], [0.1 * size, 0.16 * size, 0.13 * size], 3), colour, group
        )


def _spread(rng: np.random.Generator, sk: Sketch, p: Palette, kind: str, flat: bool) -> None:
    """Both wings wide, from above, below, before or behind; banked any way."""
    body = 1.0
    wide = between(rng, 0.16, 0.3)
    span = 0.5 * between(rng, 2.0, 6.0) * body
    inner, outer = between(rng, -55, 15), between(rng, -40, 45)
    wing = _Wing(rng, kind, span, inner, outer, between(rng, 75, 105))
    behind = rng.random() < 0.3
    g = sk.group()
    if kind == "ribs" and rng.random() < 0.5:
        tail = np.cumsum(np.vstack([[[0, 0.3]], rng.normal([0, 0.3], 0.15, (4, 2))]), 0)
        sk.fill(tube(tail, [wide * 0.7, 0.1, 0.06, 0.02]), p.main, g)
    else:
        _tail_fan(sk, rng, np.array([0, 0.35]), 90, between(rng, 0.3, 0.7), p.main if flat else p.second, g)
    tilt = rng.normal(0, 6)
    for s in (-1.0, 1.0):
        wing.inner, wing.outer = inner + s * tilt, outer + s * tilt
        wing.draw(sk, [s * wide * 0.4, -0.25], s, (p.main, p.second), flat, g)
    if not behind and rng.random() < 0.5:
        for s in (-1, 1):
            _feet(sk, rng, np.array([s * 0.12, 0.35]), between(rng, 0.15, 0.3), p, 90 - 15 * s)
    sk.fill(
        curve([[0, -0.5], [wide, -0.25], [wide * 0.9, 0.15], [0, 0.55], [-wide * 0.9, 0.15], [-wide, -0.25]]),
        p.main,
        g,
    )
    if not behind and not flat and rng.random() < 0.6:
        sk.fill(blob(rng, [0, 0], 0.65 * wide, 0.33), p.light)
    r = wide * between(rng, 0.55, 1.0)
    if behind:
        sk.fill(blob(rng, [0, -0.55], r, r * 1.1), p.main if rng.random() < 0.6 else p.light, sk.group())
    elif rng.random() < 0.35:
        owl_head(sk, rng, [0, -0.5 - 0.4 * r], r, p)
    else:
        reach = polar(between(rng, -120, -60), between(rng, 0.15, 0.6))
        _neck_and_head(rng, sk, p, kind, np.array([0, -0.4]), reach, r, g)
    bank = float(rng.choice([rng.normal(0, 0.25), rng.uniform(-1.7, 1.7), rng.uniform(0, 6.3)]))
    sk.turn(bank, between(rng, 0.7, 1.0), float(rng.choice([-1, 1])))


def _perched(rng: np.random.Generator, sk: Sketch, p: Palette, kind: str, flat: bool) -> None:
    """Upright, facing us or half turned, the wings arched up, held out or drooping."""
    wide = between(rng, 0.22, 0.42)
    inner = between(rng, -80, 20)
    wing = _Wing(
        rng, kind, between(rng, 0.8, 2.2), inner, inner + between(rng, 30, 120), between(rng, 80, 110)
    )
    g = sk.group()
    _tail_fan(sk, rng, np.array([0, 0.4]), 90, between(rng, 0.3, 0.5), p.second, g)
    for s in (-1.0, 1.0):
        _feet(sk, rng, np.array([s * 0.5 * wide, 0.45]), between(rng, 0.2, 0.35), p, 90 - 8 * s)
    for s in (-1.0, 1.0):
        wing.draw(sk, [s * wide * 0.55, -0.35], s, (p.main, p.second), flat, g)
    sk.fill(
        curve(
            [
                [0, -0.6],
                [wide * 0.8, -0.4],
                [wide, 0.1],
                [wide * 0.5, 0.55],
                [-wide * 0.5, 0.55],
                [-wide, 0.1],
                [-wide * 0.8, -0.4],
            ]
        ),
        p.main,
        g,
    )
    if not flat:
        sk.fill(blob(rng, [0, 0.1], 0.65 * wide, 0.38), p.light)
    r = between(rng, 0.14, 0.3)
    if rng.random() < 0.45:
        owl_head(sk, rng, [0, -0.55 - 0.5 * r], r, p)
    else:
        _neck_and_head(
            rng,
            sk,
            p,
            kind,
            np.array([0, -0.5]),
            polar(between(rng, -115, -50), between(rng, 0.15, 0.7)),
            r,
            g,
        )
    if rng.random() < 0.5:  # a ruff where the neck begins
        sk.fill(blob(rng, [0, -0.52], wide * 0.6, 0.1, 0.15), p.white if rng.random() < 0.5 else p.second)
    sk.turn(rng.normal(0, 0.1), between(rng, 0.8, 1.0), float(rng.choice([-1, 1])))


def _aside(rng: np.random.Generator, sk: Sketch, p: Palette, kind: str, flat: bool) -> None:
    """In flight from the side: wings up, level or down; gliding, climbing or diving."""
    deep = between(rng, 0.15, 0.28)
    span = between(rng, 0.9, 2.4)
    inner = float(rng.choice([rng.uniform(-120, -60), rng.uniform(-150, -110), rng.uniform(70, 120)]))
    down = inner > 0
    outer = inner + between(rng, -35, 35) + (20 if down else -25)
    trail = between(rng, 150, 185) if down else between(rng, -195, -165)
    wing = _Wing(rng, kind, span, inner, outer, trail)
    far = shade(p.main, between(rng, 0.6, 0.9))
    wing.inner, wing.outer = inner + between(rng, 10, 35), outer + between(rng, 5, 35)
    wing.draw(sk, [0.2, -0.05 if not down else 0.0], 1.0, (far, far), True, sk.group())
    wing.inner, wing.outer = inner, outer
    g = sk.group()
    if kind == "ribs" and rng.random() < 0.6:
        tail = np.cumsum(np.vstack([[[-0.3, 0]], rng.normal([-0.3, 0], 0.13, (4, 2))]), 0)
        sk.fill(tube(tail, [deep * 0.8, 0.12, 0.07, 0.02]), p.main, g)
    else:
        _tail_fan(sk, rng, np.array([-0.4, 0]), 180 + rng.normal(0, 10), between(rng, 0.3, 0.7), p.second, g)
    for _ in range(int(rng.integers(0, 3))):
        _feet(
            sk,
            rng,
            np.array([between(rng, -0.25, 0), deep * 0.7]),
            between(rng, 0.15, 0.3),
            p,
            between(rng, 70, 170),
        )
    sk.fill(
        curve(
            [[-0.55, 0], [-0.2, -deep * 0.8], [0.3, -deep], [0.55, -0.05], [0.35, deep], [-0.1, deep * 0.9]]
        ),
        p.main,
        g,
    )
    if not flat and rng.random() < 0.6:
        sk.fill(
            curve(
                [
                    [-0.3, deep * 0.4],
                    [0.3, deep * 0.1],
                    [0.45, 0.3 * deep],
                    [0.3, deep * 0.95],
                    [-0.1, deep * 0.85],
                ]
            ),
            p.light,
        )
    _neck_and_head(
        rng,
        sk,
        p,
        kind,
        np.array([0.45, 0]),
        polar(between(rng, -60, 15), between(rng, 0.15, 0.7)),
        deep * between(rng, 0.5, 1.0),
        g,
    )
    wing.draw(sk, [0.15, -0.05], 1.0, (p.main if flat else p.second, p.main), flat, g if flat else sk.group())
    sk.turn(
        rng.normal(0, 0.4) if rng.random() < 0.8 else between(rng, 0.6, 1.5), 1.0, float(rng.choice([-1, 1]))
    )
