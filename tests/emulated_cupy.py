"""CuPy's memory, streams and events over NumPy, for what decodes to a GPU: as strict as CuPy's, and late.

A copy between host and device is made only when somebody waits for it, and then with what is in the memory at
that time. So what writes to pinned memory too early, or reads it before it waited, gets wrong pictures.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import emulated_gpu
import numpy as np


class _Current(threading.local):
    """What a thread has made current, the last on top."""

    def __init__(self) -> None:
        self.devices: list[int] = []
        self.streams: list[Stream] = []


current = _Current()


class Stream:
    """Copies that nobody has waited for, in order."""

    null: Stream
    _numbers = itertools.count(1)

    def __init__(self, null: bool = False, non_blocking: bool = False) -> None:
        self.ptr = 0 if null else next(self._numbers)
        self.non_blocking = non_blocking
        self.waiting: list[Callable[[], None]] = []

    def __enter__(self) -> Stream:
        assert current.devices, "the stream's device is not current"
        current.streams.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        assert current.streams.pop() is self

    def wait_event(self, event: Event) -> None:
        self.waiting.append(event.synchronize)

    def synchronize(self) -> None:
        self.run(len(self.waiting))

    def run(self, count: int) -> None:
        """Make the first ``count`` of the copies."""
        for _ in range(count):
            self.waiting.pop(0)()


Stream.null = Stream(null=True)


class Event:
    """A place in a stream."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        assert current.devices, "an event belongs to the device that is current"
        self._mark: Callable[[], None] = lambda: None

    def record(self, stream: Stream) -> None:
        done: list[bool] = []
        stream.waiting.append(lambda: done.append(True))

        def reached() -> None:
            while not done:
                stream.run(1)

        self._mark = reached

    def synchronize(self) -> None:
        self._mark()


class Device:
    """The only one."""

    def __init__(self, index: int = 0) -> None:
        assert index == 0
        self.id = index

    def __enter__(self) -> Device:
        current.devices.append(self.id)
        return self

    def __exit__(self, *_: object) -> None:
        current.devices.pop()


class Memory:
    def __init__(self, size: int) -> None:
        assert current.devices, "memory is taken of the device that is current"
        self._bytes = np.full(size, 99, np.uint8)
        self.ptr, self.size = self._bytes.ctypes.data, size


class UnownedMemory:
    def __init__(self, ptr: int, size: int, owner: object, device_id: int = -1) -> None:
        self.ptr, self.size, self.owner, self.device_id = ptr, size, owner, device_id


class MemoryPointer:
    def __init__(self, mem: Memory | UnownedMemory, offset: int) -> None:
        self.mem, self.ptr = mem, mem.ptr + offset


class _Bytes:
    """What NumPy makes an array of that keeps the memory."""

    def __init__(self, pointer: MemoryPointer, shape: tuple[int, ...], dtype: Any) -> None:
        assert int(np.prod(shape)) * np.dtype(dtype).itemsize <= pointer.mem.size
        self.pointer = pointer
        kind = np.dtype(dtype).str
        self.__array_interface__ = {
            "shape": shape,
            "typestr": kind,
            "data": (pointer.ptr, False),
            "version": 3,
        }


def _ndarray(shape: tuple[int, ...], dtype: Any = float, memptr: MemoryPointer | None = None) -> Any:
    assert memptr is not None
    return np.asarray(_Bytes(memptr, shape, dtype)).view(emulated_gpu.DeviceArray)


def _set(self: Any, arr: Any, stream: Stream) -> None:
    assert type(arr) is np.ndarray
    assert (self.shape, self.dtype) == (arr.shape, arr.dtype)
    assert self.flags.c_contiguous
    to = self.view(np.ndarray)
    stream.waiting.append(lambda: np.copyto(to, arr))


def _get(self: Any, stream: Stream, order: str = "C", out: Any = None, blocking: bool = True) -> Any:
    assert type(out) is np.ndarray
    assert (self.shape, self.dtype) == (out.shape, out.dtype)
    of = self.view(np.ndarray)
    stream.waiting.append(lambda: np.copyto(out, of))
    if blocking:
        stream.synchronize()
    return out


class _Capsule:
    """What CuPy takes and NumPy does not: a DLPack capsule without the object that made it."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


class Cupy(emulated_gpu.Namespace):
    """Stands for the module ``cupy``."""

    ndarray = staticmethod(_ndarray)

    def __init__(self) -> None:
        super().__init__()
        self.__name__ = "cupy"
        runtime = SimpleNamespace(
            CUDARuntimeError=RuntimeError,
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda index: {"name": b"an emulated GPU"},
            memGetInfo=lambda: (1 << 30, 1 << 30),
        )
        self.cuda = SimpleNamespace(
            Stream=Stream, Event=Event, Device=Device, Memory=Memory, UnownedMemory=UnownedMemory,
            MemoryPointer=MemoryPointer, runtime=runtime,
            alloc_pinned_memory=lambda size: (ctypes.c_ubyte * (size + 512))(),  # it rounds up, too
        )  # fmt: skip

    def from_dlpack(self, capsule: Any) -> Any:
        return np.from_dlpack(_Capsule(capsule)).view(emulated_gpu.DeviceArray)


def install(monkeypatch: Any) -> None:
    """Let ``import cupy`` give the emulated one."""
    monkeypatch.setitem(sys.modules, "cupy", Cupy())
    array = emulated_gpu.DeviceArray
    monkeypatch.setattr(array, "set", _set, raising=False)
    monkeypatch.setattr(array, "get", _get, raising=False)
    monkeypatch.setattr(array, "data", property(lambda self: SimpleNamespace(ptr=self.ctypes.data)))
