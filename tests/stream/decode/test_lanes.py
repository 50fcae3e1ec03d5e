"""Several segments at once: the same batches in the same order, in bounded memory, whatever goes wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import emulated_cupy
import emulated_gpu
import numpy as np
import pytest
from decoded import Decoded, config_of, decode_all, open_one
from films import HEIGHT, WIDTH, number_of, write_film

from stream.batches import FrameBatch, Segment, Video
from stream.config import Config
from stream.decode import decode_segment, device, pool
from stream.decode.device import HostDevice
from stream.decode.lanes import AHEAD, Lanes, SegmentDecoder
from stream.decode.pool import Cancelled, FrameMemory, FramePool, Turn
from stream.errors import SourceError
from stream.pipeline import Pipeline
from stream.sources import plan_segments

X264 = {"preset": "veryfast", "crf": "20", "g": "12"}
BATCH = 3 * HEIGHT * WIDTH * 3  # bytes of a batch of three frames
CONFIG = config_of(interval=0.25, batch_size=3)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Video]:
    """Two films of 5 s; cut every second they are ten segments of four frames."""
    folder = tmp_path_factory.mktemp("films")
    return [open_one(write_film(folder / f"{i}.mp4", 120, options=X264)) for i in range(2)]


def segments_of(videos: list[Video]) -> list[Segment]:
    return [segment for video in videos for segment in plan_segments(video, 1.0, CONFIG.interval)]


def opened(segment: Segment, note: Callable[[str], None], memory: FrameMemory) -> Iterator[FrameBatch]:
    return decode_segment(segment, CONFIG, note=note, memory=memory)


def memory_of(budget: int) -> FrameMemory:
    return FrameMemory(FramePool(HostDevice(), budget))


def in_order(videos: list[Video]) -> Decoded:
    want = Decoded()
    for segment in segments_of(videos):
        want.add(decode_segment(segment, CONFIG))
    return want


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("batches", [1, 4, 1000])
def test_lanes_give_what_one_gives_in_order_within_the_budget(
    videos: list[Video], count: int, batches: int
) -> None:
    memory = memory_of(batches * BATCH)
    got = Decoded()
    with Lanes(opened, count, memory) as lanes:
        given = []
        for segment in lanes.ahead(segments_of(videos)):
            given.append(segment)
            got.add(lanes.decode(segment, got.notes.append))
    assert [s.start_s for s in given] == [s.start_s for s in segments_of(videos)]
    assert got.differ_from(in_order(videos)) == 0
    assert memory.pool.peak <= max(batches, 2) * BATCH  # one that is used, one that is waited for
    assert memory.pool.leased == 0


def test_lanes_run_at_the_same_time_and_stop_at_the_budget(videos: list[Video]) -> None:
    """Nobody takes anything: the lanes fill what they may and wait; then all of it comes, in order."""
    memory = memory_of(7 * BATCH)
    together = threading.Barrier(3)
    with Lanes(opened, 2, memory) as lanes:  # an earlier run in the same pool
        for segment in lanes.ahead(segments_of(videos)):
            list(lanes.decode(segment, lambda _: None))

    def meeting(
        segment: Segment, note: Callable[[str], None], memory: FrameMemory
    ) -> Generator[FrameBatch, None, None]:
        if segment.index < 3 and segment.video is videos[0]:
            together.wait(timeout=20)  # broken unless three lanes are here at once
        yield from opened(segment, note, memory)

    got = Decoded()
    with Lanes(meeting, 3, memory) as lanes:
        ahead = lanes.ahead(segments_of(videos))
        first = next(ahead)
        deadline = time.monotonic() + 10
        while memory.pool.leased < 5 * BATCH and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)
        assert memory.pool.leased == 5 * BATCH  # what is left is for the segment in turn
        got.add(lanes.decode(first, got.notes.append))
        for segment in ahead:
            got.add(lanes.decode(segment, got.notes.append))
    assert got.differ_from(in_order(videos)) == 0
    assert memory.pool.allocations <= 7  # and none since: the ring goes round
    assert memory.pool.leased == 0


def test_a_segment_in_turn_is_not_starved_by_later_ones_of_another_size(tmp_path: Path) -> None:
    """Small pictures fill the pool before a large one is in turn."""
    small = open_one(write_film(tmp_path / "small.mp4", 48, options=X264))
    pictures = [np.full((432, 576, 3), 90, np.uint8)] * 24
    large = open_one(write_film(tmp_path / "large.mp4", pictures, options=X264))
    memory = memory_of(9 * BATCH)  # exactly one batch of the large one
    segments = segments_of([large, small, small, small])
    got = Decoded()
    with Lanes(opened, 3, memory) as lanes:
        for segment in lanes.ahead(segments):
            time.sleep(0.1)
            got.add(lanes.decode(segment, got.notes.append))
    assert len(got.pictures) == 4 + 3 * 8
    # the small ones that were there, a large one that is used and one that is waited for
    assert memory.pool.peak <= (9 + 9 + 9) * BATCH
    assert memory.pool.leased == 0


def test_one_bad_segment_fails_in_its_place(videos: list[Video], tmp_path: Path) -> None:
    gone = open_one(write_film(tmp_path / "gone.mp4", 48, options=X264))
    (bad, *_) = segments_of([gone])
    Path(gone.uri).unlink()
    good = segments_of(videos)
    segments = [*good[:3], bad, *good[3:]]
    got, failed = Decoded(), []
    with Lanes(opened, 3, memory_of(20 * BATCH)) as lanes:
        for segment in lanes.ahead(segments):
            try:
                got.add(lanes.decode(segment, got.notes.append))
            except SourceError as error:
                failed.append((segment, str(error)))
    ((where, why),) = failed
    assert where is bad
    assert "cannot be opened any more" in why
    assert got.differ_from(in_order(videos)) == 0


def test_giving_up_a_segment_or_all_of_them_frees_everything(videos: list[Video]) -> None:
    memory = memory_of(6 * BATCH)
    lanes = Lanes(opened, 3, memory)
    ahead = lanes.ahead(segments_of(videos))
    first = lanes.decode(next(ahead), lambda _: None)
    next(first)
    first.close()  # a later station failed
    second = next(ahead)
    assert sum(len(batch) for batch in lanes.decode(second, lambda _: None)) == 4
    lanes.close()  # the run is stopped, and lanes wait for room
    deadline = time.monotonic() + 10
    while memory.pool.leased and time.monotonic() < deadline:
        time.sleep(0.02)
    assert memory.pool.leased == 0
    assert not any(thread.is_alive() for thread in lanes._threads)


def test_closing_the_lanes_does_not_make_a_part_of_a_segment_whole(videos: list[Video]) -> None:
    stuck = threading.Event()

    def stops(
        segment: Segment, note: Callable[[str], None], memory: FrameMemory
    ) -> Generator[FrameBatch, None, None]:
        yield next(iter(opened(segment, note, memory)))
        stuck.wait(20)

    lanes = Lanes(stops, 1, memory_of(6 * BATCH))
    batches = lanes.decode(next(lanes.ahead(segments_of(videos))), lambda _: None)
    assert len(next(batches)) == 3
    threading.Timer(0.3, stuck.set).start()
    closing = threading.Timer(0.1, lanes.close)
    closing.start()
    with pytest.raises(Cancelled):
        next(batches)
    closing.join()


def test_segments_are_begun_no_further_ahead_than_lanes_need(videos: list[Video]) -> None:
    begun = []

    def counted(segment: Segment) -> Segment:
        begun.append(segment)
        return segment

    with Lanes(opened, 2, memory_of(100 * BATCH)) as lanes:
        ahead = lanes.ahead(counted(segment) for segment in segments_of(videos))
        for number, segment in enumerate(ahead):
            assert len(begun) <= number + AHEAD * 2
            list(lanes.decode(segment, lambda _: None))
    assert len(begun) == 10


def test_the_pipeline_takes_its_segments_from_lanes(videos: list[Video]) -> None:
    class Numbers:
        name = "numbers"

        def __call__(self, batch: FrameBatch) -> list[int]:
            return [number_of(picture) for picture in batch.images]

    config = Config(**{**CONFIG.model_dump(), "decode": {"lanes": 3}})
    decoder = SegmentDecoder(config)
    assert decoder.count == 3
    pipeline = Pipeline(lambda segment: decoder.decode(segment, lambda _: None), [Numbers()])
    results = list(pipeline.run(decoder.ahead(segments_of(videos))))
    assert decoder._lanes is not None
    pool = decoder._lanes.memory.pool
    assert pool.allocated > 0
    decoder.close()
    assert pool.allocated == pool.leased == 0  # what comes after decoding has the memory
    assert [r.segment for r in results] == [r.segment for r in results if r.error is None]
    seen = [number for r in results for batch in r.batches for number in batch]
    assert seen == 2 * list(range(0, 120, 6))


def test_lanes_of_a_gpu(videos: list[Video], monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads, queues and memory as on a GPU, with CuPy emulated; frames come from the CPU, by upload."""
    emulated_cupy.install(monkeypatch)
    for opened_once in (pool._on_gpu, device.cuda_device):
        opened_once.cache_clear()
    settings = {"device": "cuda", "decode": {"lanes": 3, "decoder": "cpu"}}
    config = Config(**{**CONFIG.model_dump(), **settings})
    decoder = SegmentDecoder(config)
    queue, got = pool.device_memory(config).device.queue(), Decoded()
    try:
        for segment in decoder.ahead(segments_of(videos)):
            for batch in decoder.decode(segment, got.notes.append):
                with queue.use():
                    assert type(batch.images) is emulated_gpu.DeviceArray
                got.times += batch.times.tolist()
                got.pictures += [np.array(picture) for picture in batch.images.view(np.ndarray)]
                got.shots += [(batch.segment.index, shot) for shot in batch.shots.tolist()]
                del batch
        memory = pool.device_memory(config).pool
        assert memory.allocated > 0
    finally:
        decoder.close()
        for opened_once in (pool._on_gpu, device.cuda_device):
            opened_once.cache_clear()
    assert got.differ_from(in_order(videos)) == 0
    assert memory.allocated == memory.leased == 0


def test_one_lane_is_no_lane(videos: list[Video]) -> None:
    """On the CPU one segment is decoded at a time, by FFmpeg's own threads, as ever."""
    decoder = SegmentDecoder(CONFIG)
    assert decoder.count == 1
    (segment,) = decoder.ahead(segments_of(videos)[:1])
    (batch, *_) = decoder.decode(segment, lambda _: None)
    assert batch.images.base is None or isinstance(batch.images.base, np.ndarray)
    decoder.close()
    assert decode_all(videos[0], CONFIG).times


# --- the pool alone -----------------------------------------------------------------------------------------


def test_a_pool_gives_what_is_free_again_and_no_more_than_its_budget() -> None:
    pool = FramePool(HostDevice(), 1000)
    pool.advance(0)
    a, b = pool.lease((10, 50), Turn(0)), pool.lease((500,), Turn(0))
    assert pool.leased == pool.allocated == 1000
    a[:], b[:] = 1, 2
    part = a[2:4, ::2]
    del a
    assert pool.leased == 1000
    del part
    assert pool.leased == 500
    c = pool.lease((400,), Turn(0))  # fits into what a left
    assert pool.allocations == 2
    c[:] = 3
    assert b.min() == b.max() == 2
    del b, c
    d = pool.lease((900,), Turn(0))  # the small ones are let go for it
    assert (pool.allocations, pool.allocated, pool.peak) == (3, 900, 1000)
    pool.want(0)
    pool.satisfy(1)
    e = pool.lease((300,), Turn(0))  # somebody waits for it and keeps the other
    assert pool.leased == 1200
    del d, e
    assert pool.leased == 0


def test_a_later_segment_leaves_room_and_waits_until_it_is_cancelled() -> None:
    pool = FramePool(HostDevice(), 400)
    pool.advance(0)
    later = Turn(1)
    held = [pool.lease((100,), later) for _ in range(2)]
    waiting = threading.Thread(target=lambda: _expect_cancelled(pool, later))
    waiting.start()
    waiting.join(timeout=0.4)
    assert waiting.is_alive()  # 200 of 400 bytes are for the segment in turn
    now = [pool.lease((100,), Turn(0)) for _ in range(2)]
    later.cancelled.set()
    waiting.join(timeout=5)
    assert not waiting.is_alive()
    assert pool.leased == 400
    del held, now


def _expect_cancelled(pool: FramePool, turn: Turn) -> None:
    with pytest.raises(Cancelled):
        pool.lease((100,), turn)
