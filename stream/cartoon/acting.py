"""What an actor does during a shot: walks, talks, gestures, jumps, holds still, drawn on ones, twos or
threes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from stream.cartoon.model import EXPRESSIONS, Pose

Doing = Literal["walk", "talk", "hold", "jump", "fly"]


@dataclass(frozen=True)
class Act:
    """From frame `start` to before `end` (of the shot) the actor is doing `doing`, moving from x `x0` to
    `x1`.

    `poses` are the key drawings it plays; `stride_px` is how far one walk cycle carries it.
    """

    doing: Doing
    start: int
    end: int
    x0: float
    x1: float
    poses: tuple[Pose, ...]
    mouths: tuple[float, ...] = (0.0,)
    stride_px: float = 100.0


@dataclass(frozen=True)
class Actor:
    """Character number `who` of the cast, `height` pixels tall in the world, feet at height `foot`.

    `on` is how many frames each drawing is held (2: on twos). `hover` lifts it off the ground, in pixels.
    """

    who: int
    height: int
    foot: float
    on: int
    acts: tuple[Act, ...]
    hover: float = 0.0

    def at(self, frame: int) -> tuple[Pose, float, float] | None:
        """(pose, x, y of the feet) in world pixels at a frame of the shot, None when not on the set."""
        held = frame - frame % self.on
        for act in self.acts:
            if act.start <= frame < act.end:
                return self._play(act, max(held, act.start))
        return None

    def _play(self, act: Act, frame: int) -> tuple[Pose, float, float]:
        drawing = (frame - act.start) // self.on
        share = (frame - act.start) / max(1, act.end - act.start)
        x = act.x0 + (act.x1 - act.x0) * share
        lift = self.hover
        pose = act.poses[0]
        if act.doing == "walk":
            # The phase follows the ground covered, in eight drawings a cycle, so that feet do not skate.
            cycle = abs(x - act.x0) / max(1.0, act.stride_px)
            phase = round(cycle * 8) % 8 / 8
            pose = Pose.walk(phase, pose.facing, pose.stride, expression=pose.expression, back=pose.back)
        elif act.doing == "fly":
            pose = replace(pose, phase=drawing % 4 / 8, arms=((0.9, 1.6, 2.3, 1.6)[drawing % 4],) * 2)
            lift += self.height * 0.06 * float(np.sin(drawing * 0.6))
        elif act.doing == "talk":
            key = drawing // 9
            pose = act.poses[key % len(act.poses)]
            before = act.poses[(key - 1) % len(act.poses)]
            if drawing % 9 == 0 and key:
                pose = _between(before, pose)
            pose = replace(
                pose,
                mouth=act.mouths[drawing % len(act.mouths)],
                blink=1.0 if drawing % 31 in (6, 7) else 0.0,
            )
        elif act.doing == "jump":
            step = drawing % 12
            up = max(0.0, 1.0 - ((step - 6.0) / 4.0) ** 2)
            lift += self.height * 0.3 * up
            pose = replace(
                pose,
                jump=round(up, 2),
                squat=0.5 if step in (1, 11) else 0.0,
                stretch=(0.08 if 2 <= step <= 5 else -0.1 if step in (1, 11) else 0.0),
                arms=(2.4, 2.4) if up > 0 else (0.4, 0.4),
            )
        return pose, x, self.foot - lift


def _between(a: Pose, b: Pose) -> Pose:
    """The drawing half way between two key poses."""

    def half(x: float, y: float) -> float:
        return round((x + y) / 2, 3)

    return replace(
        b,
        facing=half(a.facing, b.facing),
        arms=(half(a.arms[0], b.arms[0]), half(a.arms[1], b.arms[1])),
        bends=(half(a.bends[0], b.bends[0]), half(a.bends[1], b.bends[1])),
        lean=half(a.lean, b.lean),
        tilt=half(a.tilt, b.tilt),
    )


def key_poses(rng: np.random.Generator, count: int, side: float, back: float = 0.03) -> tuple[Pose, ...]:
    """Standing key poses that face mostly towards `side` (-1..1); `back` is the share seen from behind."""
    poses = []
    base = float(np.clip(side * 0.5 + rng.normal(0, 0.25), -1, 1))
    for _ in range(count):
        arms = rng.uniform(0.05, 1.0, 2) + (rng.random(2) < 0.3) * rng.uniform(0.6, 1.8, 2)
        bends = rng.uniform(0.0, 0.8, 2)
        poses.append(
            Pose(
                facing=round(float(np.clip(base + rng.normal(0, 0.12), -1, 1)), 2),
                back=bool(rng.random() < back),
                arms=(round(float(arms[0]), 2), round(float(arms[1]), 2)),
                bends=(round(float(bends[0]), 2), round(float(bends[1]), 2)),
                lean=round(float(rng.normal(0, 0.04)), 2),
                tilt=round(float(rng.normal(0, 0.1)), 2),
                expression=str(rng.choice(EXPRESSIONS)),
                gaze=(round(float(rng.uniform(-0.6, 0.6)), 1), 0.0),
            )
        )
    return tuple(poses)


def mouth_flaps(rng: np.random.Generator, talking: bool) -> tuple[float, ...]:
    """Mouth openings per drawing: syllables and pauses, or a shut mouth."""
    if not talking:
        return (0.0,)
    flaps: list[float] = []
    while len(flaps) < 24:
        flaps += (
            [float(rng.choice([0.3, 0.6, 1.0])), float(rng.choice([0.0, 0.3, 0.6]))]
            if rng.random() < 0.8
            else [0.0] * 3
        )
    return tuple(flaps)
