"""What a set of embeddings is worth for clustering: retrieval, purity and AMI of affinity propagation.

For training only: scikit-learn's affinity propagation stands in for the product's own, so that networks can
be compared without it. Inputs are float (N, D), L2-normalized, and integer identities (N,).
"""

from __future__ import annotations

import warnings

import numpy as np


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9))


def retrieval(x: np.ndarray, identities: np.ndarray) -> float:
    """R-precision, 0..1: of a picture's R nearest, R being how many share its identity, those that do.

    Pictures whose identity is alone are left out.
    """
    near = x @ x.T
    np.fill_diagonal(near, -np.inf)
    order = np.argsort(-near, axis=1)
    same = identities[order] == identities[:, None]
    count = np.array([(identities == i).sum() - 1 for i in identities])
    scores = [same[i, :r].mean() for i, r in enumerate(count) if r > 0]
    return float(np.mean(scores))


def purity(clusters: np.ndarray, identities: np.ndarray) -> float:
    """Share of the pictures that belong to their cluster's majority identity, 0..1."""
    right = sum(
        np.unique(identities[clusters == c], return_counts=True)[1].max() for c in np.unique(clusters)
    )
    return float(right / len(clusters))


def clusters_of(x: np.ndarray, count: int, tries: int = 14) -> np.ndarray:
    """Affinity propagation (negative squared distances) to ``count`` clusters, or as near as it comes."""
    from sklearn.cluster import AffinityPropagation
    from sklearn.exceptions import ConvergenceWarning

    similarity = -(np.maximum(2 - 2 * (x @ x.T), 0)).astype(np.float64)
    # preferences spread over orders of magnitude, so they are bisected on a logarithmic scale
    low, high = np.log(1e-4), np.log(float(-similarity.min()) * len(x))
    best: np.ndarray | None = None
    for _ in range(tries):
        middle = (low + high) / 2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = AffinityPropagation(
                damping=0.8,
                max_iter=400,
                preference=-float(np.exp(middle)),
                affinity="precomputed",
                random_state=0,
            ).fit(similarity)
        n = len(found.cluster_centers_indices_)
        if n and (best is None or abs(n - count) < abs(best.max() + 1 - count)):
            best = found.labels_
        if n == count:
            break
        if n == 0 or n > count:
            low = middle
        else:
            high = middle
    return np.zeros(len(x), int) if best is None else best


def clustering(x: np.ndarray, identities: np.ndarray, count: int) -> dict[str, float]:
    """Purity, adjusted mutual information and compactness (clusters / pictures) near ``count`` clusters."""
    from sklearn.metrics import adjusted_mutual_info_score

    found = clusters_of(x, count)
    return {
        "clusters": int(found.max() + 1),
        "compactness": float((found.max() + 1) / len(x)),
        "purity": purity(found, identities),
        "ami": float(adjusted_mutual_info_score(identities, found)),
    }


def handmade(pictures: np.ndarray) -> np.ndarray:
    """The baseline, thumbnail, gradients and colour histogram: (N, 64, 64, 3) uint8 -> (N, D)."""
    x = pictures.astype(np.float32) / 255
    n = len(x)
    thumbnail = x.reshape(n, 16, 4, 16, 4, 3).mean((2, 4)).reshape(n, -1)
    grey = x.mean(3)
    dy, dx = np.gradient(grey, axis=(1, 2))
    strength = np.hypot(dx, dy)
    turn = ((np.arctan2(dy, dx) % np.pi) / np.pi * 9).astype(int).clip(0, 8)
    hog = np.stack(
        [np.where(turn == k, strength, 0).reshape(n, 8, 8, 8, 8).sum((2, 4)) for k in range(9)], -1
    )
    bins = (x * 3.999).astype(int) @ np.array([16, 4, 1])
    colours = np.stack([np.bincount(b.ravel(), minlength=64) for b in bins]).astype(np.float32)
    parts = [unit(p - p.mean(0)) for p in (thumbnail, hog.reshape(n, -1), np.sqrt(colours))]
    return unit(np.concatenate(parts, 1))
