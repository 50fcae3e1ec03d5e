"""NV12 and P010 to RGB on the host: against what the CPU's decoder makes, and against the standard."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from kernels.colour import Matrix, nv12_to_rgb

MATRICES: tuple[Matrix, ...] = get_args(Matrix)
SWSCALE = {
    "bt601": Colorspace.ITU601,
    "bt709": Colorspace.ITU709,
    "bt2020": Colorspace.BT2020,
    "smpte240m": Colorspace.SMPTE240M,
    "fcc": Colorspace.FCC,
}


def noise(bits: int, height: int, width: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Y, Cb, Cr of any value, chroma at half the size."""
    rng = np.random.default_rng(seed)
    dtype = np.uint8 if bits == 8 else np.uint16
    sizes = [(height, width), *[((height + 1) // 2, (width + 1) // 2)] * 2]
    return tuple(rng.integers(0, 1 << bits, size, dtype=dtype) for size in sizes)


def frame_of(planes: tuple[np.ndarray, ...], bits: int) -> av.VideoFrame:
    """The planes as a decoder on the CPU puts them out."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, "yuv420p" if bits == 8 else "yuv420p10le")
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size // values.itemsize), values.dtype)
        rows[:, : values.shape[1]] = values
        plane.update(rows.tobytes())
    return frame


def planes_of(frame: av.VideoFrame) -> tuple[np.ndarray, ...]:
    dtype = np.uint16 if "10" in frame.format.name else np.uint8
    return tuple(
        np.frombuffer(plane, dtype).reshape(plane.height, -1)[:, : plane.width] for plane in frame.planes
    )


def as_nv12(planes: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """What a decoder on the GPU puts out: chroma interleaved, 10 bits in the upper ones."""
    luma, chroma = planes[0], np.stack(planes[1:], axis=-1)
    return (luma, chroma) if luma.dtype == np.uint8 else (luma << 6, chroma << 6)


def by_swscale(frame: av.VideoFrame, matrix: Matrix, full_range: bool) -> np.ndarray:
    """As :class:`stream.decode.pictures.Painter` asks for it."""
    return VideoReformatter().reformat(
        frame, format="rgb24", interpolation=Interpolation.BILINEAR, threads=1,
        src_colorspace=SWSCALE[matrix], dst_color_range=ColorRange.JPEG,
        src_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
    ).to_ndarray()  # fmt: skip


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
def test_a_frame_is_the_one_that_the_cpu_decodes(matrix: Matrix, full_range: bool, bits: int) -> None:
    planes = noise(bits, 62, 250)
    expected = by_swscale(frame_of(planes, bits), matrix, full_range)
    found = nv12_to_rgb(*as_nv12(planes), matrix=matrix, full_range=full_range)
    np.testing.assert_array_equal(found, expected)


def test_an_odd_width_is_equal_too() -> None:
    planes = noise(8, 62, 251)
    expected = by_swscale(frame_of(planes, 8), "bt709", False)
    np.testing.assert_array_equal(nv12_to_rgb(*as_nv12(planes)), expected)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("film", "matrix", "left"),
    [
        ("big_buck_bunny_720p_first150s.mp4", "bt709", True),
        ("sintel_854x480_20s_mpeg1.mpg", "bt601", False),
        ("popeye_sinbad_1936_part1.mkv", "bt601", True),
    ],
)
def test_real_frames(film: str, matrix: Matrix, left: bool, shared: Path) -> None:
    """Equal at even sizes, in 8 and 10 bits; within a level on the average at odd ones."""
    with av.open(str(shared / "media" / film)) as container:
        frame = next(f for k, f in enumerate(container.decode(video=0)) if k == 60)
    deep = VideoReformatter().reformat(frame, format="yuv420p10le")
    for one in (frame, deep):
        expected = by_swscale(one, matrix, False)
        found = nv12_to_rgb(*as_nv12(planes_of(one)), matrix=matrix, left_chroma=left)
        np.testing.assert_array_equal(found, expected)
    planes = planes_of(frame)
    planes = (planes[0][:-1, :-1], *planes[1:])
    expected = by_swscale(frame_of(planes, 8), matrix, False)
    difference = np.abs(nv12_to_rgb(*as_nv12(planes), matrix=matrix).astype(int) - expected)
    assert 0 < difference.mean() < 1.4


def exact(planes: tuple[np.ndarray, ...]) -> np.ndarray:
    """BT.709, limited range, from its definition, with the nearest chroma."""
    y, u, v = (plane.astype(float) for plane in planes)
    y, u, v = (y - 16) / 219, *((c.repeat(2, 0).repeat(2, 1) - 128) / 224 for c in (u, v))
    red, blue = y + 1.5748 * v, y + 1.8556 * u
    return np.stack([red, (y - 0.2126 * red - 0.0722 * blue) / 0.7152, blue], axis=-1).clip(0, 1) * 255


def test_colours_are_those_of_the_standard() -> None:
    """The shortcuts cost at most two levels, down."""
    planes = noise(8, 40, 60)
    difference = nv12_to_rgb(*as_nv12(planes)) - exact(planes)
    assert difference.max() < 0.5
    assert difference.min() > -3
    assert -1.2 < difference.mean() < 0


@pytest.mark.parametrize(
    ("luma", "chroma", "options", "message"),
    [
        (np.zeros((4, 4), np.uint8), np.zeros((2, 3, 2), np.uint8), {}, r"uint8 \(1, 2, 3, 2\)"),
        (np.zeros((4, 4), np.uint8), np.zeros((2, 2, 2), np.uint16), {}, "both uint16"),
        (np.zeros((4, 4), np.float32), np.zeros((2, 2, 2), np.float32), {}, "uint8"),
        (np.zeros((4, 8), np.uint8)[:, ::2], np.zeros((2, 2, 2), np.uint8), {}, "side by side"),
        (np.zeros((4, 4), np.uint8), np.zeros((2, 2, 2), np.uint8), {"matrix": "bt708"}, "bt709.*'bt708'"),
        (
            np.zeros((4, 4), np.uint8), np.zeros((2, 2, 2), np.uint8),
            {"out": np.zeros((4, 5, 3), np.uint8)}, r"uint8 \(4, 4, 3\), got uint8 \(4, 5, 3\)",
        ),
    ],
)  # fmt: skip
def test_bad_planes_are_named(luma: Any, chroma: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nv12_to_rgb(luma, chroma, **options)
