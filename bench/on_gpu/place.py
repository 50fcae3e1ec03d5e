"""Where a measurement runs, how time is taken there, and what the place can do at best.

``Place("cuda")`` is the current CUDA device through CuPy. ``Place("cpu")`` has the same interface over NumPy,
so that every part of the benchmark can be rehearsed where there is no GPU; its figures mean nothing.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from engines.runtime.devices import cuda_missing
from kernels.device import Source, open_device

Array = Any  # numpy.ndarray or cupy.ndarray
Figures = dict[str, Any]
GIB = 2**30

HOLD = Source((Path(__file__).with_name("hold.cu"),))
_LONGEST_HOLD_S = 0.05

# what each part measures, and the packages that all of it needs; engines that are missing it names itself
PARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pictures": ("colours, letterbox, crops, NMS", ("cupy",)),
    "networks": ("pictures/s of each engine, and of torch.compile", ("cupy", "torch", "onnx")),
    "affinity": ("affinity propagation", ("cupy", "sklearn")),
    "decoding": ("frames/s of H.264 and HEVC", ("cupy", "av")),
    "whole": ("the whole pipeline", ("cupy", "av", "onnxruntime")),
}
_LIMITS = ("limits", ("copy bandwidth, matrix rate", ("cupy",)))


class Skipped(Exception):
    """A part cannot run here. The message says what is missing."""


class Place:
    """A GPU, or the CPU in its stead.

    Attributes:
        xp: cupy or numpy.
        rehearsal: True on the CPU, where sizes are small and nothing is recorded.

    Raises:
        Skipped: 'cuda', and there is no CuPy, driver or GPU.
    """

    def __init__(self, device: str) -> None:
        self.rehearsal = device == "cpu"
        self.xp: Any = np
        if not self.rehearsal:
            from kernels.affinity._gpu import CupyDevice

            try:
                self.xp = CupyDevice().xp
            except RuntimeError as error:
                raise Skipped(str(error)) from error

    def synchronize(self) -> None:
        """Wait for everything that was asked of the device."""
        if not self.rehearsal:
            self.xp.cuda.Device().synchronize()

    def release(self) -> None:
        """Give cached memory back, CuPy's and torch's, so that the next part finds the device as it was."""
        if not self.rehearsal:
            self.xp.get_default_memory_pool().free_all_blocks()
            if "torch" in sys.modules:
                sys.modules["torch"].cuda.empty_cache()

    def free_bytes(self) -> int:
        """Memory that may still be taken."""
        return 2 * GIB if self.rehearsal else int(self.xp.cuda.runtime.memGetInfo()[0])

    def random_bytes(self, *shape: int) -> Array:
        """uint8 noise."""
        return self.xp.random.default_rng(0).integers(0, 256, shape, dtype=self.xp.uint8)

    def seconds(self, work: Callable[[], object], repeats: int = 10) -> float:
        """The shortest of some runs, after two that warm up.

        On the GPU it is between two events on the stream that the work was put on: what the device needed. It
        is held up until the host has asked for all of it, which takes longer than many a kernel runs.
        """
        if self.rehearsal:
            return self.wall_seconds(work, 1)
        events = self.xp.cuda
        best = float("inf")
        work()  # compiled
        self.synchronize()
        began = time.perf_counter()
        work()
        asking = time.perf_counter() - began
        for _ in range(repeats):
            start, stop = events.Event(), events.Event()
            self._hold(min(_LONGEST_HOLD_S, 2 * asking + 1e-4))
            start.record()
            work()
            stop.record()
            stop.synchronize()
            best = min(best, events.get_elapsed_time(start, stop) / 1e3)
        return best

    def _hold(self, seconds: float) -> None:
        open_device(HOLD).launch("hold", 1, (1, 1), 0, (np.int64(1e9 * seconds),))

    def wall_seconds(self, work: Callable[[], object], repeats: int = 3) -> float:
        """The shortest of some runs by the clock, the device idle before and after."""
        best = float("inf")
        for _ in range(repeats + 1):
            self.synchronize()
            start = time.perf_counter()
            work()
            self.synchronize()
            best = min(best, time.perf_counter() - start)
        return best


def skipped_without_a_gpu(parts: Iterable[str], reason: str) -> Iterator[str]:
    """A line for each part, and for the limits before them: what is not measured, and what it lacks here.

    Args:
        reason: why there is no :class:`Place`, told where neither the driver nor a package is what lacks.
    """
    driver = cuda_missing()
    for part, (what, packages) in (_LIMITS, *((part, PARTS[part]) for part in parts)):
        lacking = [] if driver is None else [driver]
        absent = [package for package in packages if find_spec(package) is None]
        if absent:
            lacking.append(f"not installed: {', '.join(absent)}; pip install 'celstream[gpu,train]'")
        yield f"{part} ({what}): {'; '.join(lacking) or reason}"


def limits(place: Place) -> Figures:
    """The device's name, and what a plain copy and a matrix product reach on it."""
    xp = place.xp
    size = 64 << 20 if place.rehearsal else min(4 * GIB, place.free_bytes() // 4)
    source = xp.ones(size // 4, xp.float32)
    target = xp.empty_like(source)
    copy = 2 * source.nbytes / place.seconds(functools.partial(xp.copyto, target, source))
    del source, target
    side = 256 if place.rehearsal else 8192
    factor = xp.ones((side, side), xp.float16)
    if not place.rehearsal:  # equal numbers draw less power than real ones, and flatter the clock
        factor = xp.random.default_rng(0).standard_normal((side, side), dtype=xp.float32).astype(xp.float16)
    rate = 2 * side**3 / place.seconds(lambda: factor @ factor, 5)
    place.release()
    return {
        **_named(place),
        "copy_gb_per_s": round(copy / 1e9, 1),
        "matrix_fp16_tflop_per_s": round(rate / 1e12, 6),
    }


def _named(place: Place) -> Figures:
    if place.rehearsal:
        return {"device": "the CPU, as a rehearsal"}
    runtime = place.xp.cuda.runtime
    properties = runtime.getDeviceProperties(place.xp.cuda.Device().id)
    return {
        "device": properties["name"].decode(),
        "memory_gib": round(runtime.memGetInfo()[1] / GIB, 1),
        "cupy": place.xp.__version__,
        "driver_cuda": runtime.driverGetVersion(),
    }
