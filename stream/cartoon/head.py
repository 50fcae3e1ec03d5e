"""Heads: skull, ears, hair, hats, and the face turned about the head's vertical axis."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

from stream.cartoon.characters import Character, Pose
from stream.cartoon.draw import Canvas, Color, Points, blob, ellipse, hose, lit, mix, shaded

_WHITE: Color = (252, 252, 248)
_MOUTH: Color = (92, 22, 34)
_TONGUE: Color = (222, 96, 104)


@dataclass(frozen=True)
class Ball:
    """The skull: centre and radii in canvas units; `yaw` radians, 0 to us, positive to the right, pi the back."""

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


def skull(c: Character, ball: Ball, grow: float = 1.0) -> Points:
    """The head's outline; the jaw widens or narrows its lower half."""
    points = ellipse(ball.x, ball.y, ball.rx * grow, ball.ry * grow, exponent=c.head_box)
    if c.jaw:
        points[:, 0] = ball.x + (points[:, 0] - ball.x) * (
            1.0 + c.jaw * 0.7 * (points[:, 1] - ball.y) / ball.ry
        )
    return points


def draw_back(canvas: Canvas, c: Character, ball: Ball) -> None:
    """What lies behind the body and the skull: long hair, pony tails, far ears."""
    x, y, rx, ry = ball.x, ball.y, ball.rx, ball.ry
    behind = -sin(ball.yaw) if cos(ball.yaw) > 0 else 0.0
    if c.hair in ("long", "bob"):
        drop = 1.9 if c.hair == "long" else 1.0
        hx = x + behind * rx * 0.25
        points = [(hx - rx * 1.1, y - ry * 0.2), (hx, y - ry * 1.1), (hx + rx * 1.1, y - ry * 0.2), (hx + rx * 1.2, y + ry * drop),
                  (hx, y + ry * drop * 0.95), (hx - rx * 1.2, y + ry * drop)]  # fmt: skip
        canvas.part(blob(points), c.hair_color, shade=False)
    elif c.hair == "pony":
        px = x + behind * rx * 1.0
        canvas.limb((px, y - ry * 0.5), (px + behind * rx * 0.9 + 0.01, y - ry * 0.5), (px + behind * rx * 0.7, y + ry * 0.9), rx * 0.6,
                    c.hair_color, rx * 0.15)  # fmt: skip
    elif c.hair == "pigtails":
        for side in (-1, 1):
            tx, ty, _ = ball.at(side * 1.6, 0.3)
            canvas.part(
                ellipse(tx + side * rx * 0.25, ty + ry * 0.3, rx * 0.3, ry * 0.55, rot=-side * 0.35),
                c.hair_color,
            )
    elif c.hair == "afro":
        canvas.part(
            ellipse(x + behind * rx * 0.2, y - ry * 0.25, rx * 1.4, ry * 1.25), c.hair_color, fuzzy=True
        )
    elif c.hair == "bun":
        canvas.part(ellipse(x + behind * rx * 0.6, y - ry * 1.05, rx * 0.42, ry * 0.38), c.hair_color)
    elif c.hair == "curls":
        for k in range(7):
            a = pi + k * pi / 6
            canvas.part(
                ellipse(x + cos(a) * rx * 0.95, y + sin(a) * ry * 0.85, rx * 0.36, ry * 0.33),
                c.hair_color,
                shade=False,
            )
    elif c.hair == "spikes":
        for k in range(5):
            a = pi * (1.12 + 0.19 * k)
            ex, ey = x + cos(a) * rx * 1.35, y + sin(a) * ry * 1.35
            canvas.part(
                hose((x + cos(a) * rx * 0.7, y + sin(a) * ry * 0.7), (ex, ey), (ex, ey), rx * 0.35, 0.005),
                c.accent,
                shade=False,
            )
    _ears(canvas, c, ball, front=False)


def _ears(canvas: Canvas, c: Character, ball: Ball, front: bool) -> None:
    """Ears, horns and antennae; those on our side of the skull are drawn in front of it."""
    rx, ry, size = ball.rx, ball.ry, c.ear_size
    inner = mix(c.main, (236, 150, 150), 0.5) if not c.look.grey else lit(c.main, 0.4)
    for side in (-1, 1):
        azimuth, up = {
            "human": (1.5, 0.0), "bolts": (1.5, 0.0), "floppy": (1.25, 0.6), "fan": (1.5, 0.2), "round": (1.0, 0.75),
        }.get(c.ears, (0.75, 0.85))  # fmt: skip
        x, y, near = ball.at(side * azimuth, up)
        on_our_side = near > 0.1 and c.ears in ("human", "floppy", "bolts", "fan")
        if on_our_side != front:
            continue
        out = 1.0 if x >= ball.x else -1.0
        if c.ears == "human":
            canvas.part(
                ellipse(x, y + ry * 0.08, rx * (0.12 + size * 0.2), ry * (0.15 + size * 0.18)), c.main
            )
        elif c.ears == "bolts":
            canvas.part(ellipse(x, y, rx * 0.16, ry * 0.22, exponent=6), c.second)
        elif c.ears == "round":
            r = rx * (0.28 + 0.3 * size)
            canvas.part(ellipse(x + out * r * 0.3, y - r * 0.3, r, r), c.main, fuzzy=True)
            if cos(ball.yaw) > 0:
                canvas.raw(ellipse(x + out * r * 0.3, y - r * 0.3, r * 0.6, r * 0.6), inner)
        elif c.ears == "long":
            tip = (x + out * rx * 0.35 * size, y - ry * 1.5 * size)
            canvas.part(
                hose(
                    (x, y + ry * 0.1), (x - out * rx * 0.05, y - ry * size * 0.8), tip, rx * 0.42, rx * 0.26
                ),
                c.main,
                fuzzy=True,
            )
            if cos(ball.yaw) > 0:
                canvas.raw(
                    hose((x, y), (x - out * rx * 0.05, y - ry * size * 0.8), tip, rx * 0.2, rx * 0.1), inner
                )
        elif c.ears == "pointy":
            s = 0.45 + 0.45 * size
            points = blob(
                [
                    (x - rx * 0.3 * s, y + ry * 0.2),
                    (x + out * rx * 0.28 * s, y - ry * 1.0 * s),
                    (x + rx * 0.42 * s, y + ry * 0.35),
                ],
                3,
            )
            canvas.part(points, c.main, fuzzy=True)
            if cos(ball.yaw) > 0:
                mid = points.mean(axis=0)
                canvas.raw(mid + (points - mid) * 0.55, inner)
        elif c.ears == "floppy":
            canvas.part(
                ellipse(x + out * rx * 0.1, y + ry * 0.55 * size, rx * 0.3, ry * 0.62 * size, rot=-out * 0.3),
                shaded(c.main, 0.3),
                fuzzy=True,
            )
        elif c.ears == "fan":
            r = rx * 0.75 * (0.6 + 0.4 * size)
            canvas.part(ellipse(x + out * r * 0.7, y, r * 0.85, r * 1.1), c.main)
        elif c.ears == "horns":
            canvas.limb(
                (x, y),
                (x + out * rx * 0.5, y - ry * 0.1),
                (x + out * rx * 0.55, y - ry * 0.7),
                rx * 0.25,
                lit(c.accent, 0.6),
                0.008,
            )
        elif c.ears == "antennae":
            tip = (x + out * rx * 0.35, y - ry * 0.7)
            canvas.limb(
                (x, y), (x, y - ry * 0.5), tip, rx * 0.08, shaded(c.main, 0.5), rx * 0.06, shade=False
            )
            canvas.part(ellipse(*tip, rx * 0.14, rx * 0.14), c.accent)


def draw_front(canvas: Canvas, c: Character, pose: Pose, ball: Ball) -> tuple[float, float, float, float]:
    """Skull, face, hair and hat; returns the box of skull and muzzle in canvas units."""
    outline = skull(c, ball)
    canvas.part(outline, c.main, fuzzy=c.family not in ("human", "robot", "toddler"))
    low, high = outline.min(axis=0), outline.max(axis=0)
    x1, y1, x2, y2 = float(low[0]), float(low[1]), float(high[0]), float(high[1])
    if pose.back:
        _hair_cap(canvas, c, ball, back=True)
    else:
        if c.pattern == "mask":
            for side in (-1, 1):
                ex, ey, near = ball.at(side * 0.5, 0.12)
                if near > 0.1:
                    canvas.raw(
                        ellipse(ex, ey, ball.rx * 0.42 * max(0.4, near), ball.ry * 0.34), shaded(c.main, 0.6)
                    )
        if c.beard == "beard":
            _beard(canvas, c, ball)
        mx1, mx2 = _muzzle(canvas, c, pose, ball)
        x1, x2 = min(x1, mx1), max(x2, mx2)
        _eyes(canvas, c, pose, ball)
        _nose(canvas, c, ball)
        _hair_cap(canvas, c, ball, back=False)
    _ears(canvas, c, ball, front=True)
    if not pose.back:
        _glasses(canvas, c, ball)
    _hat(canvas, c, ball)
    return x1, y1, x2, y2


def _face_x(ball: Ball, reach: float) -> float:
    return ball.x + sin(ball.yaw) * ball.rx * reach


def _beard(canvas: Canvas, c: Character, ball: Ball) -> None:
    x, rx, ry = _face_x(ball, 0.35), ball.rx, ball.ry
    points = [(x - rx * 0.85, ball.y + ry * 0.1), (x, ball.y + ry * 0.35), (x + rx * 0.85, ball.y + ry * 0.1),
              (x + rx * 0.65, ball.y + ry * 0.95), (x, ball.y + ry * 1.4), (x - rx * 0.65, ball.y + ry * 0.95)]  # fmt: skip
    canvas.part(blob(points), c.hair_color, fuzzy=True)


def _muzzle(canvas: Canvas, c: Character, pose: Pose, ball: Ball) -> tuple[float, float]:
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


def _eyes(canvas: Canvas, c: Character, pose: Pose, ball: Ball) -> None:
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


def _nose(canvas: Canvas, c: Character, ball: Ball) -> None:
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


def _hair_cap(canvas: Canvas, c: Character, ball: Ball, back: bool) -> None:
    """Hair on the skull: the whole of it from behind, cap and fringe from the front."""
    if c.hair in ("none", "bald"):
        return
    x, y, rx, ry, turn = ball.x, ball.y, ball.rx, ball.ry, sin(ball.yaw)
    color = c.hair_color if c.family in ("human", "toddler", "flyer") else mix(c.main, c.accent, 0.5)
    if c.hair in ("tuft", "spiky", "crest", "mohawk", "mane"):
        count, spread, high = {"tuft": (3, 0.25, 0.45), "spiky": (6, 0.8, 0.45), "crest": (4, 0.3, 0.6), "mohawk": (5, 0.2, 0.75), "mane": (4, 0.4, 0.35)}[c.hair]  # fmt: skip
        with canvas.group():
            for k in range(count):
                share = (k / (count - 1) - 0.5) * 2
                a = share * spread * 1.3 - turn * 0.35
                base = (x + sin(a) * rx * 0.85, y - cos(a) * ry * 0.85)
                tip = (
                    x + sin(a * 1.2 - turn * 0.25) * rx * (1 + high),
                    y - cos(a * 1.2) * ry * (1 + high * (1 - 0.3 * abs(share))),
                )
                canvas.part(hose(base, base, tip, rx * 0.36, 0.006), color, shade=False)
        if c.hair == "spiky" and c.family in ("human", "toddler"):
            canvas.raw(_cap(ball, 1.02, -0.45, turn), color)
        return
    if back:
        low = 0.9 if c.hair in ("long", "bob", "afro", "curls", "pony", "bun", "pigtails") else 0.45
        points = ellipse(x, y - ry * (1 - low) * 0.5, rx * 1.06, ry * (0.55 + low * 0.5))
        canvas.part(points, color)
        return
    low = {"cap": -0.3, "side": -0.25, "afro": -0.35, "curls": -0.35}.get(c.hair, -0.38)
    canvas.part(
        _cap(ball, 1.06, low, turn, side=0.5 if c.hair == "side" else 0.0),
        color,
        shade=canvas.shading == "soft",
        line=0.8,
    )


def _cap(ball: Ball, grow: float, low: float, turn: float, side: float = 0.0) -> Points:
    """The upper skull down to the hair line; turned heads show more hair at the back of the head."""
    x, y, rx, ry = ball.x, ball.y, ball.rx * grow, ball.ry * grow
    left = 0.05 + 0.55 * max(0.0, turn)
    right = 0.05 + 0.55 * max(0.0, -turn)
    points = [(x - rx, y + ry * left), (x - rx * 0.86, y - ry * 0.55), (x - rx * 0.4, y - ry * 0.96), (x + rx * 0.4, y - ry * 0.96),
              (x + rx * 0.86, y - ry * 0.55), (x + rx, y + ry * right), (x + rx * (0.7 - 0.3 * right), y + ry * (low + side * 0.4)),
              (x + turn * rx * 0.2, y + ry * (low - 0.12 - side * 0.3)), (x - rx * (0.7 - 0.3 * left), y + ry * (low + 0.04))]  # fmt: skip
    return blob(points, 3)


def _glasses(canvas: Canvas, c: Character, ball: Ball) -> None:
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
    import numpy as np

    return np.concatenate([outer, outer[:1], inner[:1], inner[::-1]])


def _hat(canvas: Canvas, c: Character, ball: Ball) -> None:
    x, rx, ry, turn = ball.x, ball.rx, ball.ry, sin(ball.yaw)
    y = ball.y - ry * 0.62
    color, band = c.accent, shaded(c.accent, 0.5)
    if c.hat == "cap":
        canvas.part(
            blob(
                [
                    (x - rx, y + ry * 0.12),
                    (x - rx * 0.75, y - ry * 0.5),
                    (x, y - ry * 0.72),
                    (x + rx * 0.75, y - ry * 0.5),
                    (x + rx, y + ry * 0.12),
                ],
                4,
            ),
            color,
        )
        if cos(ball.yaw) > -0.2:
            canvas.part(
                ellipse(x + turn * rx * 1.0, y + ry * 0.14, rx * (0.75 + 0.1 * abs(turn)), ry * 0.13),
                band,
                shade=False,
            )
    elif c.hat in ("tophat", "cowboy", "bowler"):
        high, wide, brim = {
            "tophat": (1.3, 0.72, 1.15),
            "cowboy": (0.75, 0.75, 1.75),
            "bowler": (0.62, 0.8, 1.15),
        }[c.hat]
        top = [
            (x - rx * wide, y),
            (x - rx * wide * 0.95, y - ry * high),
            (x + rx * wide * 0.95, y - ry * high),
            (x + rx * wide, y),
        ]
        if c.hat == "bowler":
            canvas.part(ellipse(x, y - ry * 0.1, rx * wide, ry * high), color)
        else:
            canvas.part(blob(top, 1 if c.hat == "tophat" else 4), color)
        canvas.raw(
            blob(
                [
                    (x - rx * wide, y - ry * 0.02),
                    (x - rx * wide, y - ry * 0.25),
                    (x + rx * wide, y - ry * 0.25),
                    (x + rx * wide, y - ry * 0.02),
                ],
                1,
            ),
            band,
        )
        canvas.part(ellipse(x, y + ry * 0.02, rx * brim, ry * 0.14), color)
    elif c.hat == "beanie":
        canvas.part(
            blob(
                [
                    (x - rx * 1.02, y + ry * 0.2),
                    (x - rx * 0.8, y - ry * 0.5),
                    (x, y - ry * 0.8),
                    (x + rx * 0.8, y - ry * 0.5),
                    (x + rx * 1.02, y + ry * 0.2),
                ],
                4,
            ),
            color,
        )
        canvas.part(ellipse(x, y + ry * 0.12, rx * 1.02, ry * 0.17, exponent=4), band, shade=False)
        canvas.part(ellipse(x, y - ry * 0.85, rx * 0.22, rx * 0.22), lit(color, 0.5), fuzzy=True)
    elif c.hat == "cone":
        canvas.part(
            blob(
                [(x - rx * 0.8, y + ry * 0.1), (x + rx * 0.1, y - ry * 1.7), (x + rx * 0.8, y + ry * 0.1)], 1
            ),
            color,
        )
        canvas.part(ellipse(x, y + ry * 0.1, rx * 1.25, ry * 0.16), color)
    elif c.hat == "crown":
        points = [(x - rx * 0.7, y + ry * 0.1)]
        for k in range(7):
            points.append((x + rx * (-0.8 + k * 1.6 / 6), y - ry * (0.65 if k % 2 == 0 else 0.25)))
        points.append((x + rx * 0.7, y + ry * 0.1))
        canvas.part(blob(points, 1), (246, 204, 60) if not c.look.grey else (210, 210, 210), shade=False)
    elif c.hat == "bow":
        bx = x + rx * 0.45
        for side in (-1, 1):
            canvas.part(
                blob(
                    [(bx, y), (bx + side * rx * 0.55, y - ry * 0.35), (bx + side * rx * 0.55, y + ry * 0.3)],
                    3,
                ),
                color,
                shade=False,
            )
        canvas.part(ellipse(bx, y, rx * 0.14, ry * 0.14), band)
    elif c.hat == "helmet":
        canvas.part(
            blob(
                [
                    (x - rx * 1.1, y + ry * 0.4),
                    (x - rx, y - ry * 0.45),
                    (x, y - ry * 0.8),
                    (x + rx, y - ry * 0.45),
                    (x + rx * 1.1, y + ry * 0.4),
                    (x, y + ry * 0.15),
                ],
                4,
            ),
            color,
        )
