"""Class-dependent localization: where a character is counts as far as it is known who it is.

Source: US 11,544,507 B2. A recognizer gives a class C and a reference point r: a box's centre, or, so that
its size is learned too, its two corners. Per grid cell (and anchor; an anchor-free net has one)::

    L = L_cls + lambda [C >= 1] L_loc,  L_cls = -log P(C),  L_loc = w sum over x, y of smoothL1(r - r_hat)

with P the softmax over the characters and the background, class 0, and w one of ``VARIANTS``. With w = P(C)
localization gains weight as the class comes right, so that classification is learned first. Only cells that
answer for an object localize; they are joined by about as many background cells, the hardest ones.

w is a weight and takes no gradient: -log P + lambda P d, d the distance, is least at P = 1 / (lambda d), so
through w a far point would hold its class down, the opposite of what is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

Variant = Literal["sum", "weighted", "exp", "exp_squared"]
Reference = Literal["centre", "corners"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
LEVELS = ((8, 64.0), (16, 128.0), (32, float("inf")))  # stride, and the longer side up to which it answers


@dataclass(frozen=True)
class LocalizationSettings:
    """How to weigh.

    ``variant``: "sum": w = 1, class and place are learned apart. "weighted": w = P(C). "exp": w =
    exp(-L_cls) with L_cls the mean over the object's cells, so that one wrong cell holds back all, and their
    number does not matter.
    "exp_squared": the same with L_loc squared: far points first. ``weight``: lambda; raising it favours place
    over class. ``background``: background cells per object cell; raising it lowers false alarms and recall.
    ``reference``: what is localized, the box's centre or its two corners, of which the sum runs over both.
    """

    variant: Variant = "weighted"
    weight: float = 1.0
    background: float = 1.0
    reference: Reference = "centre"


@dataclass(frozen=True)
class LocalizationParts:
    """Scalar tensors: the total; the mean L_cls and unweighted mean smoothL1 over object cells, without
    gradient, which compare between variants; ``placing``: the mean L_loc, weighted as it is in the total;
    ``cells``: how many object cells there are."""

    total: Tensor
    classification: Tensor
    localization: Tensor
    placing: Tensor
    cells: int


def owners(points: Tensor, truth: Tensor) -> Tensor:
    """(B, A) the true box that each cell answers for, -1 for none.

    A box is answered for at the stride of its size, by the cells whose centre is less than a stride from its
    own: four of them, fewer at an edge. Of two boxes the smaller one has the cell.

    Args:
        points: (A, 3) centre x, y and stride of the cells, pixels.
        truth: (B, M, 5) class (0: the first character; -1: padding), x1, y1, x2, y2.
    """
    side = (truth[..., 3:5] - truth[..., 1:3]).amax(-1)  # (B, M)
    centre = (truth[..., 1:3] + truth[..., 3:5]) / 2
    x, y, stride = points[:, 0], points[:, 1], points[:, 2]
    near = torch.maximum((x - centre[..., 0, None]).abs(), (y - centre[..., 1, None]).abs()) < stride
    low = 0.0
    level = torch.zeros_like(near)
    for of, high in LEVELS:
        inside = (side > low) & (side <= high)
        level |= inside[..., None] & (stride == of)
        low = high
    mine = near & level & (truth[..., :1] >= 0)
    cost = torch.where(mine, side[..., None], torch.full_like(x, float("inf")))  # (B, M, A)
    if not cost.shape[1]:
        return torch.full((len(truth), len(points)), -1, dtype=torch.long, device=points.device)
    smallest, owner = cost.min(1)
    return torch.where(smallest.isfinite(), owner, torch.full_like(owner, -1))


def localization_loss(
    boxes: Tensor,
    logits: Tensor,
    points: Tensor,
    truth: Tensor,
    settings: LocalizationSettings | None = None,
    ignore: Tensor | None = None,
) -> LocalizationParts:
    """Loss of a batch.

    Args:
        boxes: (B, A, 4) xyxy in pixels.
        logits: (B, A, 1 + C), the background first.
        points, truth: as in :func:`owners`.
        ignore: (B, A) bool, cells that do not count as background: nobody knows what is there.

    Returns:
        Means over object cells, of which at least one is counted.
    """
    s = settings or LocalizationSettings()
    owner = owners(points, truth)
    rows, cols = (owner >= 0).nonzero(as_tuple=True)
    count = max(1, len(rows))
    log_p = logits.log_softmax(-1)
    class_loss = -log_p[..., 0]  # of the background
    own = truth[rows, owner[rows, cols]]
    of_object = -log_p[rows, cols, 1 + own[:, 0].long()]
    keep = max(int(s.background * len(rows)), len(truth))  # without objects, a cell per picture
    empty = owner < 0 if ignore is None else (owner < 0) & ~ignore
    others = torch.where(empty, class_loss, torch.zeros_like(class_loss))
    background = others.flatten().topk(min(keep, others.numel())).values.sum()
    at, wanted = boxes[rows, cols], own[:, 1:5]
    if s.reference == "centre":
        at, wanted = (at[:, :2] + at[:, 2:]) / 2, (wanted[:, :2] + wanted[:, 2:]) / 2
    stride = points[cols, 2:3]
    away = F.smooth_l1_loss(at / stride, wanted / stride, reduction="none").sum(-1)
    share = torch.ones_like(away)
    if s.variant == "weighted":
        share = (-of_object).exp()
    elif s.variant in ("exp", "exp_squared"):
        key = rows * truth.shape[1] + owner[rows, cols]
        none = torch.zeros(truth.shape[0] * truth.shape[1], dtype=of_object.dtype, device=key.device)
        cells = none.index_add(0, key, torch.ones_like(of_object))[key]
        share = (-none.index_add(0, key, of_object)[key] / cells).exp()
    placed = share.detach() * (away**2 if s.variant == "exp_squared" else away)
    total = (of_object.sum() + background + s.weight * placed.sum()) / count
    class_mean, distance, placing = (part.detach().sum() / count for part in (of_object, away, placed))
    return LocalizationParts(total, class_mean, distance, placing, len(rows))
