"""The map from strength to preference for a similarity on a device; see :mod:`kernels.affinity.strength`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.affinity._device import Array, Matrix
from kernels.affinity._gpu import NAMES, Device
from kernels.affinity.finish import cover
from kernels.affinity.strength import StrengthMap

_THREADS = 256


def range_on_device(matrix: Matrix) -> tuple[float, float]:
    """See :func:`kernels.affinity.preference_range`."""
    xp, n = matrix.xp, matrix.n
    if n == 1:
        return 0.0, 0.0
    total, nearest = xp.zeros(n, np.float64), xp.empty(n, np.float64)
    for rows in matrix.blocks(n, n):
        block = matrix.rows(rows, -math.inf)
        nearest[rows] = block.max(axis=1)
        total += xp.where(block > -math.inf, block, 0).sum(axis=0, dtype=np.float64)
    best = np.asarray(matrix.to_host(nearest))
    p_max = float(best.max())
    finite = np.sort(best[np.isfinite(best)])
    if not len(finite):
        return 0.0, 0.0
    return min(float(matrix.to_host(total.max())) - float(finite[2:].sum()), p_max), p_max


def map_on_device(matrix: Matrix, device: Device) -> StrengthMap:
    """See :func:`kernels.affinity.strength_map`; the map itself is on the host."""
    n = matrix.n
    p_min, p_max = range_on_device(matrix)
    if n == 1:
        return StrengthMap(np.array([p_max]), np.zeros(1, np.int64), np.zeros(0))
    solution = matrix.settle(0.0, 0.5, 1, 1, None, 0)
    order, gains = greedy_on_device(matrix, device, float(solution.floor))
    fewest = 1
    if matrix.scan.forbidden:
        fewest = len(cover(np.arange(n), solution.preference, solution.similar))
    return StrengthMap.of(order, gains, p_min, p_max, fewest)


def greedy_on_device(
    matrix: Matrix, device: Device, floor: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """See :func:`kernels.affinity._greedy.greedy_exemplars`.

    Two looks back at the device per point: the point chosen, and how many points change to it. Reads about
    N^2 log N similarities in all.
    """
    xp, n, dtype = matrix.xp, matrix.n, matrix.dtype
    number, kernel = dtype.type, "exchange_" + NAMES[str(matrix.s.dtype)]
    low, nobody = number(floor), number(np.finfo(dtype).max)

    def exchange(rows: object, count: int, old: object, now: object) -> None:
        device.launch(
            kernel, -(-n // _THREADS), (_THREADS, 1), 0,
            (matrix.s, rows, old, now, gain, np.int32(count), np.int32(n)),
        )  # fmt: skip

    order = np.empty(n, np.int64)
    gains, gain = xp.empty(n - 1, np.float64), xp.zeros(n, np.float64)
    order[0] = chosen = int(matrix.to_host(xp.argmax(_all_to_one(matrix, low))))
    best = xp.maximum(matrix.s[:, chosen].astype(dtype), low)
    best[chosen] = 0  # not read: an exemplar follows nobody
    free = xp.ones(n, bool)
    free[chosen] = False
    exchange(xp.flatnonzero(free).astype(np.int64), n - 1, xp.full(n, nobody), best)
    for step in range(n - 1):
        value = xp.where(free, gain - best, -math.inf)
        at = xp.argmax(value)
        gains[step] = value[at]
        order[step + 1] = chosen = int(matrix.to_host(at))
        free[chosen] = False
        now = xp.maximum(matrix.s[:, chosen].astype(dtype), low)
        follow = xp.flatnonzero(free & (now > best)).astype(np.int64)
        now[chosen] = nobody  # it no longer follows anybody
        rows = xp.concatenate([xp.asarray([chosen], dtype=np.int64), follow])
        exchange(rows, len(rows), best, now)
        best[follow] = now[follow]
    return order, np.asarray(matrix.to_host(gains))


def _all_to_one(matrix: Matrix, low: np.floating[Any]) -> Array:
    """(N,) float64 sum of all similarities to each point, forbidden ones at the floor."""
    xp, n = matrix.xp, matrix.n
    total = xp.zeros(n, np.float64)
    for rows in matrix.blocks(n, n):
        block = xp.maximum(matrix.rows(rows, 0), low)
        block[xp.arange(len(block)), xp.arange(rows.start, rows.stop)] = 0
        total += block.sum(axis=0, dtype=np.float64)
    return total
