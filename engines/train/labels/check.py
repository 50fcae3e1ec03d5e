"""From labels as they were read to a dataset: every box and image is used, mended or left out, and listed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from engines.train.labels.dataset import LabelledDataset, LabelledImage
from engines.train.labels.images import ImageFile, ImageIndex, image_size, safe_name
from engines.train.labels.problems import CLIPPED, KEPT, Problems
from stream.errors import ConfigError

#: Pixels by which a box may stick out and be cut without a word: float32 and rounding, not somebody's error.
ROUNDING = 1e-3
_EDGE = 1.5e-6  # what six decimals of centre and size may move an edge by, in shares of the image
_ASPECT = 0.01  # how far the two scales of an image may differ that was resized as a whole

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class ReadOptions:
    """How labels are read.

    Attributes:
        images: folder with the images, where they are not beside or below the labels.
        names: DarkNet only: file with the class names, one a line, or a data.yaml.
        unlabelled: images without labels are left out, or are ``background``: pictures with nobody in them.
        labels_only: take labels whose images are not there; sizes come from the labels.
        voc_origin: 1 where VOC counts pixels from 1 and ``xmax`` is the last one inside (the standard); 0
            where a tool wrote edges counted from 0 (LabelImg, CVAT).
    """

    images: Path | None = None
    names: Path | None = None
    unlabelled: Literal["leave-out", "background"] = "leave-out"
    labels_only: bool = False
    voc_origin: Literal[0, 1] = 1


@dataclass(frozen=True)
class RawBox:
    """A box as a file has it: x1, y1, x2, y2 in pixels, or in shares of the image where ``ratio`` says so."""

    corners: Corners
    label: int
    where: str
    flags: tuple[str, ...] = ()


@dataclass
class RawImage:
    """What a label file says of one image. ``found`` are the image files that it may mean."""

    name: str
    file: Path
    where: str = ""
    found: Sequence[ImageFile] = ()
    boxes: list[RawBox] = field(default_factory=list)
    lost: int = 0  # boxes that could not be used, each listed: where all were, it is no empty image
    width: int = 0  # 0: the labels do not say
    height: int = 0
    actual: tuple[int, int] | None = None  # where it is no image file yet: the size it will have
    ratio: bool = False
    stretch: bool = False  # a frame of another size is the same frame: boxes are scaled, nothing is wrong
    video: str = ""
    time_s: float | None = None
    split: str = ""
    judged: bool = True
    readable: bool = True  # False: its labels are unusable, which is listed already


@dataclass
class RawDataset:
    """All that a reader found, in the order of the files."""

    images: list[RawImage]
    class_names: tuple[str, ...]
    index: ImageIndex


def class_list(names: Sequence[str], file: object, problems: Problems) -> tuple[tuple[str, ...], list[int]]:
    """Names that differ, and for each given name its place among them; names given twice are listed."""
    unique: dict[str, int] = {}
    places = []
    for number, name in enumerate(names):
        if name in unique:
            problems.add("duplicate_class", file, f"class {number}", f"{name!r} is there already", "merged")
        places.append(unique.setdefault(name, len(unique)))
    return tuple(unique), places


def finish(raw: RawDataset, options: ReadOptions, problems: Problems) -> LabelledDataset:
    """The dataset of what can be used, in the readers' order; everything else goes into ``problems``.

    Raises:
        ConfigError: no image is left.
    """
    used: set[Path] = set()
    images: dict[str, LabelledImage] = {}
    spoilt: dict[str, RawImage] = {}
    for entry in raw.images:
        used.update(file.path for file in entry.found)
        image = _image(entry, options, problems)
        if image is None:
            continue
        if image.name in images:
            problems.add("same_image_twice", entry.file, entry.where, image.name, "merged")
            image = _merged(images[image.name], image, entry, problems)
        images[image.name] = image
        if entry.lost:
            spoilt.setdefault(image.name, entry)
    for name, entry in spoilt.items():
        if not len(images[name]):  # somebody is in it: trained on as empty, it would teach the opposite
            lost = "its 1 box cannot" if entry.lost == 1 else f"none of its {entry.lost} boxes can"
            problems.add("only_unusable", entry.file, entry.where, f"{name}: {lost} be used")
            del images[name]
    for file in raw.index.files.values():
        if file.path not in used:
            image = _unlabelled(file, options, problems)
            if image is not None:
                images.setdefault(image.name, image)
    if not images:
        found = f"{len(raw.images)} labelled and {len(raw.index.files)} image files"
        there = bool(raw.index.files) or any(entry.found for entry in raw.images)
        advice = "see what is wrong with each" if there else "give the folder of the images"
        listing = problems.as_text(3)
        raise ConfigError(
            f"no image with usable labels, of {found}; {advice}" + f"\n{listing}" * bool(listing)
        )
    dataset = LabelledDataset(tuple(images.values()), raw.class_names)
    check_splits(dataset, problems)
    return dataset


def _image(entry: RawImage, options: ReadOptions, problems: Problems) -> LabelledImage | None:
    if not entry.readable:
        return None
    if not entry.judged:
        detail = f"{entry.name}, with {len(entry.boxes)} boxes: may hold others that nobody drew"
        problems.add("not_judged", entry.file, entry.where, detail, "left out as marked")
        return None
    path, name = _file_of(entry, options, problems)
    if name is None:
        return None
    size = _size(entry, path, problems)
    if size is None:
        return None
    scale = _scale(entry, size, problems)
    if scale is None:
        return None
    rows: dict[tuple[float, ...], RawBox] = {}
    for box in entry.boxes:
        corners = _usable(box, entry, size, scale, problems)
        if corners is None:
            entry.lost += 1
            continue
        if rows.setdefault(_key(box.label, corners), box) is not box:
            detail = f"{_shown(corners)} of {entry.name} again, of the same class"
            problems.add("duplicate", entry.file, box.where, detail)
    return LabelledImage(
        name=name,
        path=path,
        width=size[0],
        height=size[1],
        boxes=np.array([key[1:] for key in rows], np.float32).reshape(-1, 4),
        classes=np.array([box.label for box in rows.values()], np.int32),
        flags=tuple(box.flags for box in rows.values()),
        video=entry.video,
        time_s=entry.time_s,
        split=entry.split,
    )


def _file_of(entry: RawImage, options: ReadOptions, problems: Problems) -> tuple[Path | None, str | None]:
    """(its file or None, its name or None where it cannot be used)."""
    if len(entry.found) == 1:
        path, name = entry.found[0].path, safe_name(entry.found[0].name)
        if name is None:
            problems.add("unsafe_name", path, "", "its name cannot be written into labels; rename it")
        elif safe_name(entry.name) is None:
            detail = f"{entry.name!r} leads out of the folder, taken for {name}"
            problems.add("name_differs", entry.file, entry.where, detail, KEPT)
        return path, name
    if len(entry.found) > 1:
        several = ", ".join(file.name for file in entry.found[:4])
        problems.add("ambiguous_image", entry.file, entry.where, f"{entry.name} may be {several}")
        return None, None
    name = safe_name(entry.name)
    if name is None:
        problems.add("unsafe_name", entry.file, entry.where, f"{entry.name!r} leads out of the folder")
        return None, None
    if options.labels_only and entry.width > 0 and entry.height > 0:
        return None, name
    missing = f"{name}: no such image" + ", and no size to go by" * options.labels_only
    problems.add("missing_image", entry.file, entry.where, missing)
    return None, None


def _size(entry: RawImage, path: Path | None, problems: Problems) -> tuple[int, int] | None:
    if entry.actual:
        return entry.actual
    if path is None:
        return entry.width, entry.height
    try:
        return image_size(path)
    except ValueError as error:
        problems.add("unreadable_image", path, "", str(error))
        return None


def _scale(entry: RawImage, size: tuple[int, int], problems: Problems) -> tuple[float, float] | None:
    """What the file's coordinates are multiplied by, or None where the image is not the labelled one."""
    if not entry.width or not entry.height or (entry.width, entry.height) == size:
        return 1.0, 1.0
    sx, sy = size[0] / entry.width, size[1] / entry.height
    if entry.stretch:
        return sx, sy
    whole = abs(sx / sy - 1) < _ASPECT
    detail = f"{entry.name} is {size[0]}x{size[1]}, its labels are of {entry.width}x{entry.height}"
    problems.add("size_mismatch", entry.file, entry.where, detail, "scaled" if whole else "left out")
    return (sx, sy) if whole else None


def _usable(
    box: RawBox,
    entry: RawImage,
    size: tuple[int, int],
    scale: tuple[float, float],
    problems: Problems,
) -> Corners | None:
    """The box inside the image in pixels, or None; what was changed or left out is listed."""
    if entry.ratio:
        x1, y1, x2, y2 = (snapped(share, size[i % 2]) for i, share in enumerate(box.corners))
    else:
        x1, y1, x2, y2 = (value * scale[i % 2] for i, value in enumerate(box.corners))
    shown = _shown((x1, y1, x2, y2))
    of = f" of {entry.name} ({size[0]}x{size[1]})"
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        problems.add("malformed", entry.file, box.where, f"{shown}{of} is not finite")
        return None
    if not (x1 < x2 and y1 < y2):
        problems.add("degenerate", entry.file, box.where, f"{shown}{of} has no area")
        return None
    if x2 <= 0 or y2 <= 0 or x1 >= size[0] or y1 >= size[1]:
        problems.add("off_image", entry.file, box.where, f"{shown} is wholly outside{of[3:]}")
        return None
    slack = [_slack(entry, length) for length in size]
    clipped = (min(max(value, 0.0), size[i % 2]) for i, value in enumerate((x1, y1, x2, y2)))
    c1, d1, c2, d2 = (float(np.float32(value)) for value in clipped)
    if not (c1 < c2 and d1 < d2):
        problems.add("degenerate", entry.file, box.where, f"{shown}{of} has no area in single precision")
        return None
    by = max(-x1 - slack[0], -y1 - slack[1], x2 - size[0] - slack[0], y2 - size[1] - slack[1])
    if by > 0:
        problems.add("outside", entry.file, box.where, f"{shown}{of} sticks out", CLIPPED)
    return c1, d1, c2, d2


def _slack(entry: RawImage, length: int) -> float:
    """Pixels that are rounding: DarkNet's six decimals are of the image, the others' are of a pixel."""
    return max(ROUNDING, _EDGE * length) if entry.ratio else ROUNDING


def snapped(share: float, length: int) -> float:
    """A share of the image in pixels; one that means an edge, but for six decimals, is that edge."""
    if abs(share) <= _EDGE:
        return 0.0
    return float(length) if abs(share - 1) <= _EDGE else share * length


def _merged(a: LabelledImage, b: LabelledImage, entry: RawImage, problems: Problems) -> LabelledImage:
    """The boxes of both, those of ``b`` that ``a`` has already listed and left out."""
    there = {_key(label, box) for label, box in zip(a.classes.tolist(), a.boxes.tolist(), strict=True)}
    keep = []
    for i, (label, box) in enumerate(zip(b.classes.tolist(), b.boxes.tolist(), strict=True)):
        if _key(label, box) in there:
            problems.add("duplicate", entry.file, entry.where, f"{_shown(box)} of {a.name} again")
        else:
            keep.append(i)
    return replace(
        a,
        boxes=np.concatenate([a.boxes, b.boxes[keep]]),
        classes=np.concatenate([a.classes, b.classes[keep]]),
        flags=a.flags + tuple(b.flags[i] for i in keep),
    )


def _key(label: int, box: Sequence[float]) -> tuple[float, ...]:
    return (label, *box)


def _shown(box: Sequence[float]) -> str:
    return "box " + ", ".join(f"{value:g}" for value in box)


def _unlabelled(file: ImageFile, options: ReadOptions, problems: Problems) -> LabelledImage | None:
    background = options.unlabelled == "background"
    action = f"{KEPT} as background" if background else "left out"
    problems.add("unlabelled_image", file.path, "", "no labels", action)
    name = safe_name(file.name)
    if not background or name is None:
        return None
    try:
        width, height = image_size(file.path)
    except ValueError as error:
        problems.add("unreadable_image", file.path, "", str(error))
        return None
    return LabelledImage(name, file.path, width, height)


def check_splits(dataset: LabelledDataset, problems: Problems, *, drawn: bool = False) -> None:
    """List the videos that have frames in more than one split.

    ``drawn``: by ``split``, in runs of frames, since there are few videos; otherwise the labels have it so.
    """
    splits: dict[str, set[str]] = defaultdict(set)
    for image in dataset:
        if image.video and image.split:
            splits[image.video].add(image.split)
    for video, names in sorted(splits.items()):
        if len(names) > 1:
            detail = f"has frames in {' and '.join(sorted(names))}"
            if drawn:
                detail += ", drawn in runs of frames since there are few videos: it looks better than it is"
            else:
                detail += ", as the labels say"
            problems.add("leaking_split", video, "", detail, KEPT)
