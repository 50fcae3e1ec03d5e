"""Clothes and patterns over a torso outline, in canvas units."""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np

from stream.cartoon.draw import Canvas, Color, Points, blob, ellipse, hose, lit, shaded
from stream.cartoon.model import Character, Pose


def _band(body: Points, top: float, bottom: float) -> Points:
    """The part of a torso outline between two heights: points outside are cut away, the order round it
    stays.
    """
    return body[(body[:, 1] >= top) & (body[:, 1] <= bottom)]


def _cover(
    canvas: Canvas, body: Points, top: float, bottom: float, color: Color, crotch: float = 0.0
) -> None:
    """Colour the torso between two heights; `crotch` adds a point that far below its lowest one."""
    points = _band(body, top, bottom)
    if len(points) < 3:
        return
    if crotch:
        low = int(np.argmax(points[:, 1]))
        points = points.copy()
        points[low, 1] += crotch
    canvas.raw(points, color)


def dress(
    canvas: Canvas,
    c: Character,
    pose: Pose,
    upper: float,
    lower: float,
    turn: float,
    way: float,
    body: Points,
) -> None:
    """Patterns and clothes over the torso."""
    high = lower - upper
    wide = (c.waist + c.belly) / 2 * (1 - 0.25 * turn)
    hip = c.hip / 2 * (1 - 0.25 * turn)
    front = not pose.back
    ahead = way * turn * (wide * 0.5 + c.belly * 0.4)
    if c.pattern == "stripes":
        for k in range(3):
            y = upper + high * (0.22 + 0.2 * k)
            _cover(canvas, body, y, y + high * 0.1, c.accent)
    elif c.pattern in ("dots", "spots"):
        spot = c.accent if c.pattern == "dots" else shaded(c.main, 0.35)
        for k in range(6):
            a = k * 2.4 + c.seed % 7
            x, y = ahead * 0.4 + cos(a) * wide * 0.5, upper + high * (0.5 + 0.28 * sin(a * 1.7))
            canvas.raw(ellipse(x, y, wide * 0.12, wide * 0.12, count=10), spot)
    if c.clothes in ("dress", "robe"):
        hem = lower + c.leg * (0.45 if c.clothes == "dress" else 0.88)
        sway = sin(2 * pi * pose.phase) * pose.stride * 0.03
        flare = max(hip * (1.7 if c.clothes == "dress" else 1.3), wide * 1.05)
        mid = ahead * c.belly * 2
        skirt = [
            (mid - wide * 0.9, upper + high * 0.62),
            (mid + wide * 0.9, upper + high * 0.62),
            (flare + sway, hem),
            (sway, hem + 0.015),
            (-flare + sway, hem),
        ]
        canvas.part(blob(skirt, 3), c.top)
        _cover(canvas, body, upper + high * 0.58, upper + high * 0.68, c.accent)
    elif c.clothes in ("shirt", "suit") and c.family in ("human", "toddler"):
        _cover(canvas, body, upper + high * 0.76, lower + 1.0, c.bottom, 0.03)
    elif c.clothes == "shorts":
        _cover(canvas, body, upper + high * 0.7, lower + 1.0, c.bottom, 0.03)
    elif c.clothes == "overalls":
        _cover(canvas, body, upper + high * 0.58, lower + 1.0, c.bottom, 0.03)
        bib = wide * 0.5 * (1 - 0.55 * turn)
        canvas.raw(
            blob(
                [
                    (ahead - bib, upper + high * 0.62),
                    (ahead - bib * 0.8, upper + high * 0.32),
                    (ahead + bib * 0.8, upper + high * 0.32),
                    (ahead + bib, upper + high * 0.62),
                ],
                1,
            ),
            c.bottom,
        )
        for side in (-1, 1):
            top, low = (
                (side * c.shoulder * 0.26 + ahead * 0.3, upper + 0.01),
                (ahead + side * bib * 0.7, upper + high * 0.36),
            )
            canvas.raw(
                hose(top, ((top[0] + low[0]) / 2 + side * 0.01, (top[1] + low[1]) / 2), low, 0.03), c.bottom
            )
            if front:
                canvas.raw(ellipse(low[0], low[1], 0.016, 0.016, count=10), lit(c.accent, 0.3))
    elif c.clothes == "coat":
        hem = lower + c.leg * 0.35
        shoulder = c.shoulder * (0.42 - 0.1 * turn)
        mid = ahead * c.belly * 2
        coat = [
            (-shoulder, upper + 0.02),
            (shoulder, upper + 0.02),
            (mid + wide * 1.08, upper + high * 0.6),
            (max(hip * 1.35, wide), hem),
            (-max(hip * 1.35, wide), hem),
            (mid - wide * 1.08, upper + high * 0.6),
        ]
        canvas.part(blob(coat, 3), c.top)
        if front:
            canvas.stroke([(ahead, upper + 0.03), (ahead, lower), (ahead * 0.6, hem)], 0.012)
    if front and c.pattern == "belly" and c.clothes in ("none", "shorts"):
        canvas.raw(
            ellipse(ahead * 0.8, upper + high * 0.6, wide * (0.7 - 0.25 * turn), high * 0.34), c.second
        )
    elif front and c.pattern == "buttons":
        for k in range(3):
            canvas.raw(ellipse(ahead, upper + high * (0.25 + 0.2 * k), 0.016, 0.016, count=10), c.accent)
    elif front and c.pattern in ("emblem", "panel"):
        box = 5.0 if c.pattern == "panel" else 2.0
        canvas.part(
            ellipse(
                ahead * 0.8, upper + high * 0.4, wide * 0.45 * (1 - 0.4 * turn), high * 0.17, exponent=box
            ),
            c.accent,
            shade=False,
            line=0.6,
        )
        if c.pattern == "panel":
            for k in (-1, 0, 1):
                canvas.raw(
                    ellipse(
                        ahead * 0.8 + k * wide * 0.2 * (1 - 0.4 * turn),
                        upper + high * 0.4,
                        0.016,
                        0.018,
                        count=8,
                    ),
                    lit(c.accent, 0.7),
                )
    _wear(canvas, c, upper, high, wide, ahead, turn, way, body, front)


def _wear(
    canvas: Canvas,
    c: Character,
    upper: float,
    high: float,
    wide: float,
    ahead: float,
    turn: float,
    way: float,
    body: Points,
    front: bool,
) -> None:
    """Ties, scarves, belts and bags."""
    lower = upper + high
    if c.clothes == "suit" and front:
        canvas.raw(
            blob(
                [
                    (ahead - c.shoulder * 0.16, upper),
                    (ahead + c.shoulder * 0.16, upper),
                    (ahead, upper + high * 0.5),
                ],
                1,
            ),
            (248, 248, 244),
        )
        canvas.raw(
            blob(
                [
                    (ahead - 0.015, upper + 0.01),
                    (ahead + 0.015, upper + 0.01),
                    (ahead + 0.022, upper + high * 0.36),
                    (ahead - 0.022, upper + high * 0.36),
                ],
                1,
            ),
            c.accent,
        )
    if c.extra in ("scarf", "collar"):
        canvas.part(ellipse(0.0, upper + 0.005, c.shoulder * 0.36 + 0.02, 0.032), c.accent, shade=False)
        if c.extra == "scarf":
            canvas.limb(
                (ahead * 0.6 + 0.03, upper + 0.02),
                (ahead * 0.6 + 0.05, upper + 0.08),
                (ahead * 0.6 + 0.03 - way * turn * 0.1, upper + high * 0.5),
                0.05,
                c.accent,
                0.055,
                shade=False,
            )
    elif c.extra == "tie" and front:
        canvas.part(
            blob(
                [
                    (ahead - 0.014, upper + 0.01),
                    (ahead + 0.014, upper + 0.01),
                    (ahead + 0.026, upper + high * 0.5),
                    (ahead, upper + high * 0.6),
                    (ahead - 0.026, upper + high * 0.5),
                ],
                1,
            ),
            c.accent,
            shade=False,
            line=0.6,
        )
    elif c.extra == "bowtie" and front:
        for side in (-1, 1):
            canvas.part(
                blob(
                    [
                        (ahead, upper + 0.025),
                        (ahead + side * 0.06, upper - 0.005),
                        (ahead + side * 0.06, upper + 0.055),
                    ],
                    1,
                ),
                c.accent,
                shade=False,
                line=0.7,
            )
    elif c.extra == "belt":
        _cover(canvas, body, upper + high * 0.72, upper + high * 0.83, shaded(c.bottom, 0.5))
        if front:
            canvas.raw(
                ellipse(ahead, upper + high * 0.775, 0.024, high * 0.055, exponent=5),
                (232, 196, 70) if not c.look.grey else (200, 200, 200),
            )
    elif c.extra == "bag":
        canvas.stroke(
            [(-c.shoulder * 0.35, upper + 0.02), (0.0, upper + high * 0.5), (wide * 0.9, lower - 0.02)],
            0.02,
            shaded(c.accent, 0.4),
        )
        canvas.part(ellipse(wide * 0.9, lower, 0.06, 0.055, exponent=4), c.accent)
