"""The CUDA kernels of affinity propagation compiled for the host: ``cuda.py`` runs whole without a GPU."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from kernels.affinity._gpu import source

_SHIM = Path(__file__).parent / "kernels" / "affinity" / "emulate.h"


def compiler() -> str | None:
    """g++, where there is one; the shim uses its half type and glibc's contexts."""
    return shutil.which("g++")


def build(folder: Path) -> ctypes.CDLL:
    """Compile the kernels and the shim; takes two seconds."""
    code = source()
    kernels = re.findall(r"^(PASS|SUMS|WRITE|EXCHANGE)\((\w+),", code, re.MULTILINE)
    lines = [f'#include "{_SHIM}"', code, *(f"EMULATE({kind.lower()}_{name})" for kind, name in kernels)]
    host, library = folder / "emulated.cpp", folder / "emulated.so"
    host.write_text("\n".join(lines) + "\n")
    command = ["g++", "-std=c++17", "-O2", "-shared", "-fPIC", "-w", "-o", str(library), str(host)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


class EmulatedDevice:
    """A small GPU: see :class:`kernels.affinity.cuda.Device`. ``backwards``: threads in reverse."""

    xp = np

    def __init__(
        self, library: ctypes.CDLL, *, processors: int = 3, shared: int = 64 << 10, backwards: bool = False
    ) -> None:
        self.library = library
        self.processors = processors
        self.shared_per_block = self.shared_per_processor = shared
        self.backwards = backwards
        self.launches: list[str] = []
        self.looks = 0
        self.free = 1 << 30

    def launch(
        self, kernel: str, blocks: int, threads: tuple[int, int], shared: int, arguments: tuple[Any, ...]
    ) -> None:
        assert shared <= self.shared_per_block
        self.launches.append(kernel)
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
