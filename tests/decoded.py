"""What decoding gave, in a form that tests can compare."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stream.batches import FrameBatch, Video
from stream.config import Config, load_config
from stream.decode import decode_segment
from stream.sources import find_videos, plan_segments


def open_one(path: Path) -> Video:
    """The one video at a path; anything that is wrong with it fails the test."""

    def bad(uri: str, why: str) -> None:
        raise AssertionError(f"{uri}: {why}")

    (video,) = find_videos([str(path)], on_bad=bad)
    return video


def config_of(**values: Any) -> Config:
    """Settings for small films: one thread, frames that repeat are pictures of their own, and no cut is found
    between numbered pictures, whose change lies around the default."""
    return load_config(values={"threads": 1, "held": 0, "shot": 0.6, **values})


@dataclass
class Decoded:
    """Every sampled frame of a video: times in seconds, pictures, shots by segment, held times, notes."""

    times: list[float] = field(default_factory=list)
    pictures: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    shots: list[tuple[int, int]] = field(default_factory=list)
    held: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, batches: Iterable[FrameBatch]) -> None:
        for batch in batches:
            self.times += batch.times.tolist()
            self.pictures += [picture.copy() for picture in batch.images]
            self.shots += [(batch.segment.index, shot) for shot in batch.shots.tolist()]
            self.held += batch.held.times.tolist()

    def differ_from(self, other: Decoded) -> float:
        """Largest mean absolute difference (0..255) of any picture, after the rest was found equal."""
        assert self.times == other.times
        assert self.shots == other.shots
        assert self.held == other.held
        pairs = zip(self.pictures, other.pictures, strict=True)
        return max(float(np.abs(a.astype(int) - b).mean()) for a, b in pairs)


def decode_all(video: Video, config: Config, segment_seconds: float = 1e6) -> Decoded:
    """Decode all segments, one after the other."""
    got = Decoded()
    for segment in plan_segments(video, segment_seconds, config.interval):
        got.add(decode_segment(segment, config, note=got.notes.append))
    return got
