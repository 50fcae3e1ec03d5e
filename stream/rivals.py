"""Boxes of one frame are different characters: which tracks that holds apart, and how it is enforced."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.similarity import negative_squared_distances

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_COVERED = 0.25  # share of the smaller box on the larger from which two may be one character found twice


def find_rivals(point_of: Ints, frames: NDArray[Any], boxes: Floats | None) -> dict[int, set[int]]:
    """For every point, the points that are another character: apart in more frames than on one another.

    A character found twice (a head in its body's box) lies on itself nearly always, two characters who pass
    each other do so now and then.
    """
    order = np.argsort(frames, kind="stable")
    balance: dict[tuple[int, int], int] = {}  # frames apart less frames on one another
    for crops in np.split(order, np.flatnonzero(np.diff(frames[order])) + 1):
        if len(crops) < 2:
            continue
        apart = np.ones((len(crops), len(crops)), bool)
        if boxes is not None:
            apart = covered(boxes[crops], boxes[crops]) < _COVERED
        for i, j in zip(*np.triu_indices(len(crops), 1), strict=True):
            first, second = int(point_of[crops[i]]), int(point_of[crops[j]])
            if first != second:
                pair = min(first, second), max(first, second)
                balance[pair] = balance.get(pair, 0) + (1 if apart[i, j] else -1)
    rivals: dict[int, set[int]] = {}
    for (first, second), more in balance.items():
        if more > 0:
            rivals.setdefault(first, set()).add(second)
            rivals.setdefault(second, set()).add(first)
    return rivals


def covered(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float32]:
    """(A, B) share of the smaller of two xyxy boxes that lies on the other."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    area = [np.prod(np.clip(x[:, 2:] - x[:, :2], 1e-6, None), axis=1) for x in (a, b)]
    inter = np.prod(np.clip(high - low, 0, None), axis=2)
    share: NDArray[np.float32] = inter / np.minimum(area[0][:, None], area[1][None, :])
    return share


def separate(
    points: Floats,
    sizes: Floats,
    labels: Ints,
    exemplars: Ints,
    rivals: dict[int, set[int]],
    preference: float,
    most: int | None,
) -> tuple[Ints, int, int, int]:
    """Keep rivals apart: new labels, points moved, clusters opened, points left with a rival.

    ``most`` clusters are there in the end at most (None: any number); a point is left with a rival only
    where all clusters hold one and no more may be opened.
    """
    labels = labels.copy()
    centres = [points[e] for e in exemplars]
    contested = np.array(sorted(p for p, others in rivals.items() if others), np.int64)
    if not len(contested):
        return labels, 0, 0, 0
    closeness = np.einsum("id,id->i", points[contested], points[exemplars[labels[contested]]])
    own = np.isin(contested, exemplars)
    taken: dict[int, int] = {}  # contested point -> its cluster, once decided
    moved = left = 0
    # exemplars first, then the nearest ones: they have the best claim
    for point in contested[np.lexsort((contested, -closeness, ~own))].tolist():
        shut = {taken[other] for other in rivals[point] if other in taken}
        wish = int(labels[point])
        if wish in shut:
            similar = negative_squared_distances(points[point : point + 1], np.stack(centres))[0]
            similar[list(shut)] = -np.inf
            better = int(similar.argmax())
            if sizes[point] * similar[better] < preference and (most is None or len(centres) < most):
                better = len(centres)
                centres.append(points[point])
            if better < len(similar) and not np.isfinite(similar[better]):
                left += 1
            else:
                moved += 1
                wish = better
                labels[point] = wish
        taken[point] = wish
    used, compact = np.unique(labels, return_inverse=True)
    return compact.reshape(-1).astype(np.int64), moved, len(used) - len(exemplars), left
