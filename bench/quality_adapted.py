"""How good is the detector once it has adapted itself to a film: that part of bench/quality.py."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.quality_detector import Looked, figures, look
from stream import load_config, run
from stream.adapt.detector import DetectorSummary, adapt_detector
from stream.config import DetectorConfig
from stream.detect import Detector
from stream.labels import Labels


@dataclass(frozen=True)
class Adapted:
    """One film after ``celstream adapt --detector``, one of each for every seed.

    ``thresholds``: the working scores of the files. Where the adaptation was turned down by its signal, what
    counts is the detector of before.
    """

    looked: list[Looked]
    thresholds: list[float]
    summaries: list[DetectorSummary]

    def figures(self) -> tuple[dict[str, float], dict[str, float]]:
        """Median over the seeds, and the spread: largest less smallest."""
        found = [figures(part, at) for part, at in zip(self.looked, self.thresholds, strict=True)]
        values = {key: [one[key] for one in found] for key in found[0]}
        return (
            {key: statistics.median(of_seeds) for key, of_seeds in values.items()},
            {key: max(of_seeds) - min(of_seeds) for key, of_seeds in values.items()},
        )

    def middle(self) -> Looked:
        """What the detector found whose AP50 is the median of the seeds'."""
        found = [figures(part, at)["ap50"] for part, at in zip(self.looked, self.thresholds, strict=True)]
        return self.looked[found.index(statistics.median_low(found))]


def adapted(
    labels: Labels, folder: Path, work: Path, seeds: Sequence[int], minutes: float, lowest: float
) -> Adapted:
    """The detector adapted to the videos that the labels name, and what it finds in their labelled frames.

    ``work``: a folder to make. ``lowest``: score from which boxes are looked at.
    """
    videos = [folder / name for name in labels.video_files()]
    run(videos, work, load_config(values={"interval": 2.0, "adapt": {"mode": "off"}}), report=False)
    found = Adapted([], [], [])
    for seed in seeds:
        summary = adapt_detector(work, seed=seed, minutes=minutes, rerun=False, report=False)
        working = Detector(DetectorConfig(model=summary.detector))
        found.thresholds.append(working.score)
        working.close()
        detector = Detector(DetectorConfig(model=summary.detector, score=lowest))
        found.looked.append(look(detector, labels, folder))
        detector.close()
        found.summaries.append(summary)
    return found
