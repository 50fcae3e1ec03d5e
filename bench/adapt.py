"""What does show adaptation gain, does its label-free signal know, and what does it cost?

    python -m bench.adapt [--quick] [--json] [--shows NAME ...] [--seeds 3] [--shared FOLDER] [--cache FOLDER]

Shows are rendered episodes whose cast and seed nothing was chosen by, cut at their true boxes, and the
labelled films. A film is adapted to as a person would, on the crops that the default detector finds (``bbb``,
``popeye``), and to the few labelled boxes alone (``bbb_given``, ``popeye_given``); it is measured at the
labelled boxes. Each is clustered by the product before, adapted from the default weights, and adapted from
scratch; purity and AMI at given numbers of clusters, medians over the seeds. The signal at every look of
every adaptation stands beside the purity there, for their rank correlation.

Labels are for measuring: nothing of the recipe was chosen by the films.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, too

from bench.common import RESULTS, SHARED, save
from engines.models import resolve
from engines.train import figures
from engines.train.adapt import Adapted, adapt, embed_crops, planned_steps
from engines.train.adapt_signal import Judge, Signal
from kernels.boxes import iou
from stream import load_config, run
from stream.adapt.embedding import SURE
from stream.adapt.show_crops import different, distinct, squares
from stream.batches import Array
from stream.cartoon.write import render_episode
from stream.cluster_job import frame_numbers
from stream.clustering import cluster_embeddings
from stream.config import ClusterConfig
from stream.labels import Labels
from stream.summary import peak_rss_bytes
from stream.workdir import WorkFolder

# (seed, characters, seconds, seconds between frames, clusters to measure at); fresh seeds
EPISODES = {
    "rendered_5": (910_001, 5, 150.0, 0.5, (5, 8, 12)),
    "rendered_12": (910_002, 12, 240.0, 0.5, (12, 18, 24)),
    "rendered_30": (910_003, 30, 600.0, 0.5, (30, 35, 40)),
}
FILMS = {
    "bbb": (["big_buck_bunny_360p.mp4"], "bbb_boxes.csv", (6, 12, 20)),
    "popeye": (
        ["popeye_sinbad_1936_part1.mkv", "popeye_sinbad_1936_part2.mkv"],
        "popeye_boxes.csv",
        (7, 12, 20),
    ),
}
STARTS = ("default", "scratch")


@dataclasses.dataclass(frozen=True)
class Crops:
    """Different crops of a work folder; see :mod:`stream.adapt.show_crops`."""

    pictures: Array  # (M, 64, 64, 3) uint8
    tracks: Array
    frames: Array
    times: Array
    boxes: Array
    source: Array
    embeddings: Array

    @classmethod
    def of(cls, work: Path) -> Crops:
        """Those with a score from which the product learns, as given boxes all have."""
        with WorkFolder.open(work, create=False, write=False) as folder:
            crops = folder.crops()
            rows = distinct(crops).rows
            rows = rows[crops.score[rows] >= SURE]
            assert crops.embeddings is not None
            return cls(
                np.concatenate(list(squares(folder, crops.crop_id[rows], 64, "pad"))),
                crops.unique_tracks()[rows],
                frame_numbers(crops)[rows],
                crops.time_s[rows],
                crops.boxes[rows],
                crops.source[rows],
                crops.embeddings[rows],
            )

    @property
    def couples(self) -> Array:
        return different(self.frames, self.tracks, self.boxes)


@dataclasses.dataclass(frozen=True)
class Show:
    """What is adapted to, and what is measured: crops, identities (-1: not known), numbers of clusters."""

    learn: Crops
    measure: Crops
    names: Array
    counts: Sequence[int]

    def quality(self, x: Array) -> dict[str, float]:
        """Purity and AMI of the embeddings (M, D) of ``measure``, clustered as the product does."""
        known = self.names >= 0
        m, out = self.measure, {}
        for count in self.counts:
            config = ClusterConfig(clusters=(count, count))
            found = cluster_embeddings(
                x[known], m.tracks[known], m.frames[known], m.times[known], config, m.boxes[known]
            )
            out[f"purity@{count}"] = figures.purity(found.labels, self.names[known])
            out[f"ami@{count}"] = _ami(self.names[known], found.labels)
        return out


def _ami(names: Array, labels: Array) -> float:
    from sklearn.metrics import adjusted_mutual_info_score

    return float(adjusted_mutual_info_score(names, labels))


def _work(videos: list[Path], out: Path, boxes: Path | None, interval: float) -> Path:
    """A work folder of the videos with the embeddings as they come; what is there of it is kept, unless a
    network changed since."""
    values = {"interval": interval, "boxes": str(boxes) if boxes else None, "adapt": "off"}
    run(videos, out, load_config(values=values), report=False)
    return out


def _names(crops: Crops, csv: Path) -> Array:
    """(M,) identity of the label that each crop was cut at."""
    labels: dict[str, list[Any]] = {}
    for box in Labels.read(csv).boxes:
        labels.setdefault(Path(box.video_file).name, []).append(box)
    found = []
    for source, time_s, box in zip(crops.source, crops.times, crops.boxes, strict=True):
        near = [b for b in labels[Path(source).name] if abs(b.time_s - time_s) < 0.2]
        over = iou(box[None], np.array([b.box for b in near], np.float32))[0]
        found.append(near[int(over.argmax())].identity if near and over.max() > 0.5 else "")
    names, numbers = np.unique(found, return_inverse=True)
    return np.where(names[numbers] == "", -1, numbers)


def rendered(name: str, cache: Path) -> Show:
    """An episode at its true boxes."""
    seed, characters, seconds, interval, counts = EPISODES[name]
    home = cache / name
    if not list(home.glob("*_boxes.csv")):
        render_episode(
            home, seed=seed, characters=characters, seconds=seconds, label_interval_s=interval, fps=8
        )
    video, csv = next(home.glob("*.mp4")), next(home.glob("*_boxes.csv"))
    crops = Crops.of(_work([video], home / "work", csv, interval))
    return Show(crops, crops, _names(crops, csv), counts)


def film(name: str, cache: Path, shared: Path) -> Show:
    """A labelled film: on the detector's crops, or with ``_given`` on the labelled boxes alone."""
    files, labels, counts = FILMS[name.removesuffix("_given")]
    videos, csv = [shared / "media" / file for file in files], shared / "labels" / labels
    given = Crops.of(_work(videos, cache / f"{name.removesuffix('_given')}_given", csv, 0.5))
    learn = given if name.endswith("_given") else Crops.of(_work(videos, cache / name, None, 1.0))
    return Show(learn, given, _names(given, csv), counts)


class Signals:
    """Signal and quality of many embeddings of one show, for their rank correlation."""

    def __init__(self, show: Show) -> None:
        self.show = show
        tracks = np.unique(show.learn.tracks, return_inverse=True)[1].reshape(-1)
        self.judge = Judge(tracks, show.learn.couples, 0.0, 0)  # all tracks: of one show, one measure
        self.rows: list[tuple[float, float, float]] = []  # score, mean purity, mean AMI

    def add(self, learned: Array, quality: dict[str, float]) -> Signal:
        """``learned``: embeddings of the crops that are adapted to."""
        found = self.judge.measure(learned[self.judge.rows])
        kinds = [[v for k, v in quality.items() if k.startswith(kind)] for kind in ("purity", "ami")]
        self.rows.append((found.score, float(np.mean(kinds[0])), float(np.mean(kinds[1]))))
        return found

    def correlation(self) -> dict[str, float]:
        """Spearman's rank correlation of the signal with purity and with AMI."""
        from scipy.stats import spearmanr

        score, purity, ami = np.array(self.rows).T
        return {
            "signal_purity_rank_correlation": float(spearmanr(score, purity)[0]),
            "signal_ami_rank_correlation": float(spearmanr(score, ami)[0]),
            "signal_points": len(score),
        }


def adapted(
    show: Show, start: str, seed: int, seconds: float, signals: Signals
) -> tuple[Adapted, dict[str, float], list[dict[str, float]]]:
    """One adaptation: what came out, its quality (the old where it was not kept), and what each look saw."""
    looks: list[dict[str, float]] = []

    def look(step: int, network: Any, found: Signal) -> None:
        quality = show.quality(embed_crops(network, show.measure.pictures))
        whole = signals.add(embed_crops(network, show.learn.pictures), quality)
        looks.append({"step": step, "held_out_score": found.score, "score": whole.score, **quality})

    learn = show.learn
    result = adapt(
        learn.pictures, learn.tracks, learn.couples, learn.embeddings,
        start=resolve("default", "embedder").path if start == "default" else None,
        # the looks of this bench take time too; the clock is not to count them
        seconds=1e9, steps=planned_steps(seconds), seed=seed, watch=look, threads=1,
        progress=_say if sys.stderr.isatty() else None,
    )  # fmt: skip
    return result, show.quality(result.embed(show.measure.pictures)), looks


def _say(step: int, steps: int, score: float | None) -> None:
    print(f"\r{step}/{steps} {score or ''}", end="", file=sys.stderr, flush=True)


def measure(name: str, show: Show, seeds: int, seconds: float) -> dict[str, Any]:
    """Every figure of a show."""
    signals = Signals(show)
    old = show.quality(show.measure.embeddings)
    signals.add(show.learn.embeddings, old)
    hand = show.quality(figures.handmade(show.measure.pictures))
    signals.add(figures.handmade(show.learn.pictures), hand)
    out: dict[str, Any] = {f"{name}/crops": len(show.learn.pictures), f"{name}/measured": len(show.names)}
    out |= {f"{name}/before/{k}": v for k, v in old.items()} | {
        f"{name}/hand/{k}": v for k, v in hand.items()
    }
    for start in STARTS:
        runs = []
        for seed in range(seeds if start == "default" else 1):
            result, quality, looks = adapted(show, start, seed, seconds, signals)
            told = {"kept": float(result.kept), "steps": result.steps, "taken_step": result.taken_step}
            told |= {"signal_before": result.before.score, "signal_after": result.after.score}
            runs.append(quality | told)
            out[f"{name}/{start}/looks_{seed}"] = looks
            print(f"{name} {start} {seed}: {result.reason}; {quality}", file=sys.stderr, flush=True)
        for key in runs[0]:
            values = [r[key] for r in runs]
            out[f"{name}/{start}/{key}"] = float(np.median(values))
            if len(runs) > 1 and key.startswith(("purity", "ami")):
                out[f"{name}/{start}/{key}_spread"] = float(max(values) - min(values))
        # what the product has in the end: the old ones where the signal says so
        for key in old:
            ends = [r[key] if r["kept"] else old[key] for r in runs]
            out[f"{name}/{start}/final_{key}"] = float(np.median(ends))
    return out | {f"{name}/{k}": v for k, v in signals.correlation().items()}


def cost(count: int, seconds: float, shows: Sequence[Show]) -> dict[str, float]:
    """Wall-clock seconds and peak memory of adapting ``count`` crops, in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        pictures = np.concatenate([s.learn.pictures for s in shows])
        tracks = np.concatenate([s.learn.tracks + 10**6 * i for i, s in enumerate(shows)])
        starts = np.cumsum([0, *(len(s.learn.pictures) for s in shows)])
        couples = np.concatenate([s.learn.couples + starts[i] for i, s in enumerate(shows)])
        rows = np.resize(np.arange(len(pictures)), count)
        couples = couples[(couples < count).all(1)]
        vectors = np.concatenate([s.learn.embeddings for s in shows])
        np.savez(
            Path(place) / "show.npz",
            crops=pictures[rows], tracks=tracks[rows], couples=couples, before=vectors[rows],
        )  # fmt: skip
        command = [
            sys.executable,
            "-m",
            "bench.adapt",
            "--cost-of",
            f"{place}/show.npz",
            "--seconds",
            str(seconds),
        ]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        found: dict[str, float] = json.loads(answer.stdout)
        return found


def _cost_of(path: Path, seconds: float) -> dict[str, float]:
    began = time.perf_counter()
    show = dict(np.load(path))
    result = adapt(**show, start=resolve("default", "embedder").path, seconds=seconds, threads=1)
    result.embed(show["crops"])
    return {
        "adapt_crops": len(show["crops"]),
        "adapt_seconds": time.perf_counter() - began,
        "adapt_steps": result.steps,
        "adapt_planned_steps": result.planned_steps,
        "adapt_peak_gib": peak_rss_bytes() / 2**30,
        "adapt_threads": 1,
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; see the module's text."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [*EPISODES, *FILMS, *(f"{name}_given" for name in FILMS)]
    parser.add_argument("--quick", action="store_true", help="one short show and budget, no record")
    parser.add_argument("--json", action="store_true", help="one flat object on stdout")
    parser.add_argument("--shows", nargs="+", choices=every, help="those alone; results of others are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=180.0, help="budget of an adaptation")
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--cache", type=Path, help="folder that keeps episodes and work folders")
    parser.add_argument("--cost-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.cost_of:
        print(json.dumps(_cost_of(options.cost_of, options.seconds)))
        return 0
    names = ["rendered_5"] if options.quick else options.shows or every
    seeds, seconds = (1, 10.0) if options.quick else (options.seeds, options.seconds)
    result: dict[str, Any] = {} if options.quick or not options.shows else _known()
    with tempfile.TemporaryDirectory() as temporary:
        cache = options.cache or Path(temporary)
        shows = {}
        for name in names:
            if name in EPISODES:
                shows[name] = rendered(name, cache)
            elif (options.shared / "labels").is_dir():
                shows[name] = film(name, cache, options.shared)
            else:
                continue
            result |= measure(name, shows[name], seeds, seconds)
            save("adapt", result, quick=options.quick)
        if not options.quick:
            result |= cost(2000, seconds, list(shows.values()))
            save("adapt", result)
    flat = {k: round(v, 4) for k, v in result.items() if isinstance(v, int | float)}
    print(json.dumps(flat) if options.json else "\n".join(f"{k:56s} {v}" for k, v in flat.items()))
    return 0


def _known() -> dict[str, Any]:
    """The figures of the last record."""
    path = RESULTS / "adapt.json"
    return json.loads(path.read_text())["figures"] if path.exists() else {}


if __name__ == "__main__":
    sys.exit(main())
