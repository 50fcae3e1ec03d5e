"""What every affinity propagation here takes and gives: checked input, and result.

The equations are those of B. Frey and D. Dueck, "Clustering by passing messages between data points",
Science 315 (2007).
"""

from __future__ import annotations

import math
import numbers
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
    scale[scale == 0] = 1  # all is 0 but what is forbidden: nothing smaller is there to measure by
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
