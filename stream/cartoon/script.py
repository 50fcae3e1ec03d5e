"""Scripts: which shots an episode has, who plays in them and where, drawn by lot from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.cartoon.acting import Act, Actor, Doing, key_poses, mouth_flaps
from stream.cartoon.model import Character, Look, Pose
from stream.errors import ConfigError

Rng = np.random.Generator
SIZES = {
    "human": 1.0,
    "robot": 0.95,
    "creature": 0.95,
    "animal": 0.82,
    "quadruped": 0.7,
    "toddler": 0.68,
    "bird": 0.68,
    "blob": 0.62,
    "flyer": 0.5,
}
"""How tall each family stands beside the others."""
KINDS = ("talk", "walk", "close", "action", "still", "empty")
"""Kinds of shot: a conversation, a walk, a close-up, jumps and gestures, a single held drawing, an empty
set.
"""
_LIKELY = (0.38, 0.27, 0.11, 0.12, 0.07, 0.05)
_MOST = {"talk": 4, "walk": 3, "close": 1, "action": 3, "still": 3, "empty": 0}


@dataclass(frozen=True)
class Camera:
    """Upper left corner and zoom at the first and last frame, in world pixels; eased in between."""

    x: tuple[float, float] = (0.0, 0.0)
    y: tuple[float, float] = (0.0, 0.0)
    zoom: tuple[float, float] = (1.0, 1.0)

    def at(self, share: float) -> tuple[float, float, float]:
        """(x, y, zoom) at `share` 0..1 of the shot."""
        ease = share * share * (3 - 2 * share)
        x, y, zoom = (a + (b - a) * ease for a, b in (self.x, self.y, self.zoom))
        return x, y, zoom


@dataclass(frozen=True)
class Shot:
    """`frames` frames of one set: a world of `size` pixels painted from `seed`, a camera, actors and props
    in front.

    `props` are (x, foot, height, seed) of what stands in front of the actors.
    """

    kind: str
    frames: int
    size: tuple[int, int]
    seed: int
    camera: Camera
    actors: tuple[Actor, ...]
    props: tuple[tuple[float, float, float, int], ...] = ()


@dataclass(frozen=True)
class Script:
    """An episode: frame size, rate (frames/s), cast and shots, the same for the same seed."""

    width: int
    height: int
    fps: int
    look: Look
    cast: tuple[Character, ...]
    shots: tuple[Shot, ...]

    @property
    def frames(self) -> int:
        """Frames in all shots together."""
        return sum(shot.frames for shot in self.shots)

    @classmethod
    def random(
        cls,
        cast: Sequence[Character],
        seed: int,
        *,
        seconds: float = 60.0,
        width: int = 640,
        height: int = 360,
        fps: int = 24,
        look: Look | None = None,
    ) -> Script:
        """Shots for `seconds` in which every member of the cast gets its share of the screen.

        `look` is that of the sets; None takes the first character's. Raises ConfigError for a length, size
        or rate that is not positive.
        """
        for name, value in (("seconds", seconds), ("width", width), ("height", height), ("fps", fps)):
            if not value > 0:
                raise ConfigError(f"{name}: expected a positive number, got {value!r}; give a larger one")
        rng = np.random.default_rng([seed, 0x5C1])
        look = look or (cast[0].look if cast else Look.random(rng))
        writer = _Writer(rng, tuple(cast), width, height, fps)
        shots: list[Shot] = []
        left = max(1, round(seconds * fps))
        while left > 0:
            frames = min(left, round(float(rng.uniform(1.8, 5.0)) * fps))
            if left - frames < fps:
                frames = left
            shots.append(writer.shot(frames))
            left -= frames
        return cls(width, height, fps, look, tuple(cast), tuple(shots))


class _Writer:
    """Writes shots one after another and keeps count of who has been seen how long."""

    def __init__(self, rng: Rng, cast: tuple[Character, ...], width: int, height: int, fps: int) -> None:
        self.rng = rng
        self.cast = cast
        self.width = width
        self.height = height
        self.fps = fps
        self.seen: NDArray[np.float64] = np.zeros(len(cast))

    def shot(self, frames: int) -> Shot:
        """The next shot, with those members of the cast in it that were seen least."""
        rng, width, height = self.rng, self.width, self.height
        kind = str(rng.choice(KINDS, p=_LIKELY)) if self.cast else "empty"
        count = int(rng.integers(1, _MOST[kind] + 1)) if _MOST[kind] else 0
        order = np.argsort(self.seen + rng.uniform(0, 2.5 * self.fps, len(self.seen)))[:count]
        self.seen[order] += frames
        who = [int(k) for k in rng.permutation(order)]
        pan = kind in ("walk", "empty") and rng.random() < 0.5
        size = (round(width * (float(rng.uniform(1.3, 1.9)) if pan else 1.0)), height)
        camera = self._camera(kind, pan, size)
        # Crowds stand further away, or they would hide each other.
        scale = float(rng.uniform(0.5, 0.85)) * height * (1.0 if len(who) < 3 else 0.85)
        on = int(rng.choice([1, 2, 2, 2, 3, 3]))
        actors = []
        for place, index in enumerate(who):
            slot = (place + 0.5 + float(rng.uniform(-0.2, 0.2))) / len(who)
            actors.append(self._actor(kind, index, slot, scale, on, frames, camera))
        actors.sort(key=lambda actor: actor.foot)
        props: list[tuple[float, float, float, int]] = []
        if kind in ("talk", "walk", "action") and rng.random() < 0.3:
            for _ in range(int(rng.integers(1, 3))):
                x, foot = float(rng.uniform(0.1, 0.9)) * size[0], float(rng.uniform(1.0, 1.12)) * height
                props.append((x, foot, float(rng.uniform(0.22, 0.5)) * height, int(rng.integers(1 << 30))))
        return Shot(kind, frames, size, int(rng.integers(1 << 30)), camera, tuple(actors), tuple(props))

    def _camera(self, kind: str, pan: bool, size: tuple[int, int]) -> Camera:
        rng = self.rng
        if pan:
            ends = (0.0, float(size[0] - self.width))
            return Camera(x=ends if rng.random() < 0.5 else ends[::-1])
        if kind not in ("talk", "action", "still") or rng.random() > 0.3:
            return Camera()
        zoom = float(rng.uniform(1.15, 1.5))
        x = self.width * (1 - 1 / zoom) * float(rng.uniform(0.3, 0.7))
        y = self.height * (1 - 1 / zoom) * float(rng.uniform(0.6, 0.9))
        if rng.random() < 0.6:
            return Camera((0.0, x), (0.0, y), (1.0, zoom))
        return Camera((x, 0.0), (y, 0.0), (zoom, 1.0))

    def _actor(
        self, kind: str, index: int, slot: float, scale: float, on: int, frames: int, camera: Camera
    ) -> Actor:
        rng, width, height = self.rng, self.width, self.height
        character = self.cast[index]
        flies = character.family == "flyer"
        tall = scale * SIZES[character.family]
        foot = float(rng.uniform(0.82, 0.98)) * height
        hover = float(rng.uniform(0.2, 0.5)) * height if flies else 0.0
        x = camera.x[0] + slot * width
        poses = key_poses(rng, 3, 1.0 if slot < 0.5 else -1.0)
        act: tuple[Act, ...]
        if kind == "close":
            tall, foot = self._close_up(character)
            middle, hover, on = width * float(rng.uniform(0.35, 0.65)), 0.0, max(2, on)
            act = (Act("talk", 0, frames, middle, middle, poses, mouth_flaps(rng, True)),)
        elif kind == "still":
            act = (Act("hold", 0, frames, x, x, (Pose.random(rng),)),)
        elif kind == "action" and flies:
            act = (Act("fly", 0, frames, x, x + width * float(rng.uniform(-0.2, 0.2)), poses),)
        elif kind == "action":
            doings: tuple[Doing, ...] = ("jump", "hold", "talk", "jump")
            doing = doings[int(rng.integers(4))]
            act = (
                Act(
                    doing,
                    0,
                    frames,
                    x,
                    x,
                    (Pose.random(rng),) if doing == "hold" else poses,
                    mouth_flaps(rng, True),
                ),
            )
        else:
            if character.family == "bird" and rng.random() < 0.3:
                hover = float(rng.uniform(0.1, 0.45)) * height
            act = self._walk(kind, character, slot, tall, frames, camera, poses, bool(hover))
        return Actor(index, round(tall), foot, on, act, hover)

    def _close_up(self, character: Character) -> tuple[float, float]:
        """Height and foot at which head and chest fill the frame: large heads need less magnification."""
        body = character.head + character.torso + character.leg
        share = min(0.9, max(0.34, character.head / max(0.3, body) + 0.12))
        tall = min(float(self.rng.uniform(0.75, 1.0)) / share, 2.4) * self.height
        return tall, self.height * float(self.rng.uniform(0.06, 0.2)) + tall

    def _walk(
        self,
        kind: str,
        character: Character,
        slot: float,
        tall: float,
        frames: int,
        camera: Camera,
        poses: tuple[Pose, ...],
        flying: bool,
    ) -> tuple[Act, ...]:
        """Walks on, across or off; or stands and talks. In a `talk` shot some make an entrance first."""
        rng, width, fps = self.rng, self.width, self.fps
        moving: Doing = "fly" if flying else "walk"
        stride = float(rng.uniform(0.6, 1.0))
        step_px = tall * (0.5 + 0.9 * character.leg) * stride
        speed = step_px * float(rng.uniform(0.9, 1.5)) / fps
        at, now = camera.x[0] + slot * width, 0
        acts: list[Act] = []
        if kind == "walk" or rng.random() < 0.15:
            way = 1.0 if rng.random() < 0.5 else -1.0
            if kind == "talk":
                way = 1.0 if slot < 0.5 else -1.0
            if camera.x[0] != camera.x[1]:
                way = 1.0 if camera.x[1] > camera.x[0] else -1.0
                # The camera follows: the walker covers about the ground that the camera does.
                speed = max(speed, abs(camera.x[1] - camera.x[0]) / frames * float(rng.uniform(0.8, 1.15)))
            begin = camera.x[0] + (-tall * 0.4 if way > 0 else width + tall * 0.4)
            if kind == "walk" and rng.random() < 0.6:
                begin = at - way * width * 0.15
            off = kind == "walk" and rng.random() < 0.6
            length = frames if off else min(frames, round(abs(at - begin) / speed) + 1)
            facing = way * float(rng.choice([1.0, 1.0, 0.7, 0.5]))
            pose = Pose(facing=facing, stride=stride, expression=poses[0].expression)
            end = begin + way * speed * length
            acts.append(Act(moving, 0, length, begin, end, (pose,), stride_px=step_px))
            at, now = end, length
        if now < frames:
            rest: Doing = "fly" if flying else "talk"
            acts.append(Act(rest, now, frames, at, at, poses, mouth_flaps(rng, bool(rng.random() < 0.7))))
        return tuple(acts)
