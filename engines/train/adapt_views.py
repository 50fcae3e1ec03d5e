"""Views of a show's own crops, and which crops make a batch of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engines.train.views import GREY, SIDE, STORED, Augmentation, Bank, Uniform, Views, normalize

_NONE = Bank(
    pictures=np.empty((0, STORED, STORED, 4), np.uint8),
    boxes=np.empty((0, 4), np.float32),
    identities=np.empty(0, np.int32),
    kinds=np.empty(0, np.uint8),
    frames=np.empty(0, np.int32),
    backgrounds=np.empty((0, STORED, STORED, 3), np.uint8),
)


@dataclass(frozen=True)
class CropAugmentation:
    """How far two views of a crop differ. Raising any of them gives harder, less lifelike views.

    ``colour`` holds what crops share with the pictures of :class:`engines.train.views.Augmentation`:
    brightness, saturation, cast, offset, erasures and softening. Hues stay: they tell characters apart.
    """

    rotation: float = 15.0  # degrees, either way
    smallest: float = 0.8  # scale of the crop in its square
    largest: float = 1.1
    aspect: float = 0.1  # stretch, either way
    shift: float = 0.18  # of the square, either way
    colour: Augmentation = field(default_factory=Augmentation)


class CropViews(Views):
    """Makes normalized views ``(N, 3, 64, 64)`` float32 of crops ``(M, 64, 64, 3)`` uint8."""

    def __init__(self, crops: np.ndarray, augmentation: CropAugmentation | None = None) -> None:
        self.own = augmentation or CropAugmentation()
        super().__init__(_NONE, augmentation=self.own.colour)
        self.crops = crops

    def make(
        self, chosen: np.ndarray, generator: torch.Generator, backgrounds: np.ndarray | None = None
    ) -> Tensor:
        """Views of the crops numbered ``chosen`` (N,), each in its own background."""
        n = len(chosen)

        def uniform(low: float = 0.0, high: float = 1.0, size: int = n) -> Tensor:
            return torch.rand(size, generator=generator) * (high - low) + low

        grid = functional.affine_grid(self._place(uniform, n), [n, 3, SIDE, SIDE], align_corners=False)
        # the grey around a crop goes on outside of it
        picture = pixels(self.crops[chosen]) - GREY
        picture = functional.grid_sample(picture, grid, align_corners=False) + GREY
        return normalize(self._soften(self._erase(self._colour(picture, uniform), uniform), uniform))

    def _place(self, uniform: Uniform, n: int) -> Tensor:
        """Turned, scaled, stretched, shifted and mirrored: (N, 2, 3), from a view's places to the crop's."""
        own = self.own
        angle = uniform(-own.rotation, own.rotation) * math.pi / 180
        size = 1 / uniform(own.smallest, own.largest)
        stretch = torch.exp(uniform(-own.aspect, own.aspect))
        mirror = torch.where(uniform() < 0.5, -1.0, 1.0)
        theta = torch.empty(n, 2, 3)
        theta[:, 0, 0] = angle.cos() * size * stretch * mirror
        theta[:, 0, 1] = -angle.sin() * size * stretch
        theta[:, 1, 0] = angle.sin() * size / stretch * mirror
        theta[:, 1, 1] = angle.cos() * size / stretch
        theta[:, 0, 2] = 2 * uniform(-own.shift, own.shift)
        theta[:, 1, 2] = 2 * uniform(-own.shift, own.shift)
        return theta


def pixels(crops: np.ndarray) -> Tensor:
    """uint8 (N, S, S, 3) -> float32 (N, 3, S, S) in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(crops)).permute(0, 3, 1, 2).float().div_(255)


class PairSampler:
    """Draws pairs of crops of one track, a share of them so that two pairs come from one frame each.

    Args:
        tracks: (M,) int64, crops of one number are one character.
        couples: (P, 2) int64, crops that are different characters: two boxes of one frame.
        held: (M,) bool, crops that are seen alone: no partner but themselves, no couples. What is known of
            their tracks and frames is left for measuring.
        pairs: in a batch. Raising it makes steps slower and steadier.
    """

    def __init__(self, tracks: np.ndarray, couples: np.ndarray, held: np.ndarray, pairs: int = 64) -> None:
        self.pairs = min(pairs, max(2, len(tracks)))
        _, number, sizes = np.unique(tracks, return_inverse=True, return_counts=True)
        self._number, self._held = number.reshape(-1), held
        self._members = np.split(np.argsort(self._number, kind="stable"), np.cumsum(sizes)[:-1])
        self.couples = couples[~held[couples].any(1)] if len(couples) else couples

    def batch(self, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """Rows (2 x pairs,), pair after pair; and how many couples, two pairs each, they begin with."""
        count = min(self.pairs // 4, len(self.couples))
        seen = (
            self.couples[rng.choice(len(self.couples), count, replace=False)] if count else self.couples[:0]
        )
        others = rng.choice(len(self._number), self.pairs - 2 * count, replace=False)
        anchors = [*seen.reshape(-1).tolist(), *others.tolist()]
        rows = [row for anchor in anchors for row in (anchor, self._partner(anchor, rng))]
        return np.array(rows, np.int64), count

    def _partner(self, row: int, rng: np.random.Generator) -> int:
        members = self._members[self._number[row]]
        if self._held[row] or len(members) == 1:
            return row
        other = int(members[rng.integers(len(members) - 1)])
        return other if other != row else int(members[-1])
