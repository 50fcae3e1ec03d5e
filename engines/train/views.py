"""Training views: a batch of the embedder's pictures out of a bank of larger ones, each time anew.

A bank keeps every picture with transparency and its box, so that a view can be what the pipeline would cut
out: another background, a box a little off, a body cut by the frame's edge, another body before it. The cut
itself is the pipeline's: box and margin, aspect kept, grey around it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

STORED = 96  # side of a stored picture, pixels
BOX = 76  # longer side of the box inside it: the rest is context to move the box in
SIDE = 64  # side of the embedder's input
GREY = 114 / 255  # what fills a square around a crop
MEAN = (0.485, 0.456, 0.406)  # the input is normalized as published DenseNets have it
STD = (0.229, 0.224, 0.225)

Kind = Literal["rendered", "art", "film"]
KINDS: tuple[Kind, ...] = ("rendered", "art", "film")
Uniform = Callable[..., Tensor]  # (low, high, size) -> random numbers, one per view by default


@dataclass(frozen=True)
class Bank:
    """Pictures to make views of.

    ``pictures`` (M, 96, 96, 4) uint8 RGBA; of film, the colours are the frame's and the alpha the moving
    body's. ``boxes`` (M, 4) float32 xyxy in it. ``identities`` (M,) int32; of film, a track: one track is
    one character, another track may be it, too. ``kinds`` (M,) uint8 into ``KINDS``. ``frames`` (M,) int32:
    film pictures with the same number were seen at once, -1 none. ``backgrounds`` (B, 96, 96, 3) uint8.
    """

    pictures: np.ndarray
    boxes: np.ndarray
    identities: np.ndarray
    kinds: np.ndarray
    frames: np.ndarray
    backgrounds: np.ndarray

    def __post_init__(self) -> None:
        m = len(self.pictures)
        for name, shape in (
            ("pictures", (m, STORED, STORED, 4)),
            ("boxes", (m, 4)),
            ("identities", (m,)),
            ("kinds", (m,)),
            ("frames", (m,)),
            ("backgrounds", (len(self.backgrounds), STORED, STORED, 3)),
        ):
            if getattr(self, name).shape != shape:
                raise ValueError(f"Bank.{name}: expected {shape}, got {getattr(self, name).shape}")

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True)
class Augmentation:
    """How far views of one picture differ. Raising any of them gives harder, less lifelike views."""

    jitter: float = 0.06  # each side of the box moves, as a share of the box (standard deviation)
    truncation: float = 0.25  # share of views with a side of the box cut off, by up to 45 %
    rotation: float = 12.0  # degrees, either way
    aspect: float = 0.1  # stretch, either way
    occluder: float = 0.2  # share of views with another body partly before this one
    brightness: float = 0.25
    saturation: float = 0.25
    cast: float = 0.08  # change of each channel alone; small, since colour tells characters apart
    offset: float = 0.08
    erasures: int = 2  # rectangles of flat colour, each on half of the views
    soften: float = 0.35  # share of views through a smaller size, as small or distant characters are
    opaque: float = 0.5  # share of film views that keep the film's own background
    scenes: int = 8  # different backgrounds in a batch: few, so that no background means an identity

    @staticmethod
    def none() -> Augmentation:
        """The pipeline's own cut: nothing random but the background."""
        return Augmentation(*(0.0,) * 9, erasures=0, soften=0.0, opaque=1.0, scenes=10**6)


@dataclass
class Views:
    """Makes normalized views ``(N, 3, 64, 64)`` float32 of the bank's pictures.

    Deterministic by the generator given to :meth:`make`.
    """

    bank: Bank
    margin: float = 0.08
    augmentation: Augmentation = field(default_factory=Augmentation)

    def make(
        self, chosen: np.ndarray, generator: torch.Generator, backgrounds: np.ndarray | None = None
    ) -> Tensor:
        """Views of the pictures numbered ``chosen`` (N,).

        ``backgrounds`` (N,) names each view's background; None draws a few for the whole batch.
        """
        aug, n = self.augmentation, len(chosen)

        def uniform(low: float = 0.0, high: float = 1.0, size: int = n) -> Tensor:
            return torch.rand(size, generator=generator) * (high - low) + low

        source = _floats(self.bank.pictures[chosen])
        film = torch.from_numpy(self.bank.kinds[chosen] == KINDS.index("film"))
        kept = (film & (uniform() < aug.opaque)).float()[:, None, None, None]
        source[:, 3:] = torch.maximum(source[:, 3:], kept)
        source[:, :3] *= source[:, 3:]  # colours weighted by their cover, or edges turn dark
        box = self._cut(torch.from_numpy(np.ascontiguousarray(self.bank.boxes[chosen])), uniform, generator)
        grid, inside = self._grid(box, uniform)
        body = functional.grid_sample(source, grid, align_corners=False)
        alpha = body[:, 3:]
        if backgrounds is None:
            pool = torch.randint(len(self.bank.backgrounds), (min(aug.scenes, n),), generator=generator)
            backgrounds = pool[torch.randint(len(pool), (n,), generator=generator)].numpy()
        ground = functional.grid_sample(
            _floats(self.bank.backgrounds[backgrounds]), self._anywhere(uniform), align_corners=False
        )
        picture = ground * (1 - alpha) + body[:, :3]
        if aug.occluder:
            picture = self._occlude(picture, body, uniform, generator)
        picture = self._colour(picture, uniform)
        picture = self._erase(picture, uniform)
        picture = self._soften(picture, uniform)
        picture = torch.where(inside, picture, torch.full_like(picture, GREY))
        mirrored = (uniform() < 0.5) if aug.jitter else torch.zeros(n, dtype=torch.bool)
        picture = torch.where(mirrored[:, None, None, None], picture.flip(3), picture)
        return normalize(picture)

    def _cut(self, box: Tensor, uniform: Uniform, generator: torch.Generator) -> Tensor:
        """The boxes as a detector might give them, with the margin: (N, 4)."""
        aug, n = self.augmentation, len(box)
        size = torch.stack([box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]], 1)
        shift = torch.randn(n, 4, generator=generator) * aug.jitter
        cut = torch.zeros(n, 4)
        side = torch.randint(4, (n,), generator=generator)
        amount = uniform(0.05, 0.45) * (uniform() < aug.truncation)
        cut[torch.arange(n), side] = amount
        grow = torch.tensor([-1.0, -1.0, 1.0, 1.0]) * self.margin + shift
        # a cut side has no margin: there the frame ends
        grow = torch.where(cut > 0, torch.tensor([1.0, 1.0, -1.0, -1.0]) * cut, grow)
        return box + grow * size.repeat(1, 2)

    def _grid(self, box: Tensor, uniform: Uniform) -> tuple[Tensor, Tensor]:
        """Where each output pixel looks in the stored picture, and whether it is in the box: (N, 1, S, S)."""
        aug = self.augmentation
        width, height = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
        longest = torch.maximum(width, height)
        axis = (torch.arange(SIDE) + 0.5) / SIDE - 0.5
        v, u = torch.meshgrid(axis, axis, indexing="ij")
        u = u[None] * longest[:, None, None]
        v = v[None] * longest[:, None, None]
        inside = (u.abs() <= width[:, None, None] / 2) & (v.abs() <= height[:, None, None] / 2)
        angle = uniform(-aug.rotation, aug.rotation) * math.pi / 180
        stretch = torch.exp(uniform(-aug.aspect, aug.aspect))
        cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
        k = stretch[:, None, None]
        x = (box[:, 0] + box[:, 2])[:, None, None] / 2 + (cos * u - sin * v) * k
        y = (box[:, 1] + box[:, 3])[:, None, None] / 2 + (sin * u + cos * v) / k
        return torch.stack([x, y], 3) / (STORED / 2) - 1, inside[:, None]

    def _anywhere(self, uniform: Uniform) -> Tensor:
        """A random square of each background: grids (N, S, S, 2)."""
        zoom = uniform(0.35, 1.0)
        theta = torch.zeros(len(zoom), 2, 3)
        theta[:, 0, 0] = zoom * torch.where(uniform() < 0.5, -1.0, 1.0)
        theta[:, 1, 1] = zoom
        theta[:, 0, 2] = uniform(-1, 1) * (1 - zoom)
        theta[:, 1, 2] = uniform(-1, 1) * (1 - zoom)
        return functional.affine_grid(theta, [len(zoom), 3, SIDE, SIDE], align_corners=False)

    def _occlude(self, picture: Tensor, body: Tensor, uniform: Uniform, generator: torch.Generator) -> Tensor:
        """Another view's body, shifted so that it covers a side."""
        n = len(picture)
        order = torch.randperm(n, generator=generator)
        theta = torch.zeros(n, 2, 3)
        theta[:, 0, 0] = theta[:, 1, 1] = uniform(0.8, 1.4)
        theta[:, 0, 2] = uniform(0.8, 1.6) * torch.where(uniform() < 0.5, -1.0, 1.0)
        theta[:, 1, 2] = uniform(-0.7, 0.7)
        grid = functional.affine_grid(theta, [n, 4, SIDE, SIDE], align_corners=False)
        other = functional.grid_sample(body[order], grid, align_corners=False)
        on = (uniform() < self.augmentation.occluder).float()[:, None, None, None]
        return picture * (1 - other[:, 3:] * on) + other[:, :3] * on

    def _colour(self, picture: Tensor, uniform: Uniform) -> Tensor:
        """Lighting that keeps hues: gain, saturation, a slight cast, an offset."""
        aug, n = self.augmentation, len(picture)
        grey = picture.mean(1, keepdim=True)
        saturation = (1 + uniform(-aug.saturation, aug.saturation))[:, None, None, None]
        picture = grey + (picture - grey) * saturation
        cast = 1 + uniform(-aug.cast, aug.cast, 3 * n).view(n, 3, 1, 1)
        gain = (1 + uniform(-aug.brightness, aug.brightness))[:, None, None, None]
        offset = uniform(-aug.offset, aug.offset)[:, None, None, None]
        return (picture * cast * gain + offset).clamp(0, 1)

    def _erase(self, picture: Tensor, uniform: Uniform) -> Tensor:
        """Flat rectangles: what stands before a character, or a detail that should not decide alone."""
        n = len(picture)
        axis = (torch.arange(SIDE) + 0.5) / SIDE
        for _ in range(self.augmentation.erasures):
            half_w, half_h = uniform(0.05, 0.16)[:, None], uniform(0.05, 0.16)[:, None]
            across = (axis[None] - uniform()[:, None]).abs() < half_w
            down = (axis[None] - uniform()[:, None]).abs() < half_h
            on = (uniform() < 0.5)[:, None, None] & across[:, None, :] & down[:, :, None]
            colour = uniform(0, 1, 3 * n).view(n, 3, 1, 1)
            picture = torch.where(on[:, None], colour, picture)
        return picture

    def _soften(self, picture: Tensor, uniform: Uniform) -> Tensor:
        """Some views through a smaller size and back."""
        on = uniform() < self.augmentation.soften
        if not bool(on.any()):
            return picture
        size = int(uniform(22, 48, 1))
        small = functional.interpolate(picture, size=size, mode="bilinear", antialias=True)
        small = functional.interpolate(small, size=SIDE, mode="bilinear")
        return torch.where(on[:, None, None, None], small, picture)


def _floats(pictures: np.ndarray) -> Tensor:
    """uint8 (N, H, W, C) -> float32 (N, C, H, W) in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float().div_(255)


def normalize(pictures: Tensor) -> Tensor:
    """RGB in 0..1 -> the network's input."""
    return (pictures - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
