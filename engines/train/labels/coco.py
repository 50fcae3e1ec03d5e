"""COCO detection JSON: boxes as x, y, width, height in pixels, fractions allowed, edges counted from 0.

Read piece by piece, so that a file of hundreds of megabytes takes the memory of its boxes, not of its
outlines. Categories are numbered in the order of their ids. Besides COCO's own keys an image may tell its
``video_file``, ``time_s`` and ``status`` (see stream/labels.py), an annotation its ``flags``; ``iscrowd`` is
the flag ``crowd``. Numbers are written as the shortest that give the same float32 pixels again.

Written are ``images/`` and ``annotations/instances.json``, or with splits ``instances_train.json`` and
so on. Read is one JSON file, or all such files of a folder: their categories are told by their names.
"""

from __future__ import annotations

import contextlib
import json
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, TypeGuard

import numpy as np

from engines.train.labels.check import Corners, RawBox, RawDataset, RawImage, ReadOptions
from engines.train.labels.dataset import LabelledDataset, LabelledImage
from engines.train.labels.images import ImageIndex, printable, walk
from engines.train.labels.problems import NOT_CARRIED, Problems
from engines.train.labels.texts import JsonStream, Malformed, class_name
from stream.errors import ConfigError

_LEFT_OUT_STATUSES = ("credits", "uncertain")
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
Id = int | str


@dataclass
class _File:
    """What one JSON file holds, boxes in compact rows."""

    path: Path
    images: dict[Id, RawImage] = field(default_factory=dict)
    categories: dict[Id, str] = field(default_factory=dict)
    boxes: array[float] = field(default_factory=lambda: array("d"))
    rows: list[tuple[Id, Id, Id, tuple[str, ...]]] = field(default_factory=list)  # image, category, id, flags
    lost: Counter[Id] = field(default_factory=Counter)  # annotations that cannot be read, by image
    outlines: int = 0
    keypoints: int = 0


def is_coco(path: Path) -> bool:
    """Whether a JSON file begins as COCO's do: an object with one of its lists of objects."""
    try:
        with JsonStream(path) as stream:
            for number, (key, _, value) in enumerate(stream.members()):
                if key in ("images", "annotations", "categories") and isinstance(value, dict):
                    return True
                if number > 100:
                    return False
    except Malformed:
        pass
    return False


def coco_files(source: Path) -> list[Path]:
    """The file itself, or those of a folder that look like COCO's."""
    if source.is_file():
        return [source]
    return [path for path in walk(source) if path.suffix.lower() == ".json" and is_coco(path)]


def read_coco(source: Path, options: ReadOptions, problems: Problems) -> RawDataset:
    """Read one JSON file or those of a folder; images are below the folder or in ``options.images``.

    Raises:
        ConfigError: no such file, or one that is no JSON from some point on: the images it would have named
            cannot be told from those without labels.
    """
    files = coco_files(source)
    if not files:
        raise ConfigError(f"{source}: expected COCO JSON (images, annotations, categories), found none")
    index = ImageIndex(_roots(source, options))
    read = [_read_file(path, index, problems) for path in files]
    names = _names(read, problems)
    for file in read:
        split = _split_of(file.path) if len(read) > 1 else ""
        for image in file.images.values():
            image.split = image.split or split
        _place_boxes(file, names, problems)
    return RawDataset([image for file in read for image in file.images.values()], names, index)


def _roots(source: Path, options: ReadOptions) -> list[Path]:
    if options.images:
        return [options.images]
    root = source if source.is_dir() else source.parent
    if root.name == "annotations":
        root = root.parent
    return [root / "images"] if (root / "images").is_dir() else [root]


def _split_of(path: Path) -> str:
    """``instances_train2017.json`` and ``train/_annotations.coco.json`` are of the training part."""
    words = path.stem.lower().replace("-", "_").replace(".", "_").split("_")
    for word in [*words, path.parent.name.lower()]:
        if (split := _SPLITS.get(word.rstrip("0123456789"))) is not None:
            return split
    return ""


def _read_file(path: Path, index: ImageIndex, problems: Problems) -> _File:
    file = _File(path)
    take = {"images": _take_image, "annotations": _take_annotation, "categories": _take_category}
    try:
        with JsonStream(path) as stream:
            for key, line, value in stream.members():
                if key not in take:
                    continue
                try:
                    if not isinstance(value, dict):
                        raise Malformed(f"expected an object in {key}, got {type(value).__name__}")
                    take[key](file, value, f"line {line}", index, problems)
                except Malformed as error:
                    problems.add("malformed", path, _place(key, value, line), str(error))
                    if key == "annotations" and isinstance(value, dict):
                        with contextlib.suppress(Malformed):  # of no image that can be told
                            file.lost[_id(value, "image_id")] += 1
    except Malformed as error:
        place = f"{path}, {error.where}" if error.where else str(path)
        raise ConfigError(f"{place}: {error}; mend it or fetch it again") from error
    for count, what in ((file.outlines, "outlines (segmentation)"), (file.keypoints, "keypoints")):
        if count:
            problems.add("not_carried", path, "", f"{what} of {count} annotations", NOT_CARRIED)
    return file


def _place(key: str, value: Any, line: int) -> str:
    number = value.get("id") if isinstance(value, dict) else None
    known = isinstance(number, int | str) and len(str(number)) < 80
    return f"{key[:-1]} {number}, line {line}" if known else f"line {line}"


def _id(value: dict[str, Any], key: str) -> Id:
    found = value.get(key)
    if isinstance(found, float) and found.is_integer():
        return int(found)
    if not isinstance(found, int | str) or isinstance(found, bool):
        raise Malformed(f"{key}: expected a number, got {_short(found)}")
    return found


def _short(value: object) -> str:
    """A value for a message: what it is, where it could be anything."""
    return repr(value)[:40] if isinstance(value, str | int | float | None) else type(value).__name__


def _take_category(
    file: _File, value: dict[str, Any], where: str, _index: ImageIndex, problems: Problems
) -> None:
    number, name = _id(value, "id"), class_name(value.get("name"))
    if file.categories.setdefault(number, name) != name:
        raise Malformed(f"category {number} is {file.categories[number]!r} already, got {name!r}")


def _take_image(
    file: _File, value: dict[str, Any], where: str, index: ImageIndex, problems: Problems
) -> None:
    number, name = _id(value, "id"), value.get("file_name")
    if not isinstance(name, str):
        raise Malformed(f"file_name: expected text, got {_short(name)}")
    if number in file.images:
        raise Malformed(f"image {number} is {file.images[number].name} already, got {name}")
    video, time = value.get("video_file"), value.get("time_s")
    file.images[number] = RawImage(
        name,
        file.path,
        f"image {number}",
        index.find(name, file.path.parent),
        width=_length(value.get("width")),
        height=_length(value.get("height")),
        video=video if isinstance(video, str) and printable(video) else "",
        time_s=float(time) if _is_number(time) else None,
        judged=value.get("status") not in _LEFT_OUT_STATUSES,
    )


def _length(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 < value < 1e6 else 0


def _take_annotation(
    file: _File, value: dict[str, Any], where: str, _index: ImageIndex, problems: Problems
) -> None:
    image, category = _id(value, "image_id"), _id(value, "category_id")
    number = value.get("id")
    box = value.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(v) for v in box):
        raise Malformed(f"bbox: expected x, y, width, height, got {_shown(box)}")
    file.outlines += bool(value.get("segmentation"))
    file.keypoints += bool(value.get("keypoints"))
    flags = value.get("flags")
    told = [f for f in flags if isinstance(f, str) and "|" not in f] if isinstance(flags, list) else []
    if value.get("iscrowd") and "crowd" not in told:
        told.append("crowd")
    file.boxes.extend(map(float, box))
    file.rows.append((image, category, number if isinstance(number, int | str) else where, tuple(told)))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _shown(box: Any) -> str:
    return f"[{', '.join(_short(v) for v in box[:5])}]" if isinstance(box, list) else _short(box)


def _names(files: Sequence[_File], problems: Problems) -> tuple[str, ...]:
    """The classes of all files, in the order of their ids in the first file that has them."""
    names: dict[str, None] = {}
    for file in files:
        here: set[str] = set()
        for number in sorted(file.categories, key=lambda n: (isinstance(n, str), n)):
            name = file.categories[number]
            if name in here:
                where = f"category {number}"
                problems.add("duplicate_class", file.path, where, f"{name!r} is there already", "merged")
            here.add(name)
            names.setdefault(name)
    return tuple(names)


def _place_boxes(file: _File, names: Sequence[str], problems: Problems) -> None:
    numbers = {name: i for i, name in enumerate(names)}
    for row, (image, category, number, flags) in enumerate(file.rows):
        where = f"annotation {number}"
        if image not in file.images:
            problems.add("unknown_image", file.path, where, f"image {image} is not in the file")
        elif category not in file.categories:
            file.lost[image] += 1
            problems.add("unknown_class", file.path, where, f"category {category} is not in the file")
        else:
            label = numbers[file.categories[category]]
            box = _corners(file.boxes[4 * row : 4 * row + 4])
            file.images[image].boxes.append(RawBox(box, label, where, flags))
    for image, count in file.lost.items():
        if image in file.images:
            file.images[image].lost += count


def _corners(box: Sequence[float]) -> Corners:
    x, y, width, height = box
    return x, y, x + width, y + height


def coco_box(box: Any) -> list[float]:
    """x, y, width, height of a float32 box: the shortest decimals that give the same corners again."""
    x1, y1 = (float(str(np.float32(value))) for value in box[:2])
    return [x1, y1, _extent(x1, box[2]), _extent(y1, box[3])]


def _extent(low: float, high: Any) -> float:
    extent = float(str(np.float32(high))) - low
    for decimals in range(12):
        rounded = round(extent, decimals)
        if rounded > 0 and np.float32(low + rounded) == high:
            return rounded
    return extent


def write_coco(dataset: LabelledDataset, folder: Path, problems: Problems) -> None:
    """Write everything but the images, which belong under ``images/``."""
    splits = sorted({image.split for image in dataset})
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for split in splits:
        path = folder / "annotations" / ("instances" + f"_{split}" * bool(split) + ".json")
        with path.open("w", encoding="utf-8") as file:
            write_coco_file(dataset.of_split(split), file)


def write_coco_file(dataset: LabelledDataset, file: TextIO) -> None:
    """Write one JSON object, a line for each image, annotation and category."""
    file.write('{"info": {"description": "written by celstream"},\n')
    lists = {
        "images": (_image_json(i, image) for i, image in enumerate(dataset, start=1)),
        "annotations": _annotations(dataset),
        "categories": ({"id": i, "name": name} for i, name in enumerate(dataset.class_names, start=1)),
    }
    for number, (key, entries) in enumerate(lists.items()):
        file.write(f'"{key}": [')
        for i, entry in enumerate(entries):
            file.write((",\n" if i else "\n") + json.dumps(entry))
        file.write("\n]" + (",\n" if number < len(lists) - 1 else "}\n"))


def _image_json(number: int, image: LabelledImage) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": number, "file_name": image.name}
    entry |= {"width": image.width, "height": image.height}
    if image.video:
        entry |= {"video_file": image.video}
    if image.time_s is not None:
        entry |= {"time_s": image.time_s}
    return entry


def _annotations(dataset: LabelledDataset) -> Iterator[dict[str, Any]]:
    number = 0
    for place, image in enumerate(dataset, start=1):
        for label, box, flags in zip(image.classes.tolist(), image.boxes, image.flags, strict=True):
            number += 1
            x, y, width, height = coco_box(box)
            entry = {
                "id": number,
                "image_id": place,
                "category_id": label + 1,
                "bbox": [x, y, width, height],
                "area": round(width * height, 4),
                "iscrowd": int("crowd" in flags),
            }
            other = [flag for flag in flags if flag != "crowd"]
            yield entry | ({"flags": other} if other else {})
