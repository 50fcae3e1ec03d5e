"""Short windows of frames out of as many places of a show as there is time for."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image

from engines.train.films import HEIGHT, WIDTH, fitting, shots
from stream.batches import Array, Segment, Video
from stream.config import Config
from stream.decode import decode_segment

FRAMES = 11  # of a window
PER_SECOND = 4.0
LENGTH_S = FRAMES / PER_SECOND
_CLOSEST_S = 0.75  # from which on the middles of two windows show something else
_HELD = 5  # one run of windows in so many is held out
_RUN = 2  # windows in a run, at least


def places(videos: Sequence[Video], count: int, seed: int) -> list[tuple[int, float]]:
    """Number of a video and start in seconds of up to ``count`` windows, evenly over all videos, in order.

    A short show has fewer, which overlap: each is for its middle frame, and those lie 0.75 s apart, give
    or take half of that. Of more videos than ``count`` as many are chosen, evenly. Videos of unknown length,
    and those shorter than a window, are left out.
    """
    lengths = np.array([video.duration_s or 0.0 if video.kind == "video" else 0.0 for video in videos])
    span = lengths - LENGTH_S
    room = np.where(span >= 0, np.maximum(1, np.floor(span / _CLOSEST_S)), 0)
    if not room.sum():
        return []
    able = np.flatnonzero(room)
    if len(able) > count:
        left_out = np.setdiff1d(able, able[np.linspace(0, len(able) - 1, count).round().astype(int)])
        room[left_out] = 0
    share = np.minimum(np.maximum(1, np.round(count * lengths / lengths.sum())), room).astype(int)
    for _ in range(share.sum() - count):  # every video has one, so some may have to give
        share[share.argmax()] -= 1
    rng = np.random.default_rng([seed, 0x5709])
    out = []
    for number, windows in enumerate(share):
        starts = (np.arange(windows) + 0.25 + 0.5 * rng.random(windows)) * span[number] / max(1, windows)
        out += [(number, start) for start in starts.tolist()]
    return out


def parted(where: Sequence[tuple[int, float]]) -> tuple[list[int], list[int]]:
    """Positions in ``where`` that are learned from, and those held out: about a fifth, in runs of windows.

    What overlaps a window held out is left out of both; where windows overlap much, runs are longer, or
    little would be left.
    """
    run = _RUN * max(1, _overlapping(where))
    held = [i for i in range(len(where)) if i // run % _HELD == _HELD // 2]
    spans = [where[i] for i in held]
    learned = [
        i
        for i, (video, start) in enumerate(where)
        if not any(video == other and abs(start - at) < LENGTH_S for other, at in spans)
    ]
    return learned, held


def _overlapping(where: Sequence[tuple[int, float]]) -> int:
    """How many windows begin within the length of one, typically."""
    gaps = [b - a for (one, a), (other, b) in pairwise(where) if one == other]
    return math.ceil(LENGTH_S / max(_CLOSEST_S, float(np.median(gaps)))) if gaps else 1


def window(video: Video, start_s: float) -> Array | None:
    """The frames of a window that are of one shot, uint8 (N, H, W, 3) shrunk to fit 416x256.

    None where the video gives none there. Raises SourceError where it cannot be read.
    """
    config = Config(interval=1 / PER_SECOND, held=0.0, batch_size=FRAMES, threads=1)
    start_s = round(start_s * PER_SECOND) / PER_SECOND
    segment = Segment(video, 0, start_s, start_s + LENGTH_S - 1e-3)
    frames = []
    with contextlib.closing(decode_segment(segment, config)) as batches:
        for batch in batches:
            frames += [_shrunk(image) for image in batch.images]
    if not frames:
        return None
    longest: list[Array] = max(shots(iter(frames)), key=len)
    return np.stack(longest)


def _shrunk(image: Array) -> Array:
    size = fitting(image.shape[1], image.shape[0], WIDTH, HEIGHT)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
