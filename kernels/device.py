"""GPU arrays: telling them apart, moving them, and running CUDA kernels over them.

CuPy is imported where a GPU is really used. Tests put another runner behind :func:`open_device` and another
namespace behind :func:`namespace`, and run everything above them on the host.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Array = Any  # numpy.ndarray or cupy.ndarray

_UNASKED = 48 << 10  # bytes of shared memory that every kernel may have


@dataclass(frozen=True)
class Source:
    """CUDA C++ files that are compiled as one translation unit, in this order.

    Attributes:
        rows_in_shared: prefix of the kernels that live from shared memory, for which the L1 gives way.
    """

    files: tuple[Path, ...]
    options: tuple[str, ...] = ("-std=c++17",)
    rows_in_shared: str | None = None

    def text(self) -> str:
        """The whole source."""
        return "\n".join(path.read_text() for path in self.files)


class Device(Protocol):
    """What runs the kernels of one source: a GPU, or, in tests, the host."""

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

    def __init__(self, source: Source) -> None:
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
        self.source = source
        number = cupy.cuda.Device().id
        attributes = cupy.cuda.Device(number).attributes
        self.processors = int(attributes["MultiProcessorCount"])
        self.shared_per_block = int(attributes["MaxSharedMemoryPerBlockOptin"])
        self.shared_per_processor = int(attributes["MaxSharedMemoryPerMultiprocessor"])
        self._number = number
        self._room: dict[str, int] = {}  # shared memory that a kernel was allowed so far

    def launch(
        self, kernel: str, blocks: int, threads: tuple[int, int], shared: int, arguments: tuple[Any, ...]
    ) -> None:
        function = _kernel(self.source, self._number, kernel)
        if shared > self._room.get(kernel, 0):
            # 48 KB are allowed unasked, and what a kernel declares itself counts among them
            if shared + function.shared_size_bytes > _UNASKED:
                function.max_dynamic_shared_size_bytes = shared
            self._room[kernel] = shared
        function((blocks,), threads, arguments, shared_mem=shared)

    def to_host(self, array: Array) -> Any:
        return self.xp.asnumpy(array)

    def free_bytes(self) -> int:
        free, _ = self.xp.cuda.runtime.memGetInfo()
        return int(free) + int(self.xp.get_default_memory_pool().free_bytes())


@functools.lru_cache(maxsize=32)
def _module(source: Source, device: int) -> Any:
    """The kernels, compiled once per process and device (CuPy also keeps them on disk)."""
    import cupy

    return cupy.RawModule(code=source.text(), options=source.options)


@functools.lru_cache(maxsize=256)
def _kernel(source: Source, device: int, name: str) -> Any:
    kernel = _module(source, device).get_function(name)
    if source.rows_in_shared is not None and name.startswith(source.rows_in_shared):
        kernel.preferred_shared_memory_carveout = 100  # per cent: rows are kept there, the L1 does little
    return kernel


@functools.lru_cache(maxsize=32)
def _opened(source: Source, number: int) -> CupyDevice:
    return CupyDevice(source)  # asks the driver for every attribute: once


def open_device(source: Source) -> Device:
    """What runs the kernels of ``source`` on the current CUDA device.

    Raises:
        RuntimeError: no CuPy, no driver or no device; the message says what to do.
    """
    try:
        number = namespace().cuda.runtime.getDevice()
    except Exception:  # its reason is found, and said, by the device itself
        return CupyDevice(source)
    return _opened(source, number)


def namespace() -> Any:
    """CuPy.

    Raises:
        RuntimeError: it is not installed; the message says how to install it.
    """
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError(
            f"device 'cuda': CuPy is missing ({error}). Install it with: pip install 'celstream[gpu]'"
        ) from error
    return cupy


@functools.lru_cache(maxsize=64)
def _stream(name: str, number: int) -> Any:
    return namespace().cuda.Stream(non_blocking=True)


@contextlib.contextmanager
def own_stream(name: str, array: Array) -> Iterator[None]:
    """Inside, work on a GPU goes to the CUDA stream of this name, behind what was asked for before.

    Where nothing was chosen, CuPy's current stream is the legacy default one: everybody's, FFmpeg's decoder's
    among them, so that every decoded frame would wait behind the networks. Streams are kept and not made
    anew, because CuPy's pool gives memory that was let go to the same stream alone.

    Does nothing for an ``array`` that is on the host, nor where a stream was chosen already.
    """
    if not on_device(array):
        yield
        return
    cuda = namespace().cuda
    before = cuda.get_current_stream()
    if before.ptr != cuda.Stream.null.ptr:
        yield
        return
    own = _stream(name, cuda.runtime.getDevice())
    own.wait_event(before.record())
    with own:
        yield
    before.wait_event(own.record())


# --- where an array lies, and moving it -----------------------------------------------------------------


def on_device(array: Array) -> bool:
    """Whether an array lies on a GPU (CuPy's, PyTorch's, DALI's: whatever says so)."""
    return hasattr(array, "__cuda_array_interface__")


def namespace_of(array: Array) -> Any:
    """NumPy or CuPy: the functions that work on ``array``."""
    return namespace() if on_device(array) else np


class Traffic:
    """Bytes that were copied from the GPU to the host, by what they were. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes: Counter[str] = Counter()

    def add(self, what: str, count: int) -> None:
        """Count ``count`` more bytes of ``what``."""
        with self._lock:
            self._bytes[what] += count

    def read(self) -> dict[str, int]:
        """Bytes so far, by what they were, most first."""
        with self._lock:
            return dict(self._bytes.most_common())

    def reset(self) -> None:
        """Begin again at nothing."""
        with self._lock:
            self._bytes.clear()


traffic = Traffic()
"""What :func:`to_host` has copied in this process."""


def to_host(array: Array, what: str) -> Any:
    """An array as NumPy's: itself, or copied from the GPU once the work of the current stream is done.

    Every copy of a station goes through here, so that :data:`traffic` can say what left the GPU.

    Args:
        what: names the data in the count: 'boxes', 'pictures', 'embeddings', ...
    """
    if not on_device(array):
        return array
    host = namespace().asnumpy(array)
    traffic.add(what, int(host.nbytes))
    return host


def to_device(array: Array) -> Array:
    """An array as CuPy's: without a copy where it is on the GPU, else copied on the current stream."""
    return namespace().asarray(array)
