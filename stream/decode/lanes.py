"""Several segments decoded at once, their batches handed out in the order of the segments.

A GPU has several video decoders, and one stream of packets keeps one of them busy at most. So as many
segments are decoded side by side as there are *lanes*: threads, each with a decoder and a queue of device
work of its own. What follows wants one segment after the other: its batches are passed on as they come,
those of later ones wait in the pool (:mod:`stream.decode.pool`), and a lane without room there stops. A lane
that is done with its segment goes on to the next, up to :data:`AHEAD` segments for each lane.

::

    segments --ahead()--> lanes: | 3 ....      |
                                 | 4 ..        |  --decode(3)--> batches of 3, then decode(4), ...
                                 | 5 .         |
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from stream.batches import FrameBatch, Segment, Video
from stream.config import Config
from stream.decode.batching import decode_segment
from stream.decode.device import CudaDevice, HostDevice
from stream.decode.nvdec import engine_count
from stream.decode.plan import DecodePlan, plan_decode
from stream.decode.pool import Cancelled, FrameMemory, Turn, device_memory, memory_for
from stream.trace import Trace

Note = Callable[[str], None]
Decode = Callable[[Segment, Note, FrameMemory], Iterator[FrameBatch]]

#: Segments begun or waiting for each lane. Raising it bridges segments of very different length.
AHEAD = 2

#: Seconds that closing waits for lanes to end what they are doing.
CLOSE_S = 10.0


@dataclass(eq=False)
class _Task:
    """A segment on its way: what its lane has delivered and nobody has taken yet."""

    segment: Segment
    turn: Turn
    ready: deque[Any] = field(default_factory=deque)  # FrameBatch, str (a note), or BaseException
    ended: bool = False


class Lanes:
    """Decodes ahead. Use :meth:`ahead` around the segments, and :meth:`decode` for each of them in order.

    Args:
        decode: opens a segment and yields its batches, in the memory it is given.
        count: segments decoded at once. Raising it keeps more decoders busy and takes memory for each.
        memory: whose pool the batches lie in; its budget is what bounds how far decoding runs ahead.
        trace: told what each lane did when.
    """

    def __init__(self, decode: Decode, count: int, memory: FrameMemory, trace: Trace | None = None) -> None:
        if count < 1:
            raise ValueError(f"Lanes: expected at least 1, got {count}")
        self.count = count
        self.memory = memory
        self._decode = decode
        self._trace = trace
        self._changed = threading.Condition()
        self._waiting: deque[_Task] = deque()
        self._tasks: dict[int, _Task] = {}  # by id of the segment
        self._current: _Task | None = None  # being handed out
        self._number = memory.pool.turn + 1
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"lane {i}", daemon=True) for i in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ahead(self, segments: Iterable[Segment]) -> Iterator[Segment]:
        """The same segments in the same order; the next ones are being decoded when one is given."""
        begun: deque[Segment] = deque()
        for segment in segments:
            self._begin(segment)
            begun.append(segment)
            if len(begun) >= AHEAD * self.count:
                yield begun.popleft()
        yield from begun

    def _begin(self, segment: Segment) -> None:
        with self._changed:
            task = _Task(segment, Turn(self._number))
            self._number += 1
            self._tasks[id(segment)] = task
            self._waiting.append(task)
            self._changed.notify_all()

    def decode(self, segment: Segment, note: Note) -> Generator[FrameBatch, None, None]:
        """Batches of a segment that :meth:`ahead` gave. Closing it gives up the segment.

        Raises:
            KeyError: :meth:`ahead` did not give it, or it was decoded before.
            Cancelled: the lanes were closed before its end.
            Exception: what its decoding raised, after the batches before it.
        """
        with self._changed:
            task = self._current = self._tasks.pop(id(segment))
        self.memory.pool.advance(task.turn.number)
        try:
            while (item := self._next(task)) is not None:
                if isinstance(item, str):
                    note(item)
                elif isinstance(item, BaseException):
                    raise item
                else:
                    yield item
                del item
        finally:
            task.turn.cancelled.set()
            task.ready.clear()

    def _next(self, task: _Task) -> Any:
        with self._changed:
            while not task.ready:
                if self._closed:
                    raise Cancelled  # and not an end, which would make a whole segment of a part
                if task.ended:
                    return None
                self.memory.pool.want(task.turn.number)
                self._changed.wait()
            return task.ready.popleft()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._closed:
                        return
                    self._changed.wait()
                task = self._waiting.popleft()
            self._run(task)

    def _run(self, task: _Task) -> None:
        memory = FrameMemory(self.memory.pool, task.turn)
        try:
            decoding: Any = self._decode(task.segment, lambda text: self._put(task, text), memory)
            with closing(decoding):
                while (batch := self._next_of(decoding, task.segment)) is not None:
                    memory.pool.satisfy(task.turn.number)
                    self._put(task, batch)
                    del batch
                    if task.turn.cancelled.is_set():
                        break
        except Cancelled:
            pass
        except BaseException as error:
            self._put(task, error)
        with self._changed:
            task.ended = True
            self._changed.notify_all()

    def _next_of(self, decoding: Iterator[FrameBatch], segment: Segment) -> FrameBatch | None:
        if self._trace is None:
            return next(decoding, None)
        with self._trace.span("decode in a lane", segment=f"{segment.video.name}/{segment.index}"):
            return next(decoding, None)

    def _put(self, task: _Task, item: Any) -> None:
        with self._changed:
            if not task.turn.cancelled.is_set():
                task.ready.append(item)
                self._changed.notify_all()

    def close(self) -> None:
        """Give up what is begun and end the lanes; a decoder that hangs is left behind."""
        with self._changed:
            self._closed = True
            current = () if self._current is None else (self._current,)
            for task in (*self._tasks.values(), *self._waiting, *current):
                task.turn.cancelled.set()
                task.ready.clear()
            self._tasks.clear()
            self._waiting.clear()
            self._changed.notify_all()
        deadline = time.monotonic() + CLOSE_S
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))


class SegmentDecoder:
    """Decodes the segments of a run, one at a time or several, on the CPU or to a GPU, as the config says.

    Raises:
        ConfigError: device 'cuda' and there is none.
    """

    def __init__(self, config: Config, trace: Trace | None = None) -> None:
        self._config = config
        self._lanes: Lanes | None = None
        self._on_gpu = config.device == "cuda"
        self._memory = memory = device_memory(config) if self._on_gpu else None
        count = config.decode.lanes
        if count is None:
            # one more than decoders, so that none waits while a lane opens its next file
            count = engine_count(_gpu_name(memory)) + 1 if memory is not None else 1
        self.count = count
        if count > 1:
            self._lanes = Lanes(self._open, count, memory or memory_for(HostDevice(), config), trace)

    def _open(self, segment: Segment, note: Note, memory: FrameMemory) -> Iterator[FrameBatch]:
        return decode_segment(segment, self._config, note=note, memory=memory)

    def plan(self, video: Video) -> DecodePlan:
        """How the video's segments are decoded, and why."""
        return plan_decode(video, self._config, on_device=self._on_gpu)

    def ahead(self, segments: Iterable[Segment]) -> Iterator[Segment]:
        """The segments in their order, to be decoded one after the other by :meth:`decode`."""
        return iter(segments) if self._lanes is None else self._lanes.ahead(segments)

    def decode(self, segment: Segment, note: Note) -> Generator[FrameBatch, None, None]:
        """Batches of one of :meth:`ahead`, as :func:`stream.decode.decode_segment` gives them."""
        if self._lanes is None:
            return decode_segment(segment, self._config, note=note)
        return self._lanes.decode(segment, note)

    def close(self) -> None:
        """End what is begun, and give its memory back: clustering comes next, on the same GPU."""
        if self._lanes is not None:
            self._lanes.close()
            self._lanes.memory.pool.trim()
        if self._memory is not None:
            self._memory.pool.trim()


def _gpu_name(memory: FrameMemory) -> str:
    assert isinstance(memory.device, CudaDevice)
    return memory.device.name
