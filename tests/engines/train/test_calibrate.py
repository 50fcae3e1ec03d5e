"""Scores that mean what they say, after a map that was fitted on what was right."""

import numpy as np
import pytest
import torch

from engines.models import resolve
from engines.nets.yolo import Yolo
from engines.train.calibrate import Platt, answers, fit_platt, maps_of, with_platt
from engines.train.scenes import Scene
from engines.train.tune.start import read_detector

TRUE = Platt(2.0, -0.7)


def drawn(count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and whether they were right with the chance that TRUE says."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.02, 0.98, count).astype(np.float32)
    return scores, rng.random(count) < TRUE(scores)


def test_the_map_is_found_again():
    found = fit_platt(*drawn())
    assert found.slope == pytest.approx(TRUE.slope, rel=0.05)
    assert found.offset == pytest.approx(TRUE.offset, abs=0.08)


def test_of_the_boxes_scored_p_the_share_p_is_right():
    scores, correct = drawn()
    half = len(scores) // 2
    said = fit_platt(scores[:half], correct[:half])(scores[half:])
    for low in np.arange(0.1, 0.9, 0.2):
        part = (said >= low) & (said < low + 0.2)
        assert correct[half:][part].mean() == pytest.approx(said[part].mean(), abs=0.05)


@pytest.mark.parametrize("right", [0, 20, 380, 400])
def test_too_few_of_a_kind_change_nothing(right: int):
    scores = np.linspace(0.1, 0.9, 400, dtype=np.float32)
    assert fit_platt(scores, np.arange(400) >= 400 - right) == Platt()


def test_scores_that_separate_all_or_rank_the_wrong_way_round_stay_finite():
    scores = np.linspace(0.01, 0.99, 400, dtype=np.float32)
    sure = fit_platt(scores, scores > 0.5)
    assert np.isfinite([sure.slope, sure.offset]).all()
    assert fit_platt(scores, scores < 0.5) == Platt()


def test_the_last_layer_takes_the_map_in():
    torch.manual_seed(0)
    net = Yolo(2, (8, 8, 16, 16, 16), 1, 16).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before, after = net(images).numpy(), with_platt(net, [TRUE, Platt()])(images).numpy()
    assert np.array_equal(before[:, :4], after[:, :4])
    assert after[0, 4] == pytest.approx(TRUE(before[0, 4]), abs=1e-5)
    assert after[0, 5] == pytest.approx(before[0, 5], abs=1e-6)


def test_training_goes_on_from_the_scores_before_the_map() -> None:
    path = resolve("default", "detector").path
    maps = maps_of(path)
    assert len(maps) == 2
    assert all(0.2 < m.slope < 20 for m in maps)
    images = torch.rand(1, 3, 64, 64)
    net, _ = read_detector(path)
    plain = with_platt(net, [m.inverse for m in maps])
    with torch.no_grad():
        said, before, again = (n(images).numpy()[0, 4:] for n in (net, plain, with_platt(plain, maps)))
    assert again == pytest.approx(said, abs=1e-5)
    assert maps[0](before[0]) == pytest.approx(said[0], abs=1e-5)
    assert maps_of(resolve("default", "embedder").path) == ()


class Left(torch.nn.Module):
    """Answers the same three boxes whatever it sees: one on the left and two on the right."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out = torch.zeros(len(images), 6, 3)
        out[:, :4] = torch.tensor([[20.0, 90, 88], [20, 20, 22], [30, 30, 30], [30, 30, 30]])
        out[:, 4] = torch.tensor([0.9, 0.8, 0.7])
        return out


def test_what_nobody_knows_does_not_count():
    ignore = np.zeros((8, 16, 2), bool)
    image = np.zeros((64, 128, 3), np.uint8)
    truth = np.array([[0, 5, 5, 35, 35, 1]], np.float32)
    scores, correct = answers(Left(), [Scene(image, truth, ignore)], 0)
    assert scores == pytest.approx([0.9, 0.8])  # the third is suppressed by the second
    assert correct.tolist() == [True, False]
    ignore[:, 8:] = True
    scores, correct = answers(Left(), [Scene(image, truth, ignore)], 0)
    assert scores == pytest.approx([0.9])
    twice = np.concatenate([truth, truth + np.array([0, 70, 0, 70, 0, 0], np.float32)])
    assert answers(Left(), [Scene(image, twice, ignore)], 0)[1].tolist() == [True, True]
