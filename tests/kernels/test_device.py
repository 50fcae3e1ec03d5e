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


def test_shared_memory_beyond_48_kb_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kernel declares itself counts among the 48 KB, so that the launch asks a little earlier."""
    asked: list[int] = []

    class Kernel:
        shared_size_bytes = 800
        launched: list[int] = []  # noqa: RUF012

        def __setattr__(self, name: str, value: int) -> None:
            assert name == "max_dynamic_shared_size_bytes"
            asked.append(value)

        def __call__(
            self, grid: tuple[int], block: tuple[int, int], arguments: tuple[Any, ...], *, shared_mem: int
        ) -> None:
            assert shared_mem + self.shared_size_bytes <= 48 << 10 or shared_mem <= max(asked, default=0)
            self.launched.append(shared_mem)

    kernel = Kernel()
    monkeypatch.setattr(device, "_kernel", lambda *_: kernel)
    one = object.__new__(device.CupyDevice)
    one.source, one._number, one._room = SOURCE, 0, {}
    for shared in (0, 40_000, 48_352, 48_353, 49_000, 100_000, 60_000):
        one.launch("pass_float", 1, (32, 1), shared, ())
    assert len(kernel.launched) == 7
    assert asked == [48_353, 49_000, 100_000]
