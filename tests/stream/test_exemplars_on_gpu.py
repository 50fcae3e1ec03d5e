"""Exemplars found on a GPU, in emulation, against the CPU's."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from emulated_gpu import EmulatedDevice, build, compiler

from engines.runtime.devices import cuda_missing
from stream.clustering import cluster_embeddings, clustering_gpu
from stream.config import ClusterConfig
from stream.errors import ConfigError
from stream.exemplars import find_exemplars


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if compiler() is None:
        pytest.skip("g++ is not installed")
    return build(tmp_path_factory.mktemp("emulated"))


def points(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    centres = rng.standard_normal((12, 16))
    x = (centres[rng.integers(0, 12, n)] + 0.4 * rng.standard_normal((n, 16))).astype(np.float32)
    weights = rng.integers(1, 9, n).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True), weights, np.arange(n)


@pytest.mark.parametrize("how", [{}, {"clusters": (10, 14)}, {"strength": 0.6}, {"strength": 0.0}])
def test_the_gpu_finds_what_the_cpu_finds(how: dict[str, object], library: ctypes.CDLL) -> None:
    given, config = points(160), ClusterConfig(**how)
    here, there = find_exemplars(*given, config), find_exemplars(*given, config, EmulatedDevice(library))
    assert (here.device, there.device, here.method, there.method) == ("cpu", "cuda", "dense", "dense")
    assert there.exemplars.tolist() == here.exemplars.tolist()
    assert (there.probes, there.converged, there.messages) == (here.probes, here.converged, here.messages)
    assert there.strength == pytest.approx(here.strength, rel=1e-6)


def test_what_does_not_fit_the_gpu_is_left_to_the_cpu(library: ctypes.CDLL) -> None:
    device = EmulatedDevice(library)
    device.free = 2 * 8 * 159**2
    found = find_exemplars(*points(160), ClusterConfig(), device)
    assert (found.device, device.launches) == ("cpu", [])
    assert find_exemplars(*points(159), ClusterConfig(), device).device == "cuda"
    small = find_exemplars(*points(160), ClusterConfig(memory_mb=0.1), EmulatedDevice(library))
    assert (small.device, small.method) == ("cpu", "two-level")


def test_a_gpu_that_is_asked_for_and_missing_is_an_error() -> None:
    if cuda_missing() is None:
        pytest.skip("there is a GPU")
    assert clustering_gpu("auto") == (None, [])
    with pytest.raises(ConfigError, match=r"device 'cuda': .*pip install .*; or use 'auto'"):
        cluster_embeddings(points(20)[0], device="cuda")
