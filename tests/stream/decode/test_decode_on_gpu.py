"""Decoding on a real GPU against the CPU; `pytest -m gpu`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoded import Decoded, config_of, decode_all, open_one
from films import number_of, write_film
from needs import needs

from kernels.device import traffic
from stream.batches import FrameBatch, Video
from stream.config import Config
from stream.decode import plan_decode, pyav
from stream.decode.device import CudaDevice
from stream.decode.lanes import Lanes, SegmentDecoder
from stream.decode.nvdec import driver_caps, driver_missing, engine_count, missing
from stream.decode.pool import FrameMemory, FramePool
from stream.errors import ConfigError
from stream.sources import plan_segments

pytestmark = pytest.mark.gpu

X264 = {"preset": "veryfast", "crf": "20", "g": "24", "bf": "3"}
X265 = {"preset": "ultrafast", "x265-params": "keyint=24:bframes=4:log-level=none"}

#: Mean absolute difference (0..255) of any picture: NVDEC's planes are those of FFmpeg, and so are the
#: kernels' roundings; 10 bits are rounded to 8 at another place.
SAME = 0.6


@pytest.fixture(scope="module")
def device() -> CudaDevice:
    try:
        found = CudaDevice()
    except ConfigError as error:
        pytest.skip(str(error))
    found.free_bytes()
    return found


@pytest.fixture(scope="module")
def nvdec(device: CudaDevice) -> CudaDevice:
    lacks = driver_missing()
    if lacks:
        pytest.skip(lacks)
    assert missing() is None  # CuPy has opened the device before, as in a run, and FFmpeg must share it
    return device


def on_gpu(video: Video, config: Config, segment_seconds: float = 1e6) -> Decoded:
    """Through :class:`SegmentDecoder`, as a run does; every batch is CuPy's and is copied from there."""
    got = Decoded()
    decoder = SegmentDecoder(config.model_copy(update={"device": "cuda"}))
    try:
        for segment in decoder.ahead(plan_segments(video, segment_seconds, config.interval)):
            for batch in decoder.decode(segment, got.notes.append):
                assert hasattr(batch.images, "__cuda_array_interface__")
                got.times += batch.times.tolist()
                got.pictures += list(batch.images.get())
                got.shots += [(batch.segment.index, shot) for shot in batch.shots.tolist()]
                got.held += batch.held.times.tolist()
    finally:
        decoder.close()
    return got


FILMS: dict[str, Callable[[Path], Path]] = {
    "h264": lambda d: write_film(d / "a.mp4", options=X264),
    "h264, open groups": lambda d: write_film(
        d / "a.mkv", options={**X264, "g": "16", "x264-params": "open-gop=1:scenecut=0"}
    ),
    "h264 in a transport stream": lambda d: write_film(d / "a.ts", options=X264),
    "hevc": lambda d: write_film(d / "a.mkv", codec="libx265", options=X265),
    "hevc, 10 bits": lambda d: write_film(d / "a.mkv", codec="libx265", options=X265, pixels="yuv420p10le"),
    "vp9": lambda d: write_film(
        d / "a.webm", codec="libvpx-vp9", options={"deadline": "realtime", "b": "2M"}
    ),
    "mpeg-2": lambda d: write_film(d / "a.ts", codec="mpeg2video", options={"g": "15", "bf": "2"}, rate=25),
}


@pytest.mark.parametrize("name", FILMS)
@pytest.mark.parametrize("interval", [0.3, 2.5])
def test_nvdec_gives_the_frames_that_the_cpu_gives(
    nvdec: CudaDevice, tmp_path: Path, name: str, interval: float
) -> None:
    video = open_one(FILMS[name](tmp_path))
    config = config_of(interval=interval)
    assert plan_decode(video, config, on_device=True).decoder == "nvdec"
    got, want = on_gpu(video, config, 1.5), decode_all(video, config, 1.5)
    assert got.notes == []
    assert [number_of(p) for p in got.pictures] == [number_of(p) for p in want.pictures]
    assert got.differ_from(want) < SAME


@pytest.mark.parametrize("name", ["h264", "h264, open groups", "hevc"])
def test_nvdec_goes_on_after_a_jump(
    nvdec: CudaDevice, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long interval in a large file: the decoder is emptied, and begins again at another keyframe."""
    monkeypatch.setattr(pyav, "JUMP_BYTES", 1)
    video = open_one(FILMS[name](tmp_path))
    got, want = on_gpu(video, config_of(interval=2.4)), decode_all(video, config_of(interval=2.4))
    assert got.notes == []
    assert got.differ_from(want) < SAME


@pytest.mark.shared
@pytest.mark.parametrize(
    "name",
    [
        "sintel_848x480_26s.mp4",
        "sintel_854x480_20s_mpeg1.mpg",
        "sintel_5s_vp8.ogv",
        "sintel_5s_vp9.webm",
        "popeye_sinbad_1936_part1.mkv",
        "popeye_sinbad_1936_part2.mkv",
        "big_buck_bunny_720p_first150s.mp4",
        "big_buck_bunny_360p.mp4",
    ],
)
def test_every_real_film_gives_the_same_frames(nvdec: CudaDevice, shared: Path, name: str) -> None:
    video = open_one(shared / "media" / name)
    config = config_of(interval=1.0, held=2.0, shot=0.35, threads=0)
    got, want = on_gpu(video, config, 30.0), decode_all(video, config, 30.0)
    assert got.differ_from(want) < SAME


def test_small_versions_are_all_that_comes_to_the_host(nvdec: CudaDevice, tmp_path: Path) -> None:
    video = open_one(write_film(tmp_path / "a.mp4", options=X264))
    config = config_of(interval=0.25, device="cuda")
    before = traffic.read()
    decoder = SegmentDecoder(config)
    count = 0
    for segment in decoder.ahead(plan_segments(video, 1e6, 0.25)):
        count += sum(len(batch) for batch in decoder.decode(segment, lambda _: None))
    decoder.close()
    moved = {what: size - before.get(what, 0) for what, size in traffic.read().items()}
    assert {what: size for what, size in moved.items() if size} == {
        "small versions of frames": count * (144 // 8) * (192 // 8) * 3
    }


def test_memory_stands_still(nvdec: CudaDevice, tmp_path: Path) -> None:
    """A film again and again: after the first rounds nothing is allocated, by the pool or anyone else."""
    video = open_one(write_film(tmp_path / "a.mp4", 240, options=X264))
    config = config_of(interval=0.1, device="cuda", batch_size=4)
    memory = FrameMemory(FramePool(nvdec, 64 << 20))
    free = []

    def opened(segment: Any, note: Any, memory: FrameMemory) -> Any:
        from stream.decode import decode_segment

        return decode_segment(segment, config, note=note, memory=memory)

    with Lanes(opened, 3, memory) as lanes:
        for turn in range(12):
            for segment in lanes.ahead(plan_segments(video, 2.0, 0.1)):
                for batch in lanes.decode(segment, lambda _: None):
                    del batch
            if turn == 5:
                allocations = memory.pool.allocations
            free.append(nvdec.free_bytes())
    assert memory.pool.allocations == allocations
    assert memory.pool.peak <= 64 << 20
    assert min(free[6:]) >= min(free[3:6]) - (8 << 20)


def test_what_the_gpu_does_not_decode_is_uploaded(nvdec: CudaDevice, tmp_path: Path) -> None:
    video = open_one(write_film(tmp_path / "a.mp4", pixels="yuv444p", options=X264))
    config = config_of(interval=0.5)
    got = on_gpu(video, config)
    assert got.notes[0].startswith("decoded on the CPU and not by NVDEC")
    assert got.differ_from(decode_all(video, config)) == 0


def test_dali_decodes_to_the_gpu(device: CudaDevice, tmp_path: Path) -> None:
    needs("nvidia.dali", "pip install nvidia-dali-cuda130==2.0.0")
    video = open_one(write_film(tmp_path / "a.mp4", options={**X264, "g": "48"}))
    config = config_of(interval=0.3, decode={"decoder": "dali"})
    got, want = on_gpu(video, config, 2.0), decode_all(video, config_of(interval=0.3), 2.0)
    assert got.notes == []
    assert [number_of(p) for p in got.pictures] == [number_of(p) for p in want.pictures]
    assert got.differ_from(want) < 2.0  # DALI interpolates chroma, and it is thinned out again


def test_the_driver_tells_how_many_decoders_there_are(nvdec: CudaDevice) -> None:
    caps = driver_caps(4, 8)
    assert caps is not None
    assert caps.supported == 1
    assert caps.max_width >= 4096
    assert 1 <= engine_count(nvdec.name) <= 16


def test_a_view_of_a_batch_keeps_its_memory(device: CudaDevice) -> None:
    pool = FramePool(device, 1 << 20)
    pool.advance(0)
    batch = pool.lease((4, 8, 8, 3), FrameMemory(pool).turn)
    batch[...] = 7
    view = batch[2:, ::2]
    del batch
    assert pool.leased == 4 * 8 * 8 * 3
    other = pool.lease((4, 8, 8, 3), FrameMemory(pool).turn)
    other[...] = 9
    assert int(view.min()) == int(view.max()) == 7
    del view, other
    assert pool.leased == 0


def test_uploads_and_downloads_are_in_order(device: CudaDevice) -> None:
    queue = device.queue()
    host, back = device.pinned((64, 64, 3)), device.pinned((64, 64, 3))
    out = device.view(device.buffer(64 * 64 * 3), (64, 64, 3), threading.Event())
    for value in range(20):
        host[:] = value
        done = queue.upload(host, out)
        read = queue.download(out, back)
        done()
        host[:] = 255
        read()
        assert np.all(back == value)
    queue.mark()()


def test_a_thread_has_one_queue_of_its_own(device: CudaDevice) -> None:
    """CuPy's pool keeps memory for each stream: one for each segment would keep more and more."""
    others: list[object] = []
    thread = threading.Thread(target=lambda: others.append(device.queue()))
    thread.start()
    thread.join()
    assert device.queue() is device.queue()
    assert others[0] is not device.queue()


def test_batches_check_themselves_on_the_device(device: CudaDevice, tmp_path: Path) -> None:
    video = open_one(write_film(tmp_path / "a.mp4", 24, options=X264))
    (segment,) = plan_segments(video, 1e6, 1.0)
    images = device.xp.zeros((2, 8, 8, 3), device.xp.uint8)
    batch = FrameBatch(
        segment, images, np.zeros(2), np.zeros(2, np.int64), np.arange(2), np.zeros(2, np.int32)
    )
    assert len(batch) == 2
