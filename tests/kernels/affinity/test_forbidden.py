"""Forbidden pairs (-inf): no answer has a point on an exemplar that is forbidden to it."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from emulated_gpu import EmulatedDevice, build, compiler

from kernels.affinity import AffinityResult, affinity_propagation, search_strength, strength_map
from kernels.affinity import cuda as cuda_module
from kernels.affinity.contract import check_problem
from kernels.affinity.finish import finish
from kernels.affinity.search import clusters_at
from kernels.similarity import negative_squared_distances


def problem(seed: int) -> tuple[np.ndarray, float]:
    """Points in the plane, a share of their pairs forbidden, and a preference."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 60))
    x = rng.normal(size=(n, 2))
    s = -((x[:, None] - x[None]) ** 2).sum(-1)
    if seed % 2:
        s = s.astype(np.float32)
    apart = rng.random((n, n)) < rng.choice([0.05, 0.3, 0.7, 0.95])
    apart |= apart.T
    np.fill_diagonal(apart, False)
    s[apart] = -np.inf
    return s, float(-(10 ** rng.uniform(-2, 3)))


def halves(n: int, groups: int = 2) -> np.ndarray:
    """Groups that forbid each other all pairs."""
    s = negative_squared_distances(np.random.default_rng(0).normal(size=(n, 2)))
    side = np.arange(n) % groups
    s[side[:, None] != side] = -np.inf
    return s


def check_allowed(s: np.ndarray, result: AffinityResult) -> None:
    to = np.asarray(result.exemplars)[result.labels]
    others = np.flatnonzero(to != np.arange(len(s)))
    assert (s[others, to[others]] > -np.inf).all(), result
    assert np.array_equal(to[result.exemplars], result.exemplars)
    assert np.isfinite(result.net_similarity)


# the first three ended on forbidden exemplars, called converged
@pytest.mark.parametrize("seed", [271, 156, 7, *range(40)])
@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_no_point_ends_on_a_forbidden_exemplar(seed: int, device: Any) -> None:
    s, p = problem(seed)
    check_allowed(s, affinity_propagation(s, p, device=device, max_iter=400))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_last_step_finds_allowed_exemplars_for_any_set(dtype: str) -> None:
    for seed in range(60):
        s, p = problem(seed)
        s = s.astype(dtype)
        rng = np.random.default_rng(seed)
        chosen = np.flatnonzero(rng.random(len(s)) < rng.choice([0.0, 0.1, 0.5]))
        checked = check_problem(s, p, 0.5, 1, 1, None, 0)
        result = finish(checked, chosen, None, n_iter=1, converged=True, damping=0.5, asked_damping=0.5)
        check_allowed(s, result)
        assert len(result.exemplars) >= len(chosen)


def test_an_exemplar_picked_anew_is_forbidden_to_none_of_its_cluster() -> None:
    # all but the last on 0; 1 would be far the better exemplar but for 2, to which it is forbidden
    s = np.full((21, 21), -90.0)
    s[:20, 0], s[:20, 1], s[2, 1] = -89, -1, -np.inf
    checked = check_problem(s, -1.0, 0.5, 1, 1, None, 0)
    found = finish(checked, np.array([0, 20]), None, n_iter=1, converged=True, damping=0.5, asked_damping=0.5)
    assert found.exemplars.tolist() == [0, 20]
    assert found.labels.tolist() == [0] * 20 + [1]


def test_as_few_as_are_allowed_where_nobody_is_an_exemplar() -> None:
    for groups in (2, 3, 5):
        found = clusters_at(halves(30, groups), 0.0)
        assert len(found.exemplars) == groups
        assert np.array_equal(found.exemplars[found.labels] % groups, np.arange(30) % groups)
    alone = np.full((6, 6), -np.inf)
    assert len(clusters_at(alone, 0.0).exemplars) == strength_map(alone).fewest == 6


def test_equal_similarities_with_forbidden_pairs_are_no_trivial_case() -> None:
    s = np.full((6, 6), -1.0)
    s[:3, 3:] = s[3:, :3] = -np.inf
    for device in ("cpu", "reference"):
        found = affinity_propagation(s, -2.0, device=device)  # type: ignore[arg-type]
        check_allowed(s, found)
        assert len(found.exemplars) == 2, found


@pytest.mark.parametrize(
    ("s", "fewest", "wanted"),
    [(np.full((6, 6), -np.inf), 6, (1, 3)), (halves(30), 2, (1, 1)), (halves(60, 7), 7, (2, 5))],
)
def test_the_search_says_what_is_not_to_be_had(s: np.ndarray, fewest: int, wanted: tuple[int, int]) -> None:
    found = search_strength(s, wanted)
    check_allowed(s, found.result)
    assert not found.in_range
    assert len(found.result.exemplars) == fewest
    assert found.below is not None
    assert found.below.clusters == fewest
    assert f"leave no fewer than about {fewest}" in found.warning
    assert len(found.probes) <= 14


def test_the_search_finds_the_fewest() -> None:
    found = search_strength(halves(60, 7), (5, 7))
    check_allowed(halves(60, 7), found.result)
    assert found.in_range
    assert len(found.result.exemplars) == 7
    for seed in range(20):
        s, _ = problem(seed)
        answer = search_strength(s, (1, 4))
        check_allowed(s, answer.result)
        assert answer.in_range == (len(answer.result.exemplars) <= 4 and answer.result.converged)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if compiler() is None:
        pytest.skip("g++ is not installed")
    return build(tmp_path_factory.mktemp("emulated"))


def test_the_device_takes_the_same_last_step(library: ctypes.CDLL) -> None:
    for seed in [271, 156, 7, *range(20)]:
        s, p = problem(seed)
        found = cuda_module.affinity_propagation(
            s, p, device=EmulatedDevice(library), max_iter=300, give_messages=False
        )
        check_allowed(s, found)
        if found.converged:
            same = affinity_propagation(s, p, max_iter=300)
            assert not same.converged or np.array_equal(found.exemplars, same.exemplars)
        rng = np.random.default_rng(seed)
        with cuda_module.Solver(s, device=EmulatedDevice(library)) as solver:
            solution = solver.matrix.settle(p, 0.5, 1, 1, None, 0)
        checked = check_problem(s, p, 0.5, 1, 1, None, 0)
        for chosen in (np.arange(0), np.flatnonzero(rng.random(len(s)) < 0.2)):
            settings: dict[str, Any] = {"n_iter": 1, "converged": True, "damping": 0.5, "asked_damping": 0.5}
            ours = solution.finish(chosen, None, **settings)
            theirs = finish(checked, chosen, None, **settings)
            assert np.array_equal(ours.exemplars, theirs.exemplars)
            assert np.array_equal(ours.labels, theirs.labels)
            assert ours.net_similarity == pytest.approx(theirs.net_similarity, rel=1e-5)


def test_where_all_that_is_allowed_is_zero_ties_are_broken() -> None:
    for seed in range(20):
        apart = np.triu(np.random.default_rng(seed).random((30, 30)) < 0.5, 1)
        s = np.where(apart | apart.T, -np.inf, 0.0)
        found = affinity_propagation(s, 0.0)
        check_allowed(s, found)
        assert found.converged
