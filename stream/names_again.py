"""Names that outlive segments that are done again: by where the named characters were seen.

With another detector or other settings the crops are others, so :func:`stream.names.carry_names` cannot tell
them; times and places are the same. They are written down before the first segment is replaced, and kept
until the new crops are clustered: a run that is stopped or killed on the way loses no name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kernels.boxes import iou
from stream.batches import Array
from stream.files import atomic_file
from stream.names import character_numbers, cluster_names, name_characters
from stream.tables import CropTable
from stream.workdir import WorkFolder

WAITING = "names_waiting.parquet"
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

    @classmethod
    def read(cls, path: Path) -> NamedPlaces:
        """What :meth:`write` wrote; nothing where that is missing or torn."""
        try:
            table = pq.read_table(path)
            rows = zip(*(table[name].to_pylist() for name in ("video", "frame", "box", "name")), strict=True)
        except (OSError, pa.ArrowException, KeyError):
            return cls({})
        found: dict[tuple[str, int], list[tuple[list[float], str]]] = defaultdict(list)
        for video, frame, box, name in rows:
            found[video, frame].append((box, name))
        return cls(
            {
                key: (np.array([box for box, _ in seen], np.float32), [name for _, name in seen])
                for key, seen in found.items()
            }
        )

    def write(self, path: Path) -> None:
        """Keep them in a file, a row per box."""
        keys = [key for key, (boxes, _) in self.seen.items() for _ in boxes]
        table = pa.table(
            {
                "video": [video for video, _ in keys],
                "frame": [frame for _, frame in keys],
                "box": [box.tolist() for boxes, _ in self.seen.values() for box in boxes],
                "name": [name for _, names in self.seen.values() for name in names],
            }
        )
        with atomic_file(path, size=table.nbytes) as file:
            pq.write_table(table, file)

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
            overlap = iou(crops.boxes[row : row + 1], boxes)[0]
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


def keep_waiting(folder: WorkFolder) -> None:
    """Write down where named characters were seen, before segments are replaced.

    What an interrupted run wrote down stays, but for frames of which the present clusters know more.
    """
    now = NamedPlaces.of(folder)
    if now.seen:
        path = folder.path / WAITING
        NamedPlaces(NamedPlaces.read(path).seen | now.seen).write(path)


def give_waiting(folder: WorkFolder) -> dict[int, str]:
    """Give the names that were written down to the new clusters, and forget what was written."""
    path = folder.path / WAITING
    if not path.exists():
        return {}
    given = NamedPlaces.read(path).give(folder)
    path.unlink()
    return given


def _clusters(folder: WorkFolder) -> dict[str, int]:
    table = folder.read_clusters()
    return {str(crop): int(cluster) for crop, cluster in zip(table.crop_id, table.cluster, strict=True)}


def _frames(crops: CropTable) -> list[tuple[str, int]]:
    return [(str(v), int(i)) for v, i in zip(crops.video, np.asarray(crops.frame_index), strict=True)]
