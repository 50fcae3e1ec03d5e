"""How good is a detector on labelled frames: the part of bench/quality.py that looks at boxes alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from stream.batches import FrameBatch, Segment, Video
from stream.detect import Detector
from stream.evaluate import SCORED, average_precision50, match_boxes
from stream.labels import LabelBox, Labels

HARD = ("tiny", "low_visibility", "blurred")  # what a careful reader could hardly see
_BINS = 10


@dataclass(frozen=True)
class Looked:
    """What a detector found in labelled frames, at all scores, and what is true.

    ``scores`` (M,), ``correct`` (M,): whether the box is a true one, ``easy`` (M,): whether it is not one of
    the hard ones. ``truths``, ``easy_truths``: true boxes. ``frames``: scored frames.
    """

    scores: NDArray[np.float32]
    correct: NDArray[np.bool_]
    easy: NDArray[np.bool_]
    truths: int
    easy_truths: int
    frames: int

    @classmethod
    def join(cls, parts: Sequence[Looked]) -> Looked:
        """Over several films."""
        return cls(
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.correct for part in parts]),
            np.concatenate([part.easy for part in parts]),
            sum(part.truths for part in parts),
            sum(part.easy_truths for part in parts),
            sum(part.frames for part in parts),
        )


def labelled_frames(labels: Labels, folder: Path) -> Iterator[tuple[av.VideoFrame, list[LabelBox], str]]:
    """Every scored frame of the labels, its boxes and its file."""
    of_frame: dict[tuple[str, float], list[LabelBox]] = {}
    for box in labels.boxes:
        of_frame.setdefault((box.video_file, box.time_s), []).append(box)
    for name in labels.video_files():
        times = sorted(f.time_s for f in labels.frames if f.video_file == name and f.status in SCORED)
        with av.open(str(folder / name)) as film:
            k = 0
            for frame in film.decode(video=0):
                if k < len(times) and frame.time >= times[k] - 1e-3:
                    yield frame, of_frame.get((name, times[k]), []), name
                    k += 1
                if k == len(times):
                    break


def look(detector: Detector, labels: Labels, folder: Path, classes: Sequence[str] | None = None) -> Looked:
    """Run the detector over the labelled frames; ``classes``: those that count, None: all but faces."""
    scores, correct, easy = [], [], []
    truths = easy_truths = frames = 0
    for frame, boxes, name in labelled_frames(labels, folder):
        found = detector(_batch(frame, name))
        named = np.array(found.class_names, object)[found.classes]
        keep = np.isin(named, list(classes)) if classes is not None else named != "face"
        true = np.array([box.scaled(frame.width, frame.height) for box in boxes], np.float32).reshape(-1, 4)
        hard = np.array([any(flag in HARD for flag in box.flags) for box in boxes], bool)
        taken = match_boxes(found.boxes[keep], found.scores[keep], true)
        scores.append(found.scores[keep])
        correct.append(taken >= 0)
        easy.append(np.array([t < 0 or not hard[t] for t in taken], bool))
        truths += len(boxes)
        easy_truths += int((~hard).sum())
        frames += 1
    return Looked(
        np.concatenate(scores), np.concatenate(correct), np.concatenate(easy), truths, easy_truths, frames
    )


def _batch(frame: av.VideoFrame, name: str) -> FrameBatch:
    image = frame.to_ndarray(format="rgb24")
    video = Video(name=name, uri=name, kind="video", width=frame.width, height=frame.height, fingerprint="")
    where = Segment(video, 0, 0.0)
    one = np.zeros(1)
    return FrameBatch(
        where, image[None], one, one.astype(np.int64), one.astype(np.int64), one.astype(np.int32)
    )


def calibration_error(scores: NDArray[Any], correct: NDArray[Any]) -> float:
    """Expected calibration error: mean over boxes of |share correct - mean score| of their tenth of scores.

    Source: Naeini et al., AAAI 2015, with equal bins; a box is correct at IoU 0.5. NaN without boxes.
    """
    if not len(scores):
        return math.nan
    at = np.minimum((scores * _BINS).astype(int), _BINS - 1)
    gaps = [
        (at == k).sum() * abs(float(correct[at == k].mean()) - float(scores[at == k].mean()))
        for k in np.unique(at)
    ]
    return float(sum(gaps)) / len(scores)


def figures(looked: Looked, threshold: float) -> dict[str, float]:
    """AP50 over all scores, without the hard boxes too; the rest at the working threshold.

    ``precision_at_60``: the best precision at a recall of 0.6 or more, at any threshold.
    """
    kept = looked.scores >= threshold
    hits = int(looked.correct[kept].sum())
    order = np.argsort(-looked.scores, kind="stable")
    found = np.cumsum(looked.correct[order])
    enough = found >= 0.6 * looked.truths
    precision = found / np.arange(1, len(found) + 1)
    return {
        "ap50": average_precision50(looked.scores, looked.correct, looked.truths),
        "ap50_easy": average_precision50(
            looked.scores[looked.easy], looked.correct[looked.easy], looked.easy_truths
        ),
        "recall": hits / looked.truths if looked.truths else math.nan,
        "precision": hits / int(kept.sum()) if kept.any() else math.nan,
        "precision_at_60": float(precision[enough].max()) if enough.any() else 0.0,
        "false_per_frame": (int(kept.sum()) - hits) / looked.frames,
        "calibration_error": calibration_error(looked.scores[kept], looked.correct[kept]),
    }
