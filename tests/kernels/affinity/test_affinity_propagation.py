"""Affinity propagation against scikit-learn, over odd sizes and inputs, and on problems made to break it."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.cluster import affinity_propagation as sklearn_ap
from sklearn.datasets import load_digits, load_iris, make_blobs, make_moons

from kernels.affinity import AffinityResult, Messages, affinity_propagation
from kernels.affinity import cpu as cpu_module
from kernels.affinity.contract import check_problem
from kernels.affinity.watch import MAX_DAMPING, Watch, plausible, premature
from kernels.similarity import negative_squared_distances

DEVICES = ["reference", "cpu"]


def similarity(x: np.ndarray) -> np.ndarray:
    return -((x[:, None, :] - x[None, :, :]) ** 2).sum(axis=-1)


def asymmetric(n: int = 200) -> np.ndarray:
    rng = np.random.default_rng(5)
    s = similarity(make_blobs(n, centers=7, n_features=4, random_state=5)[0])
    return s * rng.uniform(0.6, 1.4, (n, 1)) - rng.uniform(0, 5, (n, n))


SETS: dict[str, Any] = {
    "blobs": lambda: similarity(make_blobs(300, centers=5, random_state=1)[0]),
    "moons": lambda: similarity(make_moons(250, noise=0.07, random_state=0)[0]),
    "iris": lambda: similarity(load_iris().data),
    "asymmetric": asymmetric,
}


def scikit(s: np.ndarray, preference: float, damping: float) -> tuple[np.ndarray, np.ndarray, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it must converge, or the comparison says nothing
        return sklearn_ap(
            s.copy(),
            preference=preference,
            damping=damping,
            max_iter=1000,
            return_n_iter=True,
            random_state=0,
        )


def check_valid(result: AffinityResult, n: int) -> None:
    k = len(result.exemplars)
    assert 1 <= k <= n
    assert (np.diff(result.exemplars) > 0).all()
    assert result.labels.shape == (n,)
    assert result.labels.min() >= 0
    assert result.labels.max() < k
    assert (result.labels[result.exemplars] == np.arange(k)).all()
    assert np.isfinite(result.net_similarity)
    assert result.messages is not None
    assert np.isfinite(result.messages.responsibility).all()
    assert np.isfinite(result.messages.availability).all()
    assert result.converged == (result.warning == "")


@pytest.mark.parametrize("damping", [0.5, 0.9])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", SETS)
def test_same_as_scikit_learn(name: str, device: Any, dtype: str, damping: float) -> None:
    s = SETS[name]()
    p = float(np.median(s))
    exemplars, labels, n_iter = scikit(s, p, damping)
    result = affinity_propagation(s.astype(dtype), p, damping=damping, max_iter=1000, device=device)
    assert result.converged
    assert result.damping == damping
    assert result.exemplars.tolist() == exemplars.tolist()
    assert result.labels.tolist() == labels.tolist()
    assert result.n_iter == n_iter


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_as_scikit_learn_on_digits(dtype: str) -> None:
    """Pixels are whole numbers, so some points are equally similar to two exemplars: either is right."""
    x = load_digits().data
    square = (x**2).sum(1)
    s = 2 * x @ x.T - square[:, None] - square[None, :]
    p = float(np.median(s))
    exemplars, labels, _ = scikit(s, p, 0.5)
    result = affinity_propagation(s.astype(dtype), p, max_iter=1000)
    assert result.exemplars.tolist() == exemplars.tolist()
    other = np.flatnonzero(result.labels != labels)
    assert len(other) < 20
    assert (s[other, exemplars[labels[other]]] == s[other, exemplars[result.labels[other]]]).all()


@pytest.mark.parametrize("n", [1, 2, 3, 17, 31, 33, 127, 600, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_odd_sizes_match_the_reference(n: int, dtype: str) -> None:
    rng = np.random.default_rng(n)
    s = similarity(rng.standard_normal((n, 3))).astype(dtype)
    p = float(np.median(s)) - 0.1
    expected = affinity_propagation(s, p, device="reference", max_iter=60)
    found = affinity_propagation(s, p, max_iter=60)
    check_valid(found, n)
    assert found.exemplars.tolist() == expected.exemplars.tolist()
    assert found.labels.tolist() == expected.labels.tolist()
    assert (found.n_iter, found.converged) == (expected.n_iter, expected.converged)
    assert found.net_similarity == pytest.approx(expected.net_similarity, rel=1e-5)
    # messages that swing carry rounding errors on and double them: compared early
    expected = affinity_propagation(s, p, device="reference", max_iter=20)
    found = affinity_propagation(s, p, max_iter=20)
    assert found.messages is not None
    assert expected.messages is not None
    tolerance = 1e-3 if dtype == "float32" else 1e-9
    for name in ("responsibility", "availability"):
        np.testing.assert_allclose(
            getattr(found.messages, name), getattr(expected.messages, name), atol=tolerance, rtol=tolerance
        )


def test_memory_order_read_only_and_threads_do_not_matter() -> None:
    s = SETS["blobs"]().astype(np.float32)
    big = similarity(np.random.default_rng(0).standard_normal((700, 2))).astype(np.float32)
    plain = affinity_propagation(s, -50.0)
    fixed = np.asfortranarray(s)
    fixed.flags.writeable = False
    assert affinity_propagation(fixed, -50.0).labels.tolist() == plain.labels.tolist()
    before = s.copy()
    read_only = s.copy()
    read_only.flags.writeable = False
    assert affinity_propagation(read_only, -50.0).labels.tolist() == plain.labels.tolist()
    assert (s == before).all()
    strided = np.zeros((600, 600), np.float32)[::2, ::2]
    strided[:] = s
    assert affinity_propagation(strided, -50.0).labels.tolist() == plain.labels.tolist()
    one = cpu_module.affinity_propagation(big, -5.0, threads=1)
    two = cpu_module.affinity_propagation(big, -5.0, threads=2)
    assert one.messages is not None
    assert two.messages is not None
    assert (one.messages.responsibility == two.messages.responsibility).all()
    assert one.labels.tolist() == two.labels.tolist()


def test_two_calls_at_the_same_time() -> None:
    from concurrent.futures import ThreadPoolExecutor

    s = similarity(np.random.default_rng(1).standard_normal((600, 2))).astype(np.float32)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda p: affinity_propagation(s, p), (-5.0, -5.0))
    assert first.labels.tolist() == second.labels.tolist()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ties_are_broken(device: Any, dtype: str) -> None:
    """Two points, four in a square, and all equal: many solutions are equally good, one is given."""
    pair = np.array([[0, -1], [-1, 0]], dtype)
    found = affinity_propagation(pair, -3.0, device=device)
    assert (found.converged, len(found.exemplars)) == (True, 1)
    square = similarity(np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])).astype(dtype)
    found = affinity_propagation(square, -1.5, device=device)
    check_valid(found, 4)  # six pairs of exemplars are equally good: it may swing to the end
    same = np.full((40, 40), -2.0, dtype)
    assert len(affinity_propagation(same, -5.0, device=device).exemplars) == 1
    assert len(affinity_propagation(same, -1.0, device=device).exemplars) == 40
    assert affinity_propagation(same, -5.0, device=device).converged


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_duplicates_end_in_one_cluster(dtype: str) -> None:
    x = np.repeat(np.array([[0.0, 0], [10, 0], [0, 10]]), 8, axis=0)
    found = affinity_propagation(similarity(x).astype(dtype), -20.0)
    assert found.converged
    assert len(found.exemplars) == 3
    assert found.labels.reshape(3, 8).std(axis=1).tolist() == [0, 0, 0]


def tight_groups() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((10, 32))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    x = centres[rng.integers(0, 10, 400)] + 0.6 * rng.standard_normal((400, 32)) / np.sqrt(32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return negative_squared_distances(x.astype(np.float32))


@pytest.mark.parametrize("device", DEVICES)
def test_messages_swinging_in_step_are_not_an_answer(device: Any) -> None:
    """Tight groups at a low preference: undamped enough, all points are exemplars or none, in turn.

    scikit-learn does not converge here in 2,000 iterations, and ends on all 400.
    """
    s = tight_groups()
    found = affinity_propagation(s, -28.50255950852564, damping=0.5, device=device)
    assert found.converged
    assert len(found.exemplars) == 10
    assert found.damping > 0.5
    best = affinity_propagation(s, -28.50255950852564, damping=0.9, max_iter=2000, convergence_iter=100)
    assert found.net_similarity > 1.05 * best.net_similarity  # both negative: within 5 %


def test_what_no_fixed_point_looks_like() -> None:
    s = tight_groups()
    problem = check_problem(s, -28.50255950852564, 0.5, 10, 10, None, 0)
    right = affinity_propagation(s, -28.50255950852564, damping=0.9).exemplars
    assert plausible(problem, right)
    assert not premature(problem, right)
    assert not plausible(problem, np.arange(400))
    assert premature(problem, right[:1])
    high = check_problem(s, 1.0, 0.5, 10, 10, None, 0)
    assert plausible(high, np.arange(400))
    # an implausible set that holds still is answered with more damping, and never called converged
    watch = Watch(problem, 0.5, 10)
    assert not any(watch.update(np.ones(400, bool)) for _ in range(300))
    assert watch.damping == MAX_DAMPING
    assert Watch(high, 0.5, 10).update(np.ones(400, bool)) is False
    steady = Watch(high, 0.5, 10)
    assert [steady.update(np.ones(400, bool)) for _ in range(11)].index(True) == 10
    nobody = Watch(problem, 0.5, 10)
    assert not any(nobody.update(np.zeros(400, bool)) for _ in range(50))


def test_the_watch_waits_longer_where_it_raised_the_damping_and_says_how_long_it_can_only_look() -> None:
    problem = check_problem(tight_groups(), 1.0, 0.5, 10, 10, None, 0)
    one, other = np.zeros(400, bool), np.zeros(400, bool)
    one[:5], other[3:9] = True, True
    watch = Watch(problem, 0.5, 10)
    while watch.damping == 0.5:
        assert watch.n_iter < 50
        watch.update(one if watch.n_iter % 2 else other)
    everybody = [watch.update(np.ones(400, bool)) for _ in range(30)]
    assert everybody.index(True) == 19
    rng = np.random.default_rng(0)
    for share in (0.05, 0.2, 0.5):
        watch = Watch(problem, 0.5, 10)
        nothing_before = 0
        for _ in range(400):
            nothing_before = max(nothing_before, watch.n_iter + watch.ahead())
            damping = watch.damping
            change = rng.random() < share
            acted = watch.update(rng.permutation(one) if change else watch.exemplars)
            if acted or watch.restart or watch.damping != damping:
                assert watch.n_iter >= nothing_before
                nothing_before = 0


def test_not_converged_is_said_and_still_a_clustering() -> None:
    s = SETS["moons"]()
    found = affinity_propagation(s, float(np.median(s)), max_iter=5)
    check_valid(found, 250)
    assert not found.converged
    assert found.n_iter == 5
    assert "raise max_iter" in found.warning
    none = affinity_propagation(s, float(s.sum()), max_iter=3)  # nobody can become an exemplar so soon
    check_valid(none, 250)
    assert not none.converged


@pytest.mark.parametrize("device", DEVICES)
def test_warm_start_goes_on_where_it_stopped(device: Any) -> None:
    s = SETS["blobs"]()
    p = float(np.median(s))
    whole = affinity_propagation(s, p, max_iter=30, device=device)
    half = affinity_propagation(s, p, max_iter=12, device=device)
    assert half.messages is not None
    kept = half.messages.responsibility.copy()
    rest = affinity_propagation(s, p, max_iter=18, warm_start=half.messages, device=device)
    assert (half.messages.responsibility == kept).all()
    assert rest.messages is not None
    assert whole.messages is not None
    for name in ("responsibility", "availability"):
        np.testing.assert_allclose(
            getattr(rest.messages, name), getattr(whole.messages, name), rtol=1e-9, atol=1e-9
        )


def test_warm_start_is_quicker_and_agrees() -> None:
    s = SETS["blobs"]()
    p = float(np.median(s))
    first = affinity_propagation(s, p)
    cold = affinity_propagation(s, 1.2 * p)
    warm = affinity_propagation(s, 1.2 * p, warm_start=first.messages)
    assert warm.n_iter < cold.n_iter
    assert warm.net_similarity == pytest.approx(cold.net_similarity, rel=0.05)


def test_forbidden_pairs_never_choose_each_other() -> None:
    rng = np.random.default_rng(3)
    s = similarity(rng.standard_normal((60, 2)))
    forbidden = np.triu(rng.random((60, 60)) < 0.2, 1)
    forbidden |= forbidden.T
    s[forbidden] = -np.inf
    found = affinity_propagation(s, -10.0)
    check_valid(found, 60)
    assert not forbidden[np.arange(60), found.exemplars[found.labels]].any()
    alone = np.full((5, 5), -np.inf)
    assert len(affinity_propagation(alone, -1.0).exemplars) == 5


def spoilt(responsibility: float, availability: float) -> Messages:
    """Messages of three points, one number of each replaced."""
    messages = Messages(np.zeros((3, 3)), np.zeros((3, 3)))
    messages.responsibility[1, 2], messages.availability[2, 1] = responsibility, availability
    return messages


BAD: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (np.zeros((3, 4)), {}, ValueError, r"square matrix.*\(3, 4\)"),
    (np.zeros((0, 0)), {}, ValueError, "empty"),
    (np.array([["a"]]), {}, TypeError, "float32"),
    (np.array([[0, 1.0], [np.nan, 0]]), {}, ValueError, r"similarity\[1, 0\].*nan"),
    (np.array([[0, np.inf, 0], [1, 0, 0], [0, 0, 0]]), {}, ValueError, r"similarity\[0, 1\].*inf"),
    (np.zeros((3, 3)), {"preference": [1.0, 2.0]}, ValueError, r"one number or 3.*\(2,\)"),
    (np.zeros((3, 3)), {"preference": np.nan}, ValueError, "finite"),
    (np.zeros((3, 3)), {"damping": 0.3}, ValueError, "0.3"),
    (np.zeros((3, 3)), {"damping": 1.0}, ValueError, "1.0"),
    (np.zeros((3, 3)), {"max_iter": 0}, ValueError, "max_iter"),
    (np.zeros((3, 3)), {"convergence_iter": 0}, ValueError, "convergence_iter"),
    (np.zeros((3, 3)), {"device": "gpu"}, ValueError, "'gpu': unknown"),
    (np.zeros((3, 3)), {"warm_start": Messages(np.zeros((2, 2)), np.zeros((2, 2)))}, ValueError, r"\(2, 2\)"),
    (np.full((3, 3), -1e38, np.float32) * np.arange(3, dtype=np.float32), {}, ValueError, "overflow float32"),
    (np.zeros((3, 3)), {"warm_start": (np.zeros((3, 3)),) * 2}, TypeError, "^warm_start: .*Messages.*tuple"),
    (np.zeros((3, 3)), {"warm_start": Messages(*[[[0.0]]] * 2)}, ValueError, "^warm_start.resp.*got list$"),
    (np.zeros((3, 3)), {"warm_start": spoilt(np.nan, 0)}, ValueError, "^warm_start.responsibility.*finite"),
    (np.zeros((3, 3)), {"warm_start": spoilt(0, np.inf)}, ValueError, "^warm_start.availability.*finite"),
    (np.zeros((3, 3)), {"warm_start": spoilt(-np.inf, 0)}, ValueError, "^warm_start.responsibility.*finite"),
    (np.zeros((3, 3)), {"damping": "0.5"}, TypeError, "^damping: .*number.*'0.5'"),
    (np.zeros((3, 3)), {"damping": None}, TypeError, "^damping: .*None"),
    (np.zeros((3, 3)), {"damping": np.nan}, ValueError, "^damping: .*nan"),
    (np.zeros((3, 3)), {"max_iter": 5.5}, TypeError, "^max_iter: .*whole number.*5.5"),
    (np.zeros((3, 3)), {"max_iter": "9"}, TypeError, "^max_iter: .*'9'"),
    (np.zeros((3, 3)), {"convergence_iter": None}, TypeError, "^convergence_iter: .*None"),
    (np.zeros((3, 3)), {"seed": -1}, ValueError, "^seed: .*at least 0.*-1"),
    (np.zeros((3, 3)), {"seed": None}, TypeError, "^seed: .*None"),
    (np.zeros((3, 3)), {"preference": "-1"}, TypeError, "^preference: .*'-1'"),
    (np.zeros((3, 3)), {"preference": None}, TypeError, "^preference: .*None"),
    (np.zeros((3, 3)), {"preference": 1j}, TypeError, "^preference: .*1j"),
    (np.zeros((3, 3)), {"preference": [[1.0], [1.0, 2.0]]}, TypeError, "^preference: "),
    (
        np.zeros((3, 3), np.float32),
        {"preference": -1e39},
        ValueError,
        r"^preference: -1e\+39 overflows float32",
    ),
]


@pytest.mark.parametrize(("s", "arguments", "kind", "message"), BAD)
def test_bad_input_is_named(s: Any, arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        affinity_propagation(s, **{"preference": -1.0, **arguments})


def test_the_diagonal_is_never_read() -> None:
    s = SETS["blobs"]()
    odd = s.copy()
    np.fill_diagonal(odd, np.nan)
    assert affinity_propagation(odd, -50.0).labels.tolist() == affinity_propagation(s, -50.0).labels.tolist()


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, float]:
    n = draw(st.integers(2, 120))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["uniform", "symmetric", "points", "duplicates", "grid", "forbidden"]))
    if kind in ("uniform", "symmetric"):
        s = -rng.random((n, n))
        s = s + s.T if kind == "symmetric" else s
    else:
        x = rng.standard_normal((n, draw(st.integers(1, 8))))
        if kind == "duplicates":
            x = x[rng.integers(0, max(1, n // 4), n)]
        if kind == "grid":
            x = np.round(x)
        s = similarity(x)
        if kind == "forbidden":
            apart = rng.random((n, n)) < 0.1
            s[apart | apart.T] = -np.inf
    s = (s * 10.0 ** draw(st.integers(-6, 6))).astype(draw(st.sampled_from(["float32", "float64"])))
    off = s[~np.eye(n, dtype=bool)]
    off = off[np.isfinite(off)]
    p = float(np.quantile(off, draw(st.floats(0, 1)))) if len(off) else -1.0
    return s, p * draw(st.sampled_from([1.0, 3.0]))


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(problems())
def test_whatever_hypothesis_thinks_of(problem: tuple[np.ndarray, float]) -> None:
    s, p = problem
    check_valid(affinity_propagation(s, p), len(s))


def test_import_is_quick() -> None:
    """numba takes half a second to import, so it must wait until something is clustered."""
    code = "import sys, kernels.affinity, kernels.similarity; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_works_where_nothing_can_be_written() -> None:
    """No folder for compiled code: numba would refuse; we compile without keeping."""
    code = (
        "import numba.core.caching as c\n"
        "c.CacheImpl._locator_classes = []\n"  # what numba finds where no folder is writable
        "import numpy as np\n"
        "from kernels.affinity import affinity_propagation\n"
        "print(len(affinity_propagation(np.array([[0, -1], [-1, 0]], 'f4'), -3.).exemplars))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1"
