"""Boxes that are given, in the detector's place: for people who have detections, and to measure the rest."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

from kernels.boxes import clip
from stream.batches import Detections, FrameBatch, Segment
from stream.labels import LabelBox, Labels

_USUAL_RATE = 25.0  # frames per second where a file does not tell


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
        self.fallbacks = ()
        self._last: dict[tuple[str, int], float] = {}  # per segment: the time of the last frame seen

    @property
    def description(self) -> str:
        """The file and what is in it, for people."""
        return f"{sum(map(len, self._boxes.values()))} given boxes of {self._path.name}"

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
        video = batch.segment.video
        labels = self._boxes.get(_base(video.uri), [])
        period = 1.0 / (video.frame_rate or _USUAL_RATE)
        position = {number: i for i, number in enumerate(batch.numbers.tolist())}
        timeline = sorted(
            [(time, i, False) for i, time in enumerate(batch.times.tolist())]
            + [
                (time, position.get(number, -1), True)
                for time, number in zip(batch.held.times.tolist(), batch.held.of.tolist(), strict=True)
            ]
        )
        own: dict[int, list[LabelBox]] = {}
        lent: dict[int, list[LabelBox]] = {}
        key = (video.name, batch.segment.index)
        before = self._last.get(key, _before(batch.segment, period))
        for time, frame, held in timeline:
            # the first frame at or after time_s, which rounding may have put half a frame earlier
            low, high = max(before, time - 1.5 * period), time
            mine = [box for box in labels if low < box.time_s - period / 2 <= high]
            if mine and frame >= 0:
                (lent if held else own).setdefault(frame, mine)
            before = time
        self._last[key] = before
        return lent | own


def _before(segment: Segment, period: float) -> float:
    return segment.start_s - period if segment.start_s > 0 else -math.inf


def _base(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name
