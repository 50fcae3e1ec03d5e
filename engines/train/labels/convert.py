"""Labels from any of the formats to any other, with everything that was wrong listed.

>>> read_labels("photos", Problems())                                   # doctest: +SKIP
>>> convert("photos", "coco", "photos-coco", strict=True, val=0.1)      # doctest: +SKIP
"""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from PIL import Image

from engines.train.labels.check import RawDataset, ReadOptions, check_splits, finish
from engines.train.labels.coco import coco_files, read_coco, write_coco
from engines.train.labels.darknet import LISTS, names_file, read_darknet, write_darknet
from engines.train.labels.dataset import LabelledDataset, LabelledImage
from engines.train.labels.frames import read_frames
from engines.train.labels.images import IMAGE_SUFFIXES, same_name, walk
from engines.train.labels.output import output_folder
from engines.train.labels.problems import NOT_CARRIED, Problems
from engines.train.labels.split import split
from engines.train.labels.table import is_table, read_table, write_table
from engines.train.labels.voc import read_voc, write_voc
from stream.errors import ConfigError
from stream.files import write_error

Form = Literal["darknet", "voc", "coco", "csv"]
Copy = Literal["copy", "hardlink", "symlink"]

READERS: dict[str, Callable[[Path, ReadOptions, Problems], RawDataset]] = {
    "darknet": read_darknet,
    "voc": read_voc,
    "coco": read_coco,
    "csv": read_table,
}
_SUFFIXES = {".json": "coco", ".csv": "csv", ".xml": "voc"}
_SUFFIXES |= dict.fromkeys((".yaml", ".yml", ".names", ".data"), "darknet")
_IMAGE_FOLDERS = ("images", "JPEGImages")
_BOTH = "--images FOLDER --names FILE"
_NAMED = 3  # files of each format that are named where there are several


@dataclass(frozen=True)
class Conversion:
    """What a conversion did; ``out`` is None where nothing was written."""

    form: str
    images: int
    boxes: int
    classes: dict[str, int]
    splits: dict[str, int]
    problems: Problems
    out: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """One object for a program, with every problem."""
        return {
            "format": self.form,
            "images": self.images,
            "boxes": self.boxes,
            "classes": self.classes,
            "splits": self.splits,
            "counts": self.problems.counts(),
            "problems": self.problems.as_json(),
            "out": None if self.out is None else str(self.out),
        }


def form_of(source: Path, options: ReadOptions | None = None) -> Form:
    """The format of a file by its name, of a folder by what is in it.

    Texts that may be DarkNet's are known by the images of ``options``, or taken for them where it has names.

    Raises:
        ConfigError: missing, none of them, or several.
    """
    if not source.exists():
        raise ConfigError(f"{source}: no such file or folder; expected labels")
    if source.is_file():
        form = _SUFFIXES.get(source.suffix.lower())
        if form is None:
            raise ConfigError(f"{source}: expected one of {', '.join(_SUFFIXES)}, or the folder; say --from")
        return form  # type: ignore[return-value]
    options = options or ReadOptions()
    _check_options(options)
    files = list(walk(source))
    around = files if options.images is None else [*files, *walk(options.images)]
    pictures = [path for path in around if path.suffix.lower() in IMAGE_SUFFIXES]
    stems = {same_name(path.stem) for path in pictures}
    texts = [path for path in files if path.suffix.lower() == ".txt" and path.name not in LISTS]
    found: dict[Form, list[Path]] = {
        "voc": [path for path in files if path.suffix.lower() == ".xml"],
        "coco": coco_files(source),
        "csv": [path for path in files if is_table(path)],
        "darknet": [path for path in texts if same_name(path.stem) in stems] or _specs(files),
    }
    if not any(found.values()) and options.names is not None:
        return "darknet"
    forms = [form for form, there in found.items() if there]
    if len(forms) == 1:
        return forms[0]
    if forms:
        each = "; ".join(f"{form}: {_listed(found[form], source)}" for form in forms)
        raise ConfigError(
            f"{source}: found labels of several formats ({each}); name the file, or say which with --from"
        )
    named = names_file(source) is not None
    raise ConfigError(f"{source}: {_without_labels(len(pictures), len(texts), named)}")


def _check_options(options: ReadOptions) -> None:
    if options.images is not None and not options.images.is_dir():
        raise ConfigError(f"{options.images}: no such folder; expected the images there")
    if options.names is not None and not options.names.is_file():
        raise ConfigError(f"{options.names}: no such file; expected class names in it")


def _specs(files: list[Path]) -> list[Path]:
    return [path for path in files if path.suffix.lower() in (".names", ".data") or path.name == "data.yaml"]


def _listed(files: list[Path], root: Path) -> str:
    more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
    return ", ".join(path.relative_to(root).as_posix() for path in files[:_NAMED]) + more


def _without_labels(images: int, texts: int, names: bool) -> str:
    """What a folder holds in place of labels, and what to do about it."""
    if images:
        return (
            f"found {_count(images, 'image')} and no labels; to take them as pictures with nobody in them:"
            " --from darknet --names FILE --unlabelled background"
        )
    if texts:
        lacks, give = ("images", "--images FOLDER") if names else ("images and class names", _BOTH)
        return f"found {_count(texts, '.txt file')} but no {lacks}; if they are DarkNet labels, give {give}"
    return "found no labels; name the file, or say which with --from"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + "s" * (number != 1)


def read_labels(
    source: str | Path,
    problems: Problems,
    *,
    form: Form | None = None,
    options: ReadOptions | None = None,
) -> LabelledDataset:
    """Labels of any format as a dataset; what is wrong with them goes into ``problems``.

    Args:
        source: a folder, or the label file in it.
        problems: takes every finding, with its file and place.
        form: the format, where it is not told by the files.
        options: see ``ReadOptions``.

    Raises:
        ConfigError: no labels, none usable, or a file whose rest cannot be told (JSON that breaks off).
    """
    return _read(Path(source), problems, form, options or ReadOptions())[1]


def _read(
    source: Path, problems: Problems, form: Form | None, options: ReadOptions
) -> tuple[RawDataset, LabelledDataset]:
    _check_options(options)
    found = form or form_of(source, options)
    if not source.exists():
        raise ConfigError(f"{source}: no such file or folder; expected labels")
    raw = READERS[found](source, options, problems)
    return raw, finish(raw, options, problems)


def check(source: str | Path, *, form: Form | None = None, options: ReadOptions | None = None) -> Conversion:
    """Read labels and say what is wrong with them; nothing is written (raises as ``read_labels``)."""
    path, problems = Path(source), Problems()
    found = form or form_of(path, options)
    dataset = read_labels(path, problems, form=found, options=options)
    return _summary(found, dataset, problems, None)


def convert(
    source: str | Path,
    to: Form,
    out: str | Path,
    *,
    form: Form | None = None,
    options: ReadOptions | None = None,
    strict: bool = False,
    val: float | None = None,
    seed: int = 0,
    one_class: str | None = None,
    copy: Copy = "copy",
    voc_fractions: bool = False,
) -> Conversion:
    """Read labels of one format and write them, with their images, in another.

    The source is only read. ``out`` appears when everything is written; it holds ``problems.jsonl`` where
    anything was found.

    Args:
        source: a folder, or the label file in it.
        to: the format to write; ``voc`` rounds to whole pixels, ``csv`` to tenths.
        out: missing, empty, or what a former conversion wrote and nobody changed since.
        form: the format of the source, where it is not told by its files.
        options: see ``ReadOptions``.
        strict: refuse where any problem was found that is not merely a note.
        val: share of the images for validation, drawn anew by ``seed`` (see ``split``); None keeps the splits
            that the labels tell.
        one_class: put all boxes into one class of this name.
        copy: how images come to ``out``; links take no room, but share what is done to the file.
        voc_fractions: write decimals where VOC has whole pixels.

    Raises:
        ConfigError: nothing usable, refused by ``strict``, or ``out`` overlaps with the source.
        WorkdirError: ``out`` is somebody else's, or cannot be written.
    """
    path, opts, problems = Path(source), options or ReadOptions(), Problems()
    found = form or form_of(path, opts)
    raw, dataset = _read(path, problems, found, opts)
    if strict and problems.serious():
        count = len(problems.serious())
        raise ConfigError(
            f"{path}: refused by strict, {count} problem{'s' * (count > 1)}; `celstream labels check` lists"
            f" all\n{problems.as_text(20)}"
        )
    if one_class is not None:
        dataset = _without_doubles(dataset.in_one_class(one_class), path, problems)
    dataset = _unique_stems(dataset, path, problems)
    if val is not None:
        dataset = split(dataset, val, seed)
        check_splits(dataset, problems, drawn=True)
    sources = [path, *raw.index.roots]
    about = {"format": to, "source": str(path.resolve()), "images": len(dataset), "boxes": dataset.boxes}
    with output_folder(Path(out), sources, about) as folder:
        _write(dataset, to, folder, problems, voc_fractions)
        _tell_lost(dataset, to, problems)
        _place_images(dataset, folder / ("JPEGImages" if to == "voc" else "images"), copy)
        if len(problems):
            lines = (json.dumps(problem) + "\n" for problem in problems.as_json())
            (folder / "problems.jsonl").write_text("".join(lines), encoding="utf-8")
    return _summary(found, dataset, problems, Path(out))


def _write(dataset: LabelledDataset, to: Form, folder: Path, problems: Problems, voc_fractions: bool) -> None:
    if to == "voc":
        write_voc(dataset, folder, problems, fractions=voc_fractions)
    else:
        {"darknet": write_darknet, "coco": write_coco, "csv": write_table}[to](dataset, folder, problems)


def _tell_lost(dataset: LabelledDataset, to: Form, problems: Problems) -> None:
    """List what the format has no place for, besides what its writer tells of the boxes."""
    videos = sum(bool(image.video) for image in dataset)
    if videos and to in ("darknet", "voc"):
        detail = f"the videos and times that {videos} images are of, but for their names"
        problems.add("not_carried", to, "", detail, NOT_CARRIED)
    if to == "csv" and any(image.split for image in dataset):
        problems.add("not_carried", to, "", "which images are for training and validation", NOT_CARRIED)


def _summary(form: str, dataset: LabelledDataset, problems: Problems, out: Path | None) -> Conversion:
    splits: dict[str, int] = defaultdict(int)
    for image in dataset:
        splits[image.split] += 1
    told = {name: splits[name] for name in ("train", "val", "test") if splits[name]}
    return Conversion(form, len(dataset), dataset.boxes, dataset.counts(), told, problems, out)


def _without_doubles(dataset: LabelledDataset, source: Path, problems: Problems) -> LabelledDataset:
    """Boxes that were of two classes and are one now."""
    images = []
    for image in dataset:
        first: dict[tuple[float, ...], int] = {}
        keep = [i for i, box in enumerate(image.boxes.tolist()) if first.setdefault(tuple(box), i) == i]
        if len(keep) < len(image):
            detail = f"{len(image) - len(keep)} boxes of {image.name} are the same, in one class"
            problems.add("duplicate", source, image.name, detail)
            flags = tuple(image.flags[i] for i in keep)
            image = replace(image, boxes=image.boxes[keep], classes=image.classes[keep], flags=flags)
        images.append(image)
    return LabelledDataset(tuple(images), dataset.class_names)


def _unique_stems(dataset: LabelledDataset, source: Path, problems: Problems) -> LabelledDataset:
    """Names that differ without their suffix, since a label file is called after its image.

    Folders called ``images`` go: Ultralytics looks for labels where the last of them is called ``labels``.
    """
    taken: set[str] = set()
    images = []
    for image in dataset:
        parts = PurePosixPath(image.name).parts
        name = PurePosixPath(*[part for part in parts[:-1] if part not in _IMAGE_FOLDERS], parts[-1])
        free, number = name, 2
        while same_name(str(free.with_suffix(""))) in taken:
            free, number = name.with_name(f"{name.stem}-{number}{name.suffix}"), number + 1
        taken.add(same_name(str(free.with_suffix(""))))
        if free != name:
            detail = f"{name} would share its label file with another image"
            problems.add("renamed", source, "", detail, f"renamed to {free}")
        images.append(replace(image, name=str(free)))
    return LabelledDataset(tuple(images), dataset.class_names)


def _place_images(dataset: LabelledDataset, folder: Path, copy: Copy) -> None:
    cuts: dict[Path, list[LabelledImage]] = defaultdict(list)
    for image in dataset:
        target = folder / image.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if image.path is None:
            continue
        if image.cut_from_video:
            cuts[image.path].append(image)
            continue
        try:
            if copy == "copy":
                shutil.copyfile(image.path, target)
            elif copy == "hardlink":
                os.link(image.path, target)
            else:
                target.symlink_to(image.path.resolve())
        except OSError as error:
            raise write_error(target, error) from error
    for video, images in cuts.items():
        _cut(video, images, folder)


def _cut(video: Path, images: list[LabelledImage], folder: Path) -> None:
    """Write the frames of one video as PNG."""
    waiting = {image.time_s: image for image in images}
    try:
        for time, picture in read_frames(video, [t for t in waiting if t is not None]):
            Image.fromarray(picture).save(folder / waiting.pop(time).name)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if waiting:
        times = ", ".join(f"{time:g}" for time in list(waiting)[:4])
        raise ConfigError(
            f"{video}: no frames at the labelled times {times}, though it goes on; is it damaged?"
        )
