"""Which frames: decided on packets, before anything is decoded.

The sampled frame for a target time ``t = k x interval`` is the first frame, in the order of presentation,
whose time is not before ``t``. A demuxer tells the presentation time of every packet for next to nothing, so
the answer is known before the decoder is asked: pictures that nothing refers to are skipped unless they are
the answer, and whole groups of pictures (GOPs) without an answer are never handed to the decoder. What comes
out is exactly what a full decode would have given.

This module knows no FFmpeg: it sees packets as :class:`Coded` and is tested with hand-made ones.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol


class Rule(Protocol):
    """Says of each frame, in presentation order, whether it is taken. Times are ticks from the start."""

    done: bool

    def takes(self, pts: int, key: bool) -> bool: ...


def _ceil(value: Fraction) -> int:
    return math.ceil(value)


class EveryInterval:
    """The first frame at or after each multiple of ``interval`` seconds, within ``start_s <= t < end_s``.

    Arithmetic is exact (integers and fractions), so that two segments that meet never both take a frame, and
    never both leave it.
    """

    def __init__(self, interval: float, time_base: Fraction, start_s: float, end_s: float) -> None:
        self.interval = Fraction(str(interval))
        self.time_base = time_base
        self.start = self._tick(start_s)
        self.end: int | None = None if math.isinf(end_s) else self._tick(end_s)
        first = _ceil(self._exact(start_s) / self.interval)
        self.next = _ceil(first * self.interval / time_base)  # ticks of the next target
        self.without = 0  # targets that share the frame of a later one: pauses, or a part that is lost
        self._index = first
        self.done = self.end is not None and self.next >= self.end

    def _exact(self, seconds: float) -> Fraction:
        """A segment's border is a multiple of the interval that went through a float: undo the rounding."""
        nearest = round(seconds / float(self.interval)) * self.interval
        return nearest if abs(float(nearest) - seconds) < 1e-6 else Fraction(seconds)

    def _tick(self, seconds: float) -> int:
        return _ceil(self._exact(seconds) / self.time_base)

    def takes(self, pts: int, key: bool = False) -> bool:
        if self.end is not None and pts >= self.end:
            self.done = True
            return False
        if pts < self.next:
            return False
        passed = math.floor(pts * self.time_base / self.interval)
        self.without += passed - self._index
        self._index = passed + 1
        self.next = _ceil((passed + 1) * self.interval / self.time_base)
        if self.end is not None and self.next >= self.end:
            self.done = True
        return pts >= self.start


class EveryKeyframe(EveryInterval):
    """Every keyframe of the file within ``start_s <= time < end_s``."""

    def __init__(self, interval: float, time_base: Fraction, start_s: float, end_s: float) -> None:
        super().__init__(interval, time_base, start_s, end_s)
        self.done = False

    def takes(self, pts: int, key: bool = False) -> bool:
        if self.end is not None and pts >= self.end:
            self.done = True
            return False
        return key and pts >= self.start


@dataclass(slots=True, eq=False)
class Coded:
    """One packet, as the picker sees it. Ticks count from the stream's start."""

    packet: Any
    pts: int
    dts: int | None
    size: int
    key: bool = False  # decoding can start here
    shown: bool = True  # False: decodes to no frame of its own (hidden reference, discarded by an edit list)
    wanted: bool | None = None  # None: not known yet
    fed: bool = False
    restart: bool = False  # packets before it were left out: the decoder starts anew here
    leading: bool = False  # presented before the restart it follows: it cannot be decoded


class OutOfOrder(Exception):
    """The timestamps contradict each other; packets cannot be trusted to say what frames there are."""


#: Frames that may come before one in decoding order and after it in presentation; H.264 allows 16.
MOST_UNSETTLED = 250


class PacketPicker:
    """Turns packets in decoding order into the ones worth decoding.

    Args:
        rule: says which presentation times are taken.
        keep_all: never leave out a group of pictures (every one of its reference pictures is looked at).
        keys_only: only keyframes can be taken, so nothing else is fed.
        limit_bytes: packets that may wait until it is known whether they are needed. Raising it lets longer
            groups of pictures be left out and takes memory. Beyond it they are fed without waiting.

    ``wanted`` holds the times taken so far; ``settled`` is the time up to which the decision has been made.
    """

    def __init__(
        self,
        rule: Rule,
        *,
        keep_all: bool = False,
        keys_only: bool = False,
        limit_bytes: int = 48 << 20,
        limit_packets: int = 6000,
    ) -> None:
        self.rule = rule
        self.keep_all = keep_all
        self.keys_only = keys_only
        self.limit_bytes = limit_bytes
        self.limit_packets = limit_packets
        self.settled = -(1 << 62)
        self.wanted: deque[int] = deque()
        self._pending: deque[Coded] = deque()  # decoding order, not fed yet
        self._bytes = 0
        self._waiting: list[tuple[int, int, Coded]] = []  # by presentation time, not settled yet
        self._count = 0
        self._left_out = False

    def push(self, coded: Coded) -> Iterator[Coded]:
        """Take the next packet in decoding order; yield those to decode now.

        Raises:
            OutOfOrder: a frame belongs before frames already decided.
        """
        if coded.shown and coded.pts < self.settled and not self.rule.done:
            raise OutOfOrder(f"a frame at tick {coded.pts} comes after {self.settled} was settled")
        if len(self._waiting) > MOST_UNSETTLED:
            raise OutOfOrder("the packets do not tell their decoding times")
        self._count += 1
        if not self.keys_only or coded.key:
            coded.restart = self._left_out
            self._left_out = False
            self._pending.append(coded)
            self._bytes += coded.size
        else:
            self._left_out = True
        heapq.heappush(self._waiting, (coded.pts, self._count, coded))
        if coded.dts is not None:
            # what is yet to come is decoded later, so it cannot be presented before this time
            yield from self._settle(coded.dts)
        if self._bytes > self.limit_bytes or len(self._pending) > self.limit_packets:
            yield from self._feed_through(self._pending[-1])
        elif self.keep_all:
            settled = [c for c in self._pending if c.wanted is not None]
            if settled:
                yield from self._feed_through(settled[-1])

    def jump(self) -> None:
        """Packets go on from another place before the next target; everything that waits is not needed."""
        self._pending.clear()
        self._waiting.clear()
        self._bytes = 0
        self._left_out = False
        self.settled = -(1 << 62)

    def finish(self) -> Iterator[Coded]:
        """The stream has ended: decide the rest."""
        yield from self._settle(1 << 62)

    def _settle(self, horizon: int) -> Iterator[Coded]:
        while self._waiting and self._waiting[0][0] <= horizon and not self.rule.done:
            coded = heapq.heappop(self._waiting)[2]
            coded.wanted = coded.shown and self.rule.takes(coded.pts, coded.key)
            if coded.shown:
                self.settled = max(self.settled, coded.pts)
            if coded.key and not coded.fed and not self.keep_all:
                self._leave_out_before(coded)
            if coded.wanted:
                self.wanted.append(coded.pts)
                yield from self._feed_through(coded)
        if self.rule.done:
            self.settled = 1 << 62

    def _leave_out_before(self, key: Coded) -> None:
        """Everything presented before this keyframe is settled, and what was needed is already fed."""
        before = []
        for coded in self._pending:
            if coded is key:
                break
            before.append(coded)
        if not before or any(coded.wanted is None for coded in before):
            return
        key.restart = True
        kept = list(self._pending)[len(before) :]
        for coded in kept:
            coded.leading = coded is not key and coded.pts < key.pts
        self._pending = deque(kept)
        self._bytes = sum(coded.size for coded in kept)

    def _feed_through(self, last: Coded) -> Iterator[Coded]:
        if last.fed:
            return
        while self._pending:
            coded = self._pending.popleft()
            self._bytes -= coded.size
            coded.fed = True
            yield coded
            if coded is last:
                return
