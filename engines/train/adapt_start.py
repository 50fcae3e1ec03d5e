"""The default embedder's weights back out of its ONNX file, as a torch network that can be trained on.

The exporter folds a normalization that follows a convolution into it, so the file has the convolution's
scaled weights and a bias in its place. :func:`read_embedder` puts a normalization there that does the same;
:func:`recalibrated` gives it the statistics of pictures, without which training, which normalizes by the
batch, would begin with another network than the file's.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from engines.nets.densenet import densenet_small
from engines.runtime.base import EngineError
from engines.train.embedder import Embedder
from engines.train.folded import folded_densenet, restore


def read_embedder(path: str | Path) -> Embedder:
    """The network of an ONNX file that :func:`engines.train.embedder.export` wrote, in evaluation mode.

    It gives the file's embeddings. Raises EngineError: unreadable, or another network's weights.
    """
    import onnx

    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's own errors have no common base
        raise EngineError(f"{path}: cannot be read as ONNX ({error}); give the embedder's file") from error
    embedder = Embedder(densenet_small())
    missing = restore(embedder, model, folded_densenet)
    if missing is not None:
        name, shape = missing
        raise EngineError(
            f"{path}: expected the default embedder's weights, {name}"
            f" {tuple(embedder.state_dict()[name].shape)}, found {shape}; adapt from 'default' or"
            " from 'scratch'"
        )
    return embedder.eval()


def recalibrated(embedder: Embedder, x: Tensor, batch: int = 128) -> Embedder:
    """A copy that gives the same embeddings, its folded normalizations holding the statistics of ``x``.

    Args:
        x: (N, 3, S, S) normalized pictures, of the show that will be trained on; a few hundred are enough.
        batch: pictures at once. Raising it takes memory.
    """
    embedder = copy.deepcopy(embedder).eval()
    norms = [
        module
        for name, module in embedder.named_modules()
        if isinstance(module, nn.BatchNorm2d) and folded_densenet(name)
    ]
    sums: dict[nn.Module, list[Tensor]] = {norm: [] for norm in norms}

    def watch(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].double()
        moments = torch.stack([values.mean((0, 2, 3)), values.square().mean((0, 2, 3))])
        sums[norm].append(moments * len(values))

    handles = [norm.register_forward_pre_hook(watch) for norm in norms]
    with torch.inference_mode():
        for part in x.split(batch):
            embedder(part)
    for handle in handles:
        handle.remove()
    for norm in norms:
        mean, square = torch.stack(sums[norm]).sum(0).clone() / len(x)
        variance = (square - mean.square()).clamp(min=1e-8)
        with torch.no_grad():
            norm.bias += norm.weight * mean.float()
            norm.weight *= torch.sqrt(variance + norm.eps).float()
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
    return embedder
