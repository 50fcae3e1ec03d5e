"""A thousand random problems of fourteen kinds, most of them unkind: valid answers, nearly all converged."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from kernels.affinity import affinity_propagation, preference_range, strength_map
from kernels.affinity.search import clusters_at
from kernels.similarity import negative_squared_distances

KINDS = (
    "uniform", "symmetric", "integers", "levels", "points", "duplicates", "grid", "forbidden", "directed",
    "groups", "tight", "noise", "chain", "ring",
)  # fmt: skip


def _matrix(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    if kind in ("uniform", "symmetric", "integers", "levels"):  # no metric, and ties
        s = -rng.random((n, n))
        if kind != "uniform":
            s = s + s.T
        if kind == "integers":
            s = np.round(s * rng.integers(2, 20))
        return -np.round(-3 * np.log10(1e-9 - s)) if kind == "levels" else s
    x = rng.standard_normal((n, int(rng.integers(1, 9))))
    if kind == "duplicates":
        x = x[rng.integers(0, max(1, n // 4), n)]
    elif kind == "grid":
        x = np.round(x)
    elif kind in ("groups", "tight", "noise"):
        d = int(rng.integers(2, 65))
        centres = rng.standard_normal((int(rng.integers(1, n // 4 + 2)), d))
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        spread = {"groups": 0.6, "tight": 0.1, "noise": 1.5}[kind]
        x = centres[rng.integers(0, len(centres), n)] + spread * rng.standard_normal((n, d)) / np.sqrt(d)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    elif kind == "chain":
        x = np.cumsum(rng.choice([0, 1]) * rng.random((n, 1)) + 0.1, axis=0)
    elif kind == "ring":
        turn = 2 * np.pi * np.arange(n) / n
        x = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    s = negative_squared_distances(x)
    if kind == "forbidden":
        apart = rng.random((n, n)) < 0.1
        s[apart | apart.T] = -np.inf
    if kind == "directed":
        s = s * rng.uniform(0.3, 3, (n, 1)) - rng.uniform(0, 2, (n, n))
    return s


def random_problem(seed: int) -> tuple[np.ndarray, float]:
    """Similarity (N, N), 2 <= N <= 400, of any size of numbers and either dtype, and a preference."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 401)) if seed % 2 else int(np.exp(rng.uniform(np.log(2), np.log(401))))
    s = _matrix(KINDS[seed % len(KINDS)], n, rng)
    s = (s * 10.0 ** rng.integers(-6, 7)).astype(rng.choice(["float32", "float64"]))
    off = s[~np.eye(n, dtype=bool)]
    off = off[np.isfinite(off)]
    if not len(off):
        return s, -1.0
    if seed % 3 == 0 and n > 2:
        return s, strength_map(s).preference(rng.random())
    return s, float(rng.choice([1, 3]) * np.quantile(off, rng.random()))


def check(seeds: range) -> None:
    failed: Counter[str] = Counter()
    for seed in seeds:
        s, preference = random_problem(seed)
        n = len(s)
        found = affinity_propagation(s, preference)
        k = len(found.exemplars)
        assert 1 <= k <= n
        assert (np.diff(found.exemplars) > 0).all()
        assert (found.labels[found.exemplars] == np.arange(k)).all()
        assert np.bincount(found.labels, minlength=k).min() >= 1
        assert np.isfinite(found.net_similarity)
        assert found.messages is not None
        assert np.isfinite(found.messages.responsibility).all()
        assert np.isfinite(found.messages.availability).all()
        assert found.converged == (found.warning == "")
        if not found.converged:
            failed[KINDS[seed % len(KINDS)]] += 1
            assert "raise max_iter or damping" in found.warning
    assert sum(failed.values()) <= 0.01 * len(seeds), failed


def test_random_problems_converge() -> None:
    check(range(300))


@pytest.mark.slow
def test_a_thousand_random_problems_converge() -> None:
    check(range(300, 1300))


def test_the_count_seldom_falls_while_the_strength_rises() -> None:
    pairs = fell = 0
    for seed in range(28):
        s, _ = random_problem(2 * seed + 1)
        if not 3 <= len(s) <= 200 or preference_range(s)[0] == preference_range(s)[1]:
            continue
        strengths = strength_map(s)
        runs = [clusters_at(s, t, strengths) for t in np.linspace(0, 1, 9)]
        for one, two in itertools.pairwise(runs):
            if one.converged and two.converged:
                pairs += 1
                fell += len(two.exemplars) < len(one.exemplars)
    assert pairs > 60
    assert fell <= 0.05 * pairs
