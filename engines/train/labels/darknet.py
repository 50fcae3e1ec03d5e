"""DarkNet text: a file per image, a line per box, ``class cx cy width height`` in shares of the image.

Read are the layouts that are about: the text beside its image; Ultralytics' ``images/.../x.jpg`` and
``labels/.../x.txt``; class names in ``data.yaml``, ``obj.names``, ``*.names``, ``classes.txt`` or what a
``*.data`` file names; splits from ``data.yaml`` or ``*.data`` (folders or lists of images). An empty text is
an image that was looked at and holds nothing; an image whose lines are all unusable is not, and is left out.
Lines of polygons become their bounding boxes.

Written is what both DarkNet and Ultralytics read: ``images/``, ``labels/``, ``obj.names``, ``obj.data``,
``data.yaml`` and, with splits, ``train.txt`` and ``val.txt``. Numbers have six decimals, and more where that
many would not give the same float32 pixels again.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from engines.train.labels.check import RawBox, RawDataset, RawImage, ReadOptions, class_list, snapped
from engines.train.labels.dataset import LabelledDataset, LabelledImage
from engines.train.labels.images import ImageFile, ImageIndex, safe_name, walk
from engines.train.labels.problems import KEPT, NOT_CARRIED, Problems
from engines.train.labels.texts import Malformed, class_name, read_text, read_yaml
from stream.errors import ConfigError

#: Texts that are lists of classes or images, not labels of one image.
LISTS = ("classes.txt", "obj.names", "classes.names", "train.txt", "val.txt", "valid.txt", "test.txt")
_PIXELS = 2.0  # shares beyond it are no box that sticks out a little, but pixels
_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}


def read_darknet(source: Path, options: ReadOptions, problems: Problems) -> RawDataset:
    """Read a folder of images and texts, or the ``data.yaml`` or ``*.data`` file in it.

    Raises:
        ConfigError: no class names, or names that are no list; labels only, which have no sizes.
    """
    if options.labels_only:
        raise ConfigError(f"{source}: DarkNet labels are shares of the image; its size is in the image alone")
    root = source if source.is_dir() else source.parent
    about = options.names or (source if source.is_file() else names_file(root))
    if about is None:
        raise ConfigError(
            f"{root}: no class names; expected data.yaml, obj.names, *.names or classes.txt in it, or --names"
        )
    names, spec = _names(about)
    unique, places = class_list(names, about, problems)
    index = ImageIndex([options.images] if options.images else [root])
    splits = _splits(spec, about, index, problems)
    texts = {path for path in walk(root) if path.suffix.lower() == ".txt"}
    owners: dict[Path, list[ImageFile]] = defaultdict(list)
    for file in index.files.values():
        text = next((t for t in _texts_of(file, root) if t in texts), None)
        if text is not None:
            owners[text].append(file)
    images = []
    for text, files in owners.items():  # several where x.jpg and x.png have one text: finish() says so
        raw = RawImage(files[0].name, text, found=files, ratio=True, split=splits.get(files[0].path, ""))
        _read_boxes(raw, places, problems)
        images.append(raw)
    texts -= set(owners)
    for text in sorted(texts):
        _without_image(text, problems)
    return RawDataset(images, unique, index)


def names_file(root: Path) -> Path | None:
    """The file of a folder that tells the class names, or None."""
    files = sorted(root.iterdir())
    specs = [f for f in files if f.suffix.lower() in (".yaml", ".yml") and _has_names(f)]
    lists = [f for f in files if f.suffix.lower() == ".names" or f.name == "classes.txt"]
    inner = [f for f in (root / "labels" / "classes.txt", root / "images" / "classes.txt") if f.is_file()]
    deeper = [f for f in files if f.suffix.lower() == ".data"]
    return next(iter([*specs, *deeper, *lists, *inner]), None)


def _has_names(path: Path) -> bool:
    try:
        return "names" in read_yaml(path)
    except Malformed:
        return False


def _names(path: Path) -> tuple[list[str], dict[str, Any]]:
    """(class names by number, what else the file says)."""
    try:
        if path.suffix.lower() in (".yaml", ".yml"):
            spec = read_yaml(path)
            return _listed(spec), spec
        if path.suffix.lower() == ".data":
            pairs = (line.split("=", 1) for line in read_text(path).splitlines() if "=" in line)
            spec = {key.strip(): value.strip() for key, value in pairs}
            names = path.parent / (safe_name(spec.get("names", "")) or "obj.names")
            return _names(names if names.is_file() else path.parent / names.name)[0], spec
        lines = read_text(path).rstrip().splitlines()
        return [class_name(line) for line in lines], {}
    except Malformed as error:
        raise ConfigError(f"{path}: class names: {error}") from error


def _listed(spec: dict[str, Any]) -> list[str]:
    names, count = spec.get("names"), spec.get("nc")
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            shown = ", ".join(str(key)[:20] for key in list(names)[:6])
            raise Malformed(f"expected the numbers 0 to {len(names) - 1}, got {shown}")
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list):
        raise Malformed(f"expected a list under `names`, got {type(names).__name__}")
    if isinstance(count, int) and count != len(names):
        raise Malformed(f"nc says {count}, names has {len(names)}; correct one of them")
    return [class_name(name) for name in names]


def _splits(spec: dict[str, Any], about: Path, index: ImageIndex, problems: Problems) -> dict[Path, str]:
    """The split of each image that the specification names."""
    folder = about.parent
    if spec.get("train") == spec.get("val"):  # one folder for both: there is no split
        spec = {"test": spec.get("test")}
    base = folder / (safe_name(str(spec.get("path") or "")) or "")
    found: dict[Path, str] = {}
    for key, split in _SPLITS.items():
        value = spec.get(key)
        for entry in value if isinstance(value, list) else [value]:
            if not isinstance(entry, str) or not entry:
                continue
            files = _split_files(entry, [base, folder], index, problems)
            if not files:
                problems.add("missing_image", about, key, f"no images at {entry}", f"{KEPT} without a split")
            for path in files:
                if found.setdefault(path, split) != split:
                    problems.add("leaking_split", path, "", f"is in {found[path]} and in {split}", KEPT)
    return found


def _split_files(entry: str, bases: list[Path], index: ImageIndex, problems: Problems) -> list[Path]:
    parts = [p for p in PurePosixPath(entry.replace("\\", "/")).parts if p not in ("..", ".", "/")]
    # of "../train/images" and "/home/somebody/set/train/images", as much of the end as is here
    for start in range(len(parts)):
        name = safe_name("/".join(parts[start:]))
        for base in bases if name else ():
            path = base / (name or "")
            if path.is_dir():
                return [file for file in index.files if path in file.parents]
            if path.is_file() and path.suffix.lower() == ".txt":
                return _listed_images(path, index, problems)
    return []


def _listed_images(path: Path, index: ImageIndex, problems: Problems) -> list[Path]:
    """The images of a list; lines that mean none or several are problems."""
    try:
        lines = read_text(path).splitlines()
    except Malformed as error:
        problems.add("malformed", path, "", str(error))
        return []
    images = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        found = index.find(line, path.parent) if line else []
        if len(found) == 1:
            images.append(found[0].path)
        elif found:
            several = ", ".join(file.name for file in found[:4])
            problems.add("ambiguous_image", path, f"line {number}", f"{line} may be {several}")
        elif line:
            problems.add("missing_image", path, f"line {number}", f"{line}: no such image")
    return images


def _texts_of(file: ImageFile, root: Path) -> Iterator[Path]:
    """Where the text of an image may be, the likeliest first."""
    name = PurePosixPath(file.name).with_suffix(".txt")
    parts = file.path.with_suffix(".txt").parts
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] in ("images", "JPEGImages"):
            yield Path(*parts[:place], "labels", *parts[place + 1 :])
            break
    yield file.path.with_suffix(".txt")
    yield root / "labels" / name
    yield root / name


def _read_boxes(raw: RawImage, places: list[int], problems: Problems) -> None:
    try:
        lines = read_text(raw.file).splitlines()
    except Malformed as error:
        problems.add("malformed", raw.file, "", str(error))
        raw.readable = False
        return
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            kind, corners = _box(line.split(), raw, where, problems)
        except Malformed as error:
            problems.add("malformed", raw.file, where, str(error))
            raw.lost += 1
            continue
        if 0 <= kind < len(places):
            raw.boxes.append(RawBox(corners, places[kind], where))
        else:
            raw.lost += 1
            problems.add(
                "unknown_class",
                raw.file,
                where,
                f"class {kind}; there are 0 to {len(places) - 1} in the names",
            )


def _box(
    words: list[str], raw: RawImage, where: str, problems: Problems
) -> tuple[int, tuple[float, float, float, float]]:
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) < 5 or not math.isfinite(values[0]) or values[0] != int(values[0]):
        shown = " ".join(words)[:60]
        raise Malformed(f"expected `class cx cy width height`, got {shown!r}")
    shares = values[1:5] if len(values) <= 6 else values[1:]
    if any(_PIXELS < abs(share) < math.inf for share in shares):
        shown = " ".join(words[1:])[:60]
        raise Malformed(f"{shown}: values look like pixels; DarkNet wants shares of the image, 0 to 1")
    if len(values) >= 7 and len(values) % 2 == 1:
        problems.add("outline", raw.file, where, "a polygon", "kept as its bounding box")
        xs, ys = values[1::2], values[2::2]
        return int(values[0]), (min(xs), min(ys), max(xs), max(ys))
    if len(values) > 6:
        raise Malformed(f"expected 5 numbers, or points in pairs, got {len(values)} numbers")
    if len(values) == 6:
        problems.add("not_carried", raw.file, where, f"a sixth number (a score?): {values[5]:g}", NOT_CARRIED)
    return int(values[0]), corners_of(*values[1:5])


def corners_of(cx: float, cy: float, width: float, height: float) -> tuple[float, float, float, float]:
    """Centre and size -> corners. A size that is negative stays so: the box has no area."""
    return cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2


def _without_image(text: Path, problems: Problems) -> None:
    """A text that belongs to no image: labels without an image, or something else that is merely there."""
    try:
        words = next((line.split() for line in read_text(text).splitlines() if line.strip()), None)
    except Malformed as error:
        problems.add("malformed", text, "", str(error))
        return
    if text.name.lower() in LISTS:
        return
    try:
        labels = words is None or (len(words) >= 5 and all(math.isfinite(float(word)) for word in words))
    except ValueError:
        labels = False
    if labels:
        problems.add("missing_image", text, "", f"no image called {text.stem}")
    else:
        problems.add("ignored_file", text, "", "is no label file")


def darknet_lines(image: LabelledImage) -> Iterator[str]:
    """The lines of one image, without their ends."""
    size = (image.width, image.height)
    for label, box in zip(image.classes.tolist(), image.boxes, strict=True):
        yield f"{label} {_ratios(box, size)}"


def _ratios(box: Any, size: tuple[int, int]) -> str:
    """Centre and size in as few decimals, from six on, as give the same float32 pixels again."""
    x1, y1, x2, y2 = (float(value) for value in box)
    width, height = size
    ratios = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    text = ""
    for decimals in range(6, 14):
        text = " ".join(f"{ratio:.{decimals}f}" for ratio in ratios)
        shares = corners_of(*map(float, text.split()))
        back = [snapped(share, size[i % 2]) for i, share in enumerate(shares)]
        if np.array_equal(np.array(back, np.float32), box):
            break
    return text


def write_darknet(dataset: LabelledDataset, folder: Path, problems: Problems) -> None:
    """Write everything but the images, which belong under ``images/``."""
    for image in dataset:
        path = folder / "labels" / PurePosixPath(image.name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(line + "\n" for line in darknet_lines(image)), encoding="utf-8")
    flags = sum(bool(f) for image in dataset for f in image.flags)
    if flags:
        problems.add("not_carried", "labels/", "", f"flags of {flags} boxes (DarkNet has none)", NOT_CARRIED)
    names = dataset.class_names
    (folder / "obj.names").write_text("".join(name + "\n" for name in names), encoding="utf-8")
    lists = {}
    for split in ("train", "val", "test"):
        part = [f"./images/{image.name}\n" for image in dataset if image.split == split]
        if part:
            lists[split] = f"{split}.txt"
            (folder / lists[split]).write_text("".join(part), encoding="utf-8")
    spec: dict[str, Any] = dict(lists or {"train": "images", "val": "images"})
    spec["names"] = dict(enumerate(names))
    text = yaml.safe_dump(spec, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    data = {"classes": len(names), **{("valid" if k == "val" else k): v for k, v in lists.items()}}
    lines = [f"{key} = {value}\n" for key, value in (data | {"names": "obj.names"}).items()]
    (folder / "obj.data").write_text("".join(lines), encoding="utf-8")
