"""The class-dependent localization loss, from its equations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from engines.train.localization import VARIANTS, LocalizationSettings, localization_loss, owners


def grid(height: int = 128, width: int = 192) -> Tensor:
    rows = []
    for stride in (8, 16, 32):
        for y in range(height // stride):
            rows += [[(x + 0.5) * stride, (y + 0.5) * stride, stride] for x in range(width // stride)]
    return torch.tensor(rows)


def at_the_cells(points: Tensor, half: float = 10.0) -> Tensor:
    return torch.cat([points[:, :2] - half, points[:, :2] + half], 1)[None].clone()


def test_a_box_is_answered_for_at_its_size_by_the_cells_around_its_centre() -> None:
    points = grid()
    truth = torch.tensor([[[0.0, 40, 40, 80, 76], [1, 20, 10, 130, 118], [-1, 0, 0, 0, 0]]])
    owner = owners(points, truth)[0]
    small, large = points[owner == 0], points[owner == 1]
    assert small.tolist() == [[60, 52, 8], [60, 60, 8]]  # one column holds the centre
    assert sorted(set(large[:, 2].tolist())) == [16]
    assert (torch.maximum((large[:, 0] - 75).abs(), (large[:, 1] - 64).abs()) < 16).all()
    assert (owner == 2).sum() == 0


def test_the_smaller_of_two_boxes_has_the_cell() -> None:
    points = grid()
    truth = torch.tensor([[[0.0, 30, 30, 90, 90], [1, 44, 44, 76, 76]]])
    assert set(owners(points, truth)[0].tolist()) == {-1, 1}
    assert set(owners(points, truth[:, :0])[0].tolist()) == {-1}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_its_equation(variant: str) -> None:
    """One object, two cells; all logits 0 but for the first cell's right class."""
    points = grid()
    truth = torch.tensor([[[2.0, 42, 42, 78, 78]]])
    owner = owners(points, truth)
    cells = (owner[0] >= 0).nonzero()[:, 0]
    boxes, logits = at_the_cells(points), torch.zeros(1, len(points), 4)
    logits[0, cells[0], 3] = 2.0
    settings = LocalizationSettings(variant, weight=0.7, background=1.0)  # type: ignore[arg-type]
    parts = localization_loss(boxes, logits, points, truth, settings)
    losses, places = [], []
    for number, cell in enumerate(cells.tolist()):
        p = math.exp(2) / (math.exp(2) + 3) if number == 0 else 0.25
        losses.append(-math.log(p))
        gaps = [abs(float(points[cell, k]) - 60) / 8 for k in (0, 1)]
        places.append(sum(0.5 * g * g if g < 1 else g - 0.5 for g in gaps))
    shares = {
        "sum": [1.0] * len(cells),
        "weighted": [math.exp(-loss) for loss in losses],
        "exp": [math.exp(-sum(losses) / len(losses))] * len(cells),
        "exp_squared": [math.exp(-sum(losses) / len(losses))] * len(cells),
    }[variant]
    power = 2 if variant == "exp_squared" else 1
    placed = sum(share * place**power for share, place in zip(shares, places, strict=True))
    background = len(cells) * math.log(4)
    expected = (sum(losses) + background + 0.7 * placed) / len(cells)
    assert float(parts.total) == pytest.approx(expected, rel=1e-5)
    assert float(parts.classification) == pytest.approx(sum(losses) / len(cells), rel=1e-5)
    assert float(parts.localization) == pytest.approx(sum(places) / len(cells), rel=1e-5)
    assert parts.cells == len(cells)


@pytest.mark.parametrize("variant", VARIANTS)
def test_place_is_learned_only_where_the_class_is_right_in_the_weighted_variants(variant: str) -> None:
    points = grid()
    truth = torch.tensor([[[0.0, 42, 42, 78, 78]]])
    pull = []
    for right in (-6.0, 6.0):
        boxes = (at_the_cells(points) + 3).requires_grad_()
        logits = torch.zeros(1, len(points), 3)
        logits[..., 1] = right
        settings = LocalizationSettings(variant)  # type: ignore[arg-type]
        localization_loss(boxes, logits, points, truth, settings).total.backward()
        assert boxes.grad is not None
        pull.append(float(boxes.grad.abs().sum()))
    assert pull[1] > 0
    if variant == "sum":
        assert pull[0] == pytest.approx(pull[1])
    else:
        assert pull[0] < 0.02 * pull[1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_far_point_does_not_hold_its_class_down(variant: str) -> None:
    points = grid()
    truth = torch.tensor([[[0.0, 42, 42, 78, 78]]])
    settings = LocalizationSettings(variant)  # type: ignore[arg-type]
    pull = []
    for off in (0.0, 40.0):
        logits = torch.zeros(1, len(points), 3, requires_grad=True)
        localization_loss(at_the_cells(points) + off, logits, points, truth, settings).total.backward()
        assert logits.grad is not None
        pull.append(logits.grad)
    torch.testing.assert_close(pull[0], pull[1])
    assert float(pull[0].abs().sum()) > 0


def test_the_corners_are_localized_where_they_are_the_reference() -> None:
    points = grid()
    truth = torch.tensor([[[0.0, 42, 42, 78, 78]]])
    boxes = truth[..., 1:].expand(1, len(points), 4) + torch.tensor([-8.0, 0, 8, 16])
    logits = torch.zeros(1, len(points), 3)
    found = {}
    for reference in ("centre", "corners"):
        settings = LocalizationSettings("sum", reference=reference)  # type: ignore[arg-type]
        found[reference] = float(localization_loss(boxes, logits, points, truth, settings).localization)
    assert found["centre"] == pytest.approx(0.5)  # a cell down: 0.5 of it
    assert found["corners"] == pytest.approx(0.5 + 0.5 + 1.5)


def test_what_nobody_knows_is_no_background() -> None:
    points = grid()
    truth = torch.full((1, 1, 5), -1.0)
    logits = torch.zeros(1, len(points), 3)
    logits[0, 7, 1] = 9.0  # the hardest cell
    known = localization_loss(at_the_cells(points), logits, points, truth)
    ignore = torch.zeros(1, len(points), dtype=torch.bool)
    ignore[0, 7] = True
    veiled = localization_loss(at_the_cells(points), logits, points, truth, None, ignore)
    assert float(known.total) == pytest.approx(9.0, abs=0.01)
    assert float(veiled.total) == pytest.approx(math.log(3))


def test_pictures_without_objects_teach_background_alone() -> None:
    points = grid()
    boxes = at_the_cells(points).expand(2, -1, -1).clone().requires_grad_()
    logits = torch.zeros(2, len(points), 3, requires_grad=True)
    parts = localization_loss(boxes, logits, points, torch.full((2, 1, 5), -1.0))
    parts.total.backward()
    assert (parts.cells, float(parts.classification), float(parts.localization)) == (0, 0.0, 0.0)
    assert float(parts.total.detach()) > 0
    assert logits.grad is not None
    assert int((logits.grad.abs().sum(-1) > 0).sum()) == 2  # the hardest cell of each picture, on average
