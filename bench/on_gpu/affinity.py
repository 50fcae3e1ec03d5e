"""Affinity propagation on the device: the CPU's exemplars, and how near it is to the copy bandwidth.

12 N^2 bytes an iteration in float32 (the similarity and both messages), 10 N^2 for a similarity held in
float16.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.on_gpu.place import GIB, Array, Figures, Place, Skipped
from kernels.affinity import affinity_propagation

DIMENSIONS = 64
PREFERENCE = -12.0


def problems() -> dict[str, np.ndarray]:
    """Small similarities of several kinds, in float64."""
    from sklearn.datasets import load_digits, load_iris, make_blobs, make_moons

    def similarity(x: np.ndarray) -> np.ndarray:
        square = (x**2).sum(axis=1)
        return 2 * x @ x.T - square[:, None] - square[None, :]

    rng = np.random.default_rng(5)
    blobs = similarity(make_blobs(333, centers=7, n_features=4, random_state=5)[0])
    return {
        "blobs": blobs,
        "moons": similarity(make_moons(250, noise=0.07, random_state=0)[0]),
        "iris": similarity(load_iris().data),
        "digits": similarity(load_digits().data + rng.normal(0, 1e-3, (1797, 64))),  # no equal similarities
        "asymmetric": blobs * rng.uniform(0.6, 1.4, (333, 1)) - rng.uniform(0, 5, (333, 333)),
    }


def agreement() -> Figures:
    """For each problem and dtype: the same exemplars, labels and number of iterations as on the CPU."""
    figures: Figures = {}
    for name, exact in problems().items():
        for dtype in ("float32", "float64"):
            s = exact.astype(dtype)
            p = float(np.median(s))
            here = affinity_propagation(s, p, device="cpu")
            there = affinity_propagation(s, p, device="cuda")
            same = (
                here.converged
                and here.exemplars.tolist() == there.exemplars.tolist()
                and here.labels.tolist() == there.labels.tolist()
            )
            figures[f"same_{name}_{dtype}"] = same
            if here.n_iter != there.n_iter:
                said = f"{name} {dtype}: {here.n_iter} iterations on the CPU, {there.n_iter} on the GPU"
                print(said, file=sys.stderr)
    figures["same_as_cpu"] = all(figures.values())
    return figures


def embeddings(n: int) -> Array:
    """(N, 64) float32 unit vectors around N / 100 centres."""
    import cupy

    rng = cupy.random.default_rng(0)
    centres = rng.standard_normal((max(2, n // 100), DIMENSIONS), dtype=cupy.float32)
    centres /= cupy.linalg.norm(centres, axis=1, keepdims=True)
    x = centres[rng.integers(0, len(centres), n)]
    x += 0.5 / DIMENSIONS**0.5 * rng.standard_normal((n, DIMENSIONS), dtype=cupy.float32)
    return x / cupy.linalg.norm(x, axis=1, keepdims=True)


def similarity_of(x: Array, dtype: str) -> Array:
    """(N, N) negative squared distances of unit vectors, in blocks of rows."""
    import cupy

    n = len(x)
    s = cupy.empty((n, n), dtype)
    for start in range(0, n, 1024):
        s[start : start + 1024] = 2 * (x[start : start + 1024] @ x.T) - 2
    return s


def timed_run(solver: Any, iterations: int) -> float:
    import cupy

    start = time.perf_counter()
    solver.solve(PREFERENCE, damping=0.9, max_iter=iterations, convergence_iter=10 * iterations)
    cupy.cuda.Device().synchronize()
    return time.perf_counter() - start


def speed(place: Place, n: int, dtype: str, copy_rate: float, quick: bool) -> Figures:
    """Time per iteration (looks at the exemplars included), its share of the copy bandwidth, a whole run."""
    import cupy

    from kernels.affinity.cuda import Solver

    place.release()
    solver = Solver(similarity_of(embeddings(n), dtype))
    key = f"{n}" if dtype == "float32" else f"{n}_{dtype}"
    few, many = (10, 40) if n > 50_000 or quick else (20, 120)
    timed_run(solver, few)
    per_iteration = min((timed_run(solver, many) - timed_run(solver, few)) / (many - few) for _ in range(3))
    moved = (8 + np.dtype(dtype).itemsize) * n * n
    figures: Figures = {
        f"iteration_ms_{key}": round(1e3 * per_iteration, 4),
        f"copy_bandwidth_share_{key}": round(moved / per_iteration / copy_rate, 4),
        f"peak_bytes_per_n2_{key}": round(cupy.get_default_memory_pool().total_bytes() / n**2, 2),
    }
    start = time.perf_counter()
    result = solver.solve(PREFERENCE, damping=0.9, max_iter=400)
    figures |= {
        f"run_s_{key}": round(time.perf_counter() - start, 3),
        f"run_iterations_{key}": result.n_iter,
        f"run_converged_{key}": result.converged,
        f"run_clusters_{key}": len(result.exemplars),
    }
    return figures


def search(place: Place, n: int) -> Figures:
    """A whole search of the default range: the strength map, then probe after probe on the device."""
    from kernels.affinity import search_strength
    from kernels.affinity.cuda import Solver

    place.release()
    s = similarity_of(embeddings(n), "float32")
    start = time.perf_counter()
    strengths = Solver(s).strengths()
    mapped = time.perf_counter() - start
    found = search_strength(s, strengths=strengths, damping=0.9)
    return {
        f"strength_map_s_{n}": round(mapped, 3),
        f"search_s_{n}": round(time.perf_counter() - start, 3),
        f"search_probes_{n}": len(found.probes),
        f"search_clusters_{n}": len(found.result.exemplars),
        f"search_in_range_{n}": found.in_range,
    }


def sizes(place: Place, quick: bool) -> list[tuple[int, str, str]]:
    """(N, dtype, why it is skipped or nothing)."""
    place.release()
    free = place.free_bytes()
    wanted = [(10_000, "float32"), (25_001, "float32"), (50_000, "float32"), (50_000, "float16")]
    if not quick:
        wanted += [(100_000, "float32"), (100_000, "float16")]
    plans = []
    for n, dtype in wanted:
        need = (4 + np.dtype(dtype).itemsize) * n * n + 2 * GIB
        reason = f"needs {need / GIB:.0f} GiB, {free / GIB:.0f} are free" if need > free else ""
        plans.append((n, dtype, reason))
    return plans


def affinity(place: Place, limits: Figures, quick: bool) -> Iterator[Figures]:
    """Agreement with the CPU, then the sizes that the device holds.

    Raises:
        Skipped: a rehearsal; the tests run these kernels on the host. A size that does not fit is told in
            ``skipped_<N>``.
    """
    if place.rehearsal:
        raise Skipped("affinity propagation on the device has no rehearsal; tests emulate it")
    try:
        yield agreement()
    except ImportError as error:
        yield {"skipped_agreement": f"agreement with the CPU: {error}"}
    for n, dtype, reason in sizes(place, quick):
        if not reason:
            try:
                yield speed(place, n, dtype, 1e9 * limits["copy_gb_per_s"], quick)
                if dtype == "float32" and n <= 50_000:
                    yield search(place, n)
            except MemoryError as error:
                reason = str(error)
        if reason:
            yield {f"skipped_{n}_{dtype}": f"N = {n:,} in {dtype}: {reason}"}
