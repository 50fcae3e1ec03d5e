"""Cel animals, ogres and cloaked figures: whole, cropped, of every family, with a face where one is seen."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import label

from engines.train.sprites.beasts import FAMILIES, draw_beast
from engines.train.sprites.cels import Sketch


@pytest.fixture(scope="module")
def beasts() -> list[tuple[NDArray[np.uint8], tuple[float, float, float, float] | None]]:
    return [draw_beast(np.random.default_rng(seed)) for seed in range(200)]


def _painted(family: str, count: int, ink: float = 0.0) -> list[NDArray[np.uint8]]:
    pictures = []
    for seed in range(count):
        rng, sketch = np.random.default_rng(seed), Sketch()
        FAMILIES[family](rng, sketch)
        pictures.append(sketch.paint(rng, 120, ink, False)[0])
    return pictures


def _largest_piece(rgba: NDArray[np.uint8]) -> float:
    pieces, _ = label(rgba[..., 3] > 60, np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel())[1:]
    return float(sizes.max() / sizes.sum())


def test_a_picture_is_cropped_to_what_is_seen(beasts: list) -> None:
    for rgba, _ in beasts:
        seen = rgba[..., 3] > 20
        assert rgba.dtype == np.uint8
        assert max(rgba.shape[:2]) <= 176
        assert max(rgba.shape[:2]) > 160  # and fills what it was given
        assert rgba.shape[2] == 4
        assert seen[0].any()
        assert seen[-1].any()
        assert seen[:, 0].any()
        assert seen[:, -1].any()


def test_the_side_is_what_was_asked_for() -> None:
    for seed in range(12):
        rgba, _ = draw_beast(np.random.default_rng(seed), 64)
        assert 50 < max(rgba.shape[:2]) <= 64


def test_a_beast_is_one_piece(beasts: list) -> None:
    whole = [_largest_piece(rgba) >= 0.97 for rgba, _ in beasts]
    assert np.mean(whole) >= 0.98


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_draws_whole_animals_each_another(family: str) -> None:
    pictures = _painted(family, 16)
    assert np.mean([_largest_piece(rgba) >= 0.97 for rgba in pictures]) > 0.85  # before any is drawn again
    for rgba in pictures:
        share = float((rgba[..., 3] > 20).mean())
        assert 0.015 < share < 0.9
        assert not (rgba[[0, -1], :, 3] > 20).any()  # nothing is cut off by the edge
        assert not (rgba[:, [0, -1], 3] > 20).any()
    assert len({rgba.tobytes() for rgba in pictures}) == len(pictures)


def test_an_ink_line_surrounds_the_figure() -> None:
    for bare, inked in zip(_painted("giants", 6), _painted("giants", 6, 2.0), strict=True):
        rim = (inked[..., 3] > 200) & ~(bare[..., 3] > 200)
        assert inked[rim][:, :3].mean() < bare[bare[..., 3] > 200][:, :3].mean()


def test_it_depends_on_the_seed_alone() -> None:
    for seed in range(12):
        first, face = draw_beast(np.random.default_rng(seed))
        second, again = draw_beast(np.random.default_rng(seed))
        assert np.array_equal(first, second)
        assert face == again


def test_the_face_lies_inside_and_is_no_dot(beasts: list) -> None:
    faces = [(rgba, face) for rgba, face in beasts if face]
    assert 0.5 < len(faces) / len(beasts) < 0.97  # some are seen from behind
    for rgba, (x0, y0, x1, y1) in faces:
        assert 0 <= x0 < x1 <= rgba.shape[1]
        assert 0 <= y0 < y1 <= rgba.shape[0]
        assert max(x1 - x0, y1 - y0) >= 8
        assert (rgba[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1, 3] > 60).mean() > 0.3  # on the animal


def test_wings_are_often_wide_and_the_long_axis_points_any_way() -> None:
    ratios = []
    for rgba in _painted("winged", 60):
        ys, xs = np.nonzero(rgba[..., 3] > 60)
        spread = np.linalg.eigvalsh(np.cov(np.stack([xs, ys]).astype(float)))
        ratios.append((np.sqrt(spread[1] / spread[0]), np.ptp(xs) > np.ptp(ys)))
    assert np.mean([r > 1.7 for r, _ in ratios]) > 0.4
    assert 0.2 < np.mean([across for _, across in ratios]) < 0.9


def test_winged_ones_are_often_flat_and_dark() -> None:
    dark = []
    for rgba in _painted("winged", 60):
        paint = rgba[rgba[..., 3] > 200][:, :3].astype(float).mean(1)
        dark.append(np.mean(paint < 90) > 0.7)
    assert 0.3 < np.mean(dark) < 0.9


def test_giants_are_broad() -> None:
    ratios = []
    for rgba in _painted("giants", 30):
        ys, xs = np.nonzero(rgba[..., 3] > 60)
        ratios.append(np.ptp(xs) / np.ptp(ys))
    assert 0.75 < np.median(ratios) < 1.5
