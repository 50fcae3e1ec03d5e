"""DenseNet (Huang et al., 2017), with torchvision's parameter names, and the small one this project trains.

A layer takes all earlier ones of its block: ``x_l = H_l([x_0, ..., x_{l-1}])`` with
``H = BN, ReLU, 1x1 conv, BN, ReLU, 3x3 conv``. The names (``features.conv0.weight`` ...
``classifier.bias``) are those of torchvision and timm, so that either's densenet121/161 weights load.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_OLD_NAME = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\..*)$")


class _DenseLayer(nn.Module):
    """One layer of a block: ``(N, C, H, W) -> (N, growth, H, W)``."""

    def __init__(self, channels: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, bottleneck * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(bottleneck * growth)
        self.conv2 = nn.Conv2d(bottleneck * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(functional.relu(self.norm1(x)))
        out: Tensor = self.conv2(functional.relu(self.norm2(x)))
        return out


class _DenseBlock(nn.Module):
    """``(N, C, H, W) -> (N, C + layers * growth, H, W)``."""

    def __init__(self, layers: int, channels: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        for i in range(layers):
            self.add_module(f"denselayer{i + 1}", _DenseLayer(channels + i * growth, growth, bottleneck))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = torch.cat([x, layer(x)], 1)
        return x


class _Transition(nn.Module):
    """Fewer channels, half the size: ``(N, C, H, W) -> (N, out, H/2, W/2)``."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(self.conv(functional.relu(self.norm(x))), 2)


class DenseNet(nn.Module):
    """Dense blocks with transitions between them; the global average is the embedding.

    Args:
        growth: channels that each layer adds, for all blocks or one number per block. Raising it is more
            exact and slower (the cost of a block grows with its square).
        blocks: layers per block. Raising them deepens the net.
        stem: channels after the first convolution.
        stem_kernel: its kernel size (stride 2, then a 3x3/2 max-pool).
        bottleneck: channels of the 1x1 convolution as a multiple of ``growth``.
        transitions: channels after each transition; None halves them, as published.
        classes: outputs of the classifier; 0 leaves it out, and ``forward`` gives the embedding.

    Raises:
        ValueError: ``growth`` or ``transitions`` do not fit the number of blocks.
    """

    def __init__(
        self,
        growth: int | Sequence[int] = 32,
        blocks: Sequence[int] = (6, 12, 24, 16),
        *,
        stem: int = 64,
        stem_kernel: int = 7,
        bottleneck: int = 4,
        transitions: Sequence[int] | None = None,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        growths = [growth] * len(blocks) if isinstance(growth, int) else list(growth)
        if len(growths) != len(blocks):
            raise ValueError(f"DenseNet: expected a growth per block, {len(blocks)}, got {len(growths)}")
        if transitions is not None and len(transitions) != len(blocks) - 1:
            raise ValueError(f"DenseNet: expected {len(blocks) - 1} transitions, got {len(transitions)}")
        self.features = nn.Sequential(
            OrderedDict(
                conv0=nn.Conv2d(3, stem, stem_kernel, stride=2, padding=stem_kernel // 2, bias=False),
                norm0=nn.BatchNorm2d(stem),
                relu0=nn.ReLU(),
                pool0=nn.MaxPool2d(3, stride=2, padding=1),
            )
        )
        channels = stem
        for i, layers in enumerate(blocks):
            block = _DenseBlock(layers, channels, growths[i], bottleneck)
            self.features.add_module(f"denseblock{i + 1}", block)
            channels += layers * growths[i]
            if i + 1 < len(blocks):
                out = channels // 2 if transitions is None else transitions[i]
                self.features.add_module(f"transition{i + 1}", _Transition(channels, out))
                channels = out
        self.features.add_module("norm5", nn.BatchNorm2d(channels))  # published name, however many blocks
        self.dimensions = channels
        self.classifier = nn.Linear(channels, classes) if classes else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def embed(self, x: Tensor) -> Tensor:
        """``(N, 3, H, W)`` normalized pictures -> ``(N, D)``, the average over the picture, not negative."""
        maps: Tensor = functional.relu(self.features(x))
        return maps.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 3, H, W)`` -> ``(N, classes)``, or ``(N, D)`` without a classifier."""
        embedding = self.embed(x)
        if self.classifier is None:
            return embedding
        out: Tensor = self.classifier(embedding)
        return out


def densenet121(classes: int = 1000) -> DenseNet:
    """DenseNet-121 as published: 224 px, 8.0 M parameters, 1024 dimensions."""
    return DenseNet(32, (6, 12, 24, 16), stem=64, classes=classes)


def densenet161(classes: int = 1000) -> DenseNet:
    """DenseNet-161 as published: 224 px, 28.7 M parameters, 2208 dimensions."""
    return DenseNet(48, (6, 12, 36, 24), stem=96, classes=classes)


def densenet_small() -> DenseNet:
    """The default embedder: 64 px, 0.46 M parameters, 256 dimensions, no classifier."""
    return DenseNet((16, 24, 32), (3, 4, 5), stem=32, stem_kernel=5, transitions=(64, 96), classes=0)


def current_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published checkpoint's weights under today's names (``norm.1.weight`` -> ``norm1.weight``)."""
    found = {}
    for name, value in state.items():
        old = _OLD_NAME.match(name)
        found[old[1] + old[2] if old else name] = value
    return found
