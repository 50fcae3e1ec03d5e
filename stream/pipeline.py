"""Runs the stations overlapped: one thread each, bounded queues between them, segment by segment.

::

    segments -> [decode] =queue=> [detect] =queue=> [crop] =queue=> [embed] =queue=> finish (caller's thread)

The heavy parts (FFmpeg, the networks, resizing, JPEG) release the interpreter's lock, so threads overlap.
A full queue blocks the station before it (back-pressure), so memory depends on the batch and queue sizes,
never on the length of the video. A segment whose decoding or station raises is failed, its remaining
batches are dropped, and the next segment goes on.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from stream.batches import Segment
from stream.trace import Trace


class Station(Protocol):
    """A named step from batch to batch. It is called from one thread only."""

    @property
    def name(self) -> str: ...

    def __call__(self, batch: Any, /) -> Any: ...


@dataclass
class StationStats:
    """Time one station was at work (not waiting), and what it put through."""

    name: str
    seconds: float = 0.0
    batches: int = 0
    items: int = 0

    def as_dict(self) -> dict[str, float | int]:
        return {"seconds": round(self.seconds, 4), "batches": self.batches, "items": self.items}


@dataclass(frozen=True)
class _End:
    """Behind the last batch of a segment; ``error`` says why it ended early."""

    segment: Segment
    error: Exception | None = None
    failed_at: str = ""


@dataclass(frozen=True)
class _Item:
    segment: Segment
    batch: Any


class _Abort(Exception):
    """Unwinds a thread that waits on a queue when the pipeline is torn down."""


@dataclass
class SegmentResult:
    """What the last station delivered for a segment; ``error`` is set where it failed."""

    segment: Segment
    batches: list[Any] = field(default_factory=list)
    error: Exception | None = None
    failed_at: str = ""  # name of the station that raised
    stations: dict[str, StationStats] = field(default_factory=dict)  # work done for this segment alone


class Pipeline:
    """Decode and stations, overlapped.

    Args:
        decode: opens a segment and yields its batches; closed early when a later station fails.
        stations: in order; each takes what the one before returns.
        queue_size: batches that may wait between two stations. Raising it smooths out uneven batches and
            takes that many more batches of memory per queue.
        ends_itself: says of a segment that its decoding ends soon after a stop, and that it is whole then
            (live streams): such a segment is delivered.
        trace: told what each station did when, and how many batches waited behind it.
    """

    def __init__(
        self,
        decode: Callable[[Segment], Iterator[Any]],
        stations: Sequence[Station],
        *,
        queue_size: int = 2,
        ends_itself: Callable[[Segment], bool] = lambda _: False,
        trace: Trace | None = None,
    ) -> None:
        if queue_size < 1:
            raise ValueError(f"queue_size: expected at least 1, got {queue_size}")
        self._decode = decode
        self._stations = tuple(stations)
        self._ends_itself = ends_itself
        self._trace = trace
        self._queues: list[queue.Queue[Any]] = [queue.Queue(queue_size) for _ in range(len(stations) + 1)]
        readers = [*(station.name for station in stations), "finish"]
        self._readers = {id(queue): reader for queue, reader in zip(self._queues, readers, strict=True)}
        self._aborted = threading.Event()
        self._stopping = threading.Event()
        # by id() of the segment in flight; each station's thread writes only its own entry
        self._failed: set[int] = set()
        self._stats: dict[int, dict[str, StationStats]] = {}

    def stop(self) -> None:
        """Finish the batch in work, deliver the segments that are whole, then end. Any thread may call it."""
        self._stopping.set()

    def run(self, segments: Iterable[Segment]) -> Iterator[SegmentResult]:
        """Yield a result per segment, in order; a segment cut short by :meth:`stop` is not yielded."""
        threads = [
            threading.Thread(target=self._guard, args=(self._feed, segments), name="decode", daemon=True)
        ]
        for position, station in enumerate(self._stations):
            work = threading.Thread(
                target=self._guard, args=(self._work, position, station), name=station.name, daemon=True
            )
            threads.append(work)
        for thread in threads:
            thread.start()
        try:
            yield from self._collect()
        finally:
            self._aborted.set()
            for thread in threads:
                thread.join(timeout=10)

    def _collect(self) -> Iterator[SegmentResult]:
        current: SegmentResult | None = None
        while (item := self._get(self._queues[-1])) is not None:
            if isinstance(item, BaseException):
                raise item
            if current is None or current.segment is not item.segment:
                current = SegmentResult(item.segment)
            if isinstance(item, _Item):
                current.batches.append(item.batch)
                continue
            current.error, current.failed_at = item.error, item.failed_at
            current.stations = self._stats.pop(id(item.segment))
            self._failed.discard(id(item.segment))
            yield current
            current = None

    def _feed(self, segments: Iterable[Segment]) -> None:
        out = self._queues[0]
        for segment in segments:
            if self._stopping.is_set():
                break
            error: Exception | None = None
            names = ("decode", *(station.name for station in self._stations))
            self._stats[id(segment)] = {name: StationStats(name) for name in names}
            batches: Iterator[Any] = iter(())
            try:
                batches = self._decode(segment)
                while (batch := self._timed("decode", segment, next, batches, None)) is not None:
                    if self._cut(segment) or id(segment) in self._failed:
                        break
                    self._put(out, _Item(segment, batch))
            except _Abort:
                raise
            except Exception as caught:
                error = caught
            finally:
                close = getattr(batches, "close", None)
                if close is not None:
                    close()
            if self._cut(segment):
                break  # an unfinished segment has no end marker and is never delivered
            self._put(out, _End(segment, error, "decode" if error else ""))
        self._put(out, None)

    def _cut(self, segment: Segment) -> bool:
        return self._stopping.is_set() and not self._ends_itself(segment)

    def _work(self, position: int, station: Station) -> None:
        source, out = self._queues[position], self._queues[position + 1]
        failed: Segment | None = None
        error: Exception | None = None
        while (item := self._get(source)) is not None:
            if isinstance(item, _End):
                if item.segment is failed:
                    item = _End(item.segment, error, station.name)
                failed = error = None
                self._put(out, item)
            elif item.segment is not failed:
                try:
                    batch = self._timed(station.name, item.segment, station, item.batch)
                except Exception as caught:
                    failed, error = item.segment, caught
                    self._failed.add(id(item.segment))
                else:
                    self._put(out, _Item(item.segment, batch))
        self._put(out, None)

    def _timed(self, name: str, segment: Segment, call: Callable[..., Any], *args: Any) -> Any:
        stats = self._stats[id(segment)][name]
        with self._span(name, segment) as about:
            start = time.perf_counter()
            try:
                result = call(*args)
            finally:
                stats.seconds += time.perf_counter() - start
            if result is not None:
                stats.batches += 1
                stats.items += len(result)
                about["items"] = len(result)
        return result

    def _span(self, name: str, segment: Segment) -> contextlib.AbstractContextManager[dict[str, Any]]:
        if self._trace is None:
            return contextlib.nullcontext({})
        return self._trace.span(name, segment=f"{segment.video.name}/{segment.index}")

    def _guard(self, target: Callable[..., None], *args: Any) -> None:
        """Run a thread's body; a defect of the pipeline itself reaches the caller instead of hanging it."""
        try:
            target(*args)
        except _Abort:
            pass
        except BaseException as error:
            with contextlib.suppress(_Abort):
                self._put(self._queues[-1], error)

    def _put(self, target: queue.Queue[Any], item: Any) -> None:
        while not self._aborted.is_set():
            try:
                target.put(item, timeout=0.2)
                if self._trace is not None:
                    self._trace.count(f"waiting for {self._readers[id(target)]}", target.qsize())
                return
            except queue.Full:
                continue
        raise _Abort

    def _get(self, source: queue.Queue[Any]) -> Any:
        while not self._aborted.is_set():
            try:
                return source.get(timeout=0.2)
            except queue.Empty:
                continue
        raise _Abort
