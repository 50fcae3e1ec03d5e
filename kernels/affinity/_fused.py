"""The compiled inner loops of ``cpu.py``; importing this imports numba (half a second), so do it late."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

_log = logging.getLogger(__name__)
# NaN is refused at the door and the sign of zero does not matter: with these two the maxima vectorize.
_FASTMATH = {"nnan", "nsz", "contract"}


def _pass_rows(s, r, a, preference, column, others, floor, keep, damping, start, stop, m, block, total, own):  # type: ignore[no-untyped-def]
    """Rows ``start:stop`` of one iteration: new availabilities, then new responsibilities, in place.

    s, r, a (N, N); preference (N,) the diagonal of s; column (N,) = r(k,k) + sum of the positive
    responsibilities from others; others (N,) that sum alone; keep: damping of the availabilities (1 leaves
    them as they are); m, block (N,) scratch; total (N,) float64 receives these rows' positive
    responsibilities, own (N,) their r(k,k).
    """
    n = s.shape[1]
    zero = m.dtype.type(0)
    fresh_a = m.dtype.type(1) - keep
    fresh_r = m.dtype.type(1) - damping
    lowest = m.dtype.type(-np.inf)
    for k in range(n):
        total[k] = 0.0
        block[k] = zero
    pending = 0
    for i in range(start, stop):
        si = s[i]
        ri = r[i]
        ai = a[i]
        a_own = keep * ai[i] + fresh_a * others[i]
        r_own = ri[i]
        first = lowest
        for k in range(n):
            v = keep * ai[k] + fresh_a * min(column[k] - max(ri[k], zero), zero)
            ai[k] = v
            w = v + max(si[k], floor)
            m[k] = w
        ai[i] = a_own
        m[i] = a_own + preference[i]
        for k in range(n):
            first = max(first, m[k])
        # The largest of the others, without asking where the largest is: equal ones count as others.
        second = lowest
        count = 0
        for k in range(n):
            w = m[k]
            at_top = w == first
            count += at_top
            second = max(second, lowest if at_top else w)
        if count > 1:
            second = first
        kept = block[i]
        for k in range(n):
            v = damping * ri[k] + fresh_r * (max(si[k], floor) - (second if m[k] == first else first))
            ri[k] = v
            block[k] += max(v, zero)
        v = damping * r_own + fresh_r * (preference[i] - (second if m[i] == first else first))
        ri[i] = v
        own[i] = v
        block[i] = kept
        pending += 1
        # float32 sums stay exact enough over a few rows; longer sums go on in float64
        if pending == 32 or i == stop - 1:
            for k in range(n):
                total[k] += block[k]
                block[k] = zero
            pending = 0


def _availability_rows(r, a, column, others, damping, start, stop):  # type: ignore[no-untyped-def]
    """Rows ``start:stop`` of the availabilities alone, as the next pass would begin."""
    zero = column.dtype.type(0)
    fresh = column.dtype.type(1) - damping
    for i in range(start, stop):
        ri = r[i]
        ai = a[i]
        own = damping * ai[i] + fresh * others[i]
        for k in range(a.shape[1]):
            ai[k] = damping * ai[k] + fresh * min(column[k] - max(ri[k], zero), zero)
        ai[i] = own


def _compile(function: Callable[..., None], signature: Any) -> Callable[..., None]:
    """Compile now, kept on disk where that can be done and without a word where it cannot."""
    try:
        return numba.njit(signature, cache=True, nogil=True, fastmath=_FASTMATH)(function)
    except (RuntimeError, OSError) as error:  # no folder to write to, or a full one
        _log.debug("compiled code is not kept: %s", error)
        return numba.njit(signature, nogil=True, fastmath=_FASTMATH)(function)


@functools.lru_cache(maxsize=2)
def kernels(dtype: str) -> tuple[Callable[..., None], Callable[..., None]]:
    """The two loops for "float32" or "float64". Compiling takes seconds once per machine."""
    t = numba.types
    f = getattr(t, dtype)
    fixed = t.Array(f, 2, "C", readonly=True)  # takes writable arrays as well
    matrix, vector = t.Array(f, 2, "C"), t.Array(f, 1, "C")
    n = t.int64
    rows = t.void(
        fixed, matrix, matrix, vector, vector, vector, f, f, f, n, n, vector, vector, t.float64[::1], vector
    )
    return (
        _compile(_pass_rows, rows),
        _compile(_availability_rows, t.void(matrix, matrix, vector, vector, f, n, n)),
    )
