"""Traces as a viewer reads them: what overlaps, in which thread, and what was left out."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream import load_config, run
from stream.batches import Segment, Video
from stream.cartoon.write import Episode
from stream.errors import ConfigError
from stream.pipeline import Pipeline
from stream.trace import Trace

VIDEO = Video(name="v", uri="v.mp4", kind="video", width=2, height=2, fingerprint="f")


class Slow:
    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, batch: list[int]) -> list[int]:
        time.sleep(0.01)
        return batch


def decode(segment: Segment) -> Iterator[list[int]]:
    for n in range(5):
        time.sleep(0.01)
        yield [n, n]


def events(path: Path, kind: str) -> list[dict]:
    return [event for event in json.loads(path.read_text())["traceEvents"] if event["ph"] == kind]


def test_a_run_is_told_station_by_station(tmp_path: Path) -> None:
    trace = Trace()
    segments = [Segment(VIDEO, n, float(n), n + 1.0) for n in range(2)]
    list(Pipeline(decode, [Slow("detect"), Slow("embed")], trace=trace).run(segments))
    path = trace.write(tmp_path / "trace.json")
    spans = events(path, "X")
    detect = [event for event in spans if event["name"] == "detect"]
    assert len(detect) == 10
    assert {event["args"]["segment"] for event in detect} == {"v/0", "v/1"}
    assert all(event["args"]["items"] == 2 and event["dur"] >= 10_000 for event in detect)
    threads = {event["tid"]: event["args"]["name"] for event in events(path, "M")}
    assert {threads[event["tid"]] for event in detect} == {"detect"}
    # stations work at once: some detection begins before the embedding of an earlier batch has ended
    embed = [event for event in spans if event["name"] == "embed"]
    assert any(
        e["ts"] < d["ts"] < e["ts"] + e["dur"] or d["ts"] < e["ts"] < d["ts"] + d["dur"]
        for d in detect
        for e in embed
    )
    waiting = [event["args"]["waiting for embed"] for event in events(path, "C") if "embed" in event["name"]]
    assert waiting
    assert max(waiting) <= 2


def test_a_span_is_kept_when_its_work_fails(tmp_path: Path) -> None:
    trace = Trace()
    with pytest.raises(ValueError, match="no"), trace.span("work"):
        raise ValueError("no")
    assert [event["name"] for event in events(trace.write(tmp_path / "t.json"), "X")] == ["work"]


def test_a_long_run_keeps_its_beginning_and_says_so(tmp_path: Path) -> None:
    trace = Trace(most=3)

    def work() -> None:
        for n in range(4):
            trace.count("n", n)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    path = trace.write(tmp_path / "t.json")
    assert len(events(path, "C")) == 3
    assert json.loads(path.read_text())["otherData"]["events_left_out"] == 5


def test_ranges_without_cupy_do_nothing(tmp_path: Path) -> None:
    trace = Trace(ranges=True)
    with trace.span("decode"):
        pass
    assert len(events(trace.write(tmp_path / "t.json"), "X")) == 1


def test_a_run_writes_its_trace_with_a_row_for_each_lane(episode: Episode, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    values = {"trace": str(path), "adapt": "off", "decode": {"lanes": 2}, "segment_seconds": 3.0}
    summary = run(episode.video, tmp_path / "work", load_config(values=values), report=False)
    assert summary.exit_code == 0
    spans = events(path, "X")
    assert {"decode", "detect", "crop", "embed"} <= {event["name"] for event in spans}
    lanes = {event["tid"] for event in spans if event["name"] == "decode in a lane"}
    rows = {event["tid"]: event["args"]["name"] for event in events(path, "M")}
    assert {rows[lane] for lane in lanes} <= {"lane 0", "lane 1"}
    assert lanes


@pytest.mark.parametrize("place", ["missing/trace.json", "."])
def test_a_trace_that_cannot_be_written_is_refused_before_the_run(
    episode: Episode, tmp_path: Path, place: str
) -> None:
    config = load_config(values={"trace": str(tmp_path / place)})
    with pytest.raises(ConfigError, match="trace "):
        run(episode.video, tmp_path / "work", config)
    assert not (tmp_path / "work").exists()
