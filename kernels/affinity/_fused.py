"""The compiled inner loops of ``cpu.py``; importing this imports numba (half a second), so do it late.

Responsibilities are not stored. Off the diagonal the damped r(i,k) is, with d the damping,

    r(i,k) = c s(i,k) - shift(i) + x(i,k)
    c <- d c + (1 - d);  shift(i) <- d shift(i) + (1 - d) first(i);  x <- d x

where first and second are the two largest a(i,k) + s(i,k) of the row; where the largest is at k, x(i,k) gains
(1 - d)(first - second) more. So x has as many entries in a row as the place of the maximum had in the last
iterations, a few; they are kept as a list until they are below rounding. Responsibilities that a run is given
to start from add weight x r0(i,k) to x, with weight <- d weight, until that is below rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np

from kernels.compiled import compiled, inner

_LAST = 8  # lanes that are compared one by one in the end
_ROWS = 32  # rows whose positive parts are added in float32; longer sums go on in float64


def lanes(n: int) -> int:
    """How many running maxima a row of n is compared into: a power of two, all of them within the L1 cache.

    Fewer mean more stretches of a row, and each costs as much to enter as 20 numbers take.
    """
    return min(512, max(16, 1 << n.bit_length() - 1))


@inner
def _sweep(s, a, x, column, c, shift, floor, keep, first, second):  # type: ignore[no-untyped-def]
    """New availabilities of a stretch of a row, and each lane's two largest a + s so far."""
    zero = x.dtype.type(0)
    fresh = x.dtype.type(1) - keep
    for k in range(len(s)):
        sk = max(s[k], floor)
        v = keep * a[k] + fresh * min(column[k] - max(c * sk - shift + x[k], zero), zero)
        a[k] = v
        w = v + sk
        top = first[k]
        second[k] = max(second[k], min(top, w))
        first[k] = max(top, w)


@inner
def _fold(first, second, half):  # type: ignore[no-untyped-def]
    for j in range(half):
        p = first[j]
        q = first[half + j]
        second[j] = max(max(second[j], second[half + j]), min(p, q))
        first[j] = max(p, q)


@inner
def _tally(s, x, block, c, shift, floor):  # type: ignore[no-untyped-def]
    zero = x.dtype.type(0)
    for k in range(len(s)):
        block[k] += max(c * max(s[k], floor) - shift + x[k], zero)


@inner
def _scaled(r, x, weight):  # type: ignore[no-untyped-def]
    for k in range(len(x)):
        x[k] = weight * r[k]


@inner
def _drain(block, total):  # type: ignore[no-untyped-def]
    for k in range(len(block)):
        total[k] += block[k]
        block[k] = 0


@inner
def _where_largest(s, a, floor, i, value, guess):  # type: ignore[no-untyped-def]
    """The column other than i where a + s is ``value``, most likely ``guess``."""
    if guess != i and a[guess] + max(s[guess], floor) == value:
        return guess
    for k in range(len(s)):
        if k != i and a[k] + max(s[k], floor) == value:
            return k
    return i


def _pass_rows(  # type: ignore[no-untyped-def]
    s, a, r0, weights, scale, keep, damping, floor, preference, column, others, start, stop,
    shift, where, extra, used, own, x, block, maxima, total,
):  # fmt: skip
    """Rows ``start:stop`` of one iteration: new availabilities, then new responsibilities.

    s, a (N, N); r0 (N, N) with weights (before, after), 0 where there is none; scale (before, after), c;
    keep: damping of the availabilities (1 leaves them as they are); preference (N,) the diagonal of s;
    column (N,) = r(k,k) + sum of the positive responsibilities from others; others (N,) that sum alone.
    shift (N,) float64; where, extra (N, H) and used (N,): the entries of x, the last one found last; own
    (N,) = r(i,i). x, block (N,) and maxima (2, lanes) scratch; total (N,) float64 receives these rows'
    positive responsibilities.
    """
    n = s.shape[1]
    number = x.dtype.type
    zero = number(0)
    lowest = number(-np.inf)
    fresh_a = number(1) - keep
    fresh_r = number(1) - damping
    small = np.finfo(x.dtype).eps / 8
    least = np.finfo(x.dtype).tiny
    first = maxima[0]
    second = maxima[1]
    width = len(first)
    for k in range(n):
        total[k] = 0.0
        block[k] = zero
        x[k] = zero
    pending = 0
    for i in range(start, stop):
        si = s[i]
        ai = a[i]
        count = used[i]
        if weights[0] != zero:
            _scaled(r0[i], x, weights[0])
        for e in range(count):
            x[where[i, e]] += extra[i, e]
        a_own = keep * ai[i] + fresh_a * others[i]
        for j in range(width):
            first[j] = lowest
            second[j] = lowest
        before = number(shift[i])
        for side in range(2):  # the diagonal is not the similarity's: left out
            begin = 0 if side == 0 else i + 1
            end = i if side == 0 else n
            for b in range(begin, end, width):
                e = min(b + width, end)
                _sweep(
                    si[b:e], ai[b:e], x[b:e], column[b:e], scale[0], before, floor, keep, first, second
                )  # fmt: skip
        ai[i] = a_own
        half = width // 2
        while half >= _LAST:
            _fold(first, second, half)
            half //= 2
        top = lowest
        next_top = lowest
        for j in range(_LAST):
            next_top = max(max(next_top, second[j]), min(top, first[j]))
            top = max(top, first[j])
        mine = a_own + preference[i]
        largest = max(top, mine)
        runner_up = max(next_top, min(top, mine))  # equal to the largest where that is there twice

        after = damping * shift[i] + fresh_r * largest
        shift[i] = after
        if weights[0] != zero:
            _scaled(r0[i], x, weights[1])
        else:
            for e in range(count):
                x[where[i, e]] = zero
        found = i
        if top > mine and largest > runner_up:
            found = _where_largest(si, ai, floor, i, top, where[i, count - 1] if count else i)
        gain = fresh_r * (largest - runner_up)
        limit = max(small * abs(after), least)
        left = 0
        for e in range(count):
            k = where[i, e]
            v = damping * extra[i, e]
            if k == found:
                gain += v
            elif v > limit:
                where[i, left] = k
                extra[i, left] = v
                x[k] += v
                left += 1
        if found != i:
            where[i, left] = found
            extra[i, left] = gain
            x[found] += gain
            left += 1
        used[i] = left

        kept = block[i]
        _tally(si, x, block, scale[1], number(after), floor)
        block[i] = kept
        own[i] = damping * own[i] + fresh_r * (preference[i] - (runner_up if mine > top else largest))
        for e in range(left):
            x[where[i, e]] = zero
        pending += 1
        if pending == _ROWS or i == stop - 1:
            _drain(block, total)
            pending = 0


def _availability_rows(  # type: ignore[no-untyped-def]
    s, a, r0, weight, scale, keep, floor, column, others, start, stop, shift, where, extra, used, x, maxima
):  # fmt: skip
    """Rows ``start:stop`` of the availabilities alone, as the next pass would begin."""
    for i in range(start, stop):
        if weight != 0:
            _scaled(r0[i], x, weight)
        else:
            x[:] = 0
        for e in range(used[i]):
            x[where[i, e]] += extra[i, e]
        own = keep * a[i, i] + (x.dtype.type(1) - keep) * others[i]
        width = maxima.shape[1]
        for b in range(0, len(x), width):
            e = min(b + width, len(x))
            _sweep(
                s[i, b:e], a[i, b:e], x[b:e], column[b:e], scale, x.dtype.type(shift[i]), floor, keep,
                maxima[0], maxima[1],
            )  # fmt: skip
        a[i, i] = own


def _responsibility_rows(  # type: ignore[no-untyped-def]
    s, r, r0, weight, scale, floor, start, stop, shift, where, extra, used, own
):  # fmt: skip
    """Rows ``start:stop`` of the responsibilities written out; ``r`` may be ``r0``."""
    for i in range(start, stop):
        for k in range(s.shape[1]):
            v = scale * max(s[i, k], floor) - r.dtype.type(shift[i])
            r[i, k] = v + weight * r0[i, k] if weight != 0 else v
        for e in range(used[i]):
            r[i, where[i, e]] += extra[i, e]
        r[i, i] = own[i]


@dataclass(frozen=True)
class Kernels:
    """The loops compiled for one dtype."""

    pass_rows: Callable[..., None]
    availability_rows: Callable[..., None]
    responsibility_rows: Callable[..., None]


@functools.lru_cache(maxsize=2)
def kernels(dtype: str) -> Kernels:
    """The loops for "float32" or "float64". Compiling takes seconds once per machine."""
    t = numba.types
    f, n, void = getattr(t, dtype), t.int64, t.void
    fixed = t.Array(f, 2, "C", readonly=True)  # takes writable arrays as well
    matrix, vector, pair = t.Array(f, 2, "C"), t.Array(f, 1, "C"), t.UniTuple(f, 2)
    double, places, count = t.float64[::1], t.int32[:, ::1], t.int32[::1]
    lists = (double, places, matrix, count)  # shift, where, extra, used
    return Kernels(
        compiled(
            _pass_rows,
            void(
                fixed, matrix, fixed, pair, pair, f, f, f, vector, vector, vector, n, n,
                *lists, vector, vector, vector, matrix, double,
            ),
        ),
        compiled(
            _availability_rows,
            void(fixed, matrix, fixed, f, f, f, f, vector, vector, n, n, *lists, vector, matrix),
        ),
        compiled(_responsibility_rows, void(fixed, matrix, fixed, f, f, f, n, n, *lists, vector)),
    )  # fmt: skip
