"""Affinity propagation among nearest neighbours: the answer of all pairs, with less memory."""

import inspect
import tracemalloc
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score

from kernels.affinity import affinity_propagation, strength_map
from kernels.affinity.contract import AffinityResult
from kernels.affinity.cpu import Solver
from kernels.affinity.runs import dense_runs
from kernels.affinity.search import search, settle
from kernels.affinity.sparse import SparseProblem, SparseSolver, neighbours_for
from kernels.affinity.sparse_strength import sparse_runs, sparse_strength_map
from kernels.neighbours import nearest_neighbours
from kernels.similarity import weighted_similarity

SETTINGS = {"damping": 0.7, "max_iter": 400, "convergence_iter": 20}


def embeddings(n: int, groups: int, spread: float, seed: int = 0) -> np.ndarray:
    """Unit vectors (n, 32) around centres of very unlike frequency, as characters are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, 32))
    share = rng.dirichlet(np.full(groups, 0.7))
    x = centres[rng.choice(groups, n, p=share)] + spread * rng.normal(size=(n, 32))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def problem(x: np.ndarray, weights: np.ndarray, count: int) -> SparseProblem:
    return SparseProblem(x, weights, nearest_neighbours(x, count))


def solve(whole: SparseProblem, preference: float, **settings: Any) -> AffinityResult:
    with SparseSolver(whole) as solver:
        return solver.solve(preference, **{**SETTINGS, **settings})


@pytest.mark.parametrize("n", [2, 3, 17, 127, 300])
@pytest.mark.parametrize("weighted", [False, True])
def test_with_all_neighbours_it_is_the_dense_answer(n: int, weighted: bool):
    x = embeddings(n, 6, 0.4)
    weights = (
        np.random.default_rng(1).integers(1, 5, n).astype(np.float32) if weighted else np.ones(n, np.float32)
    )
    s = weighted_similarity(x, weights)
    preference = float(np.median(s)) * 2
    dense = affinity_propagation(s, preference, **SETTINGS)
    found = solve(problem(x, weights, n - 1), preference)
    if n > 3:  # of two alike, either may be the exemplar of both
        assert np.array_equal(found.exemplars, dense.exemplars)
        assert np.array_equal(found.labels, dense.labels)
    assert found.converged == dense.converged
    assert found.net_similarity == pytest.approx(dense.net_similarity, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("spread", [0.3, 0.7])
def test_with_ten_clusters_worth_of_neighbours_it_is_the_dense_answer(spread: float):
    n = 1500
    x = embeddings(n, 60, spread)
    ones = np.ones(n, np.float32)
    s = weighted_similarity(x, ones)
    preference = strength_map(s).preference(np.log(50) / np.log(n))
    dense = affinity_propagation(s, preference, **SETTINGS)
    found = solve(problem(x, ones, neighbours_for(n, 50)), preference)
    assert 35 <= len(dense.exemplars) <= 70
    assert adjusted_mutual_info_score(dense.labels, found.labels) >= 0.95
    few = solve(problem(x, ones, neighbours_for(n, 500)), preference)
    assert len(few.exemplars) > len(found.exemplars)  # so the number of neighbours is not for nothing


def test_the_map_is_the_dense_one():
    n = 600
    x = embeddings(n, 20, 0.5)
    weights = np.random.default_rng(3).integers(1, 4, n).astype(np.float32)
    dense = strength_map(weighted_similarity(x, weights))
    found = sparse_strength_map(problem(x, weights, neighbours_for(n, 20)), 100)
    assert np.array_equal(found.order[:100], dense.order[:100])
    assert found.preferences[1:99] == pytest.approx(dense.preferences[1:99], rel=1e-4)
    assert found.preferences[[0, -1]] == pytest.approx(dense.preferences[[0, -1]], rel=1e-2)
    assert np.array_equal(np.sort(found.order), np.arange(n))
    assert (np.diff(found.preferences) >= 0).all()
    assert found.sharpest_count(10, 90) == dense.sharpest_count(10, 90)


def test_coming_from_above_all_pairs_and_neighbours_agree():
    """Much noise, so that there are many nearly equal answers."""
    n, clusters = 1200, 40
    x = embeddings(n, 60, 1.1)
    ones = np.ones(n, np.float32)
    whole = problem(x, ones, neighbours_for(n, clusters))
    s = weighted_similarity(x, ones)
    how = {"damping": 0.7, "max_iter": 1000}
    strengths = sparse_strength_map(whole, 200)
    strength = strengths.strength_for(clusters)
    with dense_runs(s, strengths) as run:
        cold = settle(strengths, run, strength, **how, approach=1)
        dense = settle(strengths, run, strength, **how)
        found = search(n, strengths, run, (30, 50), start=clusters, **how, approach=2)
    with sparse_runs(whole, strengths) as run:
        near = settle(strengths, run, strength, **how)
    assert np.array_equal(near.exemplars, dense.exemplars)
    assert np.array_equal(near.labels, dense.labels)
    assert not np.array_equal(cold.exemplars, dense.exemplars)  # so where it comes from did matter
    assert found.in_range
    assert found.result.net_similarity == pytest.approx(dense.net_similarity)


def test_the_ends_need_no_run():
    x = embeddings(50, 4, 0.5)
    whole = problem(x, np.ones(50, np.float32), 20)
    strengths = sparse_strength_map(whole, 50)
    with sparse_runs(whole, strengths) as run:
        one, every = (settle(strengths, run, t) for t in (0.0, 1.0))
    assert (len(one.exemplars), len(every.exemplars)) == (1, 50)
    assert one.n_iter == every.n_iter == 0
    s = weighted_similarity(x, np.ones(50, np.float32))
    assert one.exemplars[0] == np.argmax(s.sum(axis=0))


def test_threads_and_a_second_run_do_not_matter():
    x = embeddings(900, 20, 0.6)
    ones = np.ones(900, np.float32)
    near = nearest_neighbours(x, 300)
    runs = [solve(SparseProblem(x, ones, near, threads=t), -3.0) for t in (1, 2, 2)]
    assert len({(r.exemplars.tobytes(), r.labels.tobytes(), r.n_iter) for r in runs}) == 1


def test_a_warm_start_goes_on_and_agrees():
    x = embeddings(800, 15, 0.4)
    whole = problem(x, np.ones(800, np.float32), 400)
    with SparseSolver(whole) as solver:
        cold = solver.solve(-3.0, **SETTINGS)
        warm = solver.solve(-3.0, **SETTINGS, go_on=True)
        again = solver.solve(-3.0, **SETTINGS)
    assert again.n_iter == cold.n_iter
    assert np.array_equal(warm.exemplars, cold.exemplars)
    assert warm.n_iter < cold.n_iter


def test_not_converged_is_said_and_still_a_clustering():
    x = embeddings(200, 5, 0.5)
    found = solve(problem(x, np.ones(200, np.float32), 150), -2.0, max_iter=1)
    assert not found.converged
    assert "did not converge in 1 iterations" in found.warning
    assert len(found.exemplars) >= 1
    assert found.labels.max() < len(found.exemplars)


def test_memory_is_that_of_the_lists():
    n, width = 2000, 200
    x = embeddings(n, 40, 0.4)
    whole = problem(x, np.ones(n, np.float32), width)
    solve(whole, -3.0, max_iter=2)  # compiled, imported
    tracemalloc.start()
    solve(whole, -3.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 4 * n * width + 900 * n


@pytest.mark.parametrize(
    ("points", "weights", "message"),
    [
        (30, np.ones(30), "neighbours: expected those of 30 points"),
        (20, np.zeros(20), "weights: expected 20 positive"),
    ],
)
def test_what_does_not_belong_together_is_named(points: int, weights: np.ndarray, message: str):
    x = embeddings(20, 3, 0.5)
    with pytest.raises(ValueError, match=message):
        SparseProblem(embeddings(points, 3, 0.5), weights, nearest_neighbours(x, 5))


def test_the_same_defaults_as_over_all_pairs() -> None:
    dense = inspect.signature(Solver.solve).parameters
    for name, ours in inspect.signature(SparseSolver.solve).parameters.items():
        if name not in ("self", "preference"):
            assert ours.default == dense[name].default, name
