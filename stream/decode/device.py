"""Where decoded frames live: the few things that decoding asks of a GPU, and the same of the host's memory.

:class:`CudaDevice` is a GPU by CuPy. :class:`HostDevice` does the same with NumPy: several lanes on the CPU
keep their frames in it, and everything that is written for a GPU also runs on it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from stream.errors import ConfigError

Array = Any  # numpy.ndarray or cupy.ndarray

INSTALL = "install NVIDIA's driver and run pip install 'celstream[gpu]', or set --device cpu"


class Queue(Protocol):
    """Work in order, beside that of other queues (a CUDA stream). One lane's, used by one thread."""

    def use(self) -> contextlib.AbstractContextManager[Any]:
        """What is computed inside is put into this queue."""

    def after_decoder(self) -> None:
        """What follows waits for what the hardware decoder has put out so far. The host does not wait."""

    def upload(self, host: Array, out: Array) -> Callable[[], None]:
        """Copy pinned memory to the device; the result waits until ``host`` may be written again."""

    def download(self, array: Array, host: Array) -> Callable[[], None]:
        """Copy to pinned memory; the result waits until ``host`` may be read."""

    def mark(self) -> Callable[[], None]:
        """The result waits until everything put in so far is done."""


class Device(Protocol):
    """Memory for frames, and queues of work on them.

    Attributes:
        xp: the array module: numpy or cupy.
        surfaces: FFmpeg's names of the formats whose frames lie in this memory, as NV12 or P010.
    """

    name: str
    index: int
    xp: Any
    surfaces: tuple[str, ...]

    def free_bytes(self) -> int:
        """Memory that is free now."""

    def buffer(self, size: int) -> Array:
        """``(size,)`` uint8, not initialized."""

    def view(self, buffer: Array, shape: tuple[int, ...], owner: object) -> Array:
        """uint8 of that shape at the start of ``buffer``; it and every view of it keep ``owner`` alive."""

    def pinned(self, shape: tuple[int, ...]) -> Array:
        """A NumPy array of uint8 that copies to and from the device need not wait for."""

    def queue(self) -> Queue:
        """The calling thread's queue."""


class _Owned:
    """Memory of a NumPy buffer under another shape. NumPy keeps what offers it, and so the owner."""

    def __init__(self, buffer: Array, shape: tuple[int, ...], owner: object) -> None:
        self.buffer, self.owner = buffer, owner
        self.__array_interface__ = {**buffer.__array_interface__, "shape": shape, "strides": None}


class HostQueue:
    """Everything is done at once."""

    def use(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def after_decoder(self) -> None:
        pass

    def upload(self, host: Array, out: Array) -> Callable[[], None]:
        np.copyto(out, host)
        return _done

    def download(self, array: Array, host: Array) -> Callable[[], None]:
        np.copyto(host, array)
        return _done

    def mark(self) -> Callable[[], None]:
        return _done


def _done() -> None:
    return None


class HostDevice:
    """The host's memory, by NumPy."""

    name = "host memory"
    index = 0
    xp: Any = np
    surfaces: tuple[str, ...] = ("nv12", "p010le")

    def free_bytes(self) -> int:
        import psutil

        return int(psutil.virtual_memory().available)

    def buffer(self, size: int) -> Array:
        return np.empty(size, np.uint8)

    def view(self, buffer: Array, shape: tuple[int, ...], owner: object) -> Array:
        return np.asarray(_Owned(buffer, shape, owner))

    def pinned(self, shape: tuple[int, ...]) -> Array:
        return np.empty(shape, np.uint8)

    def queue(self) -> Queue:
        return HostQueue()


class CudaQueue:
    """A CUDA stream that does not wait for the legacy default stream, on which FFmpeg's decoder works."""

    def __init__(self, cupy: Any, index: int) -> None:
        self._cupy = cupy
        self._index = index
        with cupy.cuda.Device(index):
            self._stream = cupy.cuda.Stream(non_blocking=True)
            self._decoded = cupy.cuda.Event(disable_timing=True)

    @contextlib.contextmanager
    def use(self) -> Any:
        with self._cupy.cuda.Device(self._index), self._stream:
            yield

    def after_decoder(self) -> None:
        with self._cupy.cuda.Device(self._index):
            self._decoded.record(self._cupy.cuda.Stream.null)
            self._stream.wait_event(self._decoded)

    def upload(self, host: Array, out: Array) -> Callable[[], None]:
        with self.use():
            out.set(host, stream=self._stream)
        return self.mark()

    def download(self, array: Array, host: Array) -> Callable[[], None]:
        with self.use():
            array.get(stream=self._stream, out=host, blocking=False)
        return self.mark()

    def mark(self) -> Callable[[], None]:
        with self._cupy.cuda.Device(self._index):
            # a waiting thread sleeps in place of spinning: there are more lanes than cores to spare
            event = self._cupy.cuda.Event(block=True, disable_timing=True)
            event.record(self._stream)
        wait: Callable[[], None] = event.synchronize
        return wait


class CudaDevice:
    """A GPU, by CuPy. Its primary context is used, which FFmpeg's decoder and the engines share.

    Raises:
        ConfigError: there is no CuPy, no driver or no such GPU; the message says which, and the step to take.
    """

    surfaces: tuple[str, ...] = ("cuda",)

    def __init__(self, index: int = 0) -> None:
        self.index = index
        self._queues = threading.local()
        try:
            import cupy
        except ImportError as error:
            raise ConfigError(f"device cuda: CuPy is not installed ({error}); {INSTALL}") from error
        try:
            count = cupy.cuda.runtime.getDeviceCount()
            if index >= count:
                raise ConfigError(f"device cuda: there is no GPU {index}, found {count}; {INSTALL}")
            properties = cupy.cuda.runtime.getDeviceProperties(index)
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise ConfigError(f"device cuda: no usable NVIDIA GPU ({error}); {INSTALL}") from error
        self.xp: Any = cupy
        self.name = properties["name"].decode()

    def free_bytes(self) -> int:
        with self.xp.cuda.Device(self.index):
            return int(self.xp.cuda.runtime.memGetInfo()[0])

    def buffer(self, size: int) -> Array:
        with self.xp.cuda.Device(self.index):
            # from the driver and not from CuPy's pool, so that what is let go is free for everybody
            memory = self.xp.cuda.Memory(size)
            return self.xp.ndarray((size,), self.xp.uint8, memptr=self.xp.cuda.MemoryPointer(memory, 0))

    def view(self, buffer: Array, shape: tuple[int, ...], owner: object) -> Array:
        size = int(np.prod(shape))
        memory = self.xp.cuda.UnownedMemory(buffer.data.ptr, size, (owner, buffer), self.index)
        return self.xp.ndarray(shape, self.xp.uint8, memptr=self.xp.cuda.MemoryPointer(memory, 0))

    def pinned(self, shape: tuple[int, ...]) -> Array:
        memory = self.xp.cuda.alloc_pinned_memory(int(np.prod(shape)))
        return np.frombuffer(memory, np.uint8, int(np.prod(shape))).reshape(shape)

    def queue(self) -> Queue:
        # one for each thread and not for each segment: what CuPy's pool keeps of a stream is for that stream
        queue: CudaQueue | None = getattr(self._queues, "own", None)
        if queue is None:
            queue = self._queues.own = CudaQueue(self.xp, self.index)
        return queue


@lru_cache(maxsize=8)
def cuda_device(index: int = 0) -> CudaDevice:
    """The GPU, opened once.

    Raises:
        ConfigError: as :class:`CudaDevice`.
    """
    return CudaDevice(index)
