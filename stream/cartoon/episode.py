"""Renders a script frame by frame with the truth of each frame, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stream.cartoon.backgrounds import paint_background
from stream.cartoon.props import foreground_prop
from stream.cartoon.scene import Drawer, Drawing, Layer, Truth, compose
from stream.cartoon.script import Script, Shot


def render_frames(script: Script) -> Iterator[tuple[NDArray[np.uint8], list[Truth]]]:
    """Each frame of the script: (uint8 (height, width, 3), its truth). A held frame is the same array object
    again.

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


__all__ = ["Script", "Truth", "render_frames"]
