"""The kernels of boxes: compiled for real GPUs; run on an emulated one against the CPU's functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from emulated_gpu import Builder, install
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nvrtc import check_compiles

from kernels.boxes import nms, nms_reference, unletterbox, xywh_to_xyxy
from kernels.boxes_cuda import CANDIDATE, SOURCE, Layout, find, nms_batch
from kernels.device import traffic
from kernels.placement import fit_letterbox


@pytest.mark.parametrize("architecture", [80, 90, 120])
def test_nvrtc_compiles(architecture: int) -> None:
    check_compiles(SOURCE, architecture)


def test_the_struct_is_the_same_on_both_sides() -> None:
    assert f"static_assert(sizeof(Candidate) == {CANDIDATE.itemsize}," in SOURCE.text()


@pytest.mark.parametrize("backwards", [False, True])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nms_is_the_reference_cuda_source(
    backwards: bool, data: st.DataObject, emulated_kernels: Builder
) -> None:
    """Whole numbers make ties, equal boxes and touching edges frequent."""
    n = data.draw(st.integers(0, 70))
    boxes = data.draw(arrays(np.float32, (n, 4), elements=st.integers(-5, 30).map(float)))
    sure = st.sampled_from([0.1, 0.25, 0.5, 0.9]).map(np.float32)
    scores = data.draw(arrays(np.float32, n, elements=sure))
    classes = data.draw(arrays(np.int64, n, elements=st.integers(0, 2)))
    threshold = data.draw(st.sampled_from([0.1, 0.3, 0.5, 0.75, 1.0]))
    limit = data.draw(st.one_of(st.none(), st.integers(1, 40)))
    expected = nms_reference(boxes, scores, classes, threshold, limit)
    with pytest.MonkeyPatch.context() as patch:
        gpu = install(patch, emulated_kernels, backwards=backwards)
        found = nms(*(gpu.xp.asarray(a) for a in (boxes, scores, classes)), threshold, limit)
        assert found.dtype == np.int64
        assert gpu.host(found).tolist() == expected.tolist()


def crowd(n: int, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, count) boxes around a few places, so that many overlap."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(20, 200, (6, 2))
    corner = places[rng.integers(0, 6, (n, count))] + rng.normal(0, 5, (n, count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 40, (n, count, 2))], axis=2)
    scores = rng.integers(1, 50, (n, count)) / 50  # with ties
    return boxes.astype(np.float32), scores.astype(np.float32), rng.integers(0, 2, (n, count))


@pytest.mark.parametrize("limit", [None, 7])
def test_nms_of_a_batch_at_once(limit: int | None, gpu: Any) -> None:
    """Images of different counts; more candidates than a block has threads."""
    boxes, scores, classes = crowd(4, 300)
    counts = np.array([300, 0, 1, 77], np.int32)
    kept, kept_counts = nms_batch(
        *(gpu.xp.asarray(a) for a in (boxes, scores, classes)),
        0.4,
        counts=gpu.xp.asarray(counts),
        limit=limit,
    )
    kept, kept_counts = gpu.host(kept), gpu.host(kept_counts)
    assert kept.shape == (4, limit or 300)
    for k, count in enumerate(counts.tolist()):
        expected = nms(boxes[k, :count], scores[k, :count], classes[k, :count], 0.4, limit)
        assert kept[k, : kept_counts[k]].tolist() == expected.tolist()
    if limit is None:
        assert kept_counts[0] > 33  # beyond the first 32, which are suppressed among themselves


@pytest.mark.parametrize("backwards", [False, True])
def test_warps_wait_for_each_other_cuda_source(
    backwards: bool, emulated_kernels: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever goes first: what one warp strikes off, all others see."""
    gpu = install(monkeypatch, emulated_kernels, backwards=backwards)
    boxes, scores, classes = crowd(3, 200, seed=1)
    found, counts = nms_batch(*(gpu.xp.asarray(a) for a in (boxes, scores, classes)), 0.4)
    for k in range(3):
        expected = nms_reference(boxes[k], scores[k], classes[k], 0.4)
        assert gpu.host(found)[k, : gpu.host(counts)[k]].tolist() == expected.tolist()


@pytest.mark.parametrize(("threshold", "kept"), [(0.5, [0, 1]), (0.49, [0])])
def test_what_overlaps_exactly_as_much_as_allowed_is_kept(
    threshold: float, kept: list[int], gpu: Any
) -> None:
    boxes = gpu.xp.asarray(np.array([[0, 0, 2, 1], [0, 0, 1, 1]], np.float32))  # IoU 0.5
    scores = gpu.xp.asarray(np.array([0.9, 0.8], np.float32))
    assert gpu.host(nms(boxes, scores, gpu.xp.zeros(2, np.int64), threshold)).tolist() == kept


def test_nms_of_nothing(gpu: Any) -> None:
    xp = gpu.xp
    kept = nms(xp.zeros((0, 4), np.float32), xp.zeros(0, np.float32), xp.zeros(0, np.int64), 0.5)
    assert kept.shape == (0,)


PLACE = fit_letterbox(90, 150, 64, 96)
STRIDES = (8, 16, 32)
CELLS = sum(-(-64 // s) * -(-96 // s) for s in STRIDES)


def centred(n: int, count: int, seed: int) -> np.ndarray:
    """(n, count, 4) centre boxes on a canvas of 96x64, some of them on its grey alone, some inside out."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform([-5, -5], [101, 69], (n, count, 2))
    size = rng.uniform(-2, 40, (n, count, 2))
    return np.concatenate([centre, size], axis=2).astype(np.float32)


def by_hand(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, score: float, wanted: Any, threshold: Any
) -> list[tuple[Any, ...]]:
    """What has to be found among boxes (A, 4) on the canvas of one image: in plain NumPy."""
    keep = (scores >= score) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, scores, classes = unletterbox(boxes[keep], PLACE), scores[keep], classes[keep]
    keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if wanted is not None:
        keep &= np.array([c < len(wanted) and bool(wanted[c]) for c in classes], bool)
    boxes, scores, classes = boxes[keep], scores[keep], classes[keep]
    limit = 20
    if threshold is None:
        order = np.argsort(-scores, kind="stable")[:limit]
    else:
        order = nms(boxes, scores, classes, threshold, limit)
    return [(*boxes[k].tolist(), float(scores[k]), int(classes[k])) for k in order]


def listed(kept: Any) -> list[tuple[Any, ...]]:
    return [
        (*box, score, label)
        for box, score, label in zip(
            kept.boxes.tolist(), kept.scores.tolist(), kept.classes.tolist(), strict=True
        )
    ]


@pytest.mark.parametrize("threshold", [0.45, None])
@pytest.mark.parametrize("wanted", [None, [True, False, True]])
@pytest.mark.parametrize("form", ["columns", "rows", "finished"])
def test_a_head_is_read_suppressed_and_brought_home(
    form: Any, wanted: list[bool] | None, threshold: float | None, gpu: Any
) -> None:
    """To the last bit what the CPU finds, over a batch in which an image has nothing."""
    n, classes, score = 3, 5, 0.3
    rng = np.random.default_rng(4)
    boxes = centred(n, CELLS, seed=5)
    chances = (rng.integers(0, 21, (n, CELLS, classes)) / 20).astype(np.float32) ** 3
    chances[1] = 0
    corners = xywh_to_xyxy(boxes)
    if form == "columns":
        output = np.concatenate([boxes, chances], axis=2).transpose(0, 2, 1)
        best, label = chances.max(axis=2), chances.argmax(axis=2)
    elif form == "rows":
        sure = rng.random((n, CELLS, 1)).astype(np.float32)
        output = np.concatenate([boxes, sure, chances], axis=2)
        best, label = (sure * chances).max(axis=2), (sure * chances).argmax(axis=2)
    else:
        best, label = chances[:, :, 0], rng.integers(-1, 4, (n, CELLS))
        output = np.concatenate([corners, best[..., None], label[..., None]], axis=2)
    output = np.ascontiguousarray(output, np.float32)
    if form == "finished":
        best = np.where(label < 0, -1, best)
    mask = None if wanted is None else np.array(wanted)
    before = traffic.read().get("boxes", 0)
    there = gpu.xp.asarray(output)
    found = find(
        there, Layout(form, classes), PLACE,
        score=score, wanted=mask, threshold=threshold, limit=20, checked=(there,),
    )  # fmt: skip
    assert found is not None
    expected = [by_hand(corners[k], best[k], label[k], score, mask, threshold) for k in range(n)]
    assert [listed(kept) for kept in found] == expected
    assert [len(e) > 5 for e in expected] == [True, False, True]
    most = max(map(len, expected))
    assert traffic.read()["boxes"] - before == (2 * n + 1) * 4 + n * most * CANDIDATE.itemsize


def test_boxes_on_a_grid(gpu: Any) -> None:
    """YOLOX as its network puts it out: centre = (cell + xy) stride, size = exp(wh) stride."""
    rng = np.random.default_rng(6)
    raw = rng.normal(0, 1, (2, CELLS, 7)).astype(np.float32)
    raw[..., 4:] = rng.random((2, CELLS, 3))
    raw[0, 3, 2] = 500  # a size beyond every float
    there = gpu.xp.asarray(raw)
    layout = Layout("rows", 2, STRIDES)
    found = find(there, layout, PLACE, score=0.6, wanted=None, threshold=None, limit=CELLS)
    assert found is not None
    points, sizes = [], []
    for s in STRIDES:
        y, x = np.mgrid[: 64 // s, : 96 // s]
        points.append(np.stack([x.ravel(), y.ravel()], 1) * s)
        sizes.append(np.full((x.size, 1), s))
    grid, stride = np.concatenate(points), np.concatenate(sizes)
    boxes = np.concatenate([raw[..., :2] * stride + grid, np.exp(np.minimum(raw[..., 2:4], 20)) * stride], 2)
    chances = raw[..., 4:5] * raw[..., 5:]
    for k in range(2):
        corners = xywh_to_xyxy(boxes[k].astype(np.float32))
        best, label = chances[k].max(axis=1), chances[k].argmax(axis=1)
        keep = np.flatnonzero(best >= 0.6)
        in_frame = unletterbox(corners[keep], PLACE)
        real = (in_frame[:, 2:] > in_frame[:, :2]).all(axis=1)
        order = np.argsort(-best[keep][real], kind="stable")
        np.testing.assert_allclose(found[k].boxes, in_frame[real][order], rtol=1e-5, atol=1e-3)
        assert found[k].scores.tolist() == best[keep][real][order].tolist()
        assert found[k].classes.tolist() == label[keep][real][order].tolist()
        assert len(order) > 3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_told(value: float, gpu: Any) -> None:
    output = np.zeros((1, 6, CELLS), np.float32)
    good = gpu.xp.asarray(output)
    options: dict[str, Any] = {"score": 0.3, "wanted": None, "threshold": 0.5, "limit": 5}
    assert find(good, Layout("columns", 2), PLACE, **options, checked=(good,)) is not None
    output[0, 5, CELLS - 1] = value
    bad = gpu.xp.asarray(output)
    assert find(bad, Layout("columns", 2), PLACE, **options, checked=(good, bad)) is None


def test_no_images(gpu: Any) -> None:
    output = gpu.xp.zeros((0, 6, CELLS), np.float32)
    assert find(output, Layout("columns", 2), PLACE, score=0.3, wanted=None, threshold=0.5, limit=5) == []
