"""Is one embedding of a show better than another? Told without labels, from what tracks and frames say.

Boxes of one frame are different characters, so two tracks that share a frame are *rivals*. A track of a
character who comes again has tracks of the same character elsewhere, which ought to be nearer to it than any
rival. The signal is how surely the nearest other tracks are nearer than the rivals: it falls when rivals come
near (characters are mixed up) and when the nearest tracks move away (views of one character fall apart). How
it goes with purity is measured by ``bench/adapt.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from engines.train.figures import unit

NEAREST = 5  # other tracks that ought to be nearer than rivals
SOFTNESS = 0.2  # cosine; raising it counts clear cases more, lowering it only those that are on the edge
SURE = 1.645  # standard errors, one chance in twenty; raising it keeps fewer adaptations
FEWEST = 8  # tracks with rivals from which a difference of two scores means something
_HELD = 16
_TRACKS = 500  # measured at most, two crops of each: a look at a large show is to take seconds


@dataclass(frozen=True)
class Signal:
    """What is known without labels of an embedding.

    Attributes:
        score: mean log-probability, negative, that a track's five nearest tracks are nearer than a rival (a
            logistic curve of the difference in cosine); more is better. NaN without rivals.
        verification: chance, 0..1, that first and last crop of a track are more alike than two rivals are;
            NaN without rivals or tracks of two crops.
        confusion: share of the rivals, 0..1, that are nearer than the fifth nearest other track; 0 is best.
        rivals: pairs of tracks it rests on.
        each: (T,) the score of every track with rivals; ``score`` is their mean.
    """

    score: float
    verification: float
    confusion: float
    rivals: int
    each: np.ndarray = field(repr=False, compare=False)

    def as_dict(self) -> dict[str, float]:
        """Plain values, for records; what is not known is left out."""
        names = ("score", "verification", "confusion", "rivals")
        return {n: round(getattr(self, n), 5) for n in names if getattr(self, n) == getattr(self, n)}

    def beats(self, other: Signal) -> bool:
        """Whether the score is above another's by more than chance, both measured by one judge.

        By more than 1.645 standard errors of the mean of the tracks' differences, over 8 tracks or more: the
        best of several looks is taken, and tracks that share a rival do not speak apart, so that one is
        often exceeded by chance.
        """
        gain = self.each - other.each
        if len(gain) < FEWEST:
            return False
        return bool(gain.mean() > SURE * gain.std(ddof=1) / np.sqrt(len(gain)))


class Judge:
    """Measures embeddings of one show by tracks that are held out of its training.

    Attributes:
        held: (M,) bool, the crops whose tracks and frames training is not to use.
        rows: (K,) int64, the crops whose embeddings :meth:`measure` takes: first and last of each track.

    Args:
        tracks: (M,) int64 from 0.
        couples: (P, 2) int64, crops that are different characters.
        held_out: share of the tracks that have rivals; 16 at least, where these are not more than half. 0
            holds none out, and all tracks measure.
        seed: which tracks.
    """

    def __init__(self, tracks: np.ndarray, couples: np.ndarray, held_out: float, seed: int) -> None:
        count = int(tracks.max()) + 1
        rng = np.random.default_rng([seed, count])
        pairs = np.unique(np.sort(tracks[couples], axis=1), axis=0)
        known = np.unique(pairs)  # the tracks that have rivals: others measure nothing
        share = max(round(held_out * len(known)), min(_HELD, len(known) // 2)) if held_out else 0
        held = np.zeros(count, bool)
        held[rng.permutation(known)[:share]] = True
        self.held = held[tracks]
        if held.any():
            pairs = pairs[held[pairs].any(1)]
        chosen = np.unique(_first(pairs, held, rng.permutation(count)))
        pairs = pairs[np.isin(pairs, chosen).all(1)]
        self._pairs = np.searchsorted(chosen, pairs)
        self._measured = held[chosen] if held.any() else np.ones(len(chosen), bool)
        order = np.argsort(tracks, kind="stable")
        starts = np.searchsorted(tracks[order], chosen)
        stops = np.searchsorted(tracks[order], chosen, side="right") - 1
        self._ends = np.stack([order[starts], order[stops]], 1)  # first and last crop of each track
        self.rows = np.unique(self._ends)
        self._ends = np.searchsorted(self.rows, self._ends)

    def measure(self, x: np.ndarray) -> Signal:
        """The signal of the embeddings (K, D) of the crops ``rows``; lengths do not matter."""
        if not len(self._pairs):
            return Signal(float("nan"), float("nan"), float("nan"), 0, np.empty(0))
        first, last = (unit(np.asarray(x, np.float64))[self._ends[:, side]] for side in (0, 1))
        mean = (first + last).mean(0) / 2  # of the show: what all its pictures have in common
        first, last = unit(first - mean), unit(last - mean)
        points = unit(first + last)
        similarity = points @ points.T
        rival = np.zeros(similarity.shape, bool)
        rival[self._pairs[:, 0], self._pairs[:, 1]] = rival[self._pairs[:, 1], self._pairs[:, 0]] = True
        others = np.where(rival | np.eye(len(points), dtype=bool), -np.inf, similarity)
        near = -np.sort(-others, axis=1)[:, :NEAREST]
        near = np.where(np.isfinite(near), near, -1.0)
        rows, columns = np.nonzero(rival & self._measured[:, None])
        cosine = similarity[rows, columns]
        margin = (near.mean(1)[rows] - cosine) / SOFTNESS
        moved = (self._ends[:, 0] != self._ends[:, 1]) & self._measured
        alike = np.einsum("nd,nd->n", first, last)[moved]
        verified = (alike[:, None] > cosine[None]).mean() if len(alike) else float("nan")
        chance = -np.logaddexp(0, -margin)
        known, which = np.unique(rows, return_inverse=True)
        each = np.bincount(which, chance) / np.bincount(which, minlength=len(known))
        return Signal(
            score=float(each.mean()),
            each=each,
            verification=float(verified),
            confusion=float((cosine > near[rows, -1]).mean()),
            rivals=len(self._pairs),
        )


def _first(pairs: np.ndarray, held: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The tracks that are measured: those held out that have rivals, their rivals, then others as come."""
    known = np.unique(pairs)
    order = np.concatenate([known[held[known]], known[~held[known]], others])
    _, place = np.unique(order, return_index=True)
    return order[np.sort(place)][:_TRACKS]
