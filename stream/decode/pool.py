"""Frame batches in memory that is allocated once: a bounded pool, and the wait for room in it.

A batch is leased; when the last array that looks at it is gone, its memory is free for the next batch of any
size that fits. So a run of one kind of video allocates a few times and then never again, and decoding stops
ahead of what follows it when the pool is full.

Several segments are decoded at once and used one after the other (:mod:`stream.decode.lanes`). Batches of a
segment whose turn has not come may not take the last room: the segment in turn would wait for them, and they
for it. Whoever uses batches may also keep some while it waits for the next one, which then is given in any
case: what is beyond the budget then is what the user keeps, and his own queues bound that.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from stream.config import Config
from stream.decode.device import Device, cuda_device

Array = Any


class Cancelled(Exception):
    """Nobody wants the segment any more; unwinds the thread that decodes it."""


@dataclass
class Turn:
    """A segment's place in the order of use. Of number -1 every batch is waited for when it is leased."""

    number: int = -1
    cancelled: threading.Event = field(default_factory=threading.Event)


class _Lease:
    """Held by the array of a batch and all its views; gives the memory back when the last of them goes."""

    def __init__(self, pool: FramePool, buffer: Array, turn: Turn) -> None:
        self._pool, self._buffer, self._turn = pool, buffer, turn

    def __del__(self) -> None:
        self._pool._give_back(self._buffer, self._turn)


class FramePool:
    """Memory for the frame batches of a run.

    Args:
        device: where it is.
        budget: bytes at most, but for a batch that somebody is waiting for. Raising it lets decoding run
            further ahead.

    Attributes:
        allocations: buffers allocated so far; stands still in the steady state.
        peak: most bytes that were allocated at a time.
    """

    POLL_S = 0.2  # how often a waiting lane looks whether it is still wanted

    def __init__(self, device: Device, budget: int) -> None:
        self.device = device
        self.budget = budget
        self.allocations = 0
        self.allocated = 0
        self.peak = 0
        self._turn = -1
        self._wanted = -1
        self._changed = threading.Condition(threading.RLock())
        self._free: list[Array] = []
        self._returned: deque[tuple[Array, Turn]] = deque()
        self._leased: dict[int, int] = {}  # turn -> bytes out

    @property
    def leased(self) -> int:
        """Bytes in use."""
        with self._changed:
            self._collect()
            return sum(self._leased.values())

    @property
    def turn(self) -> int:
        """Number of the segment in turn, -1 before the first. Those of another run go on from it."""
        return self._turn

    def advance(self, number: int) -> None:
        """The segment with this number is in turn."""
        with self._changed:
            self._turn = max(self._turn, number)
            self._changed.notify_all()

    def want(self, number: int) -> None:
        """Somebody is waiting for the next batch of the segment with this number, and can do nothing else."""
        with self._changed:
            self._wanted = number
            self._changed.notify_all()

    def satisfy(self, number: int) -> None:
        """A batch of the segment with this number is ready: nobody waits for one until they say so again."""
        with self._changed:
            if self._wanted == number:
                self._wanted = -1

    def trim(self) -> None:
        """Let go of what is free: for what comes after decoding, which may need the whole device."""
        with self._changed:
            self._collect()
            self.allocated -= sum(buffer.size for buffer in self._free)
            self._free.clear()

    def lease(self, shape: tuple[int, ...], turn: Turn) -> Array:
        """uint8 of ``shape``, not initialized; waits for room.

        Raises:
            Cancelled: ``turn`` was cancelled while waiting.
        """
        size = 1
        for side in shape:
            size *= side
        with self._changed:
            while (buffer := self._take(size, turn)) is None:
                if turn.cancelled.is_set():
                    raise Cancelled
                self._changed.wait(self.POLL_S)
        return self.device.view(buffer, shape, _Lease(self, buffer, turn))

    def _take(self, size: int, turn: Turn) -> Array | None:
        self._collect()
        out = sum(self._leased.values())
        # one batch for the segment in turn, and one that is being used, stay free of those that come later
        room = self.budget if turn.number <= self._turn else self.budget - 2 * size
        wanted = turn.number in (-1, self._wanted)
        if out + size > room and not wanted:
            return None
        buffer = self._fitting(size)
        if buffer is None:
            if not self._make_room(size) and not wanted:
                return None
            buffer = self.device.buffer(size)
            self.allocations += 1
            self.allocated += size
            self.peak = max(self.peak, self.allocated)
        self._leased[turn.number] = self._leased.get(turn.number, 0) + buffer.size
        return buffer

    def _fitting(self, size: int) -> Array | None:
        """The smallest free buffer that is large enough, and not twice as large."""
        fitting = [buffer for buffer in self._free if size <= buffer.size <= 2 * size]
        if not fitting:
            return None
        best = min(fitting, key=lambda buffer: buffer.size)
        self._free = [buffer for buffer in self._free if buffer is not best]
        return best

    def _make_room(self, size: int) -> bool:
        """Let free buffers of other sizes go until one of ``size`` fits the budget."""
        while self.allocated + size > self.budget and self._free:
            self.allocated -= self._free.pop().size
        return self.allocated + size <= self.budget

    def _collect(self) -> None:
        while self._returned:
            buffer, turn = self._returned.popleft()
            self._leased[turn.number] -= buffer.size
            if not self._leased[turn.number]:
                del self._leased[turn.number]
            self._free.append(buffer)

    def _give_back(self, buffer: Array, turn: Turn) -> None:
        # runs wherever the last reference goes, so it only leaves a message
        self._returned.append((buffer, turn))
        with self._changed:
            self._changed.notify_all()


@dataclass(frozen=True)
class FrameMemory:
    """Where a segment's frames are decoded to, and its turn."""

    pool: FramePool
    turn: Turn = field(default_factory=Turn)

    @property
    def device(self) -> Device:
        return self.pool.device


def memory_for(device: Device, config: Config) -> FrameMemory:
    """A pool in ``device`` with the share of what is free there that ``config`` allows."""
    return FrameMemory(FramePool(device, int(device.free_bytes() * config.decode.memory_share)))


@lru_cache(maxsize=4)
def _on_gpu(share: float, index: int) -> FramePool:
    device = cuda_device(index)
    return FramePool(device, int(device.free_bytes() * share))


def device_memory(config: Config, index: int = 0) -> FrameMemory:
    """The pool of a GPU, one for the process.

    Raises:
        ConfigError: there is no usable GPU; the message says what is missing.
    """
    return FrameMemory(_on_gpu(config.decode.memory_share, index))
