"""CUDA kernels compiled for the host: what runs them runs whole without a GPU.

:class:`EmulatedDevice` runs the kernels of one source. :class:`DeviceArray` is an array that behaves as
CuPy's where that matters: it mixes with no NumPy array, and comes to the host only where it is asked to.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from kernels.affinity._gpu import SOURCE
from kernels.device import Source

_SHIM = Path(__file__).parent / "kernels" / "affinity" / "emulate.h"


def compiler() -> str | None:
    """g++, where there is one; the shim uses its half type and glibc's contexts."""
    return shutil.which("g++")


def build(folder: Path, source: Source = SOURCE) -> ctypes.CDLL:
    """Compile the kernels and the shim; takes two seconds."""
    code = source.text()
    kernels = re.findall(r'^extern "C" __global__ void (\w+)\(', code, re.MULTILINE)
    made = re.findall(r"^(PASS|SUMS|WRITE|EXCHANGE)\((\w+),", code, re.MULTILINE)
    kernels += [f"{kind.lower()}_{name}" for kind, name in made]
    lines = [f'#include "{_SHIM}"', code, *(f"EMULATE({name})" for name in kernels)]
    host, library = folder / "emulated.cpp", folder / "emulated.so"
    host.write_text("\n".join(lines) + "\n")
    command = ["g++", "-std=c++17", "-O2", "-shared", "-fPIC", "-w", "-o", str(library), str(host)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


class EmulatedDevice:
    """A small GPU: see :class:`kernels.device.Device`. ``backwards``: threads in reverse."""

    def __init__(
        self,
        library: ctypes.CDLL,
        *,
        processors: int = 3,
        shared: int = 64 << 10,
        backwards: bool = False,
        xp: Any = np,
    ) -> None:
        self.xp = xp
        self.library = library
        self.processors = processors
        self.shared_per_block = self.shared_per_processor = shared
        self.backwards = backwards
        self.launches: list[str] = []
        self.streams: list[Any] = []  # that these were put on
        self.looks = 0
        self.free = 1 << 30

    def launch(
        self, kernel: str, blocks: int, threads: tuple[int, int], shared: int, arguments: tuple[Any, ...]
    ) -> None:
        assert shared <= self.shared_per_block
        assert self.xp is np or not any(type(value) is np.ndarray for value in arguments), "host memory"
        self.launches.append(kernel)
        if isinstance(self.xp, Namespace):
            self.streams.append(self.xp.cuda.get_current_stream())
        values = [
            np.uint64(value.ctypes.data) if isinstance(value, np.ndarray) else value for value in arguments
        ]
        boxes = [np.array([value]) for value in values]  # each keeps its own type, as CuPy passes it
        pointers = (ctypes.c_void_p * len(boxes))(*(box.ctypes.data for box in boxes))
        run = getattr(self.library, f"emulate_{kernel}")
        assert run(blocks, threads[0], threads[1], shared, int(self.backwards), pointers) == 0, "threads hang"

    def to_host(self, array: np.ndarray) -> np.ndarray:
        self.looks += 1
        return array.copy()

    def free_bytes(self) -> int:
        return self.free


class DeviceArray(np.ndarray):
    """An array in the memory of an emulated GPU. As with CuPy, mixing it with NumPy's is a TypeError; and so,
    stricter than CuPy, is what would wait for the GPU without saying so (``bool``, ``int``, ``tolist``, ...).
    """

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self.__array_interface__, "version": 3}

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **options: Any) -> Any:
        outs = options.pop("out", ())
        if outs:
            options["out"] = tuple(_bare(out) for out in outs)
        result = getattr(function, method)(*(_bare(value) for value in inputs), **options)
        return outs[0] if outs else _lifted(result)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        if function in (np.zeros, np.empty):  # by their argument `like`
            return _lifted(function(*arguments, **{k: v for k, v in options.items() if k != "like"}))
        raise TypeError(f"numpy.{function.__name__} was called with an array on the GPU")

    def _waits(self, *_: Any) -> Any:
        raise TypeError("this would wait for the GPU")

    __bool__ = __int__ = __float__ = __index__ = __iter__ = tolist = item = _waits  # type: ignore[assignment]

    def __getitem__(self, key: Any) -> Any:
        keys = key if isinstance(key, tuple) else (key,)
        bare = tuple(_bare(k) if isinstance(k, np.ndarray) and k.ndim else k for k in keys)
        return _lifted(self.view(np.ndarray)[bare])

    def __setitem__(self, key: Any, value: Any) -> None:
        keys = key if isinstance(key, tuple) else (key,)
        self.view(np.ndarray)[tuple(_bare(k) if isinstance(k, np.ndarray) else k for k in keys)] = _bare(
            value
        )


def _bare(value: Any) -> Any:
    """The host's view of a GPU array, for what stands for a kernel of CuPy's."""
    if isinstance(value, DeviceArray):
        return value.view(np.ndarray)
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError(f"Unsupported type {type(value)}: an array on the host among ones on the GPU")
    if isinstance(value, list | tuple):
        return type(value)(_bare(v) for v in value)
    return value


def _lifted(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value).view(DeviceArray)
    return tuple(_lifted(v) for v in value) if isinstance(value, tuple) else value


class Stream:
    """A CUDA stream: everything on it is done at once. Entered, it is the thread's current one."""

    null: Stream
    _current = threading.local()

    def __init__(self, non_blocking: bool = False) -> None:
        self.ptr = id(self) if non_blocking else 0

    def __enter__(self) -> Stream:
        self._stack().append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack().pop()

    @classmethod
    def _stack(cls) -> list[Stream]:
        if not hasattr(cls._current, "stack"):
            cls._current.stack = [cls.null]
        stack: list[Stream] = cls._current.stack
        return stack

    def record(self) -> Stream:
        """An event, which is the stream it was recorded on."""
        return self

    def wait_event(self, event: Stream) -> None:
        assert event is not self


Stream.null = Stream()


class Namespace:
    """Stands for the module ``cupy``: NumPy's functions over :class:`DeviceArray`."""

    cuda = SimpleNamespace(
        Stream=Stream,
        get_current_stream=lambda: Stream._stack()[-1],
        runtime=SimpleNamespace(getDevice=lambda: 0),
    )

    def __init__(self, inner: Any = np) -> None:
        self._inner = inner

    def asarray(self, array: Any, dtype: Any = None) -> DeviceArray:
        """To the GPU: a copy, unless it is there."""
        if isinstance(array, DeviceArray):
            return array if dtype is None else array.astype(dtype, copy=False)
        return np.array(array, dtype=dtype).view(DeviceArray)

    def asnumpy(self, array: Any) -> np.ndarray:
        """To the host: a copy."""
        return np.array(array.view(np.ndarray))

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if isinstance(value, type):
            return value
        if not callable(value):
            return Namespace(value) if type(value).__name__ == "module" else value
        return lambda *a, **k: _lifted(value(*_bare(a), **{key: _bare(v) for key, v in k.items()}))


class Gpu:
    """What a test runs kernels on: an emulated GPU, or (``emulated`` False) the real one.

    Attributes:
        xp: the namespace of its arrays.
        launches: names of the kernels launched so far; of an emulated one.
    """

    def __init__(self, xp: Any, emulated: bool) -> None:
        self.xp = xp
        self.emulated = emulated
        self.devices: list[EmulatedDevice] = []

    @property
    def launches(self) -> list[str]:
        return [name for device in self.devices for name in device.launches]

    def host(self, array: Any) -> np.ndarray:
        """For the test's own use: not counted."""
        assert hasattr(array, "__cuda_array_interface__"), f"expected an array on the GPU, got {type(array)}"
        host: np.ndarray = self.xp.asnumpy(array)
        return host


class Builder:
    """Libraries for :class:`EmulatedDevice`, each source compiled once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._built: dict[Source, ctypes.CDLL] = {}

    def __call__(self, source: Source) -> ctypes.CDLL:
        if source not in self._built:
            place = self.folder / str(len(self._built))
            place.mkdir()
            self._built[source] = build(place, source)
        return self._built[source]


def install(monkeypatch: Any, builder: Builder, *, backwards: bool = False) -> Gpu:
    """Put an emulated GPU where :mod:`kernels.device` looks for a real one."""
    gpu = Gpu(Namespace(), emulated=True)
    opened: dict[Source, EmulatedDevice] = {}

    def open_device(source: Source) -> EmulatedDevice:
        if source not in opened:
            opened[source] = EmulatedDevice(builder(source), xp=gpu.xp, backwards=backwards)
            gpu.devices.append(opened[source])
        return opened[source]

    monkeypatch.setattr("kernels.device.open_device", open_device)
    monkeypatch.setattr("kernels.device.namespace", lambda: gpu.xp)
    return gpu
