"""Nearest neighbours against all distances in float64."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from kernels import neighbours
from kernels.neighbours import nearest_neighbours


@pytest.mark.parametrize(
    ("n", "count", "threads"), [(2, 1, 1), (3, 2, None), (33, 5, 2), (500, 499, 3), (800, 40, 2)]
)
def test_they_are_the_nearest(n: int, count: int, threads: int | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(neighbours, "_BLOCK_BYTES", 4 * n * 130)  # more than one block
    x = np.random.default_rng(n).normal(size=(n, 24)).astype(np.float32)
    found = nearest_neighbours(x, count, threads=threads)
    assert found.index.shape == found.similarity.shape == (n, count)
    s = -cdist(x, x, "sqeuclidean")
    np.fill_diagonal(s, -np.inf)
    want = np.sort(np.argsort(-s, axis=1)[:, :count], axis=1)
    assert np.array_equal(found.index, want)
    np.testing.assert_allclose(found.similarity, np.take_along_axis(s, want, 1), rtol=1e-4, atol=1e-4)


def test_duplicates_are_neighbours_and_a_point_is_not_its_own():
    x = np.ones((7, 3), np.float32)
    found = nearest_neighbours(x, 3)
    assert (found.index != np.arange(7)[:, None]).all()
    assert (found.similarity == 0).all()
    assert repr(found) == "Neighbours(3 of each of 7 points)"


@pytest.mark.parametrize("count", [0, 5])
def test_a_count_out_of_range_is_named(count: int):
    with pytest.raises(ValueError, match=f"count: expected 1 <= count <= 4, .*got {count}"):
        nearest_neighbours(np.zeros((5, 2), np.float32), count)
