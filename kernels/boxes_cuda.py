"""Boxes on an NVIDIA GPU (``boxes.cu``): a detector's output read, thresholded and suppressed where it lies.

Of a batch only the boxes kept come to the host, and how many there are. Everything runs on CuPy's current
stream and takes its memory from CuPy's pool; :func:`find` waits for its result, :func:`nms_batch` for
nothing. Candidates are few beside the output they are found in: reading that, 4 (4 + C) A bytes per image and
once more to see that all are finite, is the cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kernels import device as gpu
from kernels.device import Device, Source
from kernels.placement import Letterbox

Array = Any  # numpy.ndarray or cupy.ndarray

SOURCE = Source((Path(__file__).with_name("boxes.cu"),))
# Candidate in boxes.cu, field by field
CANDIDATE = np.dtype(
    [("box", "f4", 4), ("score", "f4"), ("label", "i4"), ("cell", "i4"), ("gone", "i4")]
)  # fmt: skip
_CELL = 6  # the field's place among the words of a candidate
_THREADS = 256
_NEVER = np.float32(np.inf)  # an overlap that no two boxes have
_FINITE_BLOCKS = 8  # per multiprocessor


@dataclass(frozen=True)
class Layout:
    """Where a detector's output has its boxes and scores.

    ``columns``: (N, 4+C, A), centre boxes and a score per class. ``rows``: (N, A, 5+C), centre boxes,
    objectness and a score per class; with ``strides``, at most four, boxes count from their cell of these
    grids in units of its stride, sizes as logarithms. ``finished``: (N, A, 6), corners, score, class.
    """

    form: Literal["columns", "rows", "finished"]
    classes: int = 0
    strides: tuple[int, ...] = ()


@dataclass(frozen=True)
class Kept:
    """The boxes of one image, best first, on the host: (M, 4) in the frame's pixels; scores, classes."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int32]


def find(
    output: Array,
    layout: Layout,
    place: Letterbox,
    *,
    score: float,
    wanted: NDArray[np.bool_] | None,
    threshold: float | None,
    limit: int,
    checked: tuple[Array, ...] = (),
) -> list[Kept] | None:
    """What a detector found in a batch of letterboxed frames.

    Args:
        output: float32, on the GPU, as ``layout`` says.
        place: where the frames lie on the network's canvas.
        score: least score, 0..1. Raising it finds fewer.
        wanted: (C,) the classes to keep; None keeps all.
        threshold: IoU above which the lower score of a class goes; None suppresses nothing. Raising it keeps
            more overlapping boxes.
        limit: most boxes kept per image.
        checked: float32 arrays whose numbers have to be finite.

    Returns:
        One :class:`Kept` per image, or None where a number in ``checked`` is not finite.
    """
    device = gpu.open_device(SOURCE)
    xp = device.xp
    output = xp.ascontiguousarray(output)
    n = output.shape[0]
    cells = output.shape[2] if layout.form == "columns" else output.shape[1]
    news = xp.zeros(2 * n + 1, np.int32)  # candidates, boxes kept, and whether a number is not finite
    counts, kept_counts, flag = news[:n], news[n : 2 * n], news[2 * n :]
    for array in checked:
        _find_not_finite(device, array, flag)
    found = xp.empty((2, n, max(1, cells), CANDIDATE.itemsize), np.uint8)
    if n * cells:
        _read(device, output, layout, place, score, wanted, found[0], counts)
    limit = min(limit, max(1, cells))
    kept = xp.empty((n, limit, CANDIDATE.itemsize), np.uint8)
    _best(device, found, counts, cells, threshold, limit, kept, kept_counts)
    told = gpu.to_host(news, "boxes")
    if told[2 * n]:
        return None
    numbers = told[n : 2 * n]
    most = int(numbers.max(initial=0))
    table = np.empty((n, 0), CANDIDATE)
    if most:
        table = gpu.to_host(xp.ascontiguousarray(kept[:, :most]), "boxes").view(CANDIDATE)[..., 0]
    rows = [row[:count] for row, count in zip(table, numbers.tolist(), strict=True)]
    return [Kept(row["box"].copy(), row["score"].copy(), row["label"].copy()) for row in rows]


def nms_batch(
    boxes: Array,
    scores: Array,
    classes: Array,
    threshold: float,
    *,
    counts: Array | None = None,
    limit: int | None = None,
) -> tuple[Array, Array]:
    """Greedy non-maximum suppression within each image and class, for a whole batch at once.

    Args:
        boxes: (N, K, 4) float32, on the GPU as the others; scores (N, K), ties go to the earlier box; classes
            (N, K) integers.
        threshold: IoU above which the lower score goes. Raising it keeps more overlapping boxes.
        counts: (N,) int32: how many of the K there are in each image; None: all.
        limit: most boxes kept per image.

    Returns:
        (N, limit or K) int32 indices of the boxes kept, by descending score, and (N,) int32: how many of them
        there are in each row; what follows has no meaning. On the GPU; nothing is waited for.
    """
    device = gpu.open_device(SOURCE)
    xp = device.xp
    n, k = scores.shape
    boxes = xp.ascontiguousarray(boxes.astype(np.float32, copy=False))
    scores = xp.ascontiguousarray(scores.astype(np.float32, copy=False))
    classes = xp.ascontiguousarray(classes.astype(np.int32, copy=False))
    counts = xp.full(n, k, np.int32) if counts is None else xp.ascontiguousarray(counts)
    limit = k if limit is None else min(limit, k)
    kept = xp.empty((n, max(1, limit), CANDIDATE.itemsize), np.uint8)
    kept_counts = xp.zeros(n, np.int32)
    if n * k * limit:
        found = xp.empty((2, n, k, CANDIDATE.itemsize), np.uint8)
        chunks = -(-k // _THREADS)
        arguments = (boxes, scores, classes, counts, np.int32(k), np.int32(chunks), found[0])
        device.launch("candidates_given", n * chunks, (_THREADS, 1), 0, arguments)
        _best(device, found, counts, k, threshold, limit, kept, kept_counts)
    return kept.view(np.int32)[:, :limit, _CELL], kept_counts


def _read(
    device: Device,
    output: Array,
    layout: Layout,
    place: Letterbox,
    score: float,
    wanted: NDArray[np.bool_] | None,
    found: Array,
    counts: Array,
) -> None:
    """Append the candidates of each image to its list."""
    n, rows, columns = output.shape
    whole, number = np.int32, np.float32
    cells = columns if layout.form == "columns" else rows
    chunks = -(-cells // _THREADS)
    mask = np.uint64(0) if wanted is None else device.xp.asarray(wanted.astype(np.uint8))  # or a null pointer
    strides = [whole(s) for s in (*layout.strides, 0, 0, 0, 0)[:4]]
    shape = {
        "columns": (whole(rows), whole(cells), whole(layout.classes)),
        "rows": (
            whole(cells),
            whole(columns),
            whole(layout.classes),
            whole(place.height),
            whole(place.width),
            *strides,
        ),
        "finished": (whole(cells),),
    }[layout.form]
    door = (
        number(place.left), number(place.top), number(place.scale_x), number(place.scale_y),
        number(place.source_width), number(place.source_height), mask,
        whole(0 if wanted is None else len(wanted)), found, counts, whole(max(1, cells)),
    )  # fmt: skip
    arguments = (output, *shape, whole(chunks), number(score), *door)
    device.launch(f"candidates_{layout.form}", n * chunks, (_THREADS, 1), 0, arguments)


def _best(
    device: Device,
    found: Array,
    counts: Array,
    cells: int,
    threshold: float | None,
    limit: int,
    kept: Array,
    kept_counts: Array,
) -> None:
    """Sort the candidates and suppress them."""
    n = found.shape[1]
    if n * cells == 0:
        return
    whole, chunks = np.int32, -(-cells // _THREADS)
    device.launch(
        "rank", n * chunks, (_THREADS, 1), 0, (found[0], counts, whole(cells), whole(chunks), found[1])
    )
    over = _NEVER if threshold is None else np.float32(threshold)
    arguments = (found[1], counts, whole(cells), over, whole(limit), kept, kept_counts)
    device.launch("suppress", n, (32, 8), 0, arguments)


def _find_not_finite(device: Device, array: Array, flag: Array) -> None:
    array = device.xp.ascontiguousarray(array)
    if array.size:
        blocks = min(-(-array.size // _THREADS), _FINITE_BLOCKS * device.processors)
        device.launch("find_not_finite", blocks, (_THREADS, 1), 0, (array, np.int64(array.size), flag))
