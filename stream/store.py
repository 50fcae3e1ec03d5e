"""Segment files: what was found in one segment, in one Parquet file that is written once and whole.

A row per crop; a held frame (one that shows a picture already seen) repeats the rows of that picture with
its own time. :data:`COLUMNS` lists the columns. The file's metadata carry the fingerprint of everything the
rows follow from, the segment, every frame that was looked at (also those without a crop), and notes such as
damage; all of it is read from the footer, without touching a row.

The same rows give the same bytes. Pages carry checksums, which reading verifies.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stream.batches import Segment, Video
from stream.errors import WorkdirError
from stream.files import atomic_file, plain, text
from stream.rows import FrameTable, SegmentRows

FORMAT = 1  # of the work folder and its files; raised when an older reader would misread them

#: Rows read and written together. Raising it costs memory wherever single pictures are fetched.
ROW_GROUP = 256

#: Columns of a segment file but the two large ones, ``jpeg`` (struct of bytes and path, as Hugging Face image
#: columns have it) and ``embedding`` (fixed-size list of float16).
COLUMNS: dict[str, pa.DataType] = {
    "crop_id": pa.string(),  # "<video>/<segment key>/<row>": unique in the folder
    "video": pa.string(),
    "source": pa.string(),  # file or URL the frame came from
    "time_s": pa.float64(),  # seconds from the stream's start
    "frame_index": pa.int64(),  # position in the stream
    "number": pa.int64(),  # of the picture within the segment
    "shot": pa.int32(),  # of the segment, from 0
    "held": pa.bool_(),  # the frame repeats an earlier one, and so does this row
    "x1": pa.float32(),  # box in pixels of the frame
    "y1": pa.float32(),
    "x2": pa.float32(),
    "y2": pa.float32(),
    "score": pa.float32(),  # the detector's, 0..1
    "class": pa.string(),
    "track": pa.int64(),  # within the segment; -1: none
    "sharpness": pa.float32(),
}
_JPEG = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_REPEATING = ["video", "source", "class", "shot", "frame_index", "time_s", "number", "track"]


@dataclass(frozen=True)
class SegmentInfo:
    """What a segment file says of itself, read from its footer alone."""

    path: Path
    video: str
    uri: str
    kind: str
    width: int
    height: int
    key: str
    start_s: float
    end_s: float  # inf: until the stream ended
    fingerprint: str
    crops: int
    embedding_size: int
    frames: FrameTable = field(repr=False)
    notes: dict[str, Any]


def fingerprint(
    video: Video, config_part: Mapping[str, Any], model_hashes: Mapping[str, str], version: str
) -> str:
    """Identity of everything a segment's rows follow from: SHA-256, as 64 hexadecimal digits.

    Args:
        video: its content counts, not its place: a moved file is the same one.
        config_part: the settings that change rows, and only those.
        model_hashes: content hash of each network, by its role.
        version: of the code that makes the rows.
    """
    content = {
        "format": FORMAT,
        "content": video.fingerprint,
        "stream": video.stream_index,
        "size": [video.width, video.height],
        "config": plain(config_part),
        "models": plain(model_hashes),
        "version": version,
    }
    return hashlib.sha256(_json(content).encode()).hexdigest()


def write_segment_file(
    path: Path,
    segment: Segment,
    fingerprint: str,
    rows: SegmentRows,
    *,
    frames: FrameTable,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write a segment file, whole or not at all. ``notes`` are plain values that belong to the result.

    Raises:
        WorkdirError: disk full, or not writable.
    """
    schema = _schema(rows.embeddings.shape[1])
    video = segment.video
    about = {
        "format": FORMAT,
        "video": video.name,
        "uri": text(video.uri),
        "kind": video.kind,
        "width": video.width,
        "height": video.height,
        "key": segment.key,
        "start_s": segment.start_s,
        "end_s": None if math.isinf(segment.end_s) else segment.end_s,
        "fingerprint": fingerprint,
        "embedding_size": rows.embeddings.shape[1],
        "notes": plain(notes or {}),
    }
    size = sum(map(len, set(rows.jpegs))) + 2 * rows.embeddings.size + 64 * len(rows) + 4096
    with atomic_file(path, size=size) as file:
        writer = pq.ParquetWriter(
            file,
            schema,
            compression="zstd",
            use_dictionary=_REPEATING,  # pictures need none: zstd stores those that held frames repeat once
            write_statistics=list(COLUMNS),
            write_page_checksum=True,
        )
        try:
            for start in range(0, len(rows), ROW_GROUP):
                writer.write_table(_table(segment, rows, slice(start, start + ROW_GROUP), schema))
            writer.add_key_value_metadata({"celstream": _json(about), "celstream.frames": _encode(frames)})
        finally:  # also after an error: the writer would close itself later, and complain
            writer.close()


def read_segment_info(path: Path) -> SegmentInfo:
    """What the footer says.

    Raises:
        WorkdirError: not a segment file, not whole, or of another format.
    """
    try:
        footer = pq.read_metadata(path)
        about = json.loads(footer.metadata[b"celstream"])
        if about["format"] > FORMAT:
            raise WorkdirError(
                f"{path}: written by a newer celstream (format {about['format']}, this one reads {FORMAT}); "
                "upgrade celstream"
            )
        return SegmentInfo(
            path=path,
            **{name: about[name] for name in ("video", "uri", "kind", "width", "height", "key", "start_s")},
            end_s=math.inf if about["end_s"] is None else about["end_s"],
            fingerprint=about["fingerprint"],
            crops=footer.num_rows,
            embedding_size=about["embedding_size"],
            frames=_decode(footer.metadata[b"celstream.frames"]),
            notes=about["notes"],
        )
    except _UNREADABLE as error:
        raise _broken(path, error) from error


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Columns of a segment file, checksums verified; names and classes come as dictionaries.

    Raises:
        WorkdirError: not a segment file, or damaged.
    """
    try:
        with _open(path) as file:
            return file.read(columns=list(columns), use_threads=False)
    except _UNREADABLE as error:
        raise _broken(path, error) from error


def read_jpegs(path: Path, rows: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """(row, picture) for each of the rows of a segment file; only their row groups are read.

    Raises:
        WorkdirError: not a segment file, damaged, or a row that it does not have.
    """
    try:
        with _open(path) as file:
            if rows and not 0 <= min(rows) <= max(rows) < file.metadata.num_rows:
                raise WorkdirError(
                    f"{path}: expected rows 0 to {file.metadata.num_rows - 1}, got {max(rows)}: "
                    "the crop is of an earlier run; cluster again"
                )
            wanted = sorted(set(rows))
            start = 0
            for group in range(file.metadata.num_row_groups):
                stop = start + file.metadata.row_group(group).num_rows
                inside = [row for row in wanted if start <= row < stop]
                if inside:
                    table = file.read_row_group(group, columns=["jpeg.bytes"], use_threads=False)
                    pictures = table.column("jpeg").combine_chunks().field("bytes")
                    yield from ((row, pictures[row - start].as_py()) for row in inside)
                start = stop
    except _UNREADABLE as error:
        raise _broken(path, error) from error


def _open(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path, read_dictionary=["video", "source", "class"], page_checksum_verification=True)


def _schema(embedding_size: int) -> pa.Schema:
    fields = [*COLUMNS.items(), ("jpeg", _JPEG), ("embedding", pa.list_(pa.float16(), embedding_size))]
    features = {"info": {"features": {"jpeg": {"_type": "Image"}}}}
    return pa.schema(fields, metadata={"huggingface": json.dumps(features)})


def _table(segment: Segment, rows: SegmentRows, part: slice, schema: pa.Schema) -> pa.Table:
    indices = rows.indices[part]
    ids = [f"{segment.video.name}/{segment.key}/{part.start + n}" for n in range(len(indices))]
    video = segment.video
    columns: dict[str, Any] = {
        "crop_id": ids,
        "video": [video.name] * len(ids),
        "source": [text(video.files[i] if video.files else video.uri) for i in indices.tolist()],
        "time_s": rows.times[part],
        "frame_index": indices,
        "number": rows.numbers[part],
        "shot": rows.shots[part],
        "held": rows.held[part],
        **dict(zip(("x1", "y1", "x2", "y2"), np.ascontiguousarray(rows.boxes[part].T), strict=True)),
        "score": rows.scores[part],
        "class": rows.classes[part],
        "track": rows.tracks[part],
        "sharpness": rows.sharpness[part],
    }
    arrays = [pa.array(columns[name], kind) for name, kind in COLUMNS.items()]
    pictures = [pa.array(rows.jpegs[part], pa.binary()), pa.array([f"{i}.jpg" for i in ids], pa.string())]
    arrays.append(pa.StructArray.from_arrays(pictures, fields=list(_JPEG)))
    vectors = np.ascontiguousarray(rows.embeddings[part].astype(np.float16)).reshape(-1)
    arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(vectors), rows.embeddings.shape[1]))
    return pa.Table.from_arrays(arrays, schema=schema)


# what pyarrow and we raise at bytes that are not what they should be
_UNREADABLE = (OSError, KeyError, TypeError, ValueError, pa.ArrowException)


def _encode(frames: FrameTable) -> str:
    batch = pa.record_batch({f.name: getattr(frames, f.name) for f in dataclasses.fields(frames)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch)
    return base64.b64encode(sink.getvalue()).decode()


def _decode(encoded: bytes) -> FrameTable:
    with pa.ipc.open_stream(base64.b64decode(encoded)) as reader:
        table = reader.read_all()
    return FrameTable(**{name: table.column(name).to_numpy() for name in table.column_names})


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _broken(path: Path, error: Exception) -> WorkdirError:
    detail = " ".join(str(error).split())[:200] or type(error).__name__
    return WorkdirError(
        f"{path}: not a whole segment file ({detail}); delete it and run the same command again to redo it"
    )
