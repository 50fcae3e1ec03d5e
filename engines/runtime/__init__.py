"""Networks run here: one :class:`Engine` protocol, a module per runtime."""

from __future__ import annotations

from engines.runtime.base import (
    DeviceError,
    Engine,
    EngineError,
    Fallback,
    MissingRuntimeError,
    TensorSpec,
)
from engines.runtime.choose import open_engine

__all__ = [
    "DeviceError",
    "Engine",
    "EngineError",
    "Fallback",
    "MissingRuntimeError",
    "TensorSpec",
    "open_engine",
]
