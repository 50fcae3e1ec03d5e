"""Does clustering with little memory find what clustering over all pairs finds, and how does it grow?

On real embeddings, those of the crops of a work folder (``celstream run`` with a short interval makes one):
N = 20,000 crops over all pairs against the same with a fifth of the memory (agreement as adjusted mutual
information, peak resident memory above the start), each in a process of its own. Then two levels in
256 MiB at N = 50,000 and 200,000 (crops drawn again with a little noise where there are too few): seconds,
peak memory, and the exponent of the growth between the two.

    python bench/clustering.py WORKDIR [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, too

from bench.common import save

SEED = 0


def draw(folder: Path, n: int, out: Path) -> None:
    """n embeddings of the work folder in order of time, drawn without replacement as far as they go."""
    from stream.workdir import WorkFolder

    with WorkFolder.open(folder, create=False) as opened:
        x = opened.crops().embeddings
    assert x is not None
    rng = np.random.default_rng(SEED)
    if n <= len(x):
        x = x[np.sort(rng.choice(len(x), n, replace=False))]
    else:
        again = np.sort(rng.choice(len(x), n))
        # of the size of the difference between neighbouring frames, so that no two are the same
        x = x[again] + (0.2 / math.sqrt(x.shape[1])) * rng.standard_normal((n, x.shape[1]), dtype=np.float32)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    np.save(out, x.astype(np.float32))


def one(path: Path, memory_mb: float | None) -> dict[str, Any]:
    """Cluster a file of embeddings here; peak memory above what is held before."""
    from stream.clustering import cluster_embeddings
    from stream.config import ClusterConfig

    warm = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    for memory in (1, 0.5, 0.05):  # all three ways are compiled and imported
        cluster_embeddings(warm, config=ClusterConfig(memory_mb=memory, clusters=(100, 120)))
    x = np.load(path)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    began = time.perf_counter()
    config = ClusterConfig(memory_mb=memory_mb)
    found = cluster_embeddings(x, times=np.arange(len(x), dtype=np.float64), config=config)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    np.save(path.with_suffix(".labels.npy"), found.labels)
    return {
        "seconds": round(seconds, 1),
        "peak_bytes": peak,
        "bytes_above_start": max(0, peak - before),
        "clusters": len(found.exemplars),
        "converged": found.converged,
        "method": found.method,
    }


def apart(path: Path, memory_mb: float | None) -> dict[str, Any]:
    """:func:`one` in a process of its own."""
    command = [sys.executable, __file__, "--one", str(path), str(memory_mb or "")]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(answer.stdout)
    print(f"{path.stem} {memory_mb or ''}: {result}", file=sys.stderr, flush=True)
    return result


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(Path(sys.argv[2]), float(sys.argv[3]) if sys.argv[3] else None)))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", type=Path, help="a work folder with real crops")
    parser.add_argument("--quick", action="store_true", help="a fifth of the points")
    parser.add_argument("--json", action="store_true", help="print one flat object")
    args = parser.parse_args()
    from stream.evaluate import ami

    part = 5 if args.quick else 1
    figures: dict[str, Any] = {"points": 20_000 // part}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        few = place / "few.npy"
        draw(args.workdir, 20_000 // part, few)
        matrices = 8 * (20_000 // part) ** 2 / 2**20
        dense = apart(few, matrices * 1.01)
        labels = np.load(place / "few.labels.npy")
        fifth = apart(few, matrices * 0.175)
        figures["ami_with_a_fifth_of_the_memory"] = round(
            ami(labels, np.load(place / "few.labels.npy").astype(str)), 4
        )
        figures["memory_ratio"] = round(fifth["bytes_above_start"] / dense["bytes_above_start"], 3)
        for name, result in (("dense", dense), ("fifth", fifth)):
            figures |= {f"{name}_{key}": value for key, value in result.items()}
        sizes = (50_000 // part, 200_000 // part)
        grown = []
        for n in sizes:
            draw(args.workdir, n, place / f"n{n}.npy")
            grown.append(apart(place / f"n{n}.npy", 256.0))
            figures |= {f"n{n}_{key}": value for key, value in grown[-1].items()}
        ratio = grown[1]["seconds"] / max(0.1, grown[0]["seconds"])
        figures["growth_exponent"] = round(math.log(ratio) / math.log(sizes[1] / sizes[0]), 3)
    save("clustering", figures, quick=args.quick)
    print(json.dumps(figures) if args.json else json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
