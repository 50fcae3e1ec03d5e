"""What runs the kernels (``affinity.cu`` and the files beside it), and how a pass is laid out on it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kernels.affinity._device import Array

_SOURCES = ("types.cu", "affinity.cu", "messages.cu", "greedy.cu")  # one translation unit, in this order
NAMES = {"float16": "half", "float32": "float", "float64": "double"}  # suffixes of the kernels
_RESERVED = 2048  # shared memory of a block that its kernel and the driver take


def source() -> str:
    """The CUDA source of all kernels."""
    return "\n".join(Path(__file__).with_name(name).read_text() for name in _SOURCES)


class Device(Protocol):
    """What runs the kernels: a GPU, or, in tests, the host."""

    xp: Any
    processors: int
    shared_per_block: int
    shared_per_processor: int

    def launch(
        self, kernel: str, blocks: int, threads: tuple[int, int], shared: int, arguments: tuple[Any, ...]
    ) -> None:
        """Run a kernel after what was asked for before, without waiting for it."""

    def to_host(self, array: Array) -> Any:
        """Wait, and copy to NumPy."""

    def free_bytes(self) -> int:
        """Memory that may still be taken."""


class CupyDevice:
    """The current CUDA device, through CuPy, on the current stream.

    Raises:
        RuntimeError: no CuPy, no driver or no device; the message says what to do.
    """

    def __init__(self) -> None:
        try:
            import cupy
        except ImportError as error:
            raise RuntimeError(
                f"device 'cuda': CuPy is missing ({error}). Install it with: pip install 'celstream[gpu]'"
            ) from error
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise RuntimeError(
                f"device 'cuda': no NVIDIA driver answers ({error}). Install one (nvidia-smi must list the "
                "GPU), or take device 'cpu'"
            ) from error
        if count == 0:
            raise RuntimeError("device 'cuda': the NVIDIA driver finds no GPU; take device 'cpu'")
        self.xp = cupy
        number = cupy.cuda.Device().id
        attributes = cupy.cuda.Device(number).attributes
        self.processors = int(attributes["MultiProcessorCount"])
        self.shared_per_block = int(attributes["MaxSharedMemoryPerBlockOptin"])
        self.shared_per_processor = int(attributes["MaxSharedMemoryPerMultiprocessor"])
        self._number = number

    def launch(
        self, kernel: str, blocks: int, threads: tuple[int, int], shared: int, arguments: tuple[Any, ...]
    ) -> None:
        function = _kernel(self._number, kernel)
        if shared > 48 << 10 and function.max_dynamic_shared_size_bytes < shared:
            function.max_dynamic_shared_size_bytes = shared
        function((blocks,), threads, arguments, shared_mem=shared)

    def to_host(self, array: Array) -> Any:
        return self.xp.asnumpy(array)

    def free_bytes(self) -> int:
        free, _ = self.xp.cuda.runtime.memGetInfo()
        return int(free) + int(self.xp.get_default_memory_pool().free_bytes())


@functools.lru_cache(maxsize=16)
def _module(device: int) -> Any:
    """The kernels, compiled once per process and device (CuPy also keeps them on disk)."""
    import cupy

    return cupy.RawModule(code=source(), options=("-std=c++17",))


@functools.lru_cache(maxsize=128)
def _kernel(device: int, name: str) -> Any:
    kernel = _module(device).get_function(name)
    if name.startswith("pass_"):
        kernel.preferred_shared_memory_carveout = 100  # per cent: rows are kept there, the L1 does little
    return kernel


@dataclass(frozen=True)
class Plan:
    """How the pass is laid out: blocks of threads, and the vectors of a row kept in shared memory."""

    blocks: int
    threads: int
    held: int
    shared: int


def plan(device: Device, n: int, dtype: np.dtype[Any], held_dtype: np.dtype[Any], width: int) -> Plan:
    """As many blocks per multiprocessor, 4 at most, as can keep a whole row; else one, and what fits."""
    lane = 16 // dtype.itemsize  # elements of a vector
    vector = lane * held_dtype.itemsize
    vectors = n // lane
    lists = 2 * width * (dtype.itemsize + 4) + 2 * ((n + lane) // 32 + 1) * 4
    for sharing in (4, 2, 1):
        room = min(device.shared_per_processor // sharing, device.shared_per_block) - _RESERVED - lists
        if vectors * vector <= room:
            break
    held = max(0, min(vectors, room // vector))
    # registers allow 1,024 threads per multiprocessor; each thread has two vectors in flight
    threads = min(1024 // sharing, max(64, -(-vectors // 2 // 32) * 32))
    return Plan(min(n, device.processors * sharing), threads, held, held * vector + lists)
