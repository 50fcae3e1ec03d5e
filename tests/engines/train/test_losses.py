"""Which cells answer for a box, and the loss of their answers, checked by hand."""

import math

import pytest
import torch

from engines.train.losses import AssignerSettings, LossSettings, assign, detection_loss, giou, pair_iou

# A 4x4 grid of stride 8: centres 4, 12, 20, 28.
CENTRES = [(x, y) for y in (4.0, 12.0, 20.0, 28.0) for x in (4.0, 12.0, 20.0, 28.0)]
POINTS = torch.tensor([[x, y, 8.0] for x, y in CENTRES])


def boxes_of(size: float) -> torch.Tensor:
    """Every cell predicts a square of ``size`` around its own centre: (1, 16, 4)."""
    half = size / 2
    return torch.tensor([[x - half, y - half, x + half, y + half] for x, y in CENTRES])[None]


def test_iou_and_giou_of_known_boxes():
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 4, 4]])
    b = torch.tensor([[1.0, 1, 3, 3], [2, 0, 3, 1], [0, 0, 4, 4]])
    iou, wide = giou(a, b)
    assert iou.tolist() == pytest.approx([1 / 7, 0, 1])
    # hulls: 9, 3, 16; unions: 7, 2, 16
    assert wide.tolist() == pytest.approx([1 / 7 - 2 / 9, -1 / 3, 1])
    assert pair_iou(a, b).diagonal().tolist() == pytest.approx([1 / 7, 0, 1])


def test_the_cells_that_fit_best_answer():
    truth = torch.tensor([[[0.0, 0, 0, 16, 16], [1.0, 16, 16, 32, 32]]])
    scores = torch.full((1, 16, 2), 0.5)
    owner, target = assign(boxes_of(16.0), scores, POINTS, truth, AssignerSettings(topk=1))
    # A 16 px square around (4, 4), (12, 4), (4, 12) or (12, 12) overlaps (0, 0, 16, 16) alike; one is chosen,
    # and one of the four lower right cells for the other box.
    first = (owner[0] == 0).nonzero().flatten().tolist()
    second = (owner[0] == 1).nonzero().flatten().tolist()
    assert len(first) == 1
    assert first[0] in (0, 1, 4, 5)
    assert len(second) == 1
    assert second[0] in (10, 11, 14, 15)
    iou = 144 / (256 + 256 - 144)
    assert target[0, first[0]].item() == pytest.approx(iou)
    assert target[0].count_nonzero() == 2


def test_the_score_decides_between_equal_overlaps():
    truth = torch.tensor([[[1.0, 0, 0, 16, 16]]])
    scores = torch.full((1, 16, 2), 0.1)
    scores[0, 5, 1] = 0.9
    scores[0, 0, 0] = 0.99  # the other class's score must not count
    owner, _ = assign(boxes_of(16.0), scores, POINTS, truth, AssignerSettings(topk=1))
    assert (owner[0] == 0).nonzero().flatten().tolist() == [5]


def test_a_cell_between_two_boxes_answers_for_its_better_one():
    truth = torch.tensor([[[0.0, 0, 0, 32, 24], [0.0, 4, 4, 20, 20]]])
    scores = torch.full((1, 16, 2), 0.5)
    owner, _ = assign(boxes_of(16.0), scores, POINTS, truth, AssignerSettings(topk=16))
    assert owner[0, 5] == 1  # its prediction is exactly the second box
    assert owner[0, 7] == 0  # only the first box reaches there


def test_small_boxes_padding_and_far_predictions():
    small = torch.tensor([[[0.0, 7.0, 7, 9, 9], [-1, -1, -1, -1, -1]]])  # between four cell centres
    owner, _ = assign(boxes_of(16.0), torch.full((1, 16, 2), 0.5), POINTS, small, AssignerSettings(topk=2))
    assert (owner[0] == 0).sum() == 2
    assert set((owner[0] == 0).nonzero().flatten().tolist()) <= {0, 1, 4, 5}
    assert (owner[0] == 1).sum() == 0
    away = boxes_of(16.0) + 500  # no prediction overlaps anything: start at the centre cells
    owner, target = assign(away, torch.full((1, 16, 2), 0.5), POINTS, small, AssignerSettings(topk=1))
    assert (owner[0] >= 0).sum() == 1
    assert target.sum() == 0


def test_loss_falls_when_the_answer_is_right_and_ignores_what_nobody_knows():
    truth = torch.tensor([[[0.0, 0, 0, 16, 16]]])
    boxes = boxes_of(16.0)
    boxes[0, 0] = torch.tensor([0.0, 0, 16, 16])
    settings = LossSettings(assigner=AssignerSettings(topk=1))

    def loss(logits: torch.Tensor, ignore: torch.Tensor | None = None) -> float:
        return float(detection_loss(boxes, logits, POINTS, truth, ignore, None, settings).total)

    wrong = torch.full((1, 16, 2), -4.0)
    right = wrong.clone()
    right[0, 0, 0] = 6.0
    alarm = right.clone()
    alarm[0, 15, 0] = 4.0
    assert loss(right) < 0.05 < loss(wrong)
    assert loss(alarm) > loss(right) + 1
    veil = torch.zeros(1, 16, 2, dtype=torch.bool)
    veil[0, 15, 0] = True
    assert loss(alarm, veil) == pytest.approx(loss(right, veil), abs=1e-6)
    veil[0, 0, 0] = True  # a positive is judged even where the background is not
    assert loss(wrong, veil) > 0.5


def test_trust_scales_what_a_box_teaches():
    truth = torch.tensor([[[0.0, 0, 0, 16, 16], [0.0, 16, 16, 32, 32]]])
    boxes, logits = boxes_of(14.0).requires_grad_(), torch.full((1, 16, 2), -1.0, requires_grad=True)
    detection_loss(boxes, logits, POINTS, truth, None, torch.tensor([[1.0, 0.0]])).total.backward()
    assert boxes.grad is not None
    assert boxes.grad[0, [0, 1, 4, 5]].abs().sum() > 0
    assert boxes.grad[0, [10, 11, 14, 15]].abs().sum() == 0


def test_a_batch_without_boxes_is_finite():
    truth = torch.full((2, 1, 5), -1.0)
    boxes = boxes_of(16.0).repeat(2, 1, 1).requires_grad_()
    parts = detection_loss(boxes, torch.zeros(2, 16, 2, requires_grad=True), POINTS, truth)
    assert parts.positives == 0
    assert math.isfinite(float(parts.total.detach()))
    parts.total.backward()
