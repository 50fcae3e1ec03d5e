"""Weights of an exported network back in torch, where the export folded its normalizations away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def restore(net: nn.Module, model: Any, folded: Callable[[str], str | None]) -> tuple[str, str] | None:
    """Load what an ONNX ``model`` holds into ``net``, by name.

    A normalization that was folded away comes back as one that adds the folded bias and changes nothing else.

    Args:
        folded: the place of a normalization, "block.norm", to the initializer that holds its bias; None where
            normalizations of that place are not folded.

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
    net: nn.Module, name: str, value: Tensor, found: dict[str, Tensor], folded: Callable[[str], str | None]
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
