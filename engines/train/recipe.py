"""How a detector is trained: the numbers, and the recipes that have a name."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from engines.nets.yolo import NECK, WIDTHS
from engines.train.losses import LossSettings
from engines.train.scenes import SceneSettings


@dataclass(frozen=True)
class Part:
    """A later part of a run, from step ``start`` on: the rate starts over at ``rate``, and the bank grows.

    It grows by ``creatures``, ``cartoons``, ``episodes`` of 16 frames, in which characters count of which
    ``least_visible`` is seen, ``effects`` (things that move and are no characters), ``props`` (things that
    stand about) and ``beasts`` (winged, serpentine, heavy and dark cel characters). The films are
    labelled by views at the longer sides ``self_sides``, with about ``self_boxes`` boxes per frame, inside
    which everything else is no character. ``depth``: residual steps per stage from here on, not fewer
    than before: a deeper net that computes the same at first goes on (0: as it is); raising it can learn
    more and costs time in proportion.
    """

    start: int
    rate: float
    creatures: int = 0
    cartoons: int = 0
    episodes: int = 0
    effects: int = 0
    props: int = 0
    beasts: int = 0
    least_visible: float = 0.3
    self_boxes: float = 0.8
    self_sides: tuple[int, ...] = (256, 320, 416)
    depth: int = 0


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

    ``later``: parts that follow, each with more material and the rate starting over.

    ``watched``: held-out pictures that every checkpoint is measured on. ``calibrated_on``: those by which the
    last one's scores become probabilities. Raising either measures more finely and takes longer.
    """

    steps: int = 24000
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
    self_steps: tuple[int, ...] = (
        4200,
        6500,
        8800,
        10300,
        12300,
        14000,
        15300,
        17800,
        20000,
        21200,
        22400,
        23300,
    )
    self_boxes: float = 0.8
    later: tuple[Part, ...] = (
        Part(10300, 1.2e-3, creatures=1800, cartoons=4800, episodes=160),
        Part(15300, 6e-4, cartoons=1600, episodes=160, effects=1800, least_visible=0.15, self_boxes=0.5),
        # What the detector believed of the films by then held ships and shadows: it lets go of that first.
        Part(17800, 1.2e-3, effects=1800, beasts=4000, self_boxes=0.0),
        Part(20000, 7e-4, self_boxes=0.6),
        Part(22400, 7e-4, self_boxes=0.6),
    )
    creatures: int = 2400
    cartoons: int = 3200
    backdrops: int = 400
    widths: tuple[int, int, int, int, int] = WIDTHS
    depth: int = 1
    neck: int = NECK
    scenes: SceneSettings = field(default_factory=SceneSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    watched: int = 96
    calibrated_on: int = 400

    def part_at(self, step: int) -> int:
        """0 in the first part, k in the k-th later one."""
        return sum(step >= part.start for part in self.later if part.start < self.steps)

    def depth_at(self, step: int) -> int:
        """Residual steps per stage of the net that takes a step."""
        parts = self.later[: self.part_at(step)]
        return max([self.depth, *(part.depth for part in parts)])

    def rate_at(self, step: int, progress: float | None = None) -> float:
        """The learning rate of a step; ``progress`` 0..1 places it on one cosine in place of its number."""
        starts = [0, *(part.start for part in self.later if part.start < self.steps), self.steps]
        k = self.part_at(step) if progress is None else 0
        first, last = starts[k], starts[k + 1]
        if progress is None:
            progress = (step - first) / max(1, last - first)
        warm = min(1.0, (step - first + 1) / self.warmup)
        peak = self.later[k - 1].rate if k else self.rate
        return peak * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


_DEFAULT = Recipe()

RECIPES: dict[str, Recipe] = {
    "default": _DEFAULT,
    # Goes on where the default ends; takes a third more time to run. Not the default: with bench/quality.py's
    # films in view it did not find more of their characters.
    "deeper": replace(
        _DEFAULT,
        steps=32000,
        self_steps=(*_DEFAULT.self_steps, 24000, 26000, 28500, 30500),
        later=(
            *_DEFAULT.later,
            Part(24000, 1e-3, self_boxes=0.0, depth=2),
            Part(26000, 1e-3, props=4000, self_boxes=0.0),
            Part(28500, 7e-4, self_boxes=0.6),
        ),
    ),
    "tiny": Recipe(
        steps=200,
        later=(),
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
        watched=24,
        calibrated_on=40,
    ),
}
