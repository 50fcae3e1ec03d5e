"""From labelled images to batches: read late, by a worker, a bounded number kept.

A batch depends on the seed, the settings and its number alone, so training can stop and go on anywhere.
"""

from __future__ import annotations

import math
import signal
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from engines.train.labels.dataset import LabelledDataset, LabelledImage
from engines.train.tune.views import Picture, View, ViewSettings, alone, fitted, mosaic, recolour

STEP = 32  # what the sides of a canvas are multiples of
_KEPT_BYTES = 128 << 20  # pictures that a worker keeps decoded
_NOT_JUDGED = frozenset(("crowd", "difficult"))
_LONGEST = 4  # of a training canvas's sides, the longer over the shorter at most
_WELL_FILLED = 0.9  # as in stream.detect
_PLAIN = 0.25  # share of pictures shown alone that are shown as the pipeline shows them


def canvas_of(height: int, width: int, imgsz: tuple[int, int], longest: float = math.inf) -> tuple[int, int]:
    """(height, width) of the input for a frame of this size, as the pipeline has it.

    A square ``imgsz`` of the network gives the longer side; another one the number of pixels, or the very
    shape where the frame fills nearly all of it. Frames are taken to be at most ``longest`` times as long as
    they are wide.
    """
    ratio = min(max(width / height, 1 / longest), longest)
    tall, wide = imgsz
    if tall == wide:
        short = _up(tall * min(ratio, 1 / ratio))
        return (short, _up(wide)) if ratio >= 1 else (_up(tall), short)
    shares = tall, wide / ratio
    if min(shares) >= _WELL_FILLED * max(shares):
        return _up(tall), _up(wide)
    most = _near(tall * wide / STEP)
    return min(_near(math.sqrt(tall * wide / ratio)), most), min(_near(math.sqrt(tall * wide * ratio)), most)


def _up(side: float) -> int:
    return max(1, math.ceil(side / STEP - 1e-6)) * STEP


def _near(side: float) -> int:
    return max(1, round(side / STEP)) * STEP


def picture_of(image: LabelledImage, longest: int | None = None) -> Picture:
    """Read an image with its boxes, its longer side at most ``longest`` pixels.

    Raises:
        ValueError: it cannot be read, or has another size than its labels were made for.
    """
    pixels = image.read()
    height, width = pixels.shape[:2]
    if (height, width) != (image.height, image.width):
        raise ValueError(
            f"{image.path}: expected {image.width}x{image.height} pixels, found {width}x{height};"
            " it was changed while it was used"
        )
    boxes = image.boxes
    if longest is not None and max(height, width) > longest:
        scale = longest / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
        fx, fy = size[0] / width, size[1] / height
        boxes = boxes * np.array([fx, fy, fx, fy], np.float32)
    judged = np.array([_NOT_JUDGED.isdisjoint(flags) for flags in image.flags], bool)
    return Picture(pixels, boxes, image.classes, judged)


class Pictures:
    """Pictures of a dataset by place, the last used ones kept; ``bad`` has those that cannot be read."""

    def __init__(self, dataset: LabelledDataset, longest: int, kept_bytes: int = _KEPT_BYTES) -> None:
        self.dataset, self.longest, self.kept_bytes = dataset, longest, kept_bytes
        self.bad: dict[int, str] = {}
        self._kept: OrderedDict[int, Picture] = OrderedDict()
        self._bytes = 0

    def get(self, place: int) -> tuple[int, Picture] | None:
        """The picture at ``place``, or the next one that can be read, with its place; None: none can."""
        for offset in range(len(self.dataset)):
            n = (place + offset) % len(self.dataset)
            if n in self.bad:
                continue
            try:
                return n, self._read(n)
            except ValueError as error:
                self.bad[n] = str(error)
        return None

    def _read(self, n: int) -> Picture:
        if n in self._kept:
            self._kept.move_to_end(n)
            return self._kept[n]
        picture = picture_of(self.dataset.images[n], self.longest)
        self._kept[n] = picture
        self._bytes += picture.image.nbytes
        while self._bytes > self.kept_bytes and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].image.nbytes
        return picture


@dataclass(frozen=True)
class Batch:
    """Images uint8 (B, 3, H, W); truth float32 (B, M, 6): class (-1: padding), x1, y1, x2, y2, trust; ignore
    bool (B, H/8, W/8, 1); names of the pictures in each; what could not be read, by name. B is 0 where
    nothing could."""

    images: Tensor
    truth: Tensor
    ignore: Tensor
    names: tuple[str, ...]
    bad: dict[str, str]


@dataclass(frozen=True)
class BatchSettings:
    """``batch`` pictures each; ``imgsz``: height and width that canvases follow; from batch ``calm`` on there
    are no mosaics."""

    batch: int
    imgsz: tuple[int, int]
    calm: int
    views: ViewSettings


class Batches(Dataset[Batch]):
    """``batches[step]`` is batch number ``step``; every image leads one view in each epoch."""

    def __init__(self, dataset: LabelledDataset, settings: BatchSettings, seed: int) -> None:
        self.dataset, self.settings, self.seed = dataset, settings, seed
        self.per_epoch = math.ceil(len(dataset) / settings.batch)
        self._pictures: Pictures | None = None
        self._grain = np.random.default_rng(seed).normal(size=(256, 256)).astype(np.float32)

    def __len__(self) -> int:
        return self.per_epoch

    def __getitem__(self, step: int) -> Batch:
        s = self.settings
        if self._pictures is None:  # in the worker, not where the dataset was made
            self._pictures = Pictures(self.dataset, 2 * max(s.imgsz))
        order = self._order(step // self.per_epoch)
        first = step % self.per_epoch * s.batch
        rng = np.random.default_rng((self.seed, 11, step))
        lead = self.dataset.images[int(order[first])]
        height, width = canvas_of(lead.height, lead.width, s.imgsz, _LONGEST)
        views, names = [], []
        for i in range(first, first + s.batch):
            made = self._view(rng, int(order[i % len(order)]), height, width, step >= s.calm)
            if made is not None:
                views.append(made[0])
                names.append(made[1])
        bad = {self.dataset.images[n].name: reason for n, reason in self._pictures.bad.items()}
        return _stacked(views, tuple(names), bad, height, width)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.seed, 7, epoch)).permutation(len(self.dataset))

    def _view(
        self, rng: np.random.Generator, place: int, height: int, width: int, calm: bool
    ) -> tuple[View, str] | None:
        assert self._pictures is not None
        s = self.settings.views
        four = not calm and rng.random() < s.mosaic
        places = [place, *(int(n) for n in rng.integers(0, len(self.dataset), 3 if four else 0))]
        got = [self._pictures.get(n) for n in places]
        found = [entry for entry in got if entry is not None]
        if not found:
            return None
        name = ", ".join(dict.fromkeys(self.dataset.images[n].name for n, _ in found))
        pictures = [picture for _, picture in found]
        if not four and rng.random() < _PLAIN:
            view = fitted(pictures[0], height, width, s)
            return View(recolour(rng, view.image, self._grain, s), view.truth, view.ignore), name
        if four:
            canvas = mosaic(rng, [pictures[i] for i in rng.permutation(4)], height, width, s)
        else:
            canvas = alone(rng, pictures[0], height, width, s)
        return canvas.finish(recolour(rng, canvas.image, self._grain, s)), name

    def from_step(self, start: int, stop: int, workers: int) -> Iterator[Batch]:
        """Batches ``start`` to ``stop - 1`` in order; ``workers`` processes make them, 0: this one."""
        numbers = range(start, stop)
        if workers == 0:
            yield from (self[step] for step in numbers)
            return
        # Two batches ahead of each worker: memory does not grow with the data.
        loader: DataLoader[Batch] = DataLoader(
            self,
            batch_size=None,
            sampler=numbers,
            num_workers=workers,
            prefetch_factor=2,
            worker_init_fn=_in_worker,
        )
        yield from loader


def _in_worker(_number: int) -> None:
    """One thread, and Ctrl-C is the trainer's business."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _stacked(
    views: list[View], names: tuple[str, ...], bad: dict[str, str], height: int, width: int
) -> Batch:
    count = max([1, *(len(view.truth) for view in views)])
    images = np.zeros((len(views), 3, height, width), np.uint8)
    truth = np.full((len(views), count, 6), -1, np.float32)
    ignore = np.zeros((len(views), height // 8, width // 8, 1), bool)
    for i, view in enumerate(views):
        images[i] = view.image.transpose(2, 0, 1)
        truth[i, : len(view.truth)] = view.truth
        ignore[i, :, :, 0] = view.ignore
    return Batch(torch.from_numpy(images), torch.from_numpy(truth), torch.from_numpy(ignore), names, bad)
