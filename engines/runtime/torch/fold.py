"""Batch normalizations taken into the convolutions before them, or made one multiplication and addition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from engines.runtime.torch.ops import ON_HOST, OPS, SCALE_SHIFT

Values = dict[str, Tensor]


@dataclass(frozen=True)
class Call:
    """One operator: its ONNX name, the names of what goes in and comes out, and its attributes."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    def run(self, values: Values, host: Values) -> None:
        """Compute the outputs into ``values``; shapes and axes are taken from ``host``."""
        on_host = ON_HOST.get(self.op, ())
        given = [
            None if not name else (host[name] if i in on_host and name in host else values[name])
            for i, name in enumerate(self.inputs)
        ]
        results = OPS[self.op](self.attributes, *given)
        if not isinstance(results, tuple):
            results = (results,)
        for name, result in zip(self.outputs, results, strict=False):
            values[name] = result


def folded(calls: Sequence[Call], weights: dict[str, np.ndarray], outputs: Sequence[str]) -> list[Call]:
    """The calls without batch normalizations; their numbers go into ``weights``, worked out in float32.

    One that follows a convolution of its own disappears in it. Any other becomes a scale and a shift per
    channel. One whose statistics are no constants stays.
    """
    readers = Counter(name for call in calls for name in call.inputs)
    readers.update(outputs)
    done: list[Call] = []
    makers: dict[str, int] = {}  # value -> position in ``done``
    for call in calls:
        if call.op == "BatchNormalization" and all(name in weights for name in call.inputs[1:]):
            scale, shift = _numbers(call, weights)
            at = makers.get(call.inputs[0])
            before = done[at] if at is not None else None
            own = before is not None and before.op == "Conv" and readers[call.inputs[0]] == 1
            if own and before is not None and at is not None and before.inputs[1] in weights:
                done[at] = _taken_in(before, call, scale, shift, weights)
                makers[call.outputs[0]] = at
                continue
            call = _alone(call, scale, shift, weights)
        makers[call.outputs[0]] = len(done)
        done.append(call)
    return done


def _numbers(call: Call, weights: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift per channel, (C,) float32."""
    scale, shift, mean, variance = (weights[name].astype(np.float32) for name in call.inputs[1:])
    scale = scale / np.sqrt(variance + np.float32(call.attributes.get("epsilon", 1e-5)))
    return scale, shift - mean * scale


def _taken_in(
    conv: Call, norm: Call, scale: np.ndarray, shift: np.ndarray, weights: dict[str, np.ndarray]
) -> Call:
    kernel = weights[conv.inputs[1]]
    bias = weights[conv.inputs[2]].astype(np.float32) if len(conv.inputs) > 2 and conv.inputs[2] else 0.0
    names = f"{norm.name}.kernel", f"{norm.name}.bias"  # others may share the convolution's own
    by_channel = scale.reshape(-1, *[1] * (kernel.ndim - 1))
    weights[names[0]] = (kernel.astype(np.float32) * by_channel).astype(kernel.dtype)
    weights[names[1]] = (bias * scale + shift).astype(kernel.dtype)
    return replace(conv, inputs=(conv.inputs[0], *names), outputs=norm.outputs[:1])


def _alone(norm: Call, scale: np.ndarray, shift: np.ndarray, weights: dict[str, np.ndarray]) -> Call:
    names = f"{norm.name}.scale", f"{norm.name}.shift"
    dtype = weights[norm.inputs[1]].dtype
    for name, values in zip(names, (scale, shift), strict=True):
        weights[name] = values.astype(dtype).reshape(-1, 1, 1)
    return replace(norm, op=SCALE_SHIFT, inputs=(norm.inputs[0], *names), outputs=norm.outputs[:1])
