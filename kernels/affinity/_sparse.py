"""The compiled inner loops of ``sparse.py``; importing this imports numba (half a second), so do it late."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from kernels.compiled import compiled


def _pass_rows(  # type: ignore[no-untyped-def]
    index, s, a, preference, weight, column, others, own_r, own_a, scale, shift, where, extra, used,
    keep, damping, start, stop, x, total,
):  # fmt: skip
    """Rows ``start:stop`` of one iteration over neighbour lists: availabilities, then responsibilities.

    index, s, a (N, M); weight (N,) multiplies the similarities of a row; preference, column, others,
    own_r, own_a (N,) as in ``_fused``. The responsibilities are not stored: scale (before, after), shift (N,)
    float64, and a list (N, L) of places and what is theirs on top, as ``sparse.py`` explains. x (M,)
    zeros, left so; total (N,) float64 receives these rows' positive responsibilities.
    """
    zero = np.float32(0)
    fresh_a = np.float32(1) - keep
    fresh_r = np.float32(1) - damping
    width = index.shape[1]
    for k in range(total.shape[0]):
        total[k] = 0.0
    for i in range(start, stop):
        ni, si, ai = index[i], s[i], a[i]
        count = used[i]
        for e in range(count):
            x[where[i, e]] = extra[i, e]
        c = scale[0] * weight[i]
        base = np.float32(shift[i])
        mine = keep * own_a[i] + fresh_a * others[i]
        own_a[i] = mine
        first = mine + preference[i]
        second = np.float32(-np.inf)
        at = -1
        for m in range(width):
            r = c * si[m] - base + x[m]
            v = keep * ai[m] + fresh_a * min(column[ni[m]] - max(r, zero), zero)
            ai[m] = v
            w = v + weight[i] * si[m]
            if w > first:
                second = first
                first = w
                at = m
            elif w > second:
                second = w
        shift[i] = damping * shift[i] + fresh_r * first
        base = np.float32(shift[i])
        kept = 0
        lead = fresh_r * (first - second)  # the largest is measured against the second largest
        for e in range(count):
            m = where[i, e]
            v = damping * extra[i, e]
            if m == at:
                v += lead
                lead = zero
            x[m] = v
            if v > np.float32(3e-8) * abs(base):  # what no longer shows in float32 is forgotten
                where[i, kept] = m
                extra[i, kept] = v
                kept += 1
            else:
                x[m] = zero
        if at >= 0 and lead > zero:
            where[i, kept] = at
            extra[i, kept] = lead
            x[at] = lead
            kept += 1
        used[i] = kept
        c = scale[1] * weight[i]
        for m in range(width):
            r = c * si[m] - base + x[m]
            if r > zero:
                total[ni[m]] += r
        for e in range(kept):
            x[where[i, e]] = zero
        own_r[i] = damping * own_r[i] + fresh_r * (preference[i] - (second if at < 0 else first))


def _gain_rows(index, s, weight, old, new, rows, gain):  # type: ignore[no-untyped-def]
    """Add to gain (N,) what each neighbour would improve ``rows`` by, over ``new`` less over ``old`` (N,)."""
    for j in range(rows.shape[0]):
        i = rows[j]
        w_i = weight[i]
        for m in range(index.shape[1]):
            v = w_i * s[i, m]
            gain[index[i, m]] += max(v - new[i], 0.0) - max(v - old[i], 0.0)


def _gain_block(block, weight, old, new, rows, gain, start, stop):  # type: ignore[no-untyped-def]
    """The same from whole rows of -d^2: block (len(rows), N), for the columns ``start:stop``."""
    for j in range(rows.shape[0]):
        i = rows[j]
        w_i, was, now = weight[i], old[i], new[i]
        for k in range(start, stop):
            v = w_i * block[j, k]
            gain[k] += max(v - now, 0.0) - max(v - was, 0.0)
        if start <= i < stop:  # a point's own place is its preference's business
            v = w_i * block[j, i]
            gain[i] -= max(v - now, 0.0) - max(v - was, 0.0)


@functools.cache
def kernels() -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """The three loops. Compiling takes seconds once per machine."""
    t = numba.types
    f, n = t.float32, t.int64
    near, fixed = t.Array(t.int32, 2, "C"), t.Array(f, 2, "C")
    vector, sums, rows = t.Array(f, 1, "C"), t.Array(t.float64, 1, "C"), t.Array(t.int64, 1, "C")
    counts, scale = t.Array(t.int32, 1, "C"), t.UniTuple(f, 2)
    one = t.void(
        near, fixed, fixed, vector, vector, vector, vector, vector, vector, scale, sums, near, fixed, counts,
        f, f, n, n, vector, sums,
    )  # fmt: skip
    return (
        compiled(_pass_rows, one),
        compiled(_gain_rows, t.void(near, fixed, vector, sums, sums, rows, sums)),
        compiled(_gain_block, t.void(fixed, vector, sums, sums, rows, sums, n, n)),
    )
