"""Arms, legs, feet, tails and wings, in canvas units."""

from __future__ import annotations

from math import cos, pi, sin

from stream.cartoon.draw import Canvas, Color, blob, ellipse, hose, lit, mix, shaded
from stream.cartoon.model import Character, Pose

XY = tuple[float, float]


def place_foot(
    c: Character, pose: Pose, side: int, rest: float, turn: float, leg: float, yaw: float
) -> tuple[XY, float]:
    """The foot's place and how far it is lifted, from the walk cycle."""
    angle = 2 * pi * pose.phase + (0.0 if side < 0 else pi)
    reach = sin(angle) * pose.stride * leg * 0.55
    lift = max(0.0, cos(angle)) * pose.stride * leg * 0.32 + pose.jump * leg * 0.35
    way = 1.0 if sin(yaw) >= 0 else -1.0
    return (rest + reach * turn * way, -lift), lift


def draw_leg(
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


def draw_arm(
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
        canvas.part(ellipse(*thumb, size * 0.42, size * 0.42, count=16), skin, shade=False)
        for spread in (-0.55, 0.0, 0.55):
            tip = (
                hand[0] + sin(angle + spread) * direction * size * 1.15,
                hand[1] + cos(angle + spread) * size * 1.15,
            )
            canvas.part(ellipse(*tip, size * 0.42, size * 0.42, count=16), skin, shade=False)
        canvas.part(ellipse(*hand, size, size), skin)


def draw_tail(canvas: Canvas, c: Character, root: XY, way: float, size: float) -> None:
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


def draw_wings(canvas: Canvas, c: Character, pose: Pose, x: float, y: float, turn: float, way: float) -> None:
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
