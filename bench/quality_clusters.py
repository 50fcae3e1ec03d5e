"""How good are the clusters: the part of bench/quality.py that looks at embeddings.

Three embeddings of the same crops: the default ("before"), the one adapted to the show, and the hand-made
feature of thumbnail, gradients and colours ("hand"). Two shows with true boxes, at several numbers of
clusters, and the whole main job on a film.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.adapt import Show, film, rendered
from engines.models import resolve
from engines.train import figures
from engines.train.adapt import adapt
from stream import embeddings, load_config, run
from stream.adapt.embedding import adapt_folder
from stream.adapt.show_crops import squares
from stream.batches import Array
from stream.cluster_job import cluster_again
from stream.evaluate_job import evaluate_folder
from stream.store import SegmentInfo
from stream.workdir import WorkFolder

KINDS = ("adapted", "before", "hand")
SUFFIX = {"adapted": "", "before": "_before", "hand": "_hand"}
LEVELS = {"bbb_given": (6, 12, 20, 30), "rendered_30": (30, 35, 40, 60)}


@dataclass(frozen=True)
class Measured:
    """A show: figures by kind of embedding and ``<figure>@<clusters>``, one of each for every seed."""

    characters: int
    quality: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    kept: list[bool] = field(default_factory=list)

    def median(self, kind: str, key: str) -> float:
        return statistics.median(run[key] for run in self.quality[kind])

    def spread(self, kind: str, key: str) -> float:
        values = [run[key] for run in self.quality[kind]]
        return max(values) - min(values)


def given_boxes(name: str, cache: Path, shared: Path, seeds: int, seconds: float) -> Measured:
    """A show at its true boxes. What the label-free signal does not keep counts as before."""
    show = rendered(name, cache) if name.startswith("rendered") else film(name, cache, shared)
    show = Show(show.learn, show.measure, show.names, LEVELS[name])
    found = Measured(len(np.unique(show.names[show.names >= 0])))
    found.quality["before"] = [show.quality(show.measure.embeddings)]
    found.quality["hand"] = [show.quality(figures.handmade(show.measure.pictures))]
    found.quality["adapted"] = []
    for seed in range(seeds):
        learn = show.learn
        start = resolve("default", "embedder").path
        result = adapt(
            learn.pictures, learn.tracks, learn.couples, learn.embeddings,
            start=start, seconds=seconds, seed=seed, threads=1,
        )  # fmt: skip
        found.seconds.append(result.seconds)
        found.kept.append(result.kept)
        after = show.quality(result.embed(show.measure.pictures)) if result.kept else None
        found.quality["adapted"].append(after or found.quality["before"][0])
    return found


def main_job(video: Path, labels: Path, place: Path) -> dict[str, float]:
    """Purity, AMI and clusters per identity of ``celstream run`` with its defaults, of each kind."""
    before, out = place / "before", {}
    run([video], before, load_config(values={"adapt": {"mode": "off"}}))
    for kind in KINDS:
        work = place / f"main_{kind}"
        shutil.copytree(before, work)
        with WorkFolder.open(work, create=False) as folder:
            if kind == "adapted":
                summary = adapt_folder(folder, cluster=False, report=False)
                out["main_job_adapt_seconds"] = summary.seconds
                out["main_job_adapt_kept"] = float(summary.kept)
            elif kind == "hand":
                embeddings.write(
                    folder.path, _handmade(folder), resolve("default", "embedder").path, {"hand": True}
                )
            settings = load_config(values={}).cluster
            table = cluster_again(folder, settings, report=False)
            out[f"main_job_clusters{SUFFIX[kind]}"] = float(table.meta["clusters"])
        scores = evaluate_folder(work, labels).as_json()
        for key in ("purity", "ami", "clusters_per_identity"):
            out[f"main_job_{key}{SUFFIX[kind]}"] = scores[key]
    return out


def _handmade(folder: WorkFolder) -> Iterator[tuple[SegmentInfo, Array, Array]]:
    """The hand-made feature of every crop of a work folder, less its mean over the show."""
    infos, crops = folder.segments(), folder.crops(embeddings=False)
    pictures = np.concatenate(list(squares(folder, crops.crop_id, 64, "pad")))
    vectors = figures.handmade(pictures).astype(np.float32)
    start = 0
    for info in infos:
        if info.crops:
            part = slice(start, start + info.crops)
            yield info, crops.crop_id[part], vectors[part]
            start += info.crops


def cluster_figures(
    cache: Path, shared: Path, seeds: int, seconds: float, shows: tuple[str, ...] = tuple(LEVELS)
) -> tuple[dict[str, float], dict[str, Measured]]:
    """Every figure of the clusters, flat; and by show for the plot."""
    flat: dict[str, float] = {}
    by_show = {name: given_boxes(name, cache, shared, seeds, seconds) for name in shows}
    for name, found in by_show.items():
        flat |= _flat(name, found)
    if "bbb_given" in by_show:
        for kind, end in SUFFIX.items():
            flat[f"purity_bbb_6{end}"] = by_show["bbb_given"].median(kind, "purity@6")
            flat[f"ami_bbb_6{end}"] = by_show["bbb_given"].median(kind, "ami@6")
    if "rendered_30" in by_show:
        for kind, end in SUFFIX.items():
            flat[f"purity_rendered{end}"] = by_show["rendered_30"].median(kind, "purity@35")
            flat[f"ami_rendered{end}"] = by_show["rendered_30"].median(kind, "ami@35")
    flat["adapt_seconds"] = max(s for found in by_show.values() for s in found.seconds)
    return flat, by_show


def _flat(name: str, found: Measured) -> dict[str, Any]:
    out: dict[str, Any] = {f"{name}_adaptations_kept": sum(found.kept)}
    for kind, end in SUFFIX.items():
        for key in found.quality[kind][0]:
            out[f"{name}_{key}{end}"] = found.median(kind, key)
            if len(found.quality[kind]) > 1:
                out[f"{name}_{key}{end}_spread"] = found.spread(kind, key)
    return out
