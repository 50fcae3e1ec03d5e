"""Every public function: what it refuses and how it says so, odd sizes, dtypes, memory orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kernels.affinity import affinity_propagation, preference_range, search_strength, strength_map
from kernels.affinity.search import clusters_at
from kernels.similarity import negative_squared_distances

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "affinity_propagation": lambda s: affinity_propagation(s, -1.0),
    "reference": lambda s: affinity_propagation(s, -1.0, device="reference"),
    "preference_range": preference_range,
    "strength_map": strength_map,
    "clusters_at": lambda s: clusters_at(s, 0.5),
    "clusters_at 0": lambda s: clusters_at(s, 0.0),
    "search_strength": lambda s: search_strength(s, (1, 2)),
}


def spoilt(value: float) -> np.ndarray:
    s = -np.ones((4, 4))
    s[2, 1] = value
    return s


REFUSED: list[tuple[Any, type[Exception], str]] = [
    (np.zeros((3, 4)), ValueError, r"similarity: .*square matrix.*\(3, 4\)"),
    (np.zeros(3), ValueError, r"similarity: .*square matrix.*\(3,\)"),
    (np.zeros((2, 2, 2)), ValueError, r"similarity: .*square matrix.*\(2, 2, 2\)"),
    (np.zeros((0, 0)), ValueError, "similarity: .*at least one point.*empty"),
    (spoilt(np.nan), ValueError, r"similarity\[2, 1\]: .*finite.*nan"),
    (spoilt(np.inf), ValueError, r"similarity\[2, 1\]: .*finite.*inf"),
    (np.zeros((2, 2), complex), TypeError, "similarity: .*float32 or float64.*complex128"),
    ([["a", "b"], ["c", "d"]], TypeError, "similarity: .*float32 or float64"),
]


@pytest.mark.parametrize(("s", "kind", "message"), REFUSED)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_bad_similarity_is_named(name: str, s: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        FUNCTIONS[name](s)


S = negative_squared_distances(np.random.default_rng(0).standard_normal((20, 2)))
CALLS: list[tuple[Callable[[], Any], str]] = [
    (lambda: search_strength(S, (5, 3)), "min <= max, got 5:3"),
    (lambda: search_strength(S, (0, 3)), "1 <= min.*got 0:3"),
    (lambda: search_strength(S, (21, 30)), "at most 20, the number of points, got 21"),
    (lambda: search_strength(S, (2, 3), max_probes=0), "max_probes: .*at least 1, got 0"),
    (lambda: search_strength(S, (2, 3), threads=0), "threads: .*at least 1, got 0"),
    (lambda: search_strength(S, (2, 3), damping=0.4), "damping: .*got 0.4"),
    (lambda: search_strength(S, (2, 3), max_iter=0), "max_iter: .*got 0"),
    (lambda: search_strength(S, (2, 3), start=float("nan")), "start: .*nan"),
    (lambda: search_strength(S, (2, 3), strengths=strength_map(S[:9, :9])), "20 points, got one of 9"),
    (lambda: clusters_at(S, 1.01), r"0 <= strength <= 1, got 1\.01"),
    (lambda: clusters_at(S, -1e-9), "0 <= strength <= 1, got -1e-09"),
    (lambda: clusters_at(S, float("nan")), "0 <= strength <= 1, got nan"),
    (lambda: clusters_at(S, 0.5, strength_map(S[:9, :9])), "20 points, got one of 9"),
    (lambda: strength_map(S).preference(2), "0 <= strength <= 1, got 2"),
    (lambda: strength_map(S).strength_for(21), "1 <= clusters <= 20, got 21"),
    (lambda: strength_map(S).strength_for(0), "1 <= clusters <= 20, got 0"),
    (lambda: affinity_propagation(S, np.zeros(19)), r"one number or 20 of them, got shape \(19,\)"),
    (lambda: affinity_propagation(S, np.zeros((20, 1))), r"one number or 20 of them, got shape \(20, 1\)"),
    (lambda: affinity_propagation(S, -np.inf), "preference: .*finite.*-inf"),
    (lambda: affinity_propagation(S, -1, damping=float("nan")), "damping: .*nan"),
    (lambda: affinity_propagation(S, -1, device="tpu"), "device 'tpu': unknown"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "message"), CALLS)
def test_a_bad_argument_is_named(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def answers(s: np.ndarray) -> list[Any]:
    n = len(s)
    strengths = strength_map(s)
    run = affinity_propagation(s, -2.0)
    found = search_strength(s, (max(1, n // 8), max(1, n // 4)))
    return [
        preference_range(s), strengths.preferences.tolist(), strengths.order.tolist(),
        run.exemplars.tolist(), run.labels.tolist(), run.n_iter, run.net_similarity,
        found.strength, found.result.labels.tolist(), len(found.probes),
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 2, 3, 17, 31, 33, 127, 400])
def test_memory_order_and_read_only_do_not_matter(n: int, dtype: str) -> None:
    s = negative_squared_distances(np.random.default_rng(n).standard_normal((n, 3)).astype(dtype))
    expected = answers(s)
    fixed = s.copy()
    fixed.flags.writeable = False
    strided = np.zeros((2 * n, 3 * n), dtype)[::2, ::3]
    strided[:] = s
    big_endian = s.astype(s.dtype.newbyteorder(">"))
    for other in (np.asfortranarray(s), fixed, strided, big_endian):
        kept = other.copy()
        assert answers(other) == expected
        assert (other == kept).all()


def test_whole_numbers_are_computed_in_float64() -> None:
    s = np.round(10 * S)
    assert answers(s.astype(np.int32)) == answers(s)
