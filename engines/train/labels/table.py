"""This project's own label CSV (stream/labels.py): frames of videos by their times, or still images by name.

A frame of a video is looked for as an image called ``<video>_t<seconds>`` (``show_t0024.0.png``), as the
converter cuts them; where there is none but the video is there, the frame is read from the video; times after
its end are left out. Boxes are scaled where the frame has another size than its row says. A box without an
identity is of the class ``character``. Frames marked ``credits`` or ``uncertain`` are left out: they may hold
boxes nobody drew.

Written are ``labels_boxes.csv``, ``labels_frames.csv`` and ``images/``; corners have one decimal.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from engines.train.labels.check import Corners, RawBox, RawDataset, RawImage, ReadOptions
from engines.train.labels.dataset import LabelledDataset, LabelledImage
from engines.train.labels.images import IMAGE_SUFFIXES, ImageFile, ImageIndex, printable, same_name, walk
from engines.train.labels.problems import Problems
from engines.train.labels.texts import Malformed, class_name, read_text
from stream.errors import ConfigError
from stream.labels import BOX_COLUMNS, FRAME_COLUMNS, STATUSES, FrameStatus, LabelBox, Labels, frames_csv

NO_IDENTITY = "character"
_CORNERS = ("x1", "y1", "x2", "y2")
_STEP = 0.1  # pixels: what one decimal tells apart
Key = tuple[str, float]


def csv_file(source: Path) -> Path:
    """The file itself, or the one table of boxes in a folder (``ConfigError``: none or several)."""
    if source.is_file():
        return source
    found = sorted(source.glob("*_boxes.csv")) or [path for path in walk(source) if is_table(path)]
    if len(found) != 1:
        several = ", ".join(path.relative_to(source).as_posix() for path in found[:4]) or "none"
        raise ConfigError(f"{source}: expected one *_boxes.csv in it, found {several}; name the file")
    return found[0]


def is_table(path: Path) -> bool:
    """Whether a file is a CSV of labelled boxes, by its name or its columns."""
    if path.suffix.lower() != ".csv" or path.name.endswith("_boxes.csv"):
        return path.suffix.lower() == ".csv"
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            columns = next(csv.reader([file.readline(1000)]), [])
    except (OSError, csv.Error):
        return False
    return set(BOX_COLUMNS[:8]) <= set(columns)


def read_table(source: Path, options: ReadOptions, problems: Problems) -> RawDataset:
    """Read the boxes and, where it exists, the frames file beside them.

    Raises:
        ConfigError: no such file, not UTF-8, or a column missing.
    """
    path = csv_file(source)
    images: dict[Key, RawImage] = {}
    classes: dict[str, int] = {}
    for line, row in _rows(path, BOX_COLUMNS[:8]):
        try:
            image = _entry(row, path, f"line {line}", images)
        except Malformed as error:
            problems.add("malformed", path, f"line {line}", str(error))
            continue
        try:
            _take_box(row, image, f"line {line}", classes)
        except Malformed as error:
            problems.add("malformed", path, f"line {line}", str(error))
            image.lost += 1
    frames = frames_csv(path)
    if frames != path and frames.is_file():
        for line, row in _rows(frames, FRAME_COLUMNS):
            try:
                _take_frame(row, frames, f"line {line}", images)
            except Malformed as error:
                problems.add("malformed", frames, f"line {line}", str(error))
    names = sorted(classes)
    for image in images.values():
        image.boxes = [_numbered(box, names.index(list(classes)[box.label])) for box in image.boxes]
    root = options.images or path.parent
    index = ImageIndex([root])
    _find(images, index, root)
    _leave_late(images.values(), problems)
    return RawDataset(list(images.values()), tuple(names), index)


def _numbered(box: RawBox, label: int) -> RawBox:
    return RawBox(box.corners, label, box.where, box.flags)


def _rows(path: Path, required: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        lines = read_text(path).splitlines()
    except Malformed as error:
        raise ConfigError(f"{path}: {error}") from error
    reader = csv.DictReader(lines, restval="")
    missing = [name for name in required if name not in (reader.fieldnames or ())]
    if missing:
        found = ", ".join(reader.fieldnames or ())[:200] or "nothing"
        raise ConfigError(f"{path}: columns {', '.join(missing)} missing, found {found}")
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num}: {error}") from error


def _number(row: dict[str, str], name: str) -> float:
    try:
        value = float(row[name])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise Malformed(f"{name}: expected a number, got {row[name][:40]!r}")
    return value


def _entry(row: dict[str, str], path: Path, where: str, images: dict[Key, RawImage]) -> RawImage:
    video, time = row["video_file"], _number(row, "time_s")
    if not video or not printable(video):
        raise Malformed(f"video_file: expected a file name, got {video[:60]!r}")
    still = PurePosixPath(video).suffix.lower() in IMAGE_SUFFIXES
    key = (video, 0.0 if still else time)
    if key not in images:
        name = video if still else frame_name(video, time)
        images[key] = RawImage(name, path, where, stretch=True)
        if not still:
            images[key].video, images[key].time_s = PurePosixPath(video).name, time
    return images[key]


def _take_box(row: dict[str, str], image: RawImage, where: str, classes: dict[str, int]) -> None:
    label = class_name(row.get("identity") or NO_IDENTITY)
    width, height = _number(row, "frame_width"), _number(row, "frame_height")
    if not (1 <= width < 1e6 and 1 <= height < 1e6):
        raise Malformed(f"expected a frame size in pixels, got {width:g}x{height:g}")
    corners: Corners = tuple(_number(row, name) for name in _CORNERS)  # type: ignore[assignment]
    if not image.width:
        image.width, image.height = int(width), int(height)
    sx, sy = image.width / int(width), image.height / int(height)
    x1, y1, x2, y2 = corners
    flags = tuple(flag for flag in (row.get("flags") or "").split("|") if flag)
    number = classes.setdefault(label, len(classes))
    image.boxes.append(RawBox((x1 * sx, y1 * sy, x2 * sx, y2 * sy), number, where, flags))


def _take_frame(row: dict[str, str], path: Path, where: str, images: dict[Key, RawImage]) -> None:
    if row["status"] not in STATUSES:
        raise Malformed(f"status: expected one of {', '.join(STATUSES)}, got {row['status'][:40]!r}")
    image = _entry(row, path, where, images)
    if row["status"] not in ("ok", "empty"):
        image.judged, image.file, image.where = False, path, where


def frame_name(video: str, time_s: float) -> str:
    """What the image cut from a video is called: ``show.mp4`` at 24 s is ``show_t0024.0.png``."""
    text = f"{time_s:.6f}".rstrip("0")
    whole, _, part = text.partition(".")
    return f"{PurePosixPath(video).stem}_t{whole.zfill(4)}.{part or '0'}.png"


def _find(images: dict[Key, RawImage], index: ImageIndex, root: Path) -> None:
    """Find each entry's image, or the video its frame is in; fill in sizes that the rows do not tell."""
    videos = {same_name(path.name): path for path in walk(root)} if root.is_dir() else {}
    sizes: dict[Path, tuple[int, int] | None] = {}
    told = {image.video: (image.width, image.height) for image in images.values() if image.width}
    for image in images.values():
        if not image.width:
            image.width, image.height = told.get(image.video, (0, 0)) if image.video else (0, 0)
        image.found = index.find(image.name)
        if image.found or not image.video:
            continue
        image.found = index.find_stem(str(PurePosixPath(image.name).with_suffix("")))
        video = videos.get(same_name(image.video))
        if not image.found and video is not None:
            if video not in sizes:
                sizes[video] = _video_size(video)
            image.actual = sizes[video]
            image.found = [ImageFile(video, image.name)] if image.actual else []


def _leave_late(images: Iterable[RawImage], problems: Problems) -> None:
    """List the frames that would be read from videos that end before."""
    from engines.train.labels.frames import without_frame

    by_video: dict[Path, list[RawImage]] = defaultdict(list)
    for image in images:
        if image.actual and image.judged:
            by_video[image.found[0].path].append(image)
    for video, frames in by_video.items():
        late = set(without_frame(video, [frame.time_s or 0.0 for frame in frames]))
        for frame in frames:
            if frame.time_s in late:
                boxes = f"{len(frame.boxes)} box{'es' * (len(frame.boxes) != 1)}"
                detail = f"{video.name} has no frame at {frame.time_s:g} s or after it ({boxes})"
                problems.add("late_time", frame.file, frame.where, detail)
                frame.readable = False


def _video_size(path: Path) -> tuple[int, int] | None:
    from engines.train.labels.frames import frame_size

    try:
        return frame_size(path)
    except ValueError:
        return None


def write_table(dataset: LabelledDataset, folder: Path, problems: Problems) -> None:
    """Write everything but the images, which belong under ``images/``."""
    boxes, frames, rounded = [], [], 0
    for image in dataset:
        video, time = _moment(image)
        frames.append(FrameStatus(video, time, "ok" if len(image) else "empty"))
        for label, box, flags in zip(image.classes.tolist(), image.boxes, image.flags, strict=True):
            corners = _tenths(box, (image.width, image.height))
            rounded += not np.array_equal(np.array(corners, np.float32), box)
            name = dataset.class_names[label]
            boxes.append(LabelBox(video, time, image.width, image.height, corners, name, flags))
    Labels(tuple(boxes), tuple(frames)).write(folder / "labels_boxes.csv")
    if rounded:
        problems.add("rounded", "labels_boxes.csv", "", f"{rounded} boxes to tenths of a pixel", "rounded")


def _moment(image: LabelledImage) -> Key:
    if image.video and image.time_s is not None:
        return image.video, image.time_s
    return image.name, 0.0


def _tenths(box: np.ndarray, size: tuple[int, int]) -> Corners:
    """Corners to one decimal; a box too thin for that keeps a tenth of a pixel."""
    x1, y1, x2, y2 = (round(float(value), 1) for value in box)
    if x2 <= x1:
        x1, x2 = (x1, round(x1 + _STEP, 1)) if x1 + _STEP <= size[0] else (round(x1 - _STEP, 1), x1)
    if y2 <= y1:
        y1, y2 = (y1, round(y1 + _STEP, 1)) if y1 + _STEP <= size[1] else (round(y1 - _STEP, 1), y1)
    return x1, y1, x2, y2
