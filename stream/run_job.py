"""The main job: an archive into a work folder.

It plans segments, skips those that are done, streams the rest through the stations into segment files, then
adapts to the show, clusters and writes the report. Everything it did and could not do ends in ``run.yaml``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stream.adapt import needs_torch
from stream.adapt_step import adapt_step
from stream.batches import Detections, FrameBatch, Segment, Video
from stream.cluster_job import cluster_folder, is_clustered
from stream.config import Config, load_config
from stream.errors import CelstreamError
from stream.ledger import Ledger
from stream.live import LiveSource, is_live
from stream.own_detector import continued
from stream.pipeline import Pipeline, SegmentResult, StationStats
from stream.planning import plan_inputs
from stream.probe import is_url
from stream.progress import Progress, Quiet
from stream.rows import FrameTable, SegmentRows
from stream.store import fingerprint
from stream.summary import Summary, release_memory
from stream.version import VERSION
from stream.workdir import WorkFolder


@dataclass
class _Tally:
    """What passes on the way and is not in the crops: frames looked at, boxes found, damage."""

    frames: list[FrameTable] = field(default_factory=list)
    detections: int = 0
    notes: list[str] = field(default_factory=list)
    reached_s: float = 0.0


class _CountedDetector:
    """The detector, counting its boxes per segment: small ones never become crops."""

    def __init__(self, detect: Callable[[FrameBatch], Detections], tallies: Mapping[str, _Tally]) -> None:
        self.name = "detect"
        self._detect = detect
        self._tallies = tallies

    def __call__(self, batch: FrameBatch) -> Detections:
        found = self._detect(batch)
        self._tallies[_id(batch.segment)].detections += len(found)
        return found


def _id(segment: Segment) -> str:
    return f"{segment.video.name}/{segment.key}"


def run(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    config: Config | None = None,
    *,
    clusters: str | tuple[int, int] | None = None,
    strength: float | None = None,
    detector: str | Path | Mapping[str, Any] | None = None,
    embedder: str | Path | Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    on_start: Callable[[Callable[[], None]], Any] | None = None,
    report: bool = True,
    **settings: Any,
) -> Summary:
    """Turn videos and images into clusters of characters in the work folder ``out``.

    Args:
        inputs: files, folders, globs, playlists or URLs; one or many.
        out: the work folder. Segments that are done there with the same content, settings and models are
            kept; delete the folder to start over.
        config: settings; see :class:`stream.config.Config`.
        clusters: wanted number as ``(min, max)`` or ``"min:max"``, in place of what ``config`` says of it.
            Raising both gives more, purer clusters.
        strength: fixed cluster determination strength in 0..1 instead; see :mod:`stream.clustering`.
        detector: path of your ONNX detector, or its settings, as in ``detector={"score": 0.4}``.
        embedder: path of your ONNX embedder, or its settings.
        progress: told how far the run is; nothing by default.
        on_start: is given a function that stops the run softly (the batch in work is finished and every
            whole segment kept), for signal handlers and other threads.
        report: also write ``report.html``.
        **settings: single settings over ``config``, as in ``run(..., interval=2, adapt="off")``.

    Raises:
        CelstreamError: a setting, model or the work folder is unusable. A bad video is not an error: it is in
            ``Summary.quarantined`` with its reason, and the rest is done.
    """
    paths = [str(inputs)] if isinstance(inputs, str | Path) else [str(item) for item in inputs]
    settings |= {
        role: {"model": str(given)} if isinstance(given, str | Path) else given
        for role, given in (("detector", detector), ("embedder", embedder))
        if given is not None
    }
    if settings or clusters is not None or strength is not None:
        base = config.model_dump(exclude_unset=True) if config is not None else {}
        if clusters is not None or strength is not None:
            asked = {"clusters": clusters, "strength": strength}
            base["cluster"] = {**base.get("cluster", {}), **asked}
        config = load_config(values=_merged(base, settings))
    config = config or Config()
    if config.adapt.mode == "on":
        needs_torch()
    with WorkFolder.open(out, create=True) as folder:
        job = _Run(folder, config, progress or Quiet())
        if on_start is not None:
            on_start(job.stop)
        try:
            summary = job.do(paths, report=report)
        except CelstreamError:
            folder.discard()  # of what was refused nothing stays, unless it was here before
            raise
        if not summary.segments and job.all_missing:
            folder.discard()
        return summary


def _merged(base: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in extra.items():
        base[key] = (
            {**base[key], **value}
            if isinstance(base.get(key), dict) and isinstance(value, Mapping)
            else value
        )
    return base


class _Run:
    """One run over one open work folder."""

    def __init__(self, folder: WorkFolder, config: Config, progress: Progress) -> None:
        self.folder = folder
        # given boxes belong to single frames: a frame that looks like the one before has boxes of its own
        self.config = config if config.boxes is None else config.model_copy(update={"held": 0.0})
        self.progress = progress
        self.ledger = Ledger(folder, progress)
        self.tallies: dict[str, _Tally] = {}
        self.marks: dict[str, str] = {}  # video name -> fingerprint of its segments
        self.live: dict[str, LiveSource] = {}  # video name -> its connection
        self.recorded: list[Segment] = []  # of live streams
        self._pipeline: Pipeline | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Finish the batch in work and keep every whole segment."""
        self._stopped.set()
        if self._pipeline is not None:
            self._pipeline.stop()

    @property
    def all_missing(self) -> bool:
        """Whether every input is a path at which there is nothing: mistyped, most likely."""
        uris = [entry["uri"] for entry in self.ledger.quarantined]
        return not any(is_url(uri) or os.path.lexists(uri) for uri in uris)

    def do(self, inputs: Sequence[str], *, report: bool) -> Summary:
        from stream.stations import Stations

        self.folder.clean()
        self.config = continued(self.folder, self.config, self.ledger.note)
        stations = Stations(self.config)
        for fallback in stations.fallbacks:
            self.progress.note(f"{fallback.used} in place of {fallback.wanted}: {fallback.reason}")
        boxes, model = self.config.boxes, self.config.detector.model
        if boxes is not None and model != "default":
            self.ledger.note(
                f"the boxes of {boxes} are used, and not the detector {model}; leave one of them out"
            )
        try:
            segments = plan_inputs(
                inputs,
                self.folder,
                self.config,
                on_bad=self.ledger.quarantine,
                note=self.ledger.note,
            )
            stations.check([segment.video for segment in segments])
            live = [segment.video for segment in segments if is_live(segment)]
            segments = [segment for segment in segments if not is_live(segment)]
            todo = self._todo(segments, stations)
            self._stream(todo, live, stations)
            segments += self.recorded
            todo += self.recorded
        finally:
            stations.close()
        release_memory()
        asked = self._asked_before()
        grouped = not self._stopped.is_set()
        if grouped:
            self._group(segments, new=bool(todo))
            asked = _cluster_settings(self.config)
        summary = self.ledger.write(
            segments,
            segments_done_before=len(segments) - len(todo),
            stations=stations,
            config=self.config,
            clusters_asked=asked,
            interrupted=self._stopped.is_set(),
        )
        if report and grouped and summary.segments:
            from stream.report import write_report

            path = write_report(self.folder)
            # the figures that the report shows are those that the run is told by
            summary = dataclasses.replace(summary, report=str(path))
            self.folder.write_run(self.folder.read_run() | {"report": summary.report})
        return summary

    def _group(self, segments: Sequence[Segment], *, new: bool) -> None:
        """Adapt, where that is to be, and cluster, where anything changed; ``new``: segments did."""
        videos = {segment.video.name for segment in segments}
        self.folder.drop_stale({self.folder.segment_path(s) for s in segments}, videos)
        infos = self.folder.segments()
        same = not new and self._asked_before() == _cluster_settings(self.config)
        if same:  # then what a person chose since stays
            self.ledger.chosen = self.folder.read_run().get("clustering")
        self.ledger.adaptation = adapt_step(self.folder, self.config, self.ledger, self._stopped.is_set)
        if not any(info.crops for info in infos):
            self.folder.drop_clusters()
        # a run that was stopped or killed may have left segments that are in no cluster
        elif not same or not is_clustered(self.folder, infos):
            self._cluster()

    def _asked_before(self) -> Any:
        """The cluster settings of the last run that came as far as clustering."""
        record = self.folder.read_run()
        return record.get("clusters_asked") or (record.get("config") or {}).get("cluster")

    def _cluster(self) -> None:
        began = time.perf_counter()
        settings = self.config.cluster
        if self.ledger.chosen is not None:
            settings = load_config(values={"cluster": self.ledger.chosen}).cluster
        table = cluster_folder(self.folder, settings, device=self.config.device)
        for message in table.meta["messages"]:
            self.ledger.note(f"clusters: {message}")
        self.ledger.clustering = StationStats("cluster", time.perf_counter() - began, 1, len(table))

    # --- what is to do ---

    def _todo(self, segments: Sequence[Segment], stations: Any) -> list[Segment]:
        for segment in segments:
            self._mark(segment.video, stations)
        return [s for s in segments if not self.folder.has_segment(s, self.marks[s.video.name])]

    def _mark(self, video: Video, stations: Any) -> None:
        """Note what the segments of a video follow from, once."""
        from stream.stations import row_settings

        if video.name not in self.marks:
            settings = row_settings(self.config)
            self.marks[video.name] = fingerprint(video, settings, stations.model_hashes, VERSION)

    def _settings_mark(self, stations: Any) -> str:
        """Short identity of settings and networks, whatever the video: segments that compare."""
        from stream.stations import row_settings

        content = json.dumps([row_settings(self.config), stations.model_hashes], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    # --- streaming ---

    def _stream(self, todo: Sequence[Segment], live: Sequence[Video], stations: Any) -> None:
        """Work on what there is to do, then on live streams, one after the other, until they end."""
        known_s = sum(_length(segment) for segment in todo)
        detect, crop, embed = stations.order
        self._pipeline = Pipeline(
            self._decode,
            (_CountedDetector(detect, self.tallies), crop, embed),
            queue_size=self.config.queue_size,
            ends_itself=lambda segment: segment.video.name in self.live,
        )
        for video in live:
            self._mark(video, stations)
            self.live[video.name] = LiveSource(video, self.config, self._stopped)

        def every() -> Iterator[Segment]:
            yield from todo
            for source in self.live.values():
                yield from source.segments()
                source.close()

        if self._stopped.is_set():
            self._pipeline.stop()
        self.progress.begin(len(todo) + len(live), known_s)
        try:
            for result in self._pipeline.run(every()):
                self._finish(result, stations)
                del result
                release_memory()  # or what one segment leaves in pieces, the next comes on top of
        finally:
            for source in self.live.values():
                source.close()
            self.progress.end()

    def _decode(self, segment: Segment) -> Iterator[FrameBatch]:
        from stream.decode import decode_segment

        tally = self.tallies[_id(segment)] = _Tally(reached_s=segment.start_s)
        source = self.live.get(segment.video.name)
        if source is not None:
            decoding = source.decode(segment, tally.notes.append)
        else:
            decoding = decode_segment(segment, self.config, note=tally.notes.append)
        with contextlib.closing(decoding) as batches:
            for batch in batches:
                frames = FrameTable.of(batch)
                tally.frames.append(frames)
                reached = max(float(frames.times.max(initial=tally.reached_s)), tally.reached_s)
                self.progress.advance(len(frames), reached - tally.reached_s)
                tally.reached_s = reached
                yield batch

    def _finish(self, result: SegmentResult, stations: Any) -> None:
        """Write a whole segment, or quarantine its video with the reason."""
        segment, tally = result.segment, self.tallies.pop(_id(result.segment), _Tally())
        where = f"{segment.video.uri} from {segment.start_s:.1f} s" if segment.start_s else segment.video.uri
        if result.error is not None:
            self._fail(segment, result, where)
            return
        if segment.video.name in self.live:
            if not tally.frames:
                return  # stopped before anything came
            # it may have been stopped, or fallen silent, before its border
            end = min(segment.end_s, tally.reached_s + self.config.interval)
            segment = dataclasses.replace(segment, end_s=end)
            self.recorded.append(segment)
        from stream.tracks import tracks_of

        began = time.perf_counter()
        rows = SegmentRows.from_batches(result.batches, stations.embed.dim)
        rows = rows.with_tracks(tracks_of(rows, self.config.tracks))
        frames = FrameTable.join(tally.frames)
        # the file's own writing comes after the stats are complete; it is short beside the linking of tracks
        track = StationStats("track", time.perf_counter() - began, len(result.batches), len(rows))
        notes = {
            "detections": tally.detections,
            "content": segment.video.fingerprint,
            "embedder": stations.model_hashes["embedder"],
            "settings": self._settings_mark(stations),
            "messages": tally.notes,
        }
        self.folder.write_segment(
            segment,
            self.marks[segment.video.name],
            rows,
            frames=frames,
            notes=notes,
            stats={stats.name: stats.as_dict() for stats in (*result.stations.values(), track)},
        )
        self.ledger.video_seconds += _length(segment) or (tally.reached_s - segment.start_s)
        for message in tally.notes:
            self.ledger.note(f"{where}: {message}")
        self.progress.segment_done(_id(segment), len(rows))

    def _fail(self, segment: Segment, result: SegmentResult, where: str) -> None:
        error = result.error
        if isinstance(error, CelstreamError):
            self.ledger.quarantine(segment.video.uri, str(error), result.failed_at)
            return
        self.ledger.defects += 1
        self.ledger.quarantine(
            segment.video.uri,
            f"{where}: internal error in {result.failed_at} ({type(error).__name__}: {error}); report it",
            result.failed_at,
        )
        traceback.print_exception(error, file=sys.stderr)


def _cluster_settings(config: Config) -> dict[str, Any]:
    return config.cluster.model_dump(mode="json")


def _length(segment: Segment) -> float:
    """Seconds of video in a segment, 0 where that is unknown or has no meaning."""
    if segment.video.kind == "images":
        return 0.0
    end = min(segment.end_s, segment.video.duration_s or np.inf)
    return max(end - segment.start_s, 0.0) if np.isfinite(end) else 0.0
