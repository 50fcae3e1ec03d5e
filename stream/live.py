"""Streams without an end, cut into segments as they come.

A live source is connected to once and read on and on; its frames are dealt out to one segment after the
other, each ``segment_seconds`` of stream time. Memory depends on one segment, not on how long it goes on.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction

from stream.batches import FrameBatch, Segment, Video
from stream.config import Config
from stream.decode.batching import decode_segment
from stream.decode.plan import plan_decode
from stream.decode.pyav import Taken, sampled_frames
from stream.errors import SourceError


def is_live(segment: Segment) -> bool:
    """Whether the segment stands for all that a source without an end is going to send."""
    return math.isinf(segment.end_s)


class LiveSource:
    """One connection to a live source: :meth:`segments` in order, each decoded by :meth:`decode`.

    Both are called from one thread, a segment being decoded before the next is asked for. A segment begins
    where the one before ends, at a multiple of the sampling interval; one in which nothing came is left out.

    Args:
        video: from :func:`stream.sources.find_videos`.
        config: ``segment_seconds`` and all that decoding uses.
        stopped: set when recording shall end: the segment in work ends there, with what it has.
    """

    def __init__(self, video: Video, config: Config, stopped: threading.Event) -> None:
        self.video = video
        self._config = config
        self._stopped = stopped
        interval = Fraction(str(config.interval))
        steps = max(1, math.ceil(Fraction(str(config.segment_seconds)) / interval))
        self._length = steps * interval
        self._next: Taken | None = None  # read already, and of a later segment
        self._failure: Exception | None = None
        self._note: Callable[[str], None] = lambda _: None
        self._frames = self._read()

    def segments(self) -> Iterator[Segment]:
        """Segments for as long as frames come; the last may be one whose decoding raises why none do."""
        segment = self._segment(0)
        while True:
            yield segment
            while (frame := self._peek()) is not None and frame.time < segment.end_s:
                self._next = None  # the segment was given up before its end
            if self._failure is not None:
                yield self._segment(segment.index + 1)
                return
            if frame is None:
                return
            segment = self._segment(int(Fraction(frame.time) / self._length))

    def decode(self, segment: Segment, note: Callable[[str], None]) -> Generator[FrameBatch, None, None]:
        """Batches of one of :meth:`segments`, as :func:`stream.decode.decode_segment` gives them.

        Raises:
            SourceError: the source cannot be opened, or sent nothing that can be decoded.
        """
        self._note = note
        try:
            yield from decode_segment(segment, self._config, note=note, frames=self._until(segment.end_s))
        except SourceError:
            if not self._stopped.is_set():  # else nothing has come yet, and nothing is wrong with that
                raise

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(ValueError):  # still waiting for data in a thread that was given up
            self._frames.close()

    def _segment(self, index: int) -> Segment:
        return Segment(self.video, index, float(index * self._length), float((index + 1) * self._length))

    def _until(self, end_s: float) -> Generator[Taken, None, None]:
        while (frame := self._peek()) is not None and frame.time < end_s:
            self._next = None
            yield frame
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _peek(self) -> Taken | None:
        """The next frame, None at the end. An error is kept for the segment that it belongs to."""
        if self._next is None and self._failure is None and not self._stopped.is_set():
            try:
                self._next = next(self._frames, None)
            except Exception as error:
                self._failure = error
        return self._next

    def _read(self) -> Generator[Taken, None, None]:
        whole = Segment(self.video, 0, 0.0)
        plan = plan_decode(self.video, self._config)
        yield from sampled_frames(whole, self._config, plan, lambda text: self._note(text))
