"""Character boxes and identities as CSV: read off frames by people, or written by ``stream/cartoon``.

``NAME_boxes.csv`` has a row per box::

    video_file,time_s,frame_width,frame_height,x1,y1,x2,y2,identity,flags

with pixels as xyxy and flags joined by ``|`` (``truncated``, ``tiny``, ``low_visibility``, ``blurred``...).
``NAME_frames.csv`` beside it has a row per labelled time, so that empty frames count too::

    video_file,time_s,status

where the status is ``ok``, ``empty`` (looked at, nobody there), ``credits`` or ``uncertain`` (both are left
out of scores). A labelled time means the first decoded frame with pts >= ``time_s``.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stream.errors import ConfigError

BOX_COLUMNS = (
    "video_file",
    "time_s",
    "frame_width",
    "frame_height",
    "x1",
    "y1",
    "x2",
    "y2",
    "identity",
    "flags",
)
FRAME_COLUMNS = ("video_file", "time_s", "status")
STATUSES = ("ok", "empty", "credits", "uncertain")


@dataclass(frozen=True)
class LabelBox:
    """One character in one frame; ``box`` is x1, y1, x2, y2 in pixels of a ``frame_width`` wide frame."""

    video_file: str
    time_s: float
    frame_width: int
    frame_height: int
    box: tuple[float, float, float, float]
    identity: str = ""
    flags: tuple[str, ...] = ()

    def scaled(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The box in pixels of the same frame at another size."""
        sx, sy = width / self.frame_width, height / self.frame_height
        x1, y1, x2, y2 = self.box
        return (x1 * sx, y1 * sy, x2 * sx, y2 * sy)


@dataclass(frozen=True)
class FrameStatus:
    """That a frame was looked at, and what was found there."""

    video_file: str
    time_s: float
    status: str


@dataclass(frozen=True)
class Labels:
    """Boxes, and the frames that were looked at (at least those with a box)."""

    boxes: tuple[LabelBox, ...]
    frames: tuple[FrameStatus, ...]

    @classmethod
    def read(cls, boxes_csv: str | Path) -> Labels:
        """Read ``boxes_csv`` and, where it exists, the ``*_frames.csv`` beside it.

        Without a frames file every frame with a box has status ``ok`` and no other frame was looked at.

        Raises:
            ConfigError: file missing, column missing, value that is no finite number, box without area.
        """
        path = Path(boxes_csv)
        boxes = tuple(_box(row, f"{path}:{line}") for line, row in _rows(path, BOX_COLUMNS[:8]))
        frames_path = frames_csv(path)
        if frames_path != path and frames_path.exists():
            frames = tuple(_frame(row, f"{frames_path}:{n}") for n, row in _rows(frames_path, FRAME_COLUMNS))
        else:
            frames = tuple(
                FrameStatus(video, time, "ok")
                for video, time in sorted({(box.video_file, box.time_s) for box in boxes})
            )
        return cls(boxes, frames)

    def write(self, boxes_csv: str | Path) -> tuple[Path, Path]:
        """Write both files; returns their paths (boxes, frames)."""
        path = Path(boxes_csv)
        _write(path, BOX_COLUMNS, (_box_row(box) for box in self.boxes))
        frame_rows = ((f.video_file, _number(f.time_s), f.status) for f in self.frames)
        _write(frames_csv(path), FRAME_COLUMNS, frame_rows)
        return path, frames_csv(path)

    def video_files(self) -> tuple[str, ...]:
        """Names of the labelled videos, sorted."""
        return tuple(sorted({f.video_file for f in self.frames} | {b.video_file for b in self.boxes}))


def frames_csv(boxes_csv: Path) -> Path:
    """Where the frame statuses belonging to ``boxes_csv`` are: ``x_boxes.csv`` -> ``x_frames.csv``."""
    stem = boxes_csv.stem.removesuffix("_boxes")
    return boxes_csv.with_name(f"{stem}_frames.csv")


def _rows(path: Path, required: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the labels cannot be read ({error}); give a CSV file in UTF-8") from error
    reader = csv.DictReader(text.splitlines())
    missing = [name for name in required if name not in (reader.fieldnames or ())]
    if missing:
        found = ", ".join(reader.fieldnames or ()) or "nothing"
        raise ConfigError(
            f"{path}: expected the columns {', '.join(required)}; {', '.join(missing)} missing, found {found}"
        )
    return [(number, row) for number, row in enumerate(reader, start=2)]


def _float(row: dict[str, str], name: str, where: str) -> float:
    try:
        value = float(row[name])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{where}: {name}: expected a number, got {row[name]!r}")
    return value


def _box(row: dict[str, str], where: str) -> LabelBox:
    x1, y1, x2, y2 = (_float(row, name, where) for name in ("x1", "y1", "x2", "y2"))
    width, height = _float(row, "frame_width", where), _float(row, "frame_height", where)
    if not (x1 < x2 and y1 < y2):
        raise ConfigError(f"{where}: expected x1 < x2 and y1 < y2, got {x1}, {y1}, {x2}, {y2}")
    if width <= 0 or height <= 0:
        raise ConfigError(f"{where}: expected a positive frame size, got {width:g}x{height:g}")
    return LabelBox(
        video_file=row["video_file"],
        time_s=_float(row, "time_s", where),
        frame_width=int(width),
        frame_height=int(height),
        box=(x1, y1, x2, y2),
        identity=row.get("identity") or "",
        flags=tuple(flag for flag in (row.get("flags") or "").split("|") if flag),
    )


def _frame(row: dict[str, str], where: str) -> FrameStatus:
    if row["status"] not in STATUSES:
        raise ConfigError(f"{where}: status: expected one of {', '.join(STATUSES)}, got {row['status']!r}")
    return FrameStatus(row["video_file"], _float(row, "time_s", where), row["status"])


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _box_row(box: LabelBox) -> tuple[str, ...]:
    corners = tuple(f"{value:.1f}" for value in box.box)
    size = (str(box.frame_width), str(box.frame_height))
    return (box.video_file, _number(box.time_s), *size, *corners, box.identity, "|".join(box.flags))


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
