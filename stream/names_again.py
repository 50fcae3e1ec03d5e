"""Names that outlive another detector: by where the named characters were seen, not by which crops they were.

Crops of segments that are done again have other numbers, so :func:`stream.names.carry_names` cannot tell
them; times and places are the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from stream.batches import Array
from stream.names import character_numbers, cluster_names, name_characters
from stream.tables import CropTable
from stream.tracks import iou_matrix
from stream.workdir import WorkFolder

_SAME = 0.5  # IoU from which two boxes of one frame are one character's
_MOST = 0.5  # share of a cluster's crops seen before that must bear the name


@dataclass(frozen=True)
class NamedPlaces:
    """Where characters were seen: frame (video, frame_index) -> boxes (n, 4) and the name of each, or ''."""

    seen: dict[tuple[str, int], tuple[Array, list[str]]]

    @classmethod
    def of(cls, folder: WorkFolder) -> NamedPlaces:
        """Of the latest clusters of an open folder; empty where nobody gave a name."""
        names = cluster_names(folder)
        if not names:
            return cls({})
        crops, of_crop = folder.crops(embeddings=False), _clusters(folder)
        rows: dict[tuple[str, int], list[int]] = defaultdict(list)
        for row, frame in enumerate(_frames(crops)):
            rows[frame].append(row)
        told = [names.get(of_crop.get(crop, -1), "") for crop in crops.crop_id]
        return cls({frame: (crops.boxes[at], [told[row] for row in at]) for frame, at in rows.items()})

    def give(self, folder: WorkFolder) -> dict[int, str]:
        """Name the latest clusters of an open folder, where they have no name; returns number -> name given.

        A cluster gets the name that at least half of its crops seen before bore.
        """
        if not self.seen or folder.latest_clusters() is None:
            return {}
        crops, of_crop, table = folder.crops(embeddings=False), _clusters(folder), folder.read_clusters()
        votes: dict[int, Counter[str]] = defaultdict(Counter)
        for row, frame in enumerate(_frames(crops)):
            cluster = of_crop.get(crops.crop_id[row], -1)
            if cluster < 0 or frame not in self.seen:
                continue
            boxes, names = self.seen[frame]
            overlap = iou_matrix(crops.boxes[row : row + 1], boxes)[0]
            if overlap.max() >= _SAME:
                votes[cluster][names[int(overlap.argmax())]] += 1
        known, numbers = cluster_names(folder), character_numbers(table)
        given: dict[int, str] = {}
        for cluster, count in votes.items():
            name, most = max(count.items(), key=lambda item: (item[1], item[0]))
            if name and most >= _MOST * count.total() and cluster not in known:
                given[numbers[cluster]] = name
        if given:
            name_characters(folder.path, dict(given), report=False)
        return given


def _clusters(folder: WorkFolder) -> dict[str, int]:
    table = folder.read_clusters()
    return {str(crop): int(cluster) for crop, cluster in zip(table.crop_id, table.cluster, strict=True)}


def _frames(crops: CropTable) -> list[tuple[str, int]]:
    return [(str(v), int(i)) for v, i in zip(crops.video, np.asarray(crops.frame_index), strict=True)]
