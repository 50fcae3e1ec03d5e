"""The executor alone, with small stations of plain numbers: order, overlap, back-pressure, failure, stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stream.batches import Segment, Video
from stream.pipeline import Pipeline

VIDEO = Video(name="v", uri="v.mp4", kind="video", width=2, height=2, fingerprint="f")
SEGMENTS = [Segment(VIDEO, n, float(n), n + 1.0) for n in range(6)]


class Step:
    def __init__(self, name: str, function: Callable[[list[int]], list[int]]) -> None:
        self.name = name
        self._function = function

    def __call__(self, batch: list[int]) -> list[int]:
        return self._function(batch)


def decode(segment: Segment) -> Iterator[list[int]]:
    for n in range(4):
        yield [segment.index * 10 + n]


def test_batches_arrive_in_order_through_every_station() -> None:
    steps = [Step("double", lambda b: [2 * x for x in b]), Step("add", lambda b: [x + 1 for x in b])]
    results = list(Pipeline(decode, steps).run(SEGMENTS))
    assert [r.segment for r in results] == SEGMENTS
    assert [r.batches for r in results] == [[[2 * (s * 10 + n) + 1] for n in range(4)] for s in range(6)]
    assert all(r.error is None for r in results)
    assert results[0].stations["double"].items == 4
    assert results[0].stations["double"].batches == 4


def test_a_failing_station_ends_its_segment_and_not_the_run() -> None:
    def fail(batch: list[int]) -> list[int]:
        if batch == [21]:
            raise ValueError("no 21")
        return batch

    results = list(Pipeline(decode, [Step("first", fail), Step("second", lambda b: b)]).run(SEGMENTS))
    assert [r.error is None for r in results] == [True, True, False, True, True, True]
    assert str(results[2].error) == "no 21"
    assert results[2].failed_at == "first"
    assert len(results[3].batches) == 4


def test_a_failing_decoder_ends_its_segment_and_not_the_run() -> None:
    def broken(segment: Segment) -> Iterator[list[int]]:
        yield [1]
        if segment.index == 0:
            raise OSError("torn")

    results = list(Pipeline(broken, [Step("same", lambda b: b)]).run(SEGMENTS))
    assert [r.failed_at for r in results] == ["decode", "", "", "", "", ""]


def test_a_slow_station_holds_the_decoder_back() -> None:
    ahead: list[int] = []
    made = done = 0

    def endless(segment: Segment) -> Iterator[list[int]]:
        nonlocal made
        for n in range(40):
            made += 1
            yield [n]

    def slow(batch: list[int]) -> list[int]:
        nonlocal done
        ahead.append(made - done)
        time.sleep(0.003)
        done += 1
        return batch

    list(Pipeline(endless, [Step("slow", slow)], queue_size=2).run(SEGMENTS[:1]))
    assert max(ahead) <= 5  # two in the queue, one in each thread, one just made


def test_stations_overlap() -> None:
    inside = threading.Semaphore(0)

    def first(batch: list[int]) -> list[int]:
        if batch == [1]:  # the second batch enters here while the first is still in `second`
            inside.release()
        return batch

    def second(batch: list[int]) -> list[int]:
        if batch == [0]:
            assert inside.acquire(timeout=5), "the stations ran one after the other"
        return batch

    results = list(Pipeline(decode, [Step("a", first), Step("b", second)]).run(SEGMENTS[:1]))
    assert results[0].error is None


def test_stop_delivers_whole_segments_and_drops_the_one_in_work() -> None:
    reached = threading.Event()

    def slow(batch: list[int]) -> list[int]:
        if batch[0] >= 20:
            reached.set()
            time.sleep(0.01)
        return batch

    pipeline = Pipeline(decode, [Step("slow", slow)], queue_size=1)
    threading.Thread(target=lambda: (reached.wait(), pipeline.stop())).start()
    results = list(pipeline.run(SEGMENTS))
    assert 2 <= len(results) < len(SEGMENTS)
    assert all(len(r.batches) == 4 for r in results)


def test_leaving_early_ends_every_thread() -> None:
    before = threading.active_count()
    run = Pipeline(decode, [Step("same", lambda b: b)], queue_size=1).run(SEGMENTS)
    next(run)
    run.close()
    assert threading.active_count() == before


def test_an_error_between_segments_reaches_the_caller() -> None:
    def segments() -> Iterator[Segment]:
        yield SEGMENTS[0]
        raise RuntimeError("the plan broke")

    results: list[Any] = []
    with pytest.raises(RuntimeError, match="the plan broke"):
        results.extend(Pipeline(decode, [Step("same", lambda b: b)]).run(segments()))
