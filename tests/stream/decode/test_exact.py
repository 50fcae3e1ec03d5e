"""The sampled frames are the right ones: for each kind of stream, the numbers on the pictures say so."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from films import RATE, number_of, numbered, write_film

from stream.batches import Video
from stream.config import Config
from stream.decode import decode_segment, plan_decode, pyav
from stream.decode.packets import Anatomy, PacketReader
from stream.decode.pyav import sampled_frames
from stream.sources import find_videos, plan_segments

X264 = {"preset": "veryfast", "crf": "20"}


def open_one(path: Path) -> Video:
    bad: list[tuple[str, str]] = []
    videos = list(find_videos([str(path)], on_bad=lambda uri, why: bad.append((uri, why))))
    assert not bad
    assert len(videos) == 1
    return videos[0]


def frames_of(video: Video, config: Config, segment_seconds: float = 1e6) -> list[tuple[float, int]]:
    """(time, number shown) of every sampled frame, over all segments."""
    got = []
    for segment in plan_segments(video, segment_seconds, config.interval):
        for batch in decode_segment(segment, config):
            assert batch.images.shape[1:3] == (video.height, video.width)
            got += [(float(t), number_of(p)) for t, p in zip(batch.times, batch.images, strict=True)]
            assert segment.start_s <= batch.times.min()
            assert batch.times.max() < segment.end_s
    return got


def expected(interval: float, times: list[Fraction]) -> list[tuple[float, int]]:
    """First frame at or after each multiple of the interval."""
    wanted, k = [], 0
    step = Fraction(str(interval))
    for number, time in enumerate(times):
        if time >= k * step:
            wanted.append((float(time), number))
            k = math.floor(time / step) + 1
    return wanted


def join(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def x264(**more: str) -> dict[str, str]:
    return {**X264, **{key.replace("_", "-"): value for key, value in more.items()}}


class _NoSeek:
    """A pipe: the muxer cannot go back to fill in the header."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")

    def write(self, data: bytes) -> int:
        return self.file.write(data)

    def close(self) -> None:
        self.file.close()


def pipe(path: Path, name: str, **kwargs: object) -> Path:
    sink = _NoSeek(path)
    write_film(sink, container=name, **kwargs)  # type: ignore[arg-type]
    sink.close()
    return path


def jumping(folder: Path) -> Path:
    """Three recordings one after another: clocks at 100 s, 5000 s and 7 s, as splices have it."""
    parts = []
    for i, clock in enumerate((100, 5000, 7)):
        pictures = (numbered(n) for n in range(i * 48, i * 48 + 48))
        part = folder / f"part{i}.ts"
        write_film(part, pictures, options=x264(g="12"), start=clock * RATE)
        parts.append(part)
    return join(folder / "jumps.ts", *parts)


def wrapping(folder: Path) -> Path:
    """A transport stream whose 33-bit clock passes zero after two seconds."""
    first = 2**33 // 90000 - 2
    options = {"mpegts_copyts": "1", "avoid_negative_ts": "disabled"}
    path = folder / "wrap.ts"
    return write_film(path, 120, options=x264(g="24"), start=first * RATE, container_options=options)


STREAMS: dict[str, Callable[[Path], Path]] = {
    "h264 with a B pyramid": lambda d: write_film(d / "a.mp4", options=x264(g="48", bf="3")),
    "h264, open groups": lambda d: write_film(
        d / "a.mkv", options=x264(g="16", bf="3", x264_params="open-gop=1:scenecut=0")
    ),
    "h264, gradual refresh": lambda d: write_film(
        d / "a.ts", options=x264(g="24", x264_params="intra-refresh=1")
    ),
    "h264, gradual refresh in mp4": lambda d: write_film(
        d / "a.mp4", options=x264(g="24", x264_params="intra-refresh=1")
    ),
    "h264, one endless group": lambda d: write_film(
        d / "a.mp4", 120, options=x264(g="9999", x264_params="scenecut=0")
    ),
    "h264 in a transport stream": lambda d: write_film(d / "a.ts", options=x264(g="24"), start=240),
    "clock jumps": jumping,
    "clock wraps": wrapping,
    "hevc with leading pictures": lambda d: write_film(
        d / "a.mkv",
        codec="libx265",
        options={"preset": "ultrafast", "x265-params": "keyint=24:min-keyint=24:bframes=4:log-level=none"},
    ),
    "hevc in a transport stream": lambda d: write_film(
        d / "a.ts",
        codec="libx265",
        options={"preset": "ultrafast", "x265-params": "keyint=24:bframes=4:open-gop=1:log-level=none"},
    ),
    "hevc, temporal layers": lambda d: write_film(
        d / "a.mp4",
        codec="libx265",
        options={
            "preset": "ultrafast",
            "x265-params": "keyint=24:bframes=4:b-pyramid=1:temporal-layers=3:log-level=none",
        },
    ),
    "mpeg-2 in a transport stream": lambda d: write_film(
        d / "a.ts", codec="mpeg2video", options={"g": "15", "bf": "2", "b": "3M"}, rate=25
    ),
    "mpeg-2 in a program stream": lambda d: write_film(
        d / "a.mpg", codec="mpeg2video", options={"g": "12", "bf": "2", "b": "3M"}, rate=25
    ),
    "mpeg-4 in avi": lambda d: write_film(
        d / "a.avi", codec="mpeg4", options={"g": "24", "b": "3M"}, max_b_frames=2
    ),
    "h264 in avi": lambda d: write_film(d / "a.avi", options=x264(g="24", bf="3")),
    "raw h264": lambda d: write_film(d / "a.h264", options=x264(g="24", bf="2"), container="h264"),
    "vp8 with hidden frames": lambda d: write_film(
        d / "a.webm",
        codec="libvpx",
        options={"auto-alt-ref": "1", "lag-in-frames": "16", "g": "48", "deadline": "realtime", "b": "2M"},
    ),
    "vp9 with hidden frames": lambda d: write_film(
        d / "a.webm",
        codec="libvpx-vp9",
        options={"auto-alt-ref": "1", "lag-in-frames": "16", "g": "48", "deadline": "realtime", "b": "2M"},
    ),
    "av1": lambda d: write_film(d / "a.mkv", codec="libsvtav1", options={"preset": "12", "g": "48"}),
    "motion jpeg": lambda d: write_film(d / "a.mov", codec="mjpeg", pixels="yuvj420p"),
    "no duration in the header": lambda d: pipe(d / "a.mkv", "matroska", options=x264(g="24")),
    "flash": lambda d: write_film(d / "a.flv", options=x264(g="24", bf="2")),
    "fragmented mp4": lambda d: write_film(
        d / "a.mp4",
        options=x264(g="24"),
        container_options={"movflags": "frag_keyframe+empty_moov"},
    ),
}


def count_and_rate(name: str) -> tuple[int, int]:
    counts = {"clock jumps": 144, "clock wraps": 120, "h264, one endless group": 120}
    return counts.get(name, 96), 25 if name.startswith("mpeg-2") else RATE


@pytest.mark.parametrize("name", STREAMS)
def test_right_frames_of_every_kind_of_stream(tmp_path: Path, name: str) -> None:
    video = open_one(STREAMS[name](tmp_path))
    count, rate = count_and_rate(name)
    times = [Fraction(i, rate) for i in range(count)]
    for interval in (0.3, 1.0, 2.5):
        config = Config(interval=interval, held=0, threads=2)
        want = expected(interval, times)
        for segment_seconds in (1e6, 1.5):
            got = frames_of(video, config, segment_seconds)
            assert [number for _, number in got] == [number for _, number in want], plan_decode(video, config)
            assert np.allclose([t for t, _ in got], [t for t, _ in want], atol=0.5 / rate)


def test_variable_frame_rate(tmp_path: Path) -> None:
    ticks = np.cumsum([0] + [1 if i % 7 else 40 for i in range(1, 90)])
    base = Fraction(1, 50)
    path = write_film(
        tmp_path / "v.mkv",
        (numbered(i) for i in range(90)),
        options=x264(g="24", bf="3"),
        pts=[int(t) for t in ticks],
        rate=50,
        time_base=base,
    )
    video = open_one(path)
    want = expected(1.0, [int(t) * base for t in ticks])
    got = frames_of(video, Config(held=0, threads=2))
    assert [n for _, n in got] == [n for _, n in want]
    assert np.allclose([t for t, _ in got], [t for t, _ in want], atol=0.002)


def test_segments_share_out_the_frames(tmp_path: Path) -> None:
    video = open_one(write_film(tmp_path / "a.mp4", 240, options=x264(g="18", bf="3")))
    segments = plan_segments(video, 2.0, 0.5)
    assert len(segments) > 3
    assert segments[0].start_s == 0
    for before, after in pairwise(segments):
        assert before.end_s == after.start_s
    assert segments[-1].end_s >= 10
    config = Config(interval=0.5, held=0, threads=2)
    assert frames_of(video, config, 2.0) == frames_of(video, config)


def test_keyframes_are_the_files_own(tmp_path: Path) -> None:
    video = open_one(write_film(tmp_path / "a.mp4", options=x264(g="20", x264_params="scenecut=0")))
    config = Config(sampling="keyframes", held=0, threads=2)
    assert [n for _, n in frames_of(video, config)] == [0, 20, 40, 60, 80]
    assert [n for _, n in frames_of(video, config, 1.5)] == [0, 20, 40, 60, 80]


@pytest.mark.parametrize("make", [jumping, lambda d: write_film(d / "a.ts", 144, options=x264(g="12"))])
def test_segments_of_transport_streams_are_as_long_as_asked(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    """Six seconds, a keyframe every half; a header makes something else of clocks at 100, 5000 and 7 s."""
    (video,) = find_videos([str(make(tmp_path))], on_bad=lambda uri, why: pytest.fail(why))
    segments = plan_segments(video, 2.0, 0.5)
    assert [segment.start_s for segment in segments] == pytest.approx([0, 2, 4], abs=0.51)
    assert all(segment.video.duration_s == pytest.approx(6, abs=0.2) for segment in segments)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("extra", [{}, {"x264_params": "open-gop=1"}])
def test_jumping_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, extra: dict[str, str]
) -> None:
    """Where the next target is far, the file is not read through; the frames are the same."""
    video = open_one(write_film(tmp_path / name, 600, options=x264(g="20", bf="3", **extra)))
    monkeypatch.setattr(pyav, "JUMP_BYTES", 1)
    jumps = []
    skip_to = PacketReader.skip_to
    monkeypatch.setattr(PacketReader, "skip_to", lambda self, tick: jumps.append(tick) or skip_to(self, tick))
    times = [Fraction(i, RATE) for i in range(600)]
    for interval in (3.7, 5.0, 11.0):
        jumps.clear()
        got = frames_of(video, Config(interval=interval, held=0, threads=2))
        assert [n for _, n in got] == [n for _, n in expected(interval, times)]
        assert len(jumps) >= 25 / interval - 1


def test_lower_layers_of_hevc_are_never_left_out() -> None:
    """A "sub-layer non-reference" picture (TSA_N) is needed by the layers above it, where there are any."""
    access_unit = b"\0\0\0\1\x04\x01\xd0\x00\x00\x00\x00"
    packet = av.Packet(access_unit)
    anatomy = Anatomy("hevc", None)
    assert not anatomy.unreferenced(packet)
    anatomy.one_layer = True
    assert anatomy.unreferenced(packet)


def truth(video: Video, interval: float) -> list[tuple[float, int]]:
    """(time, hash of the decoded pixels) by decoding everything, as plainly as can be."""
    step, base = Fraction(str(interval)), Fraction(*video.facts["time_base"])
    wanted, k = [], 0
    with av.open(video.uri) as container:
        stream = container.streams[video.stream_index]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            time = (frame.pts - video.facts["start"]) * base
            if time >= k * step:
                wanted.append((float(time), hash(frame.to_ndarray().tobytes())))
                k = math.floor(time / step) + 1
    return wanted


@pytest.mark.shared
@pytest.mark.parametrize(
    "name",
    [
        "sintel_848x480_26s.mp4",
        "sintel_854x480_20s_mpeg1.mpg",
        "sintel_5s_vp8.ogv",
        "sintel_5s_vp9.webm",
        "popeye_sinbad_1936_part1.mkv",
        pytest.param("popeye_sinbad_1936_part2.mkv", marks=pytest.mark.slow),
        pytest.param("big_buck_bunny_720p_first150s.mp4", marks=pytest.mark.slow),
        pytest.param("big_buck_bunny_360p.mp4", marks=pytest.mark.slow),
    ],
)
def test_real_films_frame_by_frame(shared: Path, name: str) -> None:
    video = open_one(shared / "media" / name)
    config = Config(threads=2, interval=0.7)
    want = truth(video, config.interval)
    for segment_seconds in (1e6, 8.0):
        got = [
            (taken.time, hash(taken.frame.to_ndarray().tobytes()))
            for segment in plan_segments(video, segment_seconds, config.interval)
            for taken in sampled_frames(segment, config, plan_decode(video, config), lambda _: None)
        ]
        assert got == want
