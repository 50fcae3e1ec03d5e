"""Where arrays lie, what brings them to the host, and what is said where there is no GPU."""

from __future__ import annotations

import importlib.util
import threading
from typing import Any

import numpy as np
import pytest

from kernels import device
from kernels.image import letterbox
from kernels.image_cuda import SOURCE
from kernels.placement import fit_letterbox


def test_what_comes_to_the_host_is_counted_cuda_source(gpu: Any) -> None:
    device.traffic.reset()
    here, there = np.arange(10.0), gpu.xp.asarray(np.arange(6, dtype=np.float32))
    assert device.to_host(here, "vectors") is here
    np.testing.assert_array_equal(device.to_host(there, "vectors"), np.arange(6))
    device.to_host(gpu.xp.zeros(1000, np.uint8), "pictures")
    device.to_host(there, "vectors")
    assert list(device.traffic.read().items()) == [("pictures", 1000), ("vectors", 48)]
    device.traffic.reset()
    assert device.traffic.read() == {}


def test_arrays_are_told_apart_cuda_source(gpu: Any) -> None:
    there = device.to_device(np.arange(3))
    assert device.on_device(there)
    assert not device.on_device(np.arange(3))
    assert device.to_device(there) is there
    assert device.namespace_of(there) is gpu.xp
    assert device.namespace_of([1, 2]) is np


def test_threads_share_the_count() -> None:
    traffic = device.Traffic()
    threads = [
        threading.Thread(target=lambda: [traffic.add("boxes", 3) for _ in range(2000)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert traffic.read() == {"boxes": 24_000}


def test_without_cupy_the_error_says_what_to_install() -> None:
    if importlib.util.find_spec("cupy") is not None:
        pytest.skip("CuPy is installed")

    class OnGpu(np.ndarray):
        __cuda_array_interface__: dict[str, Any] = {}  # noqa: RUF012

    images = np.zeros((1, 4, 4, 3), np.uint8).view(OnGpu)
    with pytest.raises(RuntimeError, match=r"pip install 'celstream\[gpu\]'"):
        letterbox(images, fit_letterbox(4, 4, 8, 8), mul=1)
    with pytest.raises(RuntimeError, match=r"pip install 'celstream\[gpu\]'"):
        device.open_device(SOURCE)
    with pytest.raises(RuntimeError, match=r"pip install 'celstream\[gpu\]'"):
        device.to_host(images, "pictures")
