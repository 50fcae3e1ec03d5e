"""Heads: skull, ears, hair, hats, and the face turned about the head's vertical axis."""

from __future__ import annotations

from math import cos, pi, sin

from stream.cartoon.draw import Canvas, Points, blob, ellipse, hose, lit, mix, shaded
from stream.cartoon.face import Ball, draw_beard, draw_eyes, draw_glasses, draw_muzzle, draw_nose
from stream.cartoon.model import Character, Pose


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
        points = [
            (hx - rx * 1.1, y - ry * 0.2),
            (hx, y - ry * 1.1),
            (hx + rx * 1.1, y - ry * 0.2),
            (hx + rx * 1.2, y + ry * drop),
            (hx, y + ry * drop * 0.95),
            (hx - rx * 1.2, y + ry * drop),
        ]
        canvas.part(blob(points), c.hair_color, shade=False)
    elif c.hair == "pony":
        px = x + behind * rx * 1.0
        canvas.limb(
            (px, y - ry * 0.5),
            (px + behind * rx * 0.9 + 0.01, y - ry * 0.5),
            (px + behind * rx * 0.7, y + ry * 0.9),
            rx * 0.6,
            c.hair_color,
            rx * 0.15,
        )
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
            "human": (1.5, 0.0), "bolts": (1.5, 0.0), "floppy": (1.25, 0.6), "fan": (1.5, 0.2), "round":
            (1.0, 0.75),
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
            draw_beard(canvas, c, ball)
        mx1, mx2 = draw_muzzle(canvas, c, pose, ball)
        x1, x2 = min(x1, mx1), max(x2, mx2)
        draw_eyes(canvas, c, pose, ball)
        draw_nose(canvas, c, ball)
        _hair_cap(canvas, c, ball, back=False)
    _ears(canvas, c, ball, front=True)
    if not pose.back:
        draw_glasses(canvas, c, ball)
    _hat(canvas, c, ball)
    return x1, y1, x2, y2


def _hair_cap(canvas: Canvas, c: Character, ball: Ball, back: bool) -> None:
    """Hair on the skull: the whole of it from behind, cap and fringe from the front."""
    if c.hair in ("none", "bald"):
        return
    x, y, rx, ry, turn = ball.x, ball.y, ball.rx, ball.ry, sin(ball.yaw)
    color = c.hair_color if c.family in ("human", "toddler", "flyer") else mix(c.main, c.accent, 0.5)
    if c.hair in ("tuft", "spiky", "crest", "mohawk", "mane"):
        count, spread, high = {
            "tuft": (3, 0.25, 0.45),
            "spiky": (6, 0.8, 0.45),
            "crest": (4, 0.3, 0.6),
            "mohawk": (5, 0.2, 0.75),
            "mane": (4, 0.4, 0.35),
        }[c.hair]
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
    points = [
        (x - rx, y + ry * left),
        (x - rx * 0.86, y - ry * 0.55),
        (x - rx * 0.4, y - ry * 0.96),
        (x + rx * 0.4, y - ry * 0.96),
        (x + rx * 0.86, y - ry * 0.55),
        (x + rx, y + ry * right),
        (x + rx * (0.7 - 0.3 * right), y + ry * (low + side * 0.4)),
        (x + turn * rx * 0.2, y + ry * (low - 0.12 - side * 0.3)),
        (x - rx * (0.7 - 0.3 * left), y + ry * (low + 0.04)),
    ]
    return blob(points, 3)


def _hat(canvas: Canvas, c: Character, ball: Ball) -> None:
    x, rx, ry, turn = ball.x, ball.rx, ball.ry, sin(ball.yaw)
    y = ball.y - ry * 0.72
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
            dome = ellipse(x, y - ry * 0.1, rx * wide, ry * high)
            dome[:, 1] = dome[:, 1].clip(max=y)
            canvas.part(dome, color)
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
