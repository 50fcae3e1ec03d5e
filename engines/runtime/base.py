"""What a network runtime looks like to the stations, whichever runtime it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

Array = Any  # numpy.ndarray or cupy.ndarray


class EngineError(Exception):
    """A network cannot be read or run. The message names the file and what to do."""


class MissingRuntimeError(EngineError):
    """A package that runs networks is not installed; the message names the pip command."""


class DeviceError(EngineError):
    """The device that was asked for is not there; the message says what is missing."""


@dataclass(frozen=True)
class Fallback:
    """Something else than the best way was taken: what was wanted, what is used, and why."""

    wanted: str
    used: str
    reason: str


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of an input or output; a free axis (the batch) is None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} ({', '.join('?' if n is None else str(n) for n in self.shape)})"


@runtime_checkable
class Engine(Protocol):
    """A loaded network. ``run`` takes every input by name and returns every output by name.

    ``metadata`` is the ONNX file's own (``names``, ``stride``, ``imgsz``, ``mean``, ...), as strings.
    ``description`` says what runs it ("ONNX Runtime 1.31 CPU, 2 threads"), for the run's record.
    ``device`` is 'cpu' or 'cuda'. ``fallbacks`` says what was wanted and could not be had.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: dict[str, str]
    description: str
    device: str
    fallbacks: tuple[Fallback, ...]

    def run(self, **arrays: Array) -> dict[str, Array]: ...

    def close(self) -> None: ...
