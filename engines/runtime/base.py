"""What a network runtime looks like to the stations, whichever runtime it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

Array = Any  # numpy.ndarray or cupy.ndarray


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of an input or output; a free axis (the batch) is None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@runtime_checkable
class Engine(Protocol):
    """A loaded network. ``run`` takes every input by name and returns every output by name.

    ``metadata`` is the ONNX file's own (``names``, ``stride``, ``imgsz``, ``mean``, ...), as strings.
    ``description`` says what runs it ("ONNX Runtime 1.31 CPU, 2 threads"), for the run's record.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: dict[str, str]
    description: str

    def run(self, **arrays: Array) -> dict[str, Array]: ...

    def close(self) -> None: ...
