"""PASCAL VOC: an XML file per image, boxes in pixels counted from 1, with ``xmax`` and ``ymax`` inside.

The pixel with number 1 reaches from 0 to 1 in this package's coordinates, so ``xmin`` is ``x1 + 1`` and
``xmax`` is ``x2``: a box of the whole of a 640 pixels wide image is 1 to 640 there, 0.0 to 640.0 here. Tools
that write edges counted from 0 (LabelImg, CVAT) are read with ``voc_origin=0``; an ``xmin`` of 0 gives them
away. VOC proper has whole numbers: boxes are rounded to the nearest, at least a pixel wide, or, with
``fractions``, written in decimals that most readers take (those that call ``int`` on the text do not).

Written are ``Annotations/``, ``JPEGImages/``, ``ImageSets/Main/`` and ``classes.txt``, which VOC lacks: it
keeps the order of the classes, and those without a box. Read is any folder with such XML files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from engines.train.labels.check import Corners, RawBox, RawDataset, RawImage, ReadOptions, class_list
from engines.train.labels.dataset import LabelledDataset, LabelledImage
from engines.train.labels.images import ImageIndex, walk
from engines.train.labels.problems import KEPT, NOT_CARRIED, Problems
from engines.train.labels.texts import Element, Malformed, class_name, read_text, read_xml
from stream.errors import ConfigError

_FLAGS = ("truncated", "difficult", "occluded")
_EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(source: Path, options: ReadOptions, problems: Problems) -> RawDataset:
    """Read all annotations below a folder (or one XML file), the images below it or in ``options.images``.

    Raises:
        ConfigError: there are none.
    """
    root = source if source.is_dir() else source.parent
    files = [source] if source.is_file() else [p for p in walk(root) if p.suffix.lower() == ".xml"]
    if not files:
        raise ConfigError(f"{source}: expected PASCAL VOC annotations, found no .xml file")
    index = ImageIndex(_roots(root, options))
    splits = _splits(root, problems)
    known = _known(options.names or root / "classes.txt", problems)
    images, named, told, listed = [], [], Counter[str](), set[str]()
    for file in files:
        image, labels = _read_file(file, index, options, problems, told)
        key = PurePosixPath(file.relative_to(root).with_suffix("").as_posix())
        stems = (str(key), str(PurePosixPath(*key.parts[1:])))
        image.split = next((splits[stem] for stem in stems if stem in splits), "")
        listed.update(stems)
        images.append(image)
        named.append(labels)
    for stem in sorted(set(splits) - listed):
        path = root / "ImageSets" / "Main" / f"{splits[stem]}.txt"
        problems.add("missing_image", path, "", f"{stem} is listed, but has no annotation")
    names = known or tuple(sorted({name for labels in named for name in labels}))
    for image, labels in zip(images, named, strict=True):
        _number(image, labels, names, problems)
    if told["parts"]:
        problems.add(
            "not_carried", root, "", f"body parts (head, hand, foot) of {told['parts']} objects", NOT_CARRIED
        )
    if told["zeros"]:
        detail = (
            f"{told['zeros']} boxes begin at pixel 0; a tool that counts from 0 wrote them (voc_origin 0)"
        )
        problems.add("counted_from_0", root, "", detail, "read as counted from 1")
    return RawDataset(images, names, index)


def _roots(root: Path, options: ReadOptions) -> list[Path]:
    if options.images:
        return [options.images]
    if (root / "JPEGImages").is_dir():
        return [root / "JPEGImages"]
    # the XML files' own folder was given: the images are beside it
    beside = [p for p in (root.parent / "JPEGImages", root.parent / "images") if p.is_dir()]
    return [root] if root.name.lower() != "annotations" or not beside else beside[:1]


def _splits(root: Path, problems: Problems) -> dict[str, str]:
    """The split of each image by its name without suffix."""
    found: dict[str, str] = {}
    for split in ("train", "val", "test"):
        path = root / "ImageSets" / "Main" / f"{split}.txt"
        if not path.is_file():
            continue
        try:
            lines = read_text(path).splitlines()
        except Malformed as error:
            problems.add("malformed", path, error.where, str(error))
            continue
        for number, stem in enumerate((line.strip() for line in lines), start=1):
            if stem and found.setdefault(stem, split) != split:
                problems.add("leaking_split", path, f"line {number}", f"{stem} is in {found[stem]} too", KEPT)
    return found


def _known(path: Path, problems: Problems) -> tuple[str, ...]:
    """The classes of ``classes.txt``; empty where there is none and they are those that occur."""
    if not path.is_file():
        return ()
    try:
        names = [class_name(line) for line in read_text(path).rstrip().splitlines()]
    except Malformed as error:
        raise ConfigError(f"{path}: class names: {error}") from error
    return class_list(names, path, problems)[0]


def _number(image: RawImage, labels: Sequence[str], names: Sequence[str], problems: Problems) -> None:
    """Give each box the number of its class; boxes of classes that are not listed are left out."""
    numbers = {name: i for i, name in enumerate(names)}
    boxes = []
    for box, label in zip(image.boxes, labels, strict=True):
        if label in numbers:
            boxes.append(RawBox(box.corners, numbers[label], box.where, box.flags))
        else:
            image.lost += 1
            problems.add("unknown_class", image.file, box.where, f"{label!r} is not in the list of classes")
    image.boxes = boxes


def _read_file(
    file: Path, index: ImageIndex, options: ReadOptions, problems: Problems, told: Counter[str]
) -> tuple[RawImage, list[str]]:
    try:
        top = read_xml(file)
        if top.tag != "annotation":
            raise Malformed(f"expected <annotation>, got <{top.tag}>", f"line {top.line}")
    except Malformed as error:
        problems.add("malformed", file, error.where, str(error))
        # its image must not pass for one with nobody in it
        return RawImage(file.stem, file, found=index.find_stem(file.stem, file.parent), readable=False), []
    image = _image(top, file, index, problems)
    labels = []
    for element in top.all("object"):
        where = f"line {element.line}"
        try:
            label = class_name(element.word("name"))
            corners = _corners(element, options.voc_origin)
        except Malformed as error:
            problems.add("malformed", file, where, str(error))
            image.lost += 1
            continue
        told["parts"] += bool(element.all("part"))
        told["zeros"] += min(corners[:2]) == -1
        flags = tuple(flag for flag in _FLAGS if element.word(flag, "0") not in ("0", "", "false", "False"))
        image.boxes.append(RawBox(corners, 0, where, flags))
        labels.append(label)
    return image, labels


def _image(top: Element, file: Path, index: ImageIndex, problems: Problems) -> RawImage:
    """The image an annotation is of: the one it names, else the one called as its file."""
    name = top.word("filename")
    found = index.find(name, file.parent) if name else []
    if len(found) != 1:
        called = index.find_stem(file.stem, file.parent)
        if len(called) == 1:
            if name:
                problems.add("name_differs", file, "", f"is of {name}, taken for {called[0].name}", KEPT)
            found = called
    size = top.first("size")
    width, height = (_length(size, side) for side in ("width", "height"))
    return RawImage(name or file.stem, file, "", found, width=width, height=height)


def _length(size: Element | None, side: str) -> int:
    """Pixels, or 0 where the file does not tell."""
    try:
        value = float(size.word(side)) if size is not None else 0.0
        return int(value) if 0 < value < 1e6 else 0
    except ValueError:
        return 0


def _corners(element: Element, origin: int) -> Corners:
    box = element.first("bndbox")
    if box is None:
        raise Malformed("object without <bndbox>")
    values = []
    for edge in _EDGES:
        try:
            values.append(float(box.word(edge)))
        except ValueError:
            raise Malformed(f"{edge}: expected a number, got {box.word(edge)[:40]!r}") from None
    return values[0] - origin, values[1] - origin, values[2], values[3]


def write_voc(
    dataset: LabelledDataset,
    folder: Path,
    problems: Problems,
    *,
    fractions: bool = False,
) -> None:
    """Write everything but the images, which belong under ``JPEGImages/``."""
    rounded = 0
    for image in dataset:
        text, moved = voc_xml(image, dataset.class_names, fractions=fractions)
        path = folder / "Annotations" / PurePosixPath(image.name).with_suffix(".xml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        rounded += moved
    if rounded:
        problems.add("rounded", "Annotations/", "", f"{rounded} boxes to whole pixels", "rounded")
    kept = {*_FLAGS}
    other = sorted({flag for image in dataset for flags in image.flags for flag in flags} - kept)
    if other:
        problems.add(
            "not_carried", "Annotations/", "", f"flags that VOC has not: {', '.join(other)}", NOT_CARRIED
        )
    (folder / "classes.txt").write_text(
        "".join(f"{name}\n" for name in dataset.class_names), encoding="utf-8"
    )
    main = folder / "ImageSets" / "Main"
    main.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):
        stems = [PurePosixPath(i.name).with_suffix("") for i in dataset if i.split == split]
        if stems:
            (main / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")


def voc_xml(image: LabelledImage, names: Sequence[str], *, fractions: bool = False) -> tuple[str, int]:
    """(the annotation of one image, how many of its boxes were rounded)."""
    path = PurePosixPath(image.name)
    lines = [
        "<annotation>",
        "  <folder>JPEGImages</folder>",
        f"  <filename>{escape(str(path))}</filename>",
        f"  <size><width>{image.width}</width><height>{image.height}</height><depth>3</depth></size>",
        "  <segmented>0</segmented>",
    ]
    rounded = 0
    for label, box, flags in zip(image.classes.tolist(), image.boxes, image.flags, strict=True):
        edges = _written(box, fractions=fractions, size=(image.width, image.height))
        rounded += not fractions and not np.array_equal(np.round(box), box)
        told = "".join(f"<{flag}>{int(flag in flags)}</{flag}>" for flag in _FLAGS)
        lines.append(f"  <object><name>{escape(names[label])}</name><pose>Unspecified</pose>{told}")
        inner = "".join(f"<{edge}>{value}</{edge}>" for edge, value in zip(_EDGES, edges, strict=True))
        lines.append(f"    <bndbox>{inner}</bndbox></object>")
    return "\n".join([*lines, "</annotation>", ""]), rounded


def _written(box: Any, *, fractions: bool, size: tuple[int, int]) -> list[str]:
    """xmin, ymin, xmax, ymax as text."""
    if not fractions:
        whole = [round(float(value)) for value in box]
        for i in (0, 1):  # at least one pixel: a thin box must not vanish
            if whole[i + 2] <= whole[i]:
                whole[i] = min(int(box[i]), size[i] - 1)
                whole[i + 2] = whole[i] + 1
        return [str(value + 1 if i < 2 else value) for i, value in enumerate(whole)]
    return [_decimals(value, 1 - i // 2) for i, value in enumerate(box)]


def _decimals(value: Any, shift: int) -> str:
    """The fewest decimals that give the same float32 again when ``shift`` is taken off."""
    for decimals in range(17):
        text = f"{float(value) + shift:.{decimals}f}"
        if np.float32(float(text) - shift) == value:
            return text
    return repr(float(value) + shift)
