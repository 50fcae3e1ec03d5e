"""Other embeddings of a work folder's crops than those of its segment files: files of their own.

::

    embeddings/<name>/<video>/<key>.parquet   crop_id, embedding: the segment's rows in the segment's order
    embeddings/<name>/embedder.onnx           the network that made them
    embeddings/<name>/about.json              what they follow from; written last, so a set is whole or none

A set belongs to segments by their fingerprints. :func:`matching` finds it while every segment with crops is
one that it was made of; when one was done again or came in since, the set does not speak for the folder any
more, and the embeddings of the segment files are used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stream.batches import Array
from stream.errors import WorkdirError
from stream.files import atomic_file, plain, remove_temporaries
from stream.store import FORMAT, SegmentInfo

ADAPTED = "adapted"  # the name of the set that show adaptation writes
MODEL = "embedder.onnx"
_ABOUT = "about.json"


@dataclass(frozen=True)
class EmbeddingSet:
    """A whole set: its folder, and what it follows from.

    ``segments`` maps a segment (``<video>/<key>``) to the fingerprint of its rows; ``about`` is what its
    maker left, such as the network's hash and the figures.
    """

    path: Path
    segments: Mapping[str, str]
    about: Mapping[str, Any]


def segment_marks(infos: Sequence[SegmentInfo]) -> dict[str, str]:
    """Segment -> what its rows follow from, of those that hold crops."""
    return {f"{info.video}/{info.key}": info.fingerprint[:16] for info in infos if info.crops}


def mark_of(infos: Sequence[SegmentInfo]) -> str:
    """Short identity of the segments with crops and what their rows follow from, for records."""
    marks = json.dumps(segment_marks(infos), sort_keys=True)
    return hashlib.sha256(marks.encode()).hexdigest()[:16]


def find(folder: Path, name: str = ADAPTED) -> EmbeddingSet | None:
    """The set of that name in a work folder, None where there is none or none that is whole."""
    path = folder / "embeddings" / name
    try:
        content = json.loads((path / _ABOUT).read_bytes())
        if content["format"] != FORMAT:
            return None
        return EmbeddingSet(path, dict(content["segments"]), dict(content["about"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def mismatch(found: EmbeddingSet, infos: Sequence[SegmentInfo]) -> int:
    """How many segments with crops the set was not made of; 0: it speaks for them all."""
    return sum(found.segments.get(key) != mark for key, mark in segment_marks(infos).items())


def matching(folder: Path, infos: Sequence[SegmentInfo], name: str = ADAPTED) -> EmbeddingSet | None:
    """The set of that name if it is of these segments, all of the folder's, else None."""
    found = find(folder, name)
    return found if found is not None and not mismatch(found, infos) else None


def read(found: EmbeddingSet, infos: Sequence[SegmentInfo]) -> Array:
    """(M, D) float32, L2-normalized: the rows of these segments, as ``stream.tables.read_crops`` has them.

    Raises:
        WorkdirError: a file is missing, damaged, or of another segment.
    """
    parts = [_read_file(found, info) for info in infos if info.crops]
    vectors = np.concatenate(parts).astype(np.float32) if parts else np.empty((0, 0), np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(norms > 0, norms, 1)
    return vectors


def check(found: EmbeddingSet, infos: Sequence[SegmentInfo]) -> None:
    """Read every file of the set once, one at a time.

    Raises:
        WorkdirError: as for :func:`read`.
    """
    for info in infos:
        if info.crops:
            _read_file(found, info)


def write(
    folder: Path,
    parts: Iterable[tuple[SegmentInfo, Array, Array]],
    model: Path,
    about: Mapping[str, Any],
    name: str = ADAPTED,
) -> EmbeddingSet:
    """Write a set, over an earlier one of its name. A kill on the way leaves no set of that name.

    Args:
        folder: the work folder.
        parts: every segment with crops, the ids of its crops (M,) and their embeddings (M, D) float32.
        model: the network that made them, an ONNX file; it is copied beside them.
        about: plain values that belong to the set.

    Raises:
        WorkdirError: disk full, or not writable.
    """
    path = folder / "embeddings" / name
    drop(folder, name)
    marks: dict[str, str] = {}
    for info, ids, vectors in parts:
        _write_file(_file(path, info), info, ids, vectors)
        marks |= segment_marks([info])
    with atomic_file(path / MODEL, size=model.stat().st_size) as file:
        file.write(model.read_bytes())
    document = json.dumps(plain({"format": FORMAT, "segments": marks, "about": about}), indent=1).encode()
    with atomic_file(path / _ABOUT, size=len(document)) as file:
        file.write(document)
    kept = {_file(path, info_key) for info_key in marks}
    for old in set(path.glob("*/*.parquet")) - kept:  # of segments that are gone
        old.unlink()
    return EmbeddingSet(path, marks, plain(about))


def drop(folder: Path, name: str = ADAPTED) -> None:
    """Let a set of that name not be used any more; its vectors stay until another one is written."""
    (folder / "embeddings" / name / _ABOUT).unlink(missing_ok=True)


def clean(folder: Path) -> list[Path]:
    """Remove what killed writers left; returns what was removed."""
    sets = list((folder / "embeddings").glob("*"))
    return remove_temporaries(*sets, *(place for found in sets for place in found.glob("*/")))


def _file(path: Path, of: SegmentInfo | str) -> Path:
    video, _, key = of.rpartition("/") if isinstance(of, str) else (of.video, "", of.key)
    return path / video / f"{key}.parquet"


def _write_file(path: Path, info: SegmentInfo, ids: Array, vectors: Array) -> None:
    halves = pa.array(np.ascontiguousarray(vectors.astype(np.float16)).reshape(-1))
    columns = {
        "crop_id": pa.array(ids, pa.string()),
        "embedding": pa.FixedSizeListArray.from_arrays(halves, vectors.shape[1]),
    }
    rows = pa.table(columns).replace_schema_metadata({"celstream": json.dumps({"of": info.fingerprint})})
    with atomic_file(path, size=rows.nbytes) as file:
        pq.write_table(rows, file, compression="zstd", write_page_checksum=True)


def _read_file(found: EmbeddingSet, info: SegmentInfo) -> Array:
    path = _file(found.path, info)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            rows = file.read(columns=["embedding"], use_threads=False)
        if json.loads(rows.schema.metadata[b"celstream"])["of"] != info.fingerprint:
            raise ValueError("it is of other crops")
        if rows.num_rows != info.crops:
            raise ValueError(f"expected {info.crops} rows, found {rows.num_rows}")
        return rows.column("embedding").combine_chunks().flatten().to_numpy().reshape(info.crops, -1)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise WorkdirError(
            f"{path}: not the embeddings of its segment ({reason}); delete {found.path} and run"
            " `celstream adapt` again"
        ) from error
