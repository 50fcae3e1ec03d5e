"""Episodes: a script of shots played by a cast, rendered frame by frame with the truth, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stream.cartoon.acting import Act, Actor, key_poses, mouth_flaps
from stream.cartoon.backgrounds import paint_background
from stream.cartoon.characters import Character, Look, Pose
from stream.cartoon.props import foreground_prop
from stream.cartoon.scene import Drawer, Drawing, Layer, Truth, compose
from stream.errors import ConfigError

Rng = np.random.Generator
SIZES = {"human": 1.0, "robot": 0.95, "creature": 0.95, "animal": 0.82, "quadruped": 0.7, "toddler": 0.68, "bird": 0.68, "blob": 0.62, "flyer": 0.5}  # fmt: skip
"""How tall each family stands beside the others."""


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
    """`frames` frames of one set: a world of `size` pixels painted from `seed`, a camera, actors and props in front.

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
    ) -> Script:
        """Shots for `seconds` in which every member of the cast gets its share of the screen.

        Raises ConfigError for a length, size or rate that is not positive.
        """
        for name, value in (("seconds", seconds), ("width", width), ("height", height), ("fps", fps)):
            if not value > 0:
                raise ConfigError(
                    f"{name}: expected a positive number, got {value!r}; give it a larger value"
                )
        rng = np.random.default_rng([seed, 0x5C1])
        look = cast[0].look if cast else Look.random(rng)
        total = max(1, round(seconds * fps))
        shots: list[Shot] = []
        seen = np.zeros(max(1, len(cast)))
        left = total
        while left > 0:
            frames = min(left, round(float(rng.uniform(1.8, 5.0)) * fps))
            if left - frames < fps:
                frames = left
            shots.append(_shot(rng, cast, seen, frames, width, height, fps))
            left -= frames
        return cls(width, height, fps, look, tuple(cast), tuple(shots))


def _shot(
    rng: Rng,
    cast: Sequence[Character],
    seen: NDArray[np.float64],
    frames: int,
    width: int,
    height: int,
    fps: int,
) -> Shot:
    kinds = ["talk", "walk", "close", "action", "still", "empty"]
    kind = str(rng.choice(kinds, p=[0.38, 0.27, 0.11, 0.12, 0.07, 0.05])) if cast else "empty"
    count = {"talk": int(rng.integers(1, 5)), "walk": int(rng.integers(1, 4)), "close": 1, "action": int(rng.integers(1, 4)), "still": int(rng.integers(1, 4)), "empty": 0}[kind]  # fmt: skip
    # Those seen least come first, so that nobody is left out of a short episode.
    order = np.argsort(seen + rng.uniform(0, 2.5 * fps, len(seen)))[: min(count, len(cast))]
    seen[order] += frames
    who = [int(k) for k in rng.permutation(order)] if count else []
    pan = kind in ("walk", "empty") and rng.random() < 0.5
    size = (round(width * (float(rng.uniform(1.3, 1.9)) if pan else 1.0)), height)
    camera = Camera()
    if pan:
        ends = (0.0, float(size[0] - width))
        camera = Camera(x=ends if rng.random() < 0.5 else ends[::-1])
    elif kind in ("talk", "action", "still") and rng.random() < 0.3:
        zoom, focus = (
            float(rng.uniform(1.15, 1.5)),
            (float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.6, 0.9))),
        )
        far = (0.0, 0.0, 1.0)
        near = (width * (1 - 1 / zoom) * focus[0], height * (1 - 1 / zoom) * focus[1], zoom)
        a, b = (far, near) if rng.random() < 0.6 else (near, far)
        camera = Camera((a[0], b[0]), (a[1], b[1]), (a[2], b[2]))
    scale = float(rng.uniform(0.5, 0.85)) * height
    on = int(rng.choice([1, 2, 2, 2, 3, 3]))
    actors = []
    for place, index in enumerate(who):
        slot = (place + 0.5 + float(rng.uniform(-0.2, 0.2))) / len(who)
        actors.append(
            _actor(rng, kind, index, cast[index], slot, scale, on, frames, size, camera, width, height, fps)
        )
    actors.sort(key=lambda actor: actor.foot)
    props: list[tuple[float, float, float, int]] = []
    if kind in ("talk", "walk", "action") and rng.random() < 0.3:
        for _ in range(int(rng.integers(1, 3))):
            props.append(
                (
                    float(rng.uniform(0.1, 0.9)) * size[0],
                    float(rng.uniform(1.0, 1.12)) * height,
                    float(rng.uniform(0.22, 0.5)) * height,
                    int(rng.integers(1 << 30)),
                )
            )
    return Shot(kind, frames, size, int(rng.integers(1 << 30)), camera, tuple(actors), tuple(props))


def _actor(
    rng: Rng,
    kind: str,
    index: int,
    character: Character,
    slot: float,
    scale: float,
    on: int,
    frames: int,
    size: tuple[int, int],
    camera: Camera,
    width: int,
    height: int,
    fps: int,
) -> Actor:
    tall = scale * SIZES[character.family]
    foot = float(rng.uniform(0.82, 0.98)) * height
    start_x = camera.x[0]
    x = start_x + slot * width
    hover = float(rng.uniform(0.2, 0.5)) * height if character.family == "flyer" else 0.0
    poses = key_poses(rng, 3, 1.0 if slot < 0.5 else -1.0)
    if kind == "close":
        # The head and chest fill the frame: large heads need less magnification.
        share = max(
            0.34, min(0.9, character.head / max(0.3, character.head + character.torso + character.leg) + 0.12)
        )
        tall = float(rng.uniform(0.75, 1.0)) * height / share
        tall = min(tall, 2.4 * height)
        foot = height * float(rng.uniform(0.06, 0.2)) + tall
        hover = 0.0
        act = Act("talk", 0, frames, width * float(rng.uniform(0.35, 0.65)), 0, poses, mouth_flaps(rng, True))
        return Actor(
            index,
            round(tall),
            foot,
            max(2, on),
            (Act(act.doing, 0, frames, act.x0, act.x0, poses, act.mouths),),
        )
    if kind == "still":
        return Actor(index, round(tall), foot, 2, (Act("hold", 0, frames, x, x, (Pose.random(rng),)),), hover)
    if kind == "action":
        doing = str(rng.choice(["jump", "hold", "talk", "jump"]))
        if character.family == "flyer":
            return Actor(
                index,
                round(tall),
                foot,
                on,
                (Act("fly", 0, frames, x, x + width * float(rng.uniform(-0.2, 0.2)), poses),),
                hover,
            )
        if doing == "hold":
            poses = (Pose.random(rng),)
        return Actor(
            index, round(tall), foot, on, (Act(doing, 0, frames, x, x, poses, mouth_flaps(rng, True)),), hover
        )  # type: ignore[arg-type]
    walk_in, walk_out = kind == "walk" or rng.random() < 0.15, kind == "walk" and rng.random() < 0.6
    acts: list[Act] = []
    stride = float(rng.uniform(0.6, 1.0))
    step_px = tall * (0.5 + 0.9 * character.leg) * stride
    speed = step_px * float(rng.uniform(0.9, 1.5)) / fps
    if character.family in ("flyer",) or (character.family == "bird" and rng.random() < 0.3):
        hover = hover or float(rng.uniform(0.1, 0.45)) * height
    moving = "fly" if hover else "walk"
    at, now = x, 0
    if kind == "walk":
        way = 1.0 if rng.random() < 0.5 else -1.0
        if camera.x[0] != camera.x[1]:
            way = 1.0 if camera.x[1] > camera.x[0] else -1.0
            # The camera follows: the walker covers about the ground that the camera does.
            speed = max(speed, abs(camera.x[1] - camera.x[0]) / frames * float(rng.uniform(0.8, 1.15)))
        edge = start_x + (-tall * 0.4 if way > 0 else width + tall * 0.4)
        begin = edge if rng.random() < 0.4 else x - way * width * 0.15
        length = frames if walk_out else min(frames, round(abs(x - begin) / speed) + fps // 2)
        pose = Pose(
            facing=way * float(rng.choice([1.0, 1.0, 0.7, 0.5])),
            stride=stride,
            expression=poses[0].expression,
        )
        acts.append(Act(moving, 0, length, begin, begin + way * speed * length, (pose,), stride_px=step_px))  # type: ignore[arg-type]
        at, now = begin + way * speed * length, length
    elif walk_in:
        way = 1.0 if slot < 0.5 else -1.0
        edge = -tall * 0.4 if way > 0 else width + tall * 0.4
        length = min(frames, round(abs(x - edge) / speed))
        stop = edge + way * speed * length
        pose = Pose(facing=way, stride=stride)
        acts.append(Act(moving, 0, length, edge, stop, (pose,), stride_px=step_px))  # type: ignore[arg-type]
        at, now = stop, length
    if now < frames:
        doing = "fly" if hover else "talk"
        acts.append(Act(doing, now, frames, at, at, poses, mouth_flaps(rng, bool(rng.random() < 0.7))))  # type: ignore[arg-type]
    return Actor(index, round(tall), foot, on, tuple(acts), hover)


def render_frames(script: Script) -> Iterator[tuple[NDArray[np.uint8], list[Truth]]]:
    """Each frame of the script: (uint8 (height, width, 3), its truth). A held frame is the same array object again.

    Memory does not grow with the script's length: one set and the drawings used last are kept.
    """
    drawer = Drawer(script.cast)
    for shot in script.shots:
        yield from _render_shot(script, shot, drawer)


def _render_shot(
    script: Script, shot: Shot, drawer: Drawer
) -> Iterator[tuple[NDArray[np.uint8], list[Truth]]]:
    rng = np.random.default_rng(shot.seed)
    world = Image.fromarray(paint_background(rng, *shot.size, look=script.look))
    props = [
        (Drawing.of(foreground_prop(np.random.default_rng(seed), tall, script.look)), x, foot)
        for x, foot, tall, seed in shot.props
    ]
    top_zoom = max(shot.camera.zoom)
    last_key: object = None
    frame: tuple[NDArray[np.uint8], list[Truth]] | None = None
    for number in range(shot.frames):
        x, y, zoom = shot.camera.at(number / max(1, shot.frames - 1))
        if zoom == 1.0:
            x, y = float(round(x)), float(round(y))
        played = [(actor, *state) for actor in shot.actors if (state := actor.at(number)) is not None]
        key = (x, y, zoom, [(actor.who, pose, ax, ay) for actor, pose, ax, ay in played])
        if frame is None or key != last_key:
            layers = [
                _placed(
                    drawer.draw(actor.who, pose, round(actor.height * top_zoom)).scaled(zoom / top_zoom),
                    (ax - x) * zoom,
                    (ay - y) * zoom,
                    script.cast[actor.who].name,
                )
                for actor, pose, ax, ay in played
            ]
            layers += [
                _placed(prop.scaled(zoom), (px - x) * zoom, (foot - y) * zoom, None)
                for prop, px, foot in props
            ]
            frame = compose(_view(world, x, y, zoom, script.width, script.height), layers)
            last_key = key
        yield frame


def _placed(drawing: Drawing, x: float, y: float, identity: str | None) -> Layer:
    return Layer(drawing, round(x - drawing.anchor[0]), round(y - drawing.anchor[1]), identity)


def _view(world: Image.Image, x: float, y: float, zoom: float, width: int, height: int) -> Image.Image:
    if zoom == 1.0:
        return world.crop((int(x), int(y), int(x) + width, int(y) + height))
    box = (
        max(0.0, x),
        max(0.0, y),
        min(float(world.width), x + width / zoom),
        min(float(world.height), y + height / zoom),
    )
    return world.resize((width, height), Image.Resampling.BILINEAR, box=box)
