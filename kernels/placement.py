"""Where pictures go: a frame on a network's canvas, a box in a square. Arithmetic on numbers, no pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Fit = Literal["pad", "stretch", "square"]
Box = tuple[float, float, float, float]

PAD = 114
"""Grey level around a picture that does not fill its canvas (what YOLO networks were trained with)."""


@dataclass(frozen=True)
class Letterbox:
    """Where a source picture lies on a canvas: its content from (``left``, ``top``) on, grey around it."""

    height: int
    width: int
    top: int
    left: int
    content_height: int
    content_width: int
    source_height: int
    source_width: int

    @property
    def scale_x(self) -> float:
        """Canvas pixels per source pixel, horizontally (``scale_y`` differs by the rounding)."""
        return self.content_width / self.source_width

    @property
    def scale_y(self) -> float:
        """Canvas pixels per source pixel, vertically."""
        return self.content_height / self.source_height


def fit_letterbox(
    source_height: int, source_width: int, height: int, width: int, *, centred: bool = True
) -> Letterbox:
    """Place a source picture on a ``height`` x ``width`` canvas, as large as fits with its aspect kept.

    Args:
        centred: in the middle (Ultralytics' exports); False puts it in the top left corner (YOLOX).
    """
    if min(source_height, source_width, height, width) < 1:
        raise ValueError(
            f"fit_letterbox: expected sizes of at least 1, got source {source_width}x{source_height},"
            f" canvas {width}x{height}"
        )
    scale = min(height / source_height, width / source_width)
    h = min(height, max(1, round(source_height * scale)))
    w = min(width, max(1, round(source_width * scale)))
    top, left = ((height - h) // 2, (width - w) // 2) if centred else (0, 0)
    return Letterbox(height, width, top, left, h, w, source_height, source_width)


@dataclass(frozen=True)
class Cut:
    """A part of a frame, and where it goes in a square: its content from (``top``, ``left``) on."""

    box: Box  # x1, y1, x2, y2 in pixels of the frame, inside it
    top: int
    left: int
    height: int
    width: int

    @property
    def content(self) -> tuple[int, int, int, int]:
        """The part of the square that is picture: top, left, bottom, right."""
        return self.top, self.left, self.top + self.height, self.left + self.width


def cut_square(box: Box, height: int, width: int, size: int, fit: Fit) -> Cut:
    """What :func:`kernels.image.crop_square` cuts out of a frame, and where in its square it puts it.

    Raises:
        ValueError: the box does not overlap the frame.
    """
    x1, y1, x2, y2 = clip_box(box, height, width)
    if fit == "square":
        side = max(x2 - x1, y2 - y1)
        left, top = (_shift((a + b - side) / 2, side, n) for a, b, n in ((x1, x2, width), (y1, y2, height)))
    elif fit == "pad":
        side = max(x2 - x1, y2 - y1)
        left, top = (x1 + x2 - side) / 2, (y1 + y2 - side) / 2
    elif fit == "stretch":
        return Cut((x1, y1, x2, y2), 0, 0, size, size)
    else:
        raise ValueError(f"crop_square: expected fit 'pad', 'stretch' or 'square', got {fit!r}")
    if fit == "square":
        x1, y1, x2, y2 = clip_box((left, top, left + side, top + side), height, width)
    # shares of the side first: a scale of its own overflows for boxes of almost no width
    w = min(size, max(1, round((x2 - x1) / side * size)))
    h = min(size, max(1, round((y2 - y1) / side * size)))
    x = min(size - w, max(0, round((x1 - left) / side * size)))
    y = min(size - h, max(0, round((y1 - top) / side * size)))
    return Cut((x1, y1, x2, y2), y, x, h, w)


def _shift(start: float, side: float, size: int) -> float:
    """Move ``start .. start + side`` inside ``0 .. size``; centre it where it is longer."""
    return (size - side) / 2 if side >= size else min(max(start, 0.0), size - side)


def clip_box(
    box: tuple[float, float, float, float], height: int, width: int
) -> tuple[float, float, float, float]:
    """The part of a box inside the frame (``ValueError`` if there is none)."""
    x1, y1, x2, y2 = (float(v) for v in box)
    x1, x2 = max(x1, 0.0), min(x2, float(width))
    y1, y2 = max(y1, 0.0), min(y2, float(height))
    if not (x1 < x2 and y1 < y2):
        raise ValueError(
            f"box {tuple(map(float, box))}: expected one that overlaps the {width}x{height} frame"
        )
    return x1, y1, x2, y2
