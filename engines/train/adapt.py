"""Adapting the embedder to one show, without labels, on a CPU in minutes.

VICReg (Bardes et al. 2022) on the show's own crops: two views of a crop, or of two crops of one track, come
to lie together while the dimensions of their projection stay spread and independent. Up to half of each batch
are frames with two boxes or more, which are different characters and are pushed apart. The embedding is the
network's average, not the projection.

What is taken from trained weights is a point on the way from them to those learned (Wortsman et al. 2022,
"Robust fine-tuning of zero-shot models"): VICReg knows no identities, and in a show of many characters with
few pictures each, going all the way forgets what told them apart.

A share of the tracks is held out: their crops are seen one by one, and what is known of them (one character,
different characters) measures the embedding on the way, see :mod:`engines.train.adapt_signal`. The weights
that measure best are taken, and none where those before measured better.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.nets.densenet import densenet_small
from engines.runtime.base import EngineError
from engines.train.adapt_signal import FEWEST, Judge, Signal
from engines.train.adapt_start import read_embedder, recalibrated
from engines.train.adapt_views import CropAugmentation, CropViews, PairSampler, pixels
from engines.train.batches import apart, vicreg
from engines.train.embedder import Embedder, embed, go_part_of_the_way
from engines.train.embedder_file import export
from engines.train.views import SIDE, normalize

Told = Callable[[int, int, float | None], None]  # step, steps, the signal's score where it was looked at
Watch = Callable[[int, Embedder, Signal], None]  # step, the network there, what it measured

_PER_SECOND = 3.0  # steps that a second of the budget stands for: about what one busy core does
_CALIBRATED = 512  # crops that a network's normalizations take their statistics from
_EMBEDDED = 256  # crops embedded at once
_STOPPED = 3  # looks without a better one after which it ends


@dataclass(frozen=True)
class AdaptRecipe:
    """Everything an adaptation depends on besides crops, start, budget and seed."""

    pairs: int = 64  # in a batch; raising it makes steps slower and steadier
    rate: float = 5e-4  # from trained weights
    scratch_rate: float = 2e-3  # from none
    weight_decay: float = 0.02
    warmup: int = 50  # steps
    average: float = 0.99  # decay of the averaged weights
    way: float = 0.75  # share of the way to them from trained weights; raising it learns more, forgets more
    apart_weight: float = 10.0  # of the push between two boxes of one frame
    held_out: float = 0.2  # share of the tracks that measure; raising it measures more finely and learns less
    looks: int = 6  # how often the signal is measured on the way
    augmentation: CropAugmentation = field(default_factory=CropAugmentation)


@dataclass(frozen=True)
class Adapted:
    """What came out: the best network by the signal, and whether it is to be used in place of the old one."""

    embedder: Embedder
    kept: bool
    reason: str
    before: Signal
    after: Signal
    history: tuple[tuple[int, Signal], ...]  # step, what was measured there
    steps: int
    planned_steps: int  # more than ``steps`` where the clock or the signal ended it
    taken_step: int  # of the weights in ``embedder``
    seconds: float
    seed: int
    start: Path | None  # the file it began with

    def embed(self, crops: np.ndarray) -> np.ndarray:
        """Crops (M, 64, 64, 3) uint8 -> (M, D) float32 of length 1, mirror added."""
        return embed_crops(self.embedder, crops)

    def export(self, path: Path) -> None:
        """The network as ONNX with the default embedder's metadata: ``celstream run --embedder`` takes it."""
        facts = {"steps": self.taken_step, "seed": self.seed, "adapted": "to one show, without labels"}
        export(self.embedder, path, facts, self.start)


def adapt(
    crops: np.ndarray,
    tracks: np.ndarray,
    couples: np.ndarray,
    before: np.ndarray,
    *,
    start: Path | None,
    seconds: float = 180.0,
    steps: int | None = None,
    seed: int = 0,
    recipe: AdaptRecipe | None = None,
    progress: Told | None = None,
    watch: Watch | None = None,
    threads: int | None = None,
) -> Adapted:
    """Train an embedder on a show's crops. The same input, seed and number of threads give the same weights.

    The number of steps follows from ``seconds`` alone, at a pace that a slow core keeps. The clock only ends
    what is slower still; the weights are then those of an earlier look, see ``AdaptRecipe.looks``.

    Args:
        crops: (M, 64, 64, 3) uint8 RGB, as the pipeline cuts them (``crops.fit: pad``).
        tracks: (M,) int64, crops of one number are one character.
        couples: (P, 2) int64, pairs of crops that are different characters: two boxes of one frame.
        before: (M, D) the embeddings to do better than.
        start: the default embedder's ONNX file; None starts from random weights.
        seconds: budget of the training. Raising it learns more of a large show.
        steps: in place of those that ``seconds`` stand for, which then is the clock alone.
        seed: of the order of crops, of views and of random weights.
        progress: told every step, and the score when it is measured.
        watch: given the network at every look, not to be kept or changed.
        threads: of torch; None leaves them as they are.

    Raises:
        EngineError: ``start`` is another network's file; fewer than 2 crops; a budget of less than one epoch;
            a loss that is not finite.
    """
    recipe = recipe or AdaptRecipe()
    crops, tracks, couples = _checked(crops, tracks, couples, before)
    steps = planned_steps(seconds) if steps is None else steps
    epoch = math.ceil(len(crops) / (2 * recipe.pairs))
    if steps < epoch:
        raise EngineError(
            f"a budget of {seconds:g} s: expected at least {epoch / _PER_SECOND:.1f} s, which is once over"
            f" {len(crops)} crops; give more minutes"
        )
    with _settled(seed, threads):
        return _Course(crops, tracks, couples, before, start, steps, seconds, seed, recipe).run(
            progress, watch
        )


def planned_steps(seconds: float) -> int:
    """How many steps a budget stands for, at least one."""
    return max(1, round(_PER_SECOND * seconds))


def embed_crops(embedder: Embedder, crops: np.ndarray) -> np.ndarray:
    """Crops (M, 64, 64, 3) uint8 -> (M, D) float32 of length 1, mirror added; a few at a time."""
    parts = [crops[i : i + _EMBEDDED] for i in range(0, len(crops), _EMBEDDED)]
    return np.concatenate([embed(embedder, normalize(pixels(part))) for part in parts])


class _Learner(nn.Module):
    """The embedder and the projection that VICReg sees."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = embedder
        self.projection = nn.Sequential(
            nn.Linear(embedder.net.dimensions, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 128)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings less the batch's mean, and projections."""
        raw: Tensor = self.embedder.net(x).float()
        return raw - raw.mean(0), self.projection(raw)


class _Course:
    """One adaptation from its start to its end. Made and run within :func:`_settled`."""

    def __init__(
        self,
        crops: np.ndarray,
        tracks: np.ndarray,
        couples: np.ndarray,
        before: np.ndarray,
        start: Path | None,
        steps: int,
        seconds: float,
        seed: int,
        recipe: AdaptRecipe,
    ) -> None:
        self.recipe, self.steps, self.seconds, self.seed = recipe, steps, seconds, seed
        self.crops, self.before = crops, before
        self.judge = Judge(tracks, couples, recipe.held_out, seed)
        sample = np.random.default_rng(seed).permutation(len(crops))[:_CALIBRATED]
        self.sample = normalize(pixels(crops[np.sort(sample)]))
        self.start = start
        if start is None:
            self.rate, first = recipe.scratch_rate, Embedder(densenet_small())
        else:
            self.rate, first = recipe.rate, recalibrated(read_embedder(start), self.sample)
        self.learner = _Learner(first).to(memory_format=torch.channels_last).train()
        # trained weights keep the statistics they work with: by those of a batch they are another network
        self.learner.embedder.train(start is None)
        self.averaged = copy.deepcopy(self.learner.embedder).eval()
        self.first = copy.deepcopy(self.averaged.state_dict())
        self.way = 1.0 if start is None else recipe.way  # random weights are nothing to hold on to
        self.optimizer = torch.optim.AdamW(
            self.learner.parameters(), self.rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
        )
        self.views = CropViews(crops, recipe.augmentation)
        self.sampler = PairSampler(tracks, couples, self.judge.held, recipe.pairs)
        self.step = 0

    def run(self, progress: Told | None, watch: Watch | None) -> Adapted:
        began = time.monotonic()
        told = progress or (lambda step, steps, score: None)
        before = self.judge.measure(self.before[self.judge.rows])
        history: list[tuple[int, Signal]] = []
        best, taken, since = before, 0, 0
        weights = self.first
        every = math.ceil(self.steps / self.recipe.looks)
        measurable = len(before.each) >= FEWEST  # what cannot be measured could not be kept either
        while measurable and self.step < self.steps and since < _STOPPED:
            self._learn()
            if time.monotonic() - began > self.seconds:
                break
            if self.step % every and self.step < self.steps:
                told(self.step, self.steps, None)
                continue
            embedder = self._embedder()
            found = self.judge.measure(embed_crops(embedder, self.crops[self.judge.rows]))
            history.append((self.step, found))
            told(self.step, self.steps, found.score)
            if watch is not None:
                watch(self.step, embedder, found)
            if found.score > best.score and found.beats(before):
                best, taken, since, weights = found, self.step, 0, embedder.state_dict()
            else:
                since += 1
        self.averaged.load_state_dict(weights)
        return Adapted(
            embedder=self.averaged,
            kept=taken > 0,
            reason=_reason(before, best, history),
            before=before,
            after=best if taken else (history[-1][1] if history else before),
            history=tuple(history),
            steps=self.step,
            planned_steps=self.steps,
            taken_step=taken,
            seconds=round(time.monotonic() - began, 3),
            seed=self.seed,
            start=self.start,
        )

    def _learn(self) -> None:
        # each step draws from its own seed
        rng = np.random.default_rng([self.seed, self.step])
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 60)))
        rows, couples = self.sampler.batch(rng)
        x = self.views.make(rows, generator).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=_half()):
            embedding, projection = self.learner(x)
        projection = projection.float()
        loss = vicreg(projection[::2], projection[1::2])
        if couples:
            loss = loss + self.recipe.apart_weight * apart(functional.normalize(embedding[: 4 * couples]))
        if not bool(torch.isfinite(loss)):
            raise EngineError(
                f"adaptation, step {self.step + 1}: expected a finite loss, found {loss.item()}; the old"
                " embeddings stay; try another seed"
            )
        share = self.step / self.steps
        for group in self.optimizer.param_groups:
            warm = min(1.0, (self.step + 1) / self.recipe.warmup)
            group["lr"] = self.rate * warm * 0.5 * (1 + math.cos(math.pi * share))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.learner.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        self._average()

    def _average(self) -> None:
        keep = min(self.recipe.average, 1 - 1 / (self.step + 1))
        new = self.learner.embedder.state_dict()
        with torch.no_grad():
            for name, value in self.averaged.state_dict().items():
                if value.is_floating_point():
                    value.lerp_(new[name], 1 - keep)

    def _embedder(self) -> Embedder:
        """The network a share of the way to the averaged weights, its mean the show's."""
        embedder = copy.deepcopy(self.averaged)
        go_part_of_the_way(embedder, self.first, self.way)
        with torch.inference_mode():
            parts = [embedder.net(part).float() for part in self.sample.split(_EMBEDDED)]
            embedder.mean.copy_(torch.cat(parts).mean(0))
        return embedder


def _half() -> bool:
    """Whether this processor computes in bfloat16: half the time; emulated, it would take longer."""
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _reason(before: Signal, best: Signal, history: list[tuple[int, Signal]]) -> str:
    """Why the new weights are taken or not, for people."""
    if best is not before:
        return f"the signal rose from {before.score:.4f} to {best.score:.4f}"
    if not before.rivals:
        return (
            "no frame of two boxes to measure by, so the old embeddings stay; look closer with a smaller"
            " --interval"
        )
    if len(before.each) < FEWEST:
        return (
            f"only {len(before.each)} tracks that share a frame with another one to measure by, expected"
            f" {FEWEST}, so the old embeddings stay; look closer with a smaller --interval"
        )
    if not history:
        return "the time was up before the first look, so the old embeddings stay; give more minutes"
    reached = max(found.score for _, found in history)
    return (
        f"the signal was {before.score:.4f} and reached {reached:.4f}, which is no more than by chance,"
        " so the old embeddings stay"
    )


@contextlib.contextmanager
def _settled(seed: int, threads: int | None) -> Iterator[None]:
    """Random numbers, threads and ways of computing that a seed decides; torch's own are put back."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.use_deterministic_algorithms(before[1])


def _checked(
    crops: np.ndarray, tracks: np.ndarray, couples: np.ndarray, before: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    m = len(crops)
    if crops.shape != (m, SIDE, SIDE, 3) or crops.dtype != np.uint8:
        raise EngineError(f"crops: expected uint8 (M, {SIDE}, {SIDE}, 3), got {crops.dtype} {crops.shape}")
    if m < 2:
        raise EngineError(f"crops: expected at least 2 to adapt to, got {m}")
    couples = np.asarray(couples, np.int64).reshape(-1, 2)
    for name, array, shape in (("tracks", tracks, (m,)), ("before", before, (m, before.shape[-1]))):
        if array.shape != shape:
            raise EngineError(f"{name}: expected shape {shape}, got {array.shape}")
    if len(couples) and not 0 <= couples.min() <= couples.max() < m:
        raise EngineError(f"couples: expected numbers of crops, 0 to {m - 1}, got {couples.max()}")
    return crops, np.unique(tracks, return_inverse=True)[1].reshape(-1), couples
