"""Composing one frame from a background and layers of drawings, with the truth of who is visible where."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stream.cartoon.characters import Character, Pose, draw_character

SOLID = 128
"""Alpha from which a pixel counts as covered (0..255)."""
MIN_VISIBLE = 0.15
"""A character of which less than this share is visible has no box."""
MIN_SIDE = 8
"""A box narrower or lower than this many pixels is left out."""


@dataclass(frozen=True, eq=False)
class Drawing:
    """A sprite ready to compose: RGBA image, its solid pixels (bool (h, w)) and the feet's place in it."""

    image: Image.Image
    solid: NDArray[np.bool_]
    anchor: tuple[float, float]

    @classmethod
    def of(cls, rgba: NDArray[np.uint8], anchor: tuple[float, float] | None = None) -> Drawing:
        """From RGBA pixels; the anchor is the middle of the lower edge where None."""
        height, width = rgba.shape[:2]
        return cls(Image.fromarray(rgba), rgba[..., 3] >= SOLID, anchor or (width / 2, float(height)))

    def scaled(self, scale: float) -> Drawing:
        """The drawing at another size (1: itself)."""
        if abs(scale - 1.0) < 1e-3:
            return self
        size = (max(1, round(self.image.width * scale)), max(1, round(self.image.height * scale)))
        image = self.image.resize(size, Image.Resampling.BILINEAR)
        solid = np.asarray(image.getchannel("A")) >= SOLID
        return Drawing(image, solid, (self.anchor[0] * scale, self.anchor[1] * scale))


@dataclass(frozen=True, eq=False)
class Layer:
    """A drawing with its upper left corner at (x, y) of the frame; `identity` is None for what is no
    character.
    """

    drawing: Drawing
    x: int
    y: int
    identity: str | None = None


@dataclass(frozen=True)
class Truth:
    """A visible character: box xyxy in frame pixels, tight about its visible pixels; `visible` share 0..1.

    Flags: `truncated` (touches the frame's edge), `occluded` (more than half of what is inside the frame is
    hidden by something in front), `tiny` (lower than 6 % of the frame).
    """

    identity: str
    box: tuple[float, float, float, float]
    flags: tuple[str, ...]
    visible: float


def compose(background: Image.Image, layers: Sequence[Layer]) -> tuple[NDArray[np.uint8], list[Truth]]:
    """Paste `layers` (back to front) onto the RGB `background`: (uint8 (H, W, 3), truth front to back)."""
    image = background.copy()
    for layer in layers:
        image.paste(layer.drawing.image, (layer.x, layer.y), layer.drawing.image)
    width, height = image.size
    covered = np.zeros((height, width), dtype=bool)
    truths: list[Truth] = []
    for layer in reversed(layers):
        solid = layer.drawing.solid
        x1, y1 = max(0, layer.x), max(0, layer.y)
        x2, y2 = min(width, layer.x + solid.shape[1]), min(height, layer.y + solid.shape[0])
        if x1 >= x2 or y1 >= y2:
            continue
        own = solid[y1 - layer.y : y2 - layer.y, x1 - layer.x : x2 - layer.x]
        before = covered[y1:y2, x1:x2]
        if layer.identity is not None:
            truth = _truth(layer.identity, own, before, int(solid.sum()), (x1, y1), (width, height))
            if truth is not None:
                truths.append(truth)
        before |= own
    return np.asarray(image), truths


def _truth(
    identity: str,
    own: NDArray[np.bool_],
    covered: NDArray[np.bool_],
    total: int,
    corner: tuple[int, int],
    frame: tuple[int, int],
) -> Truth | None:
    seen = own & ~covered
    count = int(seen.sum())
    if count == 0 or count < MIN_VISIBLE * total:
        return None
    rows, cols = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    x1, x2 = corner[0] + int(cols[0]), corner[0] + int(cols[-1]) + 1
    y1, y2 = corner[1] + int(rows[0]), corner[1] + int(rows[-1]) + 1
    if min(x2 - x1, y2 - y1) < MIN_SIDE:
        return None
    flags = []
    if x1 == 0 or y1 == 0 or x2 == frame[0] or y2 == frame[1]:
        flags.append("truncated")
    if count < 0.5 * int(own.sum()):
        flags.append("occluded")
    if y2 - y1 < 0.06 * frame[1]:
        flags.append("tiny")
    return Truth(identity, (float(x1), float(y1), float(x2), float(y2)), tuple(flags), count / total)


class Drawer:
    """Draws characters, and keeps the drawings used last: cartoons repeat theirs.

    Raising `keep_bytes` saves drawing again and costs memory; `held_bytes` is what is kept now.
    """

    def __init__(self, cast: Sequence[Character], keep_bytes: int = 48 << 20) -> None:
        self.cast = tuple(cast)
        self._keep = keep_bytes
        self.held_bytes = 0
        self._drawings: OrderedDict[tuple[int, Pose, int], Drawing] = OrderedDict()

    def draw(self, index: int, pose: Pose, height_px: int) -> Drawing:
        """Character number `index` in `pose`, standing `height_px` tall."""
        key = (index, pose, height_px)
        drawing = self._drawings.get(key)
        if drawing is not None:
            self._drawings.move_to_end(key)
            return drawing
        sprite = draw_character(self.cast[index], pose, max(4, height_px))
        drawing = Drawing.of(sprite.rgba, sprite.anchor)
        self._drawings[key] = drawing
        self.held_bytes += sprite.rgba.nbytes
        while self.held_bytes > self._keep and len(self._drawings) > 1:
            _, old = self._drawings.popitem(last=False)
            self.held_bytes -= old.image.width * old.image.height * 4
        return drawing
