"""Single frames of a video by their times, for labels that name a video: upright, square pixels, SDR."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stream.errors import SourceError

_ROUNDING = 0.001  # seconds: how far a time may lie after its frame because it was written rounded
_FAR = 10.0  # seconds ahead from which on it is jumped rather than decoded through


def frame_size(path: Path) -> tuple[int, int]:
    """(width, height) of the frames that ``read_frames`` gives (``ValueError``: no video)."""
    video = _describe(path)
    return video.width, video.height


def read_frame(path: Path, time_s: float) -> npt.NDArray[np.uint8]:
    """The first frame at or after ``time_s``: (height, width, 3) uint8 RGB.

    Raises:
        ValueError: no video, or it ends before.
    """
    for _, picture in read_frames(path, [time_s]):
        return picture
    raise ValueError(f"{path}: no frame at {time_s:g} s or after")


def without_frame(path: Path, times: Iterable[float]) -> list[float]:
    """Those of ``times``, in order, at and after which the video has no frame that can be decoded.

    The last one is tried first: where it has its frame, nothing else is decoded.
    """

    def late(time: float) -> bool:
        try:
            return next(read_frames(path, [time]), None) is None
        except ValueError:
            return True

    ordered = sorted(set(times))
    if not ordered or not late(ordered[-1]):
        return []
    return ordered[bisect_left(ordered, True, key=late) :]


def read_frames(path: Path, times: Iterable[float]) -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
    """(time asked for, first frame at or after it), in the order of time; times after the end give nothing.

    Raises:
        ValueError: no video, or it is damaged so that it cannot be decoded.
    """
    import av

    from stream.decode.pictures import Painter

    video = _describe(path)
    painter = Painter(video)
    try:
        with av.open(str(path)) as container:
            stream = container.streams[video.stream_index]
            stream.thread_count = 1
            start = (stream.start_time or 0) * stream.time_base
            frames: Iterator[Any] = iter(())
            frame, at = None, float("-inf")
            for wanted in sorted(times):
                if frame is None or wanted > at + _FAR:
                    target = int((max(0.0, wanted - _ROUNDING) + float(start)) / float(stream.time_base))
                    container.seek(target, stream=stream, backward=True)
                    frames = container.decode(stream)
                    frame, at = None, float("-inf")
                while at < wanted - _ROUNDING:
                    frame = next((f for f in frames if f.pts is not None), None)
                    if frame is None:
                        break
                    at = float(frame.pts * stream.time_base - start)
                if frame is None:
                    return
                yield wanted, painter.rgb(frame)
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"{path}: cannot be decoded ({error})") from error


def _describe(path: Path) -> Any:
    from stream.probe import describe

    try:
        return describe(str(path), path.stem, 10.0)
    except SourceError as error:
        raise ValueError(str(error)) from error
