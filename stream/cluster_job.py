"""Clustering a work folder: crops of every segment file in, one cluster file out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stream import embeddings
from stream.clustering import cluster_embeddings
from stream.config import ClusterConfig, Config, load_config
from stream.embeddings import segment_marks as segment_marks
from stream.errors import ConfigError, WorkdirError
from stream.names import carry_names, cluster_names
from stream.store import SegmentInfo
from stream.summary import release_memory
from stream.tables import ClusterTable, CropTable
from stream.workdir import WorkFolder


def cluster(
    out: str | Path,
    *,
    clusters: str | tuple[int, int] | None = None,
    strength: float | None = None,
    config: Config | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str | None = None,
    report: bool = True,
) -> ClusterTable:
    """Cluster the crops of a work folder again, without touching its segments. Names are taken over.

    Args:
        out: the work folder.
        clusters: wanted number as ``(min, max)`` or ``"min:max"``. Raising both gives more, purer clusters.
        strength: fixed cluster determination strength in 0..1 instead; see :mod:`stream.clustering`.
        config: the other settings; by default those of the last ``run``. They hold for this call alone.
        settings: single ``cluster`` settings over these, as in ``{"damping": 0.8}``.
        device: 'auto', 'cpu' or 'cuda', for this call alone; None takes that of ``config``.
        report: also write ``report.html`` again.

    Raises:
        ConfigError: a setting that is unknown or out of its range, or more clusters asked for than there are
            tracks; or ``device`` 'cuda' cannot be had.
        WorkdirError: no such work folder, or nothing in it to cluster.
    """
    with WorkFolder.open(out, create=False) as folder:
        last = folder.read_run().get("config") or {}
        base = (config.model_dump() if config is not None else last).get("cluster", {})
        given = dict(settings or {})
        given |= {k: v for k, v in (("clusters", clusters), ("strength", strength)) if v is not None}
        if "clusters" in given or "strength" in given:  # either takes the place of both
            base = {**base, "clusters": None, "strength": None}
        wanted = load_config(values={"cluster": {**base, **given}, "device": device}).cluster
        asked = given.get("clusters") is not None or config is not None
        if device is None and config is not None:
            device = config.device
        return cluster_again(folder, wanted, report=report, enough_tracks=asked, device=device)


def cluster_again(
    folder: WorkFolder,
    settings: ClusterConfig,
    *,
    report: bool,
    enough_tracks: bool = False,
    device: str | None = None,
) -> ClusterTable:
    """Cluster an open work folder, note in its record with what, and write its report again.

    Arguments and errors as for :func:`cluster_folder` and :func:`cluster`; ``device`` None: the last run's.
    """
    record = folder.read_run()
    device = device or str((record.get("config") or {}).get("device", "auto"))
    table = cluster_folder(folder, settings, enough_tracks=enough_tracks, device=device)
    record["clusters"] = table.meta["clusters"]
    record["clustering"] = settings.model_dump(mode="json")  # "config" stays what the run was asked for
    folder.write_run(record)
    if report:
        from stream.report import write_report

        write_report(folder)
    return table


def cluster_folder(
    folder: WorkFolder, settings: ClusterConfig, *, enough_tracks: bool = False, device: str = "auto"
) -> ClusterTable:
    """Cluster every crop of an open work folder and store the result as its latest clustering.

    Names that people gave are taken over, see :mod:`stream.names`.

    Args:
        folder: opened for writing.
        settings: range or strength, and so on.
        enough_tracks: refuse a range of which the minimum is above the number of tracks; without, there are
            as many clusters as there can be, and a message.
        device: "cpu", "cuda" or "auto", see :func:`stream.clustering.cluster_embeddings`.

    Raises:
        ConfigError: too few tracks, if enough are needed; a device that cannot be had.
        WorkdirError: no crops, or crops that cannot be compared.
    """
    infos = folder.segments()
    hashes = {info.notes.get("embedder") for info in infos if info.crops}
    if len(hashes) > 1:
        raise WorkdirError(
            f"{folder.path}: its segments were embedded by {len(hashes)} networks, whose vectors cannot"
            " be compared; run again over all its videos with one embedder, or use another folder"
        )
    crops = folder.crops()
    if crops.embeddings is None or not len(crops):
        raise WorkdirError(
            f"{folder.path}: no crops to cluster; lower detector.score or crops.min_size and run again"
        )
    tracks = crops.unique_tracks()
    count = int(tracks.max()) + 1
    if enough_tracks and settings.clusters is not None and count < settings.clusters[0]:
        low, high = settings.clusters
        found = "is only 1 track" if count == 1 else f"are only {count} tracks"
        raise ConfigError(
            f"clusters {low}:{high}: expected at least {low} tracks to cluster, and there {found}"
            f" in {folder.path}; ask for a minimum of {count} or fewer"
        )
    mixed = len({info.notes.get("settings") for info in infos}) > 1
    release_memory()  # of reading the files
    result = cluster_embeddings(
        crops.embeddings,
        tracks=tracks,
        frames=frame_numbers(crops),
        times=crops.time_s,
        boxes=crops.boxes,
        config=settings,
        overwrite=True,
        device=device,
    )
    table = result.as_table(crops.crop_id)
    table.meta["tracks"] = count
    # what the crops' ids stand for: names are taken over only while it is the same
    table.meta["segments"] = segment_marks(infos)
    table.meta["embeddings"] = embeddings_used(folder.path, infos)
    if mixed:
        table.meta["messages"].append(
            "the folder holds segments made with different detectors or settings;"
            " run all its videos again with one config to compare like with like"
        )
    adapted = embeddings.find(folder.path)
    tried = folder.read_run().get("adaptation")
    tried = isinstance(tried, dict) and tried.get("segments") == embeddings.mark_of(infos)
    if adapted is not None and not tried and (changed := embeddings.mismatch(adapted, infos)):
        table.meta["messages"].append(
            f"clustered without adaptation: segments new or done again since: {changed} of {len(infos)};"
            " run `celstream adapt` again"
        )
    before = cluster_names(folder)
    lost = sorted(set(before.values()) - set(carry_names(folder, table).values()))
    if lost:
        table.meta["messages"].append(
            f"no cluster takes over the {'name' if len(lost) == 1 else 'names'} {', '.join(lost)}: too few of"
            " the same crops; clustering as before finds earlier names again"
        )
    folder.write_clusters(table)
    return table


def is_clustered(folder: WorkFolder, infos: Sequence[SegmentInfo]) -> bool:
    """Whether the latest clusters are of these segments, all of the folder's, and of what embeds them now."""
    try:
        meta = folder.read_clusters().meta
    except WorkdirError:
        return False  # none, or its file is damaged
    # folders made before there was adaptation do not say what was clustered
    same = meta.get("embeddings", "segments") == embeddings_used(folder.path, infos)
    return same and meta.get("segments") == segment_marks(infos)


def embeddings_used(folder: Path, infos: Sequence[SegmentInfo]) -> str:
    """Which embeddings of a folder's crops are clustered: "segments", or an adapted network by its hash."""
    used = embeddings.matching(folder, infos)
    return str(used.about.get("model")) if used else "segments"


def frame_numbers(crops: CropTable) -> Any:
    """(M,) int64: which frame of the whole table each crop is in."""
    keys = np.stack([crops.segment.astype(np.int64), crops.frame_index], axis=1)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
