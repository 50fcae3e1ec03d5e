"""The shapes that an engine is built for."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engines.runtime.base import EngineError, TensorSpec

Range = tuple[int, int, int]  # smallest, usual, largest

_PIXELS = 1 << 23  # of all pictures of a call: beyond, a GPU gains nothing and takes memory
_MOST = 64
_USUAL = 32
_STEP = 32  # sides of free-sized detectors are multiples of their largest stride
_WIDE = 1024
_FREE_SIZE = (640, 640)  # a network that leaves its size free and does not say what it was trained at


@dataclass(frozen=True)
class Profile:
    """Pictures per call, and their height and width, each as (smallest, usual, largest).

    The engine is fastest at the usual ones. Raising the largest takes device memory, and time to build.
    """

    batch: Range
    height: Range
    width: Range

    def __post_init__(self) -> None:
        for name, (low, usual, high) in (
            ("batch", self.batch),
            ("height", self.height),
            ("width", self.width),
        ):
            if not 1 <= low <= usual <= high:
                raise EngineError(
                    f"profile: {name}: expected smallest <= usual <= largest, got {low}, {usual}, {high}"
                )

    def holds(self, height: int, width: int) -> bool:
        """Whether pictures of this size are in its range."""
        return self.height[0] <= height <= self.height[2] and self.width[0] <= width <= self.width[2]

    def shapes(self, spec: TensorSpec) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Smallest, usual and largest shape of an input: its own numbers, and these where it is free.

        Raises:
            EngineError: an axis is free that is neither the batch nor the height or width of pictures.
        """
        ranges = {0: self.batch, len(spec.shape) - 2: self.height, len(spec.shape) - 1: self.width}
        if len(spec.shape) == 3:  # one picture at a time
            ranges.pop(0)
        shapes = []
        for which in range(3):
            sides = []
            for axis, side in enumerate(spec.shape):
                if side is None and (axis not in ranges or len(spec.shape) not in (3, 4)):
                    raise EngineError(
                        f"input {spec}: expected pictures (N, 3, H, W) with N, H and W free at most; export"
                        " the network with the other axes fixed"
                    )
                sides.append(ranges[axis][which] if side is None else side)
            shapes.append(tuple(sides))
        return shapes[0], shapes[1], shapes[2]

    def __str__(self) -> str:
        size = f"{self.height[1]}x{self.width[1]}"
        if self.height[0] != self.height[2] or self.width[0] != self.width[2]:
            size = f"{self.height[0]}x{self.width[0]} to {self.height[2]}x{self.width[2]}"
        return f"{size}, up to {self.batch[2]} a call"


def default_profiles(
    inputs: Sequence[TensorSpec], metadata: Mapping[str, str], batch: int | None = None
) -> tuple[Profile, ...]:
    """Profiles for a network of pictures.

    One for its size. Where height or width is free, one for the size that it was trained at (metadata
    ``imgsz``), which is fastest, and one for any other up to 1024 (or twice the trained) a side.

    Args:
        batch: pictures per call at most; None takes 64, or what 8 million pixels allow. Raising it takes
            device memory.

    Raises:
        EngineError: the input is no picture.
    """
    if len(inputs) != 1 or len(inputs[0].shape) not in (3, 4):
        raise EngineError(
            f"expected a network with one input (N, 3, H, W), found {', '.join(map(str, inputs))}"
        )
    shape = inputs[0].shape
    free_height, free_width = shape[-2], shape[-1]
    trained = _image_size(metadata) or _FREE_SIZE
    height, width = free_height or trained[0], free_width or trained[1]
    whole = len(shape) == 4 and shape[0] is None
    fixed = shape[0] if len(shape) == 4 and shape[0] is not None else 1
    exact = Profile(_batches(height * width, batch) if whole else (fixed,) * 3, (height,) * 3, (width,) * 3)
    if free_height is not None and free_width is not None:
        return (exact,)
    high = max(_WIDE, 2 * max(height, width))
    heights = (height,) * 3 if free_height is not None else (_STEP, height, high)
    widths = (width,) * 3 if free_width is not None else (_STEP, width, high)
    batches = _batches(heights[2] * widths[2], batch) if whole else (fixed,) * 3
    return (exact, Profile(batches, heights, widths))


def _batches(pixels: int, most: int | None) -> Range:
    largest = min(most or _MOST, max(1, _PIXELS // pixels))
    return (1, min(_USUAL, largest), largest)


def _image_size(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    try:
        value: Any = ast.literal_eval(metadata.get("imgsz", ""))
    except (ValueError, SyntaxError):
        return None
    sides = (
        (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, list | tuple) else ()
    )
    sides = sides * 2 if len(sides) == 1 else sides
    good = len(sides) == 2 and all(isinstance(side, int) and 1 <= side <= 16384 for side in sides)
    return (sides[0], sides[1]) if good else None
