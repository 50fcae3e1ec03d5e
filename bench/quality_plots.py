"""The pictures of bench/quality.py: precision over recall, and purity over clusters per character."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.quality_clusters import KINDS, LEVELS, Measured
from bench.quality_detector import Looked

COLOURS = {"adapted": "#0b6e4f", "before": "#2f6fb3", "hand": "#b3542f"}
NAMES = {
    "adapted": "adapted to the show",
    "before": "default embedding",
    "hand": "hand-made feature",
    "bbb": "Big Buck Bunny",
    "popeye": "Popeye (1936)",
    "rendered": "rendered episodes",
    "bbb_given": "Big Buck Bunny, labelled boxes",
    "rendered_30": "rendered, 30 characters",
}


@dataclass(frozen=True)
class Curve:
    """What one detector found, film by film; the dot on its curve is at the working score ``threshold``."""

    label: str
    colour: str
    looked: Mapping[str, Looked]
    threshold: float


def plot_detectors(path: Path, curves: Sequence[Curve]) -> None:
    """Precision over recall of every film, rendered episodes taken together."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    films = [("bbb", ("bbb",)), ("popeye", ("popeye",))]
    films.append(("rendered", tuple(name for name in curves[0].looked if name.startswith("rendered"))))
    figure, axes = plt.subplots(1, len(films), figsize=(12, 3.8), sharey=True, layout="constrained")
    for axis, (name, parts) in zip(axes, films, strict=True):
        for curve in curves:
            if not set(parts) <= set(curve.looked):
                continue
            joined = Looked.join([curve.looked[part] for part in parts])
            order = np.argsort(-joined.scores, kind="stable")
            hits = np.cumsum(joined.correct[order])
            recall, precision = hits / joined.truths, hits / np.arange(1, len(hits) + 1)
            axis.plot(recall, precision, color=curve.colour, label=curve.label)
            kept = int((joined.scores >= curve.threshold).sum())
            if kept:
                axis.plot(recall[kept - 1], precision[kept - 1], "o", color=curve.colour)
        axis.set(title=NAMES[name], xlabel="recall", xlim=(0, 1), ylim=(0, 1.02))
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("precision")
    handles, labels = axes[0].get_legend_handles_labels()
    labels[-1] += " (dots: working threshold)"
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot_clusters(path: Path, shows: dict[str, Measured]) -> None:
    """Purity and AMI over the clusters a character has; the band is the spread over the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        2, len(shows), figsize=(5 * len(shows), 6.4), layout="constrained", squeeze=False
    )
    for column, (name, found) in zip(axes.T, shows.items(), strict=True):
        per = np.array(LEVELS[name]) / found.characters
        for axis, figure_name in zip(column, ("purity", "ami"), strict=True):
            for kind in KINDS:
                keys = [f"{figure_name}@{count}" for count in LEVELS[name]]
                middle = [found.median(kind, key) for key in keys]
                axis.plot(per, middle, "o-", color=COLOURS[kind], label=NAMES[kind])
                values = np.array([[run[key] for key in keys] for run in found.quality[kind]])
                axis.fill_between(per, values.min(0), values.max(0), color=COLOURS[kind], alpha=0.15)
            axis.grid(alpha=0.25)
            axis.set_ylabel({"purity": "purity", "ami": "adjusted mutual information"}[figure_name])
        column[0].set_title(NAMES[name])
        column[1].set_xlabel("clusters per character")
    axes[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
