"""Choosing crops, joining appearances, comparing clusters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.report.data import Span
from stream.report.select import alike, coarser, frame_steps, spans, spread, together


@given(
    times=st.lists(st.floats(0, 1e6), max_size=80),
    count=st.integers(1, 30),
    data=st.data(),
)
def test_spread_is_bounded_ordered_distinct_and_keeps_what_it_must(
    times: list[float], count: int, data: st.DataObject
) -> None:
    when = np.array(times, np.float64)
    quality = np.random.default_rng(0).random(len(when))
    must = data.draw(st.integers(0, len(when) - 1)) if len(when) else None
    chosen = spread(when, quality, count, [] if must is None else [must])
    assert len(chosen) == len(set(chosen)) == min(count, len(when))
    assert list(when[chosen]) == sorted(when[chosen])
    assert must is None or must in chosen


def test_spread_takes_the_best_of_each_part_not_of_the_whole() -> None:
    quality = np.array([1, 2, 9, 8, 7, 1], np.float64)
    assert spread(np.arange(6.0), quality, 3) == [1, 2, 4]


def test_a_hole_in_the_frames_is_not_screen_time() -> None:
    steps = frame_steps(np.array([0.0, 1, 2, 3, 100, 101]))
    assert steps.tolist() == [1, 1, 1, 3, 1, 1]


@pytest.mark.parametrize(
    ("times", "steps"), [([], []), ([7.0], [1.0]), ([0.0, 0.5], [0.5, 0.5]), ([3, 3], [0, 1])]
)
def test_steps_of_few_frames(times: list[float], steps: list[float]) -> None:
    assert frame_steps(np.array(times, np.float64)).tolist() == steps


def test_neighbouring_frames_join_and_a_missed_one_parts() -> None:
    times = np.arange(10.0)
    found = spans(np.array([2, 3, 4, 6, 9]), times, frame_steps(times), video=5)
    assert found == [Span(5, 2, 5), Span(5, 6, 7), Span(5, 9, 10)]
    assert spans(np.array([], np.int64), times, frame_steps(times), 0) == []


def test_too_many_spans_close_their_smallest_gaps_but_never_across_videos() -> None:
    group = [Span(v, t, t + 0.5) for v in (0, 1) for t in range(0, 400, 2)]
    (closed,) = coarser([group], 50)
    assert len(closed) <= 50
    assert {s.video for s in closed} == {0, 1}
    assert closed[0].start_s == 0
    assert closed[-1].end_s == 398.5
    assert coarser([group], 400) == [group]


def test_alike_is_the_cosine_and_nobody_is_like_himself() -> None:
    cosine = alike(np.array([[2.0, 0], [0, 3], [1, 1], [0, 0]]))
    assert cosine[0, 1] == pytest.approx(0)
    assert cosine[0, 2] == pytest.approx(np.sqrt(0.5))
    assert np.isfinite(cosine).all()
    assert (np.diag(cosine) == -2).all()


def test_together_counts_shared_frames() -> None:
    shared = together([np.array([1, 2, 3]), np.array([3, 4]), np.array([9])])
    assert shared.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
