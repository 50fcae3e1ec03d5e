"""One round of self-training: the detector's own confident answers on the films become boxes to learn from.

An answer is taken when the frame and its mirror image agree on it, and when what is known of the motion does
not contradict it. Where the detector half believes, the background is no longer judged.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engines.train.material import FILM, FILM_BOXES, REGISTERED, TRUST, Bank, Shelf, film_note
from engines.train.measure import decode, iou_matrix

Floats = NDArray[np.float32]


@torch.no_grad()
def agreed(net: nn.Module, image: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Character boxes xyxy (n, 4) and scores (n,) on which a picture (h, w, 3) and its mirror image agree.

    A pair with IoU above 0.6 gives its mean box and the mean of its scores; the rest is left out.
    """
    height, width = image.shape[:2]
    rows, cols = -(-height // 32) * 32, -(-width // 32) * 32
    pair = np.full((2, rows, cols, 3), 114, np.uint8)
    pair[0, :height, :width] = image
    pair[1, :height, :width] = image[:, ::-1]
    out = net(torch.from_numpy(pair).permute(0, 3, 1, 2).float() / 255).numpy()
    boxes, scores = decode(out[0], 0, 0.05)
    other, marks = decode(out[1], 0, 0.05)
    if not len(boxes) or not len(other):
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    other[:, [0, 2]] = width - other[:, [2, 0]]
    overlap = iou_matrix(boxes, other)
    partner = overlap.argmax(1)
    good = overlap.max(1) > 0.6
    mean = (boxes[good] + other[partner[good]]) / 2
    mean[:, [0, 2]] = mean[:, [0, 2]].clip(0, width)
    mean[:, [1, 3]] = mean[:, [1, 3]].clip(0, height)
    return mean, (scores[good] + marks[partner[good]]) / 2


def _covered(box: Floats, others: Floats) -> float:
    """Largest share of ``box`` that one of ``others`` covers."""
    if not len(others):
        return 0.0
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    return float(np.clip(high - low, 0, None).prod(1).max() / max(1e-6, float((box[2:] - box[:2]).prod())))


def self_label(
    net: nn.Module, bank: Bank, boxes_per_frame: float = 1.0, doubt: float = 0.4
) -> tuple[Bank, int]:
    """The bank with pseudo boxes on its real films, and how many there are.

    ``boxes_per_frame``: the budget that sets the smallest score taken, film by film, because one film's look
    is easier than another's; raising it takes more and worse boxes.
    """
    net.eval()
    notes = bank.films.notes
    real = np.flatnonzero(notes[:, TRUST] < 1)
    answers = {int(i): agreed(net, np.ascontiguousarray(bank.films[int(i)][..., :3])) for i in real}
    floors = {}
    for film in np.unique(notes[real, FILM]):
        mine = [int(i) for i in real if notes[i, FILM] == film]
        every = np.sort(np.concatenate([np.zeros(1, np.float32), *(answers[i][1] for i in mine)]))[::-1]
        floors[film] = float(every[min(len(every) - 1, int(boxes_per_frame * len(mine)))])
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
                taken = []
                for box, score in zip(boxes, scores, strict=True):
                    x1, y1, x2, y2 = (round(float(v)) for v in box)
                    inside = moving[y1:y2, x1:x2]
                    if score < floor or not inside.size:
                        continue
                    # Something that never moves in a registered shot may be scenery: doubt, but no box.
                    if not registered or inside.mean() > 0.5:
                        taken.append(box)
                    picture[y1:y2, x1:x2, 3] = 255
                old = np.array(note[: 4 * FILM_BOXES], np.float32).reshape(-1, 4)
                old = old[~np.isnan(old[:, 0])]
                new = np.array(taken, np.float32).reshape(-1, 4)
                # A blob of motion inside an answer was a part of it, or the same.
                strong = boxes[scores >= 0.6 * floor]
                old = old[[_covered(box, strong) < 0.3 for box in old]] if len(old) else old
                total += len(new)
                note = film_note(
                    np.concatenate([new, old])[:FILM_BOXES], registered or len(new) > 0, 0.6, int(note[FILM])
                )
            out.append((picture, note))
        return out

    return Bank(bank.sprites, bank.backdrops, Shelf.of(each(), notes.shape[1])), total


def relabel(net: nn.Module, folder: Path, into: Path, boxes_per_frame: float = 1.0) -> int:
    """:func:`self_label` from one bank's folder into another; returns the number of boxes."""
    bank, count = self_label(net, Bank.load(folder), boxes_per_frame)
    bank.save(into, {"self_labelled": True, "boxes_per_frame": boxes_per_frame, "from": folder.name})
    return count
