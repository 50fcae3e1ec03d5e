"""The checks and the last step of affinity propagation for a similarity that stays where it is, on a device.

Each function does what its namesake in :mod:`kernels.affinity.contract` or :mod:`kernels.affinity.watch`
does, over arrays of any library with NumPy's interface: what has N^2 elements is worked on in blocks by that
library, what has N comes to the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.affinity.contract import AffinityResult, Messages, Problem, Scan, check_settings
from kernels.affinity.finish import cover, unconverged

Array = Any  # numpy.ndarray or cupy.ndarray
Ints = NDArray[np.int64]

_BLOCK_BYTES = 128 << 20


class _Like(NamedTuple):
    """Stands for a matrix whose values are not needed."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Matrix:
    """A checked similarity (N, N), C-ordered, and the messages' dtype: float32 for one held in float16.

    Args:
        xp: the module whose array it is (numpy, cupy).
        to_host: waits for a device array and copies it to NumPy.

    Raises:
        ValueError: not square, empty, or holding NaN or +inf outside the diagonal.
        TypeError: not real numbers.
    """

    def __init__(self, similarity: ArrayLike | Array, xp: Any, to_host: Callable[[Array], Any]) -> None:
        on_gpu = hasattr(similarity, "__cuda_array_interface__")
        array: Any = xp.asarray(similarity) if on_gpu else np.asarray(similarity)
        kind: np.dtype[Any] = array.dtype
        if kind.kind not in "fiub":
            raise TypeError(f"similarity: expected float16, float32 or float64, got {kind}")
        if array.ndim != 2 or array.shape[0] != array.shape[1]:
            raise ValueError(f"similarity: expected a square matrix (N, N), got shape {array.shape}")
        if array.shape[0] == 0:
            raise ValueError("similarity: expected at least one point, got an empty matrix")
        kind = kind.newbyteorder("=")
        if kind not in (np.float16, np.float32, np.float64):
            kind = np.dtype(np.float64)
        if isinstance(array, np.ndarray):
            array = array.astype(kind, copy=False)
        self.xp, self.to_host = xp, to_host
        self.s = xp.ascontiguousarray(xp.asarray(array, dtype=kind))
        self.n = len(self.s)
        self.dtype = np.dtype(np.float32 if kind == np.float16 else kind)
        self.scan = self._scan()

    def blocks(self, rows: int, columns: int) -> list[slice]:
        """Slices over so many rows that keep a (rows, columns) temporary at about 128 MiB."""
        height = max(1, _BLOCK_BYTES // max(1, columns * self.dtype.itemsize))
        return [slice(start, min(start + height, rows)) for start in range(0, rows, height)]

    def rows(self, rows: slice, diagonal: Any) -> Array:
        """A copy of some rows in the messages' dtype with its diagonal replaced."""
        block = self.s[rows].astype(self.dtype)  # a copy
        block[self.xp.arange(rows.stop - rows.start), self.xp.arange(rows.start, rows.stop)] = diagonal
        return block

    def _scan(self) -> Scan:
        """As :func:`kernels.affinity.contract.scan`, with one look back at the device for all blocks."""
        xp, n = self.xp, self.n
        if n == 1:
            return Scan(0.0, 0.0, 0.0)
        found = []
        blocks = self.blocks(n, n)
        for rows in blocks:
            block = self.rows(rows, -math.inf)
            forbidden = block == -math.inf
            row = [xp.where(forbidden, math.inf, block).min(), block.max()]
            row += [xp.where(forbidden, 0, block).sum(dtype=np.float64), forbidden.sum()]
            found.append(xp.stack([value.astype(np.float64) for value in row]))
        table = self.to_host(xp.stack(found))  # (blocks, 4)
        bad = np.flatnonzero(~(table[:, 1] < math.inf))
        if len(bad):
            rows = blocks[bad[0]]
            block = self.rows(rows, -math.inf)
            at = int(self.to_host(xp.argmax((~(block < math.inf)).ravel())))
            i, k = divmod(at + rows.start * n, n)
            raise ValueError(
                f"similarity[{i}, {k}]: expected a finite number, or -inf for a pair that must not be "
                f"linked, got {float(self.to_host(self.s[i, k]))}"
            )
        out = int(table[:, 3].sum())  # the diagonal among them
        return Scan(
            float(table[:, 0].min()), float(table[:, 1].max()),
            float(table[:, 2].sum()) / max(n * n - out, 1), out > n,
        )  # fmt: skip

    def settle(
        self,
        preference: ArrayLike | Array,
        damping: float,
        max_iter: int,
        convergence_iter: int,
        warm_start: Messages | None,
        seed: int,
    ) -> Solution:
        """Check what goes with the similarity; errors as :func:`kernels.affinity.contract.check_problem`."""
        if hasattr(preference, "dtype"):  # an array, wherever it is
            preference = self.to_host(preference)
        like: Any = _Like((self.n, self.n), self.dtype)
        problem = check_settings(
            like, preference, damping, max_iter, convergence_iter, warm_start, seed, scanned=self.scan
        )
        return Solution(self, problem)


class Solution:
    """What is asked about sets of exemplars, (K,) point numbers on the host. A judge for the watch."""

    def __init__(self, matrix: Matrix, problem: Problem) -> None:
        self.matrix = matrix
        self.problem = problem  # without a similarity
        self.xp = matrix.xp
        self.floor = matrix.dtype.type(problem.floor)
        self.preference: NDArray[Any] = problem.preference

    def trivial(self) -> Ints | None:
        """Exemplars of a problem that needs no messages (one point; all equal), or None."""
        if self.matrix.n == 1:
            return np.zeros(1, np.int64)
        if not self.problem.equal:
            return None
        own = self.preference[0] > max(float(self.matrix.scan.high), self.problem.floor)
        return np.arange(self.matrix.n) if own else np.zeros(1, np.int64)

    def _assigned(self, exemplars: Ints) -> tuple[Ints, NDArray[Any]]:
        """(N,) position of every point's most similar exemplar, and (N,) that similarity, -inf included."""
        xp, m = self.xp, self.matrix
        columns = xp.asarray(exemplars)
        labels, best = [], []
        for rows in m.blocks(m.n, len(exemplars)):
            block = xp.take(m.s[rows], columns, axis=1)
            nearest = xp.argmax(block, axis=1)
            labels.append(nearest)
            best.append(block[xp.arange(len(block)), nearest].astype(m.dtype))
        found: Ints = m.to_host(xp.concatenate(labels)).astype(np.int64)
        similar: NDArray[Any] = m.to_host(xp.concatenate(best))
        found[exemplars] = np.arange(len(exemplars))
        similar[exemplars] = self.preference[exemplars]
        return found, similar

    def plausible(self, exemplars: Ints) -> bool:
        """See :func:`kernels.affinity.watch.plausible`."""
        if len(exemplars) < 2:
            return True
        xp, m = self.xp, self.matrix
        alone = np.flatnonzero(np.bincount(self._assigned(exemplars)[0], minlength=len(exemplars)) == 1)
        columns = xp.asarray(exemplars)
        worse = 0
        for part in m.blocks(len(alone), m.n):
            some = alone[part]
            block = xp.take(m.s[xp.asarray(exemplars[some])], columns, axis=1)
            block[xp.arange(len(some)), xp.asarray(some)] = -math.inf
            nearest = m.to_host(block.max(axis=1)).astype(m.dtype)
            worse += int((nearest > self.problem.perturbed[exemplars[some]]).sum())
        return 2 * worse <= len(exemplars)

    def premature(self, exemplars: Ints) -> bool:
        """See :func:`kernels.affinity.watch.premature`."""
        xp, m = self.xp, self.matrix
        if len(exemplars) == m.n:
            return False
        best = np.maximum(self._assigned(exemplars)[1], self.floor)
        size = float(np.abs(best).sum(dtype=np.float64))
        free = np.ones(m.n, bool)
        free[exemplars] = False
        on_device, follows = xp.asarray(best), xp.asarray(free)
        gain = xp.asarray(self.preference.astype(np.float64) - best)
        for rows in m.blocks(m.n, m.n):
            block = m.rows(rows, -math.inf) - on_device[rows, None]
            xp.maximum(block, 0, out=block)
            block *= follows[rows, None]  # exemplars follow nobody
            gain += block.sum(axis=0, dtype=np.float64)
        most = float(m.to_host(gain)[free].max())
        return most > 0.1 * size

    def _column_sums(self, labels: Ints | None) -> NDArray[np.float64]:
        """(N,) sum of the similarities to each point from those of its cluster; None: from all.

        -inf where one of them is forbidden to have it as its exemplar.
        """
        xp, m = self.xp, self.matrix
        total = xp.zeros(m.n, np.float64)
        of = None if labels is None else xp.asarray(labels)
        for rows in m.blocks(m.n, m.n):
            block = m.rows(rows, 0)
            if of is not None:
                block = xp.where(of[rows, None] == of[None, :], block, 0)
            total += block.sum(axis=0, dtype=np.float64)
        sums: NDArray[np.float64] = m.to_host(total) + self.preference
        return sums

    def similar(self, rows: Ints, columns: Ints) -> NDArray[Any]:
        xp, m = self.xp, self.matrix
        block = xp.take(xp.take(m.s, xp.asarray(rows), axis=0), xp.asarray(columns), axis=1)
        found: NDArray[Any] = m.to_host(block.astype(m.dtype))
        return found

    def _covered(self, exemplars: Ints) -> Ints:
        """The exemplars (none is allowed) and those needed for points to which all of them are forbidden."""
        m = self.matrix
        if not m.scan.forbidden:
            return exemplars if len(exemplars) else np.array([np.argmax(self._column_sums(None))])
        left = np.arange(m.n)
        if len(exemplars):
            left = np.flatnonzero(self._assigned(exemplars)[1] == -math.inf)
        more = cover(left, self.preference, self.similar)
        return np.concatenate((exemplars, more)).astype(np.int64)

    def finish(
        self,
        exemplars: Ints,
        messages: Messages | None,
        *,
        n_iter: int,
        converged: bool,
        damping: float,
        asked_damping: float,
    ) -> AffinityResult:
        """See :func:`kernels.affinity.finish.finish`; exemplars and labels are on the host."""
        empty = len(exemplars) == 0
        exemplars = self._covered(exemplars)
        if (2 if empty else 1) <= len(exemplars) < self.matrix.n:
            labels, _ = self._assigned(exemplars)
            sums = self._column_sums(labels)
            # the first of the largest in each cluster
            order = np.lexsort((np.arange(len(sums)), -sums, labels))
            exemplars = order[np.searchsorted(labels[order], np.arange(len(exemplars)))]
        exemplars = np.sort(exemplars).astype(np.int64)
        labels, best = self._assigned(exemplars)
        warning = "" if converged else unconverged(n_iter, empty, damping, asked_damping)
        net = float(best.sum(dtype=np.float64))
        return AffinityResult(exemplars, labels, n_iter, converged, net, damping, messages, warning)
