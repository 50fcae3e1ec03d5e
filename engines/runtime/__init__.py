"""Networks run here: one :class:`Engine` protocol, a module per runtime."""

from __future__ import annotations

from pathlib import Path

from engines.runtime.base import (
    DeviceError,
    Engine,
    EngineError,
    Fallback,
    MissingRuntimeError,
    TensorSpec,
)

__all__ = [
    "DeviceError",
    "Engine",
    "EngineError",
    "Fallback",
    "MissingRuntimeError",
    "TensorSpec",
    "open_engine",
]


def open_engine(path: str | Path, *, device: str = "auto", threads: int = 0) -> Engine:
    """Load an ONNX file on the best runtime there is.

    Args:
        device: 'cpu'; 'cuda', whose absence is an error; or 'auto', a GPU where there is one, else the CPU
            with the reason in :attr:`Engine.fallbacks`.
        threads: CPU threads per call; 0 takes all cores. Raising it makes one call faster and takes cores
            from the other stations.

    Raises:
        MissingRuntimeError: no package that runs ONNX files is installed.
        DeviceError: ``device='cuda'`` and something it needs is missing.
        EngineError: the file is missing or no network that the runtime can load.
    """
    from engines.runtime.onnx import OnnxEngine

    return OnnxEngine(path, device=device, threads=threads)
