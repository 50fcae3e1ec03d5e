"""Training the default embedder: ``python -m engines.train.embedder --recipe default --media DIR --art DIR``.

Two losses share the network. Rendered and drawn characters have identities, so their embeddings are pulled
together and pushed apart directly (supervised contrastive loss, Khosla et al. 2020), cast by cast. Films have
none: two pictures of one track are pulled together and the dimensions kept spread and uncorrelated (VICReg,
Bardes et al. 2022, on a projection), and two bodies of one frame are pushed apart. The embedding is the
network's global average with the mean over the training pictures taken off.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.nets.densenet import DenseNet, densenet_small
from engines.runtime.base import EngineError
from engines.train import figures
from engines.train.batches import BatchSize, Sampler, apart, contrast, vicreg
from engines.train.embedder_file import export
from engines.train.identities import BankSize, facts_of, kept, training_bank, validation_bank
from engines.train.views import Augmentation, Bank, Views

_SAMPLED = 5  # seed of the views by which an embedder that is gone on from gets its statistics


@dataclass(frozen=True)
class Recipe:
    """Everything a training depends on besides the pictures."""

    steps: int = 6000  # raising it trains longer; with ``minutes`` the clock decides instead
    temperature: float = 0.1  # raising it looks less at the hardest neighbours
    film_weight: float = 0.06  # of VICReg against the identity loss
    apart_weight: float = 1.0  # of the push between two bodies of one frame
    rate: float = 2e-3
    weight_decay: float = 0.02
    warmup: int = 100  # steps
    average: float = 0.998  # decay of the averaged weights, which are the ones exported
    goes_on: bool = False  # from an embedder that has to be given; alone its few steps would teach too little
    way: float = 0.5  # share taken of the way from an embedder gone on from; raising it forgets more of that
    batch: BatchSize = field(default_factory=BatchSize)
    bank: BankSize = field(default_factory=BankSize)
    validation_casts: int = 6  # of each kind; raising it measures more finely and costs time at every look
    augmentation: Augmentation = field(default_factory=Augmentation)


RECIPES = {
    "default": Recipe(),
    # goes on from the default's embedder with more characters, in larger casts
    "more": Recipe(goes_on=True, steps=1600, rate=7e-4, bank=BankSize(1000, 8, 8, 400)),
    # tries the machinery on a machine in a minute; its network is of no use
    "quick": Recipe(
        steps=60,
        warmup=5,
        average=0.9,
        bank=BankSize(16, 6, 4, 40),
        batch=BatchSize(4, 4, 2),
        validation_casts=1,
    ),
}


class Embedder(nn.Module):
    """``(N, 3, 64, 64)`` normalized pictures -> ``(N, D)``: the network's average less the training mean."""

    mean: Tensor

    def __init__(self, net: DenseNet) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.zeros(net.dimensions))

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.net(x)
        return embedding - self.mean


class _Learner(nn.Module):
    """The embedder and the projection that only the film loss sees."""

    def __init__(self) -> None:
        super().__init__()
        self.embedder = Embedder(densenet_small())
        d = self.embedder.net.dimensions
        self.projection = nn.Sequential(
            nn.Linear(d, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 128)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings less the batch's mean, which also moves the running mean, and projections."""
        raw: Tensor = self.embedder.net(x).float()
        mean = raw.mean(0)
        with torch.no_grad():
            self.embedder.mean.lerp_(mean, 0.02)
        return raw - mean, self.projection(raw)


class Training:
    """One training: steps, validation, checkpoints. The same seed and steps give the same weights.

    Args:
        bank: what is learned from.
        validation: unseen characters, by whose retrieval the exported weights are chosen; None takes the
            last weights.
        folder: where ``checkpoint.pt`` goes; None keeps none.
        minutes: the schedule follows the clock instead of ``recipe.steps``.
        start: an embedder's ONNX file to go on from; the result lies ``recipe.way`` of the way from it to
            what is learned, see :func:`go_part_of_the_way`; None begins with random weights.

    Raises:
        EngineError: ``start`` is another network's file.
    """

    def __init__(
        self,
        recipe: Recipe,
        bank: Bank,
        validation: Bank | None = None,
        *,
        seed: int = 0,
        folder: Path | None = None,
        minutes: float | None = None,
        bf16: bool = True,
        start: Path | None = None,
    ) -> None:
        torch.manual_seed(seed)
        self.recipe, self.bank, self.validation, self.seed = recipe, bank, validation, seed
        self.folder, self.minutes, self.bf16 = folder, minutes, bf16
        self.views = Views(bank, augmentation=recipe.augmentation)
        self.sampler = Sampler(bank, recipe.batch, recipe.bank.members)
        self.learner = _Learner().to(memory_format=torch.channels_last)
        self.first = None if start is None else self._begin_at(start)
        self.averaged = copy.deepcopy(self.learner.embedder).eval()
        self.optimizer = torch.optim.AdamW(
            self.learner.parameters(), recipe.rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
        )
        self.step, self.seconds = 0, 0.0
        self.best: tuple[float, dict[str, Tensor]] | None = None
        self.log: list[dict[str, float]] = []

    def _begin_at(self, start: Path) -> dict[str, Tensor]:
        """Put the file's weights into the learner, its folded normalizations by views of the bank."""
        from engines.train.adapt_start import read_embedder, recalibrated  # which imports this module

        rng, generator = np.random.default_rng(_SAMPLED), torch.Generator().manual_seed(_SAMPLED)
        batches = [self.views.make(self.sampler.batch(rng).rows, generator) for _ in range(4)]
        embedder = recalibrated(read_embedder(start), torch.cat(batches))
        self.learner.embedder.load_state_dict(embedder.state_dict())
        return embedder.state_dict()

    @property
    def progress(self) -> float:
        """Share of the training that is done, 0..1."""
        if self.minutes is not None:
            return min(1.0, self.seconds / (60 * self.minutes))
        return self.step / self.recipe.steps

    def run(self, every: int = 250) -> Embedder:
        """Train to the end; validate, checkpoint and log every so many steps. The best averaged weights."""
        while self.progress < 1:
            began = time.monotonic()
            loss = self._learn()
            self.seconds += time.monotonic() - began
            if self.step % every == 0 or self.progress >= 1:
                self._look(loss)
        return self._result()

    def _result(self) -> Embedder:
        """The best averaged weights, as far from those it began with as the recipe says."""
        result = copy.deepcopy(self.averaged)
        if self.best is not None:
            result.load_state_dict(self.best[1])
        if self.first is not None:
            go_part_of_the_way(result, self.first, self.recipe.way)
        return result

    def _learn(self) -> float:
        # each step draws from its own seed, so that a resumed training goes on as if never stopped
        rng = np.random.default_rng([self.seed, self.step])
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 60)))
        batch = self.sampler.batch(rng)
        x = self.views.make(batch.rows, generator).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            embedding, projection = self.learner(x)
        embedding, projection = functional.normalize(embedding.float()), projection.float()
        r, named = self.recipe, batch.named
        loss = torch.zeros(())
        if named:
            identities = torch.from_numpy(self.sampler.identities[batch.rows[:named]])
            loss = loss + contrast(embedding[:named], identities, r.temperature)
        if len(batch.rows) > named:
            loss = loss + r.film_weight * vicreg(projection[named::2], projection[named + 1 :: 2])
        if batch.couples:
            loss = loss + r.apart_weight * apart(embedding[named : named + 4 * batch.couples])
        for group in self.optimizer.param_groups:
            group["lr"] = (
                r.rate * min(1.0, (self.step + 1) / r.warmup) * 0.5 * (1 + math.cos(math.pi * self.progress))
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.learner.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        keep = min(r.average, 1 - 1 / (self.step + 1))
        with torch.no_grad():
            old, new = self.averaged.state_dict(), self.learner.embedder.state_dict()
            for name, value in old.items():
                if value.is_floating_point():
                    value.lerp_(new[name], 1 - keep)
        return float(loss.detach())

    def _look(self, loss: float) -> None:
        entry = {"step": self.step, "minutes": round(self.seconds / 60, 2), "loss": round(loss, 4)}
        if self.validation is not None:
            x = embed(self.averaged, validation_views(self.validation))
            score = by_cast(x, np.asarray(self.validation.identities))
            entry["retrieval"] = round(score, 4)
            if self.best is None or score >= self.best[0]:
                self.best = (score, {k: v.clone() for k, v in self.averaged.state_dict().items()})
        self.log.append(entry)
        print(json.dumps(entry), file=sys.stderr, flush=True)
        if self.folder is not None:
            self.save(self.folder / "checkpoint.pt")
            if self.best is not None:
                export(self._result(), self.folder / "embedder.onnx", {"steps": self.step, "seed": self.seed})

    def save(self, path: Path) -> None:
        """Everything that :meth:`resume` needs, written whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "learner": self.learner.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "step": self.step,
            "seconds": self.seconds,
            "seed": self.seed,
            "log": self.log,
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            EngineError: it belongs to another seed.
        """
        state = torch.load(path, weights_only=True)
        if state["seed"] != self.seed:
            raise EngineError(
                f"{path}: expected a checkpoint of seed {self.seed}, found seed {state['seed']}"
            )
        self.learner.load_state_dict(state["learner"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best, self.step, self.seconds, self.log = (
            state["best"],
            state["step"],
            state["seconds"],
            state["log"],
        )


@torch.no_grad()
def go_part_of_the_way(learned: nn.Module, first: dict[str, Tensor], way: float) -> None:
    """Move weights back, in place, to a point between those they began with and themselves.

    Wortsman et al. 2022, "Robust fine-tuning of zero-shot models". ``way``: 0 is ``first``, 1 all that
    was learned; raising it keeps less of what was known before.
    """
    for name, value in learned.state_dict().items():
        if value.is_floating_point():
            value.lerp_(first[name], 1 - way)


def validation_views(bank: Bank, seed: int = 0) -> Tensor:
    """One view of each picture as the pipeline cuts it, boxes a little off, twelve places per cast."""
    generator = torch.Generator().manual_seed(seed)
    plain = Augmentation.none()
    mild = Augmentation(
        **(asdict(plain) | {"jitter": 0.03, "truncation": 0.1, "brightness": 0.12, "occluder": 0.08})
    )
    rng = np.random.default_rng(seed)
    cast = np.asarray(bank.identities) // 6
    grounds = (cast * 12 + rng.integers(0, 12, len(bank))) % len(bank.backgrounds)
    return Views(bank, augmentation=mild).make(np.arange(len(bank)), generator, grounds)


def embed(embedder: nn.Module, x: Tensor, batch: int = 128) -> np.ndarray:
    """Normalized pictures (N, 3, S, S) -> (N, D) as the pipeline has them: mirror added, unit length."""
    out = []
    with torch.inference_mode():
        for part in x.split(batch):
            out.append((embedder(part) + embedder(part.flip(3))).float().numpy())
    return figures.unit(np.concatenate(out))


def by_cast(x: np.ndarray, identities: np.ndarray, members: int = 6) -> float:
    """Retrieval within each cast, averaged: characters of different productions are never compared."""
    cast = identities // members
    return float(np.mean([figures.retrieval(x[cast == c], identities[cast == c]) for c in np.unique(cast)]))


def main(arguments: list[str] | None = None) -> int:
    """The command line; ``--help`` says what there is."""
    parser = argparse.ArgumentParser(prog="python -m engines.train.embedder", description=__doc__)
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="default")
    parser.add_argument("--media", type=Path, help="folder of films to learn from, without labels")
    parser.add_argument("--art", type=Path, help="folder with sprites/ and backgrounds/ (Pepper&Carrot)")
    parser.add_argument(
        "--out", type=Path, default=Path("scratch/embedder"), help="bank, checkpoint and ONNX"
    )
    parser.add_argument("--minutes", type=float, help="train by the clock instead of the recipe's steps")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--start", type=Path, help="an embedder's ONNX file to go on from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    recipe = RECIPES[options.recipe]
    if recipe.goes_on and options.start is None:
        parser.error(
            f"--recipe {options.recipe} goes on from an embedder: give its ONNX file by --start FILE"
        )
    if options.steps:
        recipe = replace(recipe, steps=options.steps)
    facts = facts_of(recipe.bank, options.seed, options.media, options.art)
    bank = kept(
        options.out,
        "bank",
        facts,
        lambda: training_bank(recipe.bank, options.seed, options.media, options.art),
    )
    casts = recipe.validation_casts
    validation = kept(
        options.out, "validation", {"casts": casts, "version": 3}, lambda: validation_bank(0, casts)
    )
    training = Training(
        recipe,
        bank,
        validation,
        seed=options.seed,
        folder=options.out,
        minutes=options.minutes,
        start=options.start,
    )
    if options.resume:
        training.resume(options.out / "checkpoint.pt")
    training.run()
    print(options.out / "embedder.onnx")
    return 0


if __name__ == "__main__":
    sys.exit(main())
