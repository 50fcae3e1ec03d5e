"""Training pictures from a user's images: placed, mirrored, put together in fours, recoloured.

Boxes follow exactly: a picture is placed at whole pixels of the canvas, so that where a box goes is known to
the last decimal; it is cut at the edge of what is shown of its picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines.train.looks import CELL, look

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Masks = NDArray[np.bool_]
Rect = tuple[int, int, int, int]  # x1, y1, x2, y2 in whole pixels of the canvas

_GREY = 114  # what the pipeline puts around a picture
_SHOWN = 0.3  # share of a box that must be left for it to be asked for
_LEAST = 4.0  # pixels of its shorter side
# The hue rotation of W3C's filter effects: what stays, and what turns with the sine.
_LUMA = np.array([0.213, 0.715, 0.072], np.float32)
_ACROSS = np.array([[-0.213, -0.715, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]], np.float32)


@dataclass(frozen=True)
class Picture:
    """A picture as it is kept: uint8 (H, W, 3), boxes (n, 4) xyxy in its pixels, classes (n,), judged (n,):
    False where nobody shall say whether something is there (a crowd, or marked difficult)."""

    image: Bytes
    boxes: Floats
    classes: NDArray[np.int32]
    judged: Masks


@dataclass(frozen=True)
class View:
    """A training picture: image uint8 (H, W, 3), truth float32 (n, 6): class, x1, y1, x2, y2, trust 1;
    ignore bool (H/8, W/8): cells where nobody knows what is there."""

    image: Bytes
    truth: Floats
    ignore: Masks


@dataclass(frozen=True)
class ViewSettings:
    """Shares and ranges of what is done to a picture.

    ``mosaic``: share of canvases put together of four pictures (raising it shows more and smaller figures);
    ``mirror``: share turned left to right (0 for classes that differ by that); ``shrink``, ``grow``: range of
    the scale against the one that fits; ``stretch``: spread of the aspect's logarithm; ``hue``: degrees;
    ``gain``: spread of each channel's logarithm; ``flatten``: share with few tones, as cels have; ``worn``:
    share that lens, film and compression have worn (``engines.train.looks``); ``boxes``: most on one canvas.
    """

    mosaic: float = 0.4
    mirror: float = 0.5
    shrink: float = 0.5
    grow: float = 1.8
    stretch: float = 0.08
    hue: float = 12.0
    gain: float = 0.08
    flatten: float = 0.12
    worn: float = 0.35
    boxes: int = 100


@dataclass
class Canvas:
    """A view in the making."""

    image: Bytes
    settings: ViewSettings
    rows: list[Floats] = field(default_factory=list)
    ignore: Masks = field(init=False)

    def __post_init__(self) -> None:
        height, width = self.image.shape[:2]
        self.ignore = np.zeros((height // CELL, width // CELL), bool)

    @staticmethod
    def empty(height: int, width: int, settings: ViewSettings) -> Canvas:
        """A grey canvas."""
        return Canvas(np.full((height, width, 3), _GREY, np.uint8), settings)

    def place(self, picture: Picture, window: Rect, placed: Rect, mirror: bool) -> None:
        """Show ``picture``, stretched over ``placed``, as far as it lies in ``window``."""
        height, width = picture.image.shape[:2]
        fx, fy = (placed[2] - placed[0]) / width, (placed[3] - placed[1]) / height
        x1, y1 = max(window[0], placed[0]), max(window[1], placed[1])
        x2, y2 = min(window[2], placed[2]), min(window[3], placed[3])
        if x2 <= x1 or y2 <= y1:
            return
        source = np.ascontiguousarray(picture.image[:, ::-1]) if mirror else picture.image
        cut = (
            max(0.0, (x1 - placed[0]) / fx),
            max(0.0, (y1 - placed[1]) / fy),
            min(float(width), (x2 - placed[0]) / fx),
            min(float(height), (y2 - placed[1]) / fy),
        )
        part = Image.fromarray(source).resize((x2 - x1, y2 - y1), Image.Resampling.BILINEAR, box=cut)
        self.image[y1:y2, x1:x2] = np.asarray(part)
        boxes = picture.boxes
        if mirror:
            boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
        scale = np.array([fx, fy, fx, fy], np.float32)
        moved = boxes * scale + np.array([placed[0], placed[1], placed[0], placed[1]], np.float32)
        self._note(moved, picture, (x1, y1, x2, y2))

    def _note(self, moved: Floats, picture: Picture, shown: Rect) -> None:
        """Keep the boxes of which enough is shown; where too little is, nothing is asked."""
        low, high = np.array(shown[:2] * 2, np.float32), np.array(shown[2:] * 2, np.float32)
        cut = np.clip(moved, low, high)
        side = cut[:, 2:] - cut[:, :2]
        share = side.prod(1) / np.maximum((moved[:, 2:] - moved[:, :2]).prod(1), 1e-6)
        keep = picture.judged & (share >= _SHOWN) & (side.min(1, initial=1e9) >= _LEAST)
        row = np.concatenate([picture.classes[:, None], cut, np.ones_like(cut[:, :1])], 1)
        self.rows.append(row[keep].astype(np.float32))
        for box in cut[~keep & (side.min(1, initial=1e9) > 0)]:
            self._veil(box)

    def _veil(self, box: Floats) -> None:
        x1, y1 = (int(v // CELL) for v in box[:2])
        x2, y2 = (int(-(-v // CELL)) for v in box[2:])
        self.ignore[y1:y2, x1:x2] = True

    def finish(self, image: Bytes) -> View:
        """The view with ``image`` as its picture; of too many boxes the largest, the others not judged."""
        truth = np.concatenate(self.rows or [np.zeros((0, 6), np.float32)])
        if len(truth) > self.settings.boxes:
            area = (truth[:, 3:5] - truth[:, 1:3]).prod(1)
            order = np.argsort(-area, kind="stable")
            for row in truth[order[self.settings.boxes :]]:
                self._veil(row[1:5])
            truth = truth[np.sort(order[: self.settings.boxes])]
        return View(image, truth, self.ignore)


def fitted(picture: Picture, height: int, width: int, settings: ViewSettings) -> View:
    """A picture as the pipeline shows it to the net: as large as fits, in the middle, grey around it."""
    canvas = Canvas.empty(height, width, settings)
    scale = min(height / picture.image.shape[0], width / picture.image.shape[1])
    h, w = (max(1, round(side * scale)) for side in picture.image.shape[:2])
    x, y = (width - w) // 2, (height - h) // 2
    canvas.place(picture, (0, 0, width, height), (x, y, x + w, y + h), False)
    return canvas.finish(canvas.image)


def alone(
    rng: np.random.Generator, picture: Picture, height: int, width: int, settings: ViewSettings
) -> Canvas:
    """One picture on the canvas, at a random scale and place."""
    canvas = Canvas.empty(height, width, settings)
    _scatter(rng, canvas, picture, (0, 0, width, height))
    return canvas


def mosaic(
    rng: np.random.Generator, pictures: list[Picture], height: int, width: int, settings: ViewSettings
) -> Canvas:
    """Four pictures, each in its corner (Bochkovskiy et al. 2020, arXiv:2004.10934)."""
    canvas = Canvas.empty(height, width, settings)
    x, y = int(width * rng.uniform(0.3, 0.7)), int(height * rng.uniform(0.3, 0.7))
    corners = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
    for picture, corner in zip(pictures, corners, strict=True):
        _scatter(rng, canvas, picture, corner)
    return canvas


def _scatter(rng: np.random.Generator, canvas: Canvas, picture: Picture, window: Rect) -> None:
    s = canvas.settings
    height, width = picture.image.shape[:2]
    wide, tall = window[2] - window[0], window[3] - window[1]
    # Between fitting in and filling out, then by the range of the settings.
    fit, fill = sorted((wide / width, tall / height))
    scale = np.exp(rng.uniform(np.log(fit), np.log(fill))) * np.exp(
        rng.uniform(np.log(s.shrink), np.log(s.grow))
    )
    stretch = np.exp(rng.normal(0, s.stretch))
    w, h = max(8, round(width * scale * stretch)), max(8, round(height * scale / stretch))
    x = window[0] + round((wide - w) * rng.uniform())
    y = window[1] + round((tall - h) * rng.uniform())
    canvas.place(picture, window, (x, y, x + w, y + h), bool(rng.random() < s.mirror))


def recolour(rng: np.random.Generator, image: Bytes, grain: Floats, settings: ViewSettings) -> Bytes:
    """Other paints and light, fewer tones, and the wear of film; no pixel is moved.

    ``grain``: float32 (256, 256) of noise, mean 0 and deviation 1.
    """
    turn = np.deg2rad(rng.uniform(-settings.hue, settings.hue))
    gain = np.exp(rng.normal(0, 1.5 * settings.gain)) * np.exp(rng.normal(0, settings.gain, 3))
    matrix = (_hue(float(turn)) * gain[:, None]).astype(np.float32)
    flat = image.reshape(-1, 3).astype(np.float32) @ matrix.T
    if rng.random() < settings.flatten:
        step = float(rng.uniform(16, 48))
        flat = (np.floor(flat / step) + 0.5) * step
    out = np.clip(flat + 0.5, 0, 255).astype(np.uint8).reshape(image.shape)
    if rng.random() < settings.worn:
        out = look(rng, out, grain)
    return out


def _hue(turn: float) -> Floats:
    """(3, 3): RGB turned about the grey axis by ``turn`` radians, brightness kept."""
    c, s = np.cos(turn), np.sin(turn)
    luma = np.tile(_LUMA, (3, 1))
    return np.asarray(luma + (np.eye(3, dtype=np.float32) - luma) * c + _ACROSS * s, np.float32)
