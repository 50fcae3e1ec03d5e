"""A decoder that hangs is left behind, and the segment is done on the CPU."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from decoded import Decoded, config_of, decode_all, open_one
from films import write_film

from stream.batches import Segment
from stream.config import Config
from stream.decode import decode_segment, nvdec, plan_decode, source, watch
from stream.decode.packets import Note
from stream.decode.plan import DecodePlan, Unfit
from stream.decode.pyav import Taken, sampled_frames
from stream.sources import plan_segments

X264 = {"preset": "veryfast", "crf": "20", "g": "24"}


@pytest.fixture(autouse=True)
def _nothing_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_hung", {})


def test_a_hung_decoder_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives two frames of the first segment and then nothing, ever."""
    video = open_one(write_film(tmp_path / "a.mp4", 96, options=X264))
    never, tried = threading.Event(), []

    def hangs(
        segment: Segment, config: Config, plan: DecodePlan, note: Note, device: int | None
    ) -> Generator[Taken, None, None]:
        tried.append(segment.index)
        plain = sampled_frames(segment, config, plan_decode(segment.video, Config()), note)
        for _, taken in zip(range(2), plain, strict=False):
            yield taken
        never.wait()

    monkeypatch.setattr(source, "_fast_frames", hangs)
    monkeypatch.setattr(nvdec, "_missing", lambda: None)
    config = config_of(interval=0.25, decode={"decoder": "nvdec", "patience_s": 0.6})
    got = Decoded()
    began = time.monotonic()
    for segment in plan_segments(video, 2.0, 0.25):
        got.add(decode_segment(segment, config, note=got.notes.append))
    assert time.monotonic() - began < 30
    never.set()
    assert tried == [0]
    assert got.notes == [
        "NVDEC: NVDEC gave no frame for 1 s; the segment after 0.250 s is decoded on the CPU",
        f"NVDEC: NVDEC hung on {video.uri}; the segment is decoded on the CPU",
    ]
    assert got.differ_from(decode_all(video, config_of(interval=0.25), 2.0)) == 0


def numbers(count: int, closed: threading.Event) -> Generator[Taken, None, None]:
    try:
        for i in range(count):
            yield Taken(object(), float(i))
    finally:
        closed.set()


def test_a_watched_decoder_gives_all_frames_in_order_and_is_closed() -> None:
    closed = threading.Event()
    got = [taken.time for taken in watch.watched(numbers(50, closed), "dali", 5.0, "a.mp4")]
    assert got == [float(i) for i in range(50)]
    assert closed.is_set()


def test_leaving_early_closes_the_decoder_in_its_thread() -> None:
    closed = threading.Event()
    frames = watch.watched(numbers(10**9, closed), "dali", 5.0, "a.mp4")
    assert next(frames).time == 0
    frames.close()
    assert closed.wait(5)
    assert watch.hung_before("dali") is None


def test_what_a_watched_decoder_raises_comes_out_after_its_frames() -> None:
    def fails() -> Generator[Taken, None, None]:
        yield Taken(object(), 0.0)
        raise OSError("the disk is gone")

    frames = watch.watched(fails(), "dali", 5.0, "a.mp4")
    assert next(frames).time == 0
    with pytest.raises(OSError, match="the disk is gone"):
        next(frames)


def test_time_spent_by_what_follows_is_not_counted() -> None:
    closed = threading.Event()
    got = 0
    for taken in watch.watched(numbers(8, closed), "dali", 0.2, "a.mp4"):
        got += 1
        if taken.time < 3:
            time.sleep(0.3)
    assert got == 8


def test_a_decoder_that_gives_nothing_raises_unfit() -> None:
    never = threading.Event()

    def silent() -> Generator[Taken, None, None]:
        never.wait()
        yield Taken(object(), 0.0)

    with pytest.raises(Unfit, match="DALI gave no frame for 0 s"):
        next(watch.watched(silent(), "dali", 0.1, "a.mp4"))
    assert watch.hung_before("dali") == "DALI hung on a.mp4"
    never.set()
