"""Similarities between embeddings, for affinity propagation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.floating[Any]]


def _check(name: str, x: ArrayLike) -> FloatArray:
    array = np.asarray(x)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: expected float32 or float64, got {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{name}: expected (N, D), got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
    return array


def negative_squared_distances(x: ArrayLike, y: ArrayLike | None = None, *, xp: Any = np) -> FloatArray:
    """s(i, k) = -||x_i - y_k||^2, the similarity of Frey & Dueck (2007).

    Computed as 2 x.y - x.x - y.y by one matrix product, so each value is exact to about D rounding errors
    of the vectors' squared length; never above 0, and exactly 0 on the diagonal where ``y`` is None.

    Args:
        x: (N, D) float32 or float64.
        y: (K, D) of the same dtype; None takes ``x`` itself.
        xp: what computes and holds the result: ``numpy``, or ``cupy`` for the current GPU.

    Returns:
        (N, K) C-ordered array of ``xp``, in the dtype of ``x``.

    Raises:
        TypeError: not float32 or float64. ValueError: not two axes, unlike widths, NaN or infinity.
    """
    x = _check("x", x)
    itself = y is None
    y = x if y is None else _check("y", y)
    if x.shape[1] != y.shape[1] or x.dtype != y.dtype:
        raise ValueError(f"y: expected {x.dtype} (K, {x.shape[1]}), got {y.dtype} {y.shape}")
    ours: Any = xp.asarray(x)
    theirs: Any = ours if itself else xp.asarray(y)
    s: FloatArray = ours @ theirs.T
    s *= 2
    s -= xp.einsum("id,id->i", ours, ours)[:, None]
    s -= xp.einsum("kd,kd->k", theirs, theirs)[None, :]
    xp.minimum(s, 0, out=s)
    if itself:
        xp.fill_diagonal(s, 0)
    return s


def weighted_similarity(x: ArrayLike, weights: ArrayLike, *, xp: Any = np) -> FloatArray:
    """s(i, k) = -w_i ||x_i - x_k||^2: point i counts as w_i equal ones.

    Affinity propagation over w_i copies of every x_i maximizes the same sum as over the single points with
    rows scaled so (the copies share their exemplar). Not symmetric unless all weights are equal.

    Args:
        x: (N, D) float32 or float64.
        weights: (N,) positive numbers. Raising a point's weight draws exemplars towards it.
        xp: as for :func:`negative_squared_distances`.

    Raises:
        As :func:`negative_squared_distances`; ``ValueError`` for weights of another length or not positive.
    """
    s = negative_squared_distances(x, xp=xp)
    w = np.asarray(weights, dtype=s.dtype)
    if w.shape != (s.shape[0],):
        raise ValueError(f"weights: expected ({s.shape[0]},), got shape {w.shape}")
    if not (np.isfinite(w).all() and (w > 0).all()):
        raise ValueError(f"weights: expected positive numbers, got a minimum of {w.min()}")
    s *= xp.asarray(w)[:, None]
    return s
