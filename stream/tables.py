"""Tables over a whole work folder: every crop of every segment, and a clustering of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stream.batches import Array, _check, _ShapeRepr
from stream.errors import WorkdirError
from stream.files import atomic_file, plain
from stream.store import FORMAT, SegmentInfo, read_columns


@dataclass(frozen=True, repr=False)
class CropTable(_ShapeRepr):
    """Crops of a work folder without their pictures, ordered by video, segment and time.

    Columns are those of the segment files (see :data:`stream.store.COLUMNS`); text comes as object arrays.
    """

    crop_id: Array  # (M,) object
    video: Array  # (M,) object
    source: Array  # (M,) object
    time_s: Array  # (M,) float64
    frame_index: Array  # (M,) int64
    number: Array  # (M,) int64, within the segment
    shot: Array  # (M,) int32, within the segment
    held: Array  # (M,) bool
    boxes: Array  # (M, 4) float32
    score: Array  # (M,) float32
    classes: Array  # (M,) object
    track: Array  # (M,) int64, within the segment; -1: none
    sharpness: Array  # (M,) float32
    segment: Array  # (M,) int32, position in the list of segments
    embeddings: Array | None = None  # (M, D) float32, L2-normalized; None: not asked for

    def __len__(self) -> int:
        return int(self.crop_id.shape[0])

    def unique_tracks(self) -> Array:
        """(M,) int64: which track of the whole table, counted from 0; a crop without one is its own."""
        alone = np.where(self.track < 0, np.arange(len(self)), -1)
        keys = np.stack([self.segment.astype(np.int64), self.track, alone], axis=1)
        return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


@dataclass(frozen=True, repr=False)
class ClusterTable(_ShapeRepr):
    """Which cluster each crop belongs to. ``meta`` says how it was made: settings, strength, convergence."""

    crop_id: Array  # (M,) object
    cluster: Array  # (M,) int32 from 0; -1: in none
    is_exemplar: Array  # (M,) bool
    similarity: Array  # (M,) float32 to the exemplar
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self, "crop_id", ("M",), np.object_)
        m = len(self.crop_id)
        _check(self, "cluster", (m,), np.int32)
        _check(self, "is_exemplar", (m,), np.bool_)
        _check(self, "similarity", (m,), np.float32)

    def __len__(self) -> int:
        return int(self.crop_id.shape[0])

    @property
    def id(self) -> str:
        """Name that follows from the rows, and not from ``meta``: the same clusters have the same id."""
        digest = hashlib.sha256("\n".join(self.crop_id).encode())
        for column in (self.cluster, self.is_exemplar, self.similarity):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()[:12]


_ARRAYS: dict[str, type] = {
    "crop_id": object,
    "video": object,
    "source": object,
    "time_s": np.float64,
    "frame_index": np.int64,
    "number": np.int64,
    "shot": np.int32,
    "held": np.bool_,
    "score": np.float32,
    "class": object,
    "track": np.int64,
    "sharpness": np.float32,
}
_SIDES = ("x1", "y1", "x2", "y2")


def read_crops(infos: Sequence[SegmentInfo], *, embeddings: bool) -> CropTable:
    """Read the rows of these segments, one file at a time, into one table.

    Raises:
        WorkdirError: a file is damaged, or they hold embeddings of different sizes.
    """
    sizes = {info.embedding_size: info.path for info in infos if info.crops}
    if embeddings and len(sizes) > 1:
        found = ", ".join(f"{size} in {path}" for size, path in sorted(sizes.items()))
        raise WorkdirError(f"expected embeddings of one size, found {found}; run again with one embedder")
    count = sum(info.crops for info in infos)
    table: dict[str, Array] = {name: np.empty(count, kind) for name, kind in _ARRAYS.items()}
    boxes = np.empty((count, 4), np.float32)
    segment = np.empty(count, np.int32)
    vectors = np.empty((count, max(sizes, default=0)), np.float32) if embeddings else None
    start = 0
    for position, info in enumerate(infos):
        if not info.crops:
            continue
        rows = read_columns(info.path, [*_ARRAYS, *_SIDES, *(["embedding"] if embeddings else [])])
        if rows.num_rows != info.crops:
            raise WorkdirError(f"{info.path}: changed while it was read; wait for the run to end, then again")
        part = slice(start, start + info.crops)
        for name, array in table.items():
            array[part] = _values(rows.column(name))
        for side, name in enumerate(_SIDES):
            boxes[part, side] = rows.column(name).to_numpy()
        segment[part] = position
        if vectors is not None:
            halves = rows.column("embedding").combine_chunks().flatten().to_numpy()
            vectors[part] = halves.reshape(info.crops, -1)
            norms = np.linalg.norm(vectors[part], axis=1, keepdims=True)
            vectors[part] /= np.where(norms > 0, norms, 1)
        start = part.stop
    table["classes"] = table.pop("class")
    return CropTable(boxes=boxes, segment=segment, embeddings=vectors, **table)


def write_cluster_file(path: Path, table: ClusterTable) -> None:
    """Write a clustering as Parquet, whole or not at all.

    Raises:
        WorkdirError: disk full, or not writable.
    """
    columns = {
        "crop_id": pa.array(table.crop_id, pa.string()),
        "cluster": table.cluster,
        "is_exemplar": table.is_exemplar,
        "similarity": table.similarity,
    }
    about = {"format": FORMAT, "meta": plain(table.meta)}
    rows = pa.table(columns).replace_schema_metadata({"celstream": json.dumps(about, sort_keys=True)})
    with atomic_file(path, size=rows.nbytes) as file:
        pq.write_table(rows, file, compression="zstd", write_page_checksum=True)


def read_cluster_file(path: Path) -> ClusterTable:
    """Read what :func:`write_cluster_file` wrote.

    Raises:
        WorkdirError: not a cluster file, or damaged.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            rows = file.read(use_threads=False)
        return ClusterTable(
            crop_id=np.array(rows.column("crop_id").to_pylist(), object),
            cluster=rows.column("cluster").to_numpy(),
            is_exemplar=rows.column("is_exemplar").to_numpy(),
            similarity=rows.column("similarity").to_numpy(),
            meta=json.loads(rows.schema.metadata[b"celstream"])["meta"],
        )
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise WorkdirError(
            f"{path}: not a whole cluster file ({reason}); delete it and cluster again"
        ) from error


def _values(column: pa.ChunkedArray) -> Array:
    """NumPy values; repeating text comes as shared objects, one per distinct word."""
    if pa.types.is_dictionary(column.type):
        parts = [np.array(c.dictionary.to_pylist(), object)[c.indices.to_numpy()] for c in column.chunks]
        return np.concatenate(parts)
    return column.to_numpy()
