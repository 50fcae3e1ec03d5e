"""Labelled images as a detector is trained on them: paths, sizes, boxes, classes. Pictures are read late."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engines.train.labels.images import IMAGE_SUFFIXES

Boxes = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int32]


def no_boxes() -> Boxes:
    """(0, 4) float32: an image that was looked at and holds nothing."""
    return np.zeros((0, 4), np.float32)


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One image and the boxes in it. ``ValueError`` where shapes, types or ranges are others than said here.

    Attributes:
        name: path below the dataset's folder, with ``/``; one of its kind in a dataset, never with ``..``.
        path: the image file; the video where ``time_s`` is given and no image was cut from it yet; None
            where only labels are known.
        width, height: pixels, upright as ``read`` gives them (turned by EXIF).
        boxes: (n, 4) float32 x1, y1, x2, y2 in pixels, 0 <= x1 < x2 <= width, 0 <= y1 < y2 <= height; the
            left edge of the first column is 0, the right edge of the last one is ``width``.
        classes: (n,) int32, places in the dataset's ``class_names``.
        flags: what else is known of each box: ``truncated``, ``difficult``, ``occluded``, ``crowd``, ...
        video: the video it is a frame of, or "" for a still image.
        time_s: its time in that video, where it is known.
        split: ``train``, ``val`` or ``test`` where the labels say so, else "".
    """

    name: str
    path: Path | None
    width: int
    height: int
    boxes: Boxes = field(default_factory=no_boxes)
    classes: Classes = field(default_factory=lambda: np.zeros(0, np.int32))
    flags: tuple[tuple[str, ...], ...] = ()
    video: str = ""
    time_s: float | None = None
    split: str = ""

    def __post_init__(self) -> None:
        count = len(self.boxes)
        if self.boxes.dtype != np.float32 or self.boxes.shape != (count, 4):
            raise ValueError(
                f"{self.name}: boxes: expected float32 (n, 4), got {self.boxes.dtype} {self.boxes.shape}"
            )
        if self.classes.dtype != np.int32 or self.classes.shape != (count,):
            raise ValueError(
                f"{self.name}: classes: expected int32 ({count},), got"
                f" {self.classes.dtype} {self.classes.shape}"
            )
        if not self.flags and count:
            object.__setattr__(self, "flags", ((),) * count)
        if len(self.flags) != count:
            raise ValueError(f"{self.name}: expected {count} flags, got {len(self.flags)}")
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"{self.name}: expected a positive size, got {self.width}x{self.height}")
        x1, y1, x2, y2 = self.boxes.T
        inside = (x1 >= 0) & (y1 >= 0) & (x2 <= self.width) & (y2 <= self.height) & (x1 < x2) & (y1 < y2)
        if not inside.all():
            bad = self.boxes[~inside][0].tolist()
            raise ValueError(f"{self.name}: box {bad} is not inside {self.width}x{self.height}")

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def cut_from_video(self) -> bool:
        """Whether ``path`` is a video, from which the frame at ``time_s`` is still to be cut."""
        if self.path is None or self.time_s is None:
            return False
        return self.path.name == self.video and self.path.suffix.lower() not in IMAGE_SUFFIXES

    def read(self) -> npt.NDArray[np.uint8]:
        """The picture: (height, width, 3) uint8 RGB, upright.

        Raises:
            ValueError: no image file is known, or it cannot be read.
        """
        if self.path is None:
            raise ValueError(f"{self.name}: no image file is known")
        if self.cut_from_video:
            from engines.train.labels.frames import read_frame

            return read_frame(self.path, self.time_s or 0.0)
        from stream.decode.images import read_image

        return read_image(self.path)


@dataclass(frozen=True, eq=False)
class LabelledDataset:
    """Labelled images and the names of their classes. ``ValueError`` where names or ids do not fit."""

    images: tuple[LabelledImage, ...]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"expected class names that differ, got {', '.join(self.class_names)}")
        if len({image.name for image in self.images}) != len(self.images):
            raise ValueError("expected image names that differ")
        for image in self.images:
            if len(image) and not 0 <= image.classes.min() <= image.classes.max() < len(self.class_names):
                raise ValueError(
                    f"{image.name}: expected classes 0 to {len(self.class_names) - 1},"
                    f" got {image.classes.min()} to {image.classes.max()}"
                )

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[LabelledImage]:
        return iter(self.images)

    def __repr__(self) -> str:
        return f"LabelledDataset({len(self)} images, {self.boxes} boxes, {len(self.class_names)} classes)"

    @property
    def boxes(self) -> int:
        """How many boxes there are."""
        return sum(len(image) for image in self.images)

    def counts(self) -> dict[str, int]:
        """How many boxes each class has, also none."""
        total = np.zeros(len(self.class_names), np.int64)
        for image in self.images:
            np.add.at(total, image.classes, 1)
        return dict(zip(self.class_names, total.tolist(), strict=True))

    def subset(self, places: Iterable[int]) -> LabelledDataset:
        """The images at these places, with the same classes."""
        return LabelledDataset(tuple(self.images[i] for i in places), self.class_names)

    def of_split(self, split: str) -> LabelledDataset:
        """The images whose ``split`` is this one."""
        return self.subset(i for i, image in enumerate(self.images) if image.split == split)

    def in_one_class(self, name: str) -> LabelledDataset:
        """All boxes in one class, as a detector of characters wants them, whoever they are."""
        images = tuple(replace(image, classes=np.zeros_like(image.classes)) for image in self.images)
        return LabelledDataset(images, (name,))
