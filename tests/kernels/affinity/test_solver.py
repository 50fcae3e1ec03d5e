"""Responsibilities that are not stored, and a solver that goes from one preference to the next."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from kernels.affinity import Messages, affinity_propagation, cpu
from kernels.affinity.contract import check_problem
from kernels.affinity.cpu import Solver, _Passes
from kernels.affinity.reference import availabilities, responsibilities
from kernels.similarity import negative_squared_distances


def points(n: int, seed: int = 0) -> np.ndarray:
    return negative_squared_distances(np.random.default_rng(seed).standard_normal((n, 3)))


def equations(s: np.ndarray, r: np.ndarray, a: np.ndarray, dampings: list[float]) -> Messages:
    for d in dampings:
        r = d * r + (1 - d) * responsibilities(s, a)
        a = d * a + (1 - d) * availabilities(r)
    return Messages(r, a)


@pytest.mark.parametrize("forbidden", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_the_messages_are_those_of_the_equations(
    monkeypatch: pytest.MonkeyPatch, given: bool, forbidden: bool
) -> None:
    """Also where the damping changes on the way, rows list many entries, and messages are given at first."""
    monkeypatch.setattr(cpu, "_ENTRIES", 1)
    n = 90
    rng = np.random.default_rng(1)
    s = -rng.random((n, n))
    if forbidden:
        s[rng.random((n, n)) < 0.1] = -np.inf
    problem = check_problem(s, -0.9, 0.5, 1, 1, None, 0)
    full = np.maximum(s, problem.floor)
    np.fill_diagonal(full, problem.perturbed)
    r, a = np.zeros((n, n)), np.zeros((n, n))
    if given:
        r, a = rng.standard_normal((n, n)), -rng.random((n, n))
    dampings = [0.5] * 9 + [0.9] * 25 + [0.97] * 25 + [0.6] * 3
    expected = equations(full, r, a, dampings)
    passes = _Passes(problem.similarity, problem.floor, a.copy())
    if given:
        passes.restart(r)
    for d in dampings:
        flags = passes.iterate(d, problem.perturbed)
    assert passes.where.shape[1] > 2  # the lists have grown
    found = passes.messages()
    np.testing.assert_allclose(found.responsibility, expected.responsibility, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.availability, expected.availability, rtol=1e-9, atol=1e-9)
    assert (flags == (expected.responsibility + expected.availability).diagonal().__gt__(0)).all()


def test_going_on_is_a_warm_start() -> None:
    s = points(400)
    with Solver(s) as solver:
        first = solver.solve(-5.0)
        on = solver.solve(-9.0, go_on=True)
        again = solver.solve(-9.0)
        assert first.messages is None
    start = affinity_propagation(s, -5.0)
    warm = affinity_propagation(s, -9.0, warm_start=start.messages)
    cold = affinity_propagation(s, -9.0)
    assert first.exemplars.tolist() == start.exemplars.tolist()
    assert on.exemplars.tolist() == warm.exemplars.tolist()
    assert on.n_iter == warm.n_iter < cold.n_iter
    assert again.exemplars.tolist() == cold.exemplars.tolist()
    assert again.n_iter == cold.n_iter


@pytest.mark.parametrize("overwrite", [False, True])
def test_given_messages_are_kept_unless_told(overwrite: bool) -> None:
    s = points(100)
    start = affinity_propagation(s, -5.0).messages
    assert start is not None
    kept = Messages(start.responsibility.copy(), start.availability.copy())
    with Solver(s) as solver:
        found = solver.solve(-9.0, warm_start=start, overwrite_warm_start=overwrite, give_messages=True)
    same = (start.responsibility == kept.responsibility).all() and (
        start.availability == kept.availability
    ).all()
    assert same != overwrite
    assert found.messages is not None
    assert np.shares_memory(found.messages.responsibility, start.responsibility) == overwrite
    plain = affinity_propagation(s, -9.0, warm_start=kept)
    assert plain.messages is not None
    np.testing.assert_array_equal(found.messages.responsibility, plain.messages.responsibility)


def test_memory_is_that_of_the_availabilities() -> None:
    n = 1500
    s = points(n).astype(np.float32)
    with Solver(s[:50, :50]) as solver:
        solver.solve(-5.0)  # compiles
    peaks = []
    for give in (False, True):
        tracemalloc.start()
        with Solver(s) as solver:
            solver.solve(-5.0, max_iter=20, give_messages=give)
        peaks.append(tracemalloc.get_traced_memory()[1] / n**2)
        tracemalloc.stop()
    assert peaks[0] < 4 + (18 << 20) / n**2  # and blocks of 8 MiB
    assert peaks[1] < 8 + (18 << 20) / n**2
    assert peaks[1] > peaks[0]
