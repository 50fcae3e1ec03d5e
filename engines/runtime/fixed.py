"""Pictures put together as a network takes them, where its file fixes how many it takes at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import numpy as np

from engines.runtime.base import Array

_STEPS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)


def filled_up(n: int) -> int:
    """How many pictures a batch of n, at least 1, is filled up to where every number of them costs memory and
    time to set up, as a CUDA graph does: few numbers serve every batch, 17 pictures run as 24."""
    return next((step for step in _STEPS if step >= n), -(-n // 32) * 32)


def pictures_at_once(shape: Sequence[int | None]) -> int | None:
    """Of an input of this shape: how many; None where that is free, 0 where it has no axis for them."""
    return shape[0] if len(shape) == 4 else 0


def in_batches(pictures: Iterable[Array], size: int | None) -> Iterator[tuple[Array, int]]:
    """Pictures as a network takes them, and how many of them count: the last is repeated to fill a batch up.

    Args:
        pictures: (n, 3, H, W) each, with any n; of several sizes, if need be.
        size: as :func:`pictures_at_once` says. None leaves them as they are, 0 gives one at a time,
            (3, H, W).
    """
    if size is None:
        yield from ((given, len(given)) for given in pictures)
        return
    single = (given[i : i + 1] for given in pictures for i in range(len(given)))
    for _, alike in groupby(single, key=lambda one: one.shape):
        waiting: list[Array] = []
        for one in alike:
            if size == 0:
                yield one[0], 1
                continue
            waiting.append(one)
            if len(waiting) == size:
                yield np.concatenate(waiting), size
                waiting = []
        if waiting:
            yield np.concatenate(waiting + waiting[-1:] * (size - len(waiting))), len(waiting)
