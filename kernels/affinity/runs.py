"""Runs of affinity propagation at one strength after the other, over one similarity in one memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from kernels.affinity.contract import AffinityResult, FloatArray, Messages, Problem, Scan, check_problem
from kernels.affinity.finish import finish
from kernels.affinity.strength import StrengthMap

if TYPE_CHECKING:
    from kernels.affinity.cuda import Solver

# Stands for messages that the solver keeps where they are.
KEPT = Messages(np.empty((0, 0)), np.empty((0, 0)))


class Run(Protocol):
    """One run at a strength, the ends 0 and 1 included, going on from ``warm`` where it is not None.

    ``warm`` is what an earlier result had as its messages; the search does not look into it.
    """

    def __call__(
        self, strength: float, damping: float, max_iter: int, warm: Messages | None
    ) -> AffinityResult: ...


def at_the_end(problem: Problem, strength: float) -> AffinityResult:
    """Strength 0 (the best single exemplar, or as few as are allowed) or 1 (every point), without a run."""
    exemplars = np.arange(len(problem.similarity) if strength >= 1 else 0)
    return finish(problem, exemplars, None, n_iter=0, converged=True, damping=0.5, asked_damping=0.5)


@contextlib.contextmanager
def dense_runs(
    s: FloatArray,
    strengths: StrengthMap,
    convergence_iter: int = 15,
    *,
    seed: int = 0,
    threads: int | None = None,
    scanned: Scan | None = None,
) -> Iterator[Run]:
    """Runs over one checked similarity for :func:`search` and :func:`settle`, with one memory."""
    from kernels.affinity.cpu import Solver

    with Solver(s, seed=seed, threads=threads, scanned=scanned) as solver:

        def run(strength: float, damping: float, max_iter: int, warm: Messages | None) -> AffinityResult:
            p = strengths.preference(strength)
            if not 0 < strength < 1 or len(s) == 1:
                problem = check_problem(
                    s, p, damping, max_iter, convergence_iter, None, seed, scanned=solver.scanned
                )  # fmt: skip
                return at_the_end(problem, strength)
            result = solver.solve(
                p, damping=damping, max_iter=max_iter, convergence_iter=convergence_iter,
                go_on=warm is not None,
            )  # fmt: skip
            return replace(result, messages=KEPT)

        yield run


def cuda_runs(solver: Solver, strengths: StrengthMap, convergence_iter: int = 15) -> Run:
    """Runs on a GPU, in the memory of its solver; exemplars and labels are NumPy arrays."""

    def run(strength: float, damping: float, max_iter: int, warm: Messages | None) -> AffinityResult:
        p = strengths.preference(strength)
        if not 0 < strength < 1 or solver.matrix.n == 1:
            solution = solver.matrix.settle(p, damping, max_iter, convergence_iter, None, solver.seed)
            exemplars = np.arange(solver.matrix.n if strength >= 1 else 0)
            return solution.finish(
                exemplars, None, n_iter=0, converged=True, damping=0.5, asked_damping=0.5
            )  # fmt: skip
        result = solver.solve(
            p, damping=damping, max_iter=max_iter, convergence_iter=convergence_iter, go_on=warm is not None
        )
        return replace(result, messages=KEPT)

    return run
