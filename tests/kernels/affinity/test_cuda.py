"""CUDA affinity propagation without a GPU: compiled for three architectures, and run on the host."""

from __future__ import annotations

import ctypes
import importlib.util
from typing import Any

import numpy as np
import pytest
from emulated_gpu import EmulatedDevice, build, compiler
from nvrtc import check_compiles, compile_source
from sklearn.datasets import make_blobs, make_moons

from kernels.affinity import AffinityResult, Messages, affinity_propagation
from kernels.affinity import cuda as cuda_module
from kernels.affinity._device import Matrix
from kernels.affinity._gpu import SOURCE, plan, source
from kernels.affinity.contract import check_problem
from kernels.affinity.cuda import Solver
from kernels.affinity.watch import Watch, plausible, premature


@pytest.mark.parametrize("architecture", [80, 90, 120])
def test_nvrtc_compiles(architecture: int) -> None:
    check_compiles(SOURCE, architecture)


def test_nvrtc_finds_what_is_wrong() -> None:
    status, log, _ = compile_source(SOURCE, 90, source().replace("top.first", "top.frist", 1))
    assert status != 0
    assert "frist" in log


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if compiler() is None:
        pytest.skip("g++ is not installed")
    return build(tmp_path_factory.mktemp("emulated"))


def similarity(x: np.ndarray) -> np.ndarray:
    return -((x[:, None, :] - x[None, :, :]) ** 2).sum(axis=-1)


def asymmetric(n: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    s = similarity(make_blobs(n, centers=5, n_features=4, random_state=5)[0])
    return s * rng.uniform(0.6, 1.4, (n, 1)) - rng.uniform(0, 5, (n, n))


def forbidden(n: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    s = similarity(rng.standard_normal((n, 2)))
    apart = np.triu(rng.random((n, n)) < 0.2, 1)
    s[apart | apart.T] = -np.inf
    return s


def assert_same(found: AffinityResult, expected: AffinityResult, tolerance: float) -> None:
    assert found.exemplars.tolist() == expected.exemplars.tolist()
    assert found.labels.tolist() == expected.labels.tolist()
    assert (found.n_iter, found.converged) == (expected.n_iter, expected.converged)
    assert (found.damping, found.warning) == (expected.damping, expected.warning)
    assert found.net_similarity == pytest.approx(expected.net_similarity, rel=1e-5)
    assert found.messages is not None
    assert expected.messages is not None
    for name in ("responsibility", "availability"):
        one, other = getattr(found.messages, name), getattr(expected.messages, name)
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("n", [1, 2, 3, 17, 31, 33, 127])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_odd_sizes_match_the_reference(n: int, dtype: str, library: ctypes.CDLL) -> None:
    """The whole run: exemplars, labels, iterations, and messages of every pair."""
    s = similarity(np.random.default_rng(n).standard_normal((n, 3))).astype(dtype)
    p = float(np.median(s)) - 0.1
    for max_iter in (1, 2, 9, 60):
        expected = affinity_propagation(s, p, device="reference", max_iter=max_iter)
        found = cuda_module.affinity_propagation(s, p, max_iter=max_iter, device=EmulatedDevice(library))
        assert_same(found, expected, 1e-4 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("damping", [0.5, 0.9])
@pytest.mark.parametrize("kind", ["asymmetric", "forbidden"])
def test_matrices_of_other_kinds(kind: str, damping: float, dtype: str, library: ctypes.CDLL) -> None:
    s = (asymmetric(61) if kind == "asymmetric" else forbidden(61)).astype(dtype)
    p = 2 * float(np.median(s))
    expected = affinity_propagation(s, p, damping=damping, device="reference")
    assert expected.converged
    device = EmulatedDevice(library)
    found = cuda_module.affinity_propagation(s, p, damping=damping, device=device)
    assert_same(found, expected, 1e-3 if dtype == "float32" else 1e-9)
    assert device.looks < expected.n_iter


def test_the_order_of_threads_does_not_matter(library: ctypes.CDLL) -> None:
    """A race between threads would show, to the bit."""
    s = asymmetric(75).astype(np.float32)
    one, other = (
        cuda_module.affinity_propagation(
            s, -60.0, max_iter=20, device=EmulatedDevice(library, processors=2, backwards=backwards)
        ).messages
        for backwards in (False, True)
    )
    assert one is not None
    assert other is not None
    assert (one.responsibility == other.responsibility).all()
    assert (one.availability == other.availability).all()


@pytest.mark.parametrize(("shared", "held"), [(2300, 0), (2600, 16), (64 << 10, 24)])
def test_rows_longer_than_shared_memory(shared: int, held: int, library: ctypes.CDLL) -> None:
    s = asymmetric(97).astype(np.float32)
    device = EmulatedDevice(library, processors=2, shared=shared)
    layout = plan(device, 97, s.dtype, s.dtype, 16)
    assert layout.held == held
    expected = affinity_propagation(s, -60.0, max_iter=25, device="reference")
    assert_same(cuda_module.affinity_propagation(s, -60.0, max_iter=25, device=device), expected, 1e-3)


def test_layout_on_an_h200(library: ctypes.CDLL) -> None:
    device = EmulatedDevice(library, processors=132, shared=227 << 10)
    device.shared_per_processor = 228 << 10
    single, half = np.dtype(np.float32), np.dtype(np.float16)
    for n, blocks, held in ((10_000, 528, 2500), (25_000, 264, 6250), (50_000, 132, 12_500)):
        layout = plan(device, n, single, single, 64)
        assert (layout.blocks, layout.held) == (blocks, held)
        assert layout.threads * layout.blocks == 132 * 1024
    assert plan(device, 100_000, single, single, 64).held > 12_000
    assert plan(device, 100_000, single, half, 64).held == 25_000
    assert plan(device, 5, single, single, 16).blocks == 5


def test_lists_grow(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random similarities, much damping: the place of a row's maximum moves, every move is an entry."""
    s = -np.random.default_rng(0).random((40, 40)).astype(np.float32)
    widths = []
    keep = cuda_module._Passes._widen
    monkeypatch.setattr(
        cuda_module._Passes, "_widen", lambda passes: (keep(passes), widths.append(passes.width))
    )
    monkeypatch.setattr(cuda_module, "_WIDTH", 4)
    expected = affinity_propagation(s, -0.6, damping=0.95, max_iter=120, device="reference")
    found = cuda_module.affinity_propagation(
        s, -0.6, damping=0.95, max_iter=120, device=EmulatedDevice(library)
    )
    assert_same(found, expected, 1e-3)
    assert widths
    assert widths[-1] >= 8


def test_oscillation_is_answered_the_same_way(library: ctypes.CDLL) -> None:
    """Tight groups at a low preference: restarts and raised damping at the same iterations as on the CPU."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((6, 32))
    x = centres[rng.integers(0, 6, 90)] + 0.1 * rng.standard_normal((90, 32))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    s = similarity(x)
    p = float(s.sum() / 90)
    expected = affinity_propagation(s, p, device="reference")
    assert expected.damping > 0.5
    assert_same(cuda_module.affinity_propagation(s, p, device=EmulatedDevice(library)), expected, 1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_warm_start(dtype: str, library: ctypes.CDLL) -> None:
    s = similarity(make_moons(67, noise=0.07, random_state=0)[0]).astype(dtype)
    p = float(np.median(s))
    device = EmulatedDevice(library)
    whole = cuda_module.affinity_propagation(s, p, max_iter=14, device=device)
    half = cuda_module.affinity_propagation(s, p, max_iter=6, device=device)
    assert half.messages is not None
    kept = half.messages.responsibility.copy(), half.messages.availability.copy()
    assert (whole.n_iter, half.n_iter) == (14, 6)
    rest = cuda_module.affinity_propagation(s, p, max_iter=8, warm_start=half.messages, device=device)
    assert (half.messages.responsibility == kept[0]).all()
    assert (half.messages.availability == kept[1]).all()
    assert rest.messages is not None
    assert whole.messages is not None
    for name in ("responsibility", "availability"):
        np.testing.assert_allclose(
            getattr(rest.messages, name), getattr(whole.messages, name), rtol=1e-4, atol=1e-4
        )


def test_one_solver_many_preferences(library: ctypes.CDLL) -> None:
    s = asymmetric(50)
    with Solver(s, device=EmulatedDevice(library)) as solver:
        first = solver.solve(-60.0)
        again = solver.solve(-60.0)
        warm = solver.solve(-66.0, go_on=True)
        cold = solver.solve(-66.0)
    assert first.exemplars.tolist() == again.exemplars.tolist()
    assert (first.n_iter, first.messages) == (again.n_iter, None)
    assert warm.n_iter < cold.n_iter
    assert warm.exemplars.tolist() == affinity_propagation(s, -66.0, device="reference").exemplars.tolist()


def test_a_similarity_held_in_float16(library: ctypes.CDLL) -> None:
    """The same as the rounded similarities in float32."""
    s = similarity(make_blobs(67, centers=4, random_state=1)[0]).astype(np.float16)
    found = cuda_module.affinity_propagation(s, -60.0, device=EmulatedDevice(library))
    expected = affinity_propagation(s.astype(np.float32), -60.0, device="reference")
    assert found.converged
    assert_same(found, expected, 1e-3)


def test_the_diagonal_is_never_read(library: ctypes.CDLL) -> None:
    s = asymmetric(33)
    odd = s.copy()
    np.fill_diagonal(odd, np.nan)
    odd.flags.writeable = False
    one, other = (
        cuda_module.affinity_propagation(m, -60.0, device=EmulatedDevice(library))
        for m in (s, np.asfortranarray(odd))
    )
    assert one.labels.tolist() == other.labels.tolist()
    assert one.net_similarity == other.net_similarity


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_equal_and_nobody_an_exemplar(dtype: str, library: ctypes.CDLL) -> None:
    device = EmulatedDevice(library)
    same = np.full((20, 20), -2.0, dtype)
    for p in (-5.0, -1.0):
        expected = affinity_propagation(same, p, device="reference")
        assert_same(cuda_module.affinity_propagation(same, p, device=device), expected, 0)
    s = similarity(make_moons(50, noise=0.07, random_state=0)[0]).astype(dtype)
    p = float(s.sum())
    expected = affinity_propagation(s, p, max_iter=1, device="reference")
    assert "no point became an exemplar" in expected.warning
    found = cuda_module.affinity_propagation(s, p, max_iter=1, device=device)
    assert_same(found, expected, 1e-3 if dtype == "float32" else 1e-9)


def test_judgements_match_those_of_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """On sets right, wrong, and random, with blocks of a few rows."""
    monkeypatch.setattr("kernels.affinity._device._BLOCK_BYTES", 1 << 13)
    rng = np.random.default_rng(2)
    s = asymmetric(150).astype(np.float32)
    s[rng.random((150, 150)) < 0.02] = -np.inf
    seen = set()
    for p in (-300.0, -60.0, -2.0):
        problem = check_problem(s, p, 0.5, 10, 10, None, 0)
        solution = Matrix(s, np, np.array).settle(p, 0.5, 10, 10, None, 0)
        assert solution.problem.floor == pytest.approx(problem.floor)
        np.testing.assert_allclose(solution.problem.perturbed, problem.perturbed, rtol=1e-6)
        for size in (1, 2, 5, 40, 149, 150):
            chosen = np.sort(rng.choice(150, size, replace=False))
            answers = plausible(problem, chosen), premature(problem, chosen)
            assert (solution.plausible(chosen), solution.premature(chosen)) == answers
            seen.add(answers)
    assert seen >= {(True, False), (False, False), (True, True)}


def test_ahead_never_misses_an_answer() -> None:
    """Whatever the flags: where the watch acts, it is on the last update of a batch."""
    rng = np.random.default_rng(0)

    class Judge:
        def plausible(self, exemplars: Any) -> bool:
            return bool(rng.random() < 0.5)

        def premature(self, exemplars: Any) -> bool:
            return bool(rng.random() < 0.5)

    acted, batches = 0, 0
    for trial in range(300):
        window = int(rng.integers(1, 20))
        watch = Watch(12, float(rng.choice([0.5, 0.9])), window, judge=Judge())
        states = [rng.random(12) < share for share in rng.random(4)]
        stay = rng.random()
        flags, done = states[0], False
        while watch.n_iter < 300 and not done:
            count = watch.ahead()
            batches += 1
            for step in range(count):
                if rng.random() > stay:
                    flags = states[rng.integers(len(states))] if trial % 2 else rng.random(12) < 0.5
                damping = watch.damping
                done = watch.update(flags.copy())
                if done or watch.restart or watch.damping != damping:
                    acted += 1
                    assert step == count - 1
    assert acted > 300
    assert batches < 300 * 100


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
    (np.zeros((3, 3)), {"damping": 1.0}, ValueError, "1.0"),
    (np.zeros((3, 3)), {"warm_start": Messages(np.zeros((2, 2)), np.zeros((2, 2)))}, ValueError, r"\(2, 2\)"),
    (np.full((3, 3), -1e38, np.float32) * np.arange(3, dtype=np.float32), {}, ValueError, "overflow float32"),
    (np.zeros((3, 3)), {"warm_start": (np.zeros((3, 3)),) * 2}, TypeError, "^warm_start: .*Messages.*tuple"),
    (np.zeros((3, 3)), {"warm_start": spoilt(np.nan, 0)}, ValueError, "^warm_start.responsibility.*finite"),
    (np.zeros((3, 3)), {"max_iter": 5.5}, TypeError, "^max_iter: .*whole number.*5.5"),
    (np.zeros((3, 3)), {"seed": -1}, ValueError, "^seed: .*at least 0.*-1"),
    (np.zeros((3, 3)), {"preference": "-1"}, TypeError, "^preference: .*'-1'"),
    (
        np.zeros((3, 3), np.float32),
        {"preference": -1e39},
        ValueError,
        r"^preference: -1e\+39 overflows float32",
    ),
]


@pytest.mark.parametrize(("s", "arguments", "kind", "message"), BAD)
def test_bad_input_is_named(
    s: Any, arguments: dict[str, Any], kind: type[Exception], message: str, library: ctypes.CDLL
) -> None:
    with pytest.raises(kind, match=message):
        cuda_module.affinity_propagation(
            s, **{"preference": -1.0, "device": EmulatedDevice(library), **arguments}
        )


def test_without_a_gpu_the_error_says_what_to_do() -> None:
    if importlib.util.find_spec("cupy") is not None:
        pytest.skip("CuPy is installed")
    with pytest.raises(RuntimeError, match=r"pip install 'celstream\[gpu\]'"):
        affinity_propagation(np.zeros((3, 3)), -1.0, device="cuda")


def test_an_array_on_a_gpu_is_not_taken_to_the_host_unasked() -> None:
    class OnGpu:
        __cuda_array_interface__ = None

    with pytest.raises(TypeError, match="'cuda', got device 'cpu'"):
        affinity_propagation(OnGpu(), -1.0, device="cpu")  # type: ignore[arg-type]


def test_not_enough_memory_is_said(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise MemoryError("out of memory allocating 4 bytes")

    monkeypatch.setattr(cuda_module._Passes, "begin", full)
    with pytest.raises(MemoryError, match=r"20 points take 0\.0 GiB.*give_messages=False"):
        cuda_module.affinity_propagation(asymmetric(20), -60.0, device=EmulatedDevice(library))
