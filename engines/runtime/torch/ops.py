"""What each ONNX operator is in torch: ``OPS[name](attributes, *inputs)``, a missing optional input is None.

Those that convolutional networks and the tails of detectors are made of. Inputs listed in ``ON_HOST`` are
shapes, axes and sizes, and come as CPU tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Attributes = Mapping[str, Any]
Op = Callable[..., Any]

OPS: dict[str, Op] = {}
SCALE_SHIFT = "celstream.ScaleShift"  # a batch normalization with its numbers worked out
ON_HOST: dict[str, tuple[int, ...]] = {
    "Reshape": (1,),
    "Expand": (1,),
    "Slice": (1, 2, 3, 4),
    "Resize": (1, 2, 3),
    "Unsqueeze": (1,),
    "Squeeze": (1,),
    "Split": (1,),
    "Tile": (1,),
    "CumSum": (1,),
    "Pad": (1, 2),
    "ReduceMean": (1,),
    "ReduceSum": (1,),
    "ReduceMax": (1,),
    "ReduceMin": (1,),
    "ReduceL2": (1,),
    "ConstantOfShape": (0,),
    "Range": (0, 1, 2),
}
_DTYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}


def _op(*names: str) -> Callable[[Op], Op]:
    def keep(function: Op) -> Op:
        for name in names:
            OPS[name] = function
        return function

    return keep


def _plain(name: str, function: Callable[..., Any]) -> None:
    OPS[name] = lambda _attributes, *inputs: function(*inputs)


for _name, _function in {
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Erf": torch.erf,
    "Abs": torch.abs,
    "Neg": torch.neg,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Reciprocal": torch.reciprocal,
    "Softplus": F.softplus,
    "HardSwish": F.hardswish,
    "Identity": lambda x: x,
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Pow": lambda x, y: torch.pow(x, y.to(x.dtype)),
    "MatMul": torch.matmul,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Not": torch.logical_not,
    "Where": torch.where,
    "GlobalAveragePool": lambda x: x.mean(tuple(range(2, x.ndim)), keepdim=True),
    "GlobalMaxPool": lambda x: x.amax(tuple(range(2, x.ndim)), keepdim=True),
}.items():
    _plain(_name, _function)


def _ints(tensor: Tensor | None) -> list[int]:
    return [] if tensor is None else [int(v) for v in tensor.reshape(-1).tolist()]


@_op("Div")
def _div(_a: Attributes, x: Tensor, y: Tensor) -> Tensor:
    if x.is_floating_point() or y.is_floating_point():
        return torch.div(x, y)
    return torch.div(x, y, rounding_mode="trunc")


def _folded(function: Callable[[Tensor, Tensor], Tensor]) -> Op:
    def run(_a: Attributes, first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = function(first, other)
        return first

    return run


OPS["Max"], OPS["Min"], OPS["Sum"] = _folded(torch.maximum), _folded(torch.minimum), _folded(torch.add)


@_op("LeakyRelu")
def _leaky(a: Attributes, x: Tensor) -> Tensor:
    return F.leaky_relu(x, a.get("alpha", 0.01))


@_op("PRelu")
def _prelu(_a: Attributes, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


@_op("HardSigmoid")
def _hard_sigmoid(a: Attributes, x: Tensor) -> Tensor:
    return (x * a.get("alpha", 0.2) + a.get("beta", 0.5)).clamp(0, 1)


@_op("Softmax")
def _softmax(a: Attributes, x: Tensor) -> Tensor:
    return x.softmax(a.get("axis", -1))


@_op("Clip")
def _clip(a: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    low = low if low is not None else a.get("min")
    high = high if high is not None else a.get("max")
    return torch.clamp(x, low, high) if low is not None or high is not None else x


@_op("Cast")
def _cast(a: Attributes, x: Tensor) -> Tensor:
    return x.to(_DTYPES[a["to"]])


@_op("Shape")
def _shape(a: Attributes, x: Tensor) -> Tensor:
    sides = list(x.shape)[a.get("start", 0) : a.get("end")]
    return torch.tensor(sides, dtype=torch.int64)


@_op("ConstantOfShape")
def _constant(a: Attributes, shape: Tensor) -> Tensor:
    value = a.get("value", torch.zeros(1))
    return value.reshape(()).expand(_ints(shape)).clone()


@_op("Range")
def _range(_a: Attributes, start: Tensor, limit: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), step.item(), dtype=start.dtype)


@_op("Reshape")
def _reshape(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    sides = _ints(shape)
    if not a.get("allowzero", 0):
        sides = [x.shape[i] if side == 0 else side for i, side in enumerate(sides)]
    return x.reshape(sides)


@_op("Flatten")
def _flatten(a: Attributes, x: Tensor) -> Tensor:
    axis = a.get("axis", 1) % (x.ndim + 1)
    return x.flatten(axis) if axis == 1 else x.reshape(int(torch.tensor(x.shape[:axis]).prod()), -1)


@_op("Transpose")
def _transpose(a: Attributes, x: Tensor) -> Tensor:
    return x.permute(a.get("perm") or list(range(x.ndim))[::-1])


@_op("Squeeze")
def _squeeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    found = _ints(axes) or list(a.get("axes", [])) or [i for i, side in enumerate(x.shape) if side == 1]
    return x.squeeze(tuple(found))


@_op("Unsqueeze")
def _unsqueeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    found = _ints(axes) or list(a.get("axes", []))
    rank = x.ndim + len(found)
    for axis in sorted(axis % rank for axis in found):
        x = x.unsqueeze(axis)
    return x


@_op("Expand")
def _expand(_a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(_ints(shape))))


@_op("Tile")
def _tile(_a: Attributes, x: Tensor, times: Tensor) -> Tensor:
    return x.repeat(_ints(times))


@_op("Concat")
def _concat(a: Attributes, *inputs: Tensor) -> Tensor:
    return torch.cat(inputs, a["axis"])


@_op("Split")
def _split(a: Attributes, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = a.get("axis", 0)
    given = _ints(sizes) or list(a.get("split", []))
    if not given:
        parts = a.get("num_outputs") or a["outputs"]
        given = [-(-x.shape[axis] // parts)] * (parts - 1)
        given.append(x.shape[axis] - sum(given))
    return x.split(given, axis)


@_op("Slice")
def _slice(
    a: Attributes,
    x: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    begin = _ints(starts) or list(a.get("starts", []))
    end = _ints(ends) or list(a.get("ends", []))
    along = _ints(axes) or list(a.get("axes", [])) or list(range(len(begin)))
    by = _ints(steps) or [1] * len(begin)
    for low, high, axis, step in zip(begin, end, along, by, strict=True):
        side = x.shape[axis]
        if step < 0:  # the same places forwards, then turned round
            picked = range(side)[slice(low, None if high < -side else high, step)]
            low, high, step = (picked[-1], picked[0] + 1, -step) if picked else (0, 0, 1)
            index = [slice(None)] * x.ndim
            index[axis] = slice(low, high, step)
            x = x[tuple(index)].flip(axis)
        else:
            index = [slice(None)] * x.ndim
            index[axis] = slice(low, min(high, side), step)
            x = x[tuple(index)]
    return x


@_op("Gather")
def _gather(a: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    axis = a.get("axis", 0) % x.ndim
    flat = indices.reshape(-1).to(x.device)
    found = x.index_select(axis, torch.where(flat < 0, flat + x.shape[axis], flat))
    return found.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


@_op("Pad")
def _pad(
    a: Attributes, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, *_: Any
) -> Tensor:
    given = _ints(pads) or list(a.get("pads", []))
    half = len(given) // 2
    pairs = [side for axis in reversed(range(half)) for side in (given[axis], given[half + axis])]
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}[a.get("mode", "constant")]
    if mode != "constant":
        return F.pad(x, pairs[:4], mode)
    return F.pad(x, pairs, value=float(value) if value is not None else a.get("value", 0.0))


def _padded(a: Attributes, x: Tensor, kernel: list[int], fill: float) -> tuple[Tensor, list[int]]:
    """The picture with what is not symmetric of its padding, and what is left for the operator itself."""
    pads = list(a.get("pads", [0] * (2 * len(kernel))))
    low, high = pads[: len(kernel)], pads[len(kernel) :]
    if low == high:
        return x, low
    pairs = [side for axis in reversed(range(len(kernel))) for side in (low[axis], high[axis])]
    return F.pad(x, pairs, value=fill), [0] * len(kernel)


@_op("Conv")
def _conv(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    ones = [1] * (weight.ndim - 2)
    x, padding = _padded(a, x, list(weight.shape[2:]), 0.0)
    run = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(ones)]
    stride, dilation = a.get("strides", ones), a.get("dilations", ones)
    return run(x, weight, bias, stride, padding, dilation, a.get("group", 1))


@_op("ConvTranspose")
def _conv_transpose(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    ones = [1] * (weight.ndim - 2)
    pads = a.get("pads", [0] * (2 * len(ones)))
    return F.conv_transpose2d(
        x,
        weight,
        bias,
        a.get("strides", ones),
        list(pads[: len(ones)]),
        a.get("output_padding", [0] * len(ones)),
        a.get("group", 1),
        a.get("dilations", ones),
    )


@_op("BatchNormalization")
def _norm(a: Attributes, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return F.batch_norm(x, mean, var, scale, shift, False, 0.0, a.get("epsilon", 1e-5))


@_op(SCALE_SHIFT)
def _scale_shift(_a: Attributes, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return torch.addcmul(shift, x, scale)


@_op("MaxPool")
def _max_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel = list(a["kernel_shape"])
    x, padding = _padded(a, x, kernel, float("-inf"))
    ones = [1] * len(kernel)
    stride, dilation = a.get("strides", ones), a.get("dilations", ones)
    return F.max_pool2d(x, kernel, stride, padding, dilation, bool(a.get("ceil_mode", 0)))


@_op("AveragePool")
def _average_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel = list(a["kernel_shape"])
    x, padding = _padded(a, x, kernel, 0.0)
    counted = bool(a.get("count_include_pad", 0))
    return F.avg_pool2d(x, kernel, a.get("strides", [1, 1]), padding, bool(a.get("ceil_mode", 0)), counted)


def _reduced(function: Callable[..., Tensor]) -> Op:
    def run(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        along = _ints(axes) or list(a.get("axes", []))
        if not along and a.get("noop_with_empty_axes", 0):
            return x
        return function(x, tuple(along) or tuple(range(x.ndim)), bool(a.get("keepdims", 1)))

    return run


OPS["ReduceMean"], OPS["ReduceSum"] = _reduced(torch.mean), _reduced(torch.sum)
OPS["ReduceMax"], OPS["ReduceMin"] = _reduced(torch.amax), _reduced(torch.amin)
OPS["ReduceL2"] = _reduced(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep))


@_op("CumSum")
def _cumsum(a: Attributes, x: Tensor, axis: Tensor) -> Tensor:
    along = _ints(axis)[0]
    x = x.flip(along) if a.get("reverse", 0) else x
    out = x.cumsum(along) - (x if a.get("exclusive", 0) else 0)
    return out.flip(along) if a.get("reverse", 0) else out


@_op("Gemm")
def _gemm(a: Attributes, x: Tensor, y: Tensor, z: Tensor | None = None) -> Tensor:
    x = x.T if a.get("transA", 0) else x
    y = y.T if a.get("transB", 0) else y
    out = a.get("alpha", 1.0) * (x @ y)
    return out if z is None else out + a.get("beta", 1.0) * z


@_op("Resize")
def _resize(
    a: Attributes, x: Tensor, _region: Any = None, scales: Tensor | None = None, sizes: Tensor | None = None
) -> Tensor:
    mode = a.get("mode", "nearest")
    how = a.get("coordinate_transformation_mode", "half_pixel")
    if sizes is not None and sizes.numel():
        target = _ints(sizes)[2:]
    else:
        assert scales is not None
        factors = [float(v) for v in scales.tolist()[2:]]
        target = [int(side * factor) for side, factor in zip(x.shape[2:], factors, strict=True)]
    if mode == "nearest":
        doubles = all(large % small == 0 for large, small in zip(target, x.shape[2:], strict=True))
        if not doubles:
            raise ValueError(f"Resize: nearest from {tuple(x.shape[2:])} to {target}, expected whole factors")
        return F.interpolate(x, target, mode="nearest")
    corners = how == "align_corners"
    return F.interpolate(
        x, target, mode={"linear": "bilinear", "cubic": "bicubic"}[mode], align_corners=corners
    )


def _along(values: Tensor, x: Tensor, axis: int) -> Tensor:
    """Scales of an axis, shaped so that they multiply it; one number as it is."""
    return values if values.ndim == 0 else values.reshape([-1 if i == axis else 1 for i in range(x.ndim)])


@_op("QuantizeLinear")
def _quantize(a: Attributes, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    axis = a.get("axis", 1) % max(1, x.ndim)
    low, high = (0, 255) if zero is None or zero.dtype == torch.uint8 else (-128, 127)
    levels = torch.round(x.float() / _along(scale, x, axis).float())
    if zero is not None:
        levels = levels + _along(zero, x, axis).float()
    return levels.clamp(low, high).to(torch.uint8 if zero is None else zero.dtype)


@_op("DequantizeLinear")
def _dequantize(a: Attributes, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    axis = a.get("axis", 1) % max(1, x.ndim)
    levels = x.float() if zero is None else x.float() - _along(zero, x, axis).float()
    return (levels * _along(scale, x, axis).float()).to(scale.dtype)
