"""Weights between torch and an exported network, whose exporter folded normalizations into convolutions.

:func:`restore` brings them back into torch, :func:`fill` puts those of a trained network into the graph it
began with: a new trace by PyTorch's exporter takes ten seconds and gives the same graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

#: The place of a normalization, "block.norm", to the initializer of its folded bias; None: not folded.
Folded = Callable[[str], str | None]


def folded_densenet(place: str) -> str | None:
    """Of :class:`engines.nets.densenet.DenseNet`: two of its normalizations follow a convolution."""
    above, _, norm = place.rpartition(".")
    before = {"norm0": "conv0", "norm2": "conv1"}.get(norm)
    return f"{above}.{before}.weight_bias" if before else None


def folded_yolo(place: str) -> str | None:
    """Of :class:`engines.nets.yolo.Yolo`: all of its normalizations follow a convolution."""
    above, _, module = place.rpartition(".")
    return f"{above}.conv.weight_bias" if module == "norm" else None


def fill(model: Any, net: nn.Module, folded: Folded) -> None:
    """Put the weights of ``net``, in evaluation mode, in place of those of an ONNX ``model`` of the same
    architecture; the inverse of :func:`restore`.

    Raises:
        ValueError: the model lacks one of them, or has it in another shape.
    """
    from onnx import numpy_helper

    stored = {i.name: i for i in model.graph.initializer}
    for name, value in _exported(net, stored.keys(), folded).items():
        found = tuple(stored[name].dims) if name in stored else None
        if found != tuple(value.shape):
            raise ValueError(f"{name}: expected {tuple(value.shape)}, found {found or 'none'}")
        stored[name].CopyFrom(numpy_helper.from_array(value.detach().cpu().float().numpy(), name))


def _exported(net: nn.Module, names: Any, folded: Folded) -> dict[str, Tensor]:
    """What an exporter stores of ``net``: its weights by name, the folded ones scaled and with their bias."""
    out = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    for place, norm in net.named_modules():
        bias = folded(place)
        if not isinstance(norm, nn.BatchNorm2d) or bias is None or f"{place}.weight" in names:
            continue
        assert norm.running_mean is not None
        assert norm.running_var is not None
        gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        weight = bias.removesuffix("_bias")
        out[weight] = out[weight].double() * gain[:, None, None, None]
        out[bias] = norm.bias.double() - gain * norm.running_mean.double()
        for kind in ("weight", "bias", "running_mean", "running_var"):
            del out[f"{place}.{kind}"]
    return out


def restore(net: nn.Module, model: Any, folded: Folded) -> tuple[str, str] | None:
    """Load what an ONNX ``model`` holds into ``net``, by name.

    A normalization that was folded away comes back as one that adds the folded bias and changes nothing else.

    Args:
        folded: which normalizations are.

    Returns:
        None; or the name of the first weight that is missing or of another shape, and the shape found.
    """
    from onnx import numpy_helper

    found = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in model.graph.initializer}
    state = {}
    for name, value in net.state_dict().items():
        stored = found.get(name)
        if stored is None:
            stored = _neutral(net, name, value, found, folded)
        if stored is None or stored.shape != value.shape:
            return name, "none" if stored is None else str(tuple(stored.shape))
        state[name] = stored
    net.load_state_dict(state)
    return None


def _neutral(
    net: nn.Module, name: str, value: Tensor, found: dict[str, Tensor], folded: Folded
) -> Tensor | None:
    """The value of a folded normalization's ``name``, None where it is none or its bias is not there."""
    place, _, kind = name.rpartition(".")
    if kind == "num_batches_tracked":
        return torch.zeros_like(value)
    bias = folded(place)
    if bias is None:
        return None
    if kind == "bias":
        return found.get(bias)
    if kind == "running_var":
        return torch.full_like(value, 1 - float(net.get_submodule(place).eps))
    return torch.ones_like(value) if kind == "weight" else torch.zeros_like(value)
