"""How a detector is trained: the numbers, and the recipes that have a name."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from engines.nets.yolo import NECK, WIDTHS
from engines.train.losses import LossSettings
from engines.train.scenes import SceneSettings


@dataclass(frozen=True)
class Recipe:
    """How to train.

    ``steps``: batches in all, unless a time is given; raising it trains longer. ``rate``: peak learning rate
    of AdamW, warmed up, then a cosine down to 2 % of it; raising it learns faster until it diverges.
    ``average``: decay of the running mean of the weights, which is what is exported. ``sizes``: (height,
    width, weight) of the pictures; one size per batch; ``early_sizes`` until step ``early_steps``: small
    pictures teach the rough of it at half the price; ``late_sizes`` from step ``late_step``: the size
    it works at. ``self_steps``: the steps at which the films are labelled
    anew by the detector itself, with about ``self_boxes`` boxes per frame (raising it takes worse ones).
    The bank's sizes: ``creatures`` softly shaded ones, ``cartoons`` cel characters, ``backdrops`` painted
    backgrounds.

    A second part begins at step ``second_step`` (None: there is none): the rate starts over at
    ``second_rate``, the bank grows by ``more_creatures``, ``more_cartoons`` and ``more_episodes`` of 16
    frames, and the films are labelled by views at the longer sides ``self_sides``, with boxes inside which
    everything else is no character.
    """

    steps: int = 15300
    batch: int = 16
    rate: float = 2e-3
    decay: float = 0.02
    warmup: int = 150
    average: float = 0.998
    sizes: tuple[tuple[int, int, float], ...] = (
        (192, 320, 0.45),
        (192, 256, 0.2),
        (160, 288, 0.2),
        (224, 320, 0.1),
        (288, 384, 0.05),
    )
    early_sizes: tuple[tuple[int, int, float], ...] = ((128, 224, 0.6), (160, 224, 0.2), (192, 320, 0.2))
    early_steps: int = 2500
    late_sizes: tuple[tuple[int, int, float], ...] = (
        (192, 320, 0.4),
        (192, 256, 0.15),
        (160, 288, 0.1),
        (224, 320, 0.15),
        (256, 416, 0.2),
    )
    late_step: int = 5800
    self_steps: tuple[int, ...] = (4200, 6500, 8800, 10300, 12300, 14000)
    self_boxes: float = 0.8
    self_sides: tuple[int, ...] = (256, 320, 416)
    second_step: int | None = 10300
    second_rate: float = 1.2e-3
    more_creatures: int = 1800
    more_cartoons: int = 4800
    more_episodes: int = 160
    creatures: int = 2400
    cartoons: int = 3200
    backdrops: int = 400
    widths: tuple[int, int, int, int, int] = WIDTHS
    depth: int = 1
    neck: int = NECK
    scenes: SceneSettings = field(default_factory=SceneSettings)
    loss: LossSettings = field(default_factory=LossSettings)

    def in_second(self, step: int) -> bool:
        """Whether a step belongs to the second part."""
        return self.second_step is not None and self.second_step <= min(step, self.steps - 1)

    def rate_at(self, step: int, progress: float | None = None) -> float:
        """The learning rate of a step; ``progress`` 0..1 places it on the cosine in place of its number."""
        second = progress is None and self.in_second(step)
        middle = min(self.second_step or self.steps, self.steps)
        first, last = (middle, self.steps) if second else (0, middle)
        if progress is None:
            progress = (step - first) / max(1, last - first)
        warm = min(1.0, (step - first + 1) / self.warmup)
        peak = self.second_rate if second else self.rate
        return peak * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


RECIPES: dict[str, Recipe] = {
    "default": Recipe(),
    "tiny": Recipe(
        steps=200,
        second_step=None,
        batch=8,
        warmup=20,
        average=0.95,
        sizes=((128, 192, 1.0),),
        early_steps=0,
        late_step=1_000_000,
        creatures=60,
        cartoons=0,
        backdrops=0,
        widths=(8, 16, 24, 32, 48),
        neck=24,
    ),
}
