"""The work folder: everything that is known about one archive, each part readable with ordinary tools.

::

    run.yaml                        marks the folder, records the last run
    segments/<video>/<key>.parquet  crops of one segment, see stream/store.py
    clusters/<id>.parquet           crop_id, cluster, is_exemplar, similarity
    review.sqlite                   what people decided: names, see stream/names.py
    quarantine.jsonl                inputs that could not be used, and why
    embeddings/adapted/             embeddings in place of the segments' own, see stream/embeddings.py
    stats.jsonl                     how long each segment took, and where
    .lock                           held by the one process that writes
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import yaml

from stream import embeddings as other_embeddings
from stream.batches import Segment
from stream.claim import MARK, check_folder, read_mark, take_lock
from stream.errors import WorkdirError
from stream.files import (
    append_line,
    atomic_file,
    plain,
    read_lines,
    remove_temporaries,
    write_error,
)
from stream.rows import FrameTable, SegmentRows
from stream.store import FORMAT, SegmentInfo, read_jpegs, read_segment_info, write_segment_file
from stream.tables import ClusterTable, CropTable, read_cluster_file, read_crops, write_cluster_file

_LATEST = "latest_clusters"
_KEPT = ("adaptation", "detector_adaptation")  # of an earlier record, by one that says nothing of it


class WorkFolder:
    """An opened work folder. Close it, or use it as a context manager: that lets the next run in."""

    def __init__(self, path: Path, lock: IO[bytes] | None, made: Sequence[Path] | None = None) -> None:
        self.path = path
        self._lock = lock
        self._made = made  # folders that were made for it, innermost first; None: it was there before

    @classmethod
    def open(cls, path: str | Path, *, create: bool, write: bool = True) -> WorkFolder:
        """Open a work folder.

        Args:
            path: the folder.
            create: make it where it is missing or empty.
            write: be the one process that writes; without, only reading is meant, and many may.

        Raises:
            WorkdirError: another project's folder, another format's, in use, missing, or not writable.
        """
        path = Path(path)
        check_folder(path, create)
        if not write:
            return cls(path, None)
        new = not (path / "run.yaml").exists()
        made = [p for p in (path, *path.parents) if not p.exists()] if new else None
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = take_lock(path / ".lock")
        except OSError as error:
            raise write_error(path, error) from error
        folder = cls(path, lock, made)
        try:
            if not folder._run_file.exists():
                folder._write_yaml({MARK: FORMAT})
        except BaseException:
            folder.close()
            raise
        return folder

    def close(self) -> None:
        """Let go of the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def discard(self) -> bool:
        """Close a folder that was made just now and holds no segment, and leave nothing of it behind.

        Returns whether it is gone: an older one, and one that holds anything else, stays.
        """
        if self._made is None or (self.path / "segments").exists():
            return False
        for name in ("quarantine.jsonl", "run.yaml", ".lock"):
            (self.path / name).unlink(missing_ok=True)
        self.close()
        with contextlib.suppress(OSError):
            for folder in self._made:
                folder.rmdir()
        return True

    def __enter__(self) -> WorkFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"WorkFolder({str(self.path)!r})"

    # --- segments ---

    def segment_path(self, segment: Segment) -> Path:
        """Where the segment's file is or will be."""
        return self.path / "segments" / segment.video.name / f"{segment.key}.parquet"

    def has_segment(self, segment: Segment, fingerprint: str) -> bool:
        """Whether the segment is done: its file is whole and follows from the same content and settings."""
        path = self.segment_path(segment)
        if not path.exists():
            return False
        try:
            info = read_segment_info(path)
        except WorkdirError:
            return False  # it is done again
        same_span = (info.start_s, info.end_s) == (segment.start_s, segment.end_s)
        return info.fingerprint == fingerprint and info.video == segment.video.name and same_span

    def write_segment(
        self,
        segment: Segment,
        fingerprint: str,
        rows: SegmentRows,
        *,
        frames: FrameTable,
        notes: Mapping[str, Any] | None = None,
        stats: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write a segment's file, whole or not at all, over an earlier one if there is.

        Args:
            segment: which.
            fingerprint: see :func:`stream.store.fingerprint`.
            rows: its crops.
            frames: every frame that was looked at.
            notes: what belongs to the result, such as damage; the same every time, kept in the file.
            stats: what differs from run to run, such as seconds per station; kept in ``stats.jsonl``, so that
                the same input gives the same file.

        Raises:
            WorkdirError: disk full, or not writable.
        """
        self._check_writable()
        path = self.segment_path(segment)
        if stats is not None:
            entry = {"segment": f"{segment.video.name}/{segment.key}", "fingerprint": fingerprint}
            append_line(self.path / "stats.jsonl", entry | {"stats": plain(stats)})
        write_segment_file(path, segment, fingerprint, rows, frames=frames, notes=notes)
        return path

    def segments(self, videos: Collection[str] | None = None) -> list[SegmentInfo]:
        """What every segment file says of itself, by video name, then by start.

        Raises:
            WorkdirError: a file there is not a whole segment file.
        """
        paths = sorted((self.path / "segments").glob("*/*.parquet"))
        return [read_segment_info(p) for p in paths if videos is None or p.parent.name in videos]

    def uri_of(self, video: str) -> str | None:
        """Where the video of that name was read from, None where no whole segment of it is here."""
        for path in sorted((self.path / "segments" / video).glob("*.parquet")):
            with contextlib.suppress(WorkdirError):
                return read_segment_info(path).uri
        return None

    def contents(self) -> dict[str, tuple[str, str]]:
        """Content of a video -> its name here, and where it was read from. Damaged files are passed over."""
        found = {}
        for folder in sorted((self.path / "segments").glob("*")):
            for path in sorted(folder.glob("*.parquet")):
                with contextlib.suppress(WorkdirError):
                    info = read_segment_info(path)
                    if content := info.notes.get("content"):
                        found[str(content)] = (info.video, info.uri)
                    break  # all segments of a video say the same
        return found

    def stats(self) -> list[dict[str, Any]]:
        """The stats of every segment that is there: ``segment``, ``fingerprint``, ``stats``."""
        latest = {(e.get("segment"), e.get("fingerprint")): e for e in read_lines(self.path / "stats.jsonl")}
        keys = [(f"{info.video}/{info.key}", info.fingerprint) for info in self.segments()]
        return [latest[key] for key in keys if key in latest]

    def clean(self) -> list[Path]:
        """Remove what killed runs left half-written; returns what was removed."""
        self._check_writable()
        folders = [self.path, self.path / "clusters", *(self.path / "segments").glob("*")]
        return [*remove_temporaries(*folders), *other_embeddings.clean(self.path)]

    def drop_stale(self, keep: Collection[Path], videos: Collection[str] | None = None) -> list[Path]:
        """Remove segment files that the plan no longer has, and return them.

        Args:
            keep: the plan's files, from :meth:`segment_path`.
            videos: look only at these videos; None looks at every one.
        """
        self._check_writable()
        kept = set(keep)
        removed = []
        for path in sorted((self.path / "segments").glob("*/*.parquet")):
            if path not in kept and (videos is None or path.parent.name in videos):
                path.unlink()
                removed.append(path)
        for folder in {path.parent for path in removed}:
            if not any(folder.iterdir()):
                folder.rmdir()
        return removed

    # --- reading crops ---

    def crops(self, *, embeddings: bool = True, videos: Collection[str] | None = None) -> CropTable:
        """Every crop, held ones too, without pictures. Takes about 330 + 4 D bytes a crop.

        Args:
            embeddings: read them too: float32, normalized again after their time as float16. They are those
                of show adaptation where there are some of all the folder's segments.
            videos: only of these.

        Raises:
            WorkdirError: a segment file is damaged, or they hold embeddings of different sizes.
        """
        infos = self.segments(videos)
        if embeddings:
            every = infos if videos is None else self.segments()
            if adapted := other_embeddings.matching(self.path, every):
                table = read_crops(infos, embeddings=False)
                return dataclasses.replace(table, embeddings=other_embeddings.read(adapted, infos))
        return read_crops(infos, embeddings=embeddings)

    def jpegs(self, crop_ids: Iterable[str]) -> dict[str, bytes]:
        """The pictures of these crops, by their ids. Only the row groups they are in are read.

        Raises:
            WorkdirError: no such crop (the segment was done again since), or a damaged file.
        """
        wanted: dict[Path, dict[int, str]] = {}
        for crop_id in crop_ids:
            video, key, row = _parse_id(crop_id)
            wanted.setdefault(self.path / "segments" / video / f"{key}.parquet", {})[row] = crop_id
        found = {}
        for path in sorted(wanted):
            if not path.exists():
                raise WorkdirError(
                    f"{self.path}: no crop {min(wanted[path].values())} here (any more); "
                    "run `celstream cluster` again"
                )
            for row, picture in read_jpegs(path, list(wanted[path])):
                found[wanted[path][row]] = picture
        return found

    def frames(self, videos: Collection[str] | None = None) -> dict[str, FrameTable]:
        """Every frame that was looked at, by video name, in time order.

        Numbers and shots count within each segment; crops and frames of a video match by ``frame_index``.
        """
        tables: dict[str, list[FrameTable]] = {}
        for info in self.segments(videos):
            tables.setdefault(info.video, []).append(info.frames)
        return {video: FrameTable.concatenate(parts) for video, parts in tables.items()}

    # --- clusters ---

    def write_clusters(self, table: ClusterTable) -> str:
        """Store a clustering and make it the latest; the id follows from its rows, not from ``meta``.

        Raises:
            WorkdirError: disk full, or not writable.
        """
        self._check_writable()
        name = table.id
        write_cluster_file(self.path / "clusters" / f"{name}.parquet", table)
        self._write_yaml({**self.read_run(), _LATEST: name})
        return name

    def drop_clusters(self) -> None:
        """No clustering is the latest any more: there is nothing to cluster. Its file stays."""
        self._write_yaml({key: value for key, value in self.read_run().items() if key != _LATEST})

    def latest_clusters(self) -> str | None:
        """Id of the clustering written last, None where there is none."""
        name = self.read_run().get(_LATEST)
        return None if name is None else str(name)

    def read_clusters(self, id: str | None = None) -> ClusterTable:
        """A clustering by its id; the latest for None.

        Raises:
            WorkdirError: there is none, none of that id, or its file is damaged.
        """
        name = id or self.latest_clusters()
        if name is None:
            raise WorkdirError(f"{self.path}: not clustered yet; run `celstream cluster {self.path}`")
        path = self.path / "clusters" / f"{name}.parquet"
        if not path.exists():
            known = ", ".join(sorted(p.stem for p in path.parent.glob("*.parquet"))) or "none"
            raise WorkdirError(f"{self.path}: no clusters {name!r}; there are: {known}")
        return read_cluster_file(path)

    # --- quarantine ---

    def quarantine(self, uri: str, reason: str, stage: str) -> None:
        """Note that an input could not be used, why, and which station found out."""
        self._check_writable()
        append_line(self.path / "quarantine.jsonl", {"uri": uri, "stage": stage, "reason": reason})

    def clear_quarantine(self, uri: str) -> None:
        """The input is fine now: forget its entries."""
        self._check_writable()
        entries = read_lines(self.path / "quarantine.jsonl")
        remaining = [entry for entry in entries if entry.get("uri") != uri]
        if len(remaining) < len(entries):
            with atomic_file(self.path / "quarantine.jsonl") as file:
                file.writelines(json.dumps(entry).encode() + b"\n" for entry in remaining)

    def quarantined(self) -> list[dict[str, Any]]:
        """Inputs that could not be used: ``uri``, ``stage``, ``reason``; the last word on each."""
        entries = read_lines(self.path / "quarantine.jsonl")
        return list({entry.get("uri"): entry for entry in entries}.values())

    # --- run.yaml ---

    def write_run(self, record: Mapping[str, Any]) -> None:
        """Replace the record of the last run; the folder's own keys stay, and what is said of adaptation.

        Raises:
            WorkdirError: disk full, or not writable.
        """
        before = self.read_run()
        own = {MARK: FORMAT} | {key: before[key] for key in (_LATEST,) if before.get(key)}
        kept = {key: before[key] for key in _KEPT if key in before}
        self._write_yaml({**own, **kept, **plain(record), **own})

    def read_run(self) -> dict[str, Any]:
        """What ``run.yaml`` holds."""
        return read_mark(self._run_file)

    @property
    def _run_file(self) -> Path:
        return self.path / "run.yaml"

    def _check_writable(self) -> None:
        if self._lock is None:
            raise RuntimeError(f"{self!r} was opened for reading, or is closed")

    def _write_yaml(self, content: Mapping[str, Any]) -> None:
        self._check_writable()
        document = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=110)
        with atomic_file(self._run_file, size=len(document)) as file:
            file.write(document.encode())


def _parse_id(crop_id: str) -> tuple[str, str, int]:
    try:
        video, key, row = crop_id.rsplit("/", 2)
        return video, key, int(row)
    except ValueError:
        raise WorkdirError(f"crop id {crop_id!r}: expected <video>/<segment>/<row>") from None
