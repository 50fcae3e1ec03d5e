"""Average precision of a detector on pictures whose boxes are known; for watching a training run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.boxes import iou

Floats = NDArray[np.float32]


def covered(boxes: Floats, others: Floats) -> Floats:
    """(N,) largest share of each box (N, 4) that one of ``others`` (M, 4) covers; 0 without any."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2).max(1, initial=0)
    area = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(1), 1e-6)
    share: Floats = (shared / area).astype(np.float32)
    return share


def suppress(boxes: Floats, scores: Floats, threshold: float = 0.5, most: int = 50) -> NDArray[np.int64]:
    """Greedy non-maximum suppression: indices kept, best first. Raising ``threshold`` keeps more."""
    order = np.argsort(-scores, kind="stable")[:300]
    kept: list[int] = []
    while len(order) and len(kept) < most:
        first = int(order[0])
        kept.append(first)
        order = order[1:][iou(boxes[first : first + 1], boxes[order[1:]])[0] <= threshold]
    return np.array(kept, np.int64)


def decode(output: Floats, index: int, score: float = 0.02) -> tuple[Floats, Floats]:
    """Boxes xyxy (n, 4) and scores (n,) of class ``index`` from one picture's output (4 + C, A)."""
    scores = output[4 + index]
    keep = scores > score
    centre, half = output[:2, keep].T, output[2:4, keep].T / 2
    boxes = np.concatenate([centre - half, centre + half], 1).astype(np.float32)
    chosen = suppress(boxes, scores[keep])
    return boxes[chosen], scores[keep][chosen].astype(np.float32)


def average_precision(
    found: list[tuple[Floats, Floats]], truth: list[Floats], least: float = 0.5
) -> tuple[float, float, float]:
    """(AP, recall at any score, best F1's score) over pictures; area under the interpolated precision curve.

    A detection is right when it overlaps a box nobody has claimed yet by ``least`` or more; each picture's
    are matched best score first (Everingham et al. 2010). Without any true box all three are 0.
    """
    total = sum(len(t) for t in truth)
    rows: list[tuple[float, bool]] = []
    for (boxes, scores), true in zip(found, truth, strict=True):
        taken = np.zeros(len(true), bool)
        overlap = iou(boxes, true) if len(true) and len(boxes) else np.zeros((len(boxes), len(true)))
        for i in np.argsort(-scores, kind="stable"):
            free = np.where(taken, -1.0, overlap[i]) if len(true) else np.zeros(0)
            hit = len(free) > 0 and float(free.max()) >= least
            if hit:
                taken[int(free.argmax())] = True
            rows.append((float(scores[i]), hit))
    if not rows or total == 0:
        return 0.0, 0.0, 0.0
    rows.sort(key=lambda r: -r[0])
    hits = np.cumsum([hit for _, hit in rows])
    recall = hits / total
    precision = hits / np.arange(1, len(rows) + 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    area = float(np.sum(np.diff(np.concatenate([[0.0], recall])) * envelope))
    return area, float(recall[-1]), rows[int(f1.argmax())][0]
