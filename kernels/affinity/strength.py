"""From a wished number of clusters to a preference: its range, and the strength in 0..1.

The map from strength to preference is read off the data. Affinity propagation maximizes the sum of every
point's similarity to its exemplar plus one preference per exemplar. Adding exemplars greedily to that sum
(the facility location heuristic) tells, for every K, the preference at which one more exemplar begins to
pay; so ``preferences[K-1]`` is the preference that asks for about K clusters. Strength t asks for about N^t
clusters: equal steps multiply the number of clusters by equal factors, from 1 (t=0) to N (t=1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.affinity.contract import (
    FloatArray,
    Scan,
    check_problem,
    check_similarity,
    place_of,
    row_blocks,
    scan,
)
from kernels.affinity.finish import cover


def preference_range(similarity: ArrayLike) -> tuple[float, float]:
    """(p_min, p_max) as R's ``apcluster::preferenceRange`` gives them (its quick bound, not the exact one).

    At p_max, the largest similarity, every point is its own exemplar. At p_min, the best one-exemplar net
    similarity minus the sum of all row maxima less its two smallest, one exemplar is at least as good as
    any two. -inf (forbidden pairs) is left out of sums.

    Args:
        similarity: (N, N); the diagonal is not read. N = 1 gives (0, 0).

    Raises:
        ValueError: not square, empty, NaN or +inf.
    """
    s = check_similarity(similarity)
    scan(s)
    return _range(s)


def _range(s: FloatArray) -> tuple[float, float]:
    n = len(s)
    if n == 1:
        return 0.0, 0.0
    total = np.zeros(n)
    nearest = np.empty(n)
    for rows in row_blocks(n, n, s.itemsize):
        block = s[rows].copy()
        inside = np.arange(rows.stop - rows.start)
        block[inside, inside + rows.start] = -np.inf
        nearest[rows] = block.max(axis=1)
        total += np.where(np.isfinite(block), block, 0).sum(axis=0, dtype=np.float64)
    p_max = float(nearest.max())
    finite = np.sort(nearest[np.isfinite(nearest)])
    if not len(finite):
        return 0.0, 0.0
    return min(float(total.max() - finite[2:].sum()), p_max), p_max


@dataclass(frozen=True)
class StrengthMap:
    """What the data say about the number of clusters.

    Attributes:
        preferences: (N,) float64, not falling: at ``[K-1]`` the preference that asks for about K clusters.
        order: (N,) int64, the points as the greedy heuristic chose them: ``order[:K]`` is a fair set of K.
        gains: (N-1,) float64, what the 2nd, 3rd, ... Nth of them added to the net similarity.
        fewest: clusters at strength 0: 1, or as few as forbidden pairs (-inf) allow by the rule of
            :func:`kernels.affinity.finish.cover`.
    """

    preferences: NDArray[np.float64]
    order: NDArray[np.int64]
    gains: NDArray[np.float64]
    fewest: int = 1

    @classmethod
    def of(
        cls,
        order: NDArray[np.int64],
        gains: NDArray[np.float64],
        p_min: float,
        p_max: float,
        fewest: int = 1,
    ) -> StrengthMap:
        """The map from the greedy order (N,) with its gains (N-1,), and the preference range."""
        # where the Kth exemplar begins to pay, K = 2..N; single steps of the heuristic may come out of order
        starts = np.maximum.accumulate(-gains)
        preferences = np.empty(len(order))
        preferences[1:-1] = (starts[:-1] + starts[1:]) / 2
        margin = max(abs(p_max), abs(p_min)) * 1e-3 or 1.0
        preferences[0] = min(p_min, starts[0]) - margin
        preferences[-1] = max(p_max, starts[-1]) + margin
        return cls(np.maximum.accumulate(preferences), order, gains, fewest)

    def sharpest_count(self, low: int, high: int) -> int:
        """The K within low..high after which one more exemplar gains the least by comparison.

        That is the largest ratio of the Kth to the next gain: where a group is still worth an exemplar, and
        the next would only split one. The larger K of equals.
        """
        n = len(self.preferences)
        low, high = max(low, 2), min(high, n - 1)
        if low > high:
            return min(max(low, 1), n)
        tiny = max(float(self.gains[0]), 0.0) * 1e-9 + 1e-300
        ratios = np.maximum(self.gains[:-1], 0) / np.maximum(self.gains[1:], tiny)
        inside = ratios[low - 2 : high - 1]
        return int(high - np.argmax(inside[::-1]))

    def _log_counts(self) -> NDArray[np.float64]:
        return np.log(np.arange(1, len(self.preferences) + 1))

    def preference(self, strength: float) -> float:
        """The preference of a strength in [0, 1]; outside it, ``ValueError``."""
        if not 0 <= strength <= 1:
            raise ValueError(f"strength: expected 0 <= strength <= 1, got {strength}")
        x = strength * math.log(len(self.preferences))
        return float(np.interp(x, self._log_counts(), self.preferences))

    def strength_for(self, clusters: float) -> float:
        """The strength that asks for about so many clusters, 1 <= clusters <= N."""
        n = len(self.preferences)
        if not 1 <= clusters <= n:
            raise ValueError(f"clusters: expected 1 <= clusters <= {n}, got {clusters}")
        return math.log(clusters) / math.log(n) if n > 1 else 0.0


def strength_map(similarity: ArrayLike, *, device: Literal["cpu", "cuda"] | None = None) -> StrengthMap:
    """Read the map from strength to preference off the data; see the module's docstring.

    Args:
        similarity: (N, N), as for :func:`kernels.affinity.affinity_propagation`.
        device: "cpu" or "cuda"; None: where the similarity is. The map is on the host either way.

    Raises:
        ValueError: not square, empty, NaN or +inf, an unknown device.
    """
    if place_of(similarity, device, ("cpu", "cuda")) == "cuda":
        from kernels.affinity.cuda import Solver

        with Solver(similarity) as solver:
            return solver.strengths()
    s = check_similarity(similarity)
    return map_of(s, scan(s))


def map_of(s: FloatArray, scanned: Scan) -> StrengthMap:
    problem = check_problem(s, 0.0, 0.5, 1, 1, None, 0, scanned=scanned)
    p_min, p_max = _range(s)
    if len(s) == 1:
        return StrengthMap(np.array([p_max]), np.zeros(1, np.int64), np.zeros(0))
    from kernels.affinity._greedy import greedy_exemplars

    order, gains = greedy_exemplars(s, problem.floor)
    fewest = 1
    if scanned.forbidden:
        points = np.arange(len(s))
        fewest = len(cover(points, problem.preference, lambda rows, columns: s[np.ix_(rows, columns)]))
    return StrengthMap.of(order, gains, p_min, p_max, fewest)
