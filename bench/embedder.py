"""How well do the embeddings cluster characters nobody trained on? Given boxes, affinity propagation.

    python bench/embedder.py [--quick] [--json] [--embedder X.onnx] [--labels ../shared/labels] [--media DIR]

Episodes are rendered with casts of their own, cut at their true boxes once a second, and clustered to one and
two clusters per character. Labelled films (``--labels``, ``--media``) are cut at their labelled boxes. The
hand-made feature (thumbnail, gradients, colour histogram) and an untrained network are beside it, and a
purity always has its compactness (clusters / crops).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, too

from bench.common import save
from engines.models import resolve
from engines.runtime import open_engine
from engines.train import figures
from kernels.image import crop_square, normalize
from stream.batches import Array
from stream.cartoon.write import render_episode
from stream.config import CropConfig
from stream.labels import LabelBox, Labels

SIDE = 64
FIRST_SEED = 700_000  # far from the seeds that training renders


def frames_at(video: Path, times: list[float]) -> dict[float, Array]:
    """The first decoded frame with a presentation time at or after each of the times."""
    wanted = sorted(times)
    found: dict[float, Array] = {}
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        start = float((stream.start_time or 0) * stream.time_base)
        for frame in container.decode(stream):
            while wanted and frame.time is not None and frame.time - start >= wanted[0] - 1e-4:
                found[wanted.pop(0)] = frame.to_ndarray(format="rgb24")
            if not wanted:
                break
    return found


def crops(video: Path, boxes: list[LabelBox], fit: str) -> tuple[Array, Array]:
    """Squares as the pipeline cuts them, (N, 64, 64, 3), and identities (N,) of the labelled boxes."""
    config = CropConfig()
    frames = frames_at(video, sorted({b.time_s for b in boxes}))
    squares, names = [], []
    for b in boxes:
        if b.time_s not in frames:
            continue
        frame = frames[b.time_s]
        x1, y1, x2, y2 = b.scaled(frame.shape[1], frame.shape[0])
        if min(x2 - x1, y2 - y1) < config.min_size:
            continue
        dx, dy = (x2 - x1) * config.margin, (y2 - y1) * config.margin
        squares.append(crop_square(frame, (x1 - dx, y1 - dy, x2 + dx, y2 + dy), SIDE, fit)[0])  # type: ignore[arg-type]
        names.append(b.identity)
    return np.stack(squares), np.unique(names, return_inverse=True)[1]


def measured(x: Array, names: Array, counts: list[int]) -> dict[str, float]:
    """Retrieval, and purity and AMI at each number of clusters, as a flat mapping."""
    out = {"retrieval": figures.retrieval(x, names)}
    for count in counts:
        found = figures.clustering(x, names, count)
        out |= {
            f"purity@{count}": found["purity"],
            f"ami@{count}": found["ami"],
            f"compactness@{count}": found["compactness"],
        }
    return out


def embedders(model: str) -> dict[str, Callable[[Array], Array]]:
    """Names and functions (N, 64, 64, 3) uint8 -> (N, D) of length 1: the model, and what it has to beat."""
    import torch

    from engines.nets.densenet import densenet_small
    from engines.train.embedder import Embedder as Network
    from engines.train.embedder import embed
    from engines.train.views import normalize as views_normalize

    torch.manual_seed(0)
    torch.set_num_threads(1)
    untrained = Network(densenet_small()).eval()

    def random_net(squares: Array) -> Array:
        return embed(untrained, views_normalize(torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 255))

    engine = open_engine(resolve(model, "embedder").path, device="cpu", threads=1)
    mean, std = (np.array(json.loads(engine.metadata[key])) for key in ("mean", "std"))

    def learned(squares: Array) -> Array:
        total = np.zeros(1)
        for mirror in (False, True):
            inputs = normalize(squares, mul=1 / (255 * std), add=-mean / std, mirror=mirror)
            parts = [engine.run(images=inputs[i : i + 32])["embedding"] for i in range(0, len(inputs), 32)]
            total = total + np.concatenate(parts)
        return figures.unit(total)

    return {"handmade": figures.handmade, "untrained": random_net, "model": learned}


def episodes(
    count: int, seconds: float, characters: int, folder: Path, fit: str
) -> list[tuple[Array, Array]]:
    """Crops and identities of rendered episodes, once a second."""
    out = []
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        home = folder / str(seed)
        home.mkdir(parents=True, exist_ok=True)
        if not list(home.glob("*.csv")):
            render_episode(home, seed=seed, characters=characters, seconds=seconds, label_interval_s=1.0)
        video = next(home.glob("*.mp4"))
        boxes = next(f for f in home.glob("*.csv") if "frames" not in f.name)
        out.append(crops(video, list(Labels.read(boxes).boxes), fit))
    return out


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; see the module's text."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one short episode, no record")
    parser.add_argument("--json", action="store_true", help="one flat object on stdout")
    parser.add_argument("--embedder", default="default")
    parser.add_argument("--fit", default="pad", choices=["pad", "stretch", "square"])
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--media", type=Path)
    parser.add_argument("--cache", type=Path, help="folder that keeps the rendered episodes")
    options = parser.parse_args(arguments)
    known = embedders(options.embedder)
    result: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        count, seconds = (1, 40.0) if options.quick else (6, 90.0)
        shows = episodes(count, seconds, 5, options.cache or Path(temporary), options.fit)
    for name, function in known.items():
        rows = []
        for squares, names in shows:
            k = len(np.unique(names))
            rows.append(list(measured(function(squares), names, [k, 2 * k]).values()))
        labels = [
            "retrieval",
            *(f"{f}_{n}_per_character" for n in (1, 2) for f in ("purity", "ami", "compactness")),
        ]
        mean, low = np.mean(rows, 0), np.min(rows, 0)
        result |= {f"episodes/{name}/{key}": round(float(v), 4) for key, v in zip(labels, mean, strict=True)}
        result[f"episodes/{name}/lowest_purity_2_per_character"] = round(float(low[4]), 4)
    result["episodes/crops"] = sum(len(s) for s, _ in shows)
    if options.labels is not None and options.media is not None:
        for csv in sorted(options.labels.glob("*_boxes.csv")):
            film = csv.stem.removesuffix("_boxes")
            boxes = list(Labels.read(csv).boxes)
            parts = [
                (v, [b for b in boxes if b.video_file == v]) for v in sorted({b.video_file for b in boxes})
            ]
            squares = np.concatenate([crops(options.media / v, bs, options.fit)[0] for v, bs in parts])
            words = [b.identity for _, bs in parts for b in bs if _large(b)]
            names = np.unique(words, return_inverse=True)[1]
            result |= {f"{film}/crops": len(squares), f"{film}/identities": int(names.max() + 1)}
            for name, function in known.items():
                found = measured(function(squares), names, [6, 12, 20, 30, 40])
                result |= {f"{film}/{name}/{key}": round(v, 4) for key, v in found.items()}
    save("embedder", result, quick=options.quick)
    if options.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:56s} {value}")
    return 0


def _large(b: LabelBox) -> bool:
    x1, y1, x2, y2 = b.box
    return min(x2 - x1, y2 - y1) >= CropConfig().min_size


if __name__ == "__main__":
    sys.exit(main())
