"""Similarities against the definition."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.affinity import affinity_propagation
from kernels.similarity import negative_squared_distances, weighted_similarity


@pytest.mark.parametrize(("n", "d"), [(1, 1), (2, 3), (33, 7), (127, 64)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_negative_squared_distances(n: int, d: int, dtype: str) -> None:
    x = np.random.default_rng(n).standard_normal((n, d)).astype(dtype)
    expected = -((x[:, None].astype(np.float64) - x[None]) ** 2).sum(-1)
    s = negative_squared_distances(x)
    assert s.dtype == dtype
    np.testing.assert_allclose(s, expected, atol=1e-4 if dtype == "float32" else 1e-11)
    assert (s <= 0).all()
    assert (np.diagonal(s) == 0).all()
    y = x[::2] + 1
    np.testing.assert_allclose(
        negative_squared_distances(x, y), -((x[:, None] - y[None]) ** 2).sum(-1), atol=1e-3
    )


def test_a_weight_of_three_is_three_equal_points() -> None:
    """The weighted problem has the exemplars and the net similarity of the one with copies."""
    rng = np.random.default_rng(0)
    x = np.array([[0.0, 0], [9, 0], [0, 9]])[np.arange(30) % 3] + rng.standard_normal((30, 2))
    weights = rng.integers(1, 4, 30)
    single = affinity_propagation(weighted_similarity(x, weights), -20.0, damping=0.8, max_iter=2000)
    source = np.repeat(np.arange(30), weights)
    copies = affinity_propagation(negative_squared_distances(x[source]), -20.0, damping=0.8, max_iter=2000)
    assert single.converged
    assert copies.converged
    # each is the best that messages find for one and the same sum, not always the same set
    assert single.net_similarity == pytest.approx(copies.net_similarity, rel=0.05)
    same = single.labels[:, None] == single.labels[None, :]
    first = np.searchsorted(source, np.arange(30))
    together = copies.labels[first][:, None] == copies.labels[first][None, :]
    assert (same == together).mean() > 0.9


def test_bad_input_is_named() -> None:
    with pytest.raises(TypeError, match="int64"):
        negative_squared_distances(np.zeros((2, 2), int))
    with pytest.raises(ValueError, match=r"\(2,\)"):
        negative_squared_distances(np.zeros(2))
    with pytest.raises(ValueError, match="NaN"):
        negative_squared_distances(np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match=r"\(K, 2\)"):
        negative_squared_distances(np.zeros((2, 2)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="positive"):
        weighted_similarity(np.zeros((2, 2)), [1, 0])
