"""An ONNX graph as a sequence of torch calls.

What depends on the pictures' size alone (shapes, the grid of cells) is computed once per size, on the host;
the rest is a list of calls without a decision in it, which a CUDA graph can hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engines.runtime.base import EngineError
from engines.runtime.precision.graph import import_onnx, load_model, subgraphs
from engines.runtime.torch.fold import Call, Values, folded
from engines.runtime.torch.ops import OPS


class TorchGraph:
    """The network of an ONNX file on ``device``. Call it with the input, get every output by name.

    Raises:
        EngineError: no ONNX file; more inputs than one; or an operator that is not among
            :data:`engines.runtime.torch.ops.OPS`.
    """

    def __init__(self, path: Path, device: str) -> None:
        onnx = import_onnx()
        model = load_model(path)
        for node in subgraphs(model):
            raise EngineError(f"{path}: torch: node {node.name!r}: {node.op_type} is not supported")
        self.path, self.device = path, device
        weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        inputs = [value.name for value in model.graph.input if value.name not in weights]
        if len(inputs) != 1:
            raise EngineError(f"{path}: torch: expected a network with one input, found {inputs}")
        self.input = inputs[0]
        self.outputs = tuple(value.name for value in model.graph.output)
        calls = []
        for node in model.graph.node:
            if node.op_type == "Constant":
                weights[node.output[0]] = _constant(onnx, node)
                continue
            if node.op_type == "Identity" and node.input[0] in weights:  # how exporters name equal weights
                weights[node.output[0]] = weights[node.input[0]]
                continue
            if node.op_type not in OPS or node.domain not in ("", "ai.onnx"):
                raise EngineError(f"{path}: torch: node {node.name!r}: {node.op_type} is not supported")
            calls.append(_call(onnx, node))
        calls = folded(calls, weights, self.outputs)
        used = {name for call in calls for name in call.inputs} | set(self.outputs)
        self._host = {n: torch.from_numpy(np.array(value)) for n, value in weights.items() if n in used}
        self._weights = {name: self._placed(value) for name, value in self._host.items()}
        moving = {self.input}
        for call in calls:
            if call.op != "Shape" and not moving.isdisjoint(call.inputs):
                moving.update(call.outputs)
        self._calls = calls
        self._moving = [call for call in calls if call.outputs[0] in moving]
        self._fixed: dict[tuple[int, ...], tuple[Values, Values]] = {}

    def _placed(self, value: Tensor) -> Tensor:
        """A constant on the device; convolution kernels there with the channels last, as the pictures are."""
        if self.device == "cuda" and value.ndim == 4 and value.is_floating_point():
            return value.to(self.device, memory_format=torch.channels_last)
        return value.to(self.device)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        shape = tuple(images.shape)
        if shape not in self._fixed:
            return self._first(images)
        host, fixed = self._fixed[shape]
        values = {**self._weights, **fixed, self.input: images}
        for call in self._moving:
            call.run(values, host)
        return {name: values[name] for name in self.outputs}

    def _first(self, images: Tensor) -> dict[str, Tensor]:
        """The first run at a size: everything is computed, and what the size decides is kept."""
        values = {**self._weights, self.input: images}
        host = dict(self._host)
        moving = {id(call) for call in self._moving}
        for call in self._calls:
            if id(call) in moving:
                call.run(values, host)
                continue
            # on the host, from what is there; a shape is that of a value that may be anywhere
            call.run(scratch := {**host, **({} if call.op != "Shape" else values)}, host)
            for name in call.outputs:
                host[name] = scratch[name]
                values[name] = scratch[name].to(self.device)
        known = host.keys() - self._host.keys()
        self._fixed[tuple(images.shape)] = (host, {name: values[name] for name in known})
        return {name: values[name] for name in self.outputs}


def _call(onnx: Any, node: Any) -> Call:
    attributes: dict[str, Any] = {"outputs": len(node.output)}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode()
        elif attribute.type == onnx.AttributeProto.TENSOR:
            value = torch.from_numpy(np.array(onnx.numpy_helper.to_array(value)))
        attributes[attribute.name] = value
    return Call(node.op_type, node.name, tuple(node.input), tuple(node.output), attributes)


def _constant(onnx: Any, node: Any) -> np.ndarray:
    (attribute,) = node.attribute
    if attribute.name == "value":
        return np.array(onnx.numpy_helper.to_array(attribute.t))
    kind = np.float32 if attribute.name.startswith("value_float") else np.int64
    return np.asarray(onnx.helper.get_attribute_value(attribute), kind)
