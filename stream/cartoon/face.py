"""Faces on a skull turned about its vertical axis: eyes, brows, nose, muzzle, mouth, beard, glasses."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, sin

import numpy as np

from stream.cartoon.draw import Canvas, Color, Points, blob, ellipse, hose, lit, mix, shaded
from stream.cartoon.model import Character, Pose

_WHITE: Color = (252, 252, 248)
_MOUTH: Color = (92, 22, 34)
_TONGUE: Color = (222, 96, 104)


@dataclass(frozen=True)
class Ball:
    """The skull: centre and radii in canvas units; `yaw` radians, 0 to us, positive to the right, pi the
    back.
    """

    x: float
    y: float
    rx: float
    ry: float
    yaw: float

    def at(self, azimuth: float, up: float) -> tuple[float, float, float]:
        """A point on the skull: (x, y, cosine towards us), `up` -1 (chin) .. 1 (crown)."""
        ring = max(0.0, 1.0 - up * up * 0.6) ** 0.5
        turn = azimuth + self.yaw
        return self.x + self.rx * sin(turn) * ring, self.y - self.ry * up, cos(turn)


def _face_x(ball: Ball, reach: float) -> float:
    return ball.x + sin(ball.yaw) * ball.rx * reach


def draw_beard(canvas: Canvas, c: Character, ball: Ball) -> None:
    x, rx, ry = _face_x(ball, 0.35), ball.rx, ball.ry
    points = [
        (x - rx * 0.85, ball.y + ry * 0.1),
        (x, ball.y + ry * 0.35),
        (x + rx * 0.85, ball.y + ry * 0.1),
        (x + rx * 0.65, ball.y + ry * 0.95),
        (x, ball.y + ry * 1.4),
        (x - rx * 0.65, ball.y + ry * 0.95),
    ]
    canvas.part(blob(points), c.hair_color, fuzzy=True)


def draw_muzzle(canvas: Canvas, c: Character, pose: Pose, ball: Ball) -> tuple[float, float]:
    """Muzzle and mouth; returns the muzzle's x extent."""
    rx, ry, turn = ball.rx, ball.ry, abs(sin(ball.yaw))
    wide = max(0.3, cos(ball.yaw))
    beak = c.nose in ("beak", "hookbeak", "bill")
    x, y = _face_x(ball, 0.8), ball.y + ry * 0.45
    x1 = x2 = ball.x
    if c.muzzle > 0.12 and not beak:
        mx = rx * (0.42 * wide + (0.3 + 0.5 * c.muzzle) * turn)
        my = ry * (0.3 + 0.12 * c.muzzle)
        x = _face_x(ball, 0.5 + 0.55 * c.muzzle)
        y = ball.y + ry * 0.38
        if pose.mouth > 0.2:
            canvas.part(
                ellipse(x, y + my * 0.6, mx * 0.75, my * (0.5 + 0.6 * pose.mouth)), c.second, shade=False
            )
            canvas.raw(ellipse(x, y + my * 0.65, mx * 0.55, my * (0.3 + 0.6 * pose.mouth)), _MOUTH)
            canvas.raw(ellipse(x, y + my * (0.9 + 0.3 * pose.mouth), mx * 0.35, my * 0.3), _TONGUE)
        canvas.part(ellipse(x, y, mx, my), c.second, line=0.7 if canvas.line else 0.0)
        x1, x2 = x - mx, x + mx
        mouth_x, mouth_y, half = x + sin(ball.yaw) * mx * 0.3, y + my * 0.45, mx * 0.55
        if pose.mouth <= 0.2:
            _smile(canvas, c, pose, mouth_x, mouth_y, half, ry)
        if c.family in ("animal", "quadruped") and c.ear_size > 0.8 and c.ears == "long":
            canvas.raw(
                ellipse(mouth_x, mouth_y + ry * 0.16, rx * 0.1 * wide + 0.004, ry * 0.1, exponent=5), _WHITE
            )
    elif not beak:
        _smile(
            canvas,
            c,
            pose,
            _face_x(ball, 0.72),
            ball.y + ry * (0.5 if c.beard != "moustache" else 0.6),
            rx * 0.42 * wide,
            ry,
        )
    if c.beard == "moustache":
        for side in (-1, 1):
            canvas.part(
                hose(
                    (x, y - ry * 0.1),
                    (x + side * rx * 0.25, y - ry * 0.15),
                    (x + side * rx * 0.55 * wide, y + ry * 0.12),
                    rx * 0.24,
                    0.01,
                ),
                c.hair_color,
                shade=False,
            )
    elif c.beard == "goatee":
        canvas.part(
            ellipse(_face_x(ball, 0.65), ball.y + ry * 0.95, rx * 0.24 * wide, ry * 0.22),
            c.hair_color,
            shade=False,
        )
    elif c.beard == "stubble":
        canvas.raw(
            ellipse(_face_x(ball, 0.6), ball.y + ry * 0.74, rx * 0.5 * wide, ry * 0.08), shaded(c.main, 0.25)
        )
    return x1, x2


def _smile(canvas: Canvas, c: Character, pose: Pose, x: float, y: float, half: float, ry: float) -> None:
    curve = {"happy": 0.2, "neutral": 0.08, "surprised": 0.02, "sad": -0.14, "angry": -0.1}[
        pose.expression
    ] * ry
    if pose.mouth > 0.2:
        depth = ry * (0.08 + 0.24 * pose.mouth)
        narrow = 0.6 if pose.expression == "surprised" else 1.0
        shape = blob(
            [
                (x - half * narrow, y - curve),
                (x, y - curve * 0.3 - 0.2 * depth),
                (x + half * narrow, y - curve),
                (x, y + depth),
            ],
            4,
        )
        canvas.part(shape, _MOUTH if not c.look.grey else (30, 30, 30), shade=False, line=0.7)
        if c.extra == "teeth":
            canvas.raw(
                blob(
                    [
                        (x - half * 0.5, y - curve * 0.5),
                        (x - half * 0.3, y + depth * 0.4),
                        (x - half * 0.1, y - curve * 0.4),
                    ],
                    2,
                ),
                _WHITE,
            )
            canvas.raw(
                blob(
                    [
                        (x + half * 0.5, y - curve * 0.5),
                        (x + half * 0.3, y + depth * 0.4),
                        (x + half * 0.1, y - curve * 0.4),
                    ],
                    2,
                ),
                _WHITE,
            )
        elif pose.expression == "happy":
            canvas.raw(ellipse(x, y - curve * 0.25, half * 0.7, depth * 0.22, count=12), _WHITE)
        canvas.raw(
            ellipse(x, y + depth * 0.55, half * 0.4, depth * 0.3, count=12),
            _TONGUE if not c.look.grey else (150, 150, 150),
        )
        return
    width = max(canvas.line * 1.2, ry * 0.05)
    canvas.stroke([(x - half, y - curve), (x, y + curve), (x + half, y - curve)], width)
    if c.extra == "teeth":
        for side in (-1, 1):
            tx = x + side * half * 0.5
            canvas.raw(blob([(tx - half * 0.15, y), (tx, y - ry * 0.14), (tx + half * 0.15, y)], 2), _WHITE)


def draw_eyes(canvas: Canvas, c: Character, pose: Pose, ball: Ball) -> None:
    places = {1: (0.0,), 2: (-c.eye_gap, c.eye_gap), 3: (-0.75, 0.0, 0.75)}[c.eye_count]
    if c.eyes == "visor":
        x = _face_x(ball, 0.3)
        canvas.part(
            ellipse(x, ball.y - ball.ry * 0.1, ball.rx * 0.72, ball.ry * 0.2, exponent=4),
            (30, 34, 46),
            shade=False,
        )
        for place in (-0.4, 0.4):
            ex, ey, near = ball.at(place, 0.1)
            if near > 0.1:
                canvas.raw(ellipse(ex, ey, ball.rx * 0.12, ball.ry * 0.1), c.accent)
        return
    size = c.eye_size * (1.5 if c.eye_count == 1 else 1.0)
    open_up = {"surprised": 1.18, "angry": 0.85}.get(pose.expression, 1.0)
    for place in sorted(places, key=lambda p: -abs(p + ball.yaw)):
        joined = c.eyes == "joined"
        up = 0.75 if c.eyes == "bulge" else 0.18
        x, y, near = ball.at(place * (0.72 if joined else 1.0), up)
        if near < 0.12:
            continue
        rx = ball.rx * size * (1.25 if joined else 1.0) * max(0.45, near)
        ry = ball.rx * size * (1.55 if joined else 1.25) * open_up
        if c.eyes == "bulge":
            canvas.part(ellipse(x, y, rx * 1.5, ry * 1.25), c.main)
        _eye(canvas, c, pose, ball, x, y, rx, ry)
        if c.brows > 0.35 and c.eye_count == 2:
            side = 1.0 if place > 0 else -1.0
            slant = {"angry": 0.5, "sad": -0.4}.get(pose.expression, -0.08) * side * ry
            top = y - ry * (1.5 if pose.expression == "surprised" else 1.25)
            color = c.hair_color if c.family in ("human", "toddler") else canvas.ink
            canvas.stroke(
                [(x - rx, top + slant * 0.8), (x, top - ry * 0.2), (x + rx, top - slant * 0.8)],
                ball.ry * 0.1 * c.brows + 0.004,
                color,
            )


def _eye(
    canvas: Canvas, c: Character, pose: Pose, ball: Ball, x: float, y: float, rx: float, ry: float
) -> None:
    lid = mix(c.main, (60, 30, 60), 0.14)
    if pose.blink > 0.7:
        if c.eyes not in ("dot", "small"):
            canvas.part(ellipse(x, y, rx, ry, count=16), lid, shade=False, line=0.6)
        canvas.stroke([(x - rx, y), (x, y + ry * 0.5), (x + rx, y)], max(canvas.line, ball.ry * 0.05))
        return
    gx = x + (0.35 * pose.gaze[0] + 0.35 * sin(ball.yaw)) * rx
    gy = y + 0.3 * pose.gaze[1] * ry
    if c.eyes == "dot":
        canvas.raw(ellipse(x, y, rx * 0.6, ry * 0.68, count=16), canvas.ink)
        canvas.raw(ellipse(x - rx * 0.18, y - ry * 0.25, rx * 0.18, ry * 0.2, count=8), _WHITE)
        return
    if c.eyes == "lamp":
        canvas.part(ellipse(x, y, rx * 1.15, rx * 1.15, count=16), (40, 44, 54), shade=False)
        canvas.raw(ellipse(x, y, rx * 0.8, rx * 0.8, count=16), c.accent)
        canvas.raw(ellipse(x - rx * 0.2, y - rx * 0.2, rx * 0.3, rx * 0.3, count=8), lit(c.accent, 0.8))
        return
    if c.eyes == "small":
        rx, ry = rx * 0.62, ry * 0.62
    canvas.part(ellipse(x, y, rx, ry, count=18), _WHITE, shade=False, line=0.7 if canvas.line else 0.0)
    if c.eyes == "anime":
        canvas.raw(ellipse(gx, y + ry * 0.1, rx * 0.72, ry * 0.8, count=18), c.iris)
        canvas.raw(ellipse(gx, y + ry * 0.12, rx * 0.42, ry * 0.52, count=14), canvas.ink)
        canvas.raw(ellipse(gx - rx * 0.25, y - ry * 0.35, rx * 0.26, ry * 0.24, count=8), _WHITE)
        canvas.stroke(
            [(x - rx * 1.1, y - ry * 0.5), (x, y - ry * 1.3), (x + rx * 1.1, y - ry * 0.5)], ry * 0.3
        )
        return
    pupil = 0.5 if c.eyes == "pie" else 0.42
    if c.look.shading == "soft":
        canvas.raw(ellipse(gx, gy, rx * 0.62, ry * 0.55, count=14), c.iris)
        pupil = 0.36
    canvas.raw(ellipse(gx, gy, rx * pupil, ry * pupil, count=14), canvas.ink)
    if c.eyes == "pie":
        wedge = blob([(gx, gy), (gx + rx * 0.6, gy - ry * 0.35), (gx + rx * 0.35, gy - ry * 0.6)], 1)
        canvas.raw(wedge, _WHITE)
    else:
        canvas.raw(ellipse(gx - rx * 0.15, gy - ry * 0.18, rx * 0.15, ry * 0.14, count=8), _WHITE)
    droop = 0.55 if c.eyes == "sleepy" else pose.blink * 0.6 if pose.blink > 0.2 else 0.0
    if droop:
        upper = ellipse(x, y, rx * 1.04, ry * 1.04, count=18)
        upper[:, 1] = upper[:, 1].clip(max=y - ry + 2 * ry * droop * 0.85)
        canvas.part(upper, lid, shade=False, line=0.5)


def draw_nose(canvas: Canvas, c: Character, ball: Ball) -> None:
    rx, ry, turn = ball.rx, ball.ry, sin(ball.yaw)
    wide = max(0.35, cos(ball.yaw))
    reach = 0.5 + 0.55 * c.muzzle + abs(turn) * (0.2 + 0.4 * c.muzzle) if c.muzzle > 0.12 else 0.92
    x, y = _face_x(ball, reach), ball.y + ry * (0.2 if c.muzzle > 0.12 else 0.18)
    dark = mix(canvas.ink, (60, 40, 50), 0.4)
    if c.nose == "dot":
        color = (
            dark if c.family in ("animal", "quadruped", "blob", "creature", "flyer") else shaded(c.main, 0.25)
        )
        canvas.raw(ellipse(x, y, rx * 0.12 * wide + 0.004, ry * 0.09, count=12), color)
    elif c.nose == "oval":
        canvas.part(
            ellipse(x, y, rx * 0.22 * max(0.6, wide), ry * 0.15, count=16), dark, shade=False, line=0.5
        )
        canvas.raw(ellipse(x - rx * 0.06, y - ry * 0.05, rx * 0.06, ry * 0.04, count=8), lit(dark, 0.7))
    elif c.nose == "button":
        canvas.raw(ellipse(x, y, rx * 0.1, ry * 0.08, count=12), mix(c.main, (226, 110, 100), 0.4))
    elif c.nose == "round":
        canvas.part(
            ellipse(x, y + ry * 0.05, rx * 0.22, ry * 0.19, count=18),
            mix(c.main, (230, 110, 100), 0.25),
            line=0.8,
        )
    elif c.nose in ("long", "hook"):
        tip = (x + turn * rx * 0.3 + 0.02 * rx, y + ry * (0.12 if c.nose == "long" else 0.24))
        canvas.part(
            hose(
                (x - turn * rx * 0.1, y - ry * 0.15),
                (x + turn * rx * 0.25, y - ry * 0.05),
                tip,
                rx * 0.14,
                rx * 0.24,
            ),
            mix(c.main, (226, 120, 100), 0.15),
            line=0.7,
        )
    elif c.nose == "disc":
        canvas.part(
            ellipse(x, y + ry * 0.12, rx * 0.34 * max(0.5, wide), ry * 0.25),
            mix(c.second, (240, 140, 140), 0.4),
            line=0.8,
        )
        for side in (-1, 1):
            canvas.raw(
                ellipse(x + side * rx * 0.13 * wide, y + ry * 0.12, rx * 0.05, ry * 0.08, count=10), dark
            )
    elif c.nose == "nostrils":
        for side in (-1, 1):
            canvas.raw(
                ellipse(x + side * rx * 0.1 * wide, y + ry * 0.08, rx * 0.04, ry * 0.05, count=8), dark
            )
    elif c.nose == "trunk":
        way = turn if abs(turn) > 0.2 else 0.25
        canvas.limb(
            (x, y),
            (x + way * rx * 0.9, y + ry * 0.4),
            (x + way * rx * 0.5, y + ry * 1.3),
            rx * 0.5,
            c.main,
            rx * 0.28,
        )
    elif c.nose in ("beak", "hookbeak", "bill"):
        size = 0.5 + c.muzzle * 0.6
        bx, by = _face_x(ball, 0.75), ball.y + ry * 0.25
        length = rx * size * (0.35 + 0.85 * abs(turn))
        way = 1.0 if turn >= 0 else -1.0
        front = cos(ball.yaw) > 0.75
        half = rx * 0.34 * size if front else rx * 0.1
        tip = (
            bx + (0.0 if front else way * length),
            by + ry * (0.5 if front else 0.35 if c.nose == "hookbeak" else 0.12) * size,
        )
        if c.nose == "bill":
            canvas.part(
                ellipse(
                    bx + (0.0 if front else way * length * 0.4),
                    by + ry * 0.15,
                    half + abs(turn) * length * 0.6,
                    ry * 0.2,
                ),
                c.accent,
            )
        else:
            canvas.part(
                blob(
                    [
                        (bx - half, by - ry * 0.02),
                        (bx + way * half * 0.5, by - ry * 0.24 * size),
                        (bx + way * half * (1 if front else 4), by - ry * 0.05),
                        tip,
                        (bx - way * half * 0.4, by + ry * 0.26 * size),
                    ],
                    4,
                ),
                c.accent,
            )


def draw_glasses(canvas: Canvas, c: Character, ball: Ball) -> None:
    if c.glasses == "none" or c.eye_count != 2:
        return
    box = {"round": 2.0, "square": 5.0, "dark": 3.0}[c.glasses]
    for side in (-1, 1):
        x, y, near = ball.at(side * c.eye_gap * 1.1, 0.17)
        if near < 0.2:
            continue
        rx, ry = ball.rx * 0.34 * max(0.5, near), ball.rx * 0.32
        if c.glasses == "dark":
            canvas.part(ellipse(x, y, rx, ry, exponent=box), (24, 24, 30), shade=False)
            canvas.raw(ellipse(x - rx * 0.3, y - ry * 0.35, rx * 0.25, ry * 0.2), (120, 130, 150))
        else:
            ring = ellipse(x, y, rx, ry, exponent=box)
            inner = ellipse(x, y, rx * 0.84, ry * 0.84, exponent=box)
            # The ring is one polygon: around the outside, then back along the inside.
            canvas.raw(_ring(ring, inner), canvas.ink)


def _ring(outer: Points, inner: Points) -> Points:
    return np.concatenate([outer, outer[:1], inner[:1], inner[::-1]])
