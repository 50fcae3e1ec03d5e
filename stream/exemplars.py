"""Exemplars among points, by the way that the memory allows: all pairs, neighbours, or two levels.

- **dense**: affinity propagation over all pairs, 8 N^2 bytes; on a GPU where there is one with the room.
- **neighbours**: among every point's nearest M only, 12 N M bytes, with M eight times an average cluster; its
  answer is the dense one (:mod:`kernels.affinity.sparse`).
- **two-level**: where even that does not fit, affinity propagation inside stretches of time first, and one
  of the other two over the stretches' exemplars, each weighted by what it stands for. These are thinned
  again until they fit. Then every cluster's exemplar is picked anew among all its points, for as long as that
  moves points (k-medoids). Memory is what the budget says; time grows with the number of points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from kernels.affinity import StrengthMap, strength_map
from kernels.affinity.contract import AffinityResult
from kernels.affinity.runs import Run, cuda_runs, dense_runs
from kernels.affinity.search import DEFAULT_RANGE, clusters_at, search, settle
from kernels.affinity.sparse import ENOUGH, SparseProblem, neighbours_for
from kernels.affinity.sparse_strength import sparse_runs, sparse_strength_map
from kernels.neighbours import nearest_neighbours
from kernels.similarity import negative_squared_distances, weighted_similarity
from stream.config import ClusterConfig

if TYPE_CHECKING:
    from kernels.affinity._gpu import Device

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Method = Literal["dense", "neighbours", "two-level"]

_STRETCH = 1000  # points clustered at once on the first of two levels
_KEEP = 0.25  # of a stretch's points that become its exemplars, at least where there is room
_ROWS = 4096  # points compared with the exemplars at once
_MOST_BYTES = 96 << 20
_ROUNDS = 10  # of picking exemplars anew; most settle in five
_APPROACH = 2.0  # times the clusters wanted, from where they are come down to


@dataclass(frozen=True)
class Found:
    """Exemplars (positions of points) and how they were found; see :class:`stream.clustering.Clustering`."""

    exemplars: Ints
    strength: float
    preference: float
    converged: bool
    probes: int
    method: Method
    messages: tuple[str, ...]
    device: Literal["cpu", "cuda"] = "cpu"


def memory_budget(config: ClusterConfig) -> int:
    """Bytes that the matrices of a clustering may take: what the config says, or half of what is free.

    Half of what is free, up to 96 MiB: what streaming took before, so that a film of ten hours takes no more
    memory than one of one hour.
    Above some 7,500 tracks that means two levels, whose clusters are others than those of all pairs; who
    wants these gives more.
    """
    if config.memory_mb is not None:
        return int(config.memory_mb * 2**20)
    return min(free_memory() // 2, _MOST_BYTES)


def free_memory() -> int:
    """Bytes that this process may still take: the machine's, or its container's where that is less."""
    import psutil

    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")  # Linux, version 2; elsewhere there is none
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return max(free, 0)


def gpu_budget(config: ClusterConfig, gpu: Device) -> int:
    """Bytes of the GPU that the matrices may take: what the config says, or half of what is free."""
    return int(config.memory_mb * 2**20) if config.memory_mb is not None else gpu.free_bytes() // 2


def find_exemplars(
    points: Floats, weights: Floats, order: Ints, config: ClusterConfig, gpu: Device | None = None
) -> Found:
    """Exemplars among points (N, D) of weights (N,); ``order`` (N,) is that of time.

    ``gpu``: a device for all pairs, where they fit its budget; whatever does not is worked on by the CPU.
    """
    total = len(points)
    low, high = _wanted(total, config)
    if gpu is not None and total > 2 and 8 * total * total <= gpu_budget(config, gpu):
        return _found(
            _on_gpu(points, weights, (low, high), config, gpu), np.arange(total), config, "dense", "cuda"
        )
    if low >= total:  # everybody for himself takes no matrices
        return _singletons(points, weights, config)
    budget = memory_budget(config)
    levels, all_weights = 1, weights
    while (way := _way(len(order), low, budget)) is None:
        order, weights = _thinned(points, weights, order, budget, low, config)
        levels += 1
    if levels == 1:
        order, chosen = np.arange(total), points  # order matters for stretches alone; no copy
    else:
        chosen = points[order]
    if way == "dense":
        found = _dense(weighted_similarity(chosen, weights[order]), total, (low, high), config)
    else:
        count = neighbours_for(len(order), low)
        problem = SparseProblem(chosen, weights[order], nearest_neighbours(chosen, count))
        found = _among_neighbours(problem, total, (low, high), config)
    answer = _found(found, order, config, way if levels == 1 else "two-level")
    if levels > 1:
        return replace(answer, exemplars=_repicked(points, all_weights, answer.exemplars))
    return answer


def _repicked(points: Floats, weights: Floats, exemplars: Ints) -> Ints:
    """Exemplars of the same number, each the best of its cluster, for as long as that moves points.

    The best one to -w_i ||x_i - x_k||^2 is the point nearest to the weighted mean of the cluster.
    """
    for _ in range(_ROUNDS):
        labels = nearest_exemplar(points, points[exemplars])
        labels[exemplars] = np.arange(len(exemplars))
        means = np.zeros((len(exemplars), points.shape[1]))
        for part in _parts(len(points)):
            np.add.at(means, labels[part], points[part] * weights[part, None])
        means /= np.bincount(labels, weights)[:, None]
        away = np.empty(len(points))
        for part in _parts(len(points)):
            away[part] = ((points[part] - means[labels[part]]) ** 2).sum(axis=1)
        order = np.lexsort((away, labels))
        better = order[np.searchsorted(labels[order], np.arange(len(exemplars)))]
        if np.array_equal(better, exemplars):
            break
        exemplars = better
    return np.sort(exemplars)


def _parts(n: int) -> list[slice]:
    return [slice(start, start + _ROWS) for start in range(0, n, _ROWS)]


def _singletons(points: Floats, weights: Floats, config: ClusterConfig) -> Found:
    """Every point its own exemplar, at a preference at which each would be."""
    order = np.arange(len(points))
    similar = 0.0  # two points may be equal
    result = AffinityResult(order, order, 0, True, similar, config.damping, None)
    return _found((result, 1.0, similar, 0, []), order, config, "dense")


def _found(
    answer: _Answer,
    order: Ints,
    config: ClusterConfig,
    method: Method,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Found:
    """The answer over the points in ``order``, with a word on a range that they are too few for."""
    result, strength, preference, probes, messages = answer
    if config.clusters is not None and len(order) < config.clusters[0]:
        low, high = config.clusters
        room = f"{len(order)} tracks to cluster"
        if method == "two-level":
            room = f"{len(order)} points left that the memory holds; raise cluster.memory_mb"
        messages.insert(0, f"{low}:{high} clusters were asked for, and there are only {room}")
    return Found(
        order[result.exemplars], strength, preference, result.converged, probes, method, tuple(messages),
        device,
    )  # fmt: skip


def _wanted(total: int, config: ClusterConfig) -> tuple[int, int]:
    """Fewest and most clusters of all points that are asked for."""
    if config.clusters is not None:
        return min(config.clusters[0], total), min(config.clusters[1], total)
    span = DEFAULT_RANGE if config.strength is None else (config.strength, config.strength)
    low, high = (max(1, min(total, round(total**t))) for t in span)
    return low, high


def _way(n: int, low: int, budget: int) -> Method | None:
    """How n points can be clustered within the budget; None: only fewer of them."""
    if n <= 2 or 8 * n * n <= budget:
        return "dense"
    if low < n and 12 * n * neighbours_for(n, low) <= budget:
        return "neighbours"
    return None


def _thinned(
    points: Floats, weights: Floats, order: Ints, budget: int, low: int, config: ClusterConfig
) -> tuple[Ints, Floats]:
    """Fewer points that stand for those in ``order``, and weights (N,) that say for how many each stands."""
    room = max(2, int(max(math.sqrt(budget / 8), math.sqrt(budget * low / (12 * ENOUGH)))))
    share = min(0.8, max(_KEEP, 0.9 * room / len(order)))
    size = max(2, min(_STRETCH, int(math.sqrt(budget / 8))))
    carried = np.zeros(len(points), np.float32)
    kept: list[Ints] = []
    for part in np.array_split(order, -(-len(order) // size)):
        chosen = part[_stretch(points[part], weights[part], max(1, int(share * len(part))), config)]
        stands_for = np.bincount(nearest_exemplar(points[part], points[chosen]), weights[part], len(chosen))
        carried[chosen] = stands_for
        kept.append(chosen[stands_for > 0])  # of equal ones the first stands for all
    return np.concatenate(kept), carried


def _stretch(points: Floats, weights: Floats, count: int, config: ClusterConfig) -> Ints:
    """About ``count`` exemplars of one stretch, at most a tenth more."""
    if len(points) == 1:
        return np.zeros(1, np.int64)
    s = weighted_similarity(points, weights)
    strengths = strength_map(s)
    result = clusters_at(
        s, strengths.strength_for(count), strengths, damping=config.damping, max_iter=config.max_iter,
        convergence_iter=config.convergence_iter,
    )  # fmt: skip
    if result.converged and 0.8 * count <= len(result.exemplars) <= 1.1 * count:
        return result.exemplars
    return np.sort(strengths.order[:count])  # the greedy choice has exactly so many


# Result, strength, preference, probes, messages.
_Answer = tuple[AffinityResult, float, float, int, list[str]]


def _dense(s: Floats, total: int, wanted: tuple[int, int], config: ClusterConfig) -> _Answer:
    strengths = strength_map(s)
    with dense_runs(s, strengths, config.convergence_iter) as run:
        return _choose(run, strengths, total, wanted, config)


def _on_gpu(
    points: Floats, weights: Floats, wanted: tuple[int, int], config: ClusterConfig, gpu: Device
) -> _Answer:
    from kernels.affinity.cuda import Solver

    s = weighted_similarity(points, weights, xp=gpu.xp)
    with Solver(s, device=gpu) as solver:
        strengths = solver.strengths()
        run = cuda_runs(solver, strengths, config.convergence_iter)
        return _choose(run, strengths, len(points), wanted, config)


def _among_neighbours(
    problem: SparseProblem, total: int, wanted: tuple[int, int], config: ClusterConfig
) -> _Answer:
    strengths = sparse_strength_map(problem, int(_APPROACH * wanted[1]) + 2)
    with sparse_runs(problem, strengths, config.convergence_iter) as run:
        return _choose(run, strengths, total, wanted, config)


def _choose(
    run: Run, strengths: StrengthMap, total: int, wanted: tuple[int, int], config: ClusterConfig
) -> _Answer:
    """By the strength, the range or the default; ``total`` is how many points those of the map stand for."""
    n = len(strengths.order)
    if config.clusters is None and config.strength is not None:
        # strength speaks of all points, also where those at hand are fewer and stand for them
        local = config.strength if n == total else strengths.strength_for(min(n, total**config.strength))
        result = settle(
            strengths, run, local, damping=config.damping, max_iter=config.max_iter, approach=_APPROACH
        )
        messages = [result.warning] if result.warning else []
        return result, config.strength, strengths.preference(local), 1, messages
    low, high = (min(bound, n) for bound in wanted)
    goal = None if config.clusters is not None else strengths.sharpest_count(low, high)
    found = search(
        n, strengths, run, (low, high), start=goal, damping=config.damping, max_iter=config.max_iter,
        approach=_APPROACH,
    )  # fmt: skip
    told = found.warning and (config.clusters is not None or not found.result.converged)
    asked = found.strength * math.log(n) / math.log(total) if n < total else found.strength
    return found.result, asked, found.preference, len(found.probes), [found.warning] if told else []


def nearest_exemplar(points: Floats, exemplars: Floats) -> Ints:
    """(N,) position of every point's most similar exemplar."""
    parts = [
        negative_squared_distances(points[part], exemplars).argmax(axis=1) for part in _parts(len(points))
    ]
    return np.concatenate(parts).astype(np.int64)
