"""Pictures of what moves in a film, without any label: for training that needs no names.

A shot is cut at changes, its camera's shift is measured by phase correlation, and what differs from the
shifted neighbours (or, where the camera stands still, from the shot's median picture) is a body. Bodies that
overlap from frame to frame are one track. A few still regions are kept, too, so that the network has seen
what a wrong detection looks like.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from engines.train.views import BOX, STORED

RATE = 4.0  # frames looked at per second of film
HEIGHT = 360  # frames are reduced to this height
CHUNK = 32  # frames of one shot looked at together
CUT = 26.0  # mean change of a 80x45 grey picture (0..255) that counts as a cut
CHANGE = 22  # change (0..255) that counts as motion
PER_TRACK = 6  # pictures kept of a track


@dataclass
class FilmPicture:
    """One stored picture: RGBA (96, 96, 4), its box in it, its track, and the frame it was seen in."""

    rgba: np.ndarray
    box: np.ndarray
    track: int
    frame: int


def frames(path: Path, rate: float = RATE) -> Iterator[np.ndarray]:
    """Frames of a film at about ``rate`` per second, (H, W, 3) uint8, at most 360 high."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        due = 0.0
        start: float | None = None
        for frame in container.decode(stream):
            if frame.pts is None or frame.time is None:
                continue
            start = frame.time if start is None else start
            if frame.time - start < due:
                continue
            due = frame.time - start + 1 / rate - 1e-3
            height = min(HEIGHT, frame.height)
            width = round(frame.width * height / frame.height / 2) * 2
            yield frame.reformat(width, height, "rgb24").to_ndarray()


def shots(pictures: Iterator[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Runs of frames without a cut, at most 32 long."""
    run: list[np.ndarray] = []
    last: np.ndarray | None = None
    for picture in pictures:
        small = _grey(picture)[::8, ::8].astype(np.float32)
        if run and (len(run) >= CHUNK or last is None or np.abs(small - last).mean() > CUT):
            yield run
            run = []
        run.append(picture)
        last = small
    if run:
        yield run


def _grey(picture: np.ndarray) -> np.ndarray:
    return picture @ np.array([0.299, 0.587, 0.114], np.float32)


def _shift(first: np.ndarray, second: np.ndarray) -> tuple[int, int]:
    """Whole-pixel (dy, dx) with ``second(y + dy, x + dx) = first(y, x)``, by phase correlation."""
    window = np.outer(np.hanning(first.shape[0]), np.hanning(first.shape[1]))
    a, b = np.fft.rfft2(first * window), np.fft.rfft2(second * window)
    cross = b * np.conj(a)
    peak = np.fft.irfft2(cross / (np.abs(cross) + 1e-6), first.shape)
    dy, dx = np.unravel_index(int(peak.argmax()), peak.shape)
    h, w = first.shape
    return int((dy + h // 2) % h - h // 2), int((dx + w // 2) % w - w // 2)


def _bodies(mask: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Connected moving regions of a mask at quarter size: boxes (xyxy, quarter pixels) and their masks."""
    mask = ndimage.binary_opening(mask, iterations=1)
    mask = ndimage.binary_fill_holes(ndimage.binary_closing(mask, np.ones((5, 5))))
    labels, _ = ndimage.label(mask)
    h, w = mask.shape
    found = []
    for i, where in enumerate(ndimage.find_objects(labels)):
        down, across = where
        box = np.array([across.start, down.start, across.stop, down.stop], np.float32)
        size = box[2:] - box[:2]
        body = labels == i + 1
        if size.min() >= 7 and 0.008 < body.sum() / (h * w) < 0.6 and body[where].mean() > 0.3:
            found.append((box, body))
    return found


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    size = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if size.min() <= 0:
        return 0.0
    inter = float(size.prod())
    return inter / float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inter)


def cut(picture: np.ndarray, alpha: np.ndarray | None, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A box with its surroundings as a stored picture (96, 96, 4), and the box in it.

    ``alpha`` (H, W) in 0..1 is the body; None takes all. Outside the frame the picture is grey.
    """
    size = float((box[2:] - box[:2]).max())
    side = size * STORED / BOX
    centre = (box[:2] + box[2:]) / 2
    corner = centre - side / 2
    window = (*corner, *(corner + side))
    image = Image.fromarray(picture).transform(
        (round(side), round(side)),
        Image.Transform.EXTENT,
        window,
        Image.Resampling.BILINEAR,
        fillcolor=(114,) * 3,
    )
    image = image.resize(
        (STORED, STORED), Image.Resampling.BOX if side > STORED else Image.Resampling.BILINEAR
    )
    if alpha is None:
        cover = np.full((STORED, STORED), 255, np.uint8)
    else:
        mask = Image.fromarray((alpha * 255).astype(np.uint8)).transform(
            (STORED, STORED), Image.Transform.EXTENT, window, Image.Resampling.BILINEAR
        )
        cover = np.asarray(mask)
    rgba = np.dstack([np.asarray(image), cover])
    scale = STORED / side
    return rgba, ((box - np.tile(corner, 2)) * scale).astype(np.float32)


def moving(run: list[np.ndarray]) -> list[list[tuple[np.ndarray, np.ndarray | None]]]:
    """For each frame of a shot its bodies: (box in pixels, alpha (H, W) or None)."""
    quarter = [ndimage.uniform_filter(_grey(p), 4)[2::4, 2::4] for p in run]
    shifts = [_shift(a, b) for a, b in itertools.pairwise(quarter)]
    still = len(run) >= 8 and np.abs(np.cumsum(shifts, 0)).max() <= 1
    found: list[list[tuple[np.ndarray, np.ndarray | None]]] = []
    if still:
        small = np.stack(
            [
                np.stack(
                    [ndimage.uniform_filter(p[..., c].astype(np.float32), 4)[2::4, 2::4] for c in range(3)],
                    -1,
                )
                for p in run
            ]
        )
        ground = np.median(small, 0)
        for picture, reduced in zip(run, small, strict=True):
            bodies = _bodies(np.abs(reduced - ground).max(-1) > CHANGE)
            h, w = picture.shape[:2]
            entry: list[tuple[np.ndarray, np.ndarray | None]] = []
            for box, body in bodies:
                soft = ndimage.gaussian_filter(body.astype(np.float32), 0.7)
                alpha = ndimage.zoom(soft, (h / soft.shape[0], w / soft.shape[1]), order=1).clip(0, 1)
                entry.append((box * 4, alpha))
            found.append(entry)
        return found
    for i, here in enumerate(quarter):
        changes = []
        for j, sign in ((i - 1, -1), (i + 1, 1)):
            if 0 <= j < len(quarter):
                dy, dx = shifts[min(i, j)]
                moved = ndimage.shift(quarter[j], (-sign * dy, -sign * dx), order=0, mode="nearest")
                changes.append(np.abs(moved - here))
        change = np.minimum.reduce(changes) if changes else np.zeros_like(here)
        found.append([(box * 4, None) for box, _ in _bodies(change > CHANGE * 0.6)])
    return found


def pictures(
    path: Path, rng: np.random.Generator, first_track: int, first_frame: int, places: list[np.ndarray]
) -> list[FilmPicture]:
    """All stored pictures of one film; tracks and frames are numbered from the given numbers.

    Random squares (96, 96, 3) of its frames are appended to ``places``.
    """
    out: list[FilmPicture] = []
    track, number = first_track, first_frame
    for run in shots(frames(path)):
        if len(run) < 3 or np.mean([p.mean() for p in run]) < 12:
            continue
        open_tracks: list[dict[str, Any]] = []
        done: list[dict[str, Any]] = []
        for i, bodies in enumerate(moving(run)):
            left = list(bodies)
            still_open = []
            for item in open_tracks:
                best = max(left, key=lambda b: _iou(b[0], item["box"]), default=None)
                if best is not None and _iou(best[0], item["box"]) > 0.3:
                    left = [b for b in left if b is not best]
                    item["seen"].append((i, *best))
                    item["box"] = best[0]
                    still_open.append(item)
                else:
                    done.append(item)
            open_tracks = still_open + [{"box": b[0], "seen": [(i, *b)]} for b in left]
        for item in done + open_tracks:
            if len(item["seen"]) < 2:
                continue
            picks = np.unique(np.linspace(0, len(item["seen"]) - 1, PER_TRACK).round().astype(int))
            for k in picks:
                i, box, alpha = item["seen"][k]
                out.append(FilmPicture(*cut(run[i], alpha, box), track, number + i))
            track += 1
        h, w = run[0].shape[:2]
        for _ in range(len(run) // 12 + 1):  # still regions
            side = rng.uniform(0.15, 0.6) * h
            x, y = rng.uniform(0, w - side), rng.uniform(0, h - side)
            box = np.array([x, y, x + side * rng.uniform(0.5, 1), y + side], np.float32)
            square = (x, y, x + side, y + side)
            where = Image.fromarray(run[0]).resize((STORED, STORED), Image.Resampling.BILINEAR, square)
            places.append(np.asarray(where))
            for i in rng.choice(len(run), 2, replace=False):
                out.append(FilmPicture(*cut(run[i], None, box), track, -1))
            track += 1
        number += len(run)
    return out
