"""CUDA affinity propagation on a real GPU against the CPU; `pytest -m gpu`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris, make_blobs, make_moons

from kernels.affinity import affinity_propagation, search_strength, strength_map
from kernels.affinity._gpu import CupyDevice
from kernels.affinity.cuda import Solver

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def cupy() -> Any:
    try:
        return CupyDevice().xp
    except RuntimeError as error:
        pytest.skip(str(error))


def similarity(x: np.ndarray) -> np.ndarray:
    square = (x**2).sum(axis=1)
    return 2 * x @ x.T - square[:, None] - square[None, :]


def asymmetric(n: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    s = similarity(make_blobs(n, centers=7, n_features=4, random_state=5)[0])
    return s * rng.uniform(0.6, 1.4, (n, 1)) - rng.uniform(0, 5, (n, n))


SETS: dict[str, Any] = {
    "blobs": lambda: similarity(make_blobs(300, centers=5, random_state=1)[0]),
    "moons": lambda: similarity(make_moons(251, noise=0.07, random_state=0)[0]),
    "iris": lambda: similarity(load_iris().data),
    "digits": lambda: similarity(load_digits().data + np.random.default_rng(0).normal(0, 1e-3, (1797, 64))),
    "asymmetric": lambda: asymmetric(333),
}


@pytest.mark.parametrize("damping", [0.5, 0.9])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SETS)
def test_same_as_on_the_cpu(name: str, dtype: str, damping: float, cupy: Any) -> None:
    s = SETS[name]().astype(dtype)
    p = float(np.median(s))
    expected = affinity_propagation(s, p, damping=damping, device="cpu")
    found = affinity_propagation(s, p, damping=damping, device="cuda")
    assert expected.converged
    assert found.converged
    assert isinstance(found.labels, np.ndarray)
    assert found.exemplars.tolist() == expected.exemplars.tolist()
    assert found.labels.tolist() == expected.labels.tolist()
    assert found.n_iter == expected.n_iter
    assert found.net_similarity == pytest.approx(expected.net_similarity, rel=1e-5)


@pytest.mark.parametrize("n", [1, 2, 3, 17, 31, 33, 127, 1000, 4099])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_odd_sizes_and_messages(n: int, dtype: str, cupy: Any) -> None:
    s = similarity(np.random.default_rng(n).standard_normal((n, 3))).astype(dtype)
    p = float(np.median(s)) - 0.1
    expected = affinity_propagation(s, p, max_iter=8, device="cpu")
    found = affinity_propagation(s, p, max_iter=8, device="cuda")
    assert found.exemplars.tolist() == expected.exemplars.tolist()
    assert expected.messages is not None
    assert found.messages is not None
    tolerance = 1e-3 if dtype == "float32" else 1e-9
    for name in ("responsibility", "availability"):
        here, there = getattr(expected.messages, name), getattr(found.messages, name)
        assert isinstance(there, cupy.ndarray)
        np.testing.assert_allclose(cupy.asnumpy(there), here, atol=tolerance, rtol=tolerance)


def test_a_row_longer_than_shared_memory(cupy: Any) -> None:
    device = CupyDevice()
    device.shared_per_block = device.shared_per_processor = 8 << 10
    s = asymmetric(3001).astype(np.float32)
    expected = affinity_propagation(s, -300.0, max_iter=20, device="cpu")
    with Solver(s, device=device) as solver:
        found = solver.solve(-300.0, max_iter=20)
    assert found.exemplars.tolist() == expected.exemplars.tolist()


@pytest.mark.parametrize("n", [11_350, 11_420, 11_450, 11_480, 11_600])
def test_rows_of_about_48_kb(n: int, cupy: Any) -> None:
    """A block may have so much shared memory unasked, what the kernel declares itself among it."""
    x = cupy.random.default_rng(0).standard_normal((n, 8), dtype=cupy.float32)
    square = (x**2).sum(axis=1)
    with Solver(2 * x @ x.T - square[:, None] - square[None, :]) as solver:
        assert solver.solve(-30.0, max_iter=3).n_iter == 3


def test_cupy_in_cupy_out_on_the_stream_in_use(cupy: Any) -> None:
    s = SETS["blobs"]()
    expected = affinity_propagation(s, -50.0)
    there = cupy.asarray(s)
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True):
        found = affinity_propagation(there, cupy.full(len(s), -50.0))
    assert isinstance(found.labels, cupy.ndarray)
    assert isinstance(found.exemplars, cupy.ndarray)
    assert cupy.asnumpy(found.labels).tolist() == expected.labels.tolist()
    assert (cupy.asnumpy(there) == s).all()
    with pytest.raises(TypeError, match="'cuda', got device 'cpu'"):
        affinity_propagation(there, -50.0, device="cpu")


def test_the_same_every_time(cupy: Any) -> None:
    s = asymmetric(2000).astype(np.float32)
    one, other = (affinity_propagation(s, -300.0, max_iter=30, device="cuda").messages for _ in range(2))
    assert one is not None
    assert other is not None
    assert bool((one.responsibility == other.responsibility).all())


def test_warm_start_goes_on_where_it_stopped(cupy: Any) -> None:
    s = SETS["blobs"]()
    whole = affinity_propagation(s, -50.0, max_iter=12, device="cuda")
    half = affinity_propagation(s, -50.0, max_iter=5, device="cuda")
    rest = affinity_propagation(s, -50.0, max_iter=7, warm_start=half.messages, device="cuda")
    assert rest.messages is not None
    assert whole.messages is not None
    for name in ("responsibility", "availability"):
        np.testing.assert_allclose(
            cupy.asnumpy(getattr(rest.messages, name)),
            cupy.asnumpy(getattr(whole.messages, name)),
            rtol=1e-9,
            atol=1e-9,
        )
    from_host = affinity_propagation(s, -55.0, max_iter=7, device="cpu").messages
    assert affinity_propagation(s, -50.0, warm_start=from_host, device="cuda").converged


def test_a_similarity_held_in_float16(cupy: Any) -> None:
    s = (SETS["blobs"]() / 10).astype(np.float16)
    expected = affinity_propagation(s.astype(np.float32), -5.0)
    found = affinity_propagation(s, -5.0, device="cuda")
    assert found.exemplars.tolist() == expected.exemplars.tolist()


@pytest.mark.parametrize("name", SETS)
def test_the_map_and_the_search_are_the_cpu_s(name: str, cupy: Any) -> None:
    s = SETS[name]()
    here, there = strength_map(s), strength_map(cupy.asarray(s))
    assert there.order.tolist() == here.order.tolist()
    np.testing.assert_allclose(there.preferences, here.preferences, rtol=1e-9, atol=1e-9)
    expected, found = search_strength(s, (8, 12)), search_strength(cupy.asarray(s), (8, 12))
    assert isinstance(found.result.labels, cupy.ndarray)
    assert cupy.asnumpy(found.result.exemplars).tolist() == expected.result.exemplars.tolist()
    assert found.in_range == expected.in_range
