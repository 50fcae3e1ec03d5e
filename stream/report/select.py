"""Which crops stand for a cluster, when it was on screen, and which clusters look alike. NumPy only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from stream.batches import Array
from stream.report.data import Span

# a sampled frame stands for the time until the next one, but for no more than this many usual steps
_LONGEST_STEP = 3.0


def spread(times: Array, quality: Array, count: int, always: Sequence[int] = ()) -> list[int]:
    """Positions of at most ``count`` items that cover the time evenly, the best of each part, in time order.

    Args:
        times: (M,) sortable; equal parts hold equally many items, not equally many seconds.
        quality: (M,) larger is better.
        count: parts. Raising it shows more pictures.
        always: positions that are taken for the part they are in.
    """
    order = np.argsort(times, kind="stable")
    forced = set(always)
    chosen = []
    for part in np.array_split(order, max(1, min(count, len(order)))):
        if not len(part):
            continue
        kept = [int(i) for i in part if int(i) in forced]
        chosen += kept[:1] or [int(part[np.argmax(quality[part])])]
    return chosen


def frame_steps(times: Array) -> Array:
    """(K,) seconds that each sampled frame of one video stands for; ``times`` (K,) ascending.

    The time to the next frame, but at most three times the median step, so that a hole in a damaged file is
    not on screen time. The last frame stands for a median step; a single one for a second.
    """
    if len(times) < 2:
        return np.ones(len(times))
    steps = np.diff(times)
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0
    return np.minimum(np.append(steps, usual), _LONGEST_STEP * usual)


def spans(seen: Array, times: Array, steps: Array, video: int) -> list[Span]:
    """Merge sampled frames into stretches.

    Args:
        seen: (S,) ascending distinct positions in ``times`` at which the character was seen.
        times: (K,) seconds of the video's sampled frames.
        steps: (K,) from :func:`frame_steps`.
        video: copied into each span.
    """
    if not len(seen):
        return []
    runs = np.split(seen, np.flatnonzero(np.diff(seen) > 1) + 1)
    return [Span(video, float(times[run[0]]), float(times[run[-1]] + steps[run[-1]])) for run in runs]


def coarser(groups: Sequence[Sequence[Span]], most: int) -> list[list[Span]]:
    """Close the smallest gaps, everywhere alike, until at most ``most`` spans are left (or one per video)."""
    kept = [list(group) for group in groups]
    gap = 1.0
    while sum(map(len, kept)) > most and gap < 1e9:
        kept = [_closed(group, gap) for group in kept]
        gap *= 2
    return kept


def _closed(group: Iterable[Span], gap: float) -> list[Span]:
    closed: list[Span] = []
    for span in group:
        if closed and closed[-1].video == span.video and span.start_s - closed[-1].end_s <= gap:
            closed[-1] = Span(span.video, closed[-1].start_s, max(span.end_s, closed[-1].end_s))
        else:
            closed.append(span)
    return closed


def alike(centres: Array) -> Array:
    """(C, C) cosine between mean embeddings ``centres`` (C, D) of any length; the diagonal is -2."""
    norms = np.linalg.norm(centres, axis=1, keepdims=True)
    unit = centres / np.where(norms > 0, norms, 1)
    cosine = np.clip(unit @ unit.T, -1, 1)
    np.fill_diagonal(cosine, -2)
    return cosine


def together(frames: Sequence[Array]) -> Array:
    """(C, C) int64: in how many frames two clusters are both seen. ``frames``: C ascending arrays of ids."""
    count = len(frames)
    shared = np.zeros((count, count), np.int64)
    for a in range(count):
        for b in range(a + 1, count):
            both = len(np.intersect1d(frames[a], frames[b], assume_unique=True))
            shared[a, b] = shared[b, a] = both
    return shared
