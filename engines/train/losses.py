"""What the detector is trained on: which cells answer for a box, and how wrong their answers are.

- Assignment: task-aligned (Feng et al. 2021, TOOD, arXiv:2108.07755): a cell's metric for a box is
  score^a * IoU^b; the best ``topk`` cells of a box answer for it, each cell for its best box only.
- Score loss: varifocal (Zhang et al. 2021, arXiv:2008.13367): the target of a positive is its IoU, so that
  the score says how well the box fits; negatives are weighted by score^gamma.
- Box loss: 1 - GIoU (Rezatofighi et al. 2019, arXiv:1902.09630).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def pair_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of every box of ``a`` (..., N, 4) with each of ``b`` (..., M, 4), xyxy: (..., N, M) in 0..1."""
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area_a = (a[..., 2:] - a[..., :2]).clamp(min=0).prod(-1)
    area_b = (b[..., 2:] - b[..., :2]).clamp(min=0).prod(-1)
    return shared / (area_a[..., :, None] + area_b[..., None, :] - shared).clamp(min=1e-9)


def giou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU (0..1) and generalized IoU (-1..1) of boxes row by row; ``a``, ``b``: (N, 4) xyxy -> (N,), (N,)."""
    shared = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    iou = shared / union.clamp(min=1e-9)
    return iou, iou - (hull - union) / hull.clamp(min=1e-9)


@dataclass(frozen=True)
class AssignerSettings:
    """``topk``: cells per box; raising it trains more cells per box and blurs neighbouring boxes.
    ``alpha``, ``beta``: weights of score and IoU in the metric; raising ``beta`` trusts the geometry more."""

    topk: int = 8
    alpha: float = 0.5
    beta: float = 4.0


@torch.no_grad()
def assign(
    boxes: Tensor,
    scores: Tensor,
    points: Tensor,
    truth: Tensor,
    settings: AssignerSettings | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose the cells that answer for each true box.

    ``boxes`` (B, A, 4) and ``scores`` (B, A, C): the net's; ``points`` (A, 3): centre x, y, stride;
    ``truth`` (B, M, 5): class, x1, y1, x2, y2, rows of class -1 are padding.
    Returns the index of the box that each cell answers for (B, A), -1 for none, and the cell's target score
    (B, A): its IoU, scaled so that the best cell of every box has its box's best IoU.
    A box too small to hold a cell centre gets the cells nearest to its centre.
    """
    s = settings or AssignerSettings()
    batch, cells = boxes.shape[:2]
    count = truth.shape[1]
    if count == 0:
        none = torch.full((batch, cells), -1, dtype=torch.long, device=boxes.device)
        return none, torch.zeros(batch, cells, device=boxes.device)
    real = truth[..., 0] >= 0  # (B, M)
    iou = pair_iou(truth[..., 1:], boxes)  # (B, M, A)
    label = truth[..., 0].clamp(min=0).long()
    score = scores.transpose(1, 2).gather(1, label[..., None].expand(-1, -1, cells))  # (B, M, A)
    x, y, stride = points[:, 0], points[:, 1], points[:, 2]
    reach = torch.stack(
        [
            x - truth[..., 1, None],
            y - truth[..., 2, None],
            truth[..., 3, None] - x,
            truth[..., 4, None] - y,
        ]
    ).amin(0)
    centre = (truth[..., 1:3] + truth[..., 3:5]) / 2
    near = torch.maximum((x - centre[..., 0, None]).abs(), (y - centre[..., 1, None]).abs()) <= stride
    # Inside the box, or, so that no small box is left out, within one cell of its centre.
    allowed = ((reach > 0) | near) & real[..., None]
    metric = score.clamp(min=1e-6) ** s.alpha * iou**s.beta * allowed
    best, index = metric.topk(min(s.topk, cells), dim=2)
    chosen = torch.zeros_like(metric).scatter_(2, index, (best > 0).to(metric.dtype))
    # A box that no prediction overlaps yet starts from the cells at its centre.
    lost = (chosen.sum(2) == 0) & real
    if bool(lost.any()):
        far = (x - centre[..., 0, None]) ** 2 + (y - centre[..., 1, None]) ** 2
        first = (far + (far * 0 + stride) * 1e-3).topk(min(s.topk, cells), dim=2, largest=False).indices
        start = torch.zeros_like(metric).scatter_(2, first, 1.0)
        chosen = torch.where(lost[..., None], start, chosen)
    value = torch.where(chosen > 0, metric + 1e-9, torch.full_like(metric, -1.0))
    top, owner = value.max(1)  # (B, A)
    owner = torch.where(top > 0, owner, torch.full_like(owner, -1))
    own = owner.clamp(min=0)[:, None]
    peak_metric = metric.amax(2).clamp(min=1e-9)
    peak_iou = (iou * (chosen > 0)).amax(2)
    scaled = metric / peak_metric[..., None] * peak_iou[..., None]  # (B, M, A)
    target = scaled.gather(1, own)[:, 0]
    return owner, torch.where(owner >= 0, target, torch.zeros_like(target))


@dataclass(frozen=True)
class LossSettings:
    """``box_weight``: raising it favours tight boxes over right scores. ``gamma``: raising it makes easy
    background count less. ``negative``: weight of background; raising it lowers false alarms and recall."""

    box_weight: float = 2.0
    gamma: float = 2.0
    negative: float = 0.75
    assigner: AssignerSettings = AssignerSettings()


@dataclass(frozen=True)
class LossParts:
    """Total loss with its parts, each a scalar tensor; ``positives``: cells that answered for a box."""

    total: Tensor
    score: Tensor
    box: Tensor
    positives: int


def detection_loss(
    boxes: Tensor,
    logits: Tensor,
    points: Tensor,
    truth: Tensor,
    ignore: Tensor | None = None,
    weight: Tensor | None = None,
    settings: LossSettings | None = None,
) -> LossParts:
    """Loss of a batch; shapes as in :func:`assign`, ``logits`` (B, A, C).

    ``ignore`` (B, A, C) bool: cells whose background answer is not judged for a class (nobody knows what is
    there); ``weight`` (B, M): trust in each true box, 1 when None.
    """
    s = settings or LossSettings()
    scores = logits.sigmoid()
    owner, target = assign(boxes.detach(), scores.detach(), points, truth, s.assigner)
    positive = owner >= 0
    wanted = torch.zeros_like(logits)
    mass = torch.zeros_like(target)
    rows, cols = positive.nonzero(as_tuple=True)
    if len(rows):
        match = truth[rows, owner[rows, cols]]
        trust = weight[rows, owner[rows, cols]] if weight is not None else torch.ones_like(match[:, 0])
        wanted[rows, cols, match[:, 0].long()] = target[rows, cols]
        mass[rows, cols] = trust
    is_target = wanted > 0
    judge = torch.where(is_target, wanted * mass[..., None], s.negative * scores.detach() ** s.gamma)
    if ignore is not None:
        judge = torch.where(ignore & ~is_target, torch.zeros_like(judge), judge)
    norm = (target * mass).sum().clamp(min=float(len(boxes)))
    score_loss = (F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * judge).sum() / norm
    if len(rows):
        _, overlap = giou(boxes[rows, cols], match[:, 1:])
        # Cells that start far off have target 0 yet must learn where the box is, hence the floor.
        share = target[rows, cols].clamp(min=0.05) * trust
        box_loss = ((1 - overlap) * share).sum() / norm
    else:
        box_loss = boxes.sum() * 0
    return LossParts(score_loss + s.box_weight * box_loss, score_loss, box_loss, len(rows))
