"""What happened in a run: what was refused, what was noticed, what it took; in the end ``run.yaml``."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from engines.runtime.base import Fallback
from stream.batches import Segment, Video
from stream.config import Config
from stream.pipeline import StationStats
from stream.progress import Progress
from stream.store import SegmentInfo
from stream.summary import Summary, folder_counts, peak_rss_bytes
from stream.version import VERSION
from stream.workdir import WorkFolder

if TYPE_CHECKING:
    from stream.adapt.step import AdaptStep
    from stream.stations import Stations


class Ledger:
    """Kept while a run goes on; whatever is entered is also told to its progress.

    Attributes:
        quarantined: inputs that could not be used, each with its stage and reason.
        notes: what a person should know.
        defects: inputs that failed by an error of ours.
        clustering: what clustering took.
        adaptation: what show adaptation did, None where there was none.
        fallbacks: what was wanted of the decoders and could not be had, each once.
        chosen: cluster settings that a person chose since the last run and that stay.
        video_seconds: length of the video that was worked on.
    """

    def __init__(self, folder: WorkFolder, progress: Progress) -> None:
        self.folder = folder
        self.progress = progress
        self.quarantined: list[dict[str, str]] = []
        self.notes: list[str] = []
        self.defects = 0
        self.clustering = StationStats("cluster")
        self.adaptation: AdaptStep | None = None
        self.fallbacks: list[Fallback] = []
        self.chosen: Any = None
        self.video_seconds = 0.0
        self._began = time.perf_counter()
        self._started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

    def note(self, message: str) -> None:
        """Enter what a person should know."""
        self.notes.append(message)
        self.progress.note(message)

    def fell_back(self, fallback: Fallback | None) -> None:
        """Enter what stood in for what was wanted, once, however many videos it was for."""
        if fallback is not None and fallback not in self.fallbacks:
            self.fallbacks.append(fallback)

    def quarantine(self, uri: str, reason: str, stage: str) -> None:
        """Enter an input that cannot be used."""
        self.folder.quarantine(uri, reason, stage)
        self.quarantined.append({"uri": uri, "stage": stage, "reason": reason})
        self.progress.quarantined(uri, stage, reason)

    def write(
        self,
        segments: Sequence[Segment],
        *,
        segments_done_before: int,
        stations: Stations,
        config: Config,
        clusters_asked: Any,
        interrupted: bool,
    ) -> Summary:
        """Write ``run.yaml`` from what the folder holds now; ``segments`` are those of the inputs."""
        infos = self.folder.segments()
        table = self.folder.latest_clusters()
        meta = self.folder.read_clusters(table).meta if table else {}
        adapt = self.adaptation
        seconds = time.perf_counter() - self._began - (adapt.seconds if adapt else 0.0)
        summary = Summary(
            out=str(self.folder.path),
            **folder_counts(infos),
            tracks=int(meta.get("tracks", 0)),
            clusters=int(meta.get("clusters", 0)),
            segments=len(segments),
            segments_done_before=segments_done_before,
            seconds=round(seconds, 3),
            times_real_time=round(self.video_seconds / seconds, 2),
            peak_rss_bytes=adapt.peak_rss_bytes if adapt else peak_rss_bytes(),
            adapted=meta.get("embeddings", "segments") != "segments",
            adapt_seconds=adapt.seconds if adapt else 0.0,
            adapt_peak_rss_bytes=peak_rss_bytes() if adapt else 0,
            adaptation=adapt.about if adapt else None,
            adapt_failed=bool(adapt and adapt.failed and config.adapt.mode == "on"),
            quarantined=tuple(self.quarantined),
            fallbacks=tuple(asdict(fallback) for fallback in (*stations.fallbacks, *self.fallbacks)),
            notes=tuple(self.notes),
            interrupted=interrupted,
            defects=self.defects,
        )
        record: dict[str, Any] = asdict(summary) | {
            "version": VERSION,
            "started": self._started,
            "device": "cpu" if "CPU" in stations.embed.description else "cuda",
            "models": stations.models,
            "stations": self._station_totals(),
            "videos": self._videos(segments, infos),
            "config": config.model_dump(mode="json"),
            "clusters_asked": clusters_asked,
        }
        del record["adaptation"]  # the folder keeps its own, which an earlier run may have made
        if self.chosen is not None:
            record["clustering"] = self.chosen
        self.folder.write_run(record)
        return summary

    def _videos(self, segments: Sequence[Segment], infos: Sequence[SegmentInfo]) -> list[dict[str, Any]]:
        """This run's videos and those that earlier runs left in the folder: what, and how decoded and why."""
        decode = {info.video: info.notes.get("decode") for info in infos}
        described = {v["name"]: v for v in self.folder.read_run().get("videos", []) if v["name"] in decode}
        described |= {segment.video.name: _described(segment.video) for segment in segments}
        return [described[name] | {"decode": decode.get(name)} for name in sorted(described)]

    def _station_totals(self) -> dict[str, dict[str, float | int]]:
        """Work of every station for all segments in the folder, whichever run did them."""
        totals: dict[str, dict[str, float | int]] = {}
        for entry in self.folder.stats():
            for name, stats in entry["stats"].items():
                into = totals.setdefault(name, dict.fromkeys(("seconds", "batches", "items"), 0))
                for key in into:
                    into[key] = round(into[key] + stats.get(key, 0), 4)
        if self.clustering.items:
            totals["cluster"] = self.clustering.as_dict()
        return totals


def _described(video: Video) -> dict[str, Any]:
    keys = ("name", "uri", "kind", "duration_s", "width", "height", "frame_rate", "codec")
    return {key: getattr(video, key) for key in keys}
