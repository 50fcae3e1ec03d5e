"""Boxes: overlap, non-maximum suppression, conversions. float32 (N, 4) as x1, y1, x2, y2 in pixels.

:func:`nms` also works on arrays on a GPU (:mod:`kernels.boxes_cuda`, which does whole batches).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from kernels import boxes_cuda
from kernels.device import on_device, to_host
from kernels.placement import Letterbox

Array = Any  # numpy.ndarray or cupy.ndarray


def xywh_to_xyxy(boxes: Array) -> Array:
    """Centre x, centre y, width, height -> corners. Any leading axes, the last is 4."""
    half = boxes[..., 2:4] * boxes.dtype.type(0.5)
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def xyxy_to_xywh(boxes: Array) -> Array:
    """Corners -> centre x, centre y, width, height."""
    size = boxes[..., 2:4] - boxes[..., :2]
    return np.concatenate([boxes[..., :2] + size * boxes.dtype.type(0.5), size], axis=-1)


def area(boxes: Array) -> Array:
    """(N,) areas; a box whose corners are swapped has none."""
    return np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)


def iou(a: Array, b: Array) -> Array:
    """Intersection over union of every box of ``a`` (N, 4) with every one of ``b`` (M, 4): (N, M) float32.

    Two boxes without area overlap by 0.
    """
    a, b = np.asarray(a, np.float32).reshape(-1, 4), np.asarray(b, np.float32).reshape(-1, 4)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    union = area(a)[:, None] + area(b)[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def clip(boxes: Array, height: int, width: int) -> Array:
    """Boxes cut at the frame's edges."""
    limits = np.array([width, height, width, height], np.float32)
    return np.clip(boxes, np.float32(0), limits).astype(np.float32, copy=False)


def unletterbox(boxes: Array, place: Letterbox) -> Array:
    """Boxes on a letterboxed canvas -> boxes in the source picture, clipped to it. (N, 4) float32."""
    shift = np.array([place.left, place.top, place.left, place.top], np.float32)
    scale = np.array([place.scale_x, place.scale_y, place.scale_x, place.scale_y], np.float32)
    return clip((boxes - shift) / scale, place.source_height, place.source_width)


def mirror_boxes(boxes: Array, width: int) -> Array:
    """Boxes (N, 4) xyxy in a picture ``width`` pixels wide -> where they are in its mirror image."""
    mirrored = boxes.copy()
    mirrored[:, [0, 2]] = width - boxes[:, [2, 0]]
    return mirrored


def nms_reference(
    boxes: Array, scores: Array, classes: Array, threshold: float, limit: int | None = None
) -> Array:
    """:func:`nms`, from the definition."""
    left = sorted(range(len(boxes)), key=lambda i: (-float(scores[i]), i))
    overlap = iou(boxes, boxes)
    kept: list[int] = []
    while left and (limit is None or len(kept) < limit):
        best = left.pop(0)
        kept.append(best)
        left = [i for i in left if classes[i] != classes[best] or overlap[best, i] <= threshold]
    return np.array(kept, np.int64)


@numba.njit(nogil=True, cache=True)
def _nms(boxes: Array, classes: Array, order: Array, threshold: float, limit: int, kept: Array) -> int:
    n = order.size
    gone = np.zeros(n, np.bool_)
    count = 0
    for a in range(n):
        if gone[a]:
            continue
        i = order[a]
        kept[count] = i
        count += 1
        if count == limit:
            break
        x1, y1, x2, y2 = boxes[i]
        own = max(x2 - x1, np.float32(0)) * max(y2 - y1, np.float32(0))
        for b in range(a + 1, n):
            j = order[b]
            if gone[b] or classes[j] != classes[i]:
                continue
            w = min(x2, boxes[j, 2]) - max(x1, boxes[j, 0])
            h = min(y2, boxes[j, 3]) - max(y1, boxes[j, 1])
            if w <= 0 or h <= 0:
                continue
            shared = w * h
            other = max(boxes[j, 2] - boxes[j, 0], np.float32(0)) * max(
                boxes[j, 3] - boxes[j, 1], np.float32(0)
            )
            union = own + other - shared
            if union > 0 and shared / union > threshold:
                gone[b] = True
    return count


def nms(boxes: Array, scores: Array, classes: Array, threshold: float, limit: int | None = None) -> Array:
    """Greedy non-maximum suppression within each class.

    Args:
        boxes: (N, 4) float32.
        scores: (N,) float32. Ties go to the earlier box.
        classes: (N,) integers; boxes of different classes never suppress each other.
        threshold: IoU above which the lower score goes. Raising it keeps more overlapping boxes.
        limit: most boxes kept, best first.

    Returns:
        (K,) int64 indices of the boxes kept, by descending score. Of arrays on a GPU the number of them comes
        to the host, so this waits; :func:`kernels.boxes_cuda.nms_batch` does not.
    """
    if on_device(boxes):
        kept_of, counts = boxes_cuda.nms_batch(
            boxes.reshape(1, -1, 4), scores[None], classes[None], threshold, limit=limit
        )
        return kept_of[0, : int(to_host(counts, "boxes")[0])].astype(np.int64)
    boxes = np.ascontiguousarray(boxes, np.float32).reshape(-1, 4)
    order = np.argsort(-np.asarray(scores, np.float32), kind="stable")
    kept = np.empty(len(boxes), np.int64)
    # the threshold is compared in float32, as the reference's overlaps are
    count = _nms(
        boxes,
        np.ascontiguousarray(classes, np.int64),
        order,
        np.float32(threshold),
        -1 if limit is None else limit,
        kept,
    )
    return kept[:count]


def fuse(boxes: Array, scores: Array, source: Array, views: int, same: float) -> tuple[Array, Array, Array]:
    """One answer of several views of a picture.

    Weighted boxes fusion (Solovyev et al. 2021, arXiv:1910.13302).

    Args:
        boxes: (N, 4) float32, of all views, in the picture's pixels. scores: (N,), 0..1.
        source: (N,) the number of the view each is from, below ``views``.
        same: IoU from which boxes are of one thing. Raising it tells more things apart.

    Returns:
        Boxes (K, 4), the means of those that overlap the best one left, weighted by their scores; scores
        (K,), the means over all views, 0 for a view without such a box; (K,) how many views agree. All best
        first.
    """
    overlap = iou(boxes, boxes)
    free = np.ones(len(boxes), bool)
    found, marks, agreeing = [], [], []
    for i in np.argsort(-scores, kind="stable"):
        if not free[i]:
            continue
        mine = free & (overlap[i] >= same)
        mine[i] = True
        free &= ~mine
        best = np.zeros(views, np.float32)
        np.maximum.at(best, source[mine], scores[mine])
        found.append(np.average(boxes[mine], axis=0, weights=scores[mine] + np.float32(1e-9)))
        marks.append(best.mean())
        agreeing.append(int((best > 0).sum()))
    order = np.argsort(-np.array(marks, np.float32), kind="stable")
    return (
        np.array(found, np.float32).reshape(-1, 4)[order],
        np.array(marks, np.float32)[order],
        np.array(agreeing, np.int64)[order],
    )
