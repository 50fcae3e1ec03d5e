"""How good a detector is on a show, by what the show says itself: on windows that were not trained on.

Measured on one view, at the size that the detector works at, against lessons of the detector before (its
views, time and motion), which stay the same whatever is measured:

- ``agreement``: AP50 of its boxes against the sure ones; boxes where nobody knows do not count.
- ``steady``: of its best boxes the share found again a quarter and half a second away, either way: the mean
  over as many boxes as there are likely ones, half as many again, twice and three times as many. One such
  depth alone hangs on the few boxes about there.
- ``quiet``: 1 less the share of its best boxes, as many as there are sure ones, that lie on known background.

The detector before agrees best with its own lessons, so a small gain may go unseen. References that favour
neither (what both ensembles agree on, or their mean) ranked looks at two rendered shows worse in trials. How
the score goes with AP50 is measured by ``bench/adapt_detector.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.special import expit, logit

from engines.train.measure import average_precision
from engines.train.show.pseudo import Lesson
from engines.train.show.teacher import Floats, Net, Seen, found_again, fused, view
from kernels.boxes import iou

_FOLLOW = 0.35
_FARTHEST = 6.0  # logits that scores may be moved by
_ROOM = 1.0  # logits between the last box kept and the first that is not, at most, that are halved
_DEPTHS = (1.0, 1.5, 2.0, 3.0)  # shares of the likely boxes
_KNOWN = 0.5  # share of a box that is judged from which it counts as wrong where nothing sure is


@dataclass(frozen=True)
class Signal:
    """See the module. ``boxes``: mean number of boxes a frame that the pipeline keeps, of all its looks."""

    agreement: float
    steady: float
    quiet: float
    boxes: float

    @property
    def score(self) -> float:
        """The one number that decides; higher is better."""
        return (self.agreement + self.steady) / 2

    def as_dict(self) -> dict[str, float]:
        return {key: round(value, 5) for key, value in (asdict(self) | {"score": self.score}).items()}


class Judge:
    """Measures detectors on held-out lessons."""

    def __init__(
        self,
        lessons: Sequence[Lesson],
        imgsz: tuple[int, int],
        threshold: float,
        sizes: Sequence[tuple[int, int]] = (),
        mirror: bool = False,
        joined: float = 0.52,
    ) -> None:
        """``threshold``: the working threshold of the pipeline. ``sizes``: those that it looks in, ``imgsz``
        alone by default; ``mirror``: every second one at the mirror image. ``joined``: IoU from which boxes
        of two looks are one."""
        self.joined = joined
        self.lessons, self.imgsz, self.threshold = list(lessons), imgsz, threshold
        self.views = [(size, mirror and k % 2 == 1) for k, size in enumerate(sizes or (imgsz,))]
        self.sure = sum(len(lesson.sure) for lesson in lessons)
        self.likely = max(self.sure, sum(lesson.likely for lesson in lessons))

    def measure(self, net: Net) -> Signal:
        """The signal of a detector; all 0 without a lesson."""
        if not self.lessons:
            return Signal(0.0, 0.0, 0.0, 0.0)
        looks = self._looks(net)
        if (self.imgsz, False) in self.views:
            seen = [of_one[self.views.index((self.imgsz, False))] for of_one in looks]
        else:
            seen = [view(net, lesson.picture[None], self.imgsz)[0] for lesson in self.lessons]
        judged = [self._judged(lesson, found) for lesson, found in zip(self.lessons, seen, strict=True)]
        agreement, _, _ = average_precision(
            [(found.boxes, found.scores) for found in judged], [lesson.sure for lesson in self.lessons]
        )
        surest = _score_of(seen, self.sure)
        return Signal(
            agreement=agreement,
            steady=self._steady(net, seen),
            quiet=1 - sum(int((f.scores >= surest).sum()) for f in self._false(judged)) / max(1, self.sure),
            boxes=self._kept(looks),
        )

    def boxes(self, net: Net) -> float:
        """Mean number of boxes a frame that the pipeline keeps of a detector; 0 without a lesson."""
        return self._kept(self._looks(net)) if self.lessons else 0.0

    def threshold_for(self, net: Net, boxes: float) -> float:
        """The score, in 0..1, that is to be the working threshold for so many boxes a frame to be kept.

        Scores of all looks are moved in logits before they are joined, as
        :func:`engines.train.export.calibrated` moves them, by the middle of what keeps so many, or
        rounding would lose the last. Where there are not so many boxes, or none are wanted, it is the working
        threshold.
        """
        looks = self._looks(net)
        if not boxes or self._kept(looks, _FARTHEST) < boxes:
            return self.threshold
        enough = self._shift_for(looks, boxes)
        too_many = self._shift_for(looks, boxes + 1 / len(self.lessons))
        middle = (enough + min(too_many, enough + _ROOM)) / 2
        return float(expit(logit(self.threshold) - middle))

    def _shift_for(self, looks: Sequence[Sequence[Seen]], boxes: float) -> float:
        """The smallest shift in logits with which at least so many boxes a frame are kept."""
        low, high = -_FARTHEST, _FARTHEST
        for _ in range(24):
            middle = (low + high) / 2
            enough = self._kept(looks, middle) >= boxes - 1e-9
            low, high = (low, middle) if enough else (middle, high)
        return high

    def _looks(self, net: Net) -> list[list[Seen]]:
        """What each of the pipeline's looks at each lesson's picture finds."""
        return [[view(net, lesson.picture[None], *one)[0] for one in self.views] for lesson in self.lessons]

    def _kept(self, looks: Sequence[Sequence[Seen]], shift: float = 0.0) -> float:
        """Mean number of boxes a frame at the working threshold, of scores moved by ``shift`` in logits."""
        moved = [
            [Seen(found.boxes, expit(logit(found.scores) + shift).astype(np.float32)) for found in of_one]
            for of_one in looks
        ]
        joined = [fused(of_one, self.joined) if len(of_one) > 1 else of_one[0] for of_one in moved]
        return float(np.mean([(found.scores >= self.threshold).sum() for found in joined]))

    def _judged(self, lesson: Lesson, found: Seen) -> Seen:
        """The boxes that are right or known to be wrong."""
        right = iou(found.boxes, lesson.sure).max(1, initial=0) >= 0.5
        known = np.array([1 - _mean(lesson.unjudged, box) for box in found.boxes]) >= _KNOWN
        keep = right | known.astype(bool)
        return Seen(found.boxes[keep], found.scores[keep])

    def _false(self, judged: Sequence[Seen]) -> list[Seen]:
        out = []
        for lesson, found in zip(self.lessons, judged, strict=True):
            wrong = iou(found.boxes, lesson.sure).max(1, initial=0) < 0.5
            out.append(Seen(found.boxes[wrong], found.scores[wrong]))
        return out

    def _steady(self, net: Net, seen: Sequence[Seen]) -> float:
        scores = [_score_of(seen, round(depth * self.likely)) for depth in _DEPTHS]
        again, count = np.zeros(len(scores)), np.zeros(len(scores))
        for lesson, found in zip(self.lessons, seen, strict=True):
            deep = found.scores >= np.array(scores)[:, None]  # (depths, n)
            for picture, moved in lesson.beside if deep.any() else ():
                there = view(net, picture[None], self.imgsz)[0]
                once = found_again(found.boxes, there, moved, _FOLLOW)
                again += (deep & (once >= np.array(scores)[:, None])).sum(1)
                count += deep.sum(1)
        return float(np.mean(again / np.maximum(count, 1)))


def _score_of(seen: Sequence[Seen], place: int) -> float:
    """The score of the ``place``-th best box of all pictures, or of the last; 1 without any."""
    every = np.sort(np.concatenate([found.scores for found in seen]))[::-1]
    return float(every[min(place, len(every)) - 1]) if len(every) and place else 1.0


def _mean(where: np.ndarray, box: Floats) -> float:
    x1, y1, x2, y2 = (max(0, round(float(v))) for v in box)
    part = where[y1:y2, x1:x2]
    return float(part.mean()) if part.size else 1.0
