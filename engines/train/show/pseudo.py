"""What a window of a show's frames teaches of its middle frame: sure boxes, sure background, and the rest.

A box is sure where the teacher's views agree on it and it is found again a moment earlier or later; where it
is a compact thing that moves on its own, half an agreement does. Background is what never moves in a
registered shot and no view believes in, and the inside of a sure box beside the box itself: a part of a
character is none. Everything else is not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from engines.train.films import CELL, FilmFrame, analyse, enlarged, shrunk
from engines.train.material import FILM_BOXES, FILM_NOTES, Shelf, film_note
from engines.train.measure import covered
from engines.train.show.teacher import (
    Floats,
    Net,
    Pictures,
    Seen,
    TeacherSettings,
    ensemble,
    found_again,
    shift,
    view,
)
from kernels.boxes import iou

STEP = 2  # frames of a window between two moments: half a second


@dataclass(frozen=True)
class PseudoSettings:
    """``sure``: score of the agreement from which a box is one; raising it takes fewer, better boxes. A view
    that misses it counts as 0, so what reaches a third is right far more often than that.
    ``doubt``: score from which the background is not judged any more. ``moving_sure``: score that is enough
    for a compact moving thing. ``again``: score of the box a moment away. ``still``: share of moving cells
    below which a box lies still; such a one is sure from ``still_sure`` on, and background below ``sure``.
    ``nested``: share of the smaller of two boxes in the larger above which only the surer is one.
    Scores are probabilities, as of a detector that works at a threshold of 0.1, see :meth:`at`."""

    sure: float = 0.35
    doubt: float = 0.1
    moving_sure: float = 0.15
    again: float = 0.03
    still: float = 0.1
    still_sure: float = 0.7
    nested: float = 0.8
    teacher: TeacherSettings = field(default_factory=TeacherSettings)

    def at(self, threshold: float) -> PseudoSettings:
        """For a detector that works at another threshold than 0.1: all scores moved in logits likewise."""
        t = min(max(threshold, 0.01), 0.99)

        def moved(score: float) -> float:
            odds = score / (1 - score) * (t / (1 - t)) * 9
            return odds / (1 + odds)

        return replace(
            self,
            sure=moved(self.sure),
            doubt=moved(self.doubt),
            moving_sure=moved(self.moving_sure),
            again=moved(self.again),
            still_sure=moved(self.still_sure),
        )


@dataclass(frozen=True)
class Lesson:
    """What is known of a picture.

    ``picture``: uint8 (H, W, 3). ``sure``: boxes (n, 4) xyxy. ``unjudged``: bool (H, W), True where nobody
    knows. ``likely``: how many boxes the views agree on, wherever they are. ``film``: the number
    of its video. ``beside``: of a lesson that measures, pictures of moments around it, each with how the
    background moved on the way there.
    """

    picture: Pictures
    sure: Floats
    unjudged: NDArray[np.bool_]
    likely: int
    film: int
    beside: tuple[tuple[Pictures, Floats], ...] = ()

    @property
    def teaches(self) -> bool:
        """Whether anything in it is known."""
        return len(self.sure) > 0 or float(self.unjudged.mean()) < 0.9


def lesson(
    net: Net,
    frames: Pictures,
    imgsz: tuple[int, int],
    film: int = 0,
    settings: PseudoSettings | None = None,
    *,
    measures: bool = False,
) -> Lesson:
    """What the frames (N, H, W, 3) of one shot, a quarter of a second apart, teach of the middle one.

    One that ``measures`` keeps the pictures around it.
    """
    s = settings or PseudoSettings()
    middle = len(frames) // 2
    picture = frames[middle].copy()  # or it would keep the whole window in memory
    motion = enlarged(analyse([shrunk(frame) for frame in frames]), picture)
    seen = ensemble(net, picture, imgsz, s.teacher)
    far = [k for k in (middle + STEP, middle - STEP) if 0 <= k < len(frames)]
    near = [k for k in (middle + STEP // 2, middle - STEP // 2) if measures and 0 <= k < len(frames)]
    moves = {k: shift(picture, frames[k]) for k in (*far, *near)}
    again = np.zeros(len(seen.scores), np.float32)
    for k in far:
        there = view(net, frames[k : k + 1], imgsz)[0]
        again = np.maximum(again, found_again(seen.boxes, there, moves[k], s.teacher.follow))
    sure, unjudged = judged(seen, again, motion, s)
    return Lesson(
        picture=picture,
        sure=seen.boxes[sure],
        unjudged=unjudged,
        likely=int((seen.scores >= s.sure).sum()),
        film=film,
        beside=tuple((frames[k].copy(), moved) for k, moved in moves.items()) if measures else (),
    )


def judged(
    seen: Seen, again: Floats, motion: FilmFrame, s: PseudoSettings
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which boxes are sure, bool (n,), and where nothing is known, bool (H, W).

    ``seen``: of the middle frame, best first. ``again`` (n,): the best score of each a moment earlier or
    later, 0 where there is no such moment. ``motion``: of the same frame.
    """
    height, width = motion.image.shape[:2]
    unknown = np.ones((height, width), bool)
    if motion.registered:
        cells = np.kron(motion.unknown, np.ones((CELL, CELL), bool))
        unknown[: cells.shape[0], : cells.shape[1]] = cells[:height, :width]
    stirred = np.array([_share(unknown, box) for box in seen.boxes], np.float32)
    blob = iou(seen.boxes, motion.boxes).max(1, initial=0) >= 0.5
    lies_still = (stirred < s.still) & motion.registered
    floor = np.where(blob, s.moving_sure, np.where(lies_still, s.still_sure, s.sure))
    sure = (seen.scores >= floor) & (again >= s.again)
    sure = _apart(seen.boxes, sure, s.nested)
    sure &= np.cumsum(sure) <= FILM_BOXES  # best first
    unjudged = unknown.copy()
    for box in seen.boxes[sure]:
        unjudged[_inside(box)] = False
    within = covered(seen.boxes, seen.boxes[sure]) > 0.8
    doubtful = ~sure & ~within & (seen.scores >= np.where(lies_still, s.sure, s.doubt))
    for box in seen.boxes[doubtful]:
        unjudged[_inside(box)] = True
    return sure, unjudged


def _apart(boxes: Floats, sure: NDArray[np.bool_], nested: float) -> NDArray[np.bool_]:
    """The sure ones, best first, but for parts of a surer one and what holds a surer one."""
    taken: list[int] = []
    for i in np.flatnonzero(sure):
        one, others = boxes[i : i + 1], boxes[taken]
        inner = max(covered(one, others).max(initial=0), covered(others, one).max(initial=0))
        if inner <= nested:
            taken.append(int(i))
    apart = np.zeros(len(boxes), bool)
    apart[taken] = True
    return apart


def _inside(box: Floats) -> tuple[slice, slice]:
    x1, y1, x2, y2 = (max(0, round(float(v))) for v in box)
    return slice(y1, y2), slice(x1, x2)


def _share(where: NDArray[np.bool_], box: Floats) -> float:
    part = where[_inside(box)]
    return float(part.mean()) if part.size else 0.0


def shelf(lessons: Sequence[Lesson], trust: float) -> Shelf:
    """The lessons as film pictures of a training bank, see :class:`engines.train.material.Bank`."""
    pictures = [
        (
            np.dstack([x.picture, x.unjudged.astype(np.uint8) * np.uint8(255)]),
            film_note(x.sure, True, trust, x.film),
        )
        for x in lessons
    ]
    return Shelf.of(pictures, FILM_NOTES)
