"""Scoring a work folder against labelled boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stream.evaluate import Scores, evaluate
from stream.labels import Labels
from stream.workdir import WorkFolder


def evaluate_folder(workdir: str | Path, labels_csv: str | Path) -> Scores:
    """Score the detections and the latest clusters of a work folder.

    Args:
        workdir: made by ``run``; it is only read.
        labels_csv: boxes with identities, and the frame statuses beside it (see :mod:`stream.labels`).

    Raises:
        ConfigError: the labels cannot be read, or none of their frames was sampled.
        WorkdirError: no such work folder.
    """
    labels = Labels.read(labels_csv)
    with WorkFolder.open(workdir, create=False, write=False) as folder:
        crops = folder.crops(embeddings=False)
        infos = folder.segments()
        described = {v["name"]: v for v in folder.read_run().get("videos", [])}
        clusters = None
        if folder.latest_clusters() is not None:
            table = folder.read_clusters()
            of = dict(zip(table.crop_id, table.cluster, strict=True))
            clusters = np.array([of.get(crop_id, -1) for crop_id in crops.crop_id], np.int32)
    # labels name files; a work folder names videos, and still images each by their own file
    files = {info.video: Path(info.uri).name for info in infos if info.kind == "video"}
    times: dict[str, list[np.ndarray]] = {}
    for info in infos:
        if info.kind == "video":
            times.setdefault(files[info.video], []).append(info.frames.times)
    return evaluate(
        labels,
        np.array([Path(source).name for source in crops.source], object),
        crops.time_s,
        crops.boxes,
        crops.score,
        {file: np.concatenate(parts) for file, parts in times.items()},
        classes=crops.classes,
        clusters=clusters,
        frame_sizes={files[i.video]: (i.width, i.height) for i in infos if i.kind == "video"},
        frame_rates={files[name]: described[name].get("frame_rate") for name in files if name in described},
    )
