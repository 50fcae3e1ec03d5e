"""One round of self-training: the detector's own confident answers on the films become boxes to learn from.

An answer is taken when most views of the frame (it and its mirror image, at one size or several) agree on it,
and when what is known of the motion does not contradict it. Where the detector half believes, the background
is no longer judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from engines.train.material import FILM, FILM_BOXES, REGISTERED, TRUST, Bank, Shelf, film_note
from engines.train.measure import covered, decode
from kernels.boxes import fuse, mirror_boxes

Floats = NDArray[np.float32]
_SAME = 0.6  # IoU from which boxes of two views are one answer


@torch.no_grad()
def agreed(
    net: nn.Module, image: NDArray[np.uint8], longer_sides: Sequence[int] = ()
) -> tuple[Floats, Floats]:
    """Character boxes xyxy (n, 4) and scores (n,) on which most views of a picture (h, w, 3) agree.

    Views are the picture and its mirror image at each of ``longer_sides`` (its own size where there are
    none); more of them cost more and agree on less that is wrong. How
    they are joined: :func:`engines.train.measure.fuse`.
    """
    boxes, scores, views = [], [], []
    for k, longer in enumerate(longer_sides or (max(image.shape[:2]),)):
        for view, (found, marks) in enumerate(_both_ways(net, image, longer / max(image.shape[:2]))):
            boxes.append(found)
            scores.append(marks)
            views.append(np.full(len(marks), 2 * k + view))
    merged, means, agreeing = fuse(
        np.concatenate(boxes), np.concatenate(scores), np.concatenate(views), len(views), _SAME
    )
    most = agreeing > len(views) / 2
    return merged[most], means[most]


def _both_ways(net: nn.Module, image: NDArray[np.uint8], scale: float) -> list[tuple[Floats, Floats]]:
    """Boxes in the picture's pixels and scores, of the picture and its mirror image resized by ``scale``."""
    full_height, full_width = image.shape[:2]
    if scale != 1:
        size = (max(1, round(full_width * scale)), max(1, round(full_height * scale)))
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    height, width = image.shape[:2]
    rows, cols = -(-height // 32) * 32, -(-width // 32) * 32
    pair = np.full((2, rows, cols, 3), 114, np.uint8)
    pair[0, :height, :width] = image
    pair[1, :height, :width] = image[:, ::-1]
    out = net(torch.from_numpy(pair).permute(0, 3, 1, 2).float() / 255).numpy()
    answers = []
    for mirrored in (False, True):
        boxes, scores = decode(out[int(mirrored)], 0, 0.05)
        if mirrored:
            boxes = mirror_boxes(boxes, width)
        boxes[:, [0, 2]] = boxes[:, [0, 2]].clip(0, width) * (full_width / width)
        boxes[:, [1, 3]] = boxes[:, [1, 3]].clip(0, height) * (full_height / height)
        answers.append((boxes, scores))
    return answers


def self_label(
    net: nn.Module,
    bank: Bank,
    boxes_per_frame: float = 1.0,
    longer_sides: Sequence[int] = (),
    judge_inside: bool = False,
) -> tuple[Bank, int]:
    """The bank with pseudo boxes on its real films, and how many there are.

    ``boxes_per_frame``: the budget that sets the smallest score taken, film by film, because one film's look
    is easier than another's; raising it takes more and worse boxes, and 0 takes none, which leaves the films
    as their motion has them. ``longer_sides``: as in :func:`agreed`.
    ``judge_inside``: that a part of a taken box is not a character itself is learned too.
    """
    net.eval()
    notes = bank.films.notes
    real = np.flatnonzero(notes[:, TRUST] < 1)
    answers = {
        int(i): agreed(net, np.ascontiguousarray(bank.films[int(i)][..., :3]), longer_sides) for i in real
    }
    floors = {}
    for film in np.unique(notes[real, FILM]):
        mine = [int(i) for i in real if notes[i, FILM] == film]
        every = np.sort(np.concatenate([np.zeros(1, np.float32), *(answers[i][1] for i in mine)]))[::-1]
        worst = float(every[min(len(every) - 1, int(boxes_per_frame * len(mine)))])
        floors[film] = worst if boxes_per_frame else np.inf
    total = 0

    def each() -> list[tuple[NDArray[np.uint8], list[float]]]:
        nonlocal total
        out = []
        for i in range(len(bank.films)):
            picture, note = bank.films[i], notes[i].tolist()
            if i in answers:
                boxes, scores = answers[i]
                picture = np.array(picture)
                moving = picture[..., 3] > 0
                registered, floor = note[REGISTERED] > 0, floors[notes[i, FILM]]
                taken: list[Floats] = []
                doubted: list[Floats] = []
                for box, score in zip(boxes, scores, strict=True):
                    x1, y1, x2, y2 = (round(float(v)) for v in box)
                    inside = moving[y1:y2, x1:x2]
                    if score < floor or not inside.size:
                        continue
                    # Something that never moves in a registered shot may be scenery: doubt, but no box.
                    sure = not registered or inside.mean() > 0.5
                    (taken if sure else doubted).append(box)
                _veil(picture, taken, 0 if judge_inside else 255)
                _veil(picture, doubted, 255)
                old = np.array(note[: 4 * FILM_BOXES], np.float32).reshape(-1, 4)
                old = old[~np.isnan(old[:, 0])]
                new = np.array(taken, np.float32).reshape(-1, 4)
                # A blob of motion inside an answer was a part of it, or the same.
                strong = boxes[scores >= 0.6 * floor]
                old = old[covered(old, strong) < 0.3]
                total += len(new)
                note = film_note(
                    np.concatenate([new, old])[:FILM_BOXES], registered or len(new) > 0, 0.6, int(note[FILM])
                )
            out.append((picture, note))
        return out

    return Bank(bank.sprites, bank.backdrops, Shelf.of(each(), notes.shape[1])), total


def _veil(picture: NDArray[np.uint8], boxes: list[Floats], value: int) -> None:
    """Write what is known (0) or not (255) inside boxes into a film picture's fourth channel."""
    for box in boxes:
        x1, y1, x2, y2 = (round(float(v)) for v in box)
        picture[y1:y2, x1:x2, 3] = value


def relabel(
    net: nn.Module,
    folder: Path,
    into: Path,
    boxes_per_frame: float = 1.0,
    longer_sides: Sequence[int] = (),
    judge_inside: bool = False,
) -> int:
    """:func:`self_label` from one bank's folder into another; returns the number of boxes."""
    bank, count = self_label(net, Bank.load(folder), boxes_per_frame, longer_sides, judge_inside)
    note = {"boxes_per_frame": boxes_per_frame, "longer_sides": list(longer_sides), "inside": judge_inside}
    bank.save(into, {"self_labelled": True, "from": folder.name, **note}, but_films=folder)
    return count
