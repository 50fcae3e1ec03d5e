"""Tracklets: crops of one character in neighbouring sampled frames of one shot.

A track that mixes two characters spoils a cluster, a track cut in two costs next to nothing. So joins are
conservative. Frames are about a second apart, characters move on and poses change: appearance decides, and
position lowers the bar for appearance where a box has hardly moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kernels.boxes import iou
from stream.config import TrackConfig

if TYPE_CHECKING:
    from stream.rows import SegmentRows

# How far below ``min_similarity`` appearance may fall where the boxes overlap fully.
_POSITION_BONUS = 0.15
# A box this many times larger than the last one of the track is another thing (or another shot missed).
_MAX_AREA_RATIO = 6.0


def _scores(
    embeddings: NDArray[Any],
    boxes: NDArray[Any],
    means: NDArray[Any],
    last_embeddings: NDArray[Any],
    last_boxes: NDArray[Any],
    config: TrackConfig,
) -> NDArray[np.float32]:
    """(A, B) how well box a continues track b; -inf where it must not.

    Appearance is the smaller of the cosines to the track's last crop and to its mean, so that a track does
    not wander off step by step.
    """
    overlap = iou(boxes, last_boxes)
    appearance = np.minimum(embeddings @ means.T, embeddings @ last_embeddings.T)
    bar = np.full_like(overlap, config.min_similarity)
    near = overlap >= config.min_iou
    bar[near] -= _POSITION_BONUS * overlap[near]
    area = [np.prod(np.clip(x[:, 2:] - x[:, :2], 1e-3, None), axis=1) for x in (boxes, last_boxes)]
    ratio = np.maximum(area[0][:, None] / area[1][None, :], area[1][None, :] / area[0][:, None])
    allowed = (appearance >= bar) & (ratio <= _MAX_AREA_RATIO)
    scores: NDArray[np.float32] = np.where(allowed, appearance + 0.3 * overlap, -np.inf).astype(np.float32)
    return scores


def link_tracks(
    numbers: NDArray[np.int64],
    times: NDArray[np.float64],
    shots: NDArray[np.integer[Any]],
    boxes: NDArray[np.float32],
    embeddings: NDArray[np.float32],
    config: TrackConfig,
) -> NDArray[np.int64]:
    """Track ids of one segment's crops, counted from 0 in order of first appearance.

    Frame by frame, the boxes and the tracks seen within ``max_gap_s`` of the same shot are matched one to
    one (Hungarian) so that the sum of appearance (cosine) and 0.3 x IoU is largest; pairs below
    ``min_similarity`` are never joined (a box that overlaps its last place by ``min_iou`` may be up to
    0.15 below). A track has at most one box per frame. Deterministic; the crops may come in any order.

    Args:
        numbers: (M,) int64, the distinct picture a crop comes from: boxes of one number are one frame's.
        times: (M,) float64 seconds. shots: (M,) integers, tracks end at a change.
        boxes: (M, 4) float32 xyxy pixels. embeddings: (M, D) float32, L2-normalized.
        config: ``max_gap_s``, ``min_iou``, ``min_similarity``.

    Returns:
        (M,) int64.

    Raises:
        ValueError: arrays of unlike lengths.
    """
    from scipy.optimize import linear_sum_assignment

    m = len(numbers)
    for name, array in (("times", times), ("shots", shots), ("boxes", boxes), ("embeddings", embeddings)):
        if len(array) != m:
            raise ValueError(f"{name}: expected {m} rows, got {len(array)}")
    tracks = np.full(m, -1, np.int64)
    if not m:
        return tracks
    numbers, boxes = np.asarray(numbers), np.asarray(boxes, np.float32)
    embeddings = np.asarray(embeddings, np.float32)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    embeddings = embeddings / np.maximum(lengths, 1e-12)
    count = 0
    open_tracks: list[int] = []
    last: dict[int, int] = {}  # track -> its latest crop
    sums: dict[int, NDArray[np.float32]] = {}
    shot: int | None = None
    order = np.lexsort((np.arange(m), numbers, times))
    starts = np.flatnonzero(np.diff(numbers[order], prepend=numbers[order[0]] - 1))
    for frame in np.split(order, starts[1:]):
        now = float(times[frame[0]])
        if shot is None or int(shots[frame[0]]) != shot:
            shot, open_tracks = int(shots[frame[0]]), []
        open_tracks = [t for t in open_tracks if now - float(times[last[t]]) <= config.max_gap_s]
        if open_tracks:
            before = np.array([last[t] for t in open_tracks])
            means = np.stack([sums[t] / max(float(np.linalg.norm(sums[t])), 1e-12) for t in open_tracks])
            scores = _scores(
                embeddings[frame], boxes[frame], means, embeddings[before], boxes[before], config
            )
            rows, columns = linear_sum_assignment(np.where(np.isfinite(scores), -scores, 4.0))
            for i, j in zip(rows, columns, strict=True):
                if np.isfinite(scores[i, j]):
                    tracks[frame[i]] = open_tracks[j]
        for crop in frame:
            if tracks[crop] < 0:
                tracks[crop] = count
                open_tracks.append(count)
                sums[count] = np.zeros(embeddings.shape[1], np.float32)
                count += 1
            track = int(tracks[crop])
            last[track] = int(crop)
            sums[track] = sums[track] + embeddings[crop]
    return tracks


def tracks_of(rows: SegmentRows, config: TrackConfig) -> NDArray[np.int64]:
    """Tracks over the pictures that were looked at; a held row is in the track of the row it repeats."""
    tracks = np.full(len(rows), -1, np.int64)
    fresh = ~rows.held
    tracks[fresh] = link_tracks(
        rows.numbers[fresh],
        rows.times[fresh],
        rows.shots[fresh],
        rows.boxes[fresh],
        rows.embeddings[fresh],
        config,
    )
    keys = [(int(number), box.tobytes()) for number, box in zip(rows.numbers, rows.boxes, strict=True)]
    track_of = {key: track for key, track, first in zip(keys, tracks, fresh, strict=True) if first}
    return np.array([track_of[key] for key in keys], np.int64)
