"""Trains the default character detector from nothing: ``python -m engines.train.detector --recipe default``.

Everything it learns from is drawn here, or comes from the folders given with ``--art`` and ``--media``; no
hand label is used. A checkpoint is written every few minutes together with an ONNX file, so a run may be
stopped at any time and gone on with (``--resume``).
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from engines.nets.yolo import Yolo, deepened, parameter_count
from engines.train.banks import bank_of_part, prepare
from engines.train.calibrate import answers, fit_platt, with_platt
from engines.train.export import export_detector
from engines.train.looks import CELL
from engines.train.losses import detection_loss
from engines.train.material import Bank
from engines.train.measure import average_precision, decode
from engines.train.recipe import RECIPES, Recipe
from engines.train.scenes import MAX_BOXES, SceneMaker
from engines.train.selftrain import relabel
from stream.errors import ConfigError

VERSION = "1"
HELD_OUT = 1_000_000_000  # pictures from this number on are for watching, never for training

CALIBRATION = HELD_OUT + 100_000  # and from this one on for what a score means
# A character that is missed is lost, a thing that is boxed can be left out in the review: what is right once
# in five times is kept. It is about where drawn episodes keep a recall of .95.
WORKING_SCORE = 0.2
# A frame is looked at in four sizes, every second time mirrored: 3.9 times the work of one look, and
# better than one on drawn episodes and films alike.
WORKING_SCALES, WORKING_MIRROR = (1.0, 0.8, 0.65, 1.3), True


class Batches(IterableDataset[tuple[Tensor, Tensor, Tensor]]):
    """Batches ``start``, ``start + 1``, ...: images uint8 (B, 3, H, W), truth float32 (B, M, 6) with class -1
    as padding, ignore bool (B, H/8, W/8, 2). Each depends on the seed and its number alone."""

    def __init__(self, bank: Path, recipe: Recipe, seed: int, start: int) -> None:
        self.bank, self.recipe, self.seed, self.start = bank, recipe, seed, start

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        torch.set_num_threads(1)
        maker = SceneMaker(Bank.load(self.bank), self.seed, self.recipe.scenes)
        step = self.start
        while True:
            yield batch_of(maker, self.recipe, self.seed, step)
            step += 1


def batch_of(maker: SceneMaker, recipe: Recipe, seed: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Batch number ``step``; see :class:`Batches`."""
    sizes = recipe.early_sizes if step < recipe.early_steps else recipe.sizes
    sizes = recipe.late_sizes if step >= recipe.late_step else sizes
    weights = np.array([w for _, _, w in sizes])
    pick = np.random.default_rng((seed, 9, step)).choice(len(weights), p=weights / weights.sum())
    height, width, _ = sizes[int(pick)]
    scenes = [maker.make(step * recipe.batch + i, height, width) for i in range(recipe.batch)]
    truth = np.full((len(scenes), MAX_BOXES, 6), -1, np.float32)
    for row, scene in zip(truth, scenes, strict=True):
        row[: len(scene.boxes)] = scene.boxes
    truth = truth[:, : max(1, max(len(s.boxes) for s in scenes))]
    images = np.stack([s.image for s in scenes]).transpose(0, 3, 1, 2)
    return (
        torch.from_numpy(np.ascontiguousarray(images)),
        torch.from_numpy(truth),
        torch.from_numpy(np.stack([s.ignore for s in scenes])),
    )


def spread_ignore(ignore: Tensor, height: int, width: int) -> Tensor:
    """Map at stride 8 (B, H/8, W/8, C) -> cells of all three strides (B, A, C): a coarse cell is not judged
    when half of what it covers is not."""
    maps = ignore.float().permute(0, 3, 1, 2)
    parts = []
    for stride in (8, 16, 32):
        k = stride // CELL
        pooled = nn.functional.avg_pool2d(maps, k) if k > 1 else maps
        parts.append((pooled >= 0.5).flatten(2).transpose(1, 2))
    return torch.cat(parts, 1)


class Trainer:
    """The state of a run: net, running mean, optimizer, step. ``step()`` trains one batch."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        torch.manual_seed(seed)
        self.recipe, self.seed = recipe, seed
        self.net = Yolo(2, recipe.widths, recipe.depth, recipe.neck).to(memory_format=torch.channels_last)
        self.mean = copy.deepcopy(self.net).eval().requires_grad_(False)
        self.optimizer = self._optimizer()
        self.steps_done = 0
        self.seconds = 0.0

    def _optimizer(self) -> torch.optim.Optimizer:
        plain = [p for p in self.net.parameters() if p.ndim <= 1]
        heavy = [p for p in self.net.parameters() if p.ndim > 1]
        return torch.optim.AdamW(
            [{"params": heavy, "weight_decay": self.recipe.decay}, {"params": plain, "weight_decay": 0.0}],
            lr=self.recipe.rate,
        )

    def _deepen(self, depth: int) -> None:
        """Go on with a deeper net that computes the same; the optimizer starts over."""
        grown = []
        for net in (self.net, self.mean):  # one seed, so that the mean holds the same further steps
            torch.manual_seed(self.seed + self.steps_done)
            grown.append(deepened(net, depth))
        self.net = grown[0].to(memory_format=torch.channels_last)
        self.mean = grown[1].to(memory_format=torch.channels_last).eval().requires_grad_(False)
        self.optimizer = self._optimizer()

    def step(
        self, images: Tensor, truth: Tensor, ignore: Tensor, progress: float | None = None
    ) -> dict[str, float]:
        """Train on one batch; ``progress`` as in :meth:`Recipe.rate_at`. Returns the losses."""
        began = time.monotonic()
        if self.net.depth != self.recipe.depth_at(self.steps_done):
            self._deepen(self.recipe.depth_at(self.steps_done))
        rate = self.recipe.rate_at(self.steps_done, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.net.train()
        x = images.float().div_(255).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=_FAST_HALF):
            boxes, logits, points = self.net(x)
        veil = spread_ignore(ignore, x.shape[2], x.shape[3])
        loss = detection_loss(boxes, logits, points, truth[..., :5], veil, truth[..., 5], self.recipe.loss)
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 10.0)
        self.optimizer.step()
        self.steps_done += 1
        keep = min(self.recipe.average, (1 + self.steps_done) / (10 + self.steps_done))
        with torch.no_grad():
            for slow, fast in zip(
                self.mean.state_dict().values(), self.net.state_dict().values(), strict=True
            ):
                if slow.dtype.is_floating_point:
                    slow.lerp_(fast, 1 - keep)
                else:
                    slow.copy_(fast)
        self.seconds += time.monotonic() - began
        return {
            "loss": float(loss.total.detach()),
            "score_loss": float(loss.score.detach()),
            "box_loss": float(loss.box.detach()),
            "positives": float(loss.positives),
            "rate": rate,
        }

    def save(self, path: Path) -> None:
        """Write everything needed to go on exactly, by rename."""
        state = {
            "net": self.net.state_dict(),
            "mean": self.mean.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.steps_done,
            "seconds": self.seconds,
            "seed": self.seed,
            "shape": (self.recipe.widths, self.net.depth, self.recipe.neck),
        }
        part = path.with_suffix(f".part{os.getpid()}")
        torch.save(state, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint. Raises ConfigError when it belongs to another net or seed."""
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        # A checkpoint at the very step where the net deepens is of the shallower one.
        depth = self.recipe.depth_at(max(0, state["step"] - 1))
        mine = (self.recipe.widths, depth, self.recipe.neck)
        if tuple(state["shape"]) != mine or state["seed"] != self.seed:
            raise ConfigError(
                f"--resume {path}: expected a checkpoint of net {mine} and seed {self.seed}, found "
                f"{tuple(state['shape'])} and seed {state['seed']}; give that "
                "recipe and seed, or another --scratch"
            )
        if self.net.depth != depth:
            self._deepen(depth)
        self.net.load_state_dict(state["net"])
        self.mean.load_state_dict(state["mean"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps_done, self.seconds = state["step"], state["seconds"]


def _half_is_fast() -> bool:
    """Whether bfloat16 convolutions run in hardware here (then they are about twice as fast)."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


_FAST_HALF = _half_is_fast()


@torch.no_grad()
def watch(net: nn.Module, maker: SceneMaker, count: int) -> dict[str, float]:
    """AP50 of both classes and recall on held-out drawn pictures."""
    found: dict[int, list[Any]] = {0: [], 1: []}
    true: dict[int, list[Any]] = {0: [], 1: []}
    for i in range(count):
        scene = maker.make(HELD_OUT + i)
        x = torch.from_numpy(scene.image).permute(2, 0, 1)[None].float() / 255
        out = net(x)[0].numpy()
        for index in (0, 1):
            found[index].append(decode(out, index))
            true[index].append(scene.boxes[scene.boxes[:, 0] == index, 1:5])
    ap, recall, score = average_precision(found[0], true[0])
    face, _, _ = average_precision(found[1], true[1])
    return {"ap50": ap, "recall": recall, "best_score": score, "face_ap50": face}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def train(
    recipe: Recipe,
    scratch: Path,
    out: Path | None,
    seed: int = 0,
    art: Path | None = None,
    media: Path | None = None,
    minutes: float | None = None,
    resume: bool = False,
    checkpoint_minutes: float = 4.0,
) -> dict[str, float]:
    """Train and export to ``out`` (None: do not export); returns the last figures on held-out drawn pictures.

    ``minutes``: training time in place of ``recipe.steps`` (the cosine then follows the clock, and the
    result depends on the machine's speed). ``checkpoint_minutes``: raising it loses more when stopped.
    """
    bank = prepare(recipe, seed, scratch, art, media, _say)
    trainer = Trainer(recipe, seed)
    checkpoint = scratch / "checkpoint.pt"
    if resume:
        if not checkpoint.exists():
            raise ConfigError(
                f"--resume: expected {checkpoint}, found none; leave --resume out to start anew"
            )
        trainer.load(checkpoint)
    else:
        for old in scratch.glob("bank-self*"):  # the labels of another run's detector
            shutil.rmtree(old)
    maker = SceneMaker(Bank.load(bank), seed, recipe.scenes)
    _say(f"{parameter_count(trainer.net):,} parameters, bank in {bank}, from step {trainer.steps_done}")
    figures: dict[str, float] = {}
    last = time.monotonic()
    sums: dict[str, float] = {}
    counted = 0
    budget = minutes * 60 if minutes is not None else None
    stop = _Stop()
    for images, truth, ignore in _batches(trainer, bank):
        progress = trainer.seconds / budget if budget else trainer.steps_done / recipe.steps
        if progress >= 1 or stop.asked:
            break
        for key, value in trainer.step(images, truth, ignore, progress if budget else None).items():
            sums[key] = sums.get(key, 0.0) + value
        counted += 1
        if trainer.steps_done % 100 == 0:
            means = {k: round(v / counted, 4) for k, v in sums.items()}
            speed = trainer.steps_done * recipe.batch / max(1e-9, trainer.seconds)
            _say(f"step {trainer.steps_done} {progress:.1%} {speed:.0f} pictures/s {means}")
            sums, counted = {}, 0
        if time.monotonic() - last > checkpoint_minutes * 60:
            figures = _checkpoint(trainer, maker, checkpoint, out, recipe.calibrated_on // 4)
            last = time.monotonic()
    if stop.asked:
        trainer.save(checkpoint)
        _say(f"stopped at step {trainer.steps_done}; --resume goes on from there")
        return figures
    return _checkpoint(trainer, maker, checkpoint, out, recipe.calibrated_on)


class _Stop:
    """Turns the first SIGTERM or SIGINT into a wish to stop; a second one ends the process as usual."""

    def __init__(self) -> None:
        self.asked = False
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._ask)

    def _ask(self, number: int, _frame: object) -> None:
        self.asked = True
        signal.signal(number, signal.SIG_DFL)


def _leave_signals(_worker: int) -> None:
    """In the process that makes pictures: Ctrl-C is the trainer's business, and SIGTERM ends it as usual."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _batches(trainer: Trainer, bank: Path) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches from the trainer's step on; from a step of self-training on, of the relabelled bank."""
    recipe = trainer.recipe
    rounds = recipe.self_steps if len(Bank.load(bank).films) else ()
    changes = (*rounds, *(part.start for part in recipe.later))
    while True:
        k = recipe.part_at(trainer.steps_done)
        base = bank_of_part(bank, recipe, trainer.seed, k, _say)
        done = sum(trainer.steps_done >= step for step in rounds)
        folder = bank.with_name(f"{bank.name}-self{done}") if done else base
        if not (folder / "recipe.json").exists():
            part = recipe.later[k - 1] if k else None
            boxes, sides = (part.self_boxes, part.self_sides) if part else (recipe.self_boxes, ())
            count = relabel(trainer.mean, base, folder, boxes, sides, judge_inside=part is not None)
            _say(f"step {trainer.steps_done}: {count} boxes of the detector's own on the films")
        source = Batches(folder, recipe, trainer.seed, trainer.steps_done)
        loader = DataLoader(
            source, batch_size=None, num_workers=1, prefetch_factor=6, worker_init_fn=_leave_signals
        )
        for batch in loader:
            yield batch
            if trainer.steps_done in changes:
                break


def _checkpoint(
    trainer: Trainer, maker: SceneMaker, path: Path, out: Path | None, pictures: int
) -> dict[str, float]:
    """Save, look at held-out pictures, and export with scores calibrated on ``pictures`` others."""
    trainer.save(path)
    figures = watch(trainer.mean, maker, trainer.recipe.watched)
    _say(f"checkpoint at step {trainer.steps_done}: {figures}")
    if out is not None:
        scenes = [maker.make(CALIBRATION + i) for i in range(pictures)]
        maps = [fit_platt(*answers(trainer.mean, scenes, index)) for index in (0, 1)]
        extra = {"steps": str(trainer.steps_done), "seed": str(trainer.seed), "score": str(WORKING_SCORE)}
        extra["scales"], extra["mirror"] = str(list(WORKING_SCALES)), str(WORKING_MIRROR)
        extra["score_maps"] = json.dumps([[round(m.slope, 4), round(m.offset, 4)] for m in maps])
        try:
            worst = export_detector(with_platt(trainer.mean, maps), out, VERSION, extra)
            _say(f"{out}: scores mapped by {maps}, differs from torch by {worst:.1e}")
        except RuntimeError as error:  # hours of training must not end over one bad export
            _say(str(error))
    with (path.parent / "history.jsonl").open("a") as log:
        log.write(json.dumps({"step": trainer.steps_done, "minutes": trainer.seconds / 60, **figures}) + "\n")
    return figures


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m engines.train.detector", description=__doc__)
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="default")
    parser.add_argument(
        "--art", type=Path, help="folder with sprites/ and backgrounds/ (Pepper&Carrot game art)"
    )
    parser.add_argument("--media", type=Path, help="folder of films to take backgrounds and motion from")
    parser.add_argument("--minutes", type=float, help="training time in place of the recipe's steps")
    parser.add_argument("--steps", type=int, help="batches in all, in place of the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--threads", type=int, default=1, help="threads of the trainer; pictures use one more"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --scratch")
    parser.add_argument("--scratch", type=Path, default=Path("scratch/detector"), help="bank and checkpoints")
    parser.add_argument("--out", type=Path, default=Path("scratch/detector/celstream-detector.onnx"))
    parser.add_argument("--checkpoint-minutes", type=float, default=4.0)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    recipe = RECIPES[given.recipe]
    if given.minutes is not None:  # the clock has one cosine
        recipe = replace(recipe, later=())
    if given.steps is not None:
        recipe = replace(recipe, steps=given.steps)
    try:
        figures = train(
            recipe,
            given.scratch,
            given.out,
            given.seed,
            given.art,
            given.media,
            given.minutes,
            given.resume,
            given.checkpoint_minutes,
        )
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"recipe": asdict(recipe), "figures": figures, "out": str(given.out)}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
