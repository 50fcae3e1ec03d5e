"""Tracklets on scenes worked out by hand, and their invariants on random ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernels.boxes import iou
from stream.config import TrackConfig
from stream.tracks import link_tracks

RED, BLUE = np.eye(8, dtype=np.float32)[:2]
LEFT, RIGHT = (0.0, 0.0, 10.0, 20.0), (50.0, 0.0, 60.0, 20.0)


def link(rows: list[tuple[int, float, int, tuple[float, ...], np.ndarray]], **config: float) -> list[int]:
    numbers, times, shots, boxes, embeddings = zip(*rows, strict=True)
    found = link_tracks(
        np.array(numbers, np.int64),
        np.array(times, np.float64),
        np.array(shots, np.int32),
        np.array(boxes, np.float32),
        np.array(embeddings, np.float32),
        TrackConfig(**config),
    )
    assert found.dtype == np.int64
    return found.tolist()


def test_iou_by_hand() -> None:
    a = np.array([[0, 0, 2, 2], [0, 0, 0, 0]], np.float32)
    b = np.array([[1, 0, 3, 2], [0, 0, 2, 2], [5, 5, 6, 6]], np.float32)
    np.testing.assert_allclose(iou(a, b), [[1 / 3, 1, 0], [0, 0, 0]], atol=1e-6)


def test_two_characters_that_swap_places_keep_their_tracks() -> None:
    rows = [
        (0, 0.0, 0, LEFT, RED),
        (0, 0.0, 0, RIGHT, BLUE),
        (1, 1.0, 0, LEFT, BLUE),
        (1, 1.0, 0, RIGHT, RED),
    ]
    assert link(rows) == [0, 1, 1, 0]


def test_a_cut_ends_every_track() -> None:
    assert link([(0, 0.0, 0, LEFT, RED), (1, 1.0, 1, LEFT, RED), (2, 2.0, 1, LEFT, RED)]) == [0, 1, 1]


def test_a_gap_longer_than_allowed_ends_the_track() -> None:
    rows = [(0, 0.0, 0, LEFT, RED), (1, 2.0, 0, LEFT, RED), (2, 5.0, 0, LEFT, RED)]
    assert link(rows) == [0, 0, 1]
    assert link(rows, max_gap_s=3.5) == [0, 0, 0]


def test_the_same_place_is_not_enough() -> None:
    assert link([(0, 0.0, 0, LEFT, RED), (1, 1.0, 0, LEFT, BLUE)]) == [0, 1]


def test_position_lowers_the_bar_for_appearance_a_little() -> None:
    changed = np.array([0.6, 0.8, 0, 0, 0, 0, 0, 0], np.float32)  # cosine 0.6 to red
    assert link([(0, 0.0, 0, LEFT, RED), (1, 1.0, 0, LEFT, changed)]) == [0, 0]
    assert link([(0, 0.0, 0, LEFT, RED), (1, 1.0, 0, RIGHT, changed)]) == [0, 1]
    assert link([(0, 0.0, 0, LEFT, RED), (1, 1.0, 0, LEFT, changed)], min_similarity=0.9) == [0, 1]


def test_a_slow_change_does_not_carry_a_track_away() -> None:
    """Each step is like the one before; the last is nothing like the first."""
    angles = np.linspace(0, np.pi / 2, 8)
    turn = [np.array([np.cos(t), np.sin(t), 0, 0, 0, 0, 0, 0], np.float32) for t in angles]
    found = link([(i, float(i), 0, RIGHT if i % 2 else LEFT, e) for i, e in enumerate(turn)])
    assert found[0] == found[1]
    assert found[-1] != found[0]


def test_the_order_of_crops_does_not_matter() -> None:
    rows = [(i // 2, float(i // 2), 0, (LEFT, RIGHT)[i % 2], (RED, BLUE)[i % 2]) for i in range(8)]
    shuffled = [5, 0, 7, 2, 1, 6, 3, 4]
    straight, mixed = link(rows), link([rows[i] for i in shuffled])
    assert [straight[i] for i in shuffled] == mixed
    assert straight == [0, 1] * 4


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**31), st.integers(0, 40))
def test_one_box_per_frame_and_shot(seed: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = np.sort(rng.integers(0, 10, m))
    shots = numbers // 4
    low = rng.uniform(0, 50, (m, 2))
    boxes = np.concatenate([low, low + rng.uniform(0, 30, (m, 2))], axis=1).astype(np.float32)
    e = np.eye(3, dtype=np.float32)[rng.integers(0, 3, m)]
    tracks = link_tracks(numbers, numbers * 1.0, shots, boxes, e, TrackConfig())
    assert tracks.shape == (m,)
    assert len(set(zip(tracks.tolist(), numbers.tolist(), strict=True))) == m
    for t in np.unique(tracks):
        assert len(set(shots[tracks == t].tolist())) == 1
        assert (e[tracks == t] == e[tracks == t][0]).all()
    if m:
        assert sorted(set(tracks.tolist())) == list(range(tracks.max() + 1))


def test_unlike_lengths_are_named() -> None:
    with pytest.raises(ValueError, match=r"times: expected 2 rows, got 1"):
        link_tracks(
            np.zeros(2, np.int64),
            np.zeros(1),
            np.zeros(2, np.int32),
            np.zeros((2, 4), np.float32),
            np.zeros((2, 3), np.float32),
            TrackConfig(),
        )
