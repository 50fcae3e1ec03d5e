"""Bodies: builds a character in a pose from shapes, back to front, in canvas units (feet at y = 0, up
negative).
"""

from __future__ import annotations

from math import cos, pi, sin

from stream.cartoon.clothes import dress
from stream.cartoon.draw import Canvas, Points, blob, ellipse, hose, shaded
from stream.cartoon.face import Ball
from stream.cartoon.head import draw_back, draw_front
from stream.cartoon.limbs import draw_arm, draw_leg, draw_tail, draw_wings, place_foot
from stream.cartoon.model import Character, Pose

Box = tuple[float, float, float, float]
XY = tuple[float, float]


def build(canvas: Canvas, c: Character, pose: Pose) -> Box:
    """Draw `c` in `pose` onto `canvas`; returns the face's box in canvas units."""
    if c.family == "quadruped":
        return _quadruped(canvas, c, pose)
    if c.family == "blob":
        return _blob(canvas, c, pose)
    return _biped(canvas, c, pose)


def _yaw(pose: Pose) -> float:
    turn = max(-1.0, min(1.0, pose.facing)) * 1.35
    return pi - turn if pose.back else turn


def _tilted(canvas: Canvas, mark: int, pose: Pose, pivot: XY) -> None:
    if pose.tilt:
        canvas.rotate(mark, pose.tilt, pivot)


def _torso(c: Character, x: float, top: float, bottom: float, flat: float, belly: float) -> Points:
    """Torso outline from shoulders to hips; `flat` (0..1) narrows it for the side view, where the belly
    points ahead.
    """
    high = bottom - top
    shoulder, waist, hip = (v / 2 * (1 - 0.25 * flat) for v in (c.shoulder, c.waist, c.hip))
    wide = waist + c.belly / 2
    if c.family == "robot":
        return blob(
            [
                (x - shoulder, top),
                (x + shoulder, top),
                (x + wide, top + high * 0.6),
                (x + hip, bottom),
                (x - hip, bottom),
                (x - wide, top + high * 0.6),
            ],
            1,
        )
    ahead = belly * c.belly
    return blob(
        [
            (x - shoulder * 0.8, top + high * 0.04),
            (x, top - high * 0.03),
            (x + shoulder * 0.8, top + high * 0.04),
            (x + shoulder * 0.5 + wide * 0.5, top + high * 0.32),
            (x + wide + ahead, top + high * 0.66),
            (x + hip * 0.8, bottom),
            (x, bottom + high * 0.05),
            (x - hip * 0.8, bottom),
            (x - wide + ahead, top + high * 0.66),
            (x - shoulder * 0.5 - wide * 0.5, top + high * 0.32),
        ],
        4,
    )


def _biped(canvas: Canvas, c: Character, pose: Pose) -> Box:
    yaw = _yaw(pose)
    turn, way = abs(sin(yaw)), (1.0 if sin(yaw) >= 0 else -1.0)
    bob = abs(sin(2 * pi * pose.phase)) * pose.stride * 0.05 * c.leg
    leg = c.leg * (1 - 0.6 * pose.squat) - bob
    lower = -leg
    upper = lower - c.torso
    spread = 0.5 - 0.3 * turn
    hips = {s: (s * c.hip * spread * 0.62, lower - 0.01) for s in (-1, 1)}
    neck_y = upper - c.neck
    ry = c.head / 2
    rx = ry * c.head_aspect
    ball = Ball(way * turn * rx * 0.12, neck_y - ry * 0.86, rx, ry, yaw)
    near = 1 if way < 0 else -1  # the screen side of the limb nearer to us in a turned body
    order = (-near, near)
    width = c.limb
    draw_wings(canvas, c, pose, 0.0, upper + c.torso * 0.3, turn, way)
    if c.extra == "cape":
        swing = -way * turn * c.torso * 0.5
        canvas.part(
            blob(
                [
                    (-c.shoulder * 0.5, upper),
                    (c.shoulder * 0.5, upper),
                    (c.shoulder * 0.8 + swing, lower + c.leg * 0.4),
                    (-c.shoulder * 0.8 + swing, lower + c.leg * 0.4),
                ],
                4,
            ),
            c.accent,
        )
    draw_tail(
        canvas, c, (-way * turn * c.hip * 0.35, lower - c.torso * 0.1), way if turn > 0.2 else 1.0, c.torso
    )
    mark = canvas.mark()
    if not pose.back:
        draw_back(canvas, c, ball)
        _tilted(canvas, mark, pose, (ball.x, neck_y))
    legs = {}
    for side in (-1, 1):
        rest = side * c.hip * (0.5 - 0.36 * turn)
        legs[side], _ = place_foot(c, pose, side, rest, max(turn, 0.12), c.leg, yaw)
    dirs = {s: s * (1 - turn) + way * turn for s in (-1, 1)}
    shoulders = {
        s: (s * c.shoulder * (0.46 - 0.34 * turn), upper + min(0.05, c.torso * 0.14)) for s in (-1, 1)
    }
    arm = {-1: (pose.arms[0], pose.bends[0]), 1: (pose.arms[1], pose.bends[1])}
    far = order[0]
    fly = c.family == "flyer"
    if turn > 0.35:
        draw_arm(canvas, c, shoulders[far], *arm[far], dirs[far], c.arm, width)
    with canvas.group():
        for side in order:
            draw_leg(
                canvas,
                c,
                hips[side],
                legs[side],
                width * (1.25 if c.family != "bird" else 1.0),
                way,
                turn,
                side,
            )
    body = _torso(c, 0.0, upper, lower + (c.leg * 0.1 if not fly else 0.0), turn, way * turn)
    dressed = c.clothes in ("shirt", "dress", "coat", "robe", "suit", "overalls", "vest")
    skin = c.top if dressed else c.main
    if c.neck > 0.01:
        canvas.limb(
            (ball.x, neck_y - ry * 0.1),
            (ball.x * 0.5, neck_y),
            (0.0, upper + 0.03),
            min(c.shoulder * 0.5, rx * 0.8) * (0.6 if c.family != "bird" else 0.5),
            c.main,
        )
    canvas.part(body, skin, fuzzy=not dressed and c.family in ("animal", "creature", "bird"))
    dress(canvas, c, pose, upper, lower, turn, way, body)
    sides = (near,) if turn > 0.35 else order
    for side in sides:
        draw_arm(canvas, c, shoulders[side], *arm[side], dirs[side], c.arm, width)
    mark = canvas.mark()
    face = draw_front(canvas, c, pose, ball)
    if pose.back:
        draw_back(canvas, c, ball)
    _tilted(canvas, mark, pose, (ball.x, neck_y))
    return face


def _blob(canvas: Canvas, c: Character, pose: Pose) -> Box:
    yaw = _yaw(pose)
    turn, way = abs(sin(yaw)), (1.0 if sin(yaw) >= 0 else -1.0)
    leg = c.leg * (1 - 0.6 * pose.squat)
    ry = c.head / 2
    rx = ry * c.head_aspect
    ball = Ball(0.0, -leg - ry * 0.92, rx, ry, yaw)
    mark = canvas.mark()
    draw_back(canvas, c, ball)
    with canvas.group():
        for side in (-1, 1):
            rest = side * rx * (0.45 - 0.25 * turn)
            foot, _ = place_foot(c, pose, side, rest, max(turn, 0.15), max(0.12, c.leg), yaw)
            draw_leg(canvas, c, (rest, -leg - ry * 0.2), foot, c.limb * 1.2, way, turn, side)
    near = 1 if way < 0 else -1
    dirs = {s: s * (1 - turn) + way * turn for s in (-1, 1)}
    arm = {-1: (pose.arms[0], pose.bends[0]), 1: (pose.arms[1], pose.bends[1])}
    spots = {s: (s * rx * (0.86 - 0.75 * turn), ball.y + ry * 0.3) for s in (-1, 1)}
    draw_arm(canvas, c, spots[-near], *arm[-near], dirs[-near], c.arm, c.limb)
    face = draw_front(canvas, c, pose, ball)
    draw_arm(canvas, c, spots[near], *arm[near], dirs[near], c.arm, c.limb)
    if pose.tilt:
        canvas.rotate(mark, pose.tilt * 0.4, (0.0, 0.0))
    return face


def _quadruped(canvas: Canvas, c: Character, pose: Pose) -> Box:
    """On four legs: the body lies along the way it faces; seen from the front or back it is round."""
    yaw = _yaw(pose)
    turn, way = abs(sin(yaw)), (1.0 if sin(yaw) >= 0 else -1.0)
    thick = c.torso
    half = max(thick * 0.42, c.length / 2 * turn)
    leg = c.leg * (1 - 0.5 * pose.squat)
    mid = -leg - thick * 0.42
    ry = c.head / 2
    rx = ry * c.head_aspect
    ahead = way * turn
    head_x = ahead * (half + rx * 0.25 + max(0.0, c.neck) * 0.4)
    head_y = mid - thick * (0.3 + 0.15 * (1 - turn)) - max(0.0, c.neck) * 0.8 - ry * 0.25
    ball = Ball(head_x, head_y, rx, ry, yaw)
    near = 1 if way < 0 else -1
    if not pose.back:
        draw_tail(
            canvas, c, (-ahead * half * 0.9, mid - thick * 0.15), way if turn > 0.25 else 1.0, thick * 0.8
        )
    mark = canvas.mark()
    draw_back(canvas, c, ball)
    _tilted(canvas, mark, pose, (head_x, head_y + ry))

    def legs(side: int) -> None:
        for end in (-1, 1):
            rest = end * ahead * half * 0.68 + side * thick * (0.08 + 0.24 * (1 - turn))
            gait = Pose(
                phase=(pose.phase + (0.5 if end > 0 else 0.0)) % 1.0, stride=pose.stride, jump=pose.jump
            )
            foot, _ = place_foot(c, gait, side, rest, max(turn, 0.12), c.leg, yaw)
            color = c.main if side == near else shaded(c.main, 0.2)
            canvas.limb(
                (rest, mid + thick * 0.1),
                (rest + ahead * 0.03, (mid + foot[1]) / 2),
                foot,
                c.limb * 1.35,
                color,
                c.limb,
            )
            canvas.part(
                ellipse(
                    foot[0] + ahead * c.limb * 0.3, foot[1] - c.limb * 0.25, c.limb * 0.75, c.limb * 0.45
                ),
                c.second if c.seed % 2 else color,
            )

    with canvas.group():
        legs(-near)
    neck: tuple[XY, XY, XY] = (
        (head_x - ahead * rx * 0.2, head_y + ry * 0.2),
        (ahead * half * 0.85, mid - thick * 0.5),
        (ahead * half * 0.55, mid - thick * 0.05),
    )
    body = blob(
        [
            (-half, mid - thick * 0.1),
            (-half * 0.6, mid - thick * 0.42),
            (half * 0.1, mid - thick * 0.36),
            (half * 0.65, mid - thick * 0.42),
            (half, mid - thick * 0.05),
            (half * 0.65, mid + thick * 0.38),
            (0.0, mid + thick * (0.36 + c.belly)),
            (-half * 0.65, mid + thick * 0.36),
        ],
        4,
    )
    with canvas.group():
        legs(near)
        canvas.limb(*neck, min(thick * 0.6, rx * 1.3), c.main, thick * 0.75, shade=canvas.shading == "soft")
        canvas.part(body, c.main, fuzzy=True)
    if c.pattern in ("belly", "mask"):
        canvas.raw(ellipse(0.0, mid + thick * 0.2, half * 0.6, thick * 0.14), c.second)
    elif c.pattern in ("spots", "dots"):
        for k in range(5):
            a = k * 2.4 + c.seed % 7
            canvas.raw(
                ellipse(
                    cos(a) * half * 0.6,
                    mid - thick * 0.08 + thick * 0.2 * sin(a * 1.7),
                    thick * 0.1,
                    thick * 0.08,
                ),
                shaded(c.main, 0.4),
            )
    elif c.pattern == "stripes":
        for k in range(4):
            x = half * (-0.6 + 0.4 * k)
            canvas.raw(
                hose((x, mid - thick * 0.34), (x + 0.02, mid - thick * 0.2), (x, mid), thick * 0.09, 0.01),
                shaded(c.main, 0.5),
            )
    if c.extra in ("collar", "scarf"):
        canvas.part(ellipse(head_x * 0.85, head_y + ry * 0.95, rx * 0.6, ry * 0.2), c.accent, shade=False)
    if pose.back:
        draw_tail(
            canvas, c, (-ahead * half * 0.9, mid - thick * 0.15), 1.0 if turn < 0.25 else way, thick * 0.8
        )
    mark = canvas.mark()
    face = draw_front(canvas, c, pose, ball)
    _tilted(canvas, mark, pose, (head_x, head_y + ry))
    return face
