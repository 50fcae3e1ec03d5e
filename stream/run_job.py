"""The main job: an archive into a work folder.

It plans segments, skips those that are done, streams the rest through the stations into segment files, then
adapts to the show, clusters and writes the report. Everything it did and could not do ends in ``run.yaml``.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kernels.device import traffic
from stream.adapt.embedding import needs_torch
from stream.adapt.own_detector import continued
from stream.adapt.step import adapt_step
from stream.batches import Segment
from stream.cluster_job import cluster_folder, is_clustered
from stream.config import Config, load_config
from stream.decode.plan import check_decoder
from stream.errors import CelstreamError
from stream.ledger import Ledger
from stream.live import is_live
from stream.names_again import give_waiting, keep_waiting
from stream.pipeline import StationStats
from stream.planning import plan_inputs
from stream.probe import is_url
from stream.progress import Progress, Quiet
from stream.stations import Stations
from stream.streaming import Marks, Streaming
from stream.summary import Summary, release_memory
from stream.trace import Trace, check_writable
from stream.workdir import WorkFolder


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
        self._streaming: Streaming | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Finish the batch in work and keep every whole segment."""
        self._stopped.set()
        if self._streaming is not None:
            self._streaming.stop()

    @property
    def all_missing(self) -> bool:
        """Whether every input is a path at which there is nothing: mistyped, most likely."""
        uris = [entry["uri"] for entry in self.ledger.quarantined]
        return not any(is_url(uri) or os.path.lexists(uri) for uri in uris)

    def do(self, inputs: Sequence[str], *, report: bool) -> Summary:
        self.folder.clean()
        traffic.reset()
        self.config = continued(self.folder, self.config, self.ledger.note)
        check_decoder(self.config)
        if self.config.trace:
            check_writable(self.config.trace)
        stations = Stations(self.config)
        trace = Trace(ranges=stations.device == "cuda") if self.config.trace else None
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
            marks = Marks(self.config, stations)
            todo = [s for s in segments if not self.folder.has_segment(s, marks.of(s.video))]
            if todo:
                keep_waiting(self.folder)
            self._streaming = Streaming(
                self.folder, self.config, stations, marks, self.ledger, self.progress, self._stopped, trace
            )
            try:
                self._streaming.run(todo, live)
            finally:
                if trace is not None:
                    self._write_trace(trace)
            segments += self._streaming.recorded
            todo += self._streaming.recorded
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
        if crossed := traffic.read():  # a run on a GPU
            self.folder.write_run(self.folder.read_run() | {"copied_to_host_bytes": crossed})
        if report and grouped and summary.segments:
            from stream.report import write_report

            path = write_report(self.folder)
            # the figures that the report shows are those that the run is told by
            summary = dataclasses.replace(summary, report=str(path))
            self.folder.write_run(self.folder.read_run() | {"report": summary.report})
        return summary

    def _write_trace(self, trace: Trace) -> None:
        assert self.config.trace is not None
        try:
            path = trace.write(self.config.trace)
        except OSError as error:  # it must not cost the run
            self.ledger.note(
                f"trace {self.config.trace}: cannot be written ({error.strerror}); give another path"
            )
        else:
            self.progress.note(f"trace: {path}; open it at https://ui.perfetto.dev or chrome://tracing")

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
            give_waiting(self.folder)

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


def _cluster_settings(config: Config) -> dict[str, Any]:
    return config.cluster.model_dump(mode="json")
