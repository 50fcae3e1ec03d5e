"""What an ONNX file says about itself, without a runtime that loads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.runtime.base import EngineError, TensorSpec
from engines.runtime.precision.graph import import_onnx, one_line


@dataclass(frozen=True)
class Described:
    """Inputs, outputs and metadata of an ONNX file."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: dict[str, str]


def describe(path: Path) -> Described:
    """Read the description of an ONNX file.

    Raises:
        MissingRuntimeError: onnx is not installed.
        EngineError: the file is no ONNX model.
    """
    onnx = import_onnx()
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own errors among them
        raise EngineError(
            f"{path}: expected an ONNX file, found something else ({one_line(error)})"
        ) from error
    weights = {tensor.name for tensor in model.graph.initializer}
    return Described(
        tuple(_spec(onnx, value) for value in model.graph.input if value.name not in weights),
        tuple(_spec(onnx, value) for value in model.graph.output),
        {entry.key: entry.value for entry in model.metadata_props},
    )


def _spec(onnx: Any, value: Any) -> TensorSpec:
    kind = value.type.tensor_type
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)) if kind.elem_type else "unknown"
    sides = (
        side.dim_value if side.HasField("dim_value") and side.dim_value > 0 else None
        for side in kind.shape.dim
    )
    return TensorSpec(value.name, dtype, tuple(sides))
