"""Tiny networks exported to real ONNX files: detectors that find coloured rectangles, and embedders.

A detector's box is the extent of the red pixels (class 0) and of the blue ones (class 1) of its input. It
sees nothing where its input is in another range, order of channels or place than its format's, so that wrong
preprocessing shows.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDES = (8, 16, 32)
RED, BLUE = (255, 0, 0), (0, 0, 255)


class Rectangles(nn.Module):
    """Formats: v8, v5, yolox, yolox_decoded, end_to_end, triple, triple_batched (shares of the canvas)."""

    def __init__(self, format: str, blue: bool = True) -> None:
        super().__init__()
        self.format, self.blue = format, blue

    def forward(self, images: Tensor) -> Any:
        height, width = images.shape[2:]
        if self.format.startswith("yolox"):
            full = (images.amax((1, 2, 3)) > 200).float()
            images = images.flip(1) / 255
            corner = images[:, :, 0, 0].mean(1)  # the picture begins here, not the grey around it
            full = full * ((corner - 114 / 255).abs() > 0.01).float()
        else:
            full = (images.amax((1, 2, 3)) < 1.5).float()
        found = []
        for colour in (0, 2) if self.blue else (0,):
            other = 2 - colour
            mask = (images[:, colour] > 0.6) & (images[:, 1] < 0.3) & (images[:, other] < 0.3)
            x = torch.arange(width, dtype=torch.float32, device=images.device)[None, None, :]
            y = torch.arange(height, dtype=torch.float32, device=images.device)[None, :, None]
            far = torch.full_like(images[:, 0], 1e4)
            none = torch.zeros_like(far)
            x1, y1 = torch.where(mask, x, far).amin((1, 2)), torch.where(mask, y, far).amin((1, 2))
            x2, y2 = torch.where(mask, x + 1, none).amax((1, 2)), torch.where(mask, y + 1, none).amax((1, 2))
            score = 0.9 * full * mask.float().amax((1, 2))
            box = torch.stack([x1, y1, x2, y2], 1) * (score > 0)[:, None]
            found.append((box, score))
        return self.lay_out(found, images, height, width)

    def lay_out(self, found: list[tuple[Tensor, Tensor]], images: Tensor, height: Any, width: Any) -> Any:
        classes = len(found)
        corners = torch.stack([box for box, _ in found], 1)  # (N, C, 4)
        scores = torch.stack([score for _, score in found], 1)  # (N, C)
        labels = torch.arange(classes).expand(scores.shape)
        if self.format == "triple":
            return corners[0], labels[0], scores[0]
        if self.format == "triple_batched":
            return corners / torch.tensor([width, height, width, height]), labels, scores
        if self.format == "end_to_end":
            rows = torch.cat([corners, scores[..., None], labels[..., None].float()], 2)
            return F.pad(rows, (0, 0, 0, 300 - classes))
        centres = torch.cat(
            [(corners[..., :2] + corners[..., 2:]) / 2, corners[..., 2:] - corners[..., :2]], 2
        )
        one_hot = torch.eye(classes)[None] * scores[..., None]
        if self.format == "v8":
            rows = torch.cat([centres, one_hot], 2)  # (N, C, 4 + C)
        else:  # objectness and class score multiply to the score
            rows = torch.cat(
                [centres, scores[..., None] ** 0.5, one_hot / scores[..., None].clamp_min(0.1) ** 0.5], 2
            )
        cells = self.cells(images, 3 if self.format == "v5" else 1)  # (A, 3): x, y, stride
        grid = torch.zeros_like(cells[None, :, :1]).expand(rows.shape[0], -1, rows.shape[2])
        if self.format == "yolox_decoded":
            grid = torch.cat([cells[:, :2] * cells[:, 2:], cells[:, 2:].expand(-1, rows.shape[2] - 2) * 0], 1)
            grid = grid[None].expand(rows.shape[0], -1, -1)
        if self.format == "yolox":
            x, y, s = (cells[:classes, k][None] for k in range(3))
            rows = torch.cat(
                [
                    (rows[..., 0] / s - x)[..., None],
                    (rows[..., 1] / s - y)[..., None],
                    (rows[..., 2:4].clamp_min(1e-3) / s[..., None]).log(),
                    rows[..., 4:],
                ],
                2,
            )
        out = torch.cat([rows, grid[:, classes:]], 1)
        return out.transpose(1, 2) if self.format == "v8" else out

    def cells(self, images: Tensor, times: int) -> Tensor:
        parts = []
        for stride in STRIDES:
            level = F.avg_pool2d(images[:1, :1], stride)[0, 0]
            y, x = (torch.ones_like(level).cumsum(axis) - 1 for axis in (0, 1))
            one = torch.stack([x.flatten(), y.flatten(), torch.full_like(x.flatten(), stride)], 1)
            parts.append(one.repeat(times, 1))
        return torch.cat(parts)


class Mean(nn.Module):
    """(N, 3, H, W) -> the mean of each channel over the left and the right half: (N, 6) or (N, 6, 1, 1)."""

    def __init__(self, four: bool = False, factor: float = 1.0) -> None:
        super().__init__()
        self.four, self.factor = four, factor

    def forward(self, images: Tensor) -> Tensor:
        half = images.shape[3] // 2
        out = torch.cat([images[..., :half].mean((2, 3)), images[..., half:].mean((2, 3))], 1) * self.factor
        return out[:, :, None, None] if self.four else out


def export(
    net: nn.Module,
    path: Path,
    *,
    batch: int | None = None,
    size: tuple[int, int] = (192, 320),
    free_size: bool = False,
    outputs: tuple[str, ...] = ("output0",),
    stacked: bool = True,
    half: bool = False,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a network as ONNX. ``batch=None`` leaves the batch free, ``free_size`` height and width.

    ``stacked=False``: the input is one image (3, H, W). ``half``: float16 throughout.
    """
    shape = (batch or 2, 3, *size) if stacked else (3, *size)
    axes = ({} if batch else {0: "batch"}) | ({2: "height", 3: "width"} if free_size else {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter says so, and is twenty times as fast
        torch.onnx.export(
            net.eval(),
            (torch.zeros(shape, dtype=torch.float16 if half else torch.float32),),
            str(path),
            input_names=["images"],
            output_names=list(outputs),
            dynamic_axes={"images": axes, **({} if batch else {name: {0: "batch"} for name in outputs})},
            dynamo=False,
        )
    model = onnx.load(path)
    for key, value in (metadata or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(model, path)
    return path
