"""Figures against cases worked out by hand, and sheets that show what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines.train.tune.measure import Found, _judged, figures
from engines.train.tune.sheets import BLUE, GREEN, ORANGE, RED, Sheets, judge
from engines.train.tune.views import Picture

BOX = (10.0, 10.0, 50.0, 50.0)


def found(*rows: tuple[tuple[float, ...], float, int]) -> Found:
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    scores = np.array([row[1] for row in rows], np.float32)
    return Found(boxes, scores, np.array([row[2] for row in rows], np.int32))


def true(*rows: tuple[tuple[float, ...], int]) -> tuple[np.ndarray, np.ndarray]:
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    return boxes, np.array([row[1] for row in rows], np.int32)


def test_perfect_boxes_are_one() -> None:
    got = figures([found((BOX, 0.9, 0)), found((BOX, 0.8, 1))], [true((BOX, 0)), true((BOX, 1))], ("a", "b"))
    assert (got.ap50, got.ap50_95, got.recall) == (1, 1, 1)
    assert got.by_class == {"a": 1, "b": 1}
    assert got.best_score == pytest.approx(0.8)


def test_a_box_of_iou_72_counts_at_five_thresholds_of_ten() -> None:
    high = (10.0, 10.0, 50.0, 10 + 40 * 0.72)
    got = figures([found((high, 0.9, 0))], [true((BOX, 0))], ("a",))
    assert got.ap50 == 1
    assert got.ap50_95 == pytest.approx(0.5)


def test_order_of_scores_matters() -> None:
    off = (100.0, 100.0, 120.0, 120.0)
    seen = [found((off, 0.9, 0), (BOX, 0.5, 0))]
    assert figures(seen, [true((BOX, 0))], ("a",)).ap50 == pytest.approx(0.5)
    seen = [found((off, 0.4, 0), (BOX, 0.5, 0))]
    assert figures(seen, [true((BOX, 0))], ("a",)).ap50 == pytest.approx(1)


def test_the_mean_is_over_classes_that_have_boxes() -> None:
    got = figures(
        [found((BOX, 0.9, 0), (BOX, 0.8, 2))], [true((BOX, 0), ((60, 60, 80, 80), 1))], ("a", "b", "c")
    )
    assert got.by_class == {"a": 1, "b": 0}
    assert got.ap50 == pytest.approx(0.5)
    assert got.recall == pytest.approx(0.5)


def test_the_right_box_of_the_wrong_class_is_wrong() -> None:
    got = figures([found((BOX, 0.9, 1))], [true((BOX, 0))], ("a", "b"))
    assert (got.ap50, got.recall, got.best_score) == (0, 0, pytest.approx(0.9))


def test_nothing_found_is_nothing() -> None:
    got = figures([found()], [true((BOX, 0))], ("a",))
    assert (got.ap50, got.ap50_95, got.recall, got.best_score) == (0, 0, 0, 0)


def picture(judged: tuple[bool, ...] = (True, True)) -> Picture:
    boxes = np.array([BOX, (100, 20, 180, 100)], np.float32)[: len(judged)]
    image = np.full((120, 200, 3), 128, np.uint8)
    return Picture(image, boxes, np.zeros(len(judged), np.int32), np.array(judged))


def test_what_lies_on_a_crowd_counts_neither_way() -> None:
    seen = found(
        ((11, 11, 50, 50), 0.9, 0), ((110, 30, 130, 50), 0.8, 0), ((90, 90, 110, 118), 0.7, 0)
    )  # a hit, one in the crowd, one mostly beside it
    kept = _judged(seen, picture((True, False)))
    np.testing.assert_allclose(kept.scores, [0.9, 0.7])
    assert _judged(seen, picture()) is seen


def test_sheets_have_the_colours_of_what_happened(tmp_path: Path) -> None:
    seen = found(((12, 12, 52, 52), 0.9, 0), ((60, 60, 90, 110), 0.6, 0), ((150, 5, 195, 15), 0.1, 0))
    verdict = judge(picture(), seen)
    assert verdict.true.tolist() == [True, False]
    assert verdict.found.tolist() == [True, False, False]
    sheets = Sheets(("fox",), score=0.25)
    sheets.add("one.png", picture(), seen)
    sheets.add("two.png", picture((True,)), found(((10, 10, 50, 50), 0.9, 0)))
    misses, hits = sheets.write(tmp_path)
    assert (misses.name, hits.name) == ("misses.jpg", "hits.jpg")

    sheet = np.asarray(Image.open(misses)).astype(int)  # a picture of 200 px is 300 px wide at (6, 50)
    for (x, y), colour in (((10, 40), GREEN), ((100, 80), ORANGE), ((12, 45), BLUE), ((60, 85), RED)):
        near = sheet[50 + int(1.5 * y), 6 + int(1.5 * x) : 9 + int(1.5 * x)]
        assert np.abs(near - colour).sum(1).min() < 60, (x, y)

    def has(path: Path, colour: tuple[int, int, int]) -> bool:
        below = np.asarray(Image.open(path)).astype(int)[30:]
        return int((np.abs(below - colour).sum(2) < 60).sum()) > 40

    assert [has(misses, c) for c in (GREEN, BLUE, RED, ORANGE)] == [True, True, True, True]
    assert [has(hits, c) for c in (BLUE, RED, ORANGE)] == [True, False, False]


def test_the_worst_come_first_and_few_are_kept(tmp_path: Path) -> None:
    sheets = Sheets(("fox",), score=0.25)
    for n in range(40):
        rows = [((5.0 * k, 60, 5.0 * k + 4, 64), 0.5, 0) for k in range(1 + n % 10)]
        sheets.add(f"{n:02}.png", picture((True,)), found(*rows))
    assert len(sheets._worst) == 24
    assert [tile.name for tile in sheets._worst[:5]] == ["09.png", "19.png", "29.png", "39.png", "08.png"]
    assert sheets.write(tmp_path) == [tmp_path / "misses.jpg"]
