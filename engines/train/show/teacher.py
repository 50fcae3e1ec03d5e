"""What a detector says of a picture through several views at once, and whether the next moment bears it out.

Mirror image and sizes err differently: what they agree on is right more often than what one view says
(weighted boxes fusion: Solovyev et al. 2021, arXiv:1910.13302), and a character that is found in a frame is
there in its neighbours too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engines.train.films import shift_between
from engines.train.measure import suppress
from engines.train.tune.data import STEP, canvas_of
from kernels.boxes import fuse, iou, mirror_boxes, unletterbox, xywh_to_xyxy
from kernels.image import fit_letterbox, letterbox

Floats = NDArray[np.float32]
Pictures = NDArray[np.uint8]
Net = Callable[[Floats], Floats]  # (N, 3, H, W) RGB 0..1 -> (N, 4 + C, A), as a detector's file puts it out
LOWEST = 0.02  # score from which a box is looked at


@dataclass(frozen=True)
class Seen:
    """Boxes xyxy (n, 4) float32 in the picture's pixels and their scores (n,) in 0..1."""

    boxes: Floats
    scores: Floats


@dataclass(frozen=True)
class TeacherSettings:
    """``scales``: sizes of the views, as shares of the detector's own, each with its mirror image; more views
    are surer and slower. ``same``: IoU from which boxes of two views are one thing's. ``follow``: IoU from
    which a box is the one of the moment before, moved with the background or not."""

    scales: tuple[float, ...] = (0.8, 1.0, 1.3)
    same: float = 0.55
    follow: float = 0.35


def net_of_file(path: Path) -> Net:
    """A detector's file, run on one core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: np.asarray(session.run(None, {name: images})[0])


def net_of_torch(net: nn.Module) -> Net:
    """A network in evaluation mode."""

    def run(images: Floats) -> Floats:
        with torch.inference_mode():
            out: Floats = net(torch.from_numpy(images)).float().numpy()
        return out

    return run


def view(net: Net, pictures: Pictures, imgsz: tuple[int, int], mirror: bool = False) -> list[Seen]:
    """Characters (class 0) of each picture (N, H, W, 3), on the canvas that the pipeline has."""
    height, width = pictures.shape[1:3]
    place = fit_letterbox(height, width, *canvas_of(height, width, imgsz))
    shown = np.ascontiguousarray(pictures[:, :, ::-1]) if mirror else pictures
    found = []
    for row in net(letterbox(shown, place, mul=1 / 255)):
        keep = np.flatnonzero(row[4] >= LOWEST)
        boxes = unletterbox(xywh_to_xyxy(np.ascontiguousarray(row[:4, keep].T)), place).astype(np.float32)
        real = (boxes[:, 2:] > boxes[:, :2]).all(1)
        boxes, scores = boxes[real], row[4, keep][real]
        if mirror:
            boxes = mirror_boxes(boxes, width)
        order = suppress(boxes, scores)
        found.append(Seen(boxes[order], scores[order].astype(np.float32)))
    return found


def scaled(imgsz: tuple[int, int], scale: float) -> tuple[int, int]:
    """``scale`` times a size, in multiples of 32."""
    tall, wide = (max(1, round(side * scale / STEP)) * STEP for side in imgsz)
    return tall, wide


def fused(views: Sequence[Seen], same: float) -> Seen:
    """One answer of several views: the boxes of one thing averaged by score, its score that of the mean view.

    A view that does not see the thing counts as 0, so the score says how many agree, and how surely.
    """
    boxes = np.concatenate([seen.boxes for seen in views])
    scores = np.concatenate([seen.scores for seen in views])
    source = np.repeat(np.arange(len(views)), [len(seen.scores) for seen in views])
    return Seen(*fuse(boxes, scores, source, len(views), same)[:2])


def ensemble(net: Net, picture: Pictures, imgsz: tuple[int, int], settings: TeacherSettings) -> Seen:
    """What all views of a picture (H, W, 3) agree on."""
    views = [
        view(net, picture[None], scaled(imgsz, scale), mirror)[0]
        for scale in settings.scales
        for mirror in (False, True)
    ]
    return fused(views, settings.same)


def shift(a: Pictures, b: Pictures) -> Floats:
    """(2,) float32: x and y in pixels that the background moves by from ``a`` to ``b``; 0 if unsure."""
    dy, dx, sure = shift_between(*(picture[::2, ::2].astype(np.float32).mean(2) for picture in (a, b)))
    return np.array((-2 * dx, -2 * dy) if sure > 0.03 else (0, 0), np.float32)


def found_again(boxes: Floats, there: Seen, moved: Floats, follow: float) -> Floats:
    """(n,) float32: the best score of a box of another moment that is where each of ``boxes`` (n, 4) was.

    ``moved``: what :func:`shift` says of the way there; a thing may move with the background or stay.
    """
    if not len(boxes) or not len(there.scores):
        return np.zeros(len(boxes), np.float32)
    with_it = iou(boxes + np.tile(moved, 2), there.boxes)
    near = np.maximum(iou(boxes, there.boxes), with_it) >= follow
    best: Floats = np.where(near, there.scores[None], 0).max(1).astype(np.float32)
    return best
