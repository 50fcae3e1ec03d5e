"""How good a detector is on labelled images: AP50, AP50:95, the score to work at, hits and misses.

A picture goes to the net as the pipeline sends it, and its output is read as the pipeline reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engines.train.labels.dataset import LabelledDataset
from engines.train.measure import average_precision
from engines.train.tune.data import canvas_of, picture_of
from engines.train.tune.views import Picture
from kernels.boxes import iou, nms, unletterbox, xywh_to_xyxy
from kernels.image import fit_letterbox, letterbox

Floats = NDArray[np.float32]
FLOOR = 0.01  # scores below it change no figure that is looked at
OVERLAP = 0.5  # boxes of one class that overlap more are one, as the pipeline has it by default
MOST = 100  # boxes of a picture, best first, as COCO counts
IOUS = tuple(0.5 + 0.05 * i for i in range(10))


@dataclass(frozen=True)
class Found:
    """What a detector found in one picture: boxes (n, 4) xyxy in its pixels, scores (n,), classes (n,),
    best first."""

    boxes: Floats
    scores: Floats
    classes: NDArray[np.int32]


@dataclass(frozen=True)
class Figures:
    """Means over the classes that have boxes. ``recall``: of all boxes, at IoU 0.5 and any score;
    ``best_score``: where F1 of all boxes is best; ``by_class``: AP50 of each class that has boxes."""

    ap50: float
    ap50_95: float
    recall: float
    best_score: float
    by_class: dict[str, float] = field(default_factory=dict)


@torch.no_grad()
def detect(net: nn.Module, picture: Picture, imgsz: tuple[int, int], device: str = "cpu") -> Found:
    """Run ``net`` (evaluation mode) on one picture, on the canvas it gets in the pipeline."""
    source_height, source_width = picture.image.shape[:2]
    height, width = canvas_of(source_height, source_width, imgsz)
    place = fit_letterbox(source_height, source_width, height, width)
    images = letterbox(picture.image[None], place, mul=1 / 255)
    out = net(torch.from_numpy(images).to(device))[0].float().cpu().numpy()
    all_scores = out[4:]
    keep = np.flatnonzero(all_scores.max(0) >= FLOOR)
    scores, classes = all_scores[:, keep].max(0), all_scores[:, keep].argmax(0).astype(np.int32)
    boxes = unletterbox(xywh_to_xyxy(np.ascontiguousarray(out[:4, keep].T)), place)
    real = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
    boxes, scores, classes = boxes[real], scores[real], classes[real]
    order = nms(boxes, scores, classes, OVERLAP, MOST)
    return Found(boxes[order], scores[order], classes[order])


def look_through(
    net: nn.Module, dataset: LabelledDataset, imgsz: tuple[int, int], device: str, bad: dict[str, str]
) -> Iterator[tuple[int, Picture, Found]]:
    """(place, picture, what was found) of each image; those that cannot be read go into ``bad`` by name."""
    net.eval()
    for place, image in enumerate(dataset):
        try:
            picture = picture_of(image)
        except ValueError as error:
            bad[image.name] = str(error)
            continue
        yield place, picture, detect(net, picture, imgsz, device)


def evaluate(
    net: nn.Module, dataset: LabelledDataset, imgsz: tuple[int, int], device: str = "cpu"
) -> tuple[Figures, dict[str, str]]:
    """Figures over a dataset, and the images that could not be read with the reasons.

    What lies on boxes that are not judged (crowds, difficult ones) counts neither way.
    """
    bad: dict[str, str] = {}
    found: list[Found] = []
    truth: list[tuple[Floats, NDArray[np.int32]]] = []
    for _, picture, seen in look_through(net, dataset, imgsz, device, bad):
        found.append(_judged(seen, picture))
        truth.append((picture.boxes[picture.judged], picture.classes[picture.judged]))
    return figures(found, truth, dataset.class_names), bad


def _judged(found: Found, picture: Picture) -> Found:
    """Without what lies by half or more on something that is not judged, and on nothing that is."""
    unclear = picture.boxes[~picture.judged]
    if not len(unclear) or not len(found.boxes):
        return found
    low = np.maximum(found.boxes[:, None, :2], unclear[None, :, :2])
    high = np.minimum(found.boxes[:, None, 2:], unclear[None, :, 2:])
    area = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(1)
    inside = np.clip(high - low, 0, None).prod(2).max(1) >= 0.5 * area
    sure = picture.boxes[picture.judged]
    hit = iou(found.boxes, sure).max(1, initial=0) >= OVERLAP
    keep = ~inside | hit
    return Found(found.boxes[keep], found.scores[keep], found.classes[keep])


def figures(
    found: list[Found], truth: list[tuple[Floats, NDArray[np.int32]]], names: tuple[str, ...]
) -> Figures:
    """Figures of what was found against boxes (n, 4) and classes (n,), picture by picture."""
    at_50: dict[str, float] = {}
    over: list[float] = []
    for k, name in enumerate(names):
        true = [boxes[classes == k] for boxes, classes in truth]
        if not any(len(boxes) for boxes in true):
            continue
        mine = [(f.boxes[f.classes == k], f.scores[f.classes == k]) for f in found]
        values = [average_precision(mine, true, threshold)[0] for threshold in IOUS]
        at_50[name] = values[0]
        over.append(float(np.mean(values)))
    # All classes at once for recall and score: boxes of other classes are moved out of each other's reach.
    far = [(_apart(f.boxes, f.classes), f.scores) for f in found]
    _, recall, best = average_precision(far, [_apart(boxes, classes) for boxes, classes in truth])
    ap50 = float(np.mean(list(at_50.values()))) if at_50 else 0.0
    return Figures(ap50, float(np.mean(over)) if over else 0.0, recall, best, at_50)


def _apart(boxes: Floats, classes: NDArray[np.int32]) -> Any:
    return boxes.astype(np.float64) + 1e6 * classes[:, None]
