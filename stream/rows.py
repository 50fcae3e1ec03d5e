"""One segment's results in memory: the frames that were looked at, and the crops that were found in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stream.batches import Array, CropBatch, FrameBatch, _check, _ShapeRepr


@dataclass(frozen=True, repr=False)
class FrameTable(_ShapeRepr):
    """Frames that were looked at, in time order, whether or not anything was found in them.

    ``numbers`` and ``shots`` count within a segment, as in :class:`stream.batches.FrameBatch`.
    """

    times: Array = field(default_factory=lambda: np.empty(0, np.float64))  # (K,) float64 seconds
    indices: Array = field(default_factory=lambda: np.empty(0, np.int64))  # (K,) int64
    numbers: Array = field(default_factory=lambda: np.empty(0, np.int64))  # (K,) int64 picture shown
    shots: Array = field(default_factory=lambda: np.empty(0, np.int32))  # (K,) int32, -1: not known yet
    held: Array = field(default_factory=lambda: np.empty(0, np.bool_))  # (K,) bool, shows an earlier picture

    def __post_init__(self) -> None:
        _check(self, "times", ("K",), np.float64)
        k = self.times.shape[0]
        _check(self, "indices", (k,), np.int64)
        _check(self, "numbers", (k,), np.int64)
        _check(self, "shots", (k,), np.int32)
        _check(self, "held", (k,), np.bool_)

    def __len__(self) -> int:
        return int(self.times.shape[0])

    @classmethod
    def of(cls, batch: FrameBatch) -> FrameTable:
        """The frames of a batch, its pixels not kept. A held frame's shot is settled by :meth:`join`."""
        held = batch.held
        return cls(
            times=np.concatenate([_host(batch.times), _host(held.times)]),
            indices=np.concatenate([_host(batch.indices), _host(held.indices)]),
            numbers=np.concatenate([_host(batch.numbers), _host(held.of)]),
            shots=np.concatenate([_host(batch.shots), np.full(len(held), -1, np.int32)]),
            held=np.repeat([False, True], [len(batch), len(held)]),
        )

    @classmethod
    def join(cls, tables: Iterable[FrameTable]) -> FrameTable:
        """One segment's tables as one, in time order, held frames in the shot of their picture."""
        joined = cls.concatenate(tables)
        order = np.lexsort((joined.indices, joined.times))
        shot_of = dict(zip(joined.numbers[~joined.held], joined.shots[~joined.held], strict=True))
        shots = [shot_of.get(number, -1) for number in joined.numbers[order]]
        values = {f.name: getattr(joined, f.name)[order] for f in dataclasses.fields(cls)}
        return cls(**{**values, "shots": np.array(shots, np.int32)})

    @classmethod
    def concatenate(cls, tables: Iterable[FrameTable]) -> FrameTable:
        """Tables one after the other, as they are."""
        parts = [cls(), *tables]
        return cls(
            **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(cls)}
        )


@dataclass(frozen=True, repr=False)
class SegmentRows(_ShapeRepr):
    """Every crop of one segment, ordered by time. ``M`` may be 0; ``embeddings`` tells ``D`` even then."""

    times: Array  # (M,) float64 seconds
    indices: Array  # (M,) int64
    numbers: Array  # (M,) int64
    shots: Array  # (M,) int32
    held: Array  # (M,) bool
    boxes: Array  # (M, 4) float32
    scores: Array  # (M,) float32
    classes: tuple[str, ...]  # M names
    tracks: Array  # (M,) int64, -1: none
    sharpness: Array  # (M,) float32
    jpegs: tuple[bytes, ...]  # M pictures
    embeddings: Array  # (M, D) float32, L2-normalized

    def __post_init__(self) -> None:
        _check(self, "times", ("M",), np.float64)
        m = self.times.shape[0]
        _check(self, "indices", (m,), np.int64)
        _check(self, "numbers", (m,), np.int64)
        _check(self, "shots", (m,), np.int32)
        _check(self, "held", (m,), np.bool_)
        _check(self, "boxes", (m, 4), np.float32)
        _check(self, "scores", (m,), np.float32)
        _check(self, "tracks", (m,), np.int64)
        _check(self, "sharpness", (m,), np.float32)
        _check(self, "embeddings", (m, "D"), np.float32)
        if m and not self.embeddings.shape[1]:
            raise ValueError("SegmentRows.embeddings: expected at least one number for each crop, got none")
        if len(self.jpegs) != m or len(self.classes) != m:
            raise ValueError(
                f"SegmentRows: expected {m} jpegs and classes, got {len(self.jpegs)} and {len(self.classes)}"
            )

    def __len__(self) -> int:
        return int(self.times.shape[0])

    @classmethod
    def empty(cls, embedding_size: int) -> SegmentRows:
        """No crop at all. The embedding's size keeps the columns of all files alike."""
        return cls.from_batches([], embedding_size)

    @classmethod
    def from_batches(cls, batches: Sequence[CropBatch], embedding_size: int) -> SegmentRows:
        """Join one segment's embedded crops, and repeat the rows of pictures that held frames show again.

        Rows are ordered by time, then as detected. Tracks are -1: see :meth:`with_tracks`.

        Args:
            batches: in any order; ``embeddings`` must be there where there are crops.
            embedding_size: D.
        """
        filled = [b for b in batches if len(b)]
        if any(b.embeddings is None for b in filled):
            raise ValueError("SegmentRows: expected crops with embeddings, got a batch without")

        def joined(name: str, dtype: type[np.generic], *tail: int) -> Array:
            return np.concatenate([np.empty((0, *tail), dtype), *(_host(getattr(b, name)) for b in filled)])

        numbers = joined("numbers", np.int64)
        rows_of: dict[int, list[int]] = {}
        for row, number in enumerate(numbers.tolist()):
            rows_of.setdefault(number, []).append(row)
        again = [  # (row, time, index) of every repeated row
            (row, time, index)
            for b in batches
            for number, time, index in zip(
                *map(_list, (b.held.of, b.held.times, b.held.indices)), strict=True
            )
            for row in rows_of.get(number, ())
        ]
        pick = np.array([*range(len(numbers)), *(row for row, _, _ in again)], np.int64)
        times = np.concatenate([joined("times", np.float64), np.array([t for _, t, _ in again], np.float64)])
        indices = np.concatenate([joined("indices", np.int64), np.array([i for _, _, i in again], np.int64)])
        held = np.arange(len(pick)) >= len(numbers)
        order = np.lexsort((np.arange(len(pick)), indices, times))
        pick = pick[order]
        classes = [name for b in filled for name in b.classes]
        jpegs = [picture for b in filled for picture in b.jpegs]
        return cls(
            times=times[order],
            indices=indices[order],
            numbers=numbers[pick],
            shots=joined("shots", np.int32)[pick],
            held=held[order],
            boxes=joined("boxes", np.float32, 4)[pick],
            scores=joined("scores", np.float32)[pick],
            classes=tuple(classes[row] for row in pick),
            tracks=np.full(len(pick), -1, np.int64),
            sharpness=joined("sharpness", np.float32)[pick],
            jpegs=tuple(jpegs[row] for row in pick),
            embeddings=joined("embeddings", np.float32, embedding_size)[pick],
        )

    def with_tracks(self, tracks: Array) -> SegmentRows:
        """The same rows with the track each belongs to: (M,) int64, -1 for none."""
        return dataclasses.replace(self, tracks=tracks)


def _host(array: Array) -> Array:
    return array.get() if hasattr(array, "get") else array


def _list(array: Array) -> list[Any]:
    return list(array.tolist())
