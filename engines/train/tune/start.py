"""What training of a user's detector starts from: a net of a size, and the default's weights out of its file.

The exporter folds the normalization that follows a convolution into it, so the file has scaled weights and a
bias. :func:`read_detector` puts a normalization behind them that changes nothing but the bias;
:func:`recalibrate` gives it the statistics of pictures, without which training, which normalizes by the
batch, would begin with another network than the file's.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from engines.nets.yolo import NECK, WIDTHS, Yolo
from engines.train.export import calibrated
from engines.train.folded import folded_yolo, restore
from stream.errors import ModelError

Size = Literal["n", "s", "m"]
#: Widths, depth and neck of each size: n is the default detector's, s costs twice and m five times as much.
SIZES: dict[str, tuple[tuple[int, int, int, int, int], int, int]] = {
    "n": (WIDTHS, 1, NECK),
    "s": ((24, 48, 72, 144, 288), 1, 72),
    "m": ((32, 64, 96, 192, 384), 2, 96),
}
_LIKE = "character"  # whose answers a class begins with that the file does not know


def new_detector(size: Size, classes: int, *, background: bool = False) -> Yolo:
    """A net of random weights; see ``SIZES`` and, for ``background``, ``Yolo``."""
    widths, depth, neck = SIZES[size]
    return Yolo(classes, widths, depth, neck, background=background)


def read_detector(path: str | Path) -> tuple[Yolo, tuple[str, ...]]:
    """The net of an ONNX file that :func:`engines.train.export.export_detector` wrote, and its class names.

    The net is of size ``n`` or its deeper sister, in evaluation mode, and gives the file's output.

    Raises:
        ModelError: unreadable, or another network's weights.
    """
    import ast

    import onnx

    try:
        model = onnx.load(str(path))
        names = ast.literal_eval({p.key: p.value for p in model.metadata_props}.get("names", "{}"))
    except Exception as error:  # protobuf's own errors have no common base
        raise ModelError(f"{path}: cannot be read as ONNX ({error}); give a detector's file") from error
    widths, depth, neck = SIZES["n"]
    wrong = []
    for steps in (depth, depth + 1):  # the recipes 'default' and 'deeper'
        net = Yolo(max(1, len(names)), widths, steps, neck)
        missing = restore(net, model, folded_yolo)
        if missing is None:
            return net.eval(), tuple(str(names[k]) for k in sorted(names))
        wrong.append((missing[0], tuple(net.state_dict()[missing[0]].shape), missing[1]))
    name, expected, shape = wrong[0]
    raise ModelError(
        f"{path}: expected the default detector's weights, {name} {expected}, found {shape}; train from"
        " 'default' or from 'scratch'"
    )


def with_classes(
    net: Yolo, known: tuple[str, ...], names: tuple[str, ...], *, background: bool = False
) -> Yolo:
    """The same net telling ``names`` apart in place of ``known``.

    A class of a known name keeps its weights, every other begins as 'character' (or as the first class).
    With ``background``, whose logit is 0, each takes its part of the odds: of names that begin alike, and
    where nothing else is likely, the scores together are the one score that was.
    """
    like = known.index(_LIKE) if _LIKE in known else 0
    rows = [known.index(name) if name in known else like for name in names]
    out = Yolo(len(names), net.widths, net.depth, net.neck, background=background)
    alike = Counter(rows)
    state = dict(net.state_dict())
    for name, value in state.items():
        if name.startswith("class_out."):
            state[name] = value[rows].clone()
        if name.startswith("class_out.") and background:
            if name.endswith("bias"):
                state[name] -= torch.tensor([math.log(alike[row]) for row in rows])
            state[name] = torch.cat([torch.zeros_like(value[:1]), state[name]])
    out.load_state_dict(state)
    return out.eval()


@torch.no_grad()
def at_working_point(net: Yolo, score: float, to: float) -> tuple[Yolo, float]:
    """A copy of ``net`` in which what scored ``score`` scores ``to``, and the move in logits.

    With a background only its logit moves, as for pictures in which nobody is rarer or more common. The
    scores stay a softmax; the move is exact where no two classes compete.
    """
    moved, shift = calibrated(net, score, to)
    if net.background:
        moved = copy.deepcopy(net)
        for layer in moved.class_out:
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            layer.bias[0] -= shift
    return moved, shift


@torch.no_grad()
def recalibrate(net: Yolo, batches: Iterable[Tensor]) -> None:
    """Give the normalizations of ``net`` the statistics of pictures, its output unchanged. In place.

    Args:
        net: as :func:`read_detector` gives it.
        batches: float (B, 3, H, W) RGB 0..1, as training will see them; some fifty pictures are enough.
    """
    net.eval()
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    sums = {norm: torch.zeros(2, norm.num_features, dtype=torch.float64) for norm in norms}
    counts = dict.fromkeys(norms, 0)

    def look(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        values = inputs[0].double()
        sums[norm] += torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))]).cpu()
        counts[norm] += values.numel() // values.shape[1]

    handles = [norm.register_forward_pre_hook(look) for norm in norms]
    for batch in batches:
        net(batch)
    for handle in handles:
        handle.remove()
    for norm in norms:
        if not counts[norm]:
            continue
        mean, square = sums[norm] / counts[norm]
        variance = (square - mean.square()).clamp(min=1e-6)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        # What it does now, gain * x + offset, written with the new statistics.
        gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        offset = norm.bias.double() - gain * norm.running_mean.double()
        norm.weight.copy_(gain * (variance + norm.eps).sqrt())
        norm.bias.copy_(offset + gain * mean)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
