"""What a sampled frame is to the one before it: the same picture held, another moment, or another shot.

Both questions are asked of a small version, the mean over blocks of 8 x 8 pixels:

- *held*: the largest change of any block's luma against the last picture delivered, so that a slow fade does
  not pass as one long still;
- *shot*: the mean of two distances in 0..1, of the colour histograms (4 x 4 x 4 bins, total variation) and of
  16 x 9 thumbnails (mean absolute difference, scaled so that unrelated pictures come near 1). A pan keeps its
  colours and an object that crosses keeps the thumbnail's most; a cut changes both.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BLOCK = 8
THUMB = (9, 16)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

Small = npt.NDArray[np.uint8]


class _Look:
    """One frame's small version, reduced."""

    def __init__(self, small: Small) -> None:
        self.luma = small.astype(np.float32) @ _LUMA
        coarse = (small >> 6).astype(np.int32)
        bins = (coarse[..., 0] * 16 + coarse[..., 1] * 4 + coarse[..., 2]).ravel()
        self.histogram = np.bincount(bins, minlength=64) / bins.size
        self.thumb = _thumbnail(small)


def _thumbnail(small: Small) -> npt.NDArray[np.float32]:
    rows = np.array_split(np.arange(small.shape[0]), min(THUMB[0], small.shape[0]))
    columns = np.array_split(np.arange(small.shape[1]), min(THUMB[1], small.shape[1]))
    lines = np.add.reduceat(small.astype(np.float32), [r[0] for r in rows], axis=0)
    cells = np.add.reduceat(lines, [c[0] for c in columns], axis=1)
    counts = np.outer([len(r) for r in rows], [len(c) for c in columns])
    return np.asarray(cells / counts[..., None], np.float32)


def change(a: _Look, b: _Look) -> float:
    """Distance 0..1 between two looks; 1 where their sizes differ."""
    if a.thumb.shape != b.thumb.shape:
        return 1.0
    colours = 0.5 * float(np.abs(a.histogram - b.histogram).sum())
    layout = min(1.0, float(np.abs(a.thumb - b.thumb).mean()) / 64)
    return 0.5 * (colours + layout)


class Scan:
    """Follows the frames of one segment in order. Deterministic; the first frame is never held.

    Args:
        held: largest change of a block's luma (0..255) that counts as held; 0 turns it off.
        shot: change (0..1) from which on two frames belong to different shots.
    """

    def __init__(self, held: float, shot: float) -> None:
        self.held_limit = held
        self.shot_limit = shot
        self.shot = 0
        self._delivered: _Look | None = None
        self._previous: _Look | None = None

    def look(self, small: Small) -> tuple[bool, bool]:
        """(held, a new shot begins) for the next frame. A held frame is never the first of a shot."""
        look = _Look(small)
        before, self._previous = self._previous, look
        if before is None:
            return False, False
        cut = change(before, look) > self.shot_limit
        if cut:
            self.shot += 1
        last = self._delivered
        held = (
            not cut
            and self.held_limit > 0
            and last is not None
            and last.luma.shape == look.luma.shape
            and float(np.abs(look.luma - last.luma).max()) <= self.held_limit
        )
        return held, cut

    def deliver(self) -> None:
        """The frame last looked at is delivered as a picture of its own."""
        self._delivered = self._previous
