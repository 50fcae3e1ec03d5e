"""Preference range, the map from strength to preference, and the search for a cluster count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernels.affinity import preference_range, search_strength, strength_map
from kernels.affinity._greedy import greedy_exemplars
from kernels.affinity.search import clusters_at
from kernels.similarity import negative_squared_distances


def groups(n: int, k: int, spread: float, seed: int = 0, d: int = 16) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((k, d))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    x = centres[np.arange(n) % k] + spread * rng.standard_normal((n, d)) / np.sqrt(d)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_preference_range_by_hand() -> None:
    """Points 0, 1, 3 on a line. Sums of columns -10, -5, -13; row maxima -1, -1, -4."""
    s = negative_squared_distances(np.array([[0.0], [1.0], [3.0]]))
    p_min, p_max = preference_range(s)
    assert p_max == -1
    # best one exemplar -5, less the row maxima without the two smallest (-1)
    assert p_min == -5 - -1
    np.fill_diagonal(s, np.nan)
    assert preference_range(s) == (p_min, p_max)


def test_preference_range_bounds_hold() -> None:
    """At p_max all points are exemplars; at p_min no two exemplars beat the best one (tried exhaustively)."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        s = negative_squared_distances(rng.standard_normal((12, 2)))
        p_min, p_max = preference_range(s)
        assert len(clusters_at(s, 1.0).exemplars) == 12
        one = s.sum(axis=0).max()
        two = max(
            np.maximum(np.delete(s[:, i], [i, j]), np.delete(s[:, j], [i, j])).sum()
            for i in range(12)
            for j in range(i)
        )
        assert one + p_min >= two + 2 * p_min - 1e-9
        assert p_max == s[~np.eye(12, dtype=bool)].max()


def test_greedy_gains_against_brute_force() -> None:
    rng = np.random.default_rng(1)
    s = -rng.random((25, 25))
    order, gains = greedy_exemplars(s)
    assert sorted(order.tolist()) == list(range(25))

    def net(chosen: list[int]) -> float:
        rest = [i for i in range(25) if i not in chosen]
        return float(s[np.ix_(rest, chosen)].max(axis=1).sum()) if rest else 0.0

    for k in range(1, 25):
        chosen = order[:k].tolist()
        before = net(chosen)
        best = max(net([*chosen, c]) - before for c in range(25) if c not in chosen)
        assert gains[k - 1] == pytest.approx(best)


@pytest.mark.parametrize(("n", "k", "spread"), [(60, 5, 0.3), (300, 10, 0.6), (300, 1, 1.0)])
def test_strength_asks_for_n_to_the_t_clusters(n: int, k: int, spread: float) -> None:
    s = negative_squared_distances(groups(n, k, spread))
    strengths = strength_map(s)
    counts = [
        len(clusters_at(s, t, strengths, damping=0.7, max_iter=400).exemplars) for t in np.linspace(0, 1, 9)
    ]
    assert counts[0] == 1
    assert counts[-1] == n
    assert counts == sorted(counts)
    for t, count in zip(np.linspace(0, 1, 9), counts, strict=True):
        assert n**t / 1.8 <= count <= n**t * 1.8 or count == k
    assert (np.diff(strengths.preferences) >= 0).all()


def test_sharpest_count_finds_the_groups() -> None:
    s = negative_squared_distances(groups(80, 7, 0.3))
    assert strength_map(s).sharpest_count(3, 20) == 7


@pytest.mark.parametrize("wanted", [(5, 10), (10, 10), (20, 40), (1, 1), (300, 300), (1, 300), (2, 3)])
def test_search_ends_in_the_range(wanted: tuple[int, int]) -> None:
    s = negative_squared_distances(groups(300, 10, 0.6))
    found = search_strength(s, wanted)
    assert found.in_range, found.warning
    assert wanted[0] <= len(found.result.exemplars) <= wanted[1]
    assert len(found.probes) <= 25
    again = clusters_at(s, found.strength, strength_map(s), max_iter=400)
    assert wanted[0] <= len(again.exemplars) <= wanted[1] or len(found.probes) > 1


def test_a_jump_over_the_range_is_told_with_both_sides() -> None:
    """Fifty points equally far from each other: one cluster or fifty, never 20..30."""
    found = search_strength(np.full((50, 50), -1.0), (20, 30))
    assert not found.in_range
    assert found.below is not None
    assert found.above is not None
    assert found.below.clusters < 20
    assert found.above.clusters > 30
    assert found.below.strength < found.above.strength
    assert len(found.result.exemplars) in (found.below.clusters, found.above.clusters)
    assert "20:30" in found.warning
    assert len(found.probes) <= 25


def test_an_end_that_is_nearer_is_taken_where_nothing_converged() -> None:
    """One iteration converges on nothing: 15 clusters and 1; all twenty need no run, and are nearer to 18."""
    s = negative_squared_distances(np.random.default_rng(0).normal(size=(20, 2)))
    found = search_strength(s, (18, 18), max_iter=1, max_probes=2)
    assert not any(p.converged or abs(p.clusters - 18) <= 2 for p in found.probes)
    assert len(found.result.exemplars) == 20
    assert not found.in_range


def test_probes_that_do_not_converge_tell_nothing() -> None:
    s = negative_squared_distances(groups(200, 10, 0.6))
    found = search_strength(s, (8, 12), max_iter=3, max_probes=6)
    assert len(found.probes) <= 6
    assert not found.in_range
    assert not any(p.converged for p in found.probes)
    assert found.warning


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(1, 60), st.integers(0, 10**6), st.data())
def test_search_always_ends(n: int, seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    s = (
        -rng.random((n, n))
        if seed % 2
        else negative_squared_distances(np.round(rng.standard_normal((n, 2)), 1))
    )
    low = data.draw(st.integers(1, n))
    high = data.draw(st.integers(low, n + 5))
    found = search_strength(s, (low, high))
    assert len(found.probes) <= 25
    count = len(found.result.exemplars)
    assert found.in_range == (low <= count <= high and found.result.converged)
    assert (found.warning == "") == found.in_range
    assert found.result.labels.shape == (n,)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 40, 200])
def test_a_search_without_a_range_takes_about_the_square_root(n: int) -> None:
    s = negative_squared_distances(groups(n, max(2, n // 14), 0.2))
    low, high = round(n**0.45), round(n**0.55)
    found = search_strength(s)
    assert found.in_range
    assert low <= len(found.result.exemplars) <= high
    if n == 200:  # fourteen groups: the start is their number, and no other in 11..18
        assert found.probes[0].strength == pytest.approx(np.log(14) / np.log(200))
        assert len(found.result.exemplars) == 14
        assert search_strength(s, start=11).probes[0].strength == pytest.approx(np.log(11) / np.log(200))


def test_a_search_without_a_range_asks_for_what_forbidden_pairs_allow() -> None:
    side = np.arange(60) % 15
    s = negative_squared_distances(groups(60, 3, 0.5))
    s[side[:, None] != side] = -np.inf
    found = search_strength(s)
    assert found.in_range
    assert 15 <= len(found.result.exemplars) <= round(15 * 60**0.1)


@pytest.mark.parametrize(
    "wanted", ["3:5", "35", 4, (3, 4, 5), (3,), (3, 5.5), ("3", "5"), {3: 5}, np.ones(2)]
)
def test_a_range_that_is_none_is_named(wanted: Any) -> None:
    s = negative_squared_distances(groups(20, 2, 0.5))
    with pytest.raises(ValueError, match=r"^clusters: expected two whole numbers \(min, max\).*got "):
        search_strength(s, wanted)


def test_bad_ranges_are_named() -> None:
    s = negative_squared_distances(groups(20, 2, 0.5))
    for wanted, message in (((0, 3), "0:3"), ((5, 3), "5:3"), ((21, 30), "at most 20")):
        with pytest.raises(ValueError, match=message):
            search_strength(s, wanted)
    with pytest.raises(TypeError, match=r"^max_probes: .*2\.5"):
        search_strength(s, (2, 3), max_probes=2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^start: .*'x'"):
        search_strength(s, (2, 3), start="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"1\.5"):
        strength_map(s).preference(1.5)
    with pytest.raises(ValueError, match="-0"):
        clusters_at(s, -0.1)
