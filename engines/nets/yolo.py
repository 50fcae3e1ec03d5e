"""A small anchor-free YOLO: one box and one score per class at every cell of strides 8, 16 and 32.

Fully convolutional: any height and width that are multiples of 32. In evaluation mode the output has the
layout of a YOLOv8 export, so that one decoder reads ours and other people's files.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engines.nets.blocks import ConvNorm, PoolPyramid, SplitStage

STRIDES = (8, 16, 32)
WIDTHS = (16, 32, 48, 96, 192)  # channels at strides 2, 4, 8, 16, 32
NECK = 48
LOG_SIZE_LIMIT = 4.0  # a side reaches at most exp(4) = 55 cells from its cell: 437 px at stride 8, 1747 at 32


class Yolo(nn.Module):
    """Detector of ``classes`` classes; the defaults give about 1.4 M parameters.

    ``widths``: channels at strides 2, 4, 8, 16, 32; raising one costs time with its square, most at the small
    strides. ``depth``: residual steps per stage; raising it costs time in proportion. ``neck``: channels of
    the three levels that the heads see. ``background``: classes exclude each other and nobody is one more of
    them, the first logit; scores are then shares of a softmax in place of sigmoids.

    ``forward(images)``: images float (B, 3, H, W), RGB in 0..1, H and W multiples of 32.
    - training mode: (boxes (B, A, 4) xyxy in input pixels, logits (B, A, classes or, with a background, one
      more), points (A, 3): cell centre x, y and stride in input pixels), A = H*W*(1/64 + 1/256 + 1/1024).
    - evaluation mode: (B, 4 + classes, A): cx, cy, w, h in input pixels, then scores 0..1 of the classes.
    """

    def __init__(
        self,
        classes: int = 2,
        widths: tuple[int, int, int, int, int] = WIDTHS,
        depth: int = 1,
        neck: int = NECK,
        *,
        background: bool = False,
    ) -> None:
        super().__init__()
        self.classes, self.widths, self.depth, self.neck = classes, widths, depth, neck
        self.background = background
        c2, c4, c8, c16, c32 = widths
        self.stem = nn.Sequential(ConvNorm(3, c2, 3, 2), ConvNorm(c2, c4, 3, 2))
        self.stage4 = SplitStage(c4, c4, depth)
        self.stage8 = nn.Sequential(ConvNorm(c4, c8, 3, 2), SplitStage(c8, c8, depth))
        self.stage16 = nn.Sequential(ConvNorm(c8, c16, 3, 2), SplitStage(c16, c16, 2 * depth))
        self.stage32 = nn.Sequential(
            ConvNorm(c16, c32, 3, 2),
            SplitStage(c32, c32, depth),
            PoolPyramid(c32),
            SplitStage(c32, c32, depth),
        )
        self.down16 = SplitStage(c16 + c32, c16, depth)
        self.down8 = SplitStage(c8 + c16, neck, depth)
        self.up16 = ConvNorm(neck, neck, 3, 2)
        self.out16 = SplitStage(neck + c16, c16, depth)
        self.up32 = ConvNorm(c16, c16, 3, 2)
        self.out32 = SplitStage(c16 + c32, c16, depth)
        self.level = nn.ModuleList(ConvNorm(c, neck, 1) for c in (neck, c16, c16))
        # The two branches are shared by the three strides: a third of the weights, and every size of
        # character trains them.
        self.box_branch = nn.Sequential(ConvNorm(neck, neck), ConvNorm(neck, neck))
        self.class_branch = nn.Sequential(ConvNorm(neck, neck), ConvNorm(neck, neck))
        self.box_out = nn.ModuleList(nn.Conv2d(neck, 4, 1) for _ in STRIDES)
        self.class_out = nn.ModuleList(nn.Conv2d(neck, classes + background, 1) for _ in STRIDES)
        for box, cls in zip(self.box_out, self.class_out, strict=True):
            assert isinstance(box, nn.Conv2d)
            assert isinstance(cls, nn.Conv2d)
            assert box.bias is not None
            assert cls.bias is not None
            nn.init.normal_(box.weight, std=0.01)
            nn.init.constant_(box.bias, math.log(2.0))  # boxes start four cells wide
            nn.init.normal_(cls.weight, std=0.01)
            nn.init.constant_(
                cls.bias, -math.log((1 - 0.01) / 0.01)
            )  # scores start at 0.01 (Lin et al. 2017)

    def features(self, images: Tensor) -> list[Tensor]:
        """Feature maps at strides 8, 16, 32, each with the neck's channels."""
        p4 = self.stage4(self.stem(images))
        p8 = self.stage8(p4)
        p16 = self.stage16(p8)
        p32 = self.stage32(p16)
        n16 = self.down16(torch.cat([F.interpolate(p32, scale_factor=2.0, mode="nearest"), p16], 1))
        n8 = self.down8(torch.cat([F.interpolate(n16, scale_factor=2.0, mode="nearest"), p8], 1))
        o16 = self.out16(torch.cat([self.up16(n8), n16], 1))
        o32 = self.out32(torch.cat([self.up32(o16), p32], 1))
        return [proj(x) for proj, x in zip(self.level, (n8, o16, o32), strict=True)]

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        boxes, logits, points = [], [], []
        for i, (x, stride) in enumerate(zip(self.features(images), STRIDES, strict=True)):
            # Sizes as exp(raw) cells; float32 from here, because pixels up to 1,000 do not fit bfloat16.
            raw = self.box_out[i](self.box_branch(x)).float().flatten(2).transpose(1, 2)
            logits.append(self.class_out[i](self.class_branch(x)).float().flatten(2).transpose(1, 2))
            height, width = x.shape[2], x.shape[3]
            ys = (torch.arange(height, device=x.device, dtype=torch.float32) + 0.5) * stride
            xs = (torch.arange(width, device=x.device, dtype=torch.float32) + 0.5) * stride
            centre = torch.stack(
                [xs[None, :].expand(height, width), ys[:, None].expand(height, width)], -1
            ).reshape(-1, 2)
            reach = raw.clamp(-LOG_SIZE_LIMIT, LOG_SIZE_LIMIT).exp() * stride  # left, top, right, bottom
            boxes.append(torch.cat([centre - reach[..., :2], centre + reach[..., 2:]], -1))
            points.append(torch.cat([centre, torch.full_like(centre[:, :1], float(stride))], 1))
        box, logit = torch.cat(boxes, 1), torch.cat(logits, 1)
        if self.training:
            return box, logit, torch.cat(points, 0)
        low, high = box[..., :2], box[..., 2:]
        scores = logit.softmax(-1)[..., 1:] if self.background else logit.sigmoid()
        return torch.cat([(low + high) / 2, high - low, scores], -1).transpose(1, 2)


def deepened(net: Yolo, depth: int) -> Yolo:
    """A net that computes what ``net`` does, of ``depth`` residual steps per stage, no fewer than it has.

    The further steps are drawn from torch's generator and count nothing until the merges behind them learn
    to listen (function-preserving growth: Chen et al. 2016, arXiv:1511.05641).
    """
    out = Yolo(net.classes, net.widths, depth, net.neck, background=net.background)
    state = out.state_dict()
    for name, value in net.state_dict().items():
        if state[name].shape != value.shape:  # a merge: (out, in, 1, 1), the inputs of further steps last
            state[name].zero_()[:, : value.shape[1]] = value
        else:
            state[name] = value
    out.load_state_dict(state)
    return out


def parameter_count(net: nn.Module) -> int:
    """Number of weights of ``net``, the trainable ones."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)
