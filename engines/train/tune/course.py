"""A training from its first step to its best weights: epochs, figures, checkpoints, ways to end."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from engines.nets.yolo import Yolo
from engines.train.labels import LabelledDataset
from engines.train.tune.data import Batch, Batches, BatchSettings
from engines.train.tune.measure import Figures, evaluate
from engines.train.tune.settings import TuneSettings, fingerprint
from engines.train.tune.state import LossError, StepSettings, Tuner, read_state, write_state
from stream.errors import ConfigError
from stream.files import atomic_file

Say = Callable[[str], None]

_CALM = 0.85  # share of the steps after which there are no mosaics: the net ends on pictures as they are
_CHECKPOINT_SECONDS = 300.0  # between checkpoints within an epoch
_TRIED = 4  # steps that tell the pace, of which the first does not count
_LOOKED = 8  # pictures that tell the pace of measuring


class Course:
    """Trains ``net`` on ``train`` and keeps the weights that measure best on ``held``.

    ``folder`` gets ``checkpoint.pt`` after every epoch and every five minutes, and ``history.jsonl``.
    """

    def __init__(
        self,
        net: Yolo,
        train: LabelledDataset,
        held: LabelledDataset,
        settings: TuneSettings,
        imgsz: tuple[int, int],
        folder: Path,
        say: Say,
    ) -> None:
        self.train_part, self.held, self.settings, self.imgsz = train, held, settings, imgsz
        self.folder, self.say = folder, say
        self.fingerprint = fingerprint(settings, imgsz, train, held)
        self.per_epoch = math.ceil(len(train) / settings.batch)
        self.epochs = settings.planned_epochs(len(train))
        warmup = min(100, 1 + self.per_epoch * self.epochs // 3)
        how = StepSettings(
            settings.peak_rate,
            warmup,
            still=settings.start == "default",
            localization=settings.localization,
        )
        self.tuner = Tuner(net, how, settings.device)
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}  # epoch, score, weights of the mean
        self.seconds = 0.0
        self.unreadable: dict[str, str] = {}
        self.ended = ""
        self._sums: dict[str, float] = {}

    @property
    def checkpoint(self) -> Path:
        """Where the state is kept."""
        return self.folder / "checkpoint.pt"

    def resume(self) -> None:
        """Go on from the checkpoint. ConfigError where there is none, or one of other data or settings."""
        state = read_state(self.checkpoint)
        found = {"localization_loss": "iou"} | json.loads(state["fingerprint"])  # once there was no other
        other = [key for key, value in self.fingerprint.items() if found.get(key) != value]
        if other:
            told = ", ".join(f"{key} {found.get(key)} (now {self.fingerprint[key]})" for key in other)
            raise ConfigError(
                f"--resume {self.checkpoint}: expected a checkpoint of these images and settings, found"
                f" {told}; give those again, or start anew with --overwrite"
            )
        self.tuner.restore(state["tuner"])
        self.best, self.seconds = state["best"], state["seconds"]
        self.history, self._sums = json.loads(state["history"]), json.loads(state["sums"])
        if self.settings.epochs == state["asked_epochs"]:
            self.epochs = state["epochs"]  # as planned then, also where the time was for fewer
        self.say(f"going on after step {self.tuner.steps_done} of {self.epochs * self.per_epoch}")

    def run(self) -> None:
        """Train until the epochs are done, the time is up, or nothing gets better.

        Raises:
            ConfigError: the time is too short for one epoch, or no image can be read.
            LossError: a loss that is not finite; the last checkpoint is kept.
            KeyboardInterrupt: asked to stop (SIGINT or SIGTERM); the state is kept.
        """
        with _asked_to_stop() as asked:
            if not self.tuner.steps_done:
                self._begin()
            self._epochs(asked)
            if asked.is_set() and not self.ended:
                self._save()
                self.say(f"stopped after step {self.tuner.steps_done}; --resume goes on from there")
                raise KeyboardInterrupt
        self.ended = self.ended or "epochs"

    def _begin(self) -> None:
        if self.settings.minutes is not None:
            self._plan(self.settings.minutes * 60)
        if self.settings.start == "default":
            self._measure({"epoch": 0, "step": 0})
        self._save()

    def _plan(self, budget: float) -> None:
        """As many epochs as fit into ``budget`` seconds, by the pace of a few steps that are thrown away."""
        began = time.monotonic()
        tried = copy.deepcopy(self.tuner)
        batches = self._batches(self.epochs)
        moments = []
        for step in range(_TRIED):
            self._step(tried, batches[step], 0.0)
            moments.append(time.monotonic())
        pace = (moments[-1] - moments[0]) / (_TRIED - 1)
        began_looking = time.monotonic()
        some = self.held.subset(range(min(_LOOKED, len(self.held))))
        evaluate(tried.mean, some, self.imgsz, self.settings.device)
        looking = (time.monotonic() - began_looking) / len(some) * len(self.held)
        epoch = self.per_epoch * pace + looking
        left = budget - (time.monotonic() - began) - looking
        fit = int(left / epoch)
        if fit < 1:
            raise ConfigError(
                f"--minutes {budget / 60:g}: expected time for one epoch at least, which is about"
                f" {(epoch + looking + time.monotonic() - began) / 60:.2g} minutes here"
                f" ({len(self.train_part)} images); give more minutes, fewer images, or a smaller --imgsz"
            )
        if fit < self.epochs:
            self.say(f"{fit} of {self.epochs} epochs fit into {budget / 60:g} minutes")
            self.epochs = fit

    def _batches(self, epochs: int) -> Batches:
        s = self.settings
        calm = int(_CALM * epochs * self.per_epoch)
        return Batches(self.train_part, BatchSettings(s.batch, self.imgsz, calm, s.views), s.seed)

    def _epochs(self, asked: threading.Event) -> None:
        total = self.epochs * self.per_epoch
        began, saved = time.monotonic(), time.monotonic()
        before = self.seconds
        for batch in self._batches(self.epochs).from_step(
            self.tuner.steps_done, total, self.settings.workers
        ):
            if asked.is_set():
                return
            losses = self._step(self.tuner, batch, self.tuner.steps_done / total)
            for key, value in losses.items():
                self._sums[key] = self._sums.get(key, 0.0) + value
            self._sums["steps"] = self._sums.get("steps", 0) + 1
            self.seconds = before + time.monotonic() - began
            whole = self.tuner.steps_done % self.per_epoch == 0
            if whole:
                self._epoch_done()
                self.seconds = before + time.monotonic() - began
            if whole or time.monotonic() - saved > _CHECKPOINT_SECONDS:
                self._save()
                saved = time.monotonic()
            if self._time_is_up() or (whole and self._nothing_better()):
                return

    def _step(self, tuner: Tuner, batch: Batch, progress: float) -> dict[str, float]:
        for name in sorted(batch.bad.keys() - self.unreadable.keys()):
            self.unreadable[name] = batch.bad[name]
            self.say(f"left out: {batch.bad[name]}")
        if not len(batch.images):
            raise ConfigError(
                f"expected images to train with, but none of {len(self.train_part)} can be read; see above"
            )
        try:
            return tuner.step(batch, progress)
        except LossError as error:
            epoch = tuner.steps_done // self.per_epoch + 1
            kept = f"{self.checkpoint} is kept as it was; " if self.checkpoint.exists() else ""
            raise LossError(
                f"stopped in epoch {epoch}, step {tuner.steps_done + 1}: {error}. {kept}look at these images"
                f" and their labels, or go on with --resume and a --rate below {self.settings.peak_rate:g}"
            ) from error

    def _epoch_done(self) -> None:
        done = self.tuner.steps_done
        whole = done % self.per_epoch == 0
        epoch = done // self.per_epoch if whole else round(done / self.per_epoch, 3)
        count = self._sums.pop("steps")
        row: dict[str, Any] = {"epoch": epoch, "step": done}
        row |= {key: round(value / count, 5) for key, value in self._sums.items()}
        self._sums = {}
        self._measure(row)

    def _measure(self, row: dict[str, Any]) -> None:
        found, bad = evaluate(self.tuner.mean, self.held, self.imgsz, self.settings.device)
        for name in sorted(bad.keys() - self.unreadable.keys()):
            self.unreadable[name] = bad[name]
            self.say(f"left out: {bad[name]}")
        if len(bad) == len(self.held):
            raise ConfigError(
                f"expected images to measure with, but none of {len(self.held)} can be read; see above"
            )
        self.history.append(row | _rounded(found) | {"seconds": round(self.seconds, 1)})
        # Of equals the last: where nothing is found yet, it has learned most.
        if not self.best or found.ap50_95 >= self.best["score"]:
            weights = {key: value.cpu().clone() for key, value in self.tuner.mean.state_dict().items()}
            if not self.best or found.ap50_95 > self.best["score"]:
                self.best = {"since": row["epoch"]}
            self.best |= {"epoch": row["epoch"], "score": found.ap50_95, "weights": weights}
        loss = f"loss {row['loss']:.3f}, " if "loss" in row else "before training, "
        self.say(
            f"epoch {row['epoch']} of {self.epochs}: {loss}AP50 {found.ap50:.3f}, AP50:95 {found.ap50_95:.3f}"
        )

    def _time_is_up(self) -> bool:
        if self.settings.minutes is None or self.seconds <= self.settings.minutes * 60:
            return False
        if self.tuner.steps_done < self.per_epoch:
            raise ConfigError(
                f"--minutes {self.settings.minutes:g}: over before the first epoch was"
                f" ({self.tuner.steps_done} of {self.per_epoch} steps); give more minutes, or fewer images"
            )
        if self.tuner.steps_done % self.per_epoch:
            self._epoch_done()
        self._save()
        self.ended = "time"
        return True

    def _nothing_better(self) -> bool:
        patience = self.settings.patience
        if patience is None or self.history[-1]["epoch"] - self.best["since"] < patience:
            return False
        self.ended = "patience"
        return True

    def _save(self) -> None:
        state = {
            "fingerprint": json.dumps(self.fingerprint),
            "tuner": self.tuner.state(),
            "best": self.best,
            "seconds": self.seconds,
            "epochs": self.epochs,
            "asked_epochs": self.settings.epochs,
            "history": json.dumps(self.history),
            "sums": json.dumps(self._sums),
        }
        write_state(self.checkpoint, state)
        with atomic_file(self.folder / "history.jsonl") as out:
            out.write("".join(json.dumps(row) + "\n" for row in self.history).encode())

    @property
    def taken(self) -> dict[str, Any]:
        """The line of the history of the weights that measured best."""
        return next(row for row in self.history if row["epoch"] == self.best["epoch"])

    def best_net(self) -> Yolo:
        """The weights that measured best, on the CPU, in evaluation mode."""
        net = copy.deepcopy(self.tuner.mean).cpu()
        if self.best:
            net.load_state_dict(self.best["weights"])
        return net.eval()


def _rounded(found: Figures) -> dict[str, Any]:
    return {
        "ap50": round(found.ap50, 5),
        "ap50_95": round(found.ap50_95, 5),
        "recall": round(found.recall, 5),
        "best_score": round(found.best_score, 5),
        "ap50_by_class": {name: round(value, 5) for name, value in found.by_class.items()},
    }


@contextlib.contextmanager
def settled(settings: TuneSettings) -> Iterator[None]:
    """Ways of computing that give the same numbers again; torch's own are put back."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    # A GPU has no such way for some steps; there it is as near as it can be.
    torch.use_deterministic_algorithms(True, warn_only=settings.device == "cuda")
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; a second one ends the process as usual."""
    asked = threading.Event()
    former: dict[int, Any] = {}

    def ask(number: int, _frame: object) -> None:
        asked.set()
        signal.signal(number, former[number])

    if threading.current_thread() is threading.main_thread():
        former = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
