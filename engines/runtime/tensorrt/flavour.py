"""Which TensorRT is installed, and which one serves this GPU."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from engines.runtime.base import MissingRuntimeError
from engines.runtime.devices import Gpu

_INSTALL = "pip install tensorrt (or, for a GeForce or RTX card, tensorrt-rtx-cu13)"


@dataclass(frozen=True)
class Flavour:
    """One installed TensorRT: ``module`` is its Python module; ``rtx`` tells TensorRT-RTX from TensorRT."""

    module: Any
    rtx: bool

    @property
    def name(self) -> str:
        return "TensorRT-RTX" if self.rtx else "TensorRT"

    @property
    def version(self) -> str:
        return str(self.module.__version__)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def serves(self, gpu: Gpu) -> bool:
        """Whether it has kernels for this GPU. TensorRT-RTX names what it serves; Hopper is not among it."""
        if not self.rtx:
            return True
        known = self.module.ComputeCapability.__members__
        return f"SM{gpu.capability[0]}{gpu.capability[1]}" in known


def installed() -> tuple[list[Flavour], list[str]]:
    """What can be imported, TensorRT first; and why what cannot be imported cannot."""
    found, reasons = [], []
    for name, rtx in (("tensorrt", False), ("tensorrt_rtx", True)):
        try:
            found.append(Flavour(importlib.import_module(name), rtx))
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            reasons.append(f"{name}: {' '.join(str(error).split())[:120]}")
    return found, reasons


def choose_flavour(gpu: Gpu | None) -> Flavour:
    """The TensorRT to use for ``gpu``; without one, that which builds without one.

    Raises:
        MissingRuntimeError: none is installed, or none that serves this GPU; with the pip command.
    """
    found, reasons = installed()
    if not found:
        raise MissingRuntimeError(f"TensorRT is not installed ({'; '.join(reasons)}); {_INSTALL}")
    if gpu is None:
        for flavour in found:
            if flavour.rtx:
                return flavour
        raise MissingRuntimeError(
            f"{found[0]} builds engines on the GPU they are for, and there is none here;"
            " pip install tensorrt-rtx-cu13 builds without one"
        )
    for flavour in found:
        if flavour.serves(gpu):
            return flavour
    raise MissingRuntimeError(f"{found[0]} does not serve {gpu}; pip install tensorrt")
