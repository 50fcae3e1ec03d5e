"""Which video decoders work here: a small file is encoded and decoded by each, which is the only proof."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from stream.batches import Video
from stream.config import load_config
from stream.decode import dali, decode_segment, nvdec
from stream.doctor.checks import Check, guarded
from stream.probe import describe
from stream.segments import plan_segments

#: FFmpeg's encoders, by the codec that is tried, with the container they are put in.
_ENCODERS = {
    "h264": ("libx264", "mp4"),
    "hevc": ("libx265", "mp4"),
    "vp9": ("libvpx-vp9", "webm"),
    "mpeg2video": ("mpeg2video", "mkv"),
}
_WIDTH, _HEIGHT, _RATE, _FRAMES = 320, 240, 10, 10
_GREEN = (40, 180, 60)


def video_checks() -> Iterator[Check]:
    """The CPU's decoders, codec by codec; then NVDEC, codec by codec where there is one; then DALI."""
    with tempfile.TemporaryDirectory() as name:
        files = {codec: _encoded(Path(name), codec) for codec in _ENCODERS}
        for codec, file in files.items():
            yield guarded(f"decode {codec}", functools.partial(_on_cpu, file))
        lacks = nvdec.missing()
        if lacks:
            yield Check("decode on the GPU (NVDEC)", False, lacks.partition(";")[0], _advice(lacks))
        else:
            for codec, file in files.items():
                yield guarded(f"decode {codec} on the GPU", functools.partial(_on_gpu, file))
        lacks = dali.missing()
        if lacks:
            yield Check("decode with DALI", False, lacks.partition(";")[0], _advice(lacks))
        else:
            yield guarded("decode with DALI", lambda: _with_dali(files["h264"]))


def _advice(lacks: str) -> str:
    return lacks.partition("; ")[2] or "pip install 'celstream[gpu]'"


def _encoded(folder: Path, codec: str) -> Path:
    """A second of green in that codec; an empty file where FFmpeg has no encoder for it."""
    encoder, ending = _ENCODERS[codec]
    path = folder / f"{codec}.{ending}"
    try:
        with av.open(str(path), "w") as container:
            stream = container.add_stream(encoder, rate=_RATE)
            stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
            stream.options = {"x265-params": "log-level=none"} if encoder == "libx265" else {}
            picture = np.full((_HEIGHT, _WIDTH, 3), _GREEN, np.uint8)
            for number in range(_FRAMES):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except (av.error.FFmpegError, ValueError):
        path.write_bytes(b"")
    return path


def _on_cpu(file: Path) -> Check:
    if not file.stat().st_size:
        return Check(f"decode {file.stem}", False, "this FFmpeg has no encoder to make a test file with")
    count, video, _ = _decode(file, {"device": "cpu"})
    right = count > 0
    found = f"{count} frames on the CPU, by {video.codec} of PyAV {av.__version__}"
    return Check(f"decode {file.stem}", right, found, "" if right else "pip install --force-reinstall av")


def _on_gpu(file: Path) -> Check:
    name = f"decode {file.stem} on the GPU"
    count, _, notes = _decode(file, {"device": "cuda", "decode": {"decoder": "nvdec"}})
    if notes:
        return Check(name, False, f"{'; '.join(notes)}; such files are decoded on the CPU")
    return Check(name, count > 0, f"{count} frames by NVDEC")


def _with_dali(file: Path) -> Check:
    count, _, notes = _decode(file, {"device": "cpu", "decode": {"decoder": "dali"}})
    told = "; ".join(notes) or f"{count} frames of H.264 on the CPU"
    return Check("decode with DALI", count > 0 and not notes, told)


def _decode(file: Path, settings: dict[str, object]) -> tuple[int, Video, list[str]]:
    """Frames that came out with the right colour, the video as probed, and what was worked around.

    Raises:
        ValueError: the colour is wrong.
    """
    config = load_config(values={"interval": 1 / _RATE, "held": 0.0, **settings})
    notes: list[str] = []
    count, video = 0, describe(str(file), file.stem, 10.0)
    for segment in plan_segments(video, 300.0, config.interval):
        for batch in decode_segment(segment, config, note=notes.append):
            middle = batch.images[:, _HEIGHT // 2, _WIDTH // 2]
            colour = np.asarray(middle.get() if hasattr(middle, "get") else middle)
            if np.abs(colour.astype(int) - _GREEN).max() > 12:
                raise ValueError(f"expected the colour {_GREEN}, found {tuple(colour[0].tolist())}")
            count += len(batch)
    return count, video, notes
