"""Boxes that are given, in the detector's place: for people who have detections, and to measure the rest."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath

import numpy as np

from engines.runtime import Fallback
from kernels.boxes import clip
from stream.batches import Detections, FrameBatch, Segment, Video
from stream.errors import ConfigError
from stream.labels import LabelBox, Labels

_USUAL_RATE = 25.0  # frames per second where a file does not tell
_ROUNDING = 0.001  # seconds: how far time_s may lie after its frame because it was written rounded


class GivenBoxes:
    """The station that takes boxes from a CSV (see stream/labels.py) in place of finding them.

    A row belongs to the frame that is the first one at or after its ``time_s``, by the video's file name;
    rows whose frame is not among the sampled ones are left out. A row of a still image belongs to the image
    of that file name. A row whose frame is held (it shows an earlier picture) goes to that picture, if that
    has none of its own.
    Batches of one segment must come in their order.
    """

    name = "detect"
    class_names = ("character",)

    def __init__(self, csv: str | Path) -> None:
        """Read ``csv`` (``ConfigError`` where it is no label file)."""
        self._path = Path(csv)
        self._boxes: dict[str, list[LabelBox]] = defaultdict(list)
        for box in Labels.read(self._path).boxes:
            self._boxes[_base(box.video_file)].append(box)
        self.model_hash = hashlib.sha256(self._path.read_bytes()).hexdigest()
        self.fallbacks: tuple[Fallback, ...] = ()
        for rows in self._boxes.values():
            rows.sort(key=lambda box: box.time_s)
        self._claimed: dict[tuple[str, int], float] = {}  # per segment: time_s of the last row used

    @property
    def description(self) -> str:
        """The file and what is in it, for people."""
        return f"{sum(map(len, self._boxes.values()))} given boxes of {self._path.name}"

    def check(self, videos: Sequence[Video]) -> None:
        """Raise ConfigError unless some box is of one of ``videos``, which are told by their file names."""
        names = {_base(file) for video in videos for file in (video.files or (video.uri,))}
        if self._boxes and not names & set(self._boxes):
            raise ConfigError(
                f"{self._path}: its boxes are of {_some(self._boxes)}, the run is of {_some(names)};"
                " the column video_file has to name the file without its folder"
            )

    def __call__(self, batch: FrameBatch) -> Detections:
        """The given boxes of a batch of frames, scaled to the frames' size and clipped to them."""
        by_frame = self._by_file(batch) if batch.segment.video.kind == "images" else self._by_time(batch)
        height, width = batch.images.shape[1:3]
        frames, corners = [], []
        for frame, boxes in sorted(by_frame.items()):
            for box in boxes:
                frames.append(frame)
                corners.append(box.scaled(width, height))
        boxes_array = clip(np.array(corners, np.float32).reshape(-1, 4), height, width)
        keep = (boxes_array[:, 2] > boxes_array[:, 0]) & (boxes_array[:, 3] > boxes_array[:, 1])
        count = int(keep.sum())
        return Detections(
            frames=batch,
            frame=np.array(frames, np.int32)[keep],
            boxes=boxes_array[keep],
            scores=np.ones(count, np.float32),
            classes=np.zeros(count, np.int32),
            class_names=self.class_names,
        )

    def _by_file(self, batch: FrameBatch) -> dict[int, list[LabelBox]]:
        files = batch.segment.video.files
        named = {
            i: _base(files[index]) for i, index in enumerate(batch.indices.tolist()) if index < len(files)
        }
        return {i: self._boxes[name] for i, name in named.items() if name in self._boxes}

    def _by_time(self, batch: FrameBatch) -> dict[int, list[LabelBox]]:
        position = {number: i for i, number in enumerate(batch.numbers.tolist())}
        held = zip(batch.held.times.tolist(), batch.held.of.tolist(), strict=True)
        timeline = sorted(
            [(time, i, False) for i, time in enumerate(batch.times.tolist())]
            + [(time, position.get(number, -1), True) for time, number in held]
        )
        own: dict[int, list[LabelBox]] = defaultdict(list)
        lent: dict[int, list[LabelBox]] = defaultdict(list)
        begins = len(batch) > 0 and batch.numbers[0] == 0
        for place, boxes in self._claims(batch.segment, [time for time, _, _ in timeline], begins):
            _, frame, is_held = timeline[place]
            if frame >= 0:  # else it is held, and its picture went by in an earlier batch
                (lent if is_held else own)[frame] += boxes
        return {**lent, **own}

    def _claims(
        self, segment: Segment, times: list[float], begins: bool
    ) -> Iterator[tuple[int, list[LabelBox]]]:
        """Places in ``times`` (sorted) and the rows that mean them, each row once."""
        video = segment.video
        period = 1.0 / (video.frame_rate or _USUAL_RATE)
        half = period / 2
        key = (video.name, segment.index)
        if begins:  # also when a segment is done again
            self._claimed.pop(key, None)
        rows = self._boxes.get(_base(video.uri), [])
        low = max(self._claimed.get(key, -math.inf), math.nextafter(segment.start_s - half, -math.inf))
        for time, boxes in groupby(rows, key=lambda box: box.time_s):
            if not low < time < segment.end_s - half:
                continue
            place = bisect_left(times, time - min(_ROUNDING, half))
            # a sampled frame a whole interval later is another one: the frame that is meant was not sampled
            if place == len(times) or times[place] > time + period - 2 * _ROUNDING:
                # a sampled frame may lie up to half a frame before the one that is meant
                place -= 1
                if place < 0 or times[place] < time - half:
                    continue
            self._claimed[key] = time
            yield place, list(boxes)


def _some(names: Iterable[str]) -> str:
    """At most three of the names, for a message."""
    first = sorted(names)
    return ", ".join(first[:3]) + (f" and {len(first) - 3} more" if len(first) > 3 else "")


def _base(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name
