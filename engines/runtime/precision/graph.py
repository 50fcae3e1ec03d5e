"""Reading and preparing ONNX graphs before their precision is changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engines.runtime.base import EngineError, MissingRuntimeError

# Layers that a network is made of. What comes after the last of them turns numbers into boxes and scores.
_WITH_WEIGHTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
LAYERS = _WITH_WEIGHTS | {
    *("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "LRN"),
    *("Relu", "LeakyRelu", "PRelu"),
    *("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "ReduceMean"),
    *("QuantizeLinear", "DequantizeLinear"),
}


def import_onnx() -> Any:
    """The package ``onnx``.

    Raises:
        MissingRuntimeError: it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingRuntimeError(
            f"changing a network's precision needs the package onnx, not installed here ({error});"
            " pip install onnx"
        ) from error
    return onnx


def read_model(path: Path) -> Any:
    """A model as it is in its file.

    Raises:
        MissingRuntimeError: onnx is not installed.
        EngineError: the file is missing or no ONNX model.
    """
    onnx = import_onnx()
    if not path.is_file():
        raise EngineError(f"{path}: no such file; give the path of an ONNX file")
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's own errors among them
        raise EngineError(
            f"{path}: expected an ONNX file, found something else ({one_line(error)})"
        ) from error
    if not model.graph.node or not model.graph.output:
        raise EngineError(f"{path}: expected an ONNX file, found one without nodes or outputs")
    return model


def load_model(path: Path) -> Any:
    """A model with its functions inlined, every node named, and the types of its values inferred.

    Raises:
        MissingRuntimeError: onnx is not installed.
        EngineError: the file is missing or no ONNX model.
    """
    onnx, model = import_onnx(), read_model(path)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    seen: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{number}"
        seen.add(node.name)
    return onnx.shape_inference.infer_shapes(model)


def opset(model: Any) -> int:
    """Version of the standard operators that the model uses."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)


def has_precision(model: Any) -> str:
    """'int8' where the model is quantized, 'fp16' where its pictures or weights are float16, else 'fp32'."""
    onnx = import_onnx()
    if any(node.op_type in ("QuantizeLinear", "QLinearConv", "ConvInteger") for node in model.graph.node):
        return "int8"
    kinds = [i.type.tensor_type.elem_type for i in model.graph.input]
    kinds += [tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) >= 2]
    return "fp16" if onnx.TensorProto.FLOAT16 in kinds else "fp32"


def tail(model: Any) -> set[str]:
    """Names of the nodes between the last layers and the outputs.

    They add offsets to cells and make pixels of them, which float16 rounds to half a pixel and more, and
    cost next to nothing. What only they need (the grid of cell centres) counts among them.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    found: set[str] = set()
    waiting = [output.name for output in model.graph.output]
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.name in found or node.op_type in LAYERS:
            continue
        found.add(node.name)
        waiting += [name for name in node.input if name]
    return found


def last_layers(model: Any, after: set[str]) -> set[str]:
    """Names of the layers with weights whose results go straight into the nodes ``after``.

    Where there are no such nodes, those whose results are outputs themselves.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    values = [name for node in model.graph.node if node.name in after for name in node.input]
    values += [output.name for output in model.graph.output]
    return {makers[v].name for v in values if v in makers and makers[v].op_type in _WITH_WEIGHTS}


def subgraphs(model: Any) -> Iterator[Any]:
    """Nodes that hold graphs of their own (If, Loop, Scan)."""
    onnx = import_onnx()
    kinds = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    return (node for node in model.graph.node if any(a.type in kinds for a in node.attribute))


def one_line(error: object) -> str:
    """An error's text in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300]
