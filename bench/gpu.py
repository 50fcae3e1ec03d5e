"""Everything that needs a GPU, in one call: what the device can do at best, and what our kernels reach of it.

Now: affinity propagation. The exemplars on the GPU against those on the CPU; then time per iteration at N =
10,000, 50,000 and 100,000 as a share of the copy bandwidth measured just before (12 N^2 bytes an iteration in
float32, 10 N^2 for a similarity held in float16), and whole runs. Needs CuPy and scikit-learn; what cannot be
run is named and skipped, and without a GPU nothing is left. Ends within 8 minutes.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.common import save
from kernels.affinity import affinity_propagation

Array = Any
Figures = dict[str, Any]
GIB = 2**30
DIMENSIONS = 64
PREFERENCE = -12.0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The shortest of some runs on the device."""
    import cupy

    best = float("inf")
    for _ in range(repeats + 1):  # the first one warms up
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        work()
        stop.record()
        stop.synchronize()
        best = min(best, cupy.cuda.get_elapsed_time(start, stop) / 1e3)
    return best


def limits() -> Figures:
    """The device's name, and what a plain copy and a matrix product reach on it."""
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    free, total = cupy.cuda.runtime.memGetInfo()
    size = min(4 * GIB, free // 4)
    source = cupy.ones(size // 4, cupy.float32)
    target = cupy.empty_like(source)
    copy = 2 * source.nbytes / seconds(functools.partial(cupy.copyto, target, source), 10)
    del source, target
    side = 8192
    factor = cupy.random.standard_normal((side, side), dtype=cupy.float32).astype(cupy.float16)
    rate = 2 * side**3 / seconds(lambda: factor @ factor, 5)
    release()
    return {
        "device": properties["name"].decode(),
        "memory_gib": round(total / GIB, 1),
        "cupy": cupy.__version__,
        "driver_cuda": cupy.cuda.runtime.driverGetVersion(),
        "copy_gb_per_s": round(copy / 1e9, 1),
        "matrix_fp16_tflop_per_s": round(rate / 1e12, 1),
    }


def release() -> None:
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()


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
                say(f"{name} {dtype}: {here.n_iter} iterations on the CPU, {there.n_iter} on the GPU")
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


def speed(n: int, dtype: str, copy_rate: float, quick: bool) -> Figures:
    """Time per iteration (looks at the exemplars included), its share of the copy bandwidth, a whole run."""
    import cupy

    from kernels.affinity.cuda import Solver

    release()
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


def search(n: int) -> Figures:
    """A whole search of the default range: the strength map, then probe after probe on the device."""
    from kernels.affinity import search_strength
    from kernels.affinity.cuda import Solver

    release()
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


def sizes(quick: bool) -> list[tuple[int, str, str]]:
    """(N, dtype, why it is skipped or nothing)."""
    import cupy

    release()
    free = cupy.cuda.runtime.memGetInfo()[0]
    wanted = [(10_000, "float32"), (25_001, "float32"), (50_000, "float32"), (50_000, "float16")]
    if not quick:
        wanted += [(100_000, "float32"), (100_000, "float16")]
    plans = []
    for n, dtype in wanted:
        need = (4 + np.dtype(dtype).itemsize) * n * n + 2 * GIB
        reason = f"needs {need / GIB:.0f} GiB, {free / GIB:.0f} are free" if need > free else ""
        plans.append((n, dtype, reason))
    return plans


def measure(quick: bool) -> tuple[Figures, list[str]]:
    """All figures, and what was skipped."""
    from kernels.affinity._gpu import CupyDevice

    try:
        CupyDevice()
    except RuntimeError as error:
        return {}, [f"everything: {error}"]
    figures, skipped = limits(), []
    say(f"{figures['device']}: copies {figures['copy_gb_per_s']} GB/s")
    try:
        figures |= agreement()
    except ImportError as error:
        skipped.append(f"agreement with the CPU: {error}")
    for n, dtype, reason in sizes(quick):
        if not reason:
            try:
                figures |= speed(n, dtype, 1e9 * figures["copy_gb_per_s"], quick)
                if dtype == "float32" and n <= 50_000:
                    figures |= search(n)
                say(f"N = {n:,}, {dtype}: done")
            except MemoryError as error:
                reason = str(error)
        if reason:
            skipped.append(f"N = {n:,} in {dtype}: {reason}")
    return figures, skipped


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="up to N = 50,000, shorter; leaves no record")
    parser.add_argument("--json", action="store_true", help="print one flat object and nothing else")
    arguments = parser.parse_args()
    figures, skipped = measure(arguments.quick)
    for line in skipped:
        say(f"skipped {line}")
    if arguments.json:
        print(json.dumps({**figures, "skipped": skipped}))
    else:
        for key, value in figures.items():
            print(f"{key:40} {value}")
    if figures:
        save("gpu", {**figures, "skipped": skipped}, quick=arguments.quick)
    return 0 if figures.get("same_as_cpu", True) else 1


if __name__ == "__main__":
    sys.exit(main())
