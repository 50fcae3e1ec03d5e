"""The streaming part of a run: segments that are to be done, through the stations, into segment files.

::

    decode -> detect -> crop -> embed -> tracks -> segment file

A segment whose work fails is quarantined with its reason, and the next one goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from stream.batches import Detections, FrameBatch, Segment, Video
from stream.config import Config
from stream.decode.lanes import SegmentDecoder
from stream.decode.plan import DecodePlan
from stream.errors import CelstreamError
from stream.ledger import Ledger
from stream.live import LiveSource
from stream.pipeline import Pipeline, SegmentResult, StationStats
from stream.progress import Progress
from stream.rows import FrameTable, SegmentRows
from stream.stations import Stations, row_settings
from stream.store import fingerprint
from stream.summary import release_memory
from stream.trace import Trace
from stream.tracks import tracks_of
from stream.version import VERSION
from stream.workdir import WorkFolder


@dataclass
class _Tally:
    """What passes on the way and is not in the crops: how it is decoded, frames looked at, boxes, damage."""

    frames: list[FrameTable] = field(default_factory=list)
    detections: int = 0
    notes: list[str] = field(default_factory=list)
    reached_s: float = 0.0
    plan: DecodePlan | None = None  # None: a live stream's, which one decoder serves from end to end


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


class Marks:
    """What the rows of a segment follow from, in short: its video, the settings and the networks."""

    def __init__(self, config: Config, stations: Stations) -> None:
        self._settings = row_settings(config)
        self._hashes = stations.model_hashes
        self._of: dict[str, str] = {}

    def of(self, video: Video) -> str:
        """Fingerprint of the video's segments."""
        if video.name not in self._of:
            self._of[video.name] = fingerprint(video, self._settings, self._hashes, VERSION)
        return self._of[video.name]

    @property
    def settings(self) -> str:
        """Of settings and networks alone, whatever the video: segments with the same one compare."""
        content = json.dumps([self._settings, self._hashes], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]


class Streaming:
    """Streams segments into an open work folder.

    Args:
        stopped: set when the run is to end: the segment in work is given up, whole ones are kept.
        trace: told what each station did when.

    Attributes:
        recorded: segments of live streams, as long as they turned out.
    """

    def __init__(
        self,
        folder: WorkFolder,
        config: Config,
        stations: Stations,
        marks: Marks,
        ledger: Ledger,
        progress: Progress,
        stopped: threading.Event,
        trace: Trace | None = None,
    ) -> None:
        self.folder, self.config, self.stations, self.marks = folder, config, stations, marks
        self.ledger, self.progress, self.trace = ledger, progress, trace
        self.recorded: list[Segment] = []
        self._stopped = stopped
        self._tallies: dict[str, _Tally] = {}
        self._live: dict[str, LiveSource] = {}  # video name -> its connection
        # 'auto' is where the networks run: frames that are decoded elsewhere would only be copied
        self._decoder = SegmentDecoder(config.model_copy(update={"device": stations.device}), trace)
        detect, crop, embed = stations.order
        self._pipeline = Pipeline(
            self._decode,
            (_CountedDetector(detect, self._tallies), crop, embed),
            queue_size=config.queue_size,
            ends_itself=lambda segment: segment.video.name in self._live,
            trace=trace,
        )

    def stop(self) -> None:
        """Finish the batch in work. Any thread may call it."""
        self._pipeline.stop()

    def run(self, todo: Sequence[Segment], live: Sequence[Video]) -> None:
        """Work on what there is to do, then on live streams, one after the other, until they end."""
        known_s = sum(_length(segment) for segment in todo)
        for video in live:
            self._live[video.name] = LiveSource(video, self.config, self._stopped)

        def every() -> Iterator[Segment]:
            yield from self._decoder.ahead(todo)
            for source in self._live.values():
                yield from source.segments()
                source.close()

        if self._stopped.is_set():
            self.stop()
        self.progress.begin(len(todo) + len(live), known_s)
        try:
            for result in self._pipeline.run(every()):
                self._finish(result)
                del result
                release_memory()  # or what one segment leaves in pieces, the next comes on top of
        finally:
            for source in self._live.values():
                source.close()
            self._decoder.close()
            self.progress.end()

    def _decode(self, segment: Segment) -> Iterator[FrameBatch]:
        tally = self._tallies[_id(segment)] = _Tally(reached_s=segment.start_s)
        source = self._live.get(segment.video.name)
        if source is not None:
            decoding = source.decode(segment, tally.notes.append)
        else:
            tally.plan = self._decoder.plan(segment.video)
            decoding = self._decoder.decode(segment, tally.notes.append)
        with contextlib.closing(decoding) as batches:
            for batch in batches:
                frames = FrameTable.of(batch)
                tally.frames.append(frames)
                reached = max(float(frames.times.max(initial=tally.reached_s)), tally.reached_s)
                self.progress.advance(len(frames), reached - tally.reached_s)
                tally.reached_s = reached
                yield batch

    def _finish(self, result: SegmentResult) -> None:
        """Write a whole segment, or quarantine its video with the reason."""
        segment, tally = result.segment, self._tallies.pop(_id(result.segment), _Tally())
        where = f"{segment.video.uri} from {segment.start_s:.1f} s" if segment.start_s else segment.video.uri
        if result.error is not None:
            self._fail(segment, result, where)
            return
        if segment.video.name in self._live:
            if not tally.frames:
                return  # stopped before anything came
            # it may have been stopped, or fallen silent, before its border
            end = min(segment.end_s, tally.reached_s + self.config.interval)
            segment = dataclasses.replace(segment, end_s=end)
            self.recorded.append(segment)
        began = time.perf_counter()
        rows = SegmentRows.from_batches(result.batches, self.stations.embed.dim)
        rows = rows.with_tracks(tracks_of(rows, self.config.tracks))
        frames = FrameTable.join(tally.frames)
        # the file's own writing comes after the stats are complete; it is short beside the linking of tracks
        track = StationStats("track", time.perf_counter() - began, len(result.batches), len(rows))
        notes = {
            "detections": tally.detections,
            "content": segment.video.fingerprint,
            "embedder": self.stations.model_hashes["embedder"],
            "settings": self.marks.settings,
            "messages": tally.notes,
        }
        if tally.plan is not None:
            notes["decode"] = str(tally.plan)
            self.ledger.fell_back(tally.plan.fallback)
        self.folder.write_segment(
            segment,
            self.marks.of(segment.video),
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


def _length(segment: Segment) -> float:
    """Seconds of video in a segment, 0 where that is unknown or has no meaning."""
    if segment.video.kind == "images":
        return 0.0
    end = min(segment.end_s, segment.video.duration_s or np.inf)
    return max(end - segment.start_s, 0.0) if np.isfinite(end) else 0.0
