"""float16 in the ONNX file itself: TensorRT of today is strongly typed and takes the types from there.

ONNX Runtime has a converter too. It puts casts around every node that stays float32, so that boxes in pixels
pass through float16 after all; here casts stand only where float16 and float32 meet.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engines.runtime.base import EngineError
from engines.runtime.precision.graph import import_onnx, one_line, opset, subgraphs, tail

# Without a float16 kernel in ONNX Runtime or TensorRT.
_FULL = frozenset({"Range", "CumSum", "NonMaxSuppression", "TopK", "RoiAlign", "Upsample", "OneHot"})
_FULL_INPUTS = {"Resize": (1, 2)}  # region and scales are float32 by the operator's definition
_TINY, _LARGEST = 6e-8, 65504.0  # float16's own limits
_QUANTIZED_OPSET = 21  # from 19 on, what is dequantized may be float16


def to_half(model: Any) -> Any:
    """The same network with float16 layers, weights and inputs; outputs stay float32.

    What follows the last layers (see :func:`engines.runtime.precision.graph.tail`) stays float32, too.
    The model is changed in place, and returned; its metadata are kept.

    Raises:
        EngineError: it has control flow (If, Loop), or types that do not fit together afterwards.
    """
    onnx = import_onnx()
    for node in subgraphs(model):
        raise EngineError(
            f"float16: node {node.name!r} is a {node.op_type} with a graph of its own, which is not"
            " converted; export the network without control flow, or use precision fp32"
        )
    quantized = any(node.op_type == "DequantizeLinear" for node in model.graph.node)
    try:
        if quantized and opset(model) < 19:
            kept = list(model.metadata_props)
            model = onnx.version_converter.convert_version(model, _QUANTIZED_OPSET)
            del model.metadata_props[:]
            model.metadata_props.extend(kept)
        _constants_to_weights(model)
        _Conversion(model).convert()
        onnx.shape_inference.infer_shapes(model, check_type=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise EngineError(
            f"float16: the network cannot be converted ({one_line(error)}); use precision fp32"
        ) from error
    return model


class _Conversion:
    """One model on its way to float16; ``types`` holds what each value has become so far."""

    def __init__(self, model: Any) -> None:
        self.onnx = import_onnx()
        self.single = self.onnx.TensorProto.FLOAT
        self.half = self.onnx.TensorProto.FLOAT16
        self.graph = model.graph
        self.weights = {tensor.name: tensor for tensor in self.graph.initializer}
        self.full = tail(model) | {node.name for node in self.graph.node if node.op_type in _FULL}
        known = [*self.graph.input, *self.graph.output, *self.graph.value_info]
        self.types = {value.name: value.type.tensor_type.elem_type for value in known}
        self.types |= {name: tensor.data_type for name, tensor in self.weights.items()}
        self.nodes: list[Any] = []
        self.others: dict[str, str] = {}  # value -> the same in the other type

    def convert(self) -> None:
        """Rewrite the graph."""
        for value in self.graph.input:
            if value.name not in self.weights and self.types[value.name] == self.single:
                value.type.tensor_type.elem_type = self.types[value.name] = self.half
        for node in list(self.graph.node):
            self._take(node)
        for output in self.graph.output:
            if self.types.get(output.name) == self.half and output.type.tensor_type.elem_type == self.single:
                self._give(output.name)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        del self.graph.value_info[:]  # types as they were; whoever needs them infers them
        used = {name for node in self.nodes for name in node.input}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _take(self, node: Any) -> None:
        """Add a node, with its inputs in the type it works in."""
        kind = self.single if node.name in self.full else self.half
        always = _FULL_INPUTS.get(node.op_type, ())
        for i, name in enumerate(node.input):
            node.input[i] = self._as(name, self.single if i in always else kind)
        for attribute in node.attribute:
            if kind == self.half and attribute.name in ("to", "dtype") and attribute.i == self.single:
                attribute.i = self.half
            if kind == self.half and attribute.name == "value" and attribute.t.data_type == self.single:
                array = self.onnx.numpy_helper.to_array(attribute.t)
                attribute.t.CopyFrom(self.onnx.numpy_helper.from_array(_half(array)))
        self.nodes.append(node)
        for name in node.output:
            if self.types.get(name) == self.single:
                self.types[name] = kind

    def _as(self, name: str, kind: int) -> str:
        """The value ``name`` in type ``kind``: itself, a converted weight, or the result of a cast."""
        found = self.types.get(name)
        if found not in (self.single, self.half) or found == kind:
            return name
        if name not in self.others:
            other = f"{name}__{'fp16' if kind == self.half else 'fp32'}"
            self.others[name] = other
            self.types[other] = kind
            if name in self.weights:
                array = self.onnx.numpy_helper.to_array(self.weights[name])
                array = _half(array) if kind == self.half else array.astype(np.float32)
                self.graph.initializer.append(self.onnx.numpy_helper.from_array(array, other))
            else:
                self.nodes.append(self._cast(name, other, kind))
        return self.others[name]

    def _give(self, name: str) -> None:
        """Make the output ``name`` float32 again: its maker writes beside it, and a cast follows."""
        beside = f"{name}__inner"
        for node in self.nodes:
            for names in (node.input, node.output):
                for i, found in enumerate(names):
                    if found == name:
                        names[i] = beside
        self.nodes.append(self._cast(beside, name, self.single))

    def _cast(self, source: str, target: str, kind: int) -> Any:
        return self.onnx.helper.make_node("Cast", [source], [target], name=f"{target}__cast", to=kind)


def _constants_to_weights(model: Any) -> None:
    """Turn Constant nodes of numbers into weights, so that each gets the types its readers need."""
    onnx = import_onnx()
    rest = []
    for node in model.graph.node:
        tensor = _constant(onnx, node) if node.op_type == "Constant" else None
        if tensor is None:
            rest.append(node)
        else:
            model.graph.initializer.append(tensor)
    del model.graph.node[:]
    model.graph.node.extend(rest)


def _constant(onnx: Any, node: Any) -> Any:
    (attribute,) = node.attribute
    if attribute.name == "value":
        array = onnx.numpy_helper.to_array(attribute.t)
    elif attribute.name in ("value_float", "value_floats"):
        array = np.asarray(onnx.helper.get_attribute_value(attribute), np.float32)
    elif attribute.name in ("value_int", "value_ints"):
        array = np.asarray(onnx.helper.get_attribute_value(attribute), np.int64)
    else:
        return None
    return onnx.numpy_helper.from_array(array, node.output[0])


def _half(array: np.ndarray) -> np.ndarray:
    """As float16: too large becomes the largest there is, too small the smallest and not zero (it may be
    divided by), infinities stay."""
    finite = np.clip(array, -_LARGEST, _LARGEST)
    values = np.where(np.isinf(array), array, finite)
    values = np.where((values != 0) & (np.abs(values) < _TINY), np.copysign(_TINY, values), values)
    return values.astype(np.float16)
