"""Training a detector on one show's lessons, and whether what came out is better.

Batches mix the show's frames, zoomed, mirrored and given other looks, with characters and things drawn at
the start, which are also pasted onto the show's frames: the detector learns this show and does not forget
what it knew. Normalizations keep the statistics that they came with; the running mean of the weights is
taken.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from engines.nets.yolo import Yolo
from engines.runtime.base import EngineError
from engines.train.backdrops import plain_backdrops
from engines.train.calibrate import Platt, with_platt
from engines.train.export import calibrated
from engines.train.material import (
    Bank,
    Shelf,
    cartoon_backdrops,
    cartoon_sprites,
    cartoon_things,
    creature_sprites,
    episode_shelf,
)
from engines.train.scenes import MAX_BOXES, SceneMaker, SceneSettings
from engines.train.show.pseudo import Lesson, shelf
from engines.train.show.signal import Judge, Signal
from engines.train.show.teacher import Net, net_of_torch, scaled
from engines.train.tune.course import settled
from engines.train.tune.data import Batch
from engines.train.tune.settings import TuneSettings
from engines.train.tune.state import LossError, StepSettings, Tuner

Told = Callable[[int, int, float | None], None]  # step, steps, the signal's score where it was looked at
Watch = Callable[[int, Yolo, Signal], None]  # step, the network there, what it measured

_PER_SECOND = 1.6  # steps that a second of the budget stands for: about what one busy core does
_EPISODE_FRAMES = 24  # of a drawn episode
_DRAWN_SEED = 7  # of the drawn material, apart from what the default was trained on


@dataclass(frozen=True)
class ShowRecipe:
    """Everything an adaptation depends on besides lessons, start, budget and seed.

    ``batch``: pictures a step; raising it makes steps slower and steadier. ``rate``: peak of AdamW's; raising
    it learns the show faster and forgets faster. ``average``: decay of the running mean of the weights.
    ``trust``: weight of the show's boxes against drawn ones; at 1 a frame of the show comes as often as one
    of the drawn episodes, below it ``scenes.real`` of the frames are the show's. ``creatures``, ``cartoons``:
    drawn characters; ``episodes``: drawn episodes of 24 frames. ``scenes``: shares of the pictures.
    ``looks``: how often the signal is measured on the way; ``patience``: so many in a row that are no better
    end it. ``margin``: by how much it must rise, in parts of
    one window held out, so that few windows ask for more, besides that it leans to the old detector; raising
    it keeps that more often. ``fewest``, ``fewest_held``: sure boxes to
    learn from and to measure by, below which it is refused.
    """

    batch: int = 16
    rate: float = 3e-4
    average: float = 0.99
    trust: float = 1.0
    creatures: int = 240
    cartoons: int = 320
    episodes: int = 4
    scenes: SceneSettings = field(default_factory=lambda: SceneSettings(film=0.72, broken_film=0.1))
    looks: int = 3
    patience: int = 2
    margin: float = 0.03
    fewest: int = 16
    fewest_held: int = 8


@dataclass(frozen=True)
class AdaptedDetector:
    """What came out, and whether it is to be used in place of the old one.

    It is the last look that the signal finds better than that: of two that are, the later one has learned
    more, and the signal is too coarse to rank them. ``after``: of that look, with the boxes that are kept
    once the scores were moved; of the best look where none is better.
    """

    net: Yolo
    kept: bool
    reason: str
    before: Signal
    after: Signal
    history: tuple[tuple[int, Signal], ...]  # step, what was measured there
    steps: int
    planned_steps: int
    ended: str  # why before that, for people; empty where it went all the way
    taken_step: int
    shift: float  # what the scores were moved by, in logits, for as many boxes a frame as before


def planned_steps(seconds: float) -> int:
    """How many steps so many seconds stand for, at least one: at a pace that a busy core keeps."""
    return max(1, round(_PER_SECOND * seconds))


def adapt(
    net: Yolo,
    learned: Sequence[Lesson],
    held: Sequence[Lesson],
    *,
    imgsz: tuple[int, int],
    scales: Sequence[float] = (1.0,),
    mirror: bool = False,
    iou: float = 0.52,
    threshold: float = 0.1,
    maps: Sequence[Platt] = (),
    incumbent: Net | None = None,
    steps: int,
    longest: float = math.inf,
    seed: int = 0,
    recipe: ShowRecipe | None = None,
    progress: Told | None = None,
    watch: Watch | None = None,
    threads: int = 1,
) -> AdaptedDetector:
    """Train ``net`` on lessons of a show. The same input, seed and number of threads give the same weights.

    They are those of the last look that the signal finds better, also where the clock ends it.

    Args:
        net: as :func:`engines.train.tune.start.read_detector` gives it; class 0 is the character. Changed.
        learned: what is trained on. held: what measures.
        imgsz: height and width that the detector works at, and is trained at.
        scales: shares of it that the pipeline looks in. mirror: every second one at the mirror image.
        iou: from which on it takes boxes of two looks for one.
        threshold: the pipeline's smallest score kept; as many boxes as before shall reach it.
        maps: what makes probabilities of the scores, one for each class; none: they are used as they are.
        incumbent: the detector in use, which it must be better than; ``net`` as it came by default.
        steps: how many, see :func:`planned_steps`. longest: seconds after which there is a last look.
        progress: told every step, and the score when it is measured.
        watch: given the network at every look, not to be kept or changed.
        threads: of torch.

    Raises:
        EngineError: too few sure boxes to learn from or to measure by, a budget of less than one pass over
            the lessons, or a loss that is not finite. Nothing is to be replaced then.
    """
    recipe = recipe or ShowRecipe()
    _check(learned, held, steps, recipe)
    with settled(TuneSettings(seed=seed, threads=threads)):
        judge = Judge(held, imgsz, threshold, [scaled(imgsz, scale) for scale in scales], mirror, iou)
        course = _Course(net, learned, judge, maps, incumbent, steps, longest, seed, recipe)
        return course.run(progress or (lambda step, steps, score: None), watch)


def _check(learned: Sequence[Lesson], held: Sequence[Lesson], steps: int, recipe: ShowRecipe) -> None:
    sure = sum(len(lesson.sure) for lesson in learned)
    if sure < recipe.fewest:
        raise EngineError(
            f"expected at least {recipe.fewest} sure boxes to learn from, found {sure} in {len(learned)}"
            " frames; what was there stays; give more minutes, which look at more frames, or more of the show"
        )
    measured = sum(len(lesson.sure) for lesson in held)
    if measured < recipe.fewest_held:
        raise EngineError(
            f"expected at least {recipe.fewest_held} sure boxes to measure by, found {measured} in"
            f" {len(held)} frames; what was there stays; give more minutes, which look at more frames, or"
            " more of the show"
        )
    frames = len(learned) + _EPISODE_FRAMES * recipe.episodes
    needed = math.ceil(frames / (recipe.scenes.film * recipe.batch))
    if steps < needed:
        raise EngineError(
            f"a budget of {steps} steps: expected at least {needed}, which is once over {len(learned)}"
            " frames; give more minutes"
        )


def show_bank(learned: Sequence[Lesson], seed: int, recipe: ShowRecipe) -> Bank:
    """The show's frames, and what is drawn beside them within seconds."""
    number = _DRAWN_SEED + seed
    sprites = [creature_sprites(recipe.creatures, recipe.creatures // 3, number)]
    grounds = [plain_backdrops(60, number)]
    films = [shelf([lesson for lesson in learned if lesson.teaches], recipe.trust)]
    if recipe.cartoons:
        sprites += [cartoon_sprites(recipe.cartoons, number), cartoon_things(recipe.cartoons // 8, number)]
        grounds.append(cartoon_backdrops(max(4, recipe.cartoons // 10), number))
    if recipe.episodes:
        films.append(episode_shelf(recipe.episodes, number))
    return Bank(Shelf.join(sprites), Shelf.join(grounds), Shelf.join(films))


def batches(maker: SceneMaker, count: int, start: int, stop: int, imgsz: tuple[int, int]) -> Iterator[Batch]:
    """Batches ``start`` to ``stop``; each depends on the maker's seed and its number alone."""
    for step in range(start, stop):
        scenes = [maker.make(step * count + i, *imgsz) for i in range(count)]
        truth = np.full((count, MAX_BOXES, 6), -1, np.float32)
        for row, scene in zip(truth, scenes, strict=True):
            row[: len(scene.boxes)] = scene.boxes
        images = np.stack([scene.image for scene in scenes]).transpose(0, 3, 1, 2)
        yield Batch(
            torch.from_numpy(np.ascontiguousarray(images)),
            torch.from_numpy(truth[:, : max(1, max(len(scene.boxes) for scene in scenes))]),
            torch.from_numpy(np.stack([scene.ignore for scene in scenes])),
            tuple(f"picture {step * count + i}" for i in range(count)),
            {},
        )


class _Course:
    def __init__(
        self,
        net: Yolo,
        learned: Sequence[Lesson],
        judge: Judge,
        maps: Sequence[Platt],
        incumbent: Net | None,
        steps: int,
        longest: float,
        seed: int,
        recipe: ShowRecipe,
    ) -> None:
        self.recipe, self.steps, self.longest = recipe, steps, longest
        self.judge, self.maps = judge, maps
        self.before = self.judge.measure(incumbent or net_of_torch(with_platt(net.eval(), maps)))
        self.maker = SceneMaker(show_bank(learned, seed, recipe), seed, recipe.scenes)
        warmup = max(1, min(20, steps // 5))
        settings = StepSettings(recipe.rate, warmup=warmup, average=recipe.average, still=True)
        self.tuner = Tuner(net, settings)

    def run(self, progress: Told, watch: Watch | None) -> AdaptedDetector:
        began = time.monotonic()
        history: list[tuple[int, Signal]] = []
        worse, ended = 0, ""  # looks in a row that were no better
        chosen, taken = self.before, 0
        weights = {key: value.clone() for key, value in self.tuner.mean.state_dict().items()}
        wanted = self.before.score + self.recipe.margin / max(1, len(self.judge.lessons))
        places = {math.ceil(self.steps * (k + 1) / self.recipe.looks) for k in range(self.recipe.looks)}
        for batch in batches(self.maker, self.recipe.batch, 0, self.steps, self.judge.imgsz):
            try:
                self.tuner.step(batch, self.tuner.steps_done / self.steps)
            except LossError as error:
                raise EngineError(f"adaptation, step {self.tuner.steps_done + 1}: {error}") from error
            step = self.tuner.steps_done
            late = time.monotonic() - began > self.longest
            if not late and step not in places:
                progress(step, self.steps, None)
                continue
            looked = with_platt(self.tuner.mean, self.maps)
            found = self.judge.measure(net_of_torch(looked))
            history.append((step, found))
            progress(step, self.steps, found.score)
            if watch is not None:
                watch(step, looked, found)
            if found.score > wanted:
                chosen, taken, worse = found, step, 0
                weights = {key: value.clone() for key, value in self.tuner.mean.state_dict().items()}
            else:
                worse += 1
            hopeless = worse >= self.recipe.patience
            if step < self.steps and (late or hopeless):
                ended = "it got no better" if hopeless else "the clock ended it"
                break
        self.tuner.mean.load_state_dict(weights)
        net, shift = with_platt(self.tuner.mean, self.maps), 0.0
        after = max((found for _, found in history), key=lambda found: found.score)
        if taken:
            same = self.judge.threshold_for(net_of_torch(net), self.before.boxes)
            net, shift = calibrated(net, same, self.judge.threshold)
            after = replace(chosen, boxes=self.judge.boxes(net_of_torch(net)))
        return AdaptedDetector(
            net=net,
            kept=taken > 0,
            reason=_reason(self.before, after, taken > 0),
            before=self.before,
            after=after,
            history=tuple(history),
            steps=self.tuner.steps_done,
            planned_steps=self.steps,
            ended=ended,
            taken_step=taken,
            shift=shift,
        )


def _reason(before: Signal, after: Signal, kept: bool) -> str:
    """Why the new weights are taken or not, for people."""
    if kept:
        return f"the signal rose from {before.score:.4f} to {after.score:.4f}"
    return (
        f"the signal was {before.score:.4f} and reached {after.score:.4f}, which is not clearly better, so"
        " the detector of before stays"
    )
