"""Affinity propagation on CPU cores: one pass over memory per iteration, responsibilities not stored.

A row of the new availabilities follows from the row's responsibilities, its old availabilities and the
column sums of the last pass; its two largest sums with the similarities give the new responsibilities,
whose positive parts feed the next column sums. Damped responsibilities are a multiple of the similarities
less one number per row, but for a few entries per row (see :mod:`kernels.affinity._fused`), so an iteration
reads S and A once and writes A once: 12 N^2 bytes in float32. Memory above S: 4 N^2 bytes + O(N), and as much
again only where the messages are given out.

What was tried, at N = 5,000 on two cores (``bench/affinity.py`` has the figures of today):

- R stored too (20 N^2 bytes): 27 ms an iteration. Not stored: 12 ms, at nine tenths of a copy's bandwidth.
- One running maximum for a row does not vectorize (1.9 ns a number on one core); 512 running ones do (0.8).
- S in half precision (10 N^2 bytes): of nine runs (three sorts of data, three strengths) the exemplars of
  four changed, with float16 as with bfloat16. Not kept.
- A in half precision (8 N^2 bytes): one run of nine changed, with float16 as with bfloat16. Not kept either.
- S recomputed from embeddings of 64 dimensions: the matrix product alone takes longer than the iteration.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.affinity.contract import (
    AffinityResult,
    FloatArray,
    Messages,
    Problem,
    Scan,
    check_problem,
    check_similarity,
    scan,
)
from kernels.affinity.finish import finish, trivial
from kernels.affinity.watch import Watch

# Rows are cut into this many parts whatever the number of threads, so that sums and therefore results do
# not depend on it.
_PARTS = 16
_ROWS = 64  # in a part at least
# Entries of a row's list at first; twice as many when it is full, which is seldom.
_ENTRIES = 8
# Below this many points one thread is faster than handing out the work.
_PARALLEL_FROM = 300


class _Passes:
    """The messages between two passes, and the work of one."""

    def __init__(
        self, similarity: FloatArray, floor: float, availability: FloatArray,
        pool: ThreadPoolExecutor | None = None, cores: int = 1,
    ) -> None:  # fmt: skip
        from kernels.affinity._fused import kernels, lanes

        n, dtype = similarity.shape[0], similarity.dtype
        self.s = similarity
        self.a = availability
        self.r0: FloatArray | None = None
        self.number = dtype.type
        self.floor = self.number(floor)
        self.pool = pool
        self.cores = cores
        self.kernels = kernels(str(dtype))
        bounds = np.linspace(0, n, min(max(n // _ROWS, 1), _PARTS) + 1).astype(int).tolist()
        self.parts = list(itertools.pairwise(bounds))
        self.scratch = np.empty((len(self.parts), 2, n), dtype)
        self.maxima = np.empty((len(self.parts), 2, lanes(n)), dtype)
        self.sums = np.empty((len(self.parts), n), np.float64)
        self.where = np.zeros((n, _ENTRIES), np.int32)
        self.extra = np.zeros((n, _ENTRIES), dtype)
        self._begin()

    def _begin(self) -> None:
        """As if all responsibilities were 0, and the availabilities what they are."""
        n = len(self.s)
        self.own = np.zeros(n, self.number)
        self.others = np.zeros(n, self.number)
        self.column = np.zeros(n, self.number)
        self.shift = np.zeros(n, np.float64)
        self.used = np.zeros(n, np.int32)
        self.scale = self.weight = 0.0
        self.own_availability = self.a.diagonal().copy()
        self.keep = 1.0  # the first pass takes the availabilities as they are

    def restart(self, responsibility: FloatArray | None = None) -> None:
        """Forget all messages; or go on from given responsibilities and the availabilities as they are."""
        if responsibility is None:
            self.a.fill(0)
        self._begin()
        self.r0 = responsibility
        if responsibility is not None:
            self.weight = 1.0
            self.own = responsibility.diagonal().copy()

    def _each(self, work: Callable[[int], None]) -> None:
        if self.pool is None:
            for part in range(len(self.parts)):
                work(part)
        else:
            queue = iter(range(len(self.parts)))  # handing out each part as a task of its own takes longer

            def some(_: int) -> None:
                for part in queue:
                    work(part)

            list(self.pool.map(some, range(self.cores)))

    @property
    def _lists(self) -> tuple[Any, ...]:
        return self.shift, self.where, self.extra, self.used

    @property
    def _given(self) -> FloatArray:
        return self.s if self.r0 is None else self.r0  # not read where its weight is 0

    def iterate(self, damping: float, preference: FloatArray) -> NDArray[np.bool_]:
        """One iteration; the (N,) flags a(k,k) + r(k,k) > 0 after it."""
        number = self.number
        if int(self.used.max()) == self.where.shape[1]:  # a pass adds at most one entry to a row
            width = self.where.shape[1]
            self.where = np.pad(self.where, ((0, 0), (0, width)))
            self.extra = np.pad(self.extra, ((0, 0), (0, width)))
        weight = damping * self.weight
        if weight < float(np.finfo(number).eps) / 8:
            weight = 0.0
        scale = damping * self.scale + (1 - damping)
        weights = number(self.weight), number(weight)
        scales = number(self.scale), number(scale)

        def rows(part: int) -> None:
            x, block = self.scratch[part]
            self.kernels.pass_rows(
                self.s, self.a, self._given, weights, scales, number(self.keep), number(damping), self.floor,
                preference, self.column, self.others, *self.parts[part], *self._lists, self.own, x, block,
                self.maxima[part], self.sums[part],
            )  # fmt: skip

        self._each(rows)
        self.keep, self.scale, self.weight = damping, scale, weight
        if weight == 0:
            self.r0 = None
        others = self.sums.sum(axis=0)
        self.others = others.astype(number)
        self.column = (others + self.own).astype(number)
        d = number(damping)
        self.own_availability = d * self.own_availability + (number(1) - d) * self.others
        flags: NDArray[np.bool_] = self.own_availability + self.own > 0
        return flags

    def messages(self, out: FloatArray | None = None) -> Messages:
        """Both messages of the last iteration written out, the responsibilities into ``out``."""
        number = self.number
        r = np.empty_like(self.s, order="C") if out is None else out
        given, weight, scale = self._given, number(self.weight), number(self.scale)

        def rows(part: int) -> None:
            x = self.scratch[part, 0]
            if self.keep < 1:  # the availabilities lag half an iteration behind
                self.kernels.availability_rows(
                    self.s, self.a, given, weight, scale, number(self.keep), self.floor, self.column,
                    self.others, *self.parts[part], *self._lists, x, self.maxima[part],
                )  # fmt: skip
            self.kernels.responsibility_rows(
                self.s, r, given, weight, scale, self.floor, *self.parts[part], *self._lists, self.own
            )

        self._each(rows)
        return Messages(r, self.a)


class Solver:
    """Affinity propagation over one similarity, at one preference after the other.

    The similarity is checked once, memory and threads are kept, and every run can go on from the last
    one's messages. Close it, or use it in a ``with`` statement.

    Args:
        similarity, seed: see :func:`kernels.affinity.affinity_propagation`.
        threads: cores to use; None takes all. The result does not depend on it.
        scanned: :func:`kernels.affinity.contract.scan` of the same similarity, where it is known.
    """

    def __init__(
        self, similarity: ArrayLike, *, seed: int = 0, threads: int | None = None, scanned: Scan | None = None
    ) -> None:
        from kernels.compiled import thread_count  # imports numba

        self.similarity = check_similarity(similarity)
        self.scanned = scanned or scan(self.similarity)
        self.seed = seed
        self._cores = min(thread_count(threads), _PARTS)
        parallel = self._cores > 1 and len(self.similarity) >= _PARALLEL_FROM
        self._pool = ThreadPoolExecutor(self._cores) if parallel else None
        self._passes: _Passes | None = None
        self._spare: FloatArray | None = None  # memory for responsibilities

    def __enter__(self) -> Solver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the threads and let go of the messages."""
        if self._pool is not None:
            self._pool.shutdown()
        self._passes = self._pool = None

    def _begin(self, problem: Problem, warm_start: Messages | None, overwrite: bool, go_on: bool) -> _Passes:
        def own(array: FloatArray) -> FloatArray:
            if overwrite and array.flags.c_contiguous and array.flags.writeable and array.flags.aligned:
                return array
            return np.array(array, order="C")

        if self._passes is None or warm_start is not None:
            a = np.zeros(self.similarity.shape, self.similarity.dtype)
            if warm_start is not None:
                a = own(warm_start.availability)
            self._passes = _Passes(self.similarity, problem.floor, a, self._pool, self._cores)
            if warm_start is not None:
                r0 = own(warm_start.responsibility) if overwrite else warm_start.responsibility
                r0 = np.require(r0, requirements=["C", "A"])
                self._passes.restart(r0)
                self._spare = r0 if overwrite else None
        elif not go_on:
            self._passes.restart()
        self._passes.floor = self._passes.number(problem.floor)
        return self._passes

    def solve(
        self,
        preference: ArrayLike,
        *,
        damping: float = 0.5,
        max_iter: int = 1000,
        convergence_iter: int = 15,
        warm_start: Messages | None = None,
        overwrite_warm_start: bool = False,
        go_on: bool = False,
        give_messages: bool = False,
    ) -> AffinityResult:
        """One run; see :func:`kernels.affinity.affinity_propagation`.

        Args beyond it:
            go_on: start from the last run's messages, if there was one.
            give_messages: write the messages out; they share memory with the solver, so it is to be closed.
            overwrite_warm_start: continue in the memory of ``warm_start``, whose numbers are lost.
        """
        problem = check_problem(
            self.similarity, preference, damping, max_iter, convergence_iter, warm_start, self.seed,
            scanned=self.scanned,
        )  # fmt: skip
        known = trivial(problem)
        if known is not None:
            messages = warm_start
            if messages is None and give_messages:
                messages = Messages(*(np.zeros_like(problem.similarity, order="C") for _ in range(2)))
            return finish(
                problem, known, messages, n_iter=0, converged=True, damping=damping, asked_damping=damping
            )
        passes = self._begin(problem, warm_start, overwrite_warm_start, go_on)
        watch = Watch(problem, damping, convergence_iter)
        converged = False
        while watch.n_iter < max_iter and not converged:
            if watch.restart:
                passes.restart()
            converged = watch.update(passes.iterate(watch.damping, problem.perturbed))
        return finish(
            problem,
            np.flatnonzero(watch.exemplars),
            passes.messages(self._spare) if give_messages else None,
            n_iter=watch.n_iter,
            converged=converged,
            damping=watch.damping,
            asked_damping=damping,
        )


def affinity_propagation(
    similarity: ArrayLike,
    preference: ArrayLike,
    *,
    damping: float = 0.5,
    max_iter: int = 1000,
    convergence_iter: int = 15,
    warm_start: Messages | None = None,
    seed: int = 0,
    overwrite_warm_start: bool = False,
    give_messages: bool = True,
    threads: int | None = None,
) -> AffinityResult:
    """Cluster by message passing; see :func:`kernels.affinity.affinity_propagation` for the contract.

    Args beyond it:
        overwrite_warm_start: continue in the memory of ``warm_start``, whose numbers are lost.
        give_messages: False leaves ``messages`` None, and with it saves half of the memory.
        threads: cores to use; None takes all. The result does not depend on it.
    """
    with Solver(similarity, seed=seed, threads=threads) as solver:
        return solver.solve(
            preference, damping=damping, max_iter=max_iter, convergence_iter=convergence_iter,
            warm_start=warm_start, overwrite_warm_start=overwrite_warm_start, give_messages=give_messages,
        )  # fmt: skip
