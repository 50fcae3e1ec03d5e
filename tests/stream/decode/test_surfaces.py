"""Frames as the GPU's decoder has them become the batches that the CPU makes: NumPy stands in for CuPy."""

from __future__ import annotations

import gc
from collections.abc import Generator
from pathlib import Path
from typing import Any

import av
import emulated_cupy
import emulated_gpu
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from decoded import Decoded, config_of, decode_all, open_one
from films import number_of, numbered, write_film

from kernels.device import traffic
from stream.batches import Segment, Video
from stream.config import Config
from stream.decode import decode_segment, plan_decode
from stream.decode.device import CudaDevice, HostDevice, HostQueue
from stream.decode.pictures import Painter
from stream.decode.pool import FrameMemory, FramePool, memory_for
from stream.decode.pyav import Taken, sampled_frames
from stream.decode.scan import BLOCK
from stream.decode.surfaces import DevicePainter, Surface, area_weights
from stream.errors import SourceError
from stream.sources import plan_segments

X264 = {"preset": "veryfast", "crf": "20", "g": "24"}


def as_surfaces(segment: Segment, config: Config) -> Generator[Taken, None, None]:
    """What a hardware decoder gives: the same frames as NV12, or P010 where there are more than 8 bits."""
    reformatter = VideoReformatter()
    for taken in sampled_frames(segment, config, plan_decode(segment.video, config), lambda _: None):
        ten = "10" in taken.frame.format.name
        frame = reformatter.reformat(taken.frame, format="p010le" if ten else "nv12")
        frame.colorspace, frame.color_range = taken.frame.colorspace, taken.frame.color_range
        yield Taken(frame, taken.time, taken.sampled)


def on_device(video: Video, config: Config, segment_seconds: float = 1e6) -> Decoded:
    got = Decoded()
    memory = memory_for(HostDevice(), config)
    for segment in plan_segments(video, segment_seconds, config.interval):
        frames = as_surfaces(segment, config)
        got.add(decode_segment(segment, config, frames=frames, memory=memory))
    return got


def held_film(path: Path, **how: object) -> Path:
    """Every number for three frames, as animation is drawn; the picture changes a little in between."""
    pictures = []
    for i in range(96):
        picture = numbered(i // 3 * 3)
        picture[100:108, 8:16] = (20 + 2 * (i % 3), 90, 140)
        pictures.append(picture)
    return write_film(path, pictures, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [1, 6, 9], ids=["bt709", "bt601", "bt2020"])
def test_surfaces_become_the_batches_that_the_cpu_makes(tmp_path: Path, code: int) -> None:
    video = open_one(held_film(tmp_path / "a.mp4", options=X264, colorspace=code, color_range=1))
    # 0.25 lies between the changes of this film, 0.232 and 0.273: rounding moves them by 0.0025, and the film
    # is not the same to the bit in every process
    for settings in ({"sampling": "interval"}, {"sampling": "scene", "shot": 0.25}):
        config = config_of(interval=0.09, held=2.0, batch_size=5, **settings)
        want = decode_all(video, config, 2.0)
        assert len(want.held) >= 5  # or nothing was said of held frames
        assert on_device(video, config, 2.0).differ_from(want) == 0  # to the last bit


def test_surfaces_of_ten_bits(tmp_path: Path) -> None:
    x265 = {"preset": "ultrafast", "x265-params": "log-level=none"}
    video = open_one(write_film(tmp_path / "a.mkv", 48, codec="libx265", pixels="yuv420p10le", options=x265))
    config = config_of(interval=0.5)
    assert on_device(video, config).differ_from(decode_all(video, config)) < 0.6


@pytest.mark.shared
@pytest.mark.parametrize(
    "name",
    [
        "sintel_848x480_26s.mp4",
        "sintel_5s_vp8.ogv",
        pytest.param("popeye_sinbad_1936_part1.mkv", marks=pytest.mark.slow),
        pytest.param("big_buck_bunny_720p_first150s.mp4", marks=pytest.mark.slow),
    ],
)
def test_surfaces_of_real_films(shared: Path, name: str) -> None:
    """Held frames, shots and pictures as on the CPU, also where blocks are not whole pixels (854, 1074)."""
    video = open_one(shared / "media" / name)
    config = config_of(interval=2.0, held=2.0, shot=0.35)
    assert on_device(video, config).differ_from(decode_all(video, config)) < 0.05


def test_a_small_version_is_the_one_that_the_cpu_makes(tmp_path: Path) -> None:
    """854 is no multiple of 8, and chroma of MPEG-1 lies between the columns."""
    for codec, name in (("libx264", "a.mp4"), ("mpeg1video", "a.mpg")):
        path = write_film(tmp_path / name, [numbered(5, 854, 360)] * 6, codec=codec, rate=25)
        video = open_one(path)
        config = config_of()
        (segment,) = plan_segments(video, 1e6, 1.0)
        painter, host = DevicePainter(video, HostDevice()), Painter(video)
        (taken,) = as_surfaces(segment, config)
        (plain,) = sampled_frames(segment, config, plan_decode(video, config), lambda _: None)
        before = traffic.read().get("small versions of frames", 0)
        small = painter.look(taken.frame)()
        assert traffic.read()["small versions of frames"] - before == small.nbytes == 106 * 45 * 3
        off = np.abs(small.astype(int) - host.small(plain.frame, BLOCK))
        assert off.mean() < 0.05
        assert off.max() <= 8


def test_area_weights_share_out_pixels() -> None:
    assert np.allclose(area_weights(16, 2), np.repeat(np.eye(2), 8, axis=1) / 8)
    weights = area_weights(10, 4)
    assert np.allclose(weights.sum(axis=1), 1)
    assert np.allclose(weights[0], [0.4, 0.4, 0.2, 0, 0, 0, 0, 0, 0, 0])
    assert np.allclose(area_weights(8, 2, 0.25)[0], [0.1875, 0.25, 0.25, 0.25, 0.0625, 0, 0, 0])


def test_planes_are_taken_over_in_place(tmp_path: Path) -> None:
    """By DLPack, with the pitch: 200 columns lie in rows of another length."""
    frame = av.VideoFrame.from_ndarray(numbered(3, 200, 64), format="rgb24").reformat(format="nv12")
    surface = Surface.of(frame, np)
    assert surface.y.shape == (64, 200)
    assert surface.uv.shape == (32, 100, 2)
    assert surface.y.strides[0] == frame.planes[0].line_size > 200
    want = frame.to_ndarray()
    del frame
    gc.collect()  # the planes keep the frame's memory
    assert np.array_equal(surface.y, want[:64])
    assert np.array_equal(surface.uv.reshape(32, 200), want[64:])


def test_pictures_made_on_the_host_are_uploaded_two_in_turn(tmp_path: Path) -> None:
    """Frames that no kernel takes (4:4:4 here) come out as without a device."""
    video = open_one(write_film(tmp_path / "a.mp4", 48, pixels="yuv444p", options=X264))
    config = config_of(interval=0.2, batch_size=4)
    got = Decoded()
    memory = memory_for(HostDevice(), config)
    for segment in plan_segments(video, 1.0, 0.2):
        got.add(decode_segment(segment, config, memory=memory))
    assert got.differ_from(decode_all(video, config, 1.0)) == 0


def test_a_batch_keeps_its_memory_and_the_next_does_not_allocate(tmp_path: Path) -> None:
    video = open_one(write_film(tmp_path / "a.mp4", 120, options=X264))
    config = config_of(interval=0.1, batch_size=4)
    memory = FrameMemory(FramePool(HostDevice(), 1 << 30))
    (segment,) = plan_segments(video, 1e6, 0.1)
    kept = None
    for count, batch in enumerate(decode_segment(segment, config, memory=memory)):
        if count == 2:
            kept = batch.images[1:2]  # a view of a part of it
        numbers = [number_of(picture) for picture in batch.images]
        assert numbers == sorted(numbers)
        del batch
    assert kept is not None
    assert number_of(kept[0]) == number_of(decode_all(video, config).pictures[9])
    assert memory.pool.allocations <= 3
    assert memory.pool.leased == 4 * 144 * 192 * 3
    del kept
    assert memory.pool.leased == 0


class _Marking(HostDevice):
    """Counts the marks in its queue, and notes which are waited for and what the pool has out then."""

    def __init__(self) -> None:
        self.pool = FramePool(self, 1 << 30)
        self.marks = 0
        self.waits: list[tuple[int, int]] = []

    def queue(self) -> Any:
        queue = HostQueue()
        queue.mark = self._mark  # type: ignore[method-assign]
        return queue

    def _mark(self) -> Any:
        self.marks += 1
        number = self.marks
        return lambda: self.waits.append((number, self.pool.leased))


def test_memory_of_a_batch_that_is_given_up_is_not_painted_any_more(tmp_path: Path) -> None:
    """The next to lease it has another queue, which would not wait for what this one still writes."""
    video = open_one(write_film(tmp_path / "a.mp4", 48, options=X264))
    config = config_of(interval=0.1, batch_size=4)
    (segment,) = plan_segments(video, 1e6, 0.1)

    def breaking() -> Generator[Taken, None, None]:
        for number, taken in enumerate(as_surfaces(segment, config)):
            if number == 14:
                raise SourceError("the test breaks off")
            yield taken

    device = _Marking()
    batches = decode_segment(segment, config, frames=breaking(), memory=FrameMemory(device.pool))
    with pytest.raises(SourceError):
        list(map(len, batches))  # and keeps none of them
    assert device.waits[-1] == (device.marks, 4 * 144 * 192 * 3)  # all that was begun, before it is let go
    gc.collect()
    assert device.pool.leased == 0


# --- on an emulated GPU: its arrays do not mix with the host's, kernels are the CUDA sources ---------------


@pytest.mark.parametrize(
    ("pixels", "surfaces", "off"),
    [
        ("yuv420p", HostDevice.surfaces, 0),
        ("yuv444p", HostDevice.surfaces, 0),
        # raw NV12 of FFmpeg's lies on the host, and CuPy refuses that; swscale rounds it otherwise
        ("yuv420p", CudaDevice.surfaces, 1.5),
    ],
    ids=["by the kernel", "by upload", "nv12 on the host"],
)
def test_cuda_source_paints_batches_on_the_device(
    tmp_path: Path,
    pixels: str,
    surfaces: tuple[str, ...],
    off: float,
    monkeypatch: pytest.MonkeyPatch,
    emulated_kernels: emulated_gpu.Builder,
) -> None:
    gpu = emulated_gpu.install(monkeypatch, emulated_kernels)
    emulated_cupy.install(monkeypatch)
    video = open_one(held_film(tmp_path / "a.mp4", options=X264, pixels=pixels, color_range=1))
    config = config_of(interval=0.09, held=2.0, batch_size=5)
    want = decode_all(video, config)
    device = CudaDevice()
    device.surfaces = surfaces
    memory = memory_for(device, config)
    (segment,) = plan_segments(video, 1e6, 0.09)
    frames = as_surfaces(segment, config) if pixels == "yuv420p" else None
    got = Decoded()
    for batch in decode_segment(segment, config, frames=frames, memory=memory):
        assert type(batch.images) is emulated_gpu.DeviceArray
        got.times += batch.times.tolist()
        got.pictures += list(gpu.host(batch.images))
        got.shots += [(0, shot) for shot in batch.shots.tolist()]
        got.held += batch.held.times.tolist()
        del batch
    assert got.differ_from(want) <= off
    assert memory.pool.allocations <= 2
    by_kernel = pixels == "yuv420p" and surfaces == HostDevice.surfaces
    assert len(gpu.launches) == (len(want.pictures) if by_kernel else 0)
