"""Affinity propagation on CPU cores: one pass over memory per iteration.

A row of the new availabilities follows from the row's responsibilities, its old availabilities and the
column sums of the last pass; its two largest sums with the similarities give the new responsibilities,
whose positive parts feed the next column sums. So an iteration reads S, R, A once and writes R, A once:
20 N^2 bytes in float32. Memory above S: 8 N^2 bytes + O(N).
"""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.affinity.contract import (
    AffinityResult,
    FloatArray,
    Messages,
    Problem,
    check_problem,
    finish,
    trivial,
)
from kernels.affinity.watch import Watch

# Rows are cut into this many parts whatever the number of threads, so that sums and therefore results do
# not depend on it.
_PARTS = 16
# Below this many points one thread is faster than handing out the work.
_PARALLEL_FROM = 500


def _threads(threads: int | None) -> int:
    if threads is not None and threads < 1:
        raise ValueError(f"threads: expected at least 1, got {threads}")
    if threads is None:
        may_use = getattr(os, "sched_getaffinity", None)  # Linux: also what a container allows
        threads = len(may_use(0)) if may_use else os.cpu_count() or 1
    return threads


class _Passes:
    """The state between two passes, and the work of one."""

    def __init__(self, problem: Problem, messages: Messages, pool: ThreadPoolExecutor | None) -> None:
        from kernels.affinity._fused import kernels

        n, dtype = problem.similarity.shape[0], problem.similarity.dtype
        self.problem = problem
        self.r: FloatArray = messages.responsibility
        self.a: FloatArray = messages.availability
        self.number = dtype.type
        self.pool = pool
        self.pass_rows, self.availability_rows = kernels(str(dtype))
        bounds = np.linspace(0, n, min(n, _PARTS) + 1).astype(int).tolist()
        self.parts = list(itertools.pairwise(bounds))
        self.scratch = np.empty((len(self.parts), 2, n), dtype)
        self.sums = np.empty((len(self.parts), n), np.float64)
        self.own = np.empty(n, dtype)
        self._begin()

    def _begin(self) -> None:
        self.others = np.zeros_like(self.own)
        self.column = np.zeros_like(self.own)
        self.own_availability = self.a.diagonal().copy()
        self.keep = 1.0  # the first pass takes the availabilities as they are

    def restart(self) -> None:
        """Forget all messages."""
        self.r.fill(0)
        self.a.fill(0)
        self._begin()

    def _each(self, work: Any) -> None:
        if self.pool is None:
            for part in range(len(self.parts)):
                work(part)
        else:
            list(self.pool.map(work, range(len(self.parts))))

    def _one(self, part: int) -> None:
        start, stop = self.parts[part]
        m, block = self.scratch[part]
        p, number = self.problem, self.number
        self.pass_rows(
            p.similarity, self.r, self.a, p.perturbed, self.column, self.others, number(p.floor),
            number(self.keep), number(self.damping), start, stop, m, block, self.sums[part], self.own,
        )  # fmt: skip

    def iterate(self, damping: float) -> NDArray[np.bool_]:
        """One iteration; the (N,) flags a(k,k) + r(k,k) > 0 after it."""
        self.damping = damping
        self._each(self._one)
        self.keep = damping
        others = self.sums.sum(axis=0)
        self.others = others.astype(self.own.dtype)
        self.column = (others + self.own).astype(self.own.dtype)
        d = self.number(damping)
        self.own_availability = d * self.own_availability + (self.number(1) - d) * self.others
        return self.own_availability + self.own > 0

    def messages(self) -> Messages:
        """Both messages of the last iteration (the availabilities lag half an iteration behind)."""
        d = self.number(self.keep)
        if self.keep < 1:
            self._each(
                lambda part: self.availability_rows(
                    self.r, self.a, self.column, self.others, d, *self.parts[part]
                )
            )
        return Messages(self.r, self.a)


def _start(problem: Problem, warm_start: Messages | None, overwrite: bool) -> Messages:
    shape, dtype = problem.similarity.shape, problem.similarity.dtype
    if warm_start is None:
        return Messages(np.zeros(shape, dtype), np.zeros(shape, dtype))

    def own(array: FloatArray) -> FloatArray:
        if overwrite and array.flags.c_contiguous and array.flags.writeable and array.flags.aligned:
            return array
        return np.array(array, order="C")

    return Messages(own(warm_start.responsibility), own(warm_start.availability))


def affinity_propagation(
    similarity: ArrayLike,
    preference: ArrayLike,
    *,
    damping: float = 0.5,
    max_iter: int = 200,
    convergence_iter: int = 15,
    warm_start: Messages | None = None,
    seed: int = 0,
    overwrite_warm_start: bool = False,
    threads: int | None = None,
) -> AffinityResult:
    """Cluster by message passing; see :func:`kernels.affinity.affinity_propagation` for the contract.

    Args beyond it:
        overwrite_warm_start: continue in the memory of ``warm_start``, whose numbers are lost.
        threads: cores to use; None takes all. The result does not depend on it.
    """
    problem = check_problem(similarity, preference, damping, max_iter, convergence_iter, warm_start, seed)
    n = problem.similarity.shape[0]
    cores = _threads(threads)
    messages = _start(problem, warm_start, overwrite_warm_start)
    known = trivial(problem)
    if known is not None:
        return finish(
            problem, known, messages, n_iter=0, converged=True, damping=damping, asked_damping=damping
        )
    pool = ThreadPoolExecutor(min(cores, _PARTS)) if cores > 1 and n >= _PARALLEL_FROM else None
    try:
        passes = _Passes(problem, messages, pool)
        watch = Watch(problem, damping, convergence_iter)
        converged = False
        while watch.n_iter < max_iter and not converged:
            if watch.restart:
                passes.restart()
            converged = watch.update(passes.iterate(watch.damping))
        messages = passes.messages()
    finally:
        if pool is not None:
            pool.shutdown()
    return finish(
        problem,
        np.flatnonzero(watch.exemplars),
        messages,
        n_iter=watch.n_iter,
        converged=converged,
        damping=watch.damping,
        asked_damping=damping,
    )
