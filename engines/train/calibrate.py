"""Scores that mean something: of the boxes scored p, the share p is right.

A detector trained on boxes' overlaps ranks well and says too much or too little. Held-out pictures tell by
how much: the logits of their boxes are moved by a slope and an offset per class, fitted by logistic
regression (Platt 1999, with the smoothed targets of Lin, Lin and Weng 2007), which does not change their
order. Slope and offset go into the last layer, so that a run pays nothing for it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from engines.nets.yolo import Yolo
from engines.train.looks import CELL
from engines.train.measure import decode
from engines.train.scenes import Scene
from kernels.boxes import iou

Floats = NDArray[np.float32]
FEWEST = 40  # right and wrong boxes below which a class is left as it is


@dataclass(frozen=True)
class Platt:
    """p = sigmoid(slope * logit + offset). ``Platt()`` changes nothing."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, scores: Floats) -> Floats:
        """Probabilities of scores, both 0..1."""
        s = np.clip(scores.astype(np.float64), 1e-6, 1 - 1e-6)
        return (1 / (1 + np.exp(-self.slope * np.log(s / (1 - s)) - self.offset))).astype(np.float32)

    @property
    def inverse(self) -> Platt:
        """The map back."""
        return Platt(1 / self.slope, -self.offset / self.slope)


def maps_of(path: str | Path) -> tuple[Platt, ...]:
    """The maps, one for each class, that a detector's file says (metadata ``score_maps``) its scores went
    through; none where it says nothing. Training goes on from the scores before: it is for those that the
    loss was made, and a last layer that much steeper is thrown about by the first steps."""
    told = {p.key: p.value for p in onnx.load(str(path), load_external_data=False).metadata_props}
    return tuple(
        Platt(float(slope), float(offset)) for slope, offset in json.loads(told.get("score_maps", "[]"))
    )


def fit_platt(scores: Floats, correct: NDArray[np.bool_]) -> Platt:
    """The map under which ``scores`` (M,) in 0..1 are the likeliest to have been ``correct`` (M,).

    With fewer than 40 of either kind, or scores that rank the wrong way round, it changes nothing.
    """
    right = int(correct.sum())
    wrong = len(correct) - right
    if min(right, wrong) < FEWEST:
        return Platt()
    s = np.clip(scores.astype(np.float64), 1e-6, 1 - 1e-6)
    x = np.stack([np.log(s / (1 - s)), np.ones(len(s))], 1)
    target = np.where(correct, (right + 1) / (right + 2), 1 / (wrong + 2))
    weights = np.array([1.0, 0.0])
    for _ in range(50):  # Newton's method; the loss is convex
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, x.T @ (p - target))
        weights -= step / max(1.0, float(np.abs(step).max()))
        if float(np.abs(step).max()) < 1e-8:
            break
    return Platt(float(weights[0]), float(weights[1])) if weights[0] > 0.05 else Platt()


@torch.no_grad()
def answers(net: nn.Module, scenes: Iterable[Scene], index: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores (M,) of the boxes of class ``index`` in pictures, and whether each is right (M,).

    Right is the best box on a true one at IoU 0.5; one where nobody knows what is there does not count.
    """
    net.eval()
    scores, correct = [np.zeros(0, np.float32)], [np.zeros(0, bool)]
    for scene in scenes:
        x = torch.from_numpy(np.ascontiguousarray(scene.image)).permute(2, 0, 1)[None].float() / 255
        boxes, marks = decode(net(x)[0].numpy(), index, 0.01)
        true = scene.boxes[scene.boxes[:, 0] == index, 1:5]
        right = _right(boxes, true)
        counted = right | ~_unknown(boxes, scene.ignore[..., index])
        scores.append(marks[counted])
        correct.append(right[counted])
    return np.concatenate(scores), np.concatenate(correct)


def _right(boxes: Floats, true: Floats) -> NDArray[np.bool_]:
    """(n,) whether a box, best first, is the first on a true one."""
    right = np.zeros(len(boxes), bool)
    if len(boxes) and len(true):
        free = np.ones(len(true), bool)
        for k, row in enumerate(iou(boxes, true)):
            best = int(np.where(free, row, -1).argmax())
            if free[best] and row[best] >= 0.5:
                right[k], free[best] = True, False
    return right


def _unknown(boxes: Floats, ignore: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n,) whether half of a box's cells are not judged."""
    out = np.zeros(len(boxes), bool)
    for k, (x1, y1, x2, y2) in enumerate((boxes / CELL).astype(int)):
        part = ignore[max(0, y1) : y2 + 1, max(0, x1) : x2 + 1]
        out[k] = part.size == 0 or float(part.mean()) >= 0.5
    return out


def with_platt(net: Yolo, maps: Iterable[Platt]) -> Yolo:
    """A copy of ``net`` whose class scores are mapped, one map for each class; without maps it is ``net``."""
    parts = list(maps)
    if not parts:
        return net
    moved = copy.deepcopy(net)
    slope = torch.tensor([part.slope for part in parts])
    offset = torch.tensor([part.offset for part in parts])
    with torch.no_grad():
        for layer in moved.class_out:
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            layer.weight *= slope[:, None, None, None]
            layer.bias.copy_(layer.bias * slope + offset)
    return moved
