"""Which pictures of a bank make a training batch, and the two losses that the batch is made for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engines.train.views import KINDS, Bank


@dataclass(frozen=True)
class BatchSize:
    """What a batch holds. Raising any of them makes steps slower and steadier."""

    casts: int = 10  # casts of rendered characters
    members: int = 4  # characters of each
    views: int = 3  # pictures of each character, drawn ones too
    art: int = 3  # drawn characters
    tracks: int = 44  # film tracks, two pictures each


@dataclass(frozen=True)
class Batch:
    """Numbers of the bank's pictures: ``named`` with an identity, then pairs of one film track each.

    The first ``couples`` x 4 of the film pictures are two tracks seen in one frame, two pictures each.
    """

    rows: np.ndarray
    named: int
    couples: int


class Sampler:
    """Draws batches: several members of a cast, since the product tells members of one production apart."""

    def __init__(self, bank: Bank, size: BatchSize, members: int) -> None:
        """``members``: characters in each cast of the bank."""
        self.size, self.members = size, members
        self.identities = np.asarray(bank.identities)
        kinds, frames = np.asarray(bank.kinds), np.asarray(bank.frames)
        order = np.argsort(self.identities, kind="stable")
        names, starts = np.unique(self.identities[order], return_index=True)
        self.of = {int(i): rows for i, rows in zip(names, np.split(order, starts[1:].tolist()), strict=True)}
        of_kind = {
            kind: [i for i, rows in self.of.items() if kinds[rows[0]] == KINDS.index(kind)] for kind in KINDS
        }
        self.rendered, self.art = of_kind["rendered"], of_kind["art"]
        self.moving = [i for i in of_kind["film"] if frames[self.of[i][0]] >= 0]
        self.still = [i for i in of_kind["film"] if frames[self.of[i][0]] < 0]
        shared: dict[int, list[int]] = {}
        for row in np.flatnonzero(frames >= 0):
            shared.setdefault(int(frames[row]), []).append(int(row))
        self.together = [rows for rows in shared.values() if len(rows) > 1]

    def batch(self, rng: np.random.Generator) -> Batch:
        """A new batch; parts whose pictures the bank lacks are left out."""
        size = self.size
        rows: list[int] = []
        casts = len(self.rendered) // self.members
        for cast in rng.choice(casts, min(size.casts, casts), replace=False):
            for member in rng.choice(self.members, min(size.members, self.members), replace=False):
                rows += self._pictures(self.rendered[cast * self.members + member], size.views, rng)
        if self.art:
            for identity in rng.choice(self.art, min(size.art, len(self.art)), replace=False):
                rows += self._pictures(int(identity), size.views, rng)
        named, couples = len(rows), 0
        if self.moving:
            if self.together:
                couples = size.tracks // 4
                for k in rng.choice(len(self.together), couples):
                    for row in rng.choice(self.together[k], 2, replace=False):
                        rows += [int(row), int(rng.choice(self.of[int(self.identities[row])]))]
            rest = size.tracks - 2 * couples
            still = min(len(self.still), rest // 4)
            for identity in [*rng.choice(self.moving, rest - still), *rng.choice(self.still or [0], still)]:
                rows += self._pictures(int(identity), 2, rng)
        return Batch(np.array(rows), named, couples)

    def _pictures(self, identity: int, count: int, rng: np.random.Generator) -> list[int]:
        rows = self.of[identity]
        return [int(i) for i in rng.choice(rows, count, replace=len(rows) < count)]


def contrast(z: Tensor, identities: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020) of unit vectors (N, D).

    The mean over each picture's positives of -log softmax of its similarities. Raising ``temperature`` looks
    less at the hardest neighbours.
    """
    itself = torch.eye(len(z), dtype=torch.bool)
    logits = (z @ z.T / temperature).masked_fill(itself, -1e9)
    log_share = logits - logits.logsumexp(1, keepdim=True)
    positive = (identities[:, None] == identities[None]) & ~itself
    count = positive.sum(1)
    loss = -(log_share * positive).sum(1) / count.clamp(min=1)
    return loss[count > 0].mean()


def vicreg(a: Tensor, b: Tensor) -> Tensor:
    """VICReg (Bardes et al. 2022) of two (N, D) projections of the same tracks.

    25 x invariance + 25 x hinge of the standard deviation at 1 + 1 x covariance.
    """
    loss = 25 * functional.mse_loss(a, b)
    for x in (a, b):
        x = x - x.mean(0)
        loss = loss + 25 * functional.relu(1 - torch.sqrt(x.var(0) + 1e-4)).mean() / 2
        covariance = x.T @ x / (len(x) - 1)
        loss = loss + (covariance.pow(2).sum() - covariance.diagonal().pow(2).sum()) / x.shape[1]
    return loss


def apart(z: Tensor) -> Tensor:
    """Mean positive cosine between two bodies of one frame: (couples x 4, D) unit vectors as in a batch."""
    pairs = z.view(-1, 2, 2, z.shape[1])
    return functional.relu(torch.einsum("cvd,cwd->cvw", pairs[:, 0], pairs[:, 1])).mean()
