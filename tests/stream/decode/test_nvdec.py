"""NVDEC through FFmpeg: everything around the device runs here, with FFmpeg's own decoder in its place."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Generator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import emulated_cupy
import pytest
from av.codec.hwaccel import HWAccel
from decoded import Decoded, config_of, decode_all, open_one
from films import number_of, numbered, write_film
from needs import needs

from stream.batches import Segment, Video
from stream.config import Config
from stream.decode import decode_segment, nvdec, plan_decode, pyav, source, watch
from stream.decode.device import CudaDevice, HostDevice
from stream.decode.nvdec import DecodeCaps, accelerated, checked_frames
from stream.decode.packets import Note
from stream.decode.plan import DecodePlan, Unfit, unfit_picture
from stream.decode.pool import memory_for
from stream.decode.pyav import Damage, Taken, frames_by_packets
from stream.errors import ConfigError
from stream.sources import plan_segments

X264 = {"preset": "veryfast", "crf": "20", "g": "24", "bf": "3"}


def software(segment: Segment, config: Config, note: Note) -> Generator[Taken, None, None]:
    """As ``nvdec_frames``, without the device: contexts made, packets fed and frames checked the same way."""
    damage = Damage(strict=True)
    made = frames_by_packets(segment, config, note, damage, lambda context: accelerated(context, None))
    yield from checked_frames(segment, made)


def take_software(monkeypatch: pytest.MonkeyPatch, frames: Callable[..., Any] = software) -> None:
    """Let plans name NVDEC, and its frames come from ``frames``."""

    def fast(segment: Segment, config: Config, plan: DecodePlan, note: Note, device: int | None) -> Any:
        assert plan.decoder == "nvdec"
        return frames(segment, config, note)

    monkeypatch.setattr(source, "_fast_frames", fast)
    monkeypatch.setattr(nvdec, "_missing", lambda: None)
    monkeypatch.setattr(watch, "_hung", {})


def by_nvdec(video: Video, segment_seconds: float = 1e6, **settings: Any) -> Decoded:
    config = config_of(**{"interval": 0.5, "decode": {"decoder": "nvdec", "patience_s": 0.5}, **settings})
    got = Decoded()
    for segment in plan_segments(video, segment_seconds, config.interval):
        memory = memory_for(HostDevice(), config)
        got.add(decode_segment(segment, config, note=got.notes.append, memory=memory))
    return got


FILMS: dict[str, Callable[[Path], Path]] = {
    "h264": lambda d: write_film(d / "a.mp4", options=X264),
    "h264, open groups": lambda d: write_film(
        d / "a.mkv", options={**X264, "g": "16", "x264-params": "open-gop=1:scenecut=0"}
    ),
    "hevc": lambda d: write_film(
        d / "a.mkv",
        codec="libx265",
        options={"preset": "ultrafast", "x265-params": "keyint=24:bframes=4:open-gop=1:log-level=none"},
    ),
    "vp8": lambda d: write_film(d / "a.webm", codec="libvpx", options={"deadline": "realtime", "b": "2M"}),
    "vp9": lambda d: write_film(
        d / "a.webm", codec="libvpx-vp9", options={"deadline": "realtime", "b": "2M", "lag-in-frames": "16"}
    ),
    "mpeg-1": lambda d: write_film(d / "a.mpg", codec="mpeg1video", options={"g": "12"}, rate=25),
    "mpeg-2": lambda d: write_film(d / "a.ts", codec="mpeg2video", options={"g": "15", "bf": "2"}, rate=25),
}


@pytest.mark.parametrize("name", FILMS)
def test_a_context_of_our_own_decodes_the_same(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Extradata and colours reach a decoder that is made beside the container's, which NVDEC's is."""
    video = open_one(FILMS[name](tmp_path))
    take_software(monkeypatch)
    got = by_nvdec(video, 1.5)
    assert got.notes == []
    assert got.differ_from(decode_all(video, config_of(interval=0.5), 1.5)) == 0


@pytest.mark.parametrize("name", ["h264", "h264, open groups", "hevc"])
def test_a_context_of_our_own_is_emptied_by_a_jump(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeking flushes the container's own decoder, and knows nothing of the one beside it."""
    video = open_one(FILMS[name](tmp_path))
    take_software(monkeypatch)
    monkeypatch.setattr(pyav, "JUMP_BYTES", 1)
    got = by_nvdec(video, interval=2.4)
    assert got.notes == []
    assert got.differ_from(decode_all(video, config_of(interval=2.4))) == 0


def test_a_context_of_our_own_knows_how_far_frames_are_reordered(tmp_path: Path) -> None:
    """The container says it; H.264 without a VUI does not, and loses its second frame without."""
    with av.open(FILMS["h264"](tmp_path)) as container:
        context = container.streams.video[0].codec_context
        assert accelerated(context, None).reorder_depth == context.reorder_depth == 2


def test_ffmpeg_is_given_the_context_that_cupy_opened() -> None:
    """And not asked for the primary one by name, which it refuses to share: its flags would be others.

    Without a driver nothing is opened, but the options are read before: both at once are refused as such.
    """
    accel = nvdec.hardware(1)
    assert (accel.device_id, accel.is_hw_owned, accel.allow_software_fallback) == (1, True, False)
    codec = av.codec.Codec("h264", "r")
    with pytest.raises(av.error.ArgumentError):
        HWAccel("cuda", options={**accel.options, "primary_ctx": "1"}).create(codec)
    try:
        nvdec.hardware().create(codec)
    except av.error.ArgumentError:
        pytest.fail("FFmpeg does not know the option by which it takes the current context")
    except (av.error.FFmpegError, OSError):
        pass  # there is no driver


def test_nvdec_is_opened_in_the_context_of_its_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the device's own decoder, which FFmpeg's stands for."""
    emulated_cupy.install(monkeypatch)
    opened = []

    def software_in_its_place(context: Any, accel: HWAccel) -> Any:
        opened.append((accel.device_id, emulated_cupy.current.devices.copy()))
        return accelerated(context, None)

    monkeypatch.setattr(nvdec, "accelerated", software_in_its_place)
    video = open_one(FILMS["h264"](tmp_path))
    (segment,) = plan_segments(video, 1e6, 0.5)
    taken = list(nvdec.nvdec_frames(segment, config_of(interval=0.5), pytest.fail))
    assert [t.time for t in taken] == decode_all(video, config_of(interval=0.5)).times
    assert opened == [(0, [0])]
    assert emulated_cupy.current.devices == []


REFUSED: list[tuple[Callable[[Path], Path], str]] = [
    (lambda d: write_film(d / "a.avi", 24, codec="mpeg4", options={"g": "12"}), "does not decode mpeg4"),
    (lambda d: write_film(d / "a.mp4", 24, pixels="yuv444p", options=X264), "h264 with yuv444p pixels"),
    (lambda d: write_film(d / "a.mp4", 24, pixels="yuv420p10le", options=X264), "h264 with yuv420p10le"),
    (lambda d: write_film(d / "a.avi", 24, options=X264), "to know the times"),
    (
        lambda d: write_film(
            d / "a.mp4", 24, options=X264, sample_aspect_ratio=Fraction(64, 45), pixels="yuv420p"
        ),
        r"not square \(64:45\)",
    ),
]


@pytest.mark.parametrize(("write", "why"), REFUSED, ids=["asp", "444", "10 bit", "no times", "pixels"])
def test_what_nvdec_does_not_do_goes_to_the_cpu(
    tmp_path: Path, write: Callable[[Path], Path], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import re

    video = open_one(write(tmp_path))
    take_software(monkeypatch)
    plan = plan_decode(video, config_of(), on_device=True)
    assert plan.decoder == "cpu"
    assert plan.fallback is not None
    assert re.search(why, plan.fallback.reason)
    got = by_nvdec(video)
    assert got.notes[0] == f"decoded on the CPU and not by NVDEC: {plan.fallback.reason}"
    assert got.differ_from(decode_all(video, config_of(interval=0.5))) == 0


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"interlaced": True}, "interlaced"),
        ({"transfer": "pq"}, "PQ"),
        ({"rotation": 90}, "turned by 90"),
        ({"coded": (191, 144)}, "odd"),
        ({"sar": None, "rotation": 0, "coded": (192, 144), "transfer": None}, None),
    ],
)
def test_pictures_that_are_made_on_the_cpu(facts: dict[str, Any], why: str | None) -> None:
    video = Video("a", "a.mp4", "video", 192, 144, "x", facts=facts)
    reason = unfit_picture(video)
    assert reason is None if why is None else why in str(reason)


def test_the_driver_is_asked_by_the_layout_of_its_header() -> None:
    offsets = {name: getattr(DecodeCaps, name).offset for name, _ in DecodeCaps._fields_}
    assert ctypes.sizeof(DecodeCaps) == 88
    assert (offsets["supported"], offsets["engines"], offsets["formats"]) == (24, 25, 26)
    assert (offsets["max_width"], offsets["max_blocks"], offsets["min_width"]) == (28, 36, 40)


def test_what_the_driver_says_is_heeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = open_one(write_film(tmp_path / "a.mp4", 24, options=X264))
    caps = DecodeCaps(supported=1, engines=3, max_width=4096, max_height=4096, max_blocks=65536)
    monkeypatch.setattr(nvdec, "driver_caps", lambda codec, bits: caps)
    assert nvdec.unfit_stream(video, "packets") is None
    assert nvdec.engine_count("NVIDIA H200") == 3
    caps.min_width = 256
    assert "from 256x0 to 4096x4096, and it is 192x144" in str(nvdec.unfit_stream(video, "packets"))
    caps.min_width, caps.max_blocks = 0, 50
    assert "is more than this GPU decodes" in str(nvdec.unfit_stream(video, "packets"))
    caps.supported = 0
    assert nvdec.unfit_stream(video, "packets") == "this GPU does not decode h264 with 8 bits"


def test_decoders_are_counted_by_name_where_the_driver_does_not_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nvdec, "driver_caps", lambda codec, bits: None)
    names = ["NVIDIA H200", "NVIDIA A100-SXM4-80GB", "NVIDIA L4", "NVIDIA L40S", "Something new"]
    assert [nvdec.engine_count(name) for name in names] == [7, 5, 4, 3, 1]


def test_dali_stands_in_where_pyav_cannot_reach_the_decoders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("nvidia.dali", "pip install nvidia-dali-cuda130==2.0.0")
    video = open_one(write_film(tmp_path / "a.mp4", 24, options=X264))
    monkeypatch.setattr(nvdec, "_missing", lambda: "this PyAV is built without CUDA")
    monkeypatch.setattr(nvdec, "driver_missing", lambda: None)
    plan = plan_decode(video, config_of(), on_device=True)
    assert (plan.decoder, plan.way) == ("dali", "packets")
    assert plan.fallback is not None
    assert (plan.fallback.wanted, plan.fallback.used) == ("NVDEC", "DALI")
    assert plan_decode(video, config_of(), on_device=False).decoder == "cpu"
    monkeypatch.setattr(nvdec, "driver_missing", lambda: "there is no driver")
    assert plan_decode(video, config_of(), on_device=True).decoder == "cpu"


def test_a_driver_without_its_video_part_is_told_from_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a container has it that was started for computing alone."""
    if nvdec.driver_missing() is None:
        pytest.skip("this machine has the video driver")
    assert "install NVIDIA's driver" in str(nvdec.driver_missing())
    monkeypatch.setattr(nvdec, "cuda_missing", lambda: None)
    assert "NVIDIA_DRIVER_CAPABILITIES=all" in str(nvdec.driver_missing())


def test_packages_that_nvdec_lacks_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvdec, "driver_missing", lambda: None)
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert str(nvdec.missing()).startswith("CuPy is not installed (")
    monkeypatch.setattr(av, "__version__", "17.1.0")
    assert nvdec.missing() == "PyAV 17.1.0 is too old; pip install -U 'av>=18'"


def test_nvdec_forced_without_a_gpu_says_what_is_missing(tmp_path: Path) -> None:
    lacks = nvdec.missing()
    if lacks is None:
        pytest.skip("this machine has NVDEC")
    video = open_one(write_film(tmp_path / "a.mp4", 24, options=X264))
    with pytest.raises(ConfigError, match=r"decode\.decoder nvdec: .*NVIDIA's driver"):
        plan_decode(video, config_of(decode={"decoder": "nvdec"}))
    fallback = plan_decode(video, config_of(), on_device=True).fallback
    assert fallback is not None
    assert fallback.reason == lacks


def test_device_cuda_without_a_gpu_says_what_is_missing(tmp_path: Path) -> None:
    try:
        CudaDevice()
    except ConfigError:
        pass
    else:
        pytest.skip("this machine has a GPU")
    video = open_one(write_film(tmp_path / "a.mp4", 24, options=X264))
    (segment,) = plan_segments(video, 1e6, 1.0)
    with pytest.raises(ConfigError, match=r"device cuda: .*pip install 'celstream\[gpu\]'"):
        next(decode_segment(segment, config_of(device="cuda")))


# --- what goes wrong on the way -----------------------------------------------------------------------------


def test_a_change_of_size_goes_on_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = []
    for i, (width, height) in enumerate([(192, 144), (256, 192)]):
        pictures = [numbered(48 * i + n, width, height) for n in range(48)]
        options = {**X264, "bf": "0"}
        parts.append(write_film(tmp_path / f"{i}.ts", pictures, options=options, start=48 * i))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    path = tmp_path / "a.ts"  # written anew, or the counters at the splice would tell of damage
    with av.open(joined) as source_, av.open(path, "w") as out:
        stream = out.add_stream_from_template(source_.streams.video[0])
        for packet in source_.demux(source_.streams.video[0]):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    video = open_one(path)
    take_software(monkeypatch)
    got = by_nvdec(video)
    assert "NVDEC: its size changes from 192x144 to 256x192 at 2.000 s" in got.notes[0]
    assert got.notes[0].endswith("the segment after 1.500 s is decoded on the CPU")
    assert got.differ_from(decode_all(video, config_of(interval=0.5))) == 0
    assert [number_of(p) for p in got.pictures] == list(range(0, 96, 12))


def test_gradual_refresh_goes_on_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its frames decode from far before them, which only the CPU's way of decoding all of them knows."""
    options = {**X264, "bf": "0", "x264-params": "intra-refresh=1"}
    video = open_one(write_film(tmp_path / "a.mp4", options=options))
    take_software(monkeypatch)
    got = by_nvdec(video, 1.5)
    assert got.notes[0].startswith("NVDEC: the frame due at 1.000 s does not decode")
    assert got.differ_from(decode_all(video, config_of(interval=0.5), 1.5)) == 0


def test_a_damaged_packet_goes_on_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_film(tmp_path / "a.ts", 96, options=X264)
    data = bytearray(path.read_bytes())
    for at in range(7, 3, -1):  # the counters of the transport stream tell that something is gone
        place = len(data) * at // 10 // 188 * 188
        del data[place : place + 188 * 3]
    path.write_bytes(data)
    video = open_one(path)
    take_software(monkeypatch)
    got = by_nvdec(video)
    assert got.notes[0].startswith("NVDEC: a ")
    assert "damaged" in got.notes[0] or "does not decode" in got.notes[0]
    assert got.differ_from(decode_all(video, config_of(interval=0.5))) == 0


def test_a_decoder_that_gives_up_is_followed_by_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = open_one(write_film(tmp_path / "a.mp4", 96, options=X264))
    for count in (0, 1, 3):

        def gives_up(
            segment: Segment, config: Config, note: Note, count: int = count
        ) -> Generator[Taken, None, None]:
            for _, taken in zip(range(count), software(segment, config, note), strict=False):
                yield taken
            raise Unfit("the test gives up")

        take_software(monkeypatch, gives_up)
        for sampling in ("interval", "scene"):
            got = by_nvdec(video, sampling=sampling)
            assert [note.split(";")[0] for note in got.notes] == ["NVDEC: the test gives up"]
            want = decode_all(video, config_of(interval=0.5, sampling=sampling))
            assert got.differ_from(want) == 0
