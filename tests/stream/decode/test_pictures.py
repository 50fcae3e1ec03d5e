"""Pictures come out as people see them: right colours, square pixels, upright, not combed, in SDR."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from films import Picture, number_of, numbered, write_film

from stream.batches import FrameBatch, Video
from stream.config import Config
from stream.decode import decode_segment, hdr, plan_decode
from stream.decode.pictures import squared_size
from stream.sources import find_videos, plan_segments


def open_one(path: Path) -> Video:
    def bad(uri: str, why: str) -> None:
        raise AssertionError(f"{uri}: {why}")

    (video,) = find_videos([str(path)], on_bad=bad)
    return video


def batches(video: Video, notes: list[str] | None = None, **settings: object) -> list[FrameBatch]:
    config = Config(threads=2, **{"held": 0, **settings})  # type: ignore[arg-type]
    segments = plan_segments(video, 300, config.interval)
    tell = (notes if notes is not None else []).append
    return [batch for segment in segments for batch in decode_segment(segment, config, note=tell)]


def first_picture(path: Path) -> Picture:
    (batch, *_) = batches(open_one(path))
    picture: Picture = batch.images[0]
    return picture


PATCHES = [(220, 30, 30), (30, 200, 40), (40, 50, 210), (240, 230, 60), (128, 128, 128), (250, 250, 250)]


def patches(width: int = 384, height: int = 240) -> Picture:
    picture = np.zeros((height, width, 3), np.uint8)
    for i, colour in enumerate(PATCHES):
        picture[:, i * width // 6 : (i + 1) * width // 6] = colour
    return picture


def seen_patches(picture: Picture) -> list[tuple[int, ...]]:
    height, width = picture.shape[:2]
    return [tuple(int(c) for c in picture[height // 2, (2 * i + 1) * width // 12]) for i in range(6)]


def write_patches(
    path: Path, matrix: Colorspace, full: bool, tag: bool, size: tuple[int, int], codec: str = "libx264"
) -> Path:
    """Encode the patches with a given matrix and range, told in the stream or not."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=24, options={"crf": "4", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv444p"
        if tag:
            codes = {Colorspace.ITU709: 1, Colorspace.ITU601: 6, Colorspace.BT2020: 9}
            stream.codec_context.colorspace = codes[matrix]
            stream.codec_context.color_range = 2 if full else 1
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(patches(*size), format="rgb24").reformat(
                format="yuv444p",
                dst_colorspace=matrix,
                dst_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
            )
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [Colorspace.ITU709, Colorspace.ITU601, Colorspace.BT2020])
def test_tagged_colours(tmp_path: Path, matrix: Colorspace, full: bool) -> None:
    path = write_patches(tmp_path / "c.mp4", matrix, full, True, (384, 240))
    assert np.abs(np.subtract(seen_patches(first_picture(path)), PATCHES)).max() <= 5


@pytest.mark.parametrize(
    ("matrix", "size"), [(Colorspace.ITU601, (384, 240)), (Colorspace.ITU709, (1280, 720))]
)
def test_untagged_colours_go_by_size(tmp_path: Path, matrix: Colorspace, size: tuple[int, int]) -> None:
    path = write_patches(tmp_path / "c.mp4", matrix, False, False, size)
    assert np.abs(np.subtract(seen_patches(first_picture(path)), PATCHES)).max() <= 5


def test_ten_bits(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mkv", 30, options={"crf": "10"}, pixels="yuv420p10le")
    video = open_one(path)
    (batch,) = batches(video)
    assert [number_of(p) for p in batch.images] == [0, 24]
    assert np.abs(batch.images[0].astype(int) - numbered(0)).mean() < 6


@pytest.mark.parametrize(
    ("shape", "size"), [(Fraction(4, 3), (256, 144)), (Fraction(8, 9), (192, 162)), (Fraction(1), (192, 144))]
)
def test_pixels_are_squared(tmp_path: Path, shape: Fraction, size: tuple[int, int]) -> None:
    path = write_film(tmp_path / "a.mkv", 30, sample_aspect_ratio=shape, options={"crf": "10"})
    video = open_one(path)
    assert (video.width, video.height) == size
    (batch,) = batches(video)
    assert batch.images.shape[1:3] == size[::-1]
    assert [number_of(p) for p in batch.images] == [0, 24]


def test_squared_size_refuses_nonsense() -> None:
    assert squared_size(720, 576, Fraction(16, 15)) == (768, 576)
    assert squared_size(720, 576, Fraction(1000, 1)) == (720, 576)
    assert squared_size(720, 576, None) == (720, 576)


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_rotation(tmp_path: Path, degrees: int) -> None:
    upright = numbered(0, 192, 144)
    stored = np.ascontiguousarray(np.rot90(upright, -degrees // 90))  # turning it back shows it upright
    path = write_film(tmp_path / "a.mp4", [stored] * 10, rotation=degrees, options={"crf": "8"})
    video = open_one(path)
    assert (video.width, video.height) == (192, 144)
    assert np.abs(first_picture(path).astype(int) - upright).mean() < 6


def woven(count: int) -> list[Picture]:
    """Interlaced frames of a bar that moves fast: the lines of each frame come from two moments."""
    frames = []
    for i in range(count):
        fields = []
        for half in (0, 1):
            picture = np.full((144, 192, 3), 60, np.uint8)
            at = (2 * i + half) * 6 % 160
            picture[:, at : at + 24] = 220
            fields.append(picture)
        frame = fields[0].copy()
        frame[1::2] = fields[1][1::2]
        frames.append(frame)
    return frames


def combing(picture: Picture) -> float:
    """Mean difference of neighbouring lines that lines two apart do not have."""
    grey = picture.astype(float).mean(axis=2)[8:-8]
    next_line = np.abs(grey[1:-1] - grey[2:])
    second = np.abs(grey[:-2] - grey[2:])
    return float(np.maximum(next_line - second, 0).mean())


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.ts", "mpeg2video", {"flags": "+ildct+ilme", "b": "6M", "g": "12", "bf": "2"}),
        ("a.mp4", "libx264", {"flags": "+ildct+ilme", "x264-params": "tff=1:keyint=12", "crf": "12"}),
    ],
)
def test_interlaced_is_deinterlaced(tmp_path: Path, name: str, codec: str, options: dict[str, str]) -> None:
    path = write_film(tmp_path / name, woven(60), codec=codec, options=options, rate=25)
    video = open_one(path)
    config = Config(interval=0.5, held=0, threads=2)
    assert video.facts["interlaced"]
    assert plan_decode(video, config).way == "whole"
    got = batches(video, interval=0.5)
    pictures = np.concatenate([b.images for b in got])
    assert len(pictures) == 5
    assert combing(woven(13)[12]) > 5  # what it would be
    assert max(combing(p) for p in pictures) < 1
    assert np.allclose(np.concatenate([b.times for b in got]), [0, 0.52, 1, 1.52, 2], atol=1e-3)


def test_interlaced_keyframes_alone(tmp_path: Path) -> None:
    options = {"flags": "+ildct+ilme", "b": "6M", "g": "12"}
    path = write_film(tmp_path / "a.ts", woven(60), codec="mpeg2video", options=options, rate=25)
    pictures = np.concatenate([b.images for b in batches(open_one(path), sampling="keyframes")])
    assert len(pictures) == 5
    assert max(combing(p) for p in pictures) < 1


def test_a_stream_that_turns_interlaced(tmp_path: Path) -> None:
    """Two recordings in one file; the fields begin with the second."""
    one = write_film(
        tmp_path / "1.ts", [woven(1)[0]] * 50, codec="mpeg2video", options={"b": "6M", "g": "10"}, rate=25
    )
    fields = {"flags": "+ildct+ilme", "b": "6M", "g": "10"}
    two = write_film(tmp_path / "2.ts", woven(50), codec="mpeg2video", options=fields, rate=25, start=50)
    path = tmp_path / "both.ts"
    path.write_bytes(one.read_bytes() + two.read_bytes())
    video = open_one(path)
    assert not video.facts["interlaced"]
    notes: list[str] = []
    got = batches(video, notes, interval=0.5)
    pictures = np.concatenate([b.images for b in got])
    assert len(pictures) == 8
    assert max(combing(p) for p in pictures[4:]) < 1
    assert np.allclose(np.concatenate([b.times for b in got]), np.ceil(np.arange(8) * 12.5) / 25, atol=1e-3)
    assert any("decoded whole" in n for n in notes), notes


def test_fields_that_probing_did_not_see(tmp_path: Path) -> None:
    options = {"flags": "+ildct+ilme", "b": "6M", "g": "12"}
    video = open_one(write_film(tmp_path / "a.ts", woven(60), codec="mpeg2video", options=options, rate=25))
    blind = dataclasses.replace(video, facts={**video.facts, "interlaced": False})
    notes: list[str] = []
    pictures = np.concatenate([b.images for b in batches(blind, notes, interval=0.5)])
    assert len(pictures) == 5
    assert max(combing(p) for p in pictures) < 1
    assert "it is interlaced from 0.000 s on; the rest of the segment is decoded whole" in notes


def to_hdr(picture: Picture, kind: str) -> np.ndarray:
    """An ordinary picture as a PQ or HLG signal (16 bit), with white at 203 cd/m2 (BT.2408)."""
    linear = (picture / 255.0) ** 2.2
    wide = np.clip(linear @ np.linalg.inv(hdr._TO_709).T, 0, 1)
    light = wide * hdr.WHITE
    if kind == "pq":
        return np.round(hdr.light_to_pq(light) * 65535).astype(np.uint16)
    luminance = light @ [0.2627, 0.6780, 0.0593]
    scene = light / 1000 / np.maximum(luminance[..., None] / 1000, 1e-6) ** (0.2 / 1.2)
    table = hdr.hlg_to_scene(np.arange(65536) / 65535)
    return np.searchsorted(table, np.clip(scene, 0, 1)).clip(0, 65535).astype(np.uint16)


@pytest.mark.parametrize(("kind", "transfer"), [("pq", 16), ("hlg", 18)])
def test_hdr_looks_like_sdr(tmp_path: Path, kind: str, transfer: int) -> None:
    signal = to_hdr(patches(), kind)
    path = tmp_path / "h.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx265", rate=24, options={"preset": "ultrafast", "crf": "8"})
        stream.width, stream.height, stream.pix_fmt = 384, 240, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = (
            transfer,
            9,
            9,
            1,
        )
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(signal, format="rgb48le").reformat(
                format="yuv420p10le", dst_colorspace=Colorspace.BT2020, dst_color_range=ColorRange.MPEG
            )
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    video = open_one(path)
    assert video.facts["transfer"] == kind
    seen = np.array(seen_patches(first_picture(path)), float)
    want = np.array(PATCHES, float)
    # a little darker, so that highlights have room, but the same colours in the same order
    assert np.abs(seen - want).max() < 45
    assert 0.75 < seen.mean() / want.mean() < 1.02
    assert seen[5].min() > 200  # white is still white
    hues = seen / seen.max(axis=1, keepdims=True) - want / want.max(axis=1, keepdims=True)
    assert np.abs(hues).max() < 0.12


def test_hdr_rolls_off_highlights() -> None:
    levels = hdr.knee(np.array([0.0, 50, 203, 400, 1000, 4000]))
    assert np.all(np.diff(levels[:5]) > 0)
    assert levels[5] == levels[4]
    assert levels[4] == pytest.approx(1, abs=0.02)
    assert levels[1] == pytest.approx(50 / hdr.SDR_WHITE, rel=0.02)  # middle tones keep their place


def test_resolution_changes_in_mid_stream(tmp_path: Path) -> None:
    options = {"preset": "veryfast", "g": "24", "crf": "14"}
    one = write_film(tmp_path / "1.ts", (numbered(i) for i in range(48)), options=options)
    small = (numbered(i, 96, 96) for i in range(48, 96))
    two = write_film(tmp_path / "2.ts", small, options=options, start=50)
    path = tmp_path / "both.ts"
    path.write_bytes(one.read_bytes() + two.read_bytes())
    video = open_one(path)
    got = batches(video)
    assert {b.images.shape[1:] for b in got} == {(144, 192, 3)}
    pictures = np.concatenate([b.images for b in got])
    assert len(pictures) == 4
    assert number_of(pictures[1]) == 24
    # fitted in whole, in the middle, on black
    assert pictures[3][:, :24].max() == 0
    assert pictures[3][:, -24:].max() == 0
    assert number_of(pictures[3][:, 24:-24]) == 72


def test_the_best_of_several_streams_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as out:
        streams = []
        for width, height in ((96, 96), (192, 144)):
            stream = out.add_stream("libx264", rate=24, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        for i in range(30):
            for stream in streams:
                picture = numbered(i, stream.width, stream.height)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
                frame.pts = i
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    video = open_one(path)
    assert (video.width, video.stream_index) == (192, 1)
    assert "#1 is used" in video.facts["streams"]
    assert [number_of(p) for b in batches(video) for p in b.images] == [0, 24]


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
def test_damaged_packets_are_skipped_and_told(tmp_path: Path, name: str) -> None:
    path = write_film(tmp_path / name, 240, options={"preset": "veryfast", "g": "24", "crf": "18"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 6000] = bytes(6000)
    path.write_bytes(data)
    notes: list[str] = []
    got = batches(open_one(path), notes, interval=0.25)
    times = np.concatenate([b.times for b in got])
    assert len(times) >= 32
    assert np.all(np.diff(times) > 0)
    numbers = [number_of(p) for b in got for p in b.images]
    right = sum(n == round(t * 24) for n, t in zip(numbers, times, strict=True))
    assert right >= len(times) - 8
    assert notes


def test_large_pictures_do_not_fill_the_memory(tmp_path: Path) -> None:
    from stream.decode import batching

    video = open_one(write_film(tmp_path / "a.mp4", 72))
    old = batching.MAX_BATCH_BYTES
    batching.MAX_BATCH_BYTES = 2 * video.width * video.height * 3
    try:
        sizes = [len(b) for b in batches(video, interval=0.25)]
    finally:
        batching.MAX_BATCH_BYTES = old
    assert sizes == [2] * 6


def held_open() -> tuple[int, int]:
    """Open files and threads of this process."""
    return len(list(Path("/proc/self/fd").iterdir())), len(list(Path("/proc/self/task").iterdir()))


def test_closing_early_lets_go_of_the_file(tmp_path: Path) -> None:
    video = open_one(write_film(tmp_path / "a.mp4", 240))
    (segment,) = plan_segments(video, 300, 0.1)
    before = held_open()
    frames = decode_segment(segment, Config(interval=0.1, batch_size=2, threads=2))
    next(frames)
    frames.close()
    assert held_open() == before
