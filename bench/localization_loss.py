"""Does weighting localization by how right the class is help? A detector of named characters, four losses.

A cast of its own plays in rendered episodes; a small net is trained to say who is where with each variant of
the class-dependent localization loss (engines/train/localization.py), from the same weights on the same
batches. Measured: when the class loss and the distance of the reference point (the box's centre) have fallen
half of their way, and, on scenes that were not trained on, the error of the reference point per character, as
a share of its box's diagonal.

    python bench/localization_loss.py [--quick] [--json] [--steps 500]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import Any

import numpy as np
import torch
from common import RESULTS, save
from numpy.typing import NDArray
from PIL import Image

from engines.nets.yolo import Yolo
from engines.train.localization import VARIANTS, LocalizationSettings, Variant, localization_loss
from stream.cartoon.characters import make_cast
from stream.cartoon.episode import Script, render_frames

HEIGHT, WIDTH = 128, 224
CHARACTERS, BATCH, MOST = 6, 8, 8
FPS = 4
Picture = tuple[NDArray[np.uint8], list[tuple[int, tuple[float, float, float, float]]]]


def pictures(cast_seed: int, seed: int, seconds: float) -> list[Picture]:
    """Frames of an episode of the cast, four a second, each with who is where."""
    cast = make_cast(CHARACTERS, cast_seed)
    number = {member.name: k for k, member in enumerate(cast)}
    script = Script.random(cast, seed, seconds=seconds, width=2 * WIDTH, height=2 * HEIGHT, fps=FPS)
    made: list[Picture] = []
    for image, truths in render_frames(script):
        small = np.asarray(Image.fromarray(image).resize((WIDTH, HEIGHT), Image.Resampling.BOX))
        boxes = [(number[t.identity], tuple(v / 2 for v in t.box)) for t in truths if t.visible > 0.3]
        made.append((small, boxes[:MOST]))  # type: ignore[arg-type]
    return made


def tensors(chosen: list[Picture]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (B, 3, H, W) in 0..1, truth (B, M, 5)."""
    images = torch.from_numpy(np.stack([image for image, _ in chosen])).permute(0, 3, 1, 2).float() / 255
    truth = torch.full((len(chosen), MOST, 5), -1.0)
    for row, (_, boxes) in zip(truth, chosen, strict=True):
        for k, (who, box) in enumerate(boxes):
            row[k] = torch.tensor([who, *box])
    return images.contiguous(memory_format=torch.channels_last), truth


def train(variant: Variant, seed: int, steps: int, material: list[Picture]) -> tuple[Yolo, list[list[float]]]:
    """The net, and (class loss, distance in cells) of every step."""
    torch.manual_seed(seed)
    net = Yolo(1 + CHARACTERS, widths=(16, 24, 32, 48, 64), neck=32).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    rng = np.random.default_rng(seed)
    curve = []
    net.train()
    for _ in range(steps):
        images, truth = tensors([material[int(k)] for k in rng.integers(0, len(material), BATCH)])
        boxes, logits, points = net(images)
        parts = localization_loss(boxes, logits, points, truth, LocalizationSettings(variant))
        optimizer.zero_grad(set_to_none=True)
        parts.total.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        curve.append([float(parts.classification), float(parts.localization)])
    return net, curve


@torch.no_grad()
def point_errors(net: Yolo, held_out: list[Picture]) -> tuple[list[float], float]:
    """Mean error of the reference point per character, share of the box's diagonal; share named right.

    The point is that of the cell surest of the character; a box is named by the surest cell within it.
    """
    errors: list[list[float]] = [[] for _ in range(CHARACTERS)]
    right, count = 0, 0
    net.train()  # boxes, logits and points; the batch's own statistics, as in training
    for start in range(0, len(held_out), 32):
        chosen = held_out[start : start + 32]
        images, _ = tensors(chosen)
        boxes, logits, points = net(images)
        p = logits.softmax(-1)[..., 1:]
        for (_, truths), box, score in zip(chosen, boxes, p, strict=True):
            for who, (x1, y1, x2, y2) in truths:
                best = box[int(score[:, who].argmax())]
                centre = (best[:2] + best[2:]) / 2
                away = np.hypot(float(centre[0]) - (x1 + x2) / 2, float(centre[1]) - (y1 + y2) / 2)
                errors[who].append(float(away) / float(np.hypot(x2 - x1, y2 - y1)))
                x, y = points[:, 0], points[:, 1]
                inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)
                if bool(inside.any()):
                    count += 1
                    right += int(score[inside].amax(0).argmax()) == who
    return [statistics.median(e) if e else float("nan") for e in errors], right / max(1, count)


def half_way(values: list[float]) -> int:
    """The step at which a smoothed curve has fallen half of its way."""
    width = max(1, len(values) // 25)
    smooth = np.convolve(values, np.ones(width) / width, "valid")
    return int(np.argmax(smooth <= (smooth[0] + smooth.min()) / 2)) + width // 2


def plot(curves: dict[str, list[list[float]]], errors: dict[str, list[float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
    for variant, curve in curves.items():
        values = np.array(curve)
        width = max(1, len(values) // 25)
        smooth = [np.convolve(values[:, k], np.ones(width) / width, "valid") for k in (0, 1)]
        left.plot(smooth[0], smooth[1], label=variant)
        left.plot(smooth[0][-1], smooth[1][-1], "o", color=left.lines[-1].get_color())
    left.set_xlabel("class loss per object cell (nats)")
    left.set_ylabel("distance of the point (smooth L1, cells)")
    left.set_title("The way of each loss through training, from top right")
    left.legend()
    places = np.arange(CHARACTERS)
    for k, (variant, values_of) in enumerate(errors.items()):
        right.bar(places + 0.2 * k - 0.3, [100 * v for v in values_of], 0.2, label=variant)
    right.set_xlabel("character")
    right.set_ylabel("error of the point, % of the box's diagonal")
    right.set_title("Scenes that were not trained on")
    figure.tight_layout()
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "localization_loss.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, few steps; leaves no record")
    parser.add_argument("--json", action="store_true", help="print one flat object and nothing else")
    parser.add_argument("--steps", type=int, default=500, help="batches per training")
    args = parser.parse_args()
    steps, seeds = (60, (0,)) if args.quick else (args.steps, (0, 1, 2))
    found: dict[str, Any] = {"steps": steps}
    curves: dict[str, list[list[float]]] = {}
    per_class: dict[str, list[float]] = {}
    materials = {s: pictures(800 + s, 10 + s, 120) for s in seeds}
    unseen = {s: pictures(800 + s, 500 + s, 40) for s in seeds}
    for variant in VARIANTS:
        values: dict[str, list[float]] = {}
        for seed in seeds:
            net, curve = train(variant, seed, steps, materials[seed])
            errors, named = point_errors(net, unseen[seed])
            if seed == seeds[0]:
                curves[variant], per_class[variant] = curve, errors
            one = {
                "point_error": statistics.fmean(errors),
                "worst_class_error": max(errors),
                "named_right": named,
                "class_half_way_step": half_way([c for c, _ in curve]),
                "place_half_way_step": half_way([p for _, p in curve]),
            }
            for key, value in one.items():
                values.setdefault(key, []).append(value)
            print(f"{variant} seed {seed}: {one}", file=sys.stderr)
        for key, several in values.items():
            found[f"{key}_{variant}"] = round(statistics.median(several), 4)
            found[f"{key}_{variant}_spread"] = round(max(several) - min(several), 4)
    if not args.quick:
        plot(curves, per_class)
    save("localization_loss", found, quick=args.quick)
    print(json.dumps(found) if args.json else "\n".join(f"{k:40} {v}" for k, v in found.items()))


if __name__ == "__main__":
    main()
