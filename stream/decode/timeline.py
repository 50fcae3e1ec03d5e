"""When every frame of a file is shown, from its packets alone: one pass over the file, nothing decoded.

Decoders that are asked for frames by number (DALI) need this: the number of a sampled frame is its place
among all times in order, which only holds where there is one shown frame for each packet, and is only asked
of files whose rate is constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from stream.batches import Segment, Video
from stream.decode.packets import PacketReader
from stream.decode.sampling import EveryInterval

#: How far a time may lie from where a constant rate puts it: containers that count milliseconds round.
SLACK_S = 0.002


@dataclass(frozen=True)
class Timeline:
    """Presentation times of all frames, in order.

    Attributes:
        ticks: ``(N,)`` int64, from the stream's start.
        time_base: seconds per tick.
        irregular: why frames cannot be counted by time, as a clause; None where the rate is constant.
    """

    ticks: npt.NDArray[np.int64]
    time_base: Fraction
    irregular: str | None

    def __len__(self) -> int:
        return len(self.ticks)

    def taken(self, rule: EveryInterval) -> list[int]:
        """Numbers of the frames that ``rule`` takes, in order."""
        first = int(np.searchsorted(self.ticks, rule.start))
        numbers = []
        for number in range(first, len(self.ticks)):
            if rule.done:
                break
            if rule.takes(int(self.ticks[number])):
                numbers.append(number)
        return numbers


def timeline_of(video: Video) -> Timeline:
    """The times of a whole file; the last few files are remembered.

    Raises:
        SourceError: the file cannot be opened any more.
    """
    return _Remembered(video).timeline


class _Remembered:
    """Makes a video a key for the memory: by its content and place, since its facts cannot be hashed."""

    def __init__(self, video: Video) -> None:
        self.video = video
        self._key = (video.fingerprint, video.uri, video.stream_index)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Remembered) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def timeline(self) -> Timeline:
        return _read(self)


@lru_cache(maxsize=16)
def _read(key: _Remembered) -> Timeline:
    video = key.video
    ticks: list[int] = []
    irregular: str | None = None
    notes: list[str] = []
    with PacketReader(Segment(video, 0, 0.0), notes.append) as reader:
        for packet, pts, _ in reader.packets():
            if pts is None:
                irregular = irregular or "a packet has no presentation time"
                continue
            if not reader.anatomy.shown(packet):
                irregular = irregular or "some packets decode to no frame of their own"
            ticks.append(pts)
        time_base = reader.time_base
        jumps = reader.clock.jumps
    times = np.sort(np.array(ticks, np.int64))
    if notes:
        irregular = irregular or notes[0]
    if jumps:
        irregular = "its clock jumps"
    return Timeline(times, time_base, irregular or _uneven(times, time_base))


def _uneven(times: npt.NDArray[np.int64], time_base: Fraction) -> str | None:
    """Why the rate is not constant, None if it is."""
    if len(times) < 3:
        return "it has too few frames to tell their rate"
    step: Any = (int(times[-1]) - int(times[0])) / (len(times) - 1)
    off = np.abs(times - (times[0] + np.arange(len(times)) * step)) * float(time_base)
    worst = int(off.argmax())
    if off[worst] > max(SLACK_S, 1.01 * float(time_base)):
        at = float(times[worst] * time_base)
        return f"its frame rate varies (a frame at {at:.3f} s lies {off[worst] * 1000:.0f} ms off)"
    return None
