"""Real work folders, written through the real store, with real JPEG pictures."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from stream.batches import Segment, Video
from stream.rows import FrameTable, SegmentRows
from stream.tables import ClusterTable
from stream.workdir import WorkFolder


@dataclass
class Episode:
    """One video and who is seen when: ``seen`` holds (time in seconds, cluster), or with a score behind."""

    name: str
    seen: Sequence[tuple[float, int] | tuple[float, int, float]]
    length: int = 60  # seconds, one sampled frame each
    held: Sequence[int] = ()  # seconds whose frames repeat the one before


@dataclass
class Made:
    """A written work folder and what is in it."""

    path: Path
    crop_ids: list[str] = field(default_factory=list)
    clusters: list[int] = field(default_factory=list)


@functools.cache
def picture(cluster: int, number: int, noisy: bool = False) -> bytes:
    """A JPEG of 120 x 160: a face in the cluster's colour, moved by its number; or noise, large."""
    if noisy:
        values = np.random.default_rng([cluster, number]).integers(0, 256, (160, 256, 3), np.uint8)
        image = Image.fromarray(values)
    else:
        image = Image.new("RGB", (120, 160), (200, 220, 240))
        draw = ImageDraw.Draw(image)
        colour = ((cluster * 83) % 256, (cluster * 151) % 256, (cluster * 37) % 256)
        draw.ellipse((20 + number % 20, 15, 90 + number % 20, 100), fill=colour, outline=(0, 0, 0), width=3)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


def _embedding(cluster: int, number: int, alike: Mapping[int, int]) -> np.ndarray:
    centre = np.random.default_rng(alike.get(cluster, cluster)).normal(size=24)
    vector = centre + 0.3 * np.random.default_rng([cluster + 1, number]).normal(size=24)
    return vector / np.linalg.norm(vector)


def _write(
    path: Path,
    episodes: Sequence[Episode],
    record: Mapping[str, Any] | None = None,
    clustered: bool = True,
    noisy: bool = False,
    alike: Mapping[int, int] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Made:
    made = Made(path)
    vectors: list[np.ndarray] = []
    with WorkFolder.open(path, create=True) as folder:
        for episode in episodes:
            video = Video(episode.name, f"/films/{episode.name}.mp4", "video", 320, 240, "f")
            scored = sorted((*entry, 0.8)[:3] for entry in episode.seen)
            seen = [(time_s, cluster) for time_s, cluster, _ in scored]
            m = len(seen)
            embeddings = np.array(
                [_embedding(c, n, alike or {}) for n, (_, c) in enumerate(seen)], np.float32
            ).reshape(m, 24)
            vectors.append(embeddings)
            times = np.array([t for t, _ in seen], np.float64)
            rows = SegmentRows(
                times=times,
                indices=np.round(times * 24).astype(np.int64),
                numbers=times.astype(np.int64),
                shots=np.zeros(m, np.int32),
                held=np.isin(times.astype(np.int64), list(episode.held)),
                boxes=np.tile(np.array([10, 10, 90, 120], np.float32), (m, 1)),
                scores=np.array([score for _, _, score in scored], np.float32),
                classes=("character",) * m,
                tracks=np.array([c for _, c in seen], np.int64),
                sharpness=np.full(m, 100, np.float32),
                jpegs=tuple(picture(c % 40, n % 8, noisy) for n, (_, c) in enumerate(seen)),
                embeddings=embeddings,
            )
            seconds = np.arange(episode.length, dtype=np.int64)
            frames = FrameTable(
                times=seconds.astype(np.float64),
                indices=seconds * 24,
                numbers=seconds,
                shots=np.zeros(episode.length, np.int32),
                held=np.isin(seconds, list(episode.held)),
            )
            segment = Segment(video, 0, 0.0, float(episode.length))
            folder.write_segment(segment, "f", rows, frames=frames)
            made.crop_ids += [f"{episode.name}/{segment.key}/{n}" for n in range(m)]
            made.clusters += [c for _, c in seen]
        if clustered and made.crop_ids:
            label = np.array(made.clusters, np.int32)
            exemplar = np.zeros(len(label), np.bool_)
            exemplar[np.unique(label, return_index=True)[1]] = True
            every = np.concatenate(vectors)
            own = np.array([np.flatnonzero((label == c) & exemplar)[0] for c in label])
            similarity = np.einsum("nd,nd->n", every, every[own]).astype(np.float32)
            ids = np.array(made.crop_ids, object)
            folder.write_clusters(ClusterTable(ids, label, exemplar, similarity, dict(meta or {})))
        folder.write_run(record or {})
    return made


@pytest.fixture
def write_folder(tmp_path: Path) -> Callable[..., Made]:
    """``write_folder(episodes, record=..., clustered=..., noisy=..., alike=...)`` -> :class:`Made`."""

    def write(episodes: Sequence[Episode], **options: Any) -> Made:
        return _write(tmp_path / "work", episodes, **options)

    return write


@pytest.fixture(scope="session")
def episode() -> type[Episode]:
    """The class, so that tests need not import a conftest."""
    return Episode
