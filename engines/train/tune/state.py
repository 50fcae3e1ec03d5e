"""The state of a training: net, running mean, optimizer, step; one step; and how it is kept on the disk."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engines.nets.yolo import Yolo
from engines.train.detector import spread_ignore
from engines.train.localization import LocalizationSettings, localization_loss
from engines.train.losses import LossParts, LossSettings, detection_loss
from engines.train.tune.data import Batch
from stream.errors import CelstreamError, ConfigError
from stream.files import atomic_file

_LAST_RATE = 0.02  # what is left of the rate at the end
_CLIP = 10.0  # longest gradient


class LossError(CelstreamError):
    """The loss or its gradient is no longer a finite number; the message names the images."""


@dataclass(frozen=True)
class StepSettings:
    """``rate``: peak of AdamW's; ``warmup`` steps; ``decay`` of weights; ``average``: decay of the running
    mean, raising it makes it steadier and later; ``still``: normalize by the statistics the net came with,
    not by the batch's, which is steadier where a good net is trained on with few images; ``localization``:
    the class-dependent loss in place of ``loss``, for a net with a background."""

    rate: float
    warmup: int = 50
    decay: float = 0.02
    average: float = 0.998
    still: bool = False
    loss: LossSettings = field(default_factory=LossSettings)
    localization: LocalizationSettings | None = None


class Tuner:
    """Trains a net, one batch a step. ``mean`` is the running mean of the weights, which is what is used."""

    def __init__(self, net: Yolo, settings: StepSettings, device: str = "cpu") -> None:
        self.settings, self.device = settings, device
        self.net = net.to(device, memory_format=torch.channels_last).requires_grad_(True)
        self.mean = copy.deepcopy(self.net).eval().requires_grad_(False)
        plain = [p for p in self.net.parameters() if p.ndim <= 1]
        heavy = [p for p in self.net.parameters() if p.ndim > 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": heavy, "weight_decay": settings.decay}, {"params": plain, "weight_decay": 0.0}],
            lr=settings.rate,
        )
        self.half = half_type(device)
        # Gradients of float16 vanish unless they are scaled; bfloat16 has float32's range.
        self.scaler = torch.amp.GradScaler(device, enabled=self.half == torch.float16)
        self.steps_done = 0

    def step(self, batch: Batch, progress: float) -> dict[str, float]:
        """Train on one batch; ``progress`` 0..1 places it on the cosine. Returns the losses.

        Raises:
            LossError: loss or gradient is not finite; the weights are those of before.
        """
        s = self.settings
        warm = min(1.0, (self.steps_done + 1) / s.warmup)
        slope = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        rate = s.rate * warm * (_LAST_RATE + (1 - _LAST_RATE) * slope)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self._train_mode()
        images = batch.images.to(self.device).float().div_(255)
        images = images.contiguous(memory_format=torch.channels_last)
        truth = batch.truth.to(self.device)
        with torch.autocast(self.device, self.half or torch.bfloat16, enabled=self.half is not None):
            boxes, logits, points = self.net(images)
        veil = spread_ignore(batch.ignore.to(self.device), images.shape[2], images.shape[3])
        loss = self._loss(boxes, logits, points, truth, veil)
        value = float(loss.total.detach())
        if not math.isfinite(value):
            raise LossError(self._blame(value, boxes, logits, points, truth, veil, batch.names))
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss.total).backward()
        self.scaler.unscale_(self.optimizer)
        norm = float(nn.utils.clip_grad_norm_(self.net.parameters(), _CLIP))
        if not math.isfinite(norm) and not self.scaler.is_enabled():
            raise LossError(f"the gradient is {norm}, in the batch of {_listed(batch.names)}")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.steps_done += 1
        self._follow()
        return {"loss": value, "score_loss": float(loss.score.detach()), "box_loss": float(loss.box.detach())}

    def _loss(self, boxes: Tensor, logits: Tensor, points: Tensor, truth: Tensor, veil: Tensor) -> LossParts:
        s = self.settings
        if s.localization is None:
            return detection_loss(boxes, logits, points, truth[..., :5], veil, truth[..., 5], s.loss)
        parts = localization_loss(boxes, logits, points, truth[..., :5], s.localization, veil[..., 0])
        return LossParts(parts.total, parts.classification, parts.localization, parts.cells)

    def _train_mode(self) -> None:
        self.net.train()
        if self.settings.still:
            for module in self.net.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def _follow(self) -> None:
        """Move the running mean; early on it follows closely, so that it forgets the first weights."""
        keep = min(self.settings.average, (1 + self.steps_done) / (10 + self.steps_done))
        with torch.no_grad():
            pairs = zip(self.mean.state_dict().values(), self.net.state_dict().values(), strict=True)
            for slow, fast in pairs:
                if slow.dtype.is_floating_point:
                    slow.lerp_(fast, 1 - keep)
                else:
                    slow.copy_(fast)

    def _blame(
        self,
        value: float,
        boxes: Tensor,
        logits: Tensor,
        points: Tensor,
        truth: Tensor,
        veil: Tensor,
        names: tuple[str, ...],
    ) -> str:
        """Which pictures of the batch have a loss that is not finite."""
        bad = []
        for i, name in enumerate(names):
            one = slice(i, i + 1)
            part = self._loss(boxes[one].detach(), logits[one].detach(), points, truth[one], veil[one])
            if not math.isfinite(float(part.total)):
                bad.append(name)
        return f"the loss is {value}, at {_listed(tuple(bad) or names)}"

    def state(self) -> dict[str, Any]:
        """Everything needed to go on exactly."""
        return {
            "net": self.net.state_dict(),
            "mean": self.mean.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "steps_done": self.steps_done,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take a state that :meth:`state` gave."""
        self.net.load_state_dict(state["net"])
        self.mean.load_state_dict(state["mean"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.steps_done = int(state["steps_done"])


def _listed(names: tuple[str, ...], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more


def half_type(device: str) -> torch.dtype | None:
    """The 16-bit type that is fast here, None where there is none and float32 is used."""
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    return torch.bfloat16 if "avx512_bf16" in flags or "amx_bf16" in flags else None


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all (WorkdirError where it cannot be written)."""
    with atomic_file(path) as out:
        torch.save(dict(state), out)


def read_state(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    if not path.exists():
        raise ConfigError(f"--resume: expected {path}, found none; leave --resume out to start anew")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises whatever its first bad byte leads to
        raise ConfigError(
            f"--resume: {path} cannot be read ({str(error).splitlines()[0]}); start anew with --overwrite"
        ) from error
    if not isinstance(state, dict):
        raise ConfigError(f"--resume: {path} is no checkpoint of a training; start anew with --overwrite")
    return state
