"""Affinity propagation among nearest neighbours: for more points than a matrix of all pairs has room for.

A point's exemplar is one of the points near it. Messages between points that are far from each other only
ever say no, so they are left out: every point may choose among its M nearest others and itself. The
equations, the damping and the last step are those of :mod:`kernels.affinity.cpu`; the exemplars are the same
as those of all pairs once M is some eight times an average cluster (see :func:`neighbours_for`), because then
every point lists the exemplar it would choose, and those it would choose next.

Responsibilities are not stored. Damped from zero they are sums of s(i,k) - max, and the max is the row's
largest for all k but the largest itself: r(i,k) = c s(i,k) - shift_i, plus something at the few places that
were the row's largest lately. So the memory is 12 N M bytes (index, similarity, availability), and an
iteration reads as much and writes 4 N M.
"""

from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.affinity.contract import PERTURBATION, AffinityResult
from kernels.affinity.finish import unconverged
from kernels.affinity.watch import Watch
from kernels.compiled import thread_count
from kernels.neighbours import Neighbours
from kernels.similarity import negative_squared_distances

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_PARTS = 16  # rows are cut into so many parts whatever the number of threads, so that sums do not change
_ROWS = 4096  # points compared with exemplars at once
ENOUGH = 8  # neighbours per point of an average cluster


def neighbours_for(points: int, clusters: float, per_cluster: float = ENOUGH) -> int:
    """How many neighbours N points need to fall into about so many clusters: eight average clusters' worth.

    Clusters are of very unlike sizes, and a point must list its exemplar and those it could have instead.
    Measured on crops of two films (3,000 to 8,000 of them, 46 to 90 clusters, coming from above as
    :func:`kernels.affinity.search.settle` does): the same clusters with 20, 10, 9, 8 and 6.5, in one case of
    three others with 5. From nothing, ten are needed.
    """
    return min(points - 1, max(32, math.ceil(per_cluster * points / clusters)))


class SparseProblem:
    """Points x (N, D) with weights (N,) and their neighbours: s(i,k) = -w_i ||x_i - x_k||^2, for listed k.

    Args:
        points: (N, D) float32. weights: (N,) positive; a point of weight w counts as w equal ones.
        neighbours: of the same points; see :func:`kernels.neighbours.nearest_neighbours`.
        threads: None takes all cores; the result does not depend on it.

    Raises:
        ValueError: shapes that do not belong together, weights that are not positive.
    """

    def __init__(
        self, points: Floats, weights: ArrayLike, neighbours: Neighbours, *, threads: int | None = None
    ) -> None:
        n = len(points)
        if neighbours.index.shape[0] != n or n < 2:
            raise ValueError(f"neighbours: expected those of {n} points, two at least, got {neighbours}")
        self.points = np.ascontiguousarray(points, np.float32)
        self.weights = np.ascontiguousarray(weights, np.float32)
        if self.weights.shape != (n,) or not (np.isfinite(self.weights).all() and (self.weights > 0).all()):
            raise ValueError(f"weights: expected {n} positive numbers, got shape {self.weights.shape}")
        self.neighbours = neighbours
        self.threads = thread_count(threads)
        self.typical = float(-neighbours.similarity.mean(dtype=np.float64) * self.weights.mean())

    def __len__(self) -> int:
        return len(self.points)

    def similarities(self, exemplars: Ints, rows: slice | Ints = slice(None)) -> Floats:
        """(R, K) similarity of the points of ``rows`` to ``exemplars``."""
        s: Floats = negative_squared_distances(self.points[rows], self.points[exemplars]).astype(np.float32)
        return np.multiply(s, self.weights[rows, None], out=s)

    def assign(self, exemplars: Ints) -> tuple[Ints, Floats]:
        """(N,) position of every point's most similar exemplar, and that similarity; an exemplar's own, 0."""
        n = len(self)
        labels, best = np.empty(n, np.int64), np.empty(n, np.float32)
        for start in range(0, n, _ROWS):
            part = slice(start, start + _ROWS)
            block = self.similarities(exemplars, part)
            labels[part] = block.argmax(axis=1)
            best[part] = np.take_along_axis(block, labels[part, None], axis=1)[:, 0]
        labels[exemplars], best[exemplars] = np.arange(len(exemplars)), 0
        return labels, best

    def medoids(self, labels: Ints, count: int) -> Ints:
        """The point of each cluster with the largest sum of similarities from the cluster's points.

        sum_i w_i ||x_i - y||^2 = sum_i w_i x_i.x_i + W y.y - 2 y.(sum_i w_i x_i): no pairs are needed.
        """
        x, w = self.points, self.weights.astype(np.float64)
        total = np.zeros((count, x.shape[1]))
        for start in range(0, len(x), _ROWS):
            part = slice(start, start + _ROWS)
            np.add.at(total, labels[part], w[part, None] * x[part])
        mass = np.bincount(labels, w, count)
        cost = mass[labels] * np.einsum("nd,nd->n", x, x, dtype=np.float64)
        for start in range(0, len(x), _ROWS):
            part = slice(start, start + _ROWS)
            cost[part] -= 2 * np.einsum("nd,nd->n", x[part], total[labels[part]])
        order = np.lexsort((np.arange(len(x)), cost, labels))
        return order[np.searchsorted(labels[order], np.arange(count))]

    def single(self) -> int:
        """The best only exemplar."""
        return int(self.medoids(np.zeros(len(self), np.int64), 1)[0])

    def finish(self, preference: float, watch: Watch, converged: bool, asked: float) -> AffinityResult:
        """Assign, pick each cluster's exemplar anew, assign again; an empty set becomes the best single."""
        found = np.flatnonzero(watch.exemplars)
        empty = not len(found)
        found = (
            np.array([self.single()]) if empty else np.sort(self.medoids(self.assign(found)[0], len(found)))
        )
        labels, best = self.assign(found)
        net = float(best.sum(dtype=np.float64)) + preference * len(found)
        warning = "" if converged else unconverged(watch.n_iter, empty, watch.damping, asked)
        return AffinityResult(found, labels, watch.n_iter, converged, net, watch.damping, None, warning)


class SparseSolver:
    """Affinity propagation over one problem, at one preference after the other; see
    :class:`kernels.affinity.cpu.Solver`. Use it in a ``with`` statement.

    Args:
        seed: of the perturbation that breaks ties.
    """

    def __init__(self, problem: SparseProblem, *, seed: int = 0) -> None:
        from kernels.affinity._sparse import kernels

        n, width = problem.neighbours.index.shape
        self.problem, self.seed = problem, seed
        self._kernel = kernels()[0]
        self._pool = ThreadPoolExecutor(problem.threads)
        bounds = np.linspace(0, n, min(n, _PARTS) + 1).astype(int).tolist()
        self._parts = list(itertools.pairwise(bounds))
        self._sums = np.empty((len(self._parts), n), np.float64)
        self._zeros = np.zeros((len(self._parts), width), np.float32)
        self._availability = np.zeros((n, width), np.float32)
        self._begin()

    def __enter__(self) -> SparseSolver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def _begin(self) -> None:
        """Forget all messages."""
        n = len(self.problem)
        self._availability.fill(0)
        self._own_a, self._own_r = np.zeros(n, np.float32), np.zeros(n, np.float32)
        self._others, self._column = np.zeros(n, np.float32), np.zeros(n, np.float32)
        self._shift = np.zeros(n, np.float64)
        self._where, self._extra = np.zeros((n, 8), np.int32), np.zeros((n, 8), np.float32)
        self._used = np.zeros(n, np.int32)
        self._scale = np.float32(0)
        self._keep = np.float32(1)  # the first pass takes the availabilities as they are

    def _iterate(self, damping: float, preference: Floats) -> NDArray[np.bool_]:
        """One iteration; the (N,) flags a(k,k) + r(k,k) > 0 after it."""
        if int(self._used.max()) == self._where.shape[1]:  # a pass adds at most one place to a row
            more = ((0, 0), (0, self._where.shape[1]))
            self._where, self._extra = np.pad(self._where, more), np.pad(self._extra, more)
        d, near = np.float32(damping), self.problem.neighbours
        scale = self._scale, d * self._scale + (np.float32(1) - d)

        def rows(part: int) -> None:
            self._kernel(
                near.index, near.similarity, self._availability, preference, self.problem.weights,
                self._column, self._others, self._own_r, self._own_a, scale, self._shift, self._where,
                self._extra, self._used, self._keep, d, *self._parts[part], self._zeros[part],
                self._sums[part],
            )  # fmt: skip

        list(self._pool.map(rows, range(len(self._parts))))
        self._scale, self._keep = scale[1], d
        others = self._sums.sum(axis=0)
        self._others = others.astype(np.float32)
        self._column = (others + self._own_r).astype(np.float32)
        own = d * self._own_a + (np.float32(1) - d) * self._others  # as the next pass will have it
        return own + self._own_r > 0

    def solve(
        self,
        preference: float,
        *,
        damping: float = 0.5,
        max_iter: int = 1000,
        convergence_iter: int = 15,
        go_on: bool = False,
    ) -> AffinityResult:
        """One run; parameters as :func:`kernels.affinity.affinity_propagation`.

        Args beyond it:
            go_on: start from the last run's messages, if there was one.
        """
        n = len(self.problem)
        if not go_on:
            self._begin()
        noise = np.random.default_rng(self.seed).uniform(-1.0, 1.0, n)
        size = max(abs(preference), self.problem.typical)
        perturbed = (preference + PERTURBATION["float32"] * size * noise).astype(np.float32)
        watch = Watch(n, damping, convergence_iter, _Judge(self.problem, perturbed, preference))
        converged = False
        while watch.n_iter < max_iter and not converged:
            if watch.restart:
                self._begin()
            converged = watch.update(self._iterate(watch.damping, perturbed))
        return self.problem.finish(preference, watch, converged, damping)


class _Judge:
    """What :class:`kernels.affinity.watch.Watch` asks, answered from the lists."""

    def __init__(self, problem: SparseProblem, perturbed: Floats, preference: float) -> None:
        self.problem, self.perturbed, self.preference = problem, perturbed, preference

    def plausible(self, exemplars: Ints) -> bool:
        """See :func:`kernels.affinity.watch.plausible`."""
        if len(exemplars) < 2:
            return True
        labels, _ = self.problem.assign(exemplars)
        alone = exemplars[np.bincount(labels, minlength=len(exemplars)) == 1]
        worse = 0
        for start in range(0, len(alone), _ROWS):
            some = alone[start : start + _ROWS]
            block = self.problem.similarities(exemplars, some)
            block[np.arange(len(some)), np.searchsorted(exemplars, some)] = -np.inf
            worse += int((block.max(axis=1) > self.perturbed[some]).sum())
        return 2 * worse <= len(exemplars)

    def premature(self, exemplars: Ints) -> bool:
        """See :func:`kernels.affinity.watch.premature`; what unlisted pairs would gain is left out."""
        from kernels.affinity._sparse import kernels

        n = len(self.problem)
        if len(exemplars) == n:
            return False
        _, best = self.problem.assign(exemplars)
        best[exemplars] = self.preference
        now = best.astype(np.float64)
        free = np.ones(n, bool)
        free[exemplars] = False
        gain = self.preference - now
        near = self.problem.neighbours
        nothing = np.full(n, np.inf)
        kernels()[1](
            near.index, near.similarity, self.problem.weights, nothing, now, np.flatnonzero(free), gain
        )
        return bool(gain[free].max() > 0.1 * float(np.abs(now).sum()))
