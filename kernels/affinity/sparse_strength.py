"""Strength without the matrix of all pairs: the map to the preference, and the runs.

See :mod:`kernels.affinity.strength` for what both are.

The greedy heuristic needs whole rows of similarities only for points that are still farther from every chosen
exemplar than from their own M-th neighbour; for the others the neighbours are all that can gain. So the first
few exemplars cost blocks of all pairs, and the later ones next to nothing. The answer is the dense map's.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.affinity.contract import AffinityResult, Messages
from kernels.affinity.runs import KEPT, Run
from kernels.affinity.sparse import Ints, SparseProblem, SparseSolver
from kernels.affinity.strength import StrengthMap
from kernels.similarity import negative_squared_distances

Doubles = NDArray[np.float64]

_BLOCK_BYTES = 8 << 20


class _Gains:
    """gain (N,): what every point would add to the net similarity as the next exemplar, kept up to date."""

    def __init__(self, problem: SparseProblem, pool: ThreadPoolExecutor) -> None:
        from kernels.affinity._sparse import kernels

        n = len(problem)
        self.problem, self.pool = problem, pool
        _, self._rows, self._block = kernels()
        self.gain = np.zeros(n)
        self.reach = problem.neighbours.similarity.min(axis=1) * problem.weights.astype(np.float64)
        cuts = np.linspace(0, n, problem.threads + 1).astype(int).tolist()
        self.columns = list(itertools.pairwise(cuts))

    def change(self, rows: Ints, old: Doubles, new: Doubles) -> None:
        """Points ``rows`` go from similarity ``old`` (N,) to ``new`` (N,); +inf is to take no part."""
        p = self.problem
        near = p.neighbours
        far = np.minimum(old[rows], new[rows]) < self.reach[rows]
        self._rows(near.index, near.similarity, p.weights, old, new, rows[~far], self.gain)
        rows = rows[far]
        step = max(1, _BLOCK_BYTES // (4 * len(p)))
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            block = negative_squared_distances(p.points[some], p.points)

            def part(columns: tuple[int, int], block: Any = block, some: Ints = some) -> None:
                self._block(block, p.weights, old, new, some, self.gain, *columns)

            list(self.pool.map(part, self.columns))


def sparse_strength_map(problem: SparseProblem, most: int) -> StrengthMap:
    """As :func:`kernels.affinity.strength.strength_map`, exact up to ``most`` clusters.

    Above them it is a line to what N clusters ask for.

    Args:
        most: raising it takes time.
    """
    n = len(problem)
    most = max(2, min(most, n))

    def to_all(k: int) -> Doubles:
        return problem.similarities(np.array([k]))[:, 0].astype(np.float64)

    first = problem.single()
    order, gains = [first], []
    best = to_all(first)
    single = float(best.sum())
    free = np.ones(n, bool)
    free[first] = False
    with ThreadPoolExecutor(problem.threads) as pool:
        kept = _Gains(problem, pool)
        kept.change(np.flatnonzero(free), np.full(n, np.inf), best)
        while len(order) < most:
            value = np.where(free, kept.gain - best, -np.inf)
            chosen = int(np.argmax(value))
            order.append(chosen)
            gains.append(float(value[chosen]))
            similar = to_all(chosen)
            free[chosen] = False
            moved = np.flatnonzero(free & (similar > best))
            closer = best.copy()
            closer[moved] = similar[moved]
            closer[chosen] = np.inf  # it no longer follows anybody
            kept.change(np.append(moved, chosen), best, closer)
            best = closer
    nearest = np.sort(problem.neighbours.similarity.max(axis=1) * problem.weights.astype(np.float64))
    p_max = float(nearest[-1])
    rest = np.flatnonzero(free)
    line = np.linspace(gains[-1], -p_max, len(rest) + 1)[1:]
    return StrengthMap.of(
        np.append(order, rest), np.append(gains, line), min(single - float(nearest[2:].sum()), p_max), p_max
    )


@contextlib.contextmanager
def sparse_runs(
    problem: SparseProblem, strengths: StrengthMap, convergence_iter: int = 15, *, seed: int = 0
) -> Iterator[Run]:
    """Runs over one problem for :func:`kernels.affinity.search.search` and ``settle``."""
    with SparseSolver(problem, seed=seed) as solver:

        def run(strength: float, damping: float, max_iter: int, warm: Messages | None) -> AffinityResult:
            p = strengths.preference(strength)
            if 0 < strength < 1:
                result = solver.solve(
                    p, damping=damping, max_iter=max_iter, convergence_iter=convergence_iter,
                    go_on=warm is not None,
                )  # fmt: skip
                return replace(result, messages=KEPT)
            exemplars = np.arange(len(problem)) if strength >= 1 else np.array([problem.single()])
            labels, best = problem.assign(exemplars)
            net = float(best.sum(dtype=np.float64)) + p * len(exemplars)
            return AffinityResult(exemplars, labels, 0, True, net, damping, None)

        yield run
