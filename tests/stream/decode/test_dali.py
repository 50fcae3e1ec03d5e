"""DALI gives the frames that PyAV gives: really decoded here, on the CPU, as the adapter runs it on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from decoded import Decoded, config_of, decode_all, open_one
from films import number_of, numbered, write_film
from needs import needs

from stream import load_config, run
from stream.batches import Video
from stream.decode import dali, plan_decode
from stream.decode.plan import Unfit
from stream.decode.sampling import EveryInterval
from stream.decode.timeline import Timeline, timeline_of
from stream.errors import ConfigError
from stream.sources import plan_segments
from stream.workdir import WorkFolder

needs("nvidia.dali", "pip install nvidia-dali-cuda130==2.0.0")

#: Mean absolute difference (0..255) of any picture. DALI makes RGB with rounding, FFmpeg by cutting off, and
#: the way back to what was decoded rounds once more; colours beyond RGB's are lost on it. On the real films
#: the worst picture is 0.11 to 0.97 off.
SAME = 1.2

X264 = {"preset": "veryfast", "crf": "20"}
X265 = {"preset": "ultrafast"}
VPX = {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "48", "deadline": "realtime", "b": "2M"}

FILMS: dict[str, Callable[[Path], Path]] = {
    "h264 with B pictures, mp4": lambda d: write_film(d / "a.mp4", options={**X264, "g": "48", "bf": "3"}),
    "h264 with open groups, mkv": lambda d: write_film(
        d / "a.mkv", options={**X264, "g": "16", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}
    ),
    "h264 at 23.976, mp4": lambda d: write_film(
        d / "a b.mp4", options={**X264, "g": "24"}, rate=Fraction(24000, 1001)
    ),
    "hevc with leading pictures, mkv": lambda d: write_film(
        d / "a.mkv",
        codec="libx265",
        options={**X265, "x265-params": "keyint=24:min-keyint=24:bframes=4:log-level=none"},
    ),
    "hevc with open groups, mp4": lambda d: write_film(
        d / "a.mp4",
        codec="libx265",
        options={**X265, "x265-params": "keyint=24:bframes=4:open-gop=1:log-level=none"},
    ),
    "vp9 with hidden frames, webm": lambda d: write_film(d / "a.webm", codec="libvpx-vp9", options=VPX),
}


def by_dali(video: Video, interval: float, segment_seconds: float = 1e6) -> Decoded:
    return decode_all(video, config_of(interval=interval, decode={"decoder": "dali"}), segment_seconds)


@pytest.mark.parametrize("name", FILMS)
def test_dali_gives_the_frames_that_pyav_gives(tmp_path: Path, name: str) -> None:
    video = open_one(FILMS[name](tmp_path))
    for interval, segment_seconds in ((0.3, 1e6), (1.0, 1.5)):
        want = decode_all(video, config_of(interval=interval), segment_seconds)
        got = by_dali(video, interval, segment_seconds)
        assert got.notes == []  # nothing was left to PyAV
        assert [number_of(p) for p in got.pictures] == [number_of(p) for p in want.pictures]
        assert got.differ_from(want) < SAME


def test_chroma_that_dali_interpolated_is_where_it_was() -> None:
    """As its kernel has it: each pixel is three quarters its own sample, and one of the next, both ways."""
    y, x = np.mgrid[0:16, 0:24]
    samples = np.stack([40 + 4 * x + 3 * y, 200 - 2 * x - 5 * y], axis=2).astype(np.float64)
    between = np.pad(samples, ((1, 1), (1, 1), (0, 0)), "edge")
    rows = np.stack([(3 * between[1:-1] + between[k : k + 16]) / 4 for k in (0, 2)], axis=1).reshape(
        32, 26, 2
    )
    both = np.stack([(3 * rows[:, 1:-1] + rows[:, k : k + 24]) / 4 for k in (0, 2)], axis=2)
    pixels = np.rint(both.reshape(32, 48, 2)).astype(np.uint8)
    off = dali.thinned(pixels).astype(int) - samples.astype(int)
    assert dali.thinned(pixels).dtype == np.uint8
    assert np.abs(off[1:-1, 1:-1]).max() <= 1
    assert np.abs(off[1:-1, 1:-1].mean(axis=(0, 1))).max() < 0.25


def test_dali_colours_follow_the_matrix_of_the_stream(tmp_path: Path) -> None:
    """The same planes told to be BT.601 and BT.709 are two pictures; DALI's own RGB knows one of them."""
    picture = np.zeros((96, 128, 3), np.uint8)
    picture[:, :64], picture[:, 64:] = (200, 60, 40), (40, 170, 90)
    seen = []
    for code in (1, 6):
        path = tmp_path / f"{code}.mp4"
        write_film(path, [picture] * 24, options={**X264, "g": "12"}, colorspace=code, color_range=1)
        video = open_one(path)
        want, got = decode_all(video, config_of(interval=0.5)), by_dali(video, 0.5)
        assert got.notes == []
        assert got.differ_from(want) < SAME
        seen.append(got.pictures[0].astype(int))
    assert np.abs(seen[0] - seen[1]).mean() > 5


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (
            lambda d: write_film(
                d / "v.mkv",
                60,
                pts=[int(t) for t in np.cumsum([0] + [1 if i % 7 else 40 for i in range(1, 60)])],
                rate=50,
                options={**X264, "g": "24", "bf": "3"},
            ),
            "frame rate varies",
        ),
        (lambda d: write_film(d / "a.ts", 48, options={**X264, "g": "24"}), "mpegts"),
        (lambda d: write_film(d / "a.mp4", 48, codec="mpeg4", options={"g": "24"}), "mpeg4"),
        (lambda d: write_film(d / "a.mp4", 48, pixels="yuv444p", options=X264), "yuv444p"),
        (lambda d: write_film(d / "a.mkv", 48, codec="libsvtav1", options={"preset": "12"}), "on the CPU"),
    ],
    ids=["variable rate", "transport stream", "mpeg-4", "4:4:4", "av1"],
)
def test_dali_is_not_given_what_it_gets_wrong(
    tmp_path: Path, write: Callable[[Path], Path], why: str
) -> None:
    video = open_one(write(tmp_path))
    config = config_of(interval=0.5, decode={"decoder": "dali"})
    plan = plan_decode(video, config)
    assert plan.decoder == "cpu"
    assert plan.fallback is not None
    assert why in plan.fallback.reason
    got = by_dali(video, 0.5, 1.0)
    assert got.notes[0] == f"decoded on the CPU and not by DALI: {plan.fallback.reason}"
    assert got.differ_from(decode_all(video, config_of(interval=0.5), 1.0)) == 0


def test_a_run_records_how_each_video_was_decoded_and_a_fallback_once(tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    write_film(films / "a.mp4", 24, options={**X264, "g": "24"})
    for name in ("b.mp4", "c.mp4"):
        write_film(films / name, 24, codec="mpeg4", options={"g": "24"})
    config = load_config(values={"decode": {"decoder": "dali"}, "adapt": "off"})
    summary = run(films, tmp_path / "work", config, report=False)
    with WorkFolder.open(tmp_path / "work", create=False, write=False) as folder:
        record = folder.read_run()
    by_dali = {video["name"]: " with DALI: " in video["decode"] for video in record["videos"]}
    assert by_dali == {"a": True, "b": False, "c": False}
    (fallback,) = (f for f in record["fallbacks"] if f["wanted"] == "DALI")
    assert fallback["used"] == "FFmpeg on the CPU"
    assert "mpeg4" in fallback["reason"]
    assert fallback in summary.fallbacks


def test_dali_giving_another_time_is_noticed_and_pyav_goes_on(tmp_path: Path) -> None:
    """The file is changed after it was listed: frame numbers are of the old one."""
    path = tmp_path / "a.mp4"
    base = {"rate": 240, "time_base": Fraction(1, 240), "options": {**X264, "g": "24"}}
    video = open_one(write_film(path, 96, pts=range(0, 960, 10), **base))  # type: ignore[arg-type]
    timeline_of(video)
    write_film(path, 96, pts=range(0, 1152, 12), **base)  # type: ignore[arg-type]
    config = config_of(interval=1.0, decode={"decoder": "dali"})
    (segment,) = plan_segments(video, 1e6, 1.0)
    frames = dali.dali_frames(segment, config)
    assert next(frames).time == 0
    with pytest.raises(Unfit, match=r"DALI gives frame 24 at 1\.200 s in place of frame 24 at 1\.000 s"):
        next(frames)
    got = by_dali(video, 1.0)
    assert [number_of(p) for p in got.pictures] == [0, 20, 40, 60, 80]
    (note,) = got.notes
    assert note.endswith("the segment after 0.000 s is decoded on the CPU")


def test_dali_failing_is_told_and_pyav_goes_on(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", 96, options={**X264, "g": "24"})
    video = open_one(path)
    timeline_of(video)
    path.write_bytes(path.read_bytes()[:2000] + bytes(2000))
    (segment,) = plan_segments(video, 1e6, 1.0)
    with pytest.raises(Unfit, match="DALI"):
        list(dali.dali_frames(segment, config_of(decode={"decoder": "dali"})))


def test_dali_missing_is_said_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    video = open_one(write_film(tmp_path / "a.mp4", 24, options=X264))
    monkeypatch.setattr(dali, "_missing", lambda: f"DALI is not installed; pip install {dali.PACKAGE}")
    with pytest.raises(
        ConfigError, match=r"decode\.decoder dali: .*pip install nvidia-dali-cuda130==2\.0\.0"
    ):
        plan_decode(video, config_of(decode={"decoder": "dali"}))


def test_runs_for_dali_cover_every_number_in_order() -> None:
    numbers = [0, 24, 48, 71, 95, 119, 120, 500]
    step, ranges = dali.runs(numbers)
    assert step == 24
    assert [n for first, last in ranges for n in range(first, last + 1, step)] == numbers
    assert dali.runs([7]) == (1, [(7, 7)])


@pytest.mark.parametrize("count", [3, 1000])
def test_dali_is_told_a_rate_is_constant_only_if_it_is(count: int) -> None:
    from stream.decode.timeline import _uneven

    base = Fraction(1, 1000)  # rounded to milliseconds, as Matroska has it
    times = np.array([round(i * 1001 / 24) for i in range(count)], np.int64)
    assert _uneven(times, base) is None
    late = times.copy()
    late[count // 2] += 9
    assert "varies" in str(_uneven(late, base))
    dropped = np.delete(np.append(times, times[-1] + 42), 1)
    assert "varies" in str(_uneven(dropped, base))


def test_dali_frame_numbers_are_those_of_the_rule() -> None:
    base = Fraction(1, 24)
    timeline = Timeline(np.arange(240), base, None)
    assert timeline.taken(EveryInterval(1.0, base, 2.0, 5.0)) == [48, 72, 96]
    assert timeline.taken(EveryInterval(0.7, base, 0.0, 2.0)) == [0, 17, 34]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "decoder"),
    [
        ("sintel_848x480_26s.mp4", "dali"),
        ("sintel_5s_vp9.webm", "dali"),
        ("sintel_5s_vp8.ogv", "cpu"),
        ("sintel_854x480_20s_mpeg1.mpg", "cpu"),
        pytest.param("popeye_sinbad_1936_part1.mkv", "dali", marks=pytest.mark.slow),
        pytest.param("popeye_sinbad_1936_part2.mkv", "dali", marks=pytest.mark.slow),
        pytest.param("big_buck_bunny_720p_first150s.mp4", "dali", marks=pytest.mark.slow),
        pytest.param("big_buck_bunny_360p.mp4", "dali", marks=pytest.mark.slow),
    ],
)
def test_dali_on_real_films(shared: Path, name: str, decoder: str) -> None:
    video = open_one(shared / "media" / name)
    config = config_of(interval=2.0, held=2.0, shot=0.35, threads=0, decode={"decoder": "dali"})
    assert plan_decode(video, config).decoder == decoder
    got = decode_all(video, config, 20.0)
    want = decode_all(video, config_of(interval=2.0, held=2.0, shot=0.35, threads=0), 20.0)
    assert len(got.notes) == (decoder == "cpu")
    assert got.differ_from(want) < SAME


def test_numbered_pictures_tell_neighbours_apart() -> None:
    """What the comparisons above rest on."""
    assert [number_of(numbered(n)) for n in (0, 1, 95, 239)] == [0, 1, 95, 239]
