"""Scores against labelled boxes. Every figure is a pure function with its definition in its docstring."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels import boxes as overlaps
from stream.errors import ConfigError
from stream.labels import LabelBox, Labels

Ints = NDArray[np.int64]

SCORED = ("ok", "empty")  # frame statuses that count; "credits" and "uncertain" are left out
_IOU = 0.5


def match_boxes(
    boxes: ArrayLike,
    scores: ArrayLike,
    truth: ArrayLike,
    *,
    iou: float = _IOU,
    ignored: ArrayLike | None = None,
) -> Ints:
    """(M,) the true box that each found box of one frame is, or -1.

    By falling score (then position), every found box takes the free true box it overlaps most, if by at
    least ``iou``; each true box is taken once. A box that finds none may take an ``ignored`` one.

    Args:
        boxes: (M, 4) xyxy. scores: (M,). truth: (T, 4) xyxy.
        ignored: (T,) bool, true boxes that neither count as missed nor make a found box wrong; any number
            of found boxes may take one.
    """
    overlap = overlaps.iou(np.asarray(boxes), np.asarray(truth))
    skip = np.zeros(overlap.shape[1], bool) if ignored is None else np.asarray(ignored, bool)
    free = ~skip
    taken = np.full(overlap.shape[0], -1, np.int64)
    if not overlap.shape[1]:
        return taken
    for m in np.argsort(-np.asarray(scores, np.float64), kind="stable"):
        for candidates in (free, skip):
            best = int(np.argmax(np.where(candidates, overlap[m], -1)))
            if candidates[best] and overlap[m, best] >= iou:
                taken[m] = best
                free[best] = False
                break
    return taken


def average_precision50(scores: ArrayLike, correct: ArrayLike, n_truth: int) -> float:
    """Area under the precision-recall curve of found boxes at IoU 0.5.

    Found boxes are taken by falling score over all frames; boxes of equal score come in together. Precision
    at a recall is the best precision at that recall or a higher one (every point is used, as in PASCAL VOC
    from 2010 on). NaN where there is no true box.

    Args:
        scores: (M,). correct: (M,) bool, whether a found box is a true one (:func:`match_boxes`).
        n_truth: true boxes in the scored frames.
    """
    if n_truth == 0:
        return math.nan
    s, hit = np.asarray(scores, np.float64), np.asarray(correct, bool)
    if not len(s):
        return 0.0
    order = np.argsort(-s, kind="stable")
    last_of_score = np.flatnonzero(np.diff(s[order], append=np.nan) != 0)
    true_found = np.cumsum(hit[order])[last_of_score]
    precision = true_found / (last_of_score + 1)
    recall = true_found / n_truth
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * best))


def recall50(correct: ArrayLike, n_truth: int) -> float:
    """Share of the true boxes that were found (IoU 0.5 or more). NaN where there is none."""
    return float(np.sum(np.asarray(correct, bool))) / n_truth if n_truth else math.nan


def precision50(correct: ArrayLike) -> float:
    """Share of the found boxes that are a true one (IoU 0.5 or more). NaN where nothing was found."""
    hits = np.asarray(correct, bool)
    return float(hits.mean()) if hits.size else math.nan


def _contingency(clusters: ArrayLike, identities: Sequence[str] | NDArray[Any]) -> Ints:
    """(clusters, identities) number of crops in each pair."""
    a = np.unique(np.asarray(clusters), return_inverse=True)[1].reshape(-1)
    b = np.unique(np.asarray(identities, dtype=str), return_inverse=True)[1].reshape(-1)
    if len(a) != len(b):
        raise ValueError(f"identities: expected {len(a)}, got {len(b)}")
    table = np.zeros((int(a.max(initial=-1)) + 1, int(b.max(initial=-1)) + 1), np.int64)
    np.add.at(table, (a, b), 1)
    return table


def purity(clusters: ArrayLike, identities: Sequence[str] | NDArray[Any]) -> float:
    """Share of the crops that have the most frequent identity of their cluster. NaN without crops.

    One cluster per crop has purity 1: quote it with :func:`compactness`.
    """
    table = _contingency(clusters, identities)
    return float(table.max(axis=1).sum() / table.sum()) if table.size else math.nan


def compactness(clusters: ArrayLike) -> float:
    """Number of clusters divided by number of crops; smaller is tidier. NaN without crops."""
    labels = np.asarray(clusters)
    return len(np.unique(labels)) / len(labels) if len(labels) else math.nan


def clusters_per_identity(clusters: ArrayLike, identities: Sequence[str] | NDArray[Any]) -> float:
    """Number of clusters divided by number of identities.

    As every cluster is the one identity's that most of its crops have, this is the mean number of clusters
    that an identity is split into. NaN without crops.
    """
    table = _contingency(clusters, identities)
    return table.shape[0] / table.shape[1] if table.size else math.nan


def ami(clusters: ArrayLike, identities: Sequence[str] | NDArray[Any]) -> float:
    """Adjusted mutual information (arithmetic mean, scikit-learn's): 1 same partition, 0 chance. NaN without
    crops."""
    from sklearn.metrics import adjusted_mutual_info_score

    labels = np.asarray(clusters)
    if not len(labels):
        return math.nan
    return float(adjusted_mutual_info_score(np.asarray(identities, dtype=str), labels))


@dataclass(frozen=True)
class Scores:
    """Scores of a run against labels. NaN (``null`` in JSON): there was nothing to measure it on.

    Attributes:
        n: true boxes in the scored frames (without ignored ones).
        recall50, precision50, ap50: of the detections in the scored frames.
        purity, compactness, clusters_per_identity, ami: of the clusters, over the ``matched`` crops: those
            that are a true box whose identity is known. Clusters without such a crop do not count.
        frames: labelled frames that were sampled and scored.
        frames_not_sampled: labelled frames that should count and that the run did not sample.
        found: detections in the scored frames.
        matched: crops the cluster scores are taken over.
        identities: distinct identities among them.
    """

    n: int
    recall50: float
    precision50: float
    ap50: float
    purity: float
    compactness: float
    clusters_per_identity: float
    ami: float
    frames: int
    frames_not_sampled: int
    found: int
    matched: int
    identities: int

    def as_json(self) -> dict[str, float | int | None]:
        """Flat, rounded to six digits, None for NaN."""
        return {
            key: value if isinstance(value, int) else None if math.isnan(value) else round(value, 6)
            for key, value in asdict(self).items()
        }

    def as_text(self) -> str:
        """Lines for a terminal."""

        def show(value: float) -> str:
            return "n/a" if math.isnan(value) else f"{value:.3f}"

        def counted(number: int, noun: str, plural: str) -> str:
            return f"{number} {noun if number == 1 else plural}"

        verb = "was" if self.frames_not_sampled == 1 else "were"
        missed = f", {self.frames_not_sampled} more {verb} not sampled" if self.frames_not_sampled else ""
        return "\n".join(
            (
                f"{counted(self.n, 'labelled box', 'labelled boxes')} in"
                f" {counted(self.frames, 'frame', 'frames')}{missed}",
                f"detection  recall {show(self.recall50)}  precision {show(self.precision50)}  "
                f"AP50 {show(self.ap50)}",
                f"clusters   purity {show(self.purity)} at compactness {show(self.compactness)}  "
                f"clusters per identity {show(self.clusters_per_identity)}  AMI {show(self.ami)}  "
                f"({counted(self.matched, 'crop', 'crops')} of"
                f" {counted(self.identities, 'identity', 'identities')})",
            )
        )


def sampled_frame(times: NDArray[np.float64], time_s: float, tolerance_s: float) -> int | None:
    """Position in ``times`` (ascending) of the frame a label at ``time_s`` means, None if not sampled.

    A label means the first frame with pts >= its time, so that frame begins at most one frame interval
    later; a sampled frame within ``tolerance_s`` after it is taken. (A millisecond before counts too:
    label files round.)
    """
    k = int(np.searchsorted(times, time_s - 1e-3))
    return k if k < len(times) and times[k] <= time_s + tolerance_s else None


def _tolerance(frame_rate: float | None) -> float:
    # just under one interval: the frame after the labelled one is not it; 0.03 s fits 24 to 30 frames/s
    return 1 / frame_rate - 2e-3 if frame_rate and math.isfinite(frame_rate) and frame_rate < 300 else 0.03


def assign_identities(
    labels: Labels,
    videos: Sequence[str] | NDArray[Any],
    times: NDArray[np.float64],
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    frame_times: Mapping[str, NDArray[np.float64]],
    *,
    frame_sizes: Mapping[str, tuple[int, int]] | None = None,
    frame_rates: Mapping[str, float | None] | None = None,
    ignore_flags: Sequence[str] = (),
) -> tuple[list[LabelBox | None], NDArray[np.bool_], list[tuple[LabelBox, ...]], int]:
    """Which labelled box every crop is. Arguments as in :func:`evaluate`.

    Returns:
        The labelled box of each of the M crops or None; (M,) bool, whether the crop lies in a scored frame;
        the labelled boxes of every scored frame; the number of labelled frames that were not sampled.
    """
    videos = np.asarray(videos, dtype=object)
    wanted = {(f.video_file, f.time_s) for f in labels.frames if f.status in SCORED}
    left_out = {(f.video_file, f.time_s) for f in labels.frames if f.status not in SCORED}
    of_frame: dict[tuple[str, float], list[LabelBox]] = {key: [] for key in sorted(wanted)}
    for box in labels.boxes:
        key = (box.video_file, box.time_s)
        if key not in left_out:
            of_frame.setdefault(key, []).append(box)
    taken: list[LabelBox | None] = [None] * len(videos)
    scored = np.zeros(len(videos), bool)
    frames: list[tuple[LabelBox, ...]] = []
    missing = 0
    sampled = {video: np.unique(np.asarray(t, np.float64)) for video, t in frame_times.items()}
    used: set[tuple[str, int]] = set()
    for (video, time_s), truth in of_frame.items():
        grid = sampled.get(video, np.empty(0))
        k = sampled_frame(grid, time_s, _tolerance((frame_rates or {}).get(video)))
        if k is None or (video, k) in used:
            missing += 1
            continue
        used.add((video, k))
        frames.append(tuple(truth))
        here = np.flatnonzero((videos == video) & (np.abs(times - grid[k]) < 1e-4))
        scored[here] = True
        size = (frame_sizes or {}).get(video)
        corners = np.array([b.scaled(*size) if size else b.box for b in truth], np.float32).reshape(-1, 4)
        ignored = [any(flag in ignore_flags for flag in b.flags) for b in truth]
        for crop, t in zip(
            here, match_boxes(boxes[here], scores[here], corners, ignored=ignored), strict=True
        ):
            taken[crop] = truth[t] if t >= 0 else None
    return taken, scored, frames, missing


def evaluate(
    labels: Labels,
    videos: Sequence[str] | NDArray[Any],
    times: NDArray[np.float64],
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    frame_times: Mapping[str, NDArray[np.float64]],
    *,
    classes: Sequence[str] | NDArray[Any] | None = None,
    clusters: NDArray[Any] | None = None,
    frame_sizes: Mapping[str, tuple[int, int]] | None = None,
    frame_rates: Mapping[str, float | None] | None = None,
    skip_classes: Sequence[str] = ("face",),
    ignore_flags: Sequence[str] = (),
) -> Scores:
    """Score M crops against labelled boxes.

    A labelled frame is scored where the run sampled it (:func:`sampled_frame`); other labelled frames are
    only counted. Frames of status ``credits`` or ``uncertain`` are left out; ``empty`` ones count for the
    precision. Boxes flagged ``identity_uncertain`` count as boxes, and not for the cluster scores.

    Args:
        labels: boxes and frame statuses.
        videos: (M,) names of the files as the labels have them ("film.mp4").
        times: (M,) seconds. boxes: (M, 4) xyxy pixels. scores: (M,).
        frame_times: per video, the times of all frames that were sampled, held ones too, with crops or not.
        classes: (M,) class names; those in ``skip_classes`` are left out.
        clusters: (M,) cluster of every crop, -1 for none; None leaves the cluster scores NaN.
        frame_sizes: per video, (width, height) of the frames that ``boxes`` are in; labels are scaled to it.
        frame_rates: per video, frames per second, to tell the labelled frame from the one after it.
        ignore_flags: labelled boxes with one of these flags are neither missed nor wrong to find.

    Raises:
        ConfigError: no labelled frame was sampled.
        ValueError: arrays of unlike lengths.
    """
    m = len(videos)
    columns: dict[str, Any] = {"times": times, "boxes": boxes, "scores": scores}
    columns |= {"classes": classes, "clusters": clusters}
    for name, column in columns.items():
        if column is not None and len(column) != m:
            raise ValueError(f"{name}: expected {m} rows, got {len(column)}")
    keep = np.ones(m, bool)
    if classes is not None:
        keep = ~np.isin(np.asarray(classes, dtype=str), list(skip_classes))
    videos = np.asarray(videos, dtype=object)[keep]
    times, boxes, scores = np.asarray(times)[keep], np.asarray(boxes)[keep], np.asarray(scores)[keep]
    taken, scored, frames, missing = assign_identities(
        labels,
        videos,
        times,
        boxes,
        scores,
        frame_times,
        frame_sizes=frame_sizes,
        frame_rates=frame_rates,
        ignore_flags=ignore_flags,
    )
    if not frames:
        raise ConfigError(
            f"labels: none of the {missing} labelled frames was sampled; they are of "
            f"{', '.join(labels.video_files()) or 'no video'}, the run is of "
            f"{', '.join(sorted(frame_times)) or 'no video'}; run on the labelled video, with an interval "
            "that hits the labelled times"
        )

    def ignored(box: LabelBox | None) -> bool:
        return box is not None and any(flag in ignore_flags for flag in box.flags)

    n_truth = sum(not ignored(box) for frame in frames for box in frame)
    counted = scored & ~np.array([ignored(box) for box in taken], bool).reshape(-1)
    correct = np.array([box is not None for box in taken], bool).reshape(-1)[counted]
    own: list[Any] = []
    names: list[str] = []
    if clusters is not None:
        for cluster, box in zip(np.asarray(clusters)[keep].tolist(), taken, strict=True):
            known = box is not None and box.identity and "identity_uncertain" not in box.flags
            if box is not None and known and cluster >= 0:
                own.append(cluster)
                names.append(box.identity)
    return Scores(
        n=n_truth,
        recall50=recall50(correct, n_truth),
        precision50=precision50(correct),
        ap50=average_precision50(scores[counted], correct, n_truth),
        purity=purity(own, names),
        compactness=compactness(own),
        clusters_per_identity=clusters_per_identity(own, names),
        ami=ami(own, names),
        frames=len(frames),
        frames_not_sampled=missing,
        found=int(counted.sum()),
        matched=len(own),
        identities=len(set(names)),
    )
