"""What travels between the stations: frozen dataclasses that check themselves.

Conventions (they hold everywhere in the project):

- images: uint8 ``(N, H, W, 3)`` RGB, square pixels, upright
- boxes: float32 ``(N, 4)`` as x1, y1, x2, y2 in pixels of the frame they were found in
- times: float64 seconds from the stream's start, the frame's real presentation time
- embeddings: float32 ``(N, D)``, L2-normalized

Arrays are NumPy or CuPy. Construction checks shapes and dtypes (``ValueError``: expected against got),
and ``repr`` prints shapes, never data.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Array = Any  # numpy.ndarray or cupy.ndarray: a function returns the kind it is given


def _check(owner: object, name: str, shape: tuple[int | str, ...], dtype: type[np.generic]) -> None:
    """Raise ``ValueError`` unless ``owner.name`` has that dtype and shape (a string is a free axis)."""
    value = getattr(owner, name)
    got = f"{getattr(value, 'dtype', type(value).__name__)} {getattr(value, 'shape', '')}"
    fits = (
        hasattr(value, "shape")
        and value.dtype == dtype
        and len(value.shape) == len(shape)
        and all(isinstance(want, str) or want == have for want, have in zip(shape, value.shape, strict=True))
    )
    if not fits:
        want = f"{np.dtype(dtype)} ({', '.join(map(str, shape))})"
        raise ValueError(f"{type(owner).__name__}.{name}: expected {want}, got {got}")


class _ShapeRepr:
    """``repr`` with shapes in place of array data."""

    def __repr__(self) -> str:
        parts = []
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if hasattr(value, "shape"):
                parts.append(f"{f.name}={value.dtype}{tuple(value.shape)}")
            elif isinstance(value, tuple | list) and len(value) > 4:
                parts.append(f"{f.name}=<{len(value)} items>")
            else:
                parts.append(f"{f.name}={value!r}")
        return f"{type(self).__name__}({', '.join(parts)})"


@dataclass(frozen=True, repr=False)
class Video(_ShapeRepr):
    """One source that was opened once and described: a video stream, or a folder's still images.

    ``width`` and ``height`` are those of the frames that decoding delivers: rotated upright, pixels squared.
    """

    name: str  # unique within a run and safe as a folder name
    uri: str  # what FFmpeg opens; for images, the folder they came from
    kind: Literal["video", "images"]
    width: int
    height: int
    fingerprint: str  # identity of the content: changes when the file does
    files: tuple[str, ...] = ()  # images only: one file per frame, in order
    duration_s: float | None = None  # None: unknown (live stream, damaged header)
    frame_rate: float | None = None  # average, frames per second
    codec: str = ""
    stream_index: int = 0
    facts: dict[str, Any] = field(default_factory=dict)  # what else probing found, for the decoder and report

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"Video {self.name}: expected a positive size, got {self.width}x{self.height}")


@dataclass(frozen=True, repr=False)
class Segment(_ShapeRepr):
    """The unit of work, of resume and of distribution: frames with ``start_s <= time < end_s``."""

    video: Video
    index: int
    start_s: float
    end_s: float = math.inf  # infinite where the duration is unknown: until the stream ends
    # where reading starts where the stream's own clock cannot find it: byte, clock offset in ticks
    entry: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start_s < self.end_s:
            raise ValueError(f"Segment: expected 0 <= start_s < end_s, got {self.start_s}, {self.end_s}")

    @property
    def key(self) -> str:
        """File name stem below ``segments/<video>/``: the start in milliseconds, sortable."""
        return f"{round(self.start_s * 1000):010d}"


@dataclass(frozen=True, repr=False)
class HeldFrames(_ShapeRepr):
    """Sampled frames that show a picture already delivered (animation on twos, stills): times, no pixels."""

    times: Array = field(default_factory=lambda: np.empty(0, np.float64))  # (K,) seconds
    indices: Array = field(default_factory=lambda: np.empty(0, np.int64))  # (K,) frame_index
    of: Array = field(default_factory=lambda: np.empty(0, np.int64))  # (K,) number of the frame it repeats

    def __post_init__(self) -> None:
        _check(self, "times", ("K",), np.float64)
        _check(self, "indices", (self.times.shape[0],), np.int64)
        _check(self, "of", (self.times.shape[0],), np.int64)

    def __len__(self) -> int:
        return int(self.times.shape[0])


@dataclass(frozen=True, repr=False)
class FrameBatch(_ShapeRepr):
    """Sampled frames of one segment, in time order, all of one size. ``N`` may be 0 (only held frames).

    ``numbers`` counts the distinct pictures of the segment from 0; held frames refer to it.
    ``shots`` counts the shots of the segment from 0: it rises at every cut.
    """

    segment: Segment
    images: Array  # (N, H, W, 3) uint8 RGB
    times: Array  # (N,) float64 seconds
    indices: Array  # (N,) int64 position in the stream: round(time x average rate), or the image's position
    numbers: Array  # (N,) int64
    shots: Array  # (N,) int32
    held: HeldFrames = field(default_factory=HeldFrames)

    def __post_init__(self) -> None:
        _check(self, "images", ("N", "H", "W", 3), np.uint8)
        n = self.images.shape[0]
        _check(self, "times", (n,), np.float64)
        _check(self, "indices", (n,), np.int64)
        _check(self, "numbers", (n,), np.int64)
        _check(self, "shots", (n,), np.int32)

    def __len__(self) -> int:
        return int(self.images.shape[0])


@dataclass(frozen=True, repr=False)
class Detections(_ShapeRepr):
    """Boxes found in a batch of frames, ordered by frame, then by descending score."""

    frames: FrameBatch
    frame: Array  # (M,) int32 position in ``frames``
    boxes: Array  # (M, 4) float32 xyxy, pixels of the frame, clipped to it
    scores: Array  # (M,) float32 in 0..1
    classes: Array  # (M,) int32 into ``class_names``
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        _check(self, "boxes", ("M", 4), np.float32)
        m = self.boxes.shape[0]
        _check(self, "frame", (m,), np.int32)
        _check(self, "scores", (m,), np.float32)
        _check(self, "classes", (m,), np.int32)
        if m and int(self.frame.max()) >= len(self.frames):
            raise ValueError(f"Detections.frame: expected < {len(self.frames)}, got {int(self.frame.max())}")

    def __len__(self) -> int:
        return int(self.boxes.shape[0])


@dataclass(frozen=True, repr=False)
class CropBatch(_ShapeRepr):
    """Crops of one batch. The frame each came from is told by ``number``, ``time`` and ``shot``.

    ``held`` travels on from the frame batch, so that the writer can repeat the rows of held frames.
    ``embeddings`` is None until the embedding station has run.
    """

    segment: Segment
    images: Array  # (M, S, S, 3) uint8: the embedder's view
    jpegs: tuple[bytes, ...]  # M pictures in the aspect of their box, for people and for training
    numbers: Array  # (M,) int64
    times: Array  # (M,) float64
    indices: Array  # (M,) int64
    shots: Array  # (M,) int32
    boxes: Array  # (M, 4) float32
    scores: Array  # (M,) float32
    classes: tuple[str, ...]  # M names
    sharpness: Array  # (M,) float32, see stream/crops.py
    held: HeldFrames = field(default_factory=HeldFrames)
    embeddings: Array | None = None  # (M, D) float32, L2-normalized

    def __post_init__(self) -> None:
        _check(self, "images", ("M", "S", "S", 3), np.uint8)
        m = self.images.shape[0]
        _check(self, "numbers", (m,), np.int64)
        _check(self, "times", (m,), np.float64)
        _check(self, "indices", (m,), np.int64)
        _check(self, "shots", (m,), np.int32)
        _check(self, "boxes", (m, 4), np.float32)
        _check(self, "scores", (m,), np.float32)
        _check(self, "sharpness", (m,), np.float32)
        if len(self.jpegs) != m or len(self.classes) != m:
            raise ValueError(
                f"CropBatch: expected {m} jpegs and classes, got {len(self.jpegs)} and {len(self.classes)}"
            )
        if self.embeddings is not None:
            _check(self, "embeddings", (m, "D"), np.float32)

    def __len__(self) -> int:
        return int(self.images.shape[0])
