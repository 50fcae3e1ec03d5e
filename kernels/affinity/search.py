"""The search for a strength whose number of clusters lies in a range, over whatever does the runs."""

from __future__ import annotations

import math
import numbers
import operator
from dataclasses import dataclass, replace
from typing import Literal

from numpy.typing import ArrayLike

from kernels.affinity.contract import (
    AffinityResult,
    Messages,
    check_problem,
    check_similarity,
    place_of,
    scan,
)
from kernels.affinity.runs import Run, at_the_end, dense_runs
from kernels.affinity.strength import StrengthMap, map_of, strength_map

DEFAULT_RANGE = (0.45, 0.55)  # N to the power of these is the range where none is given
_NARROWEST = 1e-4  # strengths nearer than this are one: less than a thousandth more clusters


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
        below, above: where the count jumps over the range, the two sides of the jump: the probes (or ends,
            the fewest clusters and N clusters, which need no run) between which the search ended. The answer
            is the nearest count of all probes, and may be another one.
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

    Where forbidden pairs (-inf) leave no single exemplar to all points, 0 gives as few as
    :func:`kernels.affinity.finish.cover` does.
    ``warm_start`` is used up: its memory becomes that of the result's messages.
    """
    s = check_similarity(similarity)
    strengths = strengths or strength_map(s)
    check_map(strengths, len(s))
    p = strengths.preference(strength)
    if 0 < strength < 1 and len(s) > 1:
        from kernels.affinity.cpu import affinity_propagation

        return affinity_propagation(
            s, p, damping=damping, max_iter=max_iter, convergence_iter=convergence_iter,
            warm_start=warm_start, seed=seed, overwrite_warm_start=True, threads=threads,
        )  # fmt: skip
    problem = check_problem(s, p, damping, max_iter, convergence_iter, None, seed)
    return replace(at_the_end(problem, strength), messages=warm_start, damping=damping)


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
    clusters: tuple[int, int] | None = None,
    *,
    start: float | None = None,
    strengths: StrengthMap | None = None,
    damping: float = 0.5,
    max_iter: int = 400,
    convergence_iter: int = 15,
    max_probes: int = 25,
    seed: int = 0,
    threads: int | None = None,
    device: Literal["cpu", "cuda"] | None = None,
) -> SearchResult:
    """Find a strength whose number of clusters lies in ``clusters`` = (min, max), both included.

    Starts where the map expects ``start`` clusters, then closes in from both sides: too few clusters raise
    the strength, too many lower it. Every probe goes on from the last one's messages; one that does not
    converge tells nothing, and the next starts afresh elsewhere with more damping. Always ends: at the first
    count inside, when the two sides touch (the count jumps over the range), or after ``max_probes``.

    Args:
        similarity: (N, N), as for :func:`kernels.affinity.affinity_propagation`.
        clusters: (min, max), 1 <= min <= max and min <= N. A wider range takes fewer probes. None: from
            N^0.45 to N^0.55, rounded; where forbidden pairs (-inf) allow only more, from the fewest they do
            to N^0.1 times as many.
        start: clusters to begin at, within the range. None: the middle of a given range, of the default
            the number after which one more exemplar gains least by comparison
            (:meth:`StrengthMap.sharpest_count`).
        strengths: the map of this similarity, where it is known.
        damping, max_iter, convergence_iter, seed: of every run.
        max_probes: runs at most. Raising it helps only where runs do not converge.
        threads: cores to use; None takes all.
        device: "cpu" or "cuda", as for :func:`kernels.affinity.affinity_propagation`; exemplars and labels
            are CuPy arrays where the similarity is one.

    Raises:
        ValueError: ``clusters`` that are not two whole numbers, min < 1, min > max, min > N, a ``start``,
            ``max_probes`` or ``threads`` out of its range, an unknown device, or what the similarity is
            refused for.
        RuntimeError, MemoryError: device "cuda" that is not there, or has too little memory.
    """
    if place_of(similarity, device, ("cpu", "cuda")) == "cuda":
        from kernels.affinity.cuda import search_strength as on_cuda

        return on_cuda(
            similarity, clusters, start=start, strengths=strengths, damping=damping, max_iter=max_iter,
            convergence_iter=convergence_iter, max_probes=max_probes, seed=seed,
        )  # fmt: skip
    s = check_similarity(similarity)
    check_range((1, 1) if clusters is None else clusters, len(s), max_probes)
    scanned = scan(s)
    strengths = strengths or map_of(s, scanned)
    check_map(strengths, len(s))
    with dense_runs(s, strengths, convergence_iter, seed=seed, threads=threads, scanned=scanned) as run:
        return search_or_default(
            strengths, run, clusters, start=start, damping=damping, max_iter=max_iter, max_probes=max_probes
        )


def search_or_default(
    strengths: StrengthMap,
    run: Run,
    clusters: tuple[int, int] | None,
    *,
    start: float | None,
    damping: float,
    max_iter: int,
    max_probes: int,
) -> SearchResult:
    """:func:`search` in the given range, or in the default one from its sharpest count on."""
    n = len(strengths.order)
    if clusters is None:
        clusters = _default_range(n, strengths.fewest)
        start = strengths.sharpest_count(*clusters) if start is None else start
    return search(
        n, strengths, run, clusters, start=start, damping=damping, max_iter=max_iter, max_probes=max_probes
    )


def check_map(strengths: StrengthMap, n: int) -> None:
    if len(strengths.order) != n:
        raise ValueError(f"strengths: expected a map of {n} points, got one of {len(strengths.order)}")


def _default_range(n: int, fewest: int) -> tuple[int, int]:
    low, high = (max(1, min(n, round(n**t))) for t in DEFAULT_RANGE)
    if fewest > low:
        low, high = fewest, min(n, round(fewest * n ** (DEFAULT_RANGE[1] - DEFAULT_RANGE[0])))
    return low, high


def check_range(clusters: tuple[int, int], n: int, max_probes: int) -> tuple[int, int]:
    try:
        low, high = (operator.index(bound) for bound in clusters)
    except (TypeError, ValueError):  # not two, or not whole numbers
        raise ValueError(
            f"clusters: expected two whole numbers (min, max), such as (20, 60), got {clusters!r}"
        ) from None
    if not 1 <= low <= high:
        raise ValueError(f"clusters: expected 1 <= min <= max, got {low}:{high}")
    if low > n:
        raise ValueError(f"clusters: expected a minimum of at most {n}, the number of points, got {low}")
    if not isinstance(max_probes, numbers.Integral):
        raise TypeError(f"max_probes: expected a whole number, got {max_probes!r}")
    if max_probes < 1:
        raise ValueError(f"max_probes: expected at least 1, got {max_probes}")
    return low, high


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
    low, high = check_range(clusters, n, max_probes)
    if start is not None and not (isinstance(start, numbers.Real) and math.isfinite(start)):
        raise ValueError(f"start: expected a number of clusters, got {start!r}")
    goal = start if start is not None else math.sqrt(low * min(high, n))
    goal = min(max(goal, low), high, n)

    probes: list[Probe] = []
    best: tuple[tuple[int, int, int], Probe, AffinityResult] | None = None
    # the ends are known without a run
    ends_at = (0.0, strengths.fewest), (1.0, n)
    below, above = (Probe(t, strengths.preference(t), k, True, 0) for t, k in ends_at)
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
            if above.clusters <= below.clusters:  # both above the range: forbidden pairs allow no fewer
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
        # an untried end, which is exact: inside the range, or nearer to it than what was found
        nearer = _distance(end.clusters, low, high) < _distance(probe.clusters, low, high)
        if nearer or (not probe.converged and low <= end.clusters <= high):
            result = replace(run(end.strength, damping, max_iter, None), messages=None)
            probe = replace(end, clusters=len(result.exemplars))
    inside = low <= probe.clusters <= high and probe.converged
    warning = ""
    if not inside:
        unsure = "" if probe.converged else "; it did not converge: raise max_iter or damping"
        if high < strengths.fewest:
            unsure += (
                f"; the forbidden pairs (-inf) leave no fewer than about {strengths.fewest}: raise the range"
            )
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
