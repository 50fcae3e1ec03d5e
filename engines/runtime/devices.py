"""Which processors are there."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import cache


def cpu_cores() -> int:
    """Cores this process may use."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # macOS, Windows
        return max(1, os.cpu_count() or 1)


@dataclass(frozen=True)
class Gpu:
    """The first GPU that this process sees: its name and compute capability, as (9, 0)."""

    name: str
    capability: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability[0]}.{self.capability[1]})"


def _driver() -> ctypes.CDLL | None:
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


@cache
def gpu() -> Gpu | None:
    """The GPU, asked of the driver; None where there is none."""
    driver = _driver()
    if driver is None or cuda_missing() is not None:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    calls = (
        lambda: driver.cuDeviceGet(ctypes.byref(device), 0),
        lambda: driver.cuDeviceGetName(name, len(name), device),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(major), 75, device),  # COMPUTE_CAPABILITY_MAJOR
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, device),  # COMPUTE_CAPABILITY_MINOR
    )
    if any(call() != 0 for call in calls):
        return None
    return Gpu(name.value.decode(errors="replace"), (major.value, minor.value))


@cache
def cuda_missing() -> str | None:
    """Why there is no usable NVIDIA GPU, asked of the driver itself; None where there is one."""
    driver = _driver()
    if driver is None:
        return "no NVIDIA driver is installed (libcuda was not found)"
    code = driver.cuInit(0)
    if code != 0:
        return f"the NVIDIA driver does not start (cuInit returned {code}; nvidia-smi says more)"
    count = ctypes.c_int(0)
    code = driver.cuDeviceGetCount(ctypes.byref(count))
    if code != 0 or count.value < 1:
        return "the NVIDIA driver sees no GPU (is CUDA_VISIBLE_DEVICES empty?)"
    return None
