"""The strength map and the search on a device, in emulation, against the CPU's."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from emulated_gpu import EmulatedDevice, build, compiler
from sklearn.datasets import make_blobs

from kernels.affinity import SearchResult, StrengthMap, preference_range, search_strength, strength_map
from kernels.affinity import cuda as cuda_module
from kernels.affinity._device_strength import greedy_on_device, range_on_device
from kernels.affinity._greedy import greedy_exemplars
from kernels.affinity.cuda import Solver


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if compiler() is None:
        pytest.skip("g++ is not installed")
    return build(tmp_path_factory.mktemp("emulated"))


def similarity(n: int, seed: int = 0) -> np.ndarray:
    x = make_blobs(n, centers=max(1, n // 12), n_features=4, random_state=seed)[0]
    return -((x[:, None, :] - x[None, :, :]) ** 2).sum(axis=-1)


def forbidden(n: int, share: float) -> np.ndarray:
    s = similarity(n, 4)
    apart = np.triu(np.random.default_rng(3).random((n, n)) < share, 1)
    s[apart | apart.T] = -np.inf
    return s


def on_device(s: np.ndarray, library: ctypes.CDLL) -> StrengthMap:
    with Solver(s, device=EmulatedDevice(library)) as solver:
        return solver.strengths()


def assert_same_map(found: StrengthMap, expected: StrengthMap) -> None:
    assert found.order.tolist() == expected.order.tolist()
    assert found.fewest == expected.fewest
    np.testing.assert_allclose(found.gains, expected.gains, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.preferences, expected.preferences, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 17, 31, 33, 127, 300])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_map_is_the_cpu_s(n: int, dtype: str, library: ctypes.CDLL) -> None:
    s = similarity(n).astype(dtype) * np.random.default_rng(n).uniform(0.5, 1.5, (n, 1)).astype(dtype)
    assert_same_map(on_device(s, library), strength_map(s))


@pytest.mark.parametrize("share", [0.1, 0.6, 1.0])
def test_the_map_with_forbidden_pairs(share: float, library: ctypes.CDLL) -> None:
    s = forbidden(60, share)
    assert_same_map(on_device(s, library), strength_map(s))


def test_the_range_with_and_without_forbidden_pairs(library: ctypes.CDLL) -> None:
    for s in (similarity(40), forbidden(40, 0.3), forbidden(12, 1.0)):
        matrix = Solver(s, device=EmulatedDevice(library)).matrix
        assert range_on_device(matrix) == pytest.approx(preference_range(s))


def test_a_similarity_held_in_half_precision(library: ctypes.CDLL) -> None:
    half = (similarity(90) / 100).astype(np.float16)
    matrix = Solver(half, device=EmulatedDevice(library)).matrix
    order, gains = greedy_on_device(matrix, EmulatedDevice(library), -1e30)
    expected, expected_gains = greedy_exemplars(half.astype(np.float32), -1e30)
    assert order.tolist() == expected.tolist()
    np.testing.assert_allclose(gains, expected_gains, rtol=1e-9)


def assert_same_search(found: SearchResult, expected: SearchResult) -> None:
    assert found.result.exemplars.tolist() == expected.result.exemplars.tolist()
    assert found.result.labels.tolist() == expected.result.labels.tolist()
    assert [probe.clusters for probe in found.probes] == [probe.clusters for probe in expected.probes]
    assert found.strength == pytest.approx(expected.strength, rel=1e-9)
    assert (found.in_range, found.warning) == (expected.in_range, expected.warning)


@pytest.mark.parametrize("clusters", [None, (5, 9), (20, 20), (1, 1), (150, 150)])
@pytest.mark.parametrize("damping", [0.5, 0.9])
def test_the_search_is_the_cpu_s(
    clusters: tuple[int, int] | None, damping: float, library: ctypes.CDLL
) -> None:
    s = similarity(150, 7)
    found = cuda_module.search_strength(s, clusters, damping=damping, device=EmulatedDevice(library))
    assert_same_search(found, search_strength(s, clusters, damping=damping))


def test_the_search_where_pairs_are_forbidden(library: ctypes.CDLL) -> None:
    s = forbidden(80, 0.3)
    for clusters in (None, (1, 2), (10, 20)):
        found = cuda_module.search_strength(s, clusters, device=EmulatedDevice(library))
        assert_same_search(found, search_strength(s, clusters))


def test_probes_go_on_from_the_messages_on_the_device(library: ctypes.CDLL) -> None:
    """The similarity is looked at once, and a later probe takes fewer passes than a run from nothing."""
    s = similarity(150, 7)
    device = EmulatedDevice(library)
    found = cuda_module.search_strength(s, (23, 23), start=12, device=device)
    assert len(found.probes) > 1
    passes = sum(name.startswith("pass_") for name in device.launches)
    cold = 0
    for probe in found.probes:
        fresh = cuda_module.affinity_propagation(
            s, probe.preference, device=EmulatedDevice(library), give_messages=False
        )
        cold += fresh.n_iter
    assert passes == sum(probe.n_iter for probe in found.probes)
    assert passes < cold


def test_wrong_input_is_refused_as_on_the_cpu(library: ctypes.CDLL) -> None:
    s, device = similarity(30), EmulatedDevice(library)
    for wrong in ((0, 3), (5, 4), (31, 40), (1.5, 3)):
        with pytest.raises(ValueError, match="clusters: expected") as here:
            cuda_module.search_strength(s, wrong, device=device)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="clusters: expected") as there:
            search_strength(s, wrong)  # type: ignore[arg-type]
        assert str(here.value) == str(there.value)
    with pytest.raises(ValueError, match="strengths: expected a map of 30 points, got one of 40"):
        cuda_module.search_strength(s, (2, 3), strengths=strength_map(similarity(40)), device=device)


def test_an_unknown_device_and_a_missing_gpu_say_so() -> None:
    s = similarity(12)
    for call in (search_strength, strength_map):
        with pytest.raises(ValueError, match=r"device .tpu.: unknown\. Supported devices are .cpu., .cuda."):
            call(s, device="tpu")  # type: ignore[operator]
