"""How fast is affinity propagation? Against scikit-learn's, same process, same matrices, float32.

    python bench/affinity.py [--quick] [--json] [--only iterations|search|memory|falls ...]

- iterations: seconds per iteration for N = 500 to 10,000: the difference of a long and a short run, so that
  compiling, checks and the last step are out of it; and the bandwidth of a copy by as many threads. Ours
  reads S and A and writes A, 12 N^2 bytes (were R stored as well, it would be 20).
- search: from a matrix to a preference whose number of clusters lies in a range. Ours is ``search_strength``
  with all that it does. The other is the cheapest way found that a scikit-learn user could go: from its
  default, the median, the preference is doubled until there are too few clusters, then bisected, each run
  cold, at damping 0.9. (At its default damping, 0.5, and between R apcluster's bounds at either damping, it
  comes to N clusters at N = 5,000, "grouped", and the bisection goes astray for good.)
  "grouped": N unit vectors of 64 dimensions around 60 centres, as embeddings of characters lie (noise 0.7,
  sizes falling as 1/rank); "shapeless": the same without centres.
- memory: peak of the process above what it held with the similarity in memory, each in a process of its own.
- falls: how often the number of clusters falls between two strengths of which the second is larger.

``--only`` keeps the other figures of the results file as they are.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.cluster import affinity_propagation as scikit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, too

from bench.common import RESULTS, save
from kernels.affinity import cpu, search_strength, strength_map
from kernels.affinity.search import clusters_at
from kernels.similarity import negative_squared_distances

PARTS = ("iterations", "search", "memory", "falls")


def similarity(n: int, groups: int = 60, noise: float = 0.7, d: int = 64, seed: int = 0) -> np.ndarray:
    """(N, N) float32 of unit vectors around ``groups`` centres (0: around none)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) / math.sqrt(d)
    if groups:
        centres = rng.standard_normal((groups, d))
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        share = 1 / np.arange(1, groups + 1)
        x = centres[rng.choice(groups, n, p=share / share.sum())] + noise * x
    return negative_squared_distances((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32))


def seconds(job: Callable[[], Any]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def copy_bandwidth(n: int) -> float:
    """Bytes read and written in a second when all cores copy N^2 numbers: the median of nine."""
    cores = len(os.sched_getaffinity(0))
    source, target = np.ones((n, n), np.float32), np.zeros((n, n), np.float32)
    parts = list(itertools.pairwise(np.linspace(0, n, 16 + 1).astype(int)))
    with ThreadPoolExecutor(cores) as pool:

        def copy() -> None:
            list(pool.map(lambda part: np.copyto(target[slice(*part)], source[slice(*part)]), parts))

        copy()
        return 8 * n * n / statistics.median(seconds(copy) for _ in range(9))


_BEGIN = 40  # iterations after which the exemplars change little, and so the time of the last step


def iterations(n: int, rounds: int) -> dict[str, float]:
    """Seconds per iteration of both, in turns, and the share of a copy's bandwidth that ours reaches."""
    s = similarity(n)
    p = float(np.median(s[:: max(1, n // 500)]))
    many = max(40, min(2000, int(1e9 / n**2)))
    few = max(6, min(200, int(1.5e8 / n**2)))

    def ours(count: int) -> None:
        cpu.affinity_propagation(s, p, max_iter=count, convergence_iter=10**6, give_messages=False)

    def theirs(count: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it did not converge
            scikit(s, preference=p, max_iter=count, convergence_iter=few + 2, random_state=0)

    ours(_BEGIN)
    mine, other, share = [], [], []
    for _ in range(rounds):
        mine.append((seconds(lambda: ours(_BEGIN + many)) - seconds(lambda: ours(_BEGIN))) / many)
        other.append((seconds(lambda: theirs(few + 1)) - seconds(lambda: theirs(1))) / few)
        share.append(12 * n * n / mine[-1] / copy_bandwidth(n))
    one, two = statistics.median(mine), statistics.median(other)
    return {
        f"iteration_s_{n}": one,
        f"sklearn_iteration_s_{n}": two,
        f"iteration_ratio_{n}": two / one,
        f"copy_bandwidth_share_{n}": statistics.median(share),
    }


def bisect(s: np.ndarray, wanted: tuple[int, int], limit_s: float) -> tuple[int, int, int]:
    """(clusters, runs, runs that did not converge) of scikit-learn; see the module's docstring."""
    until = time.perf_counter() + limit_s
    low, high = -math.inf, float(np.median(s))
    preference = high
    count = failed = runs = 0
    while runs < 25 and time.perf_counter() < until:
        runs += 1
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            centres, _ = scikit(s, preference=preference, damping=0.9, random_state=0)
        failed += bool(said)
        count = len(centres)
        print(f"scikit-learn at preference {preference:.4g}: {count} clusters", file=sys.stderr)
        if wanted[0] <= count <= wanted[1]:
            break
        low, high = (preference, high) if count < wanted[0] else (low, preference)
        preference = 2 * high if low == -math.inf else (low + high) / 2
    return count, runs, failed


def search(n: int, label: str, groups: int, wanted: tuple[int, int], limit_s: float) -> dict[str, float]:
    s = similarity(n, groups)
    search_strength(s[:50, :50].copy(), (2, 5))  # compiles
    mine: list[float] = []
    cores: list[float] = []

    def ours(rounds: int) -> Any:
        for _ in range(rounds):
            start, used = time.perf_counter(), time.process_time()
            result = search_strength(s, wanted)
            mine.append(time.perf_counter() - start)
            cores.append(time.process_time() - used)
        return result

    found = ours(2)
    start, used = time.perf_counter(), time.process_time()
    count, runs, failed = bisect(s, wanted, limit_s)
    theirs, their_cores = time.perf_counter() - start, time.process_time() - used
    ours(2)
    inside = wanted[0] <= count <= wanted[1]
    return {
        f"search_s_{label}_{n}": statistics.median(mine),
        f"search_clusters_{label}_{n}": len(found.result.exemplars),
        f"search_in_range_{label}_{n}": float(found.in_range),
        f"search_probes_{label}_{n}": len(found.probes),
        f"sklearn_search_s_{label}_{n}": theirs,
        f"sklearn_search_clusters_{label}_{n}": count,
        f"sklearn_search_in_range_{label}_{n}": float(inside),
        f"sklearn_search_runs_{label}_{n}": runs,
        f"sklearn_search_runs_not_converged_{label}_{n}": failed,
        f"search_ratio_{label}_{n}": theirs / statistics.median(mine),
        f"search_ratio_of_core_seconds_{label}_{n}": their_cores / statistics.median(cores),
    }


def _peak(what: str, n: int) -> float:
    """Bytes of the process's peak above what it held before; to be run in a process of its own."""
    small = similarity(64)
    jobs: dict[str, Callable[[np.ndarray], Any]] = {
        "search": lambda s: search_strength(s, (50, 70)),
        "map": strength_map,
        "messages": lambda s: cpu.affinity_propagation(s, -20.0, max_iter=30),
    }
    jobs[what](np.concatenate([small] * 2, 1)[:64, :64].copy() if what != "search" else similarity(100))
    s = similarity(n)

    def status(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = status("VmRSS")
    jobs[what](s)
    return status("VmHWM") - before


def memory(n: int) -> dict[str, float]:
    figures = {}
    for what in ("search", "map", "messages"):
        command = [sys.executable, __file__, "--peak", what, str(n)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        figures[f"peak_bytes_per_n2_{what}"] = float(done.stdout) / n**2
    return figures


def falls(problems: int) -> dict[str, float]:
    """Over strengths 0, 0.05, ... 1, each run cold; pairs where a run did not converge are left out."""
    pairs = fell = 0
    for seed in range(problems):
        n = 200 + 20 * seed
        if seed % 5 == 4:  # no metric at all
            s = -np.random.default_rng(seed).random((n, n), np.float32)
            s += s.T
        else:
            s = similarity(n, (0, 5, 20, 60)[seed % 5], (0.4, 0.7, 1.0)[seed % 3], seed=seed)
        strengths = strength_map(s)
        runs = [clusters_at(s, t, strengths) for t in np.linspace(0, 1, 21)]
        for one, next_one in itertools.pairwise(runs):
            if one.converged and next_one.converged:
                pairs += 1
                fell += len(next_one.exemplars) < len(one.exemplars)
    return {"count_falls_share": fell / pairs, "count_falls_pairs": pairs}


def plot(figures: dict[str, float], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sizes = sorted(int(key.rsplit("_", 1)[1]) for key in figures if key.startswith("iteration_ratio_"))
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
    for label, key in (("scikit-learn", "sklearn_iteration_s"), ("celstream", "iteration_s")):
        left.loglog(sizes, [1000 * figures[f"{key}_{n}"] for n in sizes], "o-", label=label)
    for n in sizes:
        place = n, 1000 * figures[f"iteration_s_{n}"]
        text = f"{figures[f'iteration_ratio_{n}']:.1f}x"
        left.annotate(text, place, textcoords="offset points", xytext=(0, -15), ha="center")
    left.set_xticks(sizes, [f"{n:,}" for n in sizes])
    left.set_ylim(bottom=400 * min(figures[f"iteration_s_{n}"] for n in sizes))  # room for the labels
    left.minorticks_off()
    left.set(xlabel="points", ylabel="ms per iteration", title="One iteration, float32")
    left.legend()
    labels = [key for key in figures if key.startswith("search_ratio_") and key.count("_") == 3]
    for at, key in enumerate(labels):
        name = key.removeprefix("search_ratio_")
        theirs, mine = figures[f"sklearn_search_s_{name}"], figures[f"search_s_{name}"]
        right.bar([at - 0.2, at + 0.2], [theirs, mine], 0.4, color=["C0", "C1"])
        right.text(at + 0.2, mine * 1.1, f"{theirs / mine:.0f}x", ha="center")
    names = [key.removeprefix("search_ratio_").replace("_", ", N = ") for key in labels]
    right.set_xticks(range(len(labels)), names)
    right.set(yscale="log", ylabel="seconds", title="Search for a number of clusters")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer sizes and rounds; leaves no record")
    parser.add_argument("--json", action="store_true", help="print one flat object and nothing else")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--limit",
        type=float,
        default=3600,
        help="seconds after which no further run of scikit-learn's bisection begins; the ratio is then a "
        "lower bound, and sklearn_search_in_range is 0",
    )
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print(_peak(arguments.peak[0], int(arguments.peak[1])))
        return 0
    quick = arguments.quick
    path = RESULTS / "affinity.json"
    figures: dict[str, float] = {}
    if not quick and path.exists() and len(arguments.only) < len(PARTS):
        figures = json.loads(path.read_text())["figures"]
    if "iterations" in arguments.only:
        for n in (500, 1000, 2000, 5000) if quick else (500, 1000, 2000, 3500, 5000, 7000, 10000):
            figures |= iterations(n, 1 if quick else 2 if n > 5000 else 3)
        figures["copy_bandwidth_share"] = figures["copy_bandwidth_share_5000"]
        figures["bytes_per_n2_iteration"] = 12.0
    if "search" in arguments.only:
        n = 1500 if quick else 5000
        figures |= search(n, "grouped", 60, (50, 70), arguments.limit)
        figures |= search(1000, "shapeless", 0, (50, 70), arguments.limit)
        figures[f"search_ratio_{n}"] = figures[f"search_ratio_grouped_{n}"]
    if "memory" in arguments.only:
        figures |= memory(3000 if quick else 8000)
        figures["peak_bytes_per_n2"] = max(figures[f"peak_bytes_per_n2_{k}"] for k in ("search", "map"))
    if "falls" in arguments.only:
        figures |= falls(4 if quick else 24)
    figures = {key: float(f"{value:.4g}") for key, value in figures.items()}
    if arguments.json:
        print(json.dumps(figures))
    else:
        for key, value in figures.items():
            print(f"{key:48} {value:12.5g}")
    if save("affinity", figures, quick=quick) and {"iteration_ratio_5000", "search_ratio_5000"} <= set(
        figures
    ):
        plot(figures, RESULTS / "affinity.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
