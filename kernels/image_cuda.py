"""Pictures on an NVIDIA GPU: what :mod:`kernels.image` does with arrays that lie there (``image.cu``).

Everything runs on CuPy's current stream, takes its memory from CuPy's pool and waits for nothing. Bytes
moved per picture, which is what bounds each kernel (B: the copy bandwidth, reads and writes counted):

=============  ==============================================  ===========================================
kernel         bytes                                           least time
=============  ==============================================  ===========================================
nv12_to_rgb    1.5 HW read, 3 HW written (P010: 3 HW, 3 HW)    4.5 HW / B: 2.3 us for 1080p at 4 TB/s
letterbox      3 HW read, 3 T hw written (T: 4, or 2 in half)  6.9 MB / B: 1.7 us for 1080p to 320x180
resize         3 x box area read, 3 S^2 written                0.6 MB / B: 0.15 us for 300x500 to 224
normalize      3 S^2 read, 3 T S^2 written                     0.75 MB / B: 0.19 us for 224, float32
sharpness      3 S^2 read (from the L2: it was just written)   a block per square; not bound by memory
=============  ==============================================  ===========================================

Resizing reads a source row once per output row that needs it, which is twice when it shrinks; the second
time it comes from the L1 (rows of one block) or the L2. What it computes, some 7 instructions per source byte
as compiled for sm_90, is 1.5 us for a 1080p frame at the issue rate of an H100 or H200: below the 2.9 us that
60 % of 4 TB/s leave. These are estimates: bench/gpu.py measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kernels import device as gpu
from kernels.device import Device, Source
from kernels.placement import Box, Cut, Letterbox

Array = Any  # cupy.ndarray

SOURCE = Source(
    tuple(Path(__file__).with_name(name) for name in ("pictures.cu", "colour.cu", "image.cu"))
)  # one translation unit, in this order
# Part in image.cu, field by field
PART = np.dtype(
    [
        ("box", "f8", 4), ("out", "i8"), ("frame", "i4"), ("top", "i4"), ("left", "i4"), ("height", "i4"),
        ("width", "i4"), ("canvas_height", "i4"), ("canvas_width", "i4"), ("tile", "i4"),
    ]
)  # fmt: skip
_ROWS, _COLUMNS = 8, 32  # of a block's part of the output
_JUDGES = 256  # threads that judge a square
_SUFFIX = {"float32": "float", "float16": "half"}


def _pointer(array: Array) -> int:
    return int(array.__cuda_array_interface__["data"][0])


def _frames(images: Array, device: Device) -> tuple[Array, str]:
    """The frames, C-ordered, and the kernel's suffix: how many bytes it may load at once."""
    images = device.xp.ascontiguousarray(images)
    words = images.shape[2] * 3 % 4 == 0 and _pointer(images) % 4 == 0
    return images, "4" if words else "1"


def _triple(values: Any) -> list[np.float32]:
    return list(np.broadcast_to(np.asarray(values, np.float32), (3,)))


def _with_tiles(parts: Array) -> int:
    """Fill in each part's first block; the number of blocks."""
    tiles = -(-parts["canvas_height"] // _ROWS) * -(-parts["canvas_width"] // _COLUMNS)
    parts["tile"] = np.cumsum(tiles) - tiles
    return int(tiles.sum())


def _launch(
    device: Device, kernel: str, images: Array, parts: Array, out: Array, more: tuple[Any, ...] = ()
) -> None:
    images, suffix = _frames(images, device)
    blocks = _with_tiles(parts)
    whole = np.int32
    table = device.xp.asarray(parts.view(np.uint8))
    device.launch(
        f"{kernel}_{suffix}", blocks, (32, _ROWS), 0,
        (images, whole(images.shape[1]), whole(images.shape[2]), table, whole(len(parts)), out, *more),
    )  # fmt: skip


def letterbox(images: Array, place: Letterbox, mul: Any, add: Any, bgr: bool, dtype: Any) -> Array:
    """:func:`kernels.image.letterbox`, in one launch for all frames."""
    device = gpu.open_device(SOURCE)
    out = device.xp.empty((len(images), 3, place.height, place.width), dtype)
    if len(images) == 0:
        return out
    parts = np.zeros(len(images), PART)
    parts["box"] = (0, 0, place.source_width, place.source_height)
    parts["frame"] = np.arange(len(images))
    parts["out"] = parts["frame"].astype(np.int64) * (place.height * place.width)
    parts["top"], parts["left"] = place.top, place.left
    parts["height"], parts["width"] = place.content_height, place.content_width
    parts["canvas_height"], parts["canvas_width"] = place.height, place.width
    numbers = (*_triple(mul), *_triple(add), np.int32(2 if bgr else 0))
    _launch(device, "letterbox_" + _SUFFIX[str(out.dtype)], images, parts, out, numbers)
    return out


def squares(images: Array, frame: Sequence[int], cuts: Sequence[Cut], size: int) -> Array:
    """(M, size, size, 3) uint8: every cut in its square, on grey, in one launch."""
    device = gpu.open_device(SOURCE)
    out = device.xp.empty((len(cuts), size, size, 3), np.uint8)
    if len(cuts) == 0:
        return out
    parts = np.zeros(len(cuts), PART)
    parts["box"] = [cut.box for cut in cuts]
    parts["frame"] = frame
    parts["out"] = np.arange(len(cuts), dtype=np.int64) * (size * size)
    for name in ("top", "left", "height", "width"):
        parts[name] = [getattr(cut, name) for cut in cuts]
    parts["canvas_height"] = parts["canvas_width"] = size
    _launch(device, "resize", images, parts, out)
    return out


def resize_boxes(images: Array, frame: Sequence[int], boxes: Sequence[Box], sizes: Array) -> Array:
    """(pixels, 3) uint8: every box resized to its own size (M, 2), one after the other, in one launch."""
    device = gpu.open_device(SOURCE)
    pixels = sizes[:, 0].astype(np.int64) * sizes[:, 1]
    out = device.xp.empty((int(pixels.sum()), 3), np.uint8)
    if len(pixels) == 0:
        return out
    parts = np.zeros(len(pixels), PART)
    parts["box"] = boxes
    parts["frame"] = frame
    parts["out"] = np.cumsum(pixels) - pixels
    parts["height"] = parts["canvas_height"] = sizes[:, 0]
    parts["width"] = parts["canvas_width"] = sizes[:, 1]
    _launch(device, "resize", images, parts, out)
    return out


def normalize(images: Array, mul: Any, add: Any, mirror: bool, dtype: Any) -> Array:
    """:func:`kernels.image.normalize`."""
    device = gpu.open_device(SOURCE)
    images = device.xp.ascontiguousarray(images)
    n, height, width, _ = images.shape
    out = device.xp.empty((n, 3, height, width), dtype)
    pixels = n * height * width
    if pixels:
        device.launch(
            "normalize_" + _SUFFIX[str(out.dtype)], -(-pixels // 256), (256, 1), 0,
            (
                images, np.int64(pixels), np.int32(height), np.int32(width), out, *_triple(mul),
                *_triple(add), np.int32(mirror),
            ),
        )  # fmt: skip
    return out


def sharpness(images: Array, contents: Array) -> Array:
    """(M,) float64: :func:`kernels.image.sharpness` of the picture in every square."""
    device = gpu.open_device(SOURCE)
    images = device.xp.ascontiguousarray(images)
    out = device.xp.empty(len(images), np.float64)
    if len(images):
        table = device.xp.asarray(np.ascontiguousarray(contents, np.int32))
        arguments = (images, table, np.int32(images.shape[1]), out)
        device.launch("sharpness", len(images), (_JUDGES, 1), 0, arguments)
    return out
