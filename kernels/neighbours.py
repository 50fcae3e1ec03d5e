"""Nearest neighbours by brute force: exact, in blocks, no index to build or tune."""

from __future__ import annotations

import functools
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.compiled import thread_count
from kernels.similarity import negative_squared_distances

Floats = NDArray[np.float32]
_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class Neighbours:
    """The M nearest other points of each of N points.

    Attributes:
        index: (N, M) int32, ascending in each row, never the point itself.
        similarity: (N, M) float32, -||x_i - x_k||^2 of each.
    """

    index: NDArray[np.int32]
    similarity: Floats

    def __repr__(self) -> str:
        return f"Neighbours({self.index.shape[1]} of each of {self.index.shape[0]} points)"


def nearest_neighbours(x: ArrayLike, count: int, *, threads: int | None = None) -> Neighbours:
    """The ``count`` nearest other points of every point, by all N^2 distances a block of rows at a time.

    Time N^2 D, memory 8 N x ``count`` bytes and some blocks of 8 MiB.

    Args:
        x: (N, D) float32.
        count: 1 <= count <= N - 1. Raising it takes memory and time in proportion.
        threads: of the selection; None takes all cores.

    Raises:
        ValueError: ``count`` out of range, or what :func:`negative_squared_distances` refuses.
    """
    points = np.ascontiguousarray(x, dtype=np.float32)
    n = len(points)
    if not 1 <= count <= n - 1:
        raise ValueError(f"count: expected 1 <= count <= {n - 1}, the number of other points, got {count}")
    index = np.empty((n, count), np.int32)
    similarity = np.empty((n, count), np.float32)
    cores = thread_count(threads)
    rows = max(cores, _BLOCK_BYTES // (4 * n))

    def select(block: Floats, start: int, part: slice) -> None:
        near = np.argpartition(block[part], n - count, axis=1)[:, n - count :]
        near.sort(axis=1)
        here = slice(start + part.start, start + part.stop)
        index[here] = near
        similarity[here] = np.take_along_axis(block[part], near, axis=1)

    with ThreadPoolExecutor(cores) as pool:
        for start in range(0, n, rows):
            block = negative_squared_distances(points[start : start + rows], points)
            inside = np.arange(len(block))
            block[inside, inside + start] = -np.inf
            bounds = np.linspace(0, len(block), cores + 1).astype(int)
            parts = [slice(int(a), int(b)) for a, b in itertools.pairwise(bounds)]
            list(pool.map(functools.partial(select, block, start), parts))
    return Neighbours(index, similarity)
