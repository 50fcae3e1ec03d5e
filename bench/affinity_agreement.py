"""Does affinity propagation end where scikit-learn's does, and how soon does it converge?

- sameness: random problems (blobs, moons, normal points; N = 40 to 400; preference the median and the 5 %
  quantile) at three dampings: exemplars unlike scikit-learn's, among those that it solves in its 200
  iterations whatever its random state; and of these, those with a worse net similarity.
- convergence: random problems, a quarter of them plain noise, a quarter full of ties: share that converges
  within 200, 400 and 1,000 iterations.

    python bench/affinity_agreement.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AffinityPropagation
from sklearn.datasets import make_blobs, make_moons

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, too

from bench.common import save
from kernels.affinity import affinity_propagation

Matrix = NDArray[np.float64]


def similarity(x: Matrix) -> Matrix:
    return np.asarray(-((x[:, None] - x[None]) ** 2).sum(-1))


def problems(count: int) -> Iterator[Matrix]:
    """Three for each of ``count`` seeds."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(40, 400))
        yield similarity(make_blobs(n, centers=int(rng.integers(2, 9)), random_state=seed)[0])
        yield similarity(make_moons(n, noise=0.07, random_state=seed)[0])
        yield similarity(rng.standard_normal((n, 3)))


def peer(s: Matrix, preference: float, damping: float) -> list[int] | None:
    """scikit-learn's exemplars, None where it does not converge or its random state decides."""
    found = []
    for state in (0, 1):
        fit = AffinityPropagation(
            affinity="precomputed", damping=damping, preference=preference, random_state=state
        ).fit(s)
        found.append(sorted(int(k) for k in fit.cluster_centers_indices_))
        if fit.n_iter_ >= 200 or not found[-1]:
            return None
    return found[0] if found[0] == found[1] else None


def net_similarity(s: Matrix, exemplars: list[int], preference: float) -> float:
    best = s[:, exemplars].max(axis=1)
    best[exemplars] = preference
    return float(best.sum())


def sameness(count: int) -> dict[str, int]:
    """Per damping: problems that scikit-learn solves, other exemplars here, and worse ones."""
    figures: dict[str, int] = {}
    for damping in (0.5, 0.7, 0.9):
        solved = unlike = worse = 0
        for s in problems(count):
            for preference in (float(np.median(s)), float(np.quantile(s, 0.05))):
                expected = peer(s, preference, damping)
                if expected is None:
                    continue
                solved += 1
                found = affinity_propagation(s, preference, damping=damping)
                if found.exemplars.tolist() != expected:
                    unlike += 1
                    theirs = net_similarity(s, expected, preference)
                    worse += found.net_similarity < theirs - 1e-9 * abs(theirs)
        figures |= {f"solved_{damping}": solved, f"unlike_{damping}": unlike, f"worse_{damping}": worse}
    return figures


def convergence(count: int) -> dict[str, float]:
    """Share of random problems that converge within so many iterations."""
    taken = []
    for k in range(count):
        rng = np.random.default_rng(90_000 + k)
        n = int(rng.integers(2, 300))
        if k % 4 == 1:
            s = rng.random((n, n))
        elif k % 4 == 2:
            s = similarity(rng.integers(0, 4, (n, 2)).astype(float))
        else:
            x = rng.standard_normal((n, 3 if k % 4 == 0 else 8))
            x[: n // 2] += 4 * (k % 4 == 3)
            s = similarity(x)
            s *= rng.uniform(0.5, 1.5, (n, 1)) if k % 4 == 3 else 1
        found = affinity_propagation(s, float(np.quantile(s, rng.random())))
        taken.append(found.n_iter if found.converged else np.inf)
    return {
        f"converged_within_{limit}": float(np.mean(np.array(taken) <= limit)) for limit in (200, 400, 1000)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the problems; leaves no record")
    parser.add_argument("--json", action="store_true", help="print one flat object and nothing else")
    args = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the peer did not converge
        found = {**sameness(4 if args.quick else 40), **convergence(300 if args.quick else 3000)}
    save("affinity_agreement", found, quick=args.quick)
    print(json.dumps(found) if args.json else "\n".join(f"{k:24} {v}" for k, v in found.items()))


if __name__ == "__main__":
    main()
