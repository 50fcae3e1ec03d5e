"""Bodies: builds a character in a pose from shapes, back to front, in canvas units (feet at y = 0, up negative)."""

from __future__ import annotations

from math import cos, pi, sin

from stream.cartoon.characters import Character, Pose
from stream.cartoon.draw import Canvas, Color, Points, blob, ellipse, hose, lit, mix, shaded
from stream.cartoon.head import Ball, draw_back, draw_front

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


def _foot(
    c: Character, pose: Pose, side: int, rest: float, turn: float, leg: float, yaw: float
) -> tuple[XY, float]:
    """The foot's place and how far it is lifted, from the walk cycle."""
    angle = 2 * pi * pose.phase + (0.0 if side < 0 else pi)
    reach = sin(angle) * pose.stride * leg * 0.55
    lift = max(0.0, cos(angle)) * pose.stride * leg * 0.32 + pose.jump * leg * 0.35
    way = 1.0 if sin(yaw) >= 0 else -1.0
    return (rest + reach * turn * way, -lift), lift


def _leg(
    canvas: Canvas, c: Character, hip: XY, foot: XY, width: float, way: float, turn: float, side: int
) -> None:
    color, cloth = c.main, _legwear(c)
    bend = 0.0 if c.look.hose else 0.25
    reach = ((hip[0] - foot[0]) ** 2 + (hip[1] - foot[1]) ** 2) ** 0.5
    slack = max(0.0, c.leg - reach)
    knee = (
        (hip[0] + foot[0]) / 2
        + way * turn * (slack * 1.6 + bend * 0.1 * c.leg)
        + (1 - turn) * side * slack * 1.2,
        (hip[1] + foot[1]) / 2,
    )
    ankle = (foot[0], foot[1] - width * 0.35)
    bird = c.family == "bird"
    canvas.limb(
        hip,
        knee,
        ankle,
        width,
        c.shoe if bird else cloth[1] if cloth[0] == "long" else color,
        width * 0.8,
        shade=not bird,
    )
    if cloth[0] == "short":
        mid = ((hip[0] + knee[0]) / 2, (hip[1] + knee[1]) / 2)
        canvas.limb(hip, mid, knee, width * 1.25, cloth[1], width * 1.3)
    point = way * turn
    long = width * (0.9 if not c.look.hose else 1.7) + 0.02
    barefoot = c.clothes in ("none", "shorts", "vest") and c.family not in ("robot",) and not c.look.hose
    shoe = c.main if barefoot and not bird else c.shoe
    if bird:
        for toe in (-1, 0, 1):
            canvas.limb(
                foot,
                foot,
                (foot[0] + point * 0.05 + toe * 0.035, foot[1] - (0.0 if toe else -0.004)),
                0.02,
                c.shoe,
                0.012,
                shade=False,
            )
    else:
        canvas.part(
            ellipse(
                foot[0] + point * long * 0.5, foot[1] - width * 0.32, long * (0.75 + 0.25 * turn), width * 0.5
            ),
            shoe,
        )


def _legwear(c: Character) -> tuple[str, Color]:
    if c.clothes in ("overalls", "suit") or (
        c.clothes in ("shirt", "coat") and c.family in ("human", "toddler")
    ):
        return ("long" if c.seed % 4 else "short"), c.bottom
    if c.clothes == "shorts":
        return "short", c.bottom
    if c.family == "robot":
        return "long", c.second
    return "none", c.main


def _arm(
    canvas: Canvas,
    c: Character,
    shoulder: XY,
    angle: float,
    bend: float,
    direction: float,
    length: float,
    width: float,
) -> None:
    dx, dy = sin(angle) * direction, cos(angle)
    hand = (
        shoulder[0] + dx * length * (1 - 0.2 * abs(bend)),
        shoulder[1] + dy * length * (1 - 0.2 * abs(bend)),
    )
    out = bend * length * 0.55
    elbow = (
        (shoulder[0] + hand[0]) / 2 - dy * out * -direction,
        (shoulder[1] + hand[1]) / 2 + dx * out * direction * direction,
    )
    if c.hands == "wing":
        spread = min(1.0, abs(sin(angle)) + 0.25)
        mid = ((shoulder[0] + hand[0]) / 2, (shoulder[1] + hand[1]) / 2)
        wide = length * 0.28 * spread + 0.03
        canvas.part(
            blob(
                [
                    shoulder,
                    (mid[0] - dy * wide * direction, mid[1] - dx * wide),
                    (hand[0] * 1.02 - shoulder[0] * 0.02, hand[1]),
                    (hand[0] - dx * 0.05, hand[1] + wide * 0.5),
                    (mid[0] - dx * 0.02, mid[1] + wide * 1.5),
                ]
            ),
            shaded(c.main, 0.15),
        )
        return
    dressed = c.clothes in ("shirt", "dress", "coat", "robe", "suit") and c.sleeves > 0
    color = c.top if dressed and c.sleeves >= 1 else c.second if c.family == "robot" else c.main
    with canvas.group():
        canvas.limb(shoulder, elbow, hand, width, color, width * 0.85)
    if dressed and c.sleeves < 1:
        mid = (shoulder[0] * 0.45 + elbow[0] * 0.55, shoulder[1] * 0.45 + elbow[1] * 0.55)
        canvas.limb(
            shoulder,
            ((shoulder[0] + mid[0]) / 2, (shoulder[1] + mid[1]) / 2),
            mid,
            width * 1.3,
            c.top,
            width * 1.45,
        )
    size = width * 0.62 + 0.014
    if c.hands == "claw":
        for turn in (-0.6, 0.6):
            tip = (hand[0] + sin(angle + turn) * direction * size * 2, hand[1] + cos(angle + turn) * size * 2)
            canvas.limb(hand, hand, tip, size * 0.9, c.main, size * 0.5)
        return
    skin = (250, 250, 246) if c.hands == "glove" else c.main
    if c.look.hose:
        size *= 1.5
    with canvas.group():
        thumb = (hand[0] - dy * size * 0.9 * direction, hand[1] + dx * size * 0.4 - size * 0.2)
        canvas.part(ellipse(*thumb, size * 0.42, size * 0.42, count=12), skin, shade=False)
        for spread in (-0.55, 0.0, 0.55):
            tip = (
                hand[0] + sin(angle + spread) * direction * size * 1.15,
                hand[1] + cos(angle + spread) * size * 1.15,
            )
            canvas.part(ellipse(*tip, size * 0.42, size * 0.42, count=12), skin, shade=False)
        canvas.part(ellipse(*hand, size, size, count=16), skin)


def _torso(c: Character, x: float, top: float, bottom: float, flat: float, belly: float) -> Points:
    """Torso outline from shoulders to hips; `flat` (0..1) narrows it for the side view, where the belly points ahead."""
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
    return blob([(x - shoulder * 0.8, top + high * 0.04), (x, top - high * 0.03), (x + shoulder * 0.8, top + high * 0.04), (x + shoulder * 0.5 + wide * 0.5, top + high * 0.32),
                 (x + wide + ahead, top + high * 0.66), (x + hip * 0.8, bottom), (x, bottom + high * 0.05), (x - hip * 0.8, bottom),
                 (x - wide + ahead, top + high * 0.66), (x - shoulder * 0.5 - wide * 0.5, top + high * 0.32)], 4)  # fmt: skip


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
    _wings(canvas, c, pose, 0.0, upper + c.torso * 0.3, turn, way)
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
    _tail(canvas, c, (-way * turn * c.hip * 0.35, lower - c.torso * 0.1), way if turn > 0.2 else 1.0, c.torso)
    mark = canvas.mark()
    if not pose.back:
        draw_back(canvas, c, ball)
        _tilted(canvas, mark, pose, (ball.x, neck_y))
    legs = {}
    for side in (-1, 1):
        rest = side * c.hip * (0.5 - 0.36 * turn)
        legs[side], _ = _foot(c, pose, side, rest, max(turn, 0.12), c.leg, yaw)
    dirs = {s: s * (1 - turn) + way * turn for s in (-1, 1)}
    shoulders = {
        s: (s * c.shoulder * (0.46 - 0.34 * turn), upper + min(0.05, c.torso * 0.14)) for s in (-1, 1)
    }
    arm = {-1: (pose.arms[0], pose.bends[0]), 1: (pose.arms[1], pose.bends[1])}
    far = order[0]
    fly = c.family == "flyer"
    if turn > 0.35:
        _arm(canvas, c, shoulders[far], *arm[far], dirs[far], c.arm, width)
    with canvas.group():
        for side in order:
            _leg(
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
    _dress(canvas, c, pose, upper, lower, turn, way, body)
    sides = (near,) if turn > 0.35 else order
    for side in sides:
        _arm(canvas, c, shoulders[side], *arm[side], dirs[side], c.arm, width)
    mark = canvas.mark()
    face = draw_front(canvas, c, pose, ball)
    if pose.back:
        draw_back(canvas, c, ball)
    _tilted(canvas, mark, pose, (ball.x, neck_y))
    return face


def _dress(
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
    front = 0.0 if pose.back else 1.0
    ahead = way * turn * wide * 0.5
    if c.clothes in ("dress", "robe"):
        hem = lower + c.leg * (0.45 if c.clothes == "dress" else 0.88)
        sway = sin(2 * pi * pose.phase) * pose.stride * 0.03
        flare = hip * (1.7 if c.clothes == "dress" else 1.3)
        canvas.part(
            blob(
                [
                    (-wide * 0.9, upper + high * 0.62),
                    (wide * 0.9, upper + high * 0.62),
                    (flare + sway, hem),
                    (sway, hem + 0.015),
                    (-flare + sway, hem),
                ],
                3,
            ),
            c.top,
        )
        canvas.raw(
            blob(
                [
                    (-wide * 0.95, upper + high * 0.6),
                    (wide * 0.95, upper + high * 0.6),
                    (wide * 0.98, upper + high * 0.7),
                    (-wide * 0.98, upper + high * 0.7),
                ],
                1,
            ),
            c.accent,
        )
    elif c.clothes in ("shirt", "suit") and c.family in ("human", "toddler"):
        canvas.raw(
            blob(
                [
                    (-wide * 0.98 + ahead * c.belly, upper + high * 0.78),
                    (wide * 0.98 + ahead * c.belly, upper + high * 0.78),
                    (hip * 0.86, lower + 0.01),
                    (0.0, lower + c.leg * 0.12),
                    (-hip * 0.86, lower + 0.01),
                ],
                1,
            ),
            c.bottom,
        )
    elif c.clothes == "overalls":
        canvas.part(
            blob(
                [
                    (-wide * 0.9, upper + high * 0.55),
                    (ahead, upper + high * 0.5),
                    (wide * 0.9, upper + high * 0.55),
                    (hip * 0.95, lower + 0.02),
                    (0.0, lower + c.leg * 0.12),
                    (-hip * 0.95, lower + 0.02),
                ],
                3,
            ),
            c.bottom,
            line=0.6,
        )
        for side in (-1, 1):
            canvas.raw(
                hose(
                    (side * c.shoulder * 0.22 + ahead * 0.5, upper + 0.01),
                    (side * c.shoulder * 0.24 + ahead * 0.5, upper + high * 0.3),
                    (side * wide * 0.5 + ahead * 0.6, upper + high * 0.6),
                    0.03,
                ),
                c.bottom,
            )
    elif c.clothes == "coat":
        hem = lower + c.leg * 0.35
        canvas.part(
            blob(
                [
                    (-c.shoulder * 0.42, upper + 0.02),
                    (c.shoulder * 0.42, upper + 0.02),
                    (wide * 1.08, upper + high * 0.6),
                    (hip * 1.35, hem),
                    (-hip * 1.35, hem),
                    (-wide * 1.08, upper + high * 0.6),
                ],
                3,
            ),
            c.top,
        )
        if front:
            canvas.stroke([(ahead, upper + 0.03), (ahead, lower), (ahead * 0.6, hem)], 0.012)
    elif c.clothes == "shorts":
        canvas.part(
            blob(
                [
                    (-wide * 1.0, upper + high * 0.72),
                    (wide * 1.0, upper + high * 0.72),
                    (hip * 1.02, lower + 0.02),
                    (0.0, lower + c.leg * 0.18),
                    (-hip * 1.02, lower + 0.02),
                ],
                2,
            ),
            c.bottom,
            line=0.7,
        )
    if front and c.pattern == "belly" and c.clothes in ("none", "shorts"):
        canvas.raw(
            ellipse(ahead * 0.9, upper + high * 0.62, wide * (0.72 - 0.2 * turn), high * 0.36), c.second
        )
    elif front and c.pattern == "buttons":
        for k in range(3):
            canvas.raw(
                ellipse(ahead * 1.1, upper + high * (0.25 + 0.2 * k), 0.016, 0.016, count=10), c.accent
            )
    elif front and c.pattern in ("emblem", "panel"):
        box = 5.0 if c.pattern == "panel" else 2.0
        canvas.part(
            ellipse(ahead, upper + high * 0.42, wide * 0.5, high * 0.2, exponent=box),
            c.accent,
            shade=False,
            line=0.6,
        )
        if c.pattern == "panel":
            for k in (-1, 0, 1):
                canvas.raw(
                    ellipse(ahead + k * wide * 0.25, upper + high * 0.42, 0.018, 0.018, count=8),
                    lit(c.accent, 0.7),
                )
    elif c.pattern == "stripes":
        for k in range(3):
            y = upper + high * (0.3 + 0.2 * k)
            inside = body[abs(body[:, 1] - y) < high * 0.12]
            if len(inside) >= 2:
                left, right = float(inside[:, 0].min()), float(inside[:, 0].max())
                canvas.raw(
                    hose((left + 0.022, y), ((left + right) / 2, y + 0.015), (right - 0.022, y), high * 0.09),
                    c.accent,
                )
    elif c.pattern in ("dots", "spots"):
        spot = c.accent if c.pattern == "dots" else shaded(c.main, 0.35)
        for k in range(6):
            a = k * 2.4 + c.seed % 7
            canvas.raw(
                ellipse(
                    cos(a) * wide * 0.55,
                    upper + high * (0.5 + 0.3 * sin(a * 1.7)),
                    wide * 0.12,
                    wide * 0.12,
                    count=10,
                ),
                spot,
            )
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
        canvas.raw(
            blob(
                [
                    (-wide, upper + high * 0.78),
                    (wide, upper + high * 0.78),
                    (wide, upper + high * 0.87),
                    (-wide, upper + high * 0.87),
                ],
                1,
            ),
            shaded(c.bottom, 0.5),
        )
        canvas.raw(
            ellipse(ahead, upper + high * 0.825, 0.024, high * 0.055, exponent=5),
            (232, 196, 70) if not c.look.grey else (200, 200, 200),
        )
    elif c.extra == "bag":
        canvas.stroke(
            [(-c.shoulder * 0.35, upper + 0.02), (0.0, upper + high * 0.5), (wide * 0.9, lower - 0.02)],
            0.02,
            shaded(c.accent, 0.4),
        )
        canvas.part(ellipse(wide * 0.9, lower, 0.06, 0.055, exponent=4), c.accent)


def _tail(canvas: Canvas, c: Character, root: XY, way: float, size: float) -> None:
    x, y = root
    if c.tail == "thin":
        canvas.limb(
            root,
            (x - way * size * 0.9, y + size * 0.3),
            (x - way * size * 0.95, y - size * 0.7),
            0.035,
            c.main,
            0.022,
        )
    elif c.tail in ("bushy", "ringed"):
        tip = (x - way * size * 0.75, y - size * 1.0)
        canvas.part(
            hose(root, (x - way * size * 1.1, y + size * 0.1), tip, size * 0.2, size * 0.5),
            c.main if c.tail == "bushy" else c.second,
            fuzzy=True,
        )
        if c.tail == "bushy":
            canvas.raw(ellipse(tip[0], tip[1] - size * 0.08, size * 0.19, size * 0.17), c.second)
        else:
            for k in (0.35, 0.6, 0.85):
                px = x - way * size * (2 * k * (1 - k) * 1.1 + k * k * 0.75)
                canvas.raw(
                    ellipse(
                        px, y + size * (2 * k * (1 - k) * 0.1 - k * k), size * 0.2, size * 0.06, rot=0.4 * way
                    ),
                    shaded(c.main, 0.6),
                )
    elif c.tail == "puff":
        canvas.part(
            ellipse(x - way * size * 0.3, y, size * 0.22, size * 0.22), lit(c.second, 0.4), fuzzy=True
        )
    elif c.tail == "curl":
        canvas.limb(
            root,
            (x - way * size * 0.5, y + size * 0.2),
            (x - way * size * 0.3, y - size * 0.3),
            0.03,
            c.main,
            0.02,
        )
    elif c.tail == "thick":
        canvas.limb(
            (x, y - size * 0.05),
            (x - way * size * 0.7, y + size * 0.5),
            (x - way * size * 1.5, y + size * 0.15),
            size * 0.5,
            c.main,
            0.02,
        )
    elif c.tail == "feathers":
        for k in (-1, 0, 1):
            canvas.part(
                hose(
                    root, root, (x - way * size * 0.75, y + size * (0.05 + 0.22 * k)), size * 0.16, size * 0.2
                ),
                shaded(c.main, 0.2),
            )


def _wings(canvas: Canvas, c: Character, pose: Pose, x: float, y: float, turn: float, way: float) -> None:
    if c.wings == "none":
        return
    beat = 0.75 + 0.25 * cos(4 * pi * pose.phase) + 0.1 * pose.arms[0]
    for side in (-1, 1):
        out = (side * (1 - turn) - way * turn * (0.9 if side > 0 else 0.6)) * beat
        if c.wings == "bat":
            canvas.part(
                blob(
                    [
                        (x, y),
                        (x + out * 0.3, y - 0.28),
                        (x + out * 0.55, y - 0.2),
                        (x + out * 0.48, y + 0.06),
                        (x + out * 0.3, y - 0.02),
                        (x + out * 0.2, y + 0.1),
                    ],
                    3,
                ),
                shaded(c.main, 0.3),
                shade=False,
            )
            continue
        size = {"butterfly": 0.36, "bee": 0.24, "fairy": 0.26}[c.wings]
        color = c.accent if c.wings == "butterfly" else mix((225, 240, 255), c.accent, 0.12)
        canvas.part(
            ellipse(x + out * size * 0.9, y + size * 0.5, size * 0.55 * max(0.4, abs(out)), size * 0.5),
            mix(color, c.second, 0.3),
            shade=False,
        )
        canvas.part(
            ellipse(
                x + out * size * 1.05,
                y - size * 0.4,
                size * 0.8 * max(0.4, abs(out)),
                size * 0.75,
                rot=out * 0.5,
            ),
            color,
            shade=c.wings == "butterfly",
        )
        if c.wings == "butterfly":
            canvas.raw(
                ellipse(
                    x + out * size * 1.15, y - size * 0.45, size * 0.35 * max(0.4, abs(out)), size * 0.35
                ),
                c.second,
            )


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
            foot, _ = _foot(c, pose, side, rest, max(turn, 0.15), max(0.12, c.leg), yaw)
            _leg(canvas, c, (rest, -leg - ry * 0.2), foot, c.limb * 1.2, way, turn, side)
    near = 1 if way < 0 else -1
    dirs = {s: s * (1 - turn) + way * turn for s in (-1, 1)}
    arm = {-1: (pose.arms[0], pose.bends[0]), 1: (pose.arms[1], pose.bends[1])}
    spots = {s: (s * rx * (0.86 - 0.75 * turn), ball.y + ry * 0.3) for s in (-1, 1)}
    _arm(canvas, c, spots[-near], *arm[-near], dirs[-near], c.arm, c.limb)
    face = draw_front(canvas, c, pose, ball)
    _arm(canvas, c, spots[near], *arm[near], dirs[near], c.arm, c.limb)
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
        _tail(canvas, c, (-ahead * half * 0.9, mid - thick * 0.15), way if turn > 0.25 else 1.0, thick * 0.8)
    mark = canvas.mark()
    draw_back(canvas, c, ball)
    _tilted(canvas, mark, pose, (head_x, head_y + ry))

    def legs(side: int) -> None:
        for end in (-1, 1):
            rest = end * ahead * half * 0.68 + side * thick * (0.08 + 0.24 * (1 - turn))
            gait = Pose(
                phase=(pose.phase + (0.5 if end > 0 else 0.0)) % 1.0, stride=pose.stride, jump=pose.jump
            )
            foot, _ = _foot(c, gait, side, rest, max(turn, 0.12), c.leg, yaw)
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
    body = blob([(-half, mid - thick * 0.1), (-half * 0.6, mid - thick * 0.42), (half * 0.1, mid - thick * 0.36), (half * 0.65, mid - thick * 0.42), (half, mid - thick * 0.05),
                 (half * 0.65, mid + thick * 0.38), (0.0, mid + thick * (0.36 + c.belly)), (-half * 0.65, mid + thick * 0.36)], 4)  # fmt: skip
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
        _tail(canvas, c, (-ahead * half * 0.9, mid - thick * 0.15), 1.0 if turn < 0.25 else way, thick * 0.8)
    mark = canvas.mark()
    face = draw_front(canvas, c, pose, ball)
    _tilted(canvas, mark, pose, (head_x, head_y + ry))
    return face
