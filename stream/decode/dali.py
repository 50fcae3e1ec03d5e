"""NVIDIA DALI as a decoder: frames asked for by number, of files whose frame rate is constant.

DALI counts frames, so the adapter counts them too, over the whole file (:mod:`stream.decode.timeline`), asks
for the numbers of the sampled ones and compares every time that DALI gives back with the packet's own: one
that differs raises :class:`~stream.decode.plan.Unfit`, and PyAV goes on from there. Files with a variable
rate are never given to it: it goes wrong on them, or hangs.

Every frame is decoded, the skipped ones too, so NVDEC through FFmpeg is the faster way, and this one is taken
where it is asked for. Without a GPU DALI 2.0.0 decodes on the CPU what it decodes on the GPU but AV1; later
versions refuse H.264 and HEVC there.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import tempfile
from collections import Counter
from collections.abc import Generator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from stream.batches import Segment, Video
from stream.config import Config
from stream.decode import nvdec
from stream.decode.pictures import matrix_of
from stream.decode.plan import Unfit, unfit_picture
from stream.decode.pyav import Taken, sampling_rule
from stream.decode.surfaces import Surface
from stream.decode.timeline import Timeline, timeline_of
from stream.errors import ConfigError
from stream.probe import is_url

PACKAGE = "nvidia-dali-cuda130==2.0.0"

#: Containers whose index DALI's demuxer can be trusted to seek by. In a transport stream it fails or lands
#: elsewhere.
CONTAINERS = ("mov", "matroska")
CODECS = ("h264", "hevc", "vp8", "vp9")
_GPU_CODECS = ("av1", "libdav1d")
_BATCH_BYTES = 64 << 20  # of frames that DALI decodes in one go


def missing() -> str | None:
    """What DALI would need and this machine lacks, with the step to get it; None where it can be used."""
    try:
        import nvidia.dali  # noqa: F401
    except ImportError as error:
        return f"DALI is not installed ({error}); pip install {PACKAGE}"
    return None


_missing = lru_cache(maxsize=1)(missing)


def refusal(video: Video, config: Config, way: str, *, on_device: bool) -> str | None:
    """Why DALI does not decode this video, as a clause; None where it does.

    Raises:
        ConfigError: it is asked for (``decode.decoder: dali``) and not installed.
    """
    lacks = _missing()
    if lacks and config.decode.decoder == "dali":
        raise ConfigError(f"decode.decoder dali: {lacks}; or set decode.decoder to auto")
    if on_device:
        lacks = lacks or nvdec.driver_missing() or nvdec.unfit_stream(video, way)
    if lacks:
        return lacks
    if config.sampling != "interval":
        return f"DALI is not used with sampling {config.sampling}"
    if is_url(video.uri) or video.duration_s is None:
        return "DALI reads whole files only"
    container = str(video.facts.get("format", ""))
    if not container.startswith(CONTAINERS):
        return f"DALI does not find its way in {container.split(',', 1)[0]} files"
    if video.codec not in CODECS + (_GPU_CODECS if on_device else ()):
        return f"DALI does not decode {video.codec}{'' if on_device else ' on the CPU'}"
    pixels = str(video.facts.get("pixels", ""))
    if pixels not in ("yuv420p",):
        return f"DALI does not decode {pixels} pixels rightly"
    if video.facts.get("full_range") and not on_device:
        return "DALI takes full range for limited on the CPU"
    if way == "whole":
        return nvdec.WHOLE
    why = unfit_picture(video)
    if why:
        return why
    return timeline_of(video).irregular


def dali_frames(
    segment: Segment, config: Config, *, device: int | None = None
) -> Generator[Taken, None, None]:
    """The sampled frames of a segment: FFmpeg's in host memory.

    With a ``device`` they are :class:`~stream.decode.surfaces.Surface`, in its memory.

    Args:
        device: the GPU that decodes; None decodes on the CPU.

    Raises:
        Unfit: DALI fails, or gives another frame than the one asked for.
        SourceError: the file cannot be opened any more.
    """
    timeline = timeline_of(segment.video)
    numbers = timeline.taken(sampling_rule(segment, config, timeline.time_base))
    if not numbers:
        return
    reader = _Reader(segment.video, numbers, config, device)
    given = 0
    while given < len(numbers):
        for picture, frame_number, seconds in reader.read(min(reader.batch, len(numbers) - given)):
            number = numbers[given]
            check_time(timeline, number, frame_number, seconds)
            yield Taken(picture, float(timeline.ticks[number] * timeline.time_base))
            given += 1
    reader.close()


def check_time(timeline: Timeline, number: int, frame_number: int, seconds: float) -> None:
    """Whether DALI gave the frame that was asked for, by its own account of number and time.

    Raises:
        Unfit: it did not.
    """
    due = float((int(timeline.ticks[number]) - int(timeline.ticks[0])) * timeline.time_base)
    if frame_number != number or not math.isclose(seconds, due, abs_tol=1e-6):
        raise Unfit(
            f"DALI gives frame {frame_number} at {seconds:.3f} s in place of frame {number} at {due:.3f} s"
        )


def runs(numbers: Sequence[int]) -> tuple[int, list[tuple[int, int]]]:
    """Frame numbers as (step, [(first, last), ...]): each run goes by the step, the commonest of all.

    >>> runs([0, 24, 48, 71, 95])
    (24, [(0, 48), (71, 95)])
    """
    steps = Counter(np.diff(numbers).tolist())
    step = int(steps.most_common(1)[0][0]) if steps else 1
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number - found[-1][1] == step:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return step, found


class _Reader:
    """A DALI pipeline that reads the frames of these numbers, in order."""

    def __init__(self, video: Video, numbers: Sequence[int], config: Config, device: int | None) -> None:
        from nvidia.dali import Pipeline, fn, types

        width, height = video.facts["coded"]
        self.batch = max(1, min(config.batch_size, len(numbers), _BATCH_BYTES // (width * height * 3)))
        self._device = device
        self._colorspace = int(video.facts.get("colorspace", 2))
        self._matrix = matrix_of(self._colorspace, width, height)
        self._full_range = bool(video.facts.get("full_range"))
        self._reformatter = VideoReformatter()
        step, ranges = runs(numbers)
        path = _link(video)
        with tempfile.NamedTemporaryFile("w", suffix=".txt", prefix="celstream-") as listed:
            listed.write("".join(f"{path} 0 {first} {last + 1}\n" for first, last in ranges))
            listed.flush()
            try:
                pipeline = Pipeline(
                    batch_size=self.batch,
                    num_threads=config.threads or os.cpu_count() or 1,
                    device_id=device,
                    prefetch_queue_depth=1,
                )
                with pipeline:
                    outputs: Any = fn.experimental.readers.video(
                        name="frames",
                        device="cpu" if device is None else "gpu",
                        file_list=listed.name,
                        file_list_format="frames",
                        file_list_include_end=False,
                        sequence_length=1,
                        step=step,
                        enable_frame_num=True,
                        enable_timestamps=True,
                        pad_last_batch=True,
                        # of the GPU's own colours every matrix can be made; on the CPU this DALI has only RGB
                        image_type=types.RGB if device is None else types.YCbCr,
                    )
                    frames, _, frame_numbers, times = outputs  # the second is a label of the list's
                    pipeline.set_outputs(frames, frame_numbers, times)
                pipeline.build()
                found = pipeline.reader_meta("frames")["epoch_size"]
            except RuntimeError as error:
                raise Unfit(f"DALI does not open it ({_last_line(error)})") from error
        if found != len(numbers):
            raise Unfit(f"DALI finds {found} of the {len(numbers)} frames asked for")
        self._pipeline: Any = pipeline

    def read(self, count: int) -> list[tuple[Any, int, float]]:
        """The next ``count`` frames, at most ``batch``, each with DALI's number and time of it."""
        try:
            outputs = self._pipeline.run()
        except RuntimeError as error:
            raise Unfit(f"decoding fails ({_last_line(error)})") from error
        frames, numbers, times = outputs
        if self._device is not None:
            numbers, times = numbers.as_cpu(), times.as_cpu()
        pictures = (
            [as_coded(np.asarray(frames[i])[0], self._colorspace, self._reformatter) for i in range(count)]
            if self._device is None
            else self._surfaces([frames[i] for i in range(count)], self._device)
        )
        return [
            (
                picture,
                int(np.array(numbers[i]).ravel()[0]),
                float(np.array(times[i]).ravel()[0]),
            )
            for i, picture in enumerate(pictures)
        ]

    def _surfaces(self, tensors: list[Any], device: int) -> list[Surface]:
        """Y, Cb, Cr of every pixel, made NV12 again, of which they came."""
        import cupy

        surfaces = []
        with cupy.cuda.Device(device):
            for tensor in tensors:
                picture = cupy.from_dlpack(tensor)[0]
                luma = cupy.ascontiguousarray(picture[..., 0])
                surfaces.append(Surface(luma, thinned(picture[..., 1:]), self._matrix, self._full_range))
            # the copies are to be there before DALI has its memory back: it knows nothing of this stream
            cupy.cuda.get_current_stream().synchronize()
        return surfaces

    def close(self) -> None:
        """Let the pipeline go."""
        self._pipeline = None


def thinned(chroma: Any) -> Any:
    """One sample for each 2 x 2 pixels of ``(H, W, 2)`` uint8, of even size, which DALI interpolated.

    Their mean lies in the middle, where the sample was; each of the four leans to a neighbour by a quarter.
    """
    corners = [chroma[row::2, column::2].astype(np.uint16) for row in (0, 1) for column in (0, 1)]
    return (sum(corners[1:], corners[0]) + 2 >> 2).astype(np.uint8)


def _last_line(error: BaseException) -> str:
    """What DALI says went wrong, without the trace of its own code around it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for start in ("Assert on", "[/opt", "Unsupported", "Error"):  # the reason before what it stopped
        told = [line for line in lines if line.startswith(start)]
        if told:
            return told[0].rstrip(",")[:200]
    return (lines or [type(error).__name__])[0][:200]


def as_coded(picture: npt.NDArray[np.uint8], colorspace: int, reformatter: VideoReformatter) -> av.VideoFrame:
    """DALI's RGB as the frame that it was decoded as: 4:2:0, limited range, with the stream's own matrix.

    On the CPU DALI makes RGB with the BT.601 matrix whatever the stream says. Going back the same way gives
    what was decoded, but for rounding, and from there on it is a frame like those of FFmpeg.
    """
    frame = reformatter.reformat(
        av.VideoFrame.from_ndarray(picture, format="rgb24"),
        format="yuv420p",
        src_color_range=ColorRange.JPEG,
        dst_colorspace=Colorspace.ITU601,
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.AREA,
    )
    frame.colorspace, frame.color_range = colorspace, ColorRange.MPEG
    return frame


@lru_cache(maxsize=1)
def _link_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="celstream-dali-")


def _link(video: Video) -> Path:
    """A name for the file without spaces, which DALI's lists do not allow.

    The same content has the same name, and no other has it: DALI remembers the index of a file by its name.
    """
    identity = hashlib.sha256(f"{video.fingerprint}\0{video.uri}".encode()).hexdigest()[:24]
    link = Path(_link_folder().name) / identity
    with contextlib.suppress(FileExistsError):  # made for another segment
        link.symlink_to(Path(video.uri).resolve())
    return link
