"""What every affinity propagation here takes and gives: checked input, result, and last step.

The equations are those of B. Frey and D. Dueck, "Clustering by passing messages between data points",
Science 315 (2007). The last step is scikit-learn's and R apcluster's, so that results compare.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.floating[Any]]

# How far the seeded perturbation moves a preference at most, relative to its size: 64 rounding errors of
# float32; in float64 still less than anything measured is exact to, and enough to part ties in time.
PERTURBATION = {"float32": 64 * 2.0**-23, "float64": 1e-9}
_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class Messages:
    """Responsibilities and availabilities, each (N, N) in the similarity's dtype, for a warm start."""

    responsibility: FloatArray
    availability: FloatArray

    def __repr__(self) -> str:
        shape, dtype = self.responsibility.shape, self.responsibility.dtype
        return f"Messages(responsibility={dtype}{shape}, availability={dtype}{shape})"


@dataclass(frozen=True)
class AffinityResult:
    """What affinity propagation found. Always a valid clustering; ``converged`` says whether to believe it.

    Attributes:
        exemplars: (K,) int64, ascending point numbers, K >= 1.
        labels: (N,) int64 in 0..K-1, positions in ``exemplars``.
        n_iter: iterations done.
        converged: the exemplar set was not empty and held still for ``convergence_iter`` iterations.
        net_similarity: sum of every point's similarity to its exemplar, plus the exemplars' preferences.
        damping: the damping at the end; larger than what was asked for where oscillation was answered.
        messages: for a warm start; None where none were passed, or where they were let go.
        warning: what went wrong and what to do; empty where nothing did.
    """

    exemplars: NDArray[np.int64]
    labels: NDArray[np.int64]
    n_iter: int
    converged: bool
    net_similarity: float
    damping: float
    messages: Messages | None
    warning: str = ""

    def __repr__(self) -> str:
        return (
            f"AffinityResult({len(self.exemplars)} exemplars of {len(self.labels)} points, "
            f"n_iter={self.n_iter}, converged={self.converged}, net_similarity={self.net_similarity:.6g})"
        )


@dataclass(frozen=True)
class Problem:
    """Input after the checks: ``similarity`` (N, N) C-ordered and unchanged (its diagonal is never read).

    ``floor`` is a finite value that stands in for -inf (cannot-link); ``preference`` (N,) is what the
    caller gave, ``perturbed`` the same with ties broken. ``equal``: all similarities are one value, or every
    pair is forbidden.
    """

    similarity: FloatArray
    preference: FloatArray
    perturbed: FloatArray
    floor: float
    equal: bool


def row_blocks(n: int, columns: int, itemsize: int) -> list[slice]:
    """Slices over n rows that keep a (rows, columns) temporary at about 8 MiB."""
    rows = max(1, _BLOCK_BYTES // max(1, columns * itemsize))
    return [slice(start, min(start + rows, n)) for start in range(0, n, rows)]


def place_of(similarity: ArrayLike, device: str | None, supported: tuple[str, ...]) -> str:
    """Where to compute: the device asked for, or the one that the similarity is on.

    Raises:
        ValueError: an unknown device. TypeError: a similarity on a GPU and another device.
    """
    on_gpu = hasattr(similarity, "__cuda_array_interface__")
    if device is None:
        return "cuda" if on_gpu else "cpu"
    if device not in supported:
        known = ", ".join(repr(name) for name in supported)
        raise ValueError(f"device {device!r}: unknown. Supported devices are {known}")
    if on_gpu and device != "cuda":
        raise TypeError(
            f"similarity: an array on a GPU is worked on by device 'cuda', got device {device!r}; "
            "for that, copy it to the host (cupy.asnumpy)"
        )
    return device


def check_similarity(similarity: ArrayLike) -> FloatArray:
    """The similarity as a C-ordered float32 or float64 (N, N) array, a copy only where it must be.

    Raises:
        ValueError: not square, empty, or holding NaN or +inf outside the diagonal.
        TypeError: not real numbers.
    """
    array = np.asarray(similarity)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"similarity: expected float32 or float64, got {array.dtype}")
    if array.dtype.newbyteorder("=") not in (np.float32, np.float64):
        array = array.astype(np.float64)
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise ValueError(f"similarity: expected a square matrix (N, N), got shape {array.shape}")
    if array.shape[0] == 0:
        raise ValueError("similarity: expected at least one point, got an empty matrix")
    # what the compiled loops take
    array = np.require(array, dtype=array.dtype.newbyteorder("="), requirements=["C", "A"])
    return array


def off_diagonal(similarity: FloatArray) -> FloatArray:
    """All values off the diagonal of a C-ordered (N, N) array as an (N-1, N) view, in row order."""
    n = similarity.shape[0]
    return similarity.reshape(-1)[:-1].reshape(n - 1, n + 1)[:, 1:]


class Scan(NamedTuple):
    """What is off the diagonal of a similarity: its smallest finite value, largest, mean of the finite.

    ``forbidden``: some pair is (-inf). Where all are, ``low`` is +inf and ``high`` is -inf.
    """

    low: float
    high: float
    mean: float
    forbidden: bool = False


def scan(similarity: FloatArray) -> Scan:
    """Look at every value off the diagonal of a checked similarity once.

    Raises:
        ValueError: NaN or +inf.
    """
    if len(similarity) == 1:
        return Scan(0.0, 0.0, 0.0)
    values = off_diagonal(similarity)
    low, high, total, count, forbidden = math.inf, -math.inf, 0.0, 0, False
    for rows in row_blocks(len(values), values.shape[1], similarity.itemsize):
        block = values[rows]
        bottom, top = float(block.min()), float(block.max())  # NaN wins both
        if not top < math.inf:
            row, column = np.argwhere(~(block < np.inf))[0]
            flat = (rows.start + int(row)) * (values.shape[1] + 1) + int(column) + 1
            i, k = divmod(flat, similarity.shape[0])
            raise ValueError(
                f"similarity[{i}, {k}]: expected a finite number, or -inf for a pair that must not be "
                f"linked, got {similarity[i, k]}"
            )
        finite: Any = True
        if bottom == -math.inf:
            finite, forbidden = block > -np.inf, True
            bottom = float(np.min(block, where=finite, initial=np.inf))
        low, high = min(low, bottom), max(high, top)
        total += float(np.sum(block, where=finite, dtype=np.float64))
        count += block.size if finite is True else int(finite.sum())
    return Scan(low, high, total / max(count, 1), forbidden)


def check_problem(
    similarity: ArrayLike,
    preference: ArrayLike,
    damping: float,
    max_iter: int,
    convergence_iter: int,
    warm_start: Messages | None,
    seed: int,
    *,
    scanned: Scan | None = None,
) -> Problem:
    """Check everything ``affinity_propagation`` takes. Errors name the value (ValueError, TypeError).

    ``scanned``, :func:`scan` of the same similarity, saves a look at every value.
    """
    s = check_similarity(similarity)
    return check_settings(
        s, preference, damping, max_iter, convergence_iter, warm_start, seed, scanned=scanned or scan(s)
    )


def check_settings(
    s: FloatArray,
    preference: ArrayLike,
    damping: float,
    max_iter: int,
    convergence_iter: int,
    warm_start: Messages | None,
    seed: int,
    *,
    scanned: Scan,
) -> Problem:
    """:func:`check_problem` of a checked, scanned similarity; only its shape and dtype are used."""
    n = s.shape[0]
    if not isinstance(damping, numbers.Real):
        raise TypeError(f"damping: expected a number, got {damping!r}")
    whole = {"max_iter": max_iter, "convergence_iter": convergence_iter, "seed": seed}
    for name, value in whole.items():
        if not isinstance(value, numbers.Integral):
            raise TypeError(f"{name}: expected a whole number, got {value!r}")
    if seed < 0:
        raise ValueError(f"seed: expected at least 0, got {seed}")
    if not 0.5 <= damping < 1:
        raise ValueError(f"damping: expected 0.5 <= damping < 1, got {damping}")
    if max_iter < 1:
        raise ValueError(f"max_iter: expected at least 1, got {max_iter}")
    if convergence_iter < 1:
        raise ValueError(f"convergence_iter: expected at least 1, got {convergence_iter}")
    p = _preference(preference, s.dtype)
    if p.ndim > 1 or (p.ndim == 1 and p.shape[0] != n):
        raise ValueError(f"preference: expected one number or {n} of them, got shape {p.shape}")
    if warm_start is not None:
        _check_messages(warm_start, s)
    p = np.ascontiguousarray(np.broadcast_to(p, (n,)))
    low, high, mean, forbidden = scanned
    if not np.isfinite(low):  # every pair is forbidden
        low = high = float(p.min())
        forbidden = False
    # Far enough below everything that a forbidden pair never wins, near enough that nothing overflows.
    bottom = min(low, float(p.min()))
    top = max(high, float(p.max()))
    floor = bottom - 4.0 * (top - bottom) - abs(bottom)
    if 4.0 * n * max(abs(floor), abs(top)) > float(np.finfo(s.dtype).max):
        raise ValueError(
            f"similarity: values from {low:g} to {high:g} overflow {s.dtype} when {n} are added; scale them"
        )
    # Preferences that differ a little tell every two exemplar sets apart, which is what ties are about;
    # the similarities stay as they are, so no second matrix is needed.
    scale = np.maximum(np.abs(p), abs(mean)).astype(np.float64)
    noise = np.random.default_rng(seed).uniform(-1.0, 1.0, n)
    perturbed = (p + PERTURBATION[str(s.dtype)] * scale * noise).astype(s.dtype)
    equal = low == high and not forbidden and bool((p == p[0]).all())
    return Problem(s, p, perturbed, floor, equal)


def _preference(preference: ArrayLike, dtype: np.dtype[Any]) -> FloatArray:
    try:
        given = np.asarray(preference)
    except ValueError:  # rows of unlike lengths
        given = np.empty(0, object)
    if given.dtype.kind not in "fiub":
        raise TypeError(f"preference: expected one number or one for each point, got {preference!r}")
    if not np.isfinite(given).all():
        raise ValueError(f"preference: expected finite numbers, got {given[~np.isfinite(given)].flat[0]}")
    with np.errstate(over="ignore"):
        p: FloatArray = given.astype(dtype)
    if not np.isfinite(p).all():
        raise ValueError(
            f"preference: {given[~np.isfinite(p)].flat[0]} overflows {dtype}, the type of the similarity; "
            "scale both, or give the similarity in float64"
        )
    return p


def _check_messages(warm_start: Messages, s: FloatArray) -> None:
    if not isinstance(warm_start, Messages):
        raise TypeError(
            f"warm_start: expected Messages, such as result.messages, got {type(warm_start).__name__}"
        )
    for name in ("responsibility", "availability"):
        message = getattr(warm_start, name)
        kind, shape = getattr(message, "dtype", type(message).__name__), getattr(message, "shape", "")
        if shape != s.shape or kind != s.dtype:
            raise ValueError(f"warm_start.{name}: expected {s.dtype} {s.shape}, got {kind} {shape}".rstrip())
        # one pass: a NaN or an infinity stays in the sum
        with np.errstate(invalid="ignore", over="ignore"):
            total = float(message.sum(dtype=np.float64))
        if not math.isfinite(total):
            raise ValueError(
                f"warm_start.{name}: expected finite numbers, got NaN, an infinity or an overflow"
            )


def trivial(problem: Problem) -> NDArray[np.int64] | None:
    """Exemplars of a problem that needs no messages (one point; all equal), or None.

    With all similarities and preferences equal every exemplar set of a size is as good as another, and
    the best size is either 1 or N; scikit-learn decides it the same way.
    """
    n = problem.similarity.shape[0]
    if n == 1:
        return np.zeros(1, np.int64)
    if not problem.equal:
        return None
    own = problem.preference[0] > max(problem.similarity[0, 1], problem.floor)
    return np.arange(n) if own else np.zeros(1, np.int64)


def assign(problem: Problem, exemplars: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) position in ``exemplars`` of every point's most similar one; an exemplar is its own."""
    s = problem.similarity
    n = s.shape[0]
    labels = np.empty(n, np.int64)
    for rows in row_blocks(n, len(exemplars), s.itemsize):
        labels[rows] = np.argmax(s[rows][:, exemplars], axis=1)
    labels[exemplars] = np.arange(len(exemplars))
    return labels


def cover(
    left: NDArray[np.int64],
    preference: FloatArray,
    similar: Callable[[NDArray[np.int64], NDArray[np.int64]], FloatArray],
) -> NDArray[np.int64]:
    """Exemplars among the points ``left`` (M,), so that each is one or may have one of them as its own.

    One by one the point that most of those still left may have as their exemplar; of equals, that with the
    largest sum of their similarities and its preference. Without forbidden pairs: the best single exemplar.
    Time M^2.

    Args:
        preference: (N,).
        similar: (R,) and (C,) point numbers to a new (R, C) array of similarities.
    """
    m = len(left)
    allowed, total = np.zeros(m, np.int64), preference[left].astype(np.float64)

    def add(rows: NDArray[np.int64], sign: int) -> None:
        for part in row_blocks(len(rows), m, 8):
            block = similar(left[rows[part]], left)
            block[np.arange(len(block)), rows[part]] = -np.inf
            may = block > -np.inf
            np.add(allowed, sign * may.sum(axis=0), out=allowed)
            np.add(total, sign * np.sum(block, axis=0, where=may, dtype=np.float64), out=total)

    chosen: list[int] = []
    rest = np.arange(m)
    if m:
        add(rest, 1)
    while len(rest):
        most = rest[allowed[rest] == allowed[rest].max()]
        best = int(most[np.argmax(total[most])])
        chosen.append(best)
        follows = similar(left[rest], left[[best]])[:, 0] > -np.inf
        follows[rest == best] = True
        gone, rest = rest[follows], rest[~follows]
        if len(rest):
            add(gone, -1)
    return left[chosen]


def _covered(problem: Problem, exemplars: NDArray[np.int64]) -> NDArray[np.int64]:
    """The exemplars (none is allowed) and those needed for the points to which all of them are forbidden."""
    s = problem.similarity
    left = np.arange(s.shape[0])
    if len(exemplars):
        lost = s[left, exemplars[assign(problem, exemplars)]] == -np.inf
        lost[exemplars] = False
        left = np.flatnonzero(lost)
    more = cover(left, problem.preference, lambda rows, columns: s[np.ix_(rows, columns)])
    return np.concatenate((exemplars, more)).astype(np.int64)


def _repick(problem: Problem, labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """In every cluster, the point with the largest sum of similarities from the cluster's points.

    A forbidden pair makes that -inf, and each cluster has its exemplar, to which none of it is forbidden.
    """
    s, p = problem.similarity, problem.preference
    chosen = np.empty(count, np.int64)
    order = np.argsort(labels, kind="stable")
    for k, members in enumerate(np.split(order, np.cumsum(np.bincount(labels, minlength=count))[:-1])):
        total = np.zeros(len(members), np.float64)
        for part in row_blocks(len(members), len(members), s.itemsize):
            block = s[np.ix_(members[part], members)]
            inside = np.arange(part.stop - part.start)
            block[inside, inside + part.start] = p[members[part]]
            total += block.sum(axis=0, dtype=np.float64)
        chosen[k] = members[np.argmax(total)]
    return chosen


def finish(
    problem: Problem,
    exemplars: NDArray[np.int64],
    messages: Messages | None,
    *,
    n_iter: int,
    converged: bool,
    damping: float,
    asked_damping: float,
) -> AffinityResult:
    """The last step: assign, pick each cluster's exemplar anew, assign again, number them.

    No point is left on an exemplar that is forbidden to it (-inf): of points to which every exemplar is
    forbidden some become exemplars too (:func:`cover`), and an exemplar picked anew is forbidden to none of
    its cluster. An empty set is answered with the best single exemplar, or as few as that rule allows.
    """
    s, p = problem.similarity, problem.preference
    empty = len(exemplars) == 0
    exemplars = _covered(problem, exemplars)
    if (2 if empty else 1) <= len(exemplars) < s.shape[0]:  # the best single one is the best
        exemplars = _repick(problem, assign(problem, exemplars), len(exemplars))
    exemplars = np.sort(exemplars)
    labels = assign(problem, exemplars)
    to = exemplars[labels]
    points = np.arange(s.shape[0])
    others = to != points
    net = float(s[points[others], to[others]].sum(dtype=np.float64))
    net += float(p[exemplars].sum(dtype=np.float64))
    warning = "" if converged else unconverged(n_iter, empty, damping, asked_damping)
    return AffinityResult(exemplars, labels, n_iter, converged, net, damping, messages, warning)


def unconverged(n_iter: int, empty: bool, damping: float, asked_damping: float) -> str:
    """The warning of a run that did not converge."""
    state = "no point became an exemplar" if empty else "the exemplars did not hold still"
    raised = f", raised from {asked_damping:g} as it oscillated" if damping > asked_damping else ""
    return (
        f"affinity propagation did not converge in {n_iter} iterations ({state}; damping {damping:.3g}"
        f"{raised}): raise max_iter or damping, or move the preference a little"
    )
