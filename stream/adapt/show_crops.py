"""The crops of a work folder as adaptation takes them: squares, tracks, and pairs that are different."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from kernels.image import Fit, crop_square
from stream.batches import Array
from stream.rivals import _COVERED, covered
from stream.tables import CropTable
from stream.workdir import WorkFolder

_PORTION = 512  # pictures read at once


@dataclass(frozen=True)
class Pictures:
    """The distinct pictures among the rows of a crop table: a held frame repeats those of an earlier one.

    ``rows`` (N,) int64 is the first row of each picture, ``of_row`` (M,) int64 the picture of every row.
    """

    rows: Array
    of_row: Array

    def __len__(self) -> int:
        return len(self.rows)


def distinct(crops: CropTable) -> Pictures:
    """Which rows of a table show the same picture: one segment, one number, one box."""
    boxes = np.ascontiguousarray(crops.boxes).view(np.int32).astype(np.int64)
    keys = np.column_stack([crops.segment.astype(np.int64), crops.number, boxes])
    _, rows, of_row = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(rows, kind="stable")
    rank = np.empty(len(rows), np.int64)
    rank[order] = np.arange(len(rows))
    return Pictures(rows[order].astype(np.int64), rank[of_row.reshape(-1)])


def squares(folder: WorkFolder, ids: Array, size: int, fit: Fit) -> Iterator[Array]:
    """The pictures of crops as squares, (n, size, size, 3) uint8, in parts of 512, in the order of ``ids``.

    Raises:
        WorkdirError: no such crop, or a damaged file.
    """
    for start in range(0, len(ids), _PORTION):
        part = ids[start : start + _PORTION]
        found = folder.jpegs(part)
        out = np.empty((len(part), size, size, 3), np.uint8)
        for i, crop_id in enumerate(part):
            with Image.open(io.BytesIO(found[crop_id])) as picture:
                image = np.asarray(picture.convert("RGB"))
            whole = (0.0, 0.0, float(image.shape[1]), float(image.shape[0]))
            out[i] = crop_square(image, whole, size, fit)[0]
        yield out


def different(frames: Array, tracks: Array, boxes: Array) -> Array:
    """(P, 2) int64: crops that are different characters: of one frame, and not on each other.

    Args:
        frames: (M,) int64, which frame of the whole table each crop is in.
        tracks: (M,) int64; two crops of one track are never different.
        boxes: (M, 4) float32 xyxy.
    """
    order = np.argsort(frames, kind="stable")
    found = [np.empty((0, 2), np.int64)]
    for crops in np.split(order, np.flatnonzero(np.diff(frames[order])) + 1):
        if len(crops) > 1:
            first, second = np.triu_indices(len(crops), 1)
            apart = covered(boxes[crops], boxes[crops])[first, second] < _COVERED
            pairs = np.column_stack([crops[first[apart]], crops[second[apart]]])
            found.append(pairs[tracks[pairs[:, 0]] != tracks[pairs[:, 1]]])
    return np.concatenate(found)
