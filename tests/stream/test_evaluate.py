"""Every score against an example worked out by hand."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from stream.errors import ConfigError
from stream.evaluate import (
    ami,
    assign_identities,
    average_precision50,
    clusters_per_identity,
    compactness,
    evaluate,
    match_boxes,
    precision50,
    purity,
    recall50,
    sampled_frame,
)
from stream.labels import FrameStatus, LabelBox, Labels


def test_average_precision_by_hand() -> None:
    """Scores .9 right, .8 wrong, .7 right, 4 true boxes: recall 1/4 at 1, then 2/4 at 2/3."""
    assert average_precision50([0.9, 0.8, 0.7], [True, False, True], 4) == pytest.approx(
        1 / 4 + 1 / 4 * 2 / 3
    )
    # the order in which they come does not matter
    assert average_precision50([0.7, 0.9, 0.8], [True, True, False], 4) == pytest.approx(1 / 4 + 1 / 6)
    # a later, better precision counts for what is before it: 1/2 then 2/3, so 2/3 from the start
    assert average_precision50([0.9, 0.8, 0.7], [False, True, True], 2) == pytest.approx(2 / 3)
    # equal scores come in together
    assert average_precision50([0.5, 0.5], [True, False], 1) == pytest.approx(1 / 2)
    assert average_precision50([0.5, 0.5], [False, True], 1) == pytest.approx(1 / 2)
    assert average_precision50([0.9, 0.8], [True, True], 2) == 1
    assert average_precision50([], [], 2) == 0
    assert math.isnan(average_precision50([0.5], [False], 0))


def test_recall_and_precision() -> None:
    assert recall50([True, False, True], 4) == 0.5
    assert precision50([True, False, True]) == pytest.approx(2 / 3)
    assert math.isnan(recall50([False], 0))
    assert math.isnan(precision50([]))


def test_purity_and_its_company_by_hand() -> None:
    """Cluster 0: a a b, cluster 1: b b, cluster 2: a. Majorities 2 + 2 + 1 of 6; 3 clusters; 2 identities."""
    clusters = [0, 0, 0, 1, 1, 2]
    names = ["a", "a", "b", "b", "b", "a"]
    assert purity(clusters, names) == pytest.approx(5 / 6)
    assert compactness(clusters) == pytest.approx(3 / 6)
    assert clusters_per_identity(clusters, names) == pytest.approx(3 / 2)
    assert ami(["x", "x", "y"], ["p", "p", "q"]) == pytest.approx(1)
    assert abs(ami([0, 1, 0, 1], ["a", "a", "b", "b"])) < 0.6
    for score in (purity([], []), compactness([]), clusters_per_identity([], []), ami([], [])):
        assert math.isnan(score)
    with pytest.raises(ValueError, match="expected 2, got 1"):
        purity([0, 1], ["a"])


def test_boxes_are_matched_one_to_one_by_score() -> None:
    truth = [[0, 0, 10, 10], [20, 0, 30, 10]]
    boxes = [[1, 0, 11, 10], [0, 0, 10, 10], [20, 0, 30, 11], [50, 0, 60, 10]]
    assert match_boxes(boxes, [0.9, 0.8, 0.7, 0.6], truth).tolist() == [0, -1, 1, -1]
    assert match_boxes(boxes, [0.8, 0.9, 0.7, 0.6], truth).tolist() == [-1, 0, 1, -1]
    # exactly half is enough, less is not
    assert match_boxes([[0, 0, 10, 5]], [1.0], [[0, 0, 10, 10]]).tolist() == [0]
    assert match_boxes([[0, 0, 10, 4.9]], [1.0], [[0, 0, 10, 10]]).tolist() == [-1]
    assert match_boxes(np.zeros((0, 4)), [], truth).tolist() == []
    assert match_boxes(boxes, [0.9, 0.8, 0.7, 0.6], np.zeros((0, 4))).tolist() == [-1] * 4
    # ignored ones are taken last, and by any number
    taken = match_boxes(boxes, [0.9, 0.8, 0.7, 0.6], truth, ignored=[True, False])
    assert taken.tolist() == [0, 0, 1, -1]


def test_the_labelled_frame_is_the_first_at_or_after_its_time() -> None:
    grid = np.array([0.0, 1.0, 2.002, 3.04])
    assert sampled_frame(grid, 1.0, 0.03) == 1
    assert sampled_frame(grid, 1.0004, 0.03) == 1  # label files round
    assert sampled_frame(grid, 2.0, 0.03) == 2
    assert sampled_frame(grid, 3.0, 0.03) is None
    assert sampled_frame(grid, 1.5, 0.03) is None
    assert sampled_frame(grid, 9.0, 0.03) is None


def label(time_s: float, box: tuple[float, ...], identity: str, flags: tuple[str, ...] = ()) -> LabelBox:
    return LabelBox("film.mp4", time_s, 100, 50, box, identity, flags)  # type: ignore[arg-type]


LABELS = Labels(
    boxes=(
        label(0, (0, 0, 10, 10), "ann"),
        label(0, (20, 0, 30, 10), "bob"),
        label(1, (0, 0, 10, 10), "ann"),
        label(1, (40, 0, 50, 10), "bob", ("tiny",)),
        label(2, (0, 0, 10, 10), "cy", ("identity_uncertain",)),
        label(4, (0, 0, 10, 10), "ann"),  # credits
        label(5, (0, 0, 10, 10), "ann"),  # not sampled
    ),
    frames=tuple(
        FrameStatus("film.mp4", float(t), status)
        for t, status in enumerate(["ok", "ok", "ok", "empty", "credits", "ok", "uncertain"])
    ),
)
# frames twice as large as the labels': boxes are scaled
CROPS = {
    "videos": ["film.mp4"] * 7,
    "times": np.array([0, 0, 1, 2, 3, 4, 0.5]),
    "boxes": np.array(
        [
            [0, 0, 20, 20],  # ann
            [40, 0, 60, 21],  # bob
            [0, 0, 20, 19],  # ann
            [0, 0, 20, 20],  # cy, nobody knows
            [0, 0, 20, 20],  # wrong: the frame is empty
            [0, 0, 20, 20],  # credits
            [0, 0, 20, 20],  # a frame without labels
        ],
        np.float32,
    ),
    "scores": np.array([0.9, 0.8, 0.7, 0.6, 0.95, 0.5, 0.5], np.float32),
    "frame_times": {"film.mp4": np.array([0, 0.5, 1, 2, 3, 4, 6.0])},
    "frame_sizes": {"film.mp4": (200, 100)},
}
CLUSTERS = np.array([0, 0, 1, 0, 0, 0, 0])


def test_a_whole_evaluation_by_hand() -> None:
    scores = evaluate(LABELS, clusters=CLUSTERS, **CROPS)  # type: ignore[arg-type]
    assert (scores.n, scores.frames, scores.frames_not_sampled) == (5, 4, 1)
    assert scores.found == 5
    assert scores.recall50 == pytest.approx(4 / 5)
    assert scores.precision50 == pytest.approx(4 / 5)
    # .95 wrong, then four right: precision 4/5 at recall 4/5 is the best from the start
    assert scores.ap50 == pytest.approx(4 / 5 * 4 / 5)
    # ann bob | ann
    assert (scores.matched, scores.identities) == (3, 2)
    assert scores.purity == pytest.approx(2 / 3)
    assert scores.compactness == pytest.approx(2 / 3)
    assert scores.clusters_per_identity == pytest.approx(1)
    assert "5 labelled boxes in 4 frames, 1 more was not sampled" in scores.as_text()
    one = dataclasses.replace(scores, n=1, frames=1, frames_not_sampled=2)
    assert "1 labelled box in 1 frame, 2 more were not sampled" in one.as_text()


def test_json_is_flat_and_says_null_for_nothing() -> None:
    flat = json.loads(json.dumps(evaluate(LABELS, **CROPS).as_json(), allow_nan=False))  # type: ignore[arg-type]
    needed = {"n", "recall50", "precision50", "ap50", "purity", "compactness", "clusters_per_identity", "ami"}
    assert needed <= set(flat)
    assert flat["recall50"] == 0.8
    assert flat["purity"] is None


def test_flags_and_classes_can_be_left_out() -> None:
    without_tiny = evaluate(LABELS, ignore_flags=("tiny",), **CROPS)  # type: ignore[arg-type]
    assert (without_tiny.n, without_tiny.recall50) == (4, 1)
    faces = ["character"] * 4 + ["face"] + ["character"] * 2
    assert evaluate(LABELS, classes=faces, **CROPS).precision50 == 1  # type: ignore[arg-type]


def test_crops_outside_any_cluster_do_not_count() -> None:
    scores = evaluate(LABELS, clusters=np.where(CLUSTERS == 1, -1, CLUSTERS), **CROPS)  # type: ignore[arg-type]
    assert (scores.matched, scores.purity) == (2, 0.5)


def test_identities_of_crops() -> None:
    arguments = {k: v for k, v in CROPS.items() if k != "frame_times"}
    taken, scored, frames, missing = assign_identities(
        LABELS,
        frame_times=CROPS["frame_times"],
        **arguments,  # type: ignore[arg-type]
    )
    assert [b and b.identity for b in taken] == ["ann", "bob", "ann", "cy", None, None, None]
    assert scored.tolist() == [True] * 5 + [False] * 2
    assert [len(f) for f in frames] == [2, 2, 1, 0]
    assert missing == 1


def test_labels_of_another_film_are_refused() -> None:
    other = {**CROPS, "frame_times": {"other.mp4": np.arange(5.0)}}
    with pytest.raises(ConfigError, match=r"film\.mp4.*other\.mp4"):
        evaluate(LABELS, **other)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scores: expected 7 rows, got 2"):
        evaluate(LABELS, **{**CROPS, "scores": np.zeros(2)})  # type: ignore[arg-type]
