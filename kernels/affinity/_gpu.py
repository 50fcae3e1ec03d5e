"""The CUDA source of affinity propagation (``affinity.cu`` and what is beside it); how a pass is laid out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kernels import device as gpu
from kernels.device import Device

__all__ = ["NAMES", "SOURCE", "CupyDevice", "Device", "Plan", "plan", "source"]

_FILES = ("types.cu", "affinity.cu", "messages.cu", "greedy.cu")  # one translation unit, in this order
SOURCE = gpu.Source(tuple(Path(__file__).with_name(name) for name in _FILES), rows_in_shared="pass_")
NAMES = {"float16": "half", "float32": "float", "float64": "double"}  # suffixes of the kernels
_RESERVED = 2048  # shared memory of a block that its kernel and the driver take


def source() -> str:
    """The CUDA source of all kernels."""
    return SOURCE.text()


class CupyDevice(gpu.CupyDevice):
    """The current CUDA device with the kernels of affinity propagation; see the base class."""

    def __init__(self) -> None:
        super().__init__(SOURCE)


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
