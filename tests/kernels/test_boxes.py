"""Boxes against plain definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kernels.boxes import clip, fuse, iou, nms, nms_reference, unletterbox, xywh_to_xyxy, xyxy_to_xywh
from kernels.image import fit_letterbox

# whole numbers make ties, equal boxes and touching edges frequent
corner = st.integers(-5, 30).map(float)


def boxes_of(n: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float32, (n, 4), elements=corner)


def plain_iou(a: np.ndarray, b: np.ndarray) -> float:
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = sum(max(0.0, x[2] - x[0]) * max(0.0, x[3] - x[1]) for x in (a, b)) - shared
    return shared / union if union > 0 else 0.0


def test_views_of_one_thing_become_their_weighted_mean() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 12], [50, 50, 60, 60], [0, 0, 10, 11]], np.float32)
    scores = np.array([0.6, 0.2, 0.3, 0.1], np.float32)
    found, marks, views = fuse(boxes, scores, np.array([0, 1, 2, 1]), 3, 0.5)
    # of view 1 the better of its two counts in the score, and both in the place
    np.testing.assert_allclose(found, [[0, 0, 10, (6 + 2.4 + 1.1) / 0.9], [50, 50, 60, 60]], rtol=1e-5)
    np.testing.assert_allclose(marks, [(0.6 + 0.2) / 3, 0.1], rtol=1e-5)
    assert views.tolist() == [2, 1]
    assert [len(part) for part in fuse(boxes, scores, np.array([0, 1, 2, 1]), 3, 0.95)] == [4, 4, 4]
    nothing = fuse(boxes[:0], scores[:0], np.zeros(0, np.int64), 3, 0.5)
    assert [part.shape for part in nothing] == [(0, 4), (0,), (0,)]
    assert np.isfinite(fuse(boxes, np.zeros(4, np.float32), np.array([0, 1, 2, 1]), 3, 0.5)[0]).all()


@settings(max_examples=60, deadline=None)
@given(boxes_of(4), boxes_of(3))
def test_iou_matches_the_definition(a: np.ndarray, b: np.ndarray) -> None:
    expected = [[plain_iou(x.astype(float), y.astype(float)) for y in b] for x in a]
    np.testing.assert_allclose(iou(a, b), expected, rtol=1e-5)


def test_iou_of_nothing() -> None:
    assert iou(np.empty((0, 4)), np.zeros((3, 4))).shape == (0, 3)
    assert iou(np.zeros((2, 4)), np.zeros((1, 4))).tolist() == [[0], [0]]


def brute_force(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, threshold: float) -> list[int]:
    """Kept are the boxes that no better, kept box of their class overlaps: decided one by one."""
    order = sorted(range(len(boxes)), key=lambda i: (-scores[i], i))
    kept: list[int] = []
    for i in order:
        if all(
            classes[i] != classes[j] or np.float32(plain_iou(boxes[i], boxes[j])) <= np.float32(threshold)
            for j in kept
        ):
            kept.append(i)
    return kept


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_nms_matches_brute_force(data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 12))
    boxes = data.draw(boxes_of(n))
    scores = data.draw(arrays(np.float32, n, elements=st.sampled_from([0.1, 0.25, 0.5, 0.9]).map(np.float32)))
    classes = data.draw(arrays(np.int32, n, elements=st.integers(0, 2)))
    threshold = data.draw(st.sampled_from([0.1, 0.3, 0.5, 0.75, 1.0]))
    limit = data.draw(st.one_of(st.none(), st.integers(1, 5)))
    expected = brute_force(boxes, scores, classes, threshold)[:limit]
    assert nms(boxes, scores, classes, threshold, limit).tolist() == expected
    assert nms_reference(boxes, scores, classes, threshold, limit).tolist() == expected


@pytest.mark.parametrize(("threshold", "kept"), [(0.5, [0, 1]), (0.49, [0])])
def test_nms_keeps_what_overlaps_exactly_as_much_as_allowed(threshold: float, kept: list[int]) -> None:
    boxes = np.array([[0, 0, 2, 1], [0, 0, 1, 1]], np.float32)  # IoU 0.5
    scores, classes = np.array([0.9, 0.8], np.float32), np.zeros(2, np.int32)
    assert nms(boxes, scores, classes, threshold).tolist() == kept
    assert nms_reference(boxes, scores, classes, threshold).tolist() == kept


def test_nms_keeps_classes_apart() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10]], np.float32)
    kept = nms(boxes, np.array([0.5, 0.9, 0.6], np.float32), np.array([0, 0, 1]), 0.5)
    assert kept.tolist() == [1, 2]


@settings(max_examples=40, deadline=None)
@given(boxes_of(5))
def test_conversions_undo_each_other(boxes: np.ndarray) -> None:
    np.testing.assert_allclose(xywh_to_xyxy(xyxy_to_xywh(boxes)), boxes, atol=1e-5)


def test_conversion_of_one_box() -> None:
    assert xywh_to_xyxy(np.array([[10, 20, 4, 6]], np.float32)).tolist() == [[8, 17, 12, 23]]


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("source", [(1080, 1920), (360, 640), (33, 17), (1, 1)])
def test_unletterbox_undoes_the_letterbox(source: tuple[int, int], centred: bool) -> None:
    place = fit_letterbox(*source, 192, 320, centred=centred)
    height, width = source
    boxes = np.array(
        [[0, 0, width, height], [0.1 * width, 0.2 * height, 0.5 * width, 0.9 * height]], np.float32
    )
    scale = np.array([place.scale_x, place.scale_y] * 2, np.float32)
    shift = np.array([place.left, place.top] * 2, np.float32)
    back = unletterbox(boxes * scale + shift, place)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, boxes, rtol=1e-5, atol=1e-3)


def test_clip_and_unletterbox_stay_in_the_frame() -> None:
    assert clip(np.array([[-5, -5, 50, 60]], np.float32), 20, 30).tolist() == [[0, 0, 30, 20]]
    place = fit_letterbox(180, 320, 192, 320)
    assert unletterbox(np.array([[-9, -9, 999, 999]], np.float32), place).tolist() == [[0, 0, 320, 180]]
    assert unletterbox(np.empty((0, 4), np.float32), place).shape == (0, 4)
