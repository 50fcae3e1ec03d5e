"""Affinity propagation in NumPy, the equations as they stand (Frey & Dueck 2007); the rest is held to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from kernels.affinity.contract import AffinityResult, FloatArray, Messages, check_problem
from kernels.affinity.finish import finish, trivial
from kernels.affinity.watch import Watch


def responsibilities(s: FloatArray, a: FloatArray) -> FloatArray:
    """r(i,k) = s(i,k) - max over k' != k of [a(i,k') + s(i,k')], all (N, N)."""
    points = np.arange(len(s))
    m = a + s
    best = np.argmax(m, axis=1)
    first = m[points, best]
    m[points, best] = -np.inf
    second = m.max(axis=1)
    r = s - first[:, None]
    r[points, best] = s[points, best] - second
    return r


def availabilities(r: FloatArray) -> FloatArray:
    """a(i,k) = min(0, r(k,k) + sum over i' not in {i,k} of max(0, r(i',k))); a(k,k) = that sum, i' != k."""
    diagonal = np.arange(len(r))
    positive = np.maximum(r, 0)
    positive[diagonal, diagonal] = 0
    others = positive.sum(axis=0)
    a = np.minimum(0, r[diagonal, diagonal] + others - positive)
    a[diagonal, diagonal] = others
    return a


def affinity_propagation(
    similarity: ArrayLike,
    preference: ArrayLike,
    *,
    damping: float = 0.5,
    max_iter: int = 1000,
    convergence_iter: int = 15,
    warm_start: Messages | None = None,
    seed: int = 0,
) -> AffinityResult:
    """Cluster by message passing; see :func:`kernels.affinity.affinity_propagation` for the contract."""
    problem = check_problem(similarity, preference, damping, max_iter, convergence_iter, warm_start, seed)
    n = problem.similarity.shape[0]
    dtype = problem.similarity.dtype
    diagonal = np.arange(n)
    r = warm_start.responsibility.copy() if warm_start else np.zeros((n, n), dtype)
    a = warm_start.availability.copy() if warm_start else np.zeros((n, n), dtype)
    known = trivial(problem)
    if known is not None:
        return finish(
            problem, known, Messages(r, a), n_iter=0, converged=True, damping=damping, asked_damping=damping
        )
    s = np.maximum(problem.similarity, dtype.type(problem.floor))
    s[diagonal, diagonal] = problem.perturbed
    watch = Watch(problem, damping, convergence_iter)
    converged = False
    while watch.n_iter < max_iter and not converged:
        if watch.restart:
            r[:], a[:] = 0, 0
        old, new = dtype.type(watch.damping), dtype.type(1 - watch.damping)
        r = old * r + new * responsibilities(s, a)
        a = old * a + new * availabilities(r)
        converged = watch.update(a[diagonal, diagonal] + r[diagonal, diagonal] > 0)
    return finish(
        problem,
        np.flatnonzero(watch.exemplars),
        Messages(r, a),
        n_iter=watch.n_iter,
        converged=converged,
        damping=watch.damping,
        asked_damping=damping,
    )
