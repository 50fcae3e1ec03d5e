"""From a wished number of clusters to a preference: its range, the strength in 0..1, and the search.

The map from strength to preference is read off the data. Affinity propagation maximizes the sum of every
point's similarity to its exemplar plus one preference per exemplar. Adding exemplars greedily to that sum
(the facility location heuristic) tells, for every K, the preference at which one more exemplar begins to
pay; so ``preferences[K-1]`` is the preference that asks for about K clusters. Strength t asks for about N^t
clusters: equal steps multiply the number of clusters by equal factors, from 1 (t=0) to N (t=1).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.affinity.contract import (
    AffinityResult,
    FloatArray,
    Messages,
    Problem,
    Scan,
    assign,
    best_single,
    check_problem,
    check_similarity,
    row_blocks,
    scan,
)

_NARROWEST = 1e-4  # strengths nearer than this are one: less than a thousandth more clusters


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
    """

    preferences: NDArray[np.float64]
    order: NDArray[np.int64]
    gains: NDArray[np.float64]

    @classmethod
    def of(
        cls, order: NDArray[np.int64], gains: NDArray[np.float64], p_min: float, p_max: float
    ) -> StrengthMap:
        """The map from the greedy order (N,) with its gains (N-1,), and the preference range."""
        # where the Kth exemplar begins to pay, K = 2..N; single steps of the heuristic may come out of order
        starts = np.maximum.accumulate(-gains)
        preferences = np.empty(len(order))
        preferences[1:-1] = (starts[:-1] + starts[1:]) / 2
        margin = max(abs(p_max), abs(p_min)) * 1e-3 or 1.0
        preferences[0] = min(p_min, starts[0]) - margin
        preferences[-1] = max(p_max, starts[-1]) + margin
        return cls(np.maximum.accumulate(preferences), order, gains)

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


def strength_map(similarity: ArrayLike) -> StrengthMap:
    """Read the map from strength to preference off the data; see the module's docstring.

    Args:
        similarity: (N, N), as for :func:`kernels.affinity.affinity_propagation`.

    Raises:
        ValueError: not square, empty, NaN or +inf.
    """
    s = check_similarity(similarity)
    return _map(s, scan(s))


def _map(s: FloatArray, scanned: Scan) -> StrengthMap:
    problem = check_problem(s, 0.0, 0.5, 1, 1, None, 0, scanned=scanned)
    p_min, p_max = _range(s)
    if len(s) == 1:
        return StrengthMap(np.array([p_max]), np.zeros(1, np.int64), np.zeros(0))
    from kernels.affinity._greedy import greedy_exemplars

    order, gains = greedy_exemplars(s, problem.floor)
    return StrengthMap.of(order, gains, p_min, p_max)


@dataclass(frozen=True)
class Probe:
    """One run of the search."""

    strength: float
    preference: float
    clusters: int
    converged: bool
    n_iter: int


@dataclass(frozen=True)
class SearchResult:
    """A strength whose cluster count lies in the range, or the nearest there is.

    Attributes:
        strength, preference, result: the answer; ``result.messages`` is None.
        in_range: its count lies in the range and it converged.
        below, above: where the count jumps over the range, the nearest probes on both sides (also the
            trivial ends, one cluster and N clusters, which need no run).
        probes: every run in order.
        warning: empty when in range; otherwise what was found and what to do.
    """

    strength: float
    preference: float
    result: AffinityResult
    in_range: bool
    below: Probe | None
    above: Probe | None
    probes: tuple[Probe, ...]
    warning: str = ""

    def __repr__(self) -> str:
        return (
            f"SearchResult(strength={self.strength:.4f}, {len(self.result.exemplars)} clusters, "
            f"in_range={self.in_range}, {len(self.probes)} probes)"
        )


def clusters_at(
    similarity: ArrayLike,
    strength: float,
    strengths: StrengthMap | None = None,
    *,
    damping: float = 0.5,
    max_iter: int = 1000,
    convergence_iter: int = 15,
    warm_start: Messages | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> AffinityResult:
    """One run at a strength. 0 and 1 are exact and need no run: the best single exemplar; every point.

    ``warm_start`` is used up: its memory becomes that of the result's messages.
    """
    s = check_similarity(similarity)
    strengths = strengths or strength_map(s)
    _check_map(strengths, len(s))
    p = strengths.preference(strength)
    if 0 < strength < 1 and len(s) > 1:
        from kernels.affinity.cpu import affinity_propagation

        return affinity_propagation(
            s, p, damping=damping, max_iter=max_iter, convergence_iter=convergence_iter,
            warm_start=warm_start, seed=seed, overwrite_warm_start=True, threads=threads,
        )  # fmt: skip
    problem = check_problem(s, p, damping, max_iter, convergence_iter, None, seed)
    return replace(_end(problem, strength), messages=warm_start, damping=damping)


def _end(problem: Problem, strength: float) -> AffinityResult:
    """Strength 0 (the best single exemplar) or 1 (every point), without a run."""
    s = problem.similarity
    exemplars = np.arange(len(s)) if strength >= 1 else np.array([best_single(problem)])
    labels = assign(problem, exemplars)
    to = exemplars[labels]
    others = to != np.arange(len(s))
    net = float(np.maximum(s[np.flatnonzero(others), to[others]], problem.floor).sum(dtype=np.float64))
    net += float(problem.preference[exemplars].sum(dtype=np.float64))
    return AffinityResult(exemplars, labels, 0, True, net, 0.5, None)


def settle(
    strengths: StrengthMap,
    run: Run,
    strength: float,
    *,
    damping: float = 0.5,
    max_iter: int = 400,
    approach: float = 2.0,
) -> AffinityResult:
    """One run at a strength that goes on from a run at ``approach`` times its count.

    Coming from more clusters, every point has an exemplar near it when the fewer are chosen: the messages
    swing less, the net similarity is better (on 5,000 crops of two films by .1 to .3 %), and the same
    clusters are found whether far pairs are looked at or not. 1 starts from nothing and saves a run.
    """
    warm = _from_above(run, strengths, strength, damping, max_iter, approach)
    return run(strength, damping, max_iter, warm)


def _from_above(
    run: Run, strengths: StrengthMap, strength: float, damping: float, max_iter: int, approach: float
) -> Messages | None:
    n = len(strengths.order)
    count = approach * n**strength
    if approach <= 1 or not 0 < strength < 1 or count >= n:
        return None
    result = run(strengths.strength_for(count), damping, max_iter, None)
    return result.messages if result.converged else None


def _distance(count: int, low: int, high: int) -> int:
    return max(low - count, count - high, 0)


def search_strength(
    similarity: ArrayLike,
    clusters: tuple[int, int],
    *,
    start: float | None = None,
    strengths: StrengthMap | None = None,
    damping: float = 0.5,
    max_iter: int = 400,
    convergence_iter: int = 15,
    max_probes: int = 25,
    seed: int = 0,
    threads: int | None = None,
) -> SearchResult:
    """Find a strength whose number of clusters lies in ``clusters`` = (min, max), both included.

    Starts where the map expects ``start`` clusters (None: the middle of the range), then closes in from
    both sides: too few clusters raise the strength, too many lower it. Every probe goes on from the last
    one's messages; one that does not converge tells nothing, and the next starts afresh elsewhere with more
    damping. Always ends: at the first count inside, when the two sides touch (the count jumps over the
    range), or after ``max_probes``.

    Args:
        similarity: (N, N), as for :func:`kernels.affinity.affinity_propagation`.
        clusters: (min, max), 1 <= min <= max and min <= N. A wider range takes fewer probes.
        start: clusters to begin at, within the range.
        strengths: the map of this similarity, where it is known.
        damping, max_iter, convergence_iter, seed: of every run.
        max_probes: runs at most. Raising it helps only where runs do not converge.
        threads: cores to use; None takes all.

    Raises:
        ValueError: min < 1, min > max, min > N, a ``start``, ``max_probes`` or ``threads`` out of its range,
            or what the similarity is refused for.
    """
    s = check_similarity(similarity)
    _check_range(clusters, len(s), max_probes)
    scanned = scan(s)
    strengths = strengths or _map(s, scanned)
    _check_map(strengths, len(s))
    with dense_runs(s, strengths, convergence_iter, seed=seed, threads=threads, scanned=scanned) as run:
        return search(
            len(s), strengths, run, clusters, start=start, damping=damping, max_iter=max_iter,
            max_probes=max_probes,
        )  # fmt: skip


@contextlib.contextmanager
def dense_runs(
    s: FloatArray,
    strengths: StrengthMap,
    convergence_iter: int = 15,
    *,
    seed: int = 0,
    threads: int | None = None,
    scanned: Scan | None = None,
) -> Iterator[Run]:
    """Runs over one checked similarity for :func:`search` and :func:`settle`, with one memory."""
    from kernels.affinity.cpu import Solver

    with Solver(s, seed=seed, threads=threads, scanned=scanned) as solver:

        def run(strength: float, damping: float, max_iter: int, warm: Messages | None) -> AffinityResult:
            p = strengths.preference(strength)
            if not 0 < strength < 1 or len(s) == 1:
                problem = check_problem(
                    s, p, damping, max_iter, convergence_iter, None, seed, scanned=solver.scanned
                )  # fmt: skip
                return _end(problem, strength)
            result = solver.solve(
                p, damping=damping, max_iter=max_iter, convergence_iter=convergence_iter,
                go_on=warm is not None,
            )  # fmt: skip
            return replace(result, messages=KEPT)

        yield run


# Stands for messages that the solver keeps where they are.
KEPT = Messages(np.empty((0, 0)), np.empty((0, 0)))


class Run(Protocol):
    """One run at a strength, the ends 0 and 1 included, going on from ``warm`` where it is not None.

    ``warm`` is what an earlier result had as its messages; the search does not look into it.
    """

    def __call__(
        self, strength: float, damping: float, max_iter: int, warm: Messages | None
    ) -> AffinityResult: ...


def _check_map(strengths: StrengthMap, n: int) -> None:
    if len(strengths.order) != n:
        raise ValueError(f"strengths: expected a map of {n} points, got one of {len(strengths.order)}")


def _check_range(clusters: tuple[int, int], n: int, max_probes: int) -> None:
    low, high = clusters
    if not 1 <= low <= high:
        raise ValueError(f"clusters: expected 1 <= min <= max, got {low}:{high}")
    if low > n:
        raise ValueError(f"clusters: expected a minimum of at most {n}, the number of points, got {low}")
    if max_probes < 1:
        raise ValueError(f"max_probes: expected at least 1, got {max_probes}")


def search(
    n: int,
    strengths: StrengthMap,
    run: Run,
    clusters: tuple[int, int],
    *,
    start: float | None = None,
    damping: float = 0.5,
    max_iter: int = 400,
    max_probes: int = 25,
    approach: float = 1.0,
) -> SearchResult:
    """The search of :func:`search_strength` over n points, whatever does the runs.

    Args beyond it:
        approach: the first probe goes on from a run at so many times its count, see :func:`settle`.

    Raises:
        ValueError: as :func:`search_strength` for the range and ``max_probes``.
    """
    _check_range(clusters, n, max_probes)
    low, high = clusters
    if start is not None and not math.isfinite(start):
        raise ValueError(f"start: expected a number of clusters, got {start}")
    goal = start if start is not None else math.sqrt(low * min(high, n))
    goal = min(max(goal, low), high, n)

    probes: list[Probe] = []
    best: tuple[tuple[int, int, int], Probe, AffinityResult] | None = None
    # the ends are known without a run
    below, above = (Probe(t, strengths.preference(t), k, True, 0) for t, k in ((0.0, 1), (1.0, n)))
    misses = 0
    strength = strengths.strength_for(goal)
    messages = _from_above(run, strengths, strength, damping, max_iter, approach)
    while len(probes) < max_probes:
        result = run(
            strength, max(damping, 0.9) if misses else damping, max_iter * (1 + min(misses, 2)), messages
        )
        count = len(result.exemplars)
        probe = Probe(strength, strengths.preference(strength), count, result.converged, result.n_iter)
        probes.append(probe)
        # a converged probe counts before an unconverged one; of equals, more clusters: purer
        rank = (_distance(count, low, high) if result.converged else n, 0 if result.converged else 1, -count)
        if best is None or rank < best[0]:
            best = rank, probe, replace(result, messages=None)
        if result.converged:
            misses = 0
            messages = result.messages
            if low <= count <= high:
                break
            if count < low:
                below = probe if probe.strength > below.strength else below
            else:
                above = probe if probe.strength < above.strength else above
            width = above.strength - below.strength
            if width < _NARROWEST or above.preference <= below.preference:
                break
            share = 0.5
            if len(probes) % 3 and above.clusters > below.clusters:
                # where the logarithm of the count, taken as a line, meets the goal; every third step halves
                share = math.log(goal / below.clusters) / math.log(above.clusters / below.clusters)
                share = min(max(share, 0.1), 0.9)
            strength = below.strength + share * width
        else:
            messages = None
            misses += 1
            # 1/2, 1/4, 3/4, 1/8, ...: elsewhere between the two sides, never the same place twice
            whole = 2 ** misses.bit_length()
            share = (2 * (misses - whole // 2) + 1) / whole
            strength = below.strength + share * (above.strength - below.strength)
    assert best is not None
    _, probe, result = best
    ends = [end for end in (below, above) if end.n_iter == 0 and end not in probes]
    for end in ends:
        # an untried end: inside the range, or nearer to it than anything that converged
        nearer = _distance(end.clusters, low, high) < _distance(probe.clusters, low, high)
        if (probe.converged and nearer) or (not probe.converged and low <= end.clusters <= high):
            probe = end
            result = replace(run(end.strength, damping, max_iter, None), messages=None)
    inside = low <= probe.clusters <= high and probe.converged
    warning = ""
    if not inside:
        unsure = "" if probe.converged else "; it did not converge: raise max_iter or damping"
        warning = (
            f"no strength found with {low}:{high} clusters in {len(probes)} probes: strength "
            f"{below.strength:.4f} gives {below.clusters}, {above.strength:.4f} gives {above.clusters}; took "
            f"{probe.clusters}{unsure}"
        )
    return SearchResult(
        probe.strength,
        probe.preference,
        result,
        inside,
        None if inside else below,
        None if inside else above,
        tuple(probes),
        warning,
    )
