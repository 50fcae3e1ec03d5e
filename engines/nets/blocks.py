"""Building blocks of the detector: convolution with batch norm, split-and-merge stage, pooling pyramid.

ReLU throughout: ONNX Runtime fuses it into the convolution on the CPU, and SiLU costs two more passes
over memory.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvNorm(nn.Module):
    """Convolution, batch norm, ReLU: (B, cin, H, W) -> (B, cout, H/stride, W/stride).

    ``size``: kernel side; raising it widens the view and costs size^2. ``groups``: raising it makes the
    convolution cheaper and less able to mix channels. ``active``: False leaves out the ReLU.
    """

    def __init__(
        self, cin: int, cout: int, size: int = 3, stride: int = 1, groups: int = 1, active: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, size, stride, size // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(cout, eps=1e-3, momentum=0.03)
        self.act: nn.Module = nn.ReLU(inplace=True) if active else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, the inner one half as wide: (B, C, H, W) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = ConvNorm(channels, channels)
        self.outer = ConvNorm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(self.inner(x))


class SplitStage(nn.Module):
    """Split channels, refine one half in steps, keep each step, merge: (B, cin, H, W) -> (B, cout, H, W).

    The cross-stage-partial idea (Wang et al. 2020, arXiv:1911.11929). ``depth``: how many residual steps;
    raising it adds accuracy and time in proportion.
    """

    def __init__(self, cin: int, cout: int, depth: int = 1) -> None:
        super().__init__()
        self.half = cout // 2
        self.split = ConvNorm(cin, cout, 1)
        self.steps = nn.ModuleList(Residual(self.half) for _ in range(depth))
        self.merge = ConvNorm(self.half * (2 + depth), cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.split(x)
        parts = [y[:, : self.half], y[:, self.half :]]
        for step in self.steps:
            parts.append(step(parts[-1]))
        return self.merge(torch.cat(parts, 1))


class PoolPyramid(nn.Module):
    """Three chained 5x5 max-pools beside the input, so that one cell sees most of the picture; shape kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow = ConvNorm(channels, channels // 2, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.merge = ConvNorm(channels * 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.narrow(x)
        b = self.pool(a)
        c = self.pool(b)
        return self.merge(torch.cat([a, b, c, self.pool(c)], 1))
