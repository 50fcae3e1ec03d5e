"""Training and validation parts that share no near-identical frames."""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from engines.train.labels.dataset import LabelledDataset, LabelledImage
from stream.errors import ConfigError

_RUNS = 4  # the validation part of a lone video is made of about so many runs of frames
_NUMBERED = re.compile(r"^(.*?)[-_. ]*(?:t|f|frame|img)?[-_. ]*(\d+(?:\.\d+)?)$", re.IGNORECASE)
_ROBOFLOW = re.compile(r"_(jpg|jpeg|png)\.rf\.[0-9a-f]{32}$")  # x_jpg.rf.<hash>: copies of one picture


def split(dataset: LabelledDataset, val: float = 0.1, seed: int = 0) -> LabelledDataset:
    """The same dataset with each image's ``split`` set to ``train`` or ``val``.

    Frames of one video stay together, whether the labels name the video or the file names are numbered
    (``ep1_0007.png``). Where even the shortest video is more than twice the validation part, as where all
    images are of one, runs of consecutive frames stay together: only those at the ends of a run have
    neighbours on the other side. What is drawn depends on the seed and the names, not on the images' order.

    Args:
        val: share of the images for validation, over 0 and below 1. Reached as closely as whole videos allow;
            with two images or more, both parts get at least one.
        seed: another seed draws other videos.

    Raises:
        ConfigError: ``val`` out of its range, or fewer than two images.
    """
    if not 0 < val < 1:
        raise ConfigError(f"val: expected a share over 0 and below 1, got {val:g}; for example 0.1")
    if len(dataset) < 2:
        raise ConfigError(f"val: a split needs two images or more, there are {len(dataset)}")
    units = _units(dataset.images, val)
    chosen = _draw(units, val * len(dataset), seed)
    members = {place for key in chosen for place in units[key]}
    images = tuple(
        replace(image, split="val" if place in members else "train")
        for place, image in enumerate(dataset.images)
    )
    return LabelledDataset(images, dataset.class_names)


def video_of(image: LabelledImage) -> tuple[str, float]:
    """(the video or numbered series an image belongs to, its place in it); a lone image is its own series."""
    if image.video:
        return f"video {image.video}", image.time_s if image.time_s is not None else _number(image.name)[1]
    return _number(image.name)


def _number(name: str) -> tuple[str, float]:
    path = PurePosixPath(name)
    stem = _ROBOFLOW.sub("", path.stem)
    found = _NUMBERED.match(stem)
    series = found[1] if found else stem
    return f"series {path.parent}/{series}", float(found[2]) if found else 0.0


def _units(images: Sequence[LabelledImage], val: float) -> dict[str, list[int]]:
    """What stays together: places of images by a name of their own."""
    videos: dict[str, list[int]] = defaultdict(list)
    for place, image in enumerate(images):
        videos[video_of(image)[0]].append(place)
    if len(videos) > 1 and min(map(len, videos.values())) <= 2 * val * len(images):
        return videos
    length = max(1, min(math.ceil(val * len(images) / _RUNS), len(images) // 2))
    runs = {}
    for name, members in videos.items():
        ordered = sorted(members, key=lambda i: (video_of(images[i])[1], images[i].name))
        for start in range(0, len(ordered), length):
            runs[f"{name} {start}"] = ordered[start : start + length]
    return runs


def _draw(units: dict[str, list[int]], wanted: float, seed: int) -> list[str]:
    """Units whose sizes come close to ``wanted`` images; at least one, never all."""
    order = sorted(units, key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest())
    chosen: list[str] = []
    count = 0
    for key in order:
        size = len(units[key])
        if abs(count + size - wanted) < abs(count - wanted) and len(chosen) < len(units) - 1:
            chosen.append(key)
            count += size
    return chosen or [min(order, key=lambda key: len(units[key]))]
