"""Resizing pictures for networks: a part of a frame to any size, antialiased, in one pass.

The filter is the triangle (antialiased bilinear): the weight of source pixel centre ``p`` for an output
pixel whose centre falls on ``c`` is ``max(0, 1 - |p - c| / s)``, normalized, with ``s = max(1, source /
output size)``. It is what Pillow's BILINEAR computes, so training code that resizes with Pillow sees the
same picture. ``*_reference`` are the plain NumPy versions, for tests; the others are compiled, hold no lock
(stations run in threads) and need about 1 ms for a 1080p frame to 320x180 on one core.

Every function works on the kind of array it is given and returns that kind. Arrays on a GPU go to the
kernels of :mod:`kernels.image_cuda`, on CuPy's current stream, and nothing is waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

from kernels import image_cuda
from kernels.device import on_device
from kernels.placement import PAD, Box, Fit, Letterbox, clip_box, cut_square, fit_letterbox

__all__ = [
    "PAD", "Fit", "Letterbox", "clip_box", "crop_square", "crop_squares", "cut_square", "fit_letterbox",
    "letterbox", "letterbox_reference", "normalize", "resize", "resize_boxes", "resize_reference",
    "sharpness", "sharpness_of", "unpacked",
]  # fmt: skip

Array = Any  # numpy.ndarray or cupy.ndarray


# --- references -----------------------------------------------------------------------------------------


def _weight_matrix(size: int, low: float, high: float, out: int) -> Array:
    """(out, size) float64: row i holds the triangle filter's weights of output pixel i."""
    scale = (high - low) / out
    support = max(scale, 1.0)
    centre = low + (np.arange(out) + 0.5) * scale
    distance = np.abs(np.arange(size)[None, :] + 0.5 - centre[:, None])
    weights = np.maximum(0.0, 1.0 - distance / support)
    return weights / weights.sum(axis=1, keepdims=True)


def resize_reference(image: Array, box: tuple[float, float, float, float], height: int, width: int) -> Array:
    """:func:`resize`, from the definition: two weight matrices."""
    x1, y1, x2, y2 = box
    rows = _weight_matrix(image.shape[0], y1, y2, height)
    columns = _weight_matrix(image.shape[1], x1, x2, width)
    return np.einsum("ih,hwc,jw->ijc", rows, image.astype(np.float64), columns, optimize=True)


def letterbox_reference(images: Array, place: Letterbox, mul: Array, add: Array, bgr: bool = False) -> Array:
    """:func:`letterbox`, from the definition."""
    canvas = np.full((len(images), place.height, place.width, 3), float(PAD))
    whole = (0.0, 0.0, float(place.source_width), float(place.source_height))
    for canvas_image, image in zip(canvas, images, strict=True):
        canvas_image[
            place.top : place.top + place.content_height, place.left : place.left + place.content_width
        ] = resize_reference(image, whole, place.content_height, place.content_width)
    if bgr:
        canvas = canvas[..., ::-1]
    return np.ascontiguousarray((canvas * mul + add).transpose(0, 3, 1, 2), dtype=np.float32)


# --- compiled -------------------------------------------------------------------------------------------


@numba.njit(nogil=True, cache=True)
def _taps(size: int, low: float, high: float, out: int) -> tuple[Array, Array, Array]:
    """First source pixel, number of pixels and weights (out, K) of each output pixel."""
    scale = (high - low) / out
    support = max(scale, 1.0)
    first = np.empty(out, np.int64)
    count = np.empty(out, np.int64)
    weights = np.zeros((out, int(np.ceil(support)) * 2 + 2), np.float32)
    for i in range(out):
        centre = low + (i + 0.5) * scale
        start = min(max(int(np.floor(centre - support + 0.5)), 0), size - 1)
        stop = max(min(int(np.floor(centre + support + 0.5)), size), start + 1)
        total = 0.0
        for k in range(start, stop):
            weight = max(0.0, 1.0 - abs(k + 0.5 - centre) / support)
            weights[i, k - start] = weight
            total += weight
        if total <= 0.0:  # only where rounding puts every weight at the filter's zero
            weights[i, 0] = 1.0
            total = 1.0
        for k in range(stop - start):
            weights[i, k] /= total
        first[i] = start
        count[i] = stop - start
    return first, count, weights


# The loops below run over views that start at 0: an index with an offset would be checked for
# wrap-around, which keeps the compiler from using vector instructions (measured: 14 ms against 0.5 ms).


@numba.njit(nogil=True, cache=True, fastmath=True, inline="never")
def _add4(
    row: Array, a: Array, b: Array, c: Array, d: Array, wa: float, wb: float, wc: float, wd: float
) -> None:
    for x in range(row.size):
        row[x] += (
            wa * np.float32(a[x]) + wb * np.float32(b[x]) + wc * np.float32(c[x]) + wd * np.float32(d[x])
        )


@numba.njit(nogil=True, cache=True, fastmath=True, inline="never")
def _add1(row: Array, a: Array, weight: float) -> None:
    for x in range(row.size):
        row[x] += weight * np.float32(a[x])


@numba.njit(nogil=True, cache=True, fastmath=True)
def _vertical(image: Array, rows: Any, columns: Any) -> tuple[Array, int]:
    """(out, 3 * columns used) float32: the source resized in height only; and the first column used."""
    first, count, weights = rows
    x0 = columns[0][0]
    x1 = columns[0][-1] + columns[1][-1]
    source = image.reshape(image.shape[0], image.shape[1] * 3)[:, x0 * 3 : x1 * 3]
    result = np.zeros((first.size, (x1 - x0) * 3), np.float32)
    for i in range(first.size):
        row = result[i]
        a = first[i]
        n = count[i]
        k = 0
        while k + 3 < n:
            _add4(
                row, source[a + k], source[a + k + 1], source[a + k + 2], source[a + k + 3],
                weights[i, k], weights[i, k + 1], weights[i, k + 2], weights[i, k + 3],
            )  # fmt: skip
            k += 4
        while k < n:
            _add1(row, source[a + k], weights[i, k])
            k += 1
    return result, x0


@numba.njit(nogil=True, cache=True, fastmath=True, inline="always")
def _mix(row: Array, position: int, count: int, weights: Array) -> Any:
    p = np.uint64(position)
    r = np.float32(0)
    g = np.float32(0)
    b = np.float32(0)
    for k in range(count):
        w = weights[k]
        r += w * row[p]
        g += w * row[p + np.uint64(1)]
        b += w * row[p + np.uint64(2)]
        p += np.uint64(3)
    return r, g, b


@numba.njit(nogil=True, cache=True, fastmath=True)
def _resize_hwc(image: Array, box: Any, out: Array) -> None:
    x1, y1, x2, y2 = box
    rows = _taps(image.shape[0], y1, y2, out.shape[0])
    columns = _taps(image.shape[1], x1, x2, out.shape[1])
    narrow, x0 = _vertical(image, rows, columns)
    first, count, weights = columns
    for i in range(out.shape[0]):
        row = narrow[i]
        for j in range(out.shape[1]):
            r, g, b = _mix(row, (first[j] - x0) * 3, count[j], weights[j])
            out[i, j, 0] = np.uint8(min(r + np.float32(0.5), np.float32(255)))
            out[i, j, 1] = np.uint8(min(g + np.float32(0.5), np.float32(255)))
            out[i, j, 2] = np.uint8(min(b + np.float32(0.5), np.float32(255)))


@numba.njit(nogil=True, cache=True, fastmath=True)
def _resize_chw(image: Array, out: Array, mul: Array, add: Array, bgr: bool) -> None:
    columns = _taps(image.shape[1], 0.0, float(image.shape[1]), out.shape[2])
    rows = _taps(image.shape[0], 0.0, float(image.shape[0]), out.shape[1])
    narrow, x0 = _vertical(image, rows, columns)
    first, count, weights = columns
    red, blue = (2, 0) if bgr else (0, 2)
    for i in range(out.shape[1]):
        row = narrow[i]
        for j in range(out.shape[2]):
            r, g, b = _mix(row, (first[j] - x0) * 3, count[j], weights[j])
            out[red, i, j] = r * mul[red] + add[red]
            out[1, i, j] = g * mul[1] + add[1]
            out[blue, i, j] = b * mul[blue] + add[blue]


@numba.njit(nogil=True, cache=True)
def _normalize(images: Array, mul: Array, add: Array, mirror: bool, out: Array) -> None:
    n, height, width, _ = images.shape
    for i in range(n):
        for c in range(3):
            for y in range(height):
                row = images[i, y]
                target = out[i, c, y]
                for x in range(width):
                    target[width - 1 - x if mirror else x] = np.float32(row[x, c]) * mul[c] + add[c]


def _rgb(images: Array, dimensions: int, caller: str) -> Array:
    if images.dtype != np.uint8 or images.ndim != dimensions or images.shape[-1] != 3:
        want = "(N, H, W, 3)" if dimensions == 4 else "(H, W, 3)"
        raise ValueError(f"{caller}: expected uint8 {want}, got {images.dtype} {images.shape}")
    return images if on_device(images) else np.ascontiguousarray(images)


def _triple(values: Any) -> Array:
    return np.ascontiguousarray(np.broadcast_to(np.asarray(values, np.float32), (3,)))


def _check_float(dtype: Any, caller: str) -> None:
    if np.dtype(dtype) not in (np.float32, np.float16):
        raise ValueError(f"{caller}: expected dtype float32 or float16, got {np.dtype(dtype)}")


def resize(image: Array, box: tuple[float, float, float, float], height: int, width: int) -> Array:
    """Resize the part of ``image`` inside ``box`` to ``height`` x ``width``, antialiased.

    Args:
        image: (H, W, 3) uint8.
        box: x1, y1, x2, y2 in pixels, fractions allowed, ``0 <= x1 < x2 <= W``, ``0 <= y1 < y2 <= H``.

    Returns:
        (height, width, 3) uint8.
    """
    image = _rgb(image, 3, "resize")
    x1, y1, x2, y2 = (float(v) for v in box)
    if not (0 <= x1 < x2 <= image.shape[1] and 0 <= y1 < y2 <= image.shape[0]) or min(height, width) < 1:
        raise ValueError(
            f"resize: expected a box inside {image.shape[1]}x{image.shape[0]} and an output of at least 1x1,"
            f" got {(x1, y1, x2, y2)} to {width}x{height}"
        )
    if on_device(image):
        sizes = np.array([(height, width)])
        return image_cuda.resize_boxes(image[None], [0], [(x1, y1, x2, y2)], sizes).reshape(height, width, 3)
    out = np.empty((height, width, 3), np.uint8)
    _resize_hwc(image, (x1, y1, x2, y2), out)
    return out


def letterbox(
    images: Array, place: Letterbox, *, mul: Any, add: Any = 0.0, bgr: bool = False, dtype: Any = np.float32
) -> Array:
    """Frames as a network's input: resized, on grey, ``value * mul + add``, channels first.

    Args:
        images: (N, H, W, 3) uint8 RGB, of the source size of ``place``.
        mul, add: one number or one per output channel; ``mul=1/255`` gives 0..1.
        bgr: swap red and blue (YOLOX).
        dtype: float32, or float16 for networks that take it.

    Returns:
        (N, 3, height, width) of ``dtype``.
    """
    images = _rgb(images, 4, "letterbox")
    if images.shape[1:3] != (place.source_height, place.source_width):
        raise ValueError(
            f"letterbox: expected frames of {place.source_width}x{place.source_height},"
            f" got {images.shape[2]}x{images.shape[1]}"
        )
    _check_float(dtype, "letterbox")
    if on_device(images):
        return image_cuda.letterbox(images, place, mul, add, bgr, dtype)
    mul, add = _triple(mul), _triple(add)
    out = np.empty((len(images), 3, place.height, place.width), np.float32)
    if (place.content_height, place.content_width) != (place.height, place.width):
        out[:] = (PAD * mul + add)[:, None, None]
    inner = out[
        :, :, place.top : place.top + place.content_height, place.left : place.left + place.content_width
    ]
    for image, target in zip(images, inner, strict=True):
        _resize_chw(image, target, mul, add, bgr)
    return out.astype(dtype, copy=False)


def crop_square(
    image: Array, box: tuple[float, float, float, float], size: int, fit: Fit
) -> tuple[Array, tuple[int, int, int, int]]:
    """Cut a box out of a frame and make it a square of ``size``, resized once, straight from the frame.

    Args:
        image: (H, W, 3) uint8.
        box: x1, y1, x2, y2 in pixels; what lies outside the frame is left out.
        fit: 'pad' keeps the aspect, on grey; 'stretch' fills the square; 'square' takes in more of the frame
            around the box (moved inside the frame where it fits, grey where it does not).

    Returns:
        (size, size, 3) uint8, and the part of it that is picture: top, left, bottom, right.

    Raises:
        ValueError: the box does not overlap the frame.
    """
    cut = cut_square(box, image.shape[0], image.shape[1], size, fit)
    if on_device(image):
        return image_cuda.squares(_rgb(image, 3, "crop_square")[None], [0], [cut], size)[0], cut.content
    content = resize(image, cut.box, cut.height, cut.width)
    if (cut.height, cut.width) == (size, size):
        return content, (0, 0, size, size)
    out = np.full((size, size, 3), PAD, np.uint8)
    out[cut.top : cut.top + cut.height, cut.left : cut.left + cut.width] = content
    return out, cut.content


def crop_squares(
    images: Array, frame: Sequence[int] | Array, boxes: Sequence[Box] | Array, size: int, fit: Fit
) -> tuple[Array, Array]:
    """:func:`crop_square` of many boxes at once, on a GPU in one launch.

    Args:
        images: (N, H, W, 3) uint8.
        frame: M positions in ``images``, on the host, as the boxes.
        boxes: M boxes.

    Returns:
        (M, size, size, 3) uint8, and (M, 4) int32, on the host: the part of each that is picture.
    """
    images = _rgb(images, 4, "crop_squares")
    cuts = [cut_square(box, images.shape[1], images.shape[2], size, fit) for box in boxes]
    contents = np.array([cut.content for cut in cuts], np.int32).reshape(-1, 4)
    if on_device(images):
        return image_cuda.squares(images, frame, cuts, size), contents
    out = np.empty((len(cuts), size, size, 3), np.uint8)
    for square, at, box in zip(out, frame, boxes, strict=True):
        square[...], _ = crop_square(images[at], box, size, fit)
    return out, contents


def resize_boxes(
    images: Array, frame: Sequence[int] | Array, boxes: Sequence[Box] | Array, sizes: Array
) -> Array:
    """:func:`resize` of many boxes, each to its own size, on a GPU in one launch.

    Args:
        frame, boxes: as for :func:`crop_squares`; the boxes lie inside the frame.
        sizes: (M, 2) integers, height and width of each, on the host.

    Returns:
        (pixels, 3) uint8: the pictures, one after the other. :func:`unpacked` tells them apart.
    """
    images = _rgb(images, 4, "resize_boxes")
    sizes = np.asarray(sizes, np.int64).reshape(-1, 2)
    if on_device(images):
        return image_cuda.resize_boxes(images, frame, boxes, sizes)
    out = np.empty((int(sizes.prod(axis=1).sum()), 3), np.uint8)
    for picture, at, box in zip(unpacked(out, sizes), frame, boxes, strict=True):
        picture[...] = resize(images[at], box, *picture.shape[:2])
    return out


def unpacked(buffer: Array, sizes: Array) -> list[Array]:
    """The pictures that :func:`resize_boxes` made: views, (height, width, 3)."""
    ends = np.cumsum([int(h) * int(w) for h, w in sizes]).tolist()
    starts = [0, *ends[:-1]]
    return [
        buffer[start:end].reshape(int(h), int(w), 3)
        for start, end, (h, w) in zip(starts, ends, sizes, strict=False)
    ]


def normalize(
    images: Array, *, mul: Any, add: Any = 0.0, mirror: bool = False, dtype: Any = np.float32
) -> Array:
    """(N, H, W, 3) uint8 -> (N, 3, H, W): ``value * mul + add`` per channel, optionally mirrored.

    Args:
        dtype: float32, or float16 for networks that take it.
    """
    images = _rgb(images, 4, "normalize")
    _check_float(dtype, "normalize")
    if on_device(images):
        return image_cuda.normalize(images, mul, add, mirror, dtype)
    n, height, width, _ = images.shape
    out = np.empty((n, 3, height, width), np.float32)
    _normalize(images, _triple(mul), _triple(add), mirror, out)
    return out.astype(dtype, copy=False)


@numba.njit(nogil=True, cache=True)
def _laplacian_variance(image: Array) -> float:
    height, width, _ = image.shape
    luma = np.empty((height, width), np.float64)
    for y in range(height):
        for x in range(width):
            luma[y, x] = 0.299 * image[y, x, 0] + 0.587 * image[y, x, 1] + 0.114 * image[y, x, 2]
    total = 0.0
    squares = 0.0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            v = luma[y - 1, x] + luma[y + 1, x] + luma[y, x - 1] + luma[y, x + 1] - 4 * luma[y, x]
            total += v
            squares += v * v
    n = (height - 2) * (width - 2)
    return squares / n - (total / n) ** 2


def sharpness(image: Array) -> float:
    """Variance of the 4-neighbour Laplacian of the luma (BT.601, 0..255) of (H, W, 3) uint8; 0 below 3x3."""
    image = _rgb(image, 3, "sharpness")
    return max(0.0, float(_laplacian_variance(image))) if min(image.shape[:2]) >= 3 else 0.0


def sharpness_of(squares: Array, contents: Array) -> Array:
    """:func:`sharpness` of the part of each square that is picture.

    Args:
        squares: (M, S, S, 3) uint8.
        contents: (M, 4) integers on the host: top, left, bottom, right.

    Returns:
        (M,) float64.
    """
    squares = _rgb(squares, 4, "sharpness_of")
    if on_device(squares):
        return image_cuda.sharpness(squares, contents)
    parts = (square[t:b, left:r] for square, (t, left, b, r) in zip(squares, contents, strict=True))
    return np.array([sharpness(part) for part in parts], np.float64)
