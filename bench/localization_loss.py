"""Does weighting localization by how right the class is help? A detector of named characters, four losses.

A cast of its own plays in rendered episodes; a small net is trained to say who is where with each variant of
the class-dependent localization loss (engines/train/localization.py), from the same weights on the same
batches. Measured: after how many steps the class loss, the localization loss as it is weighted, and the bare
distance of the reference points (the box's corners) are half of what they were, and, on scenes that were not
trained on, the error of the points per character, as a share of its box's diagonal. "loss_after_class_steps"
above 0 says that the class loss fell before the localization loss, "place_after_class_steps" that it fell
before the distance. Medians of three seeds, with the range as "_spread".

Found (bench/results/localization_loss.json): the localization loss as it is weighted is halved 240 (weighted)
and 247 steps (exp) after the class loss, where the plain sum's is halved 62 before it: classification falls
first. Not so with exp_squared, whose L_loc is a square (29 before), nor with the bare distance in any variant
(halved 38, 41 and 30 steps before the class, where the sum has 62): places are learned later than with the
sum, but not last. The final error of the points is .086 (weighted), .121 and .094 of the diagonal, the sum's
.102, and seeds differ by .03 to .07: none is shown to be worse or better.

    python bench/localization_loss.py [--quick] [--json] [--steps 1200] [--workers 2]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, too

from bench.common import RESULTS, save
from engines.nets.yolo import Yolo
from engines.train.localization import VARIANTS, LocalizationSettings, Variant, localization_loss, owners
from stream.cartoon.characters import make_cast
from stream.cartoon.episode import Script, render_frames

HEIGHT, WIDTH = 96, 160
CHARACTERS, BATCH, MOST = 6, 8, 8
FPS = 4
SCALE = 4  # of the rendered frames
Picture = tuple[NDArray[np.uint8], list[tuple[int, tuple[float, float, float, float]]]]


def pictures(cast_seed: int, seed: int, seconds: float) -> list[Picture]:
    """Frames of an episode of the cast, four a second, each with who is where."""
    cast = make_cast(CHARACTERS, cast_seed)
    number = {member.name: k for k, member in enumerate(cast)}
    script = Script.random(cast, seed, seconds=seconds, width=SCALE * WIDTH, height=SCALE * HEIGHT, fps=FPS)
    made: list[Picture] = []
    for image, truths in render_frames(script):
        small = np.asarray(Image.fromarray(image).resize((WIDTH, HEIGHT), Image.Resampling.BOX))
        boxes = [(number[t.identity], tuple(v / SCALE for v in t.box)) for t in truths if t.visible > 0.3]
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
    """The net, and (L_cls, distance in cells, L_loc) of every step."""
    torch.manual_seed(seed)
    net = Yolo(CHARACTERS, widths=(16, 24, 32, 48, 64), neck=32, background=True)
    net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    settings = LocalizationSettings(variant, reference="corners")
    rng = np.random.default_rng(seed)
    curve = []
    net.train()
    for _ in range(steps):
        images, truth = tensors([material[int(k)] for k in rng.integers(0, len(material), BATCH)])
        boxes, logits, points = net(images)
        parts = localization_loss(boxes, logits, points, truth, settings)
        optimizer.zero_grad(set_to_none=True)
        parts.total.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        curve.append([float(part) for part in (parts.classification, parts.localization, parts.placing)])
    return net, curve


@torch.no_grad()
def point_errors(net: Yolo, held_out: list[Picture]) -> dict[str, list[list[float]]]:
    """For each character, of every time it is seen: how far off the corners are on average, as a share of the
    box's diagonal, in the cells that answer for it ("place") and in the cell of all that is surest of it
    ("found"); and whether the surest of its own cells names it right ("named", 0 or 1)."""
    seen: dict[str, list[list[float]]] = {
        key: [[] for _ in range(CHARACTERS)] for key in ("place", "found", "named")
    }
    points = net.train()(tensors(held_out[:1])[0])[2]
    net.eval()
    for start in range(0, len(held_out), 32):
        chosen = held_out[start : start + 32]
        images, truth = tensors(chosen)
        centre, size, scores = net(images).split((2, 2, CHARACTERS), 1)
        boxes = torch.cat([centre - size / 2, centre + size / 2], 1)  # (B, 4, A)
        owner = owners(points, truth)
        for row, (_, truths) in enumerate(chosen):
            for number, (who, box) in enumerate(truths):
                mine = (owner[row] == number).nonzero()[:, 0]
                if not len(mine):
                    continue
                gap = (boxes[row] - torch.tensor(box)[:, None]).view(2, 2, -1).norm(dim=1).mean(0)
                gap /= float(np.hypot(box[2] - box[0], box[3] - box[1]))
                seen["place"][who].append(float(gap[mine].mean()))
                seen["found"][who].append(float(gap[scores[row, who].argmax()]))
                seen["named"][who].append(float(scores[row][:, mine].amax(1).argmax() == who))
    return seen


def half_fallen(values: list[float]) -> int:
    """The first step at which a smoothed curve is half of what it begins with; their number if none is."""
    width = max(1, len(values) // 25)
    smooth = np.convolve(values, np.ones(width) / width, "valid")
    low = np.flatnonzero(smooth <= smooth[0] / 2)
    return int(low[0]) + width // 2 if len(low) else len(values)


def measured(
    variant: Variant, seed: int, steps: int, material: list[Picture], held_out: list[Picture]
) -> tuple[dict[str, float], list[list[float]], list[float]]:
    """One training: its figures, its curve, and the error of place per character."""
    torch.set_num_threads(1)
    net, curve = train(variant, seed, steps, material)
    seen = point_errors(net, held_out)
    place = [statistics.median(e) if e else float("nan") for e in seen["place"]]
    calm = steps // 10
    one = {
        "point_error": float(np.nanmean(place)),
        "worst_class_error": float(np.nanmax(place)),
        "found_error": statistics.fmean(statistics.median(e) for e in seen["found"] if e),
        "named_right": statistics.fmean(v for e in seen["named"] for v in e),
        "class_half_step": half_fallen([c for c, _, _ in curve]),
        "place_half_step": half_fallen([p for _, p, _ in curve]),
        "loss_half_step": half_fallen([v for _, _, v in curve]),
        "last_class_loss": statistics.fmean(c for c, _, _ in curve[-calm:]),
        "last_place_loss": statistics.fmean(p for _, p, _ in curve[-calm:]),
    }
    one["place_after_class_steps"] = one["place_half_step"] - one["class_half_step"]
    one["loss_after_class_steps"] = one["loss_half_step"] - one["class_half_step"]
    print(f"{variant} seed {seed}: {one}", file=sys.stderr, flush=True)
    return one, curve, place


def plot(curves: dict[str, list[list[float]]], errors: dict[str, list[float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(16, 4.2))
    for variant, curve in curves.items():
        values = np.array(curve)
        width = max(1, len(values) // 25)
        smooth = [np.convolve(values[:, k], np.ones(width) / width, "valid") for k in range(3)]
        left.plot(smooth[0], smooth[1], label=variant)
        left.plot(smooth[0][-1], smooth[1][-1], "o", color=left.lines[-1].get_color())
        steps = np.arange(len(smooth[0])) + width // 2
        middle.plot(steps, smooth[2] / smooth[2][0], label=f"{variant}, L_loc")
        middle.plot(steps, smooth[0] / smooth[0][0], ":", color=middle.lines[-1].get_color())
    left.set_xlabel("class loss per object cell (nats)")
    left.set_ylabel("distance of the corners (smooth L1, cells)")
    left.set_title("The way of each loss through training, from top right")
    left.legend()
    middle.set_xlabel("step")
    middle.set_ylabel("share of the first value")
    middle.set_title("L_loc as it is weighted; dotted: the class loss")
    middle.legend()
    places = np.arange(CHARACTERS)
    for k, (variant, values_of) in enumerate(errors.items()):
        right.bar(places + 0.2 * k - 0.3, [100 * v for v in values_of], 0.2, label=variant)
    right.set_xlabel("character")
    right.set_ylabel("error of the corners, % of the box's diagonal")
    right.set_title("Scenes that were not trained on")
    figure.tight_layout()
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "localization_loss.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, few steps; leaves no record")
    parser.add_argument("--json", action="store_true", help="print one flat object and nothing else")
    parser.add_argument("--steps", type=int, default=1200, help="batches per training")
    parser.add_argument("--workers", type=int, default=2, help="trainings at once, a thread each")
    args = parser.parse_args()
    steps, seeds = (60, (0,)) if args.quick else (args.steps, (0, 1, 2))
    found: dict[str, Any] = {"steps": steps, "seeds": len(seeds)}
    curves: dict[str, list[list[float]]] = {}
    per_class: dict[str, list[float]] = {}
    jobs = [(variant, seed) for seed in seeds for variant in VARIANTS]
    with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
        shows = {s: (pictures(800 + s, 10 + s, 120), pictures(800 + s, 500 + s, 40)) for s in seeds}
        futures = {job: pool.submit(measured, *job, steps, *shows[job[1]]) for job in jobs}
        done = {job: future.result() for job, future in futures.items()}
    for variant in VARIANTS:
        ones = [done[variant, seed][0] for seed in seeds]
        _, curves[variant], per_class[variant] = done[variant, seeds[0]]
        for key in ones[0]:
            several = [one[key] for one in ones]
            found[f"{key}_{variant}"] = round(statistics.median(several), 4)
            found[f"{key}_{variant}_spread"] = round(max(several) - min(several), 4)
    if not args.quick:
        plot(curves, per_class)
    save("localization_loss", found, quick=args.quick)
    print(json.dumps(found) if args.json else "\n".join(f"{k:40} {v}" for k, v in found.items()))


if __name__ == "__main__":
    main()
