"""Exemplars chosen one by one, compiled; importing this imports numba, so do it late."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.affinity.contract import check_similarity, row_blocks
from kernels.compiled import compiled, inner


@inner
def _exchange(s, old, new, gain):  # type: ignore[no-untyped-def]
    """One row whose exemplar's similarity goes from old to new: what candidates would gain it, changed."""
    zero = s.dtype.type(0)
    for k in range(len(s)):
        gain[k] += max(s[k] - new, zero) - max(s[k] - old, zero)


@inner
def _rise(s, best, gain):  # type: ignore[no-untyped-def]
    zero = s.dtype.type(0)
    for k in range(len(s)):
        gain[k] += max(s[k] - best, zero)


def _improvement(s, rows, best, gain):  # type: ignore[no-untyped-def]
    """Add to gain (N,) float64 what each candidate would better the rows by, itself left out; best (N,)."""
    for j in range(len(rows)):
        i = rows[j]
        kept = gain[i]
        _rise(s[i], best[i], gain)
        gain[i] = kept


def _greedy(s, floor, best, free, gain, order, gains):  # type: ignore[no-untyped-def]
    """Choose all of ``order[1:]``; best (N,) similarity to ``order[0]``, gain (N,) given it, free (N,)."""
    n = len(best)
    lowest = -np.inf
    large = np.finfo(s.dtype).max
    for step in range(n - 1):
        chosen = -1
        most = lowest
        for k in range(n):
            value = gain[k] - best[k]
            if free[k] and (chosen < 0 or value > most):
                most = value
                chosen = k
        gains[step] = most
        order[step + 1] = chosen
        free[chosen] = False
        kept = gain[chosen]
        _exchange(s[chosen], best[chosen], large, gain)  # it no longer follows anybody
        gain[chosen] = kept
        for i in range(n):
            new = max(s[i, chosen], floor)
            if free[i] and new > best[i]:
                kept = gain[i]
                _exchange(s[i], best[i], new, gain)
                gain[i] = kept
                best[i] = new


@functools.lru_cache(maxsize=2)
def loops(dtype: str) -> tuple[Callable[..., None], Callable[..., None]]:
    """(improvement, greedy) for "float32" or "float64"."""
    t = numba.types
    f, double, whole = getattr(t, dtype), t.float64[::1], t.int64[::1]
    fixed, vector = t.Array(f, 2, "C", readonly=True), t.Array(f, 1, "C")
    return (
        compiled(_improvement, t.void(fixed, whole, vector, double)),
        compiled(_greedy, t.void(fixed, f, vector, t.boolean[::1], double, whole, double)),
    )


def greedy_exemplars(
    similarity: ArrayLike, floor: float | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Choose exemplars one by one, each time the one that adds most to the net similarity.

    Time about N^2 log N: only rows whose nearest exemplar changed are looked at again.

    Returns:
        order: (N,) int64, the points in the order chosen.
        gains: (N-1,) float64, what the 2nd, 3rd, ... Nth adds, without its own preference: the Kth pays
            from the preference ``-gains[K-2]`` on. Falling but for single steps.
    """
    s = check_similarity(similarity)
    n, number = len(s), s.dtype.type
    low = number(-math.inf if floor is None else floor)
    improvement, greedy = loops(str(s.dtype))
    total = np.zeros(n)
    for rows in row_blocks(n, n, s.itemsize):
        block = np.maximum(s[rows], low)
        block[np.arange(rows.stop - rows.start), np.arange(rows.start, rows.stop)] = 0
        total += block.sum(axis=0, dtype=np.float64)
    order, gains, gain = np.empty(n, np.int64), np.empty(n - 1), np.zeros(n)
    order[0] = chosen = int(np.argmax(total))
    best = np.maximum(s[:, chosen], low)
    free = np.ones(n, np.bool_)
    free[chosen] = False
    best[chosen] = 0  # not read: an exemplar follows nobody
    improvement(s, np.flatnonzero(free), best, gain)
    greedy(s, low, best, free, gain, order, gains)
    return order, gains
