"""Sampled frames become batches: pictures once, repetitions as held frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any, Protocol

import av.error
import numpy as np
import numpy.typing as npt

from stream.batches import FrameBatch, HeldFrames, Segment
from stream.config import Config
from stream.decode.images import image_frames
from stream.decode.packets import reason
from stream.decode.pictures import Painter
from stream.decode.plan import plan_decode
from stream.decode.pool import FrameMemory, device_memory
from stream.decode.pyav import Taken
from stream.decode.scan import BLOCK, Scan
from stream.decode.source import decoded_frames
from stream.decode.surfaces import DevicePainter
from stream.errors import SourceError

Picture = npt.NDArray[np.uint8]
Array = Any  # numpy.ndarray or cupy.ndarray

#: Bytes of pixels in one batch at most, whatever ``batch_size`` says: only huge pictures come near it.
MAX_BATCH_BYTES = 256 << 20


def _silent(_: str) -> None:
    return None


def decode_segment(
    segment: Segment,
    config: Config,
    *,
    note: Callable[[str], None] = _silent,
    frames: Generator[Taken, None, None] | None = None,
    memory: FrameMemory | None = None,
) -> Generator[FrameBatch, None, None]:
    """Decode the sampled frames of a segment, in batches of at most ``config.batch_size`` pictures.

    A frame that shows the picture delivered last is not delivered again: it becomes an entry of ``held``,
    always in the batch that has its picture. Closing the generator closes the decoder.

    Args:
        segment: from :func:`stream.sources.plan_segments`.
        config: ``interval``, ``sampling``, ``batch_size``, ``held``, ``shot``, ``threads``, ``device`` and
            ``decode`` are used. With device 'cuda' images are CuPy arrays, finished when the batch is given;
            with 'cpu' and 'auto' they are NumPy's: who runs a GPU decides that frames go there.
        note: called with a sentence for each thing that was damaged or worked around.
        frames: those of the segment, in order, where they are decoded already (a live stream).
        memory: where images lie; None: one for the process on the GPU, and the host's without a bound. Who
            gives one has its results of a batch on the host before letting the batch go.

    Raises:
        ConfigError: the device or the decoder that ``config`` names cannot be had.
        SourceError: nothing of the segment can be decoded although something should be there.
    """
    notes: list[str] = []

    def tell(text: str) -> None:
        notes.append(text)
        note(text)

    if memory is None and config.device == "cuda":
        memory = device_memory(config)
    batches = (
        _images(segment, config, tell, memory)
        if segment.video.kind == "images"
        else _video(segment, config, tell, frames, memory)
    )
    empty = True
    with closing(batches):
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                break
            except (av.error.FFmpegError, MemoryError) as error:
                raise SourceError(
                    f"{segment.video.uri}: its pictures cannot be converted ({reason(error)}); "
                    "check that it plays, or leave it out"
                ) from error
            empty = False
            yield batch
            del batch  # or its pixels would live until the next batch is whole
    if empty and segment.start_s == 0:
        detail = f" ({'; '.join(notes[:3])})" if notes else ""
        raise SourceError(
            f"{segment.video.uri}: no frame can be decoded{detail}; check that it plays, or leave it out"
        )


class _Frames(Protocol):
    """Makes pictures of decoded frames: on the host, or :class:`~stream.decode.surfaces.DevicePainter`."""

    @property
    def ahead(self) -> int: ...  # frames that may be looked at before the first answer is asked for

    def look(self, frame: Any) -> Callable[[], Picture]: ...

    def paint(self, frame: Any, out: Array) -> None: ...

    def finish(self) -> None: ...


class _HostFrames:
    """Everything at once, by :class:`Painter`."""

    ahead = 0

    def __init__(self, painter: Painter) -> None:
        self._painter = painter

    def look(self, frame: Any) -> Callable[[], Picture]:
        small = self._painter.small(frame, BLOCK)
        return lambda: small

    def paint(self, frame: Any, out: Array) -> None:
        out[:] = frame if isinstance(frame, np.ndarray) else self._painter.rgb(frame)

    def finish(self) -> None:
        pass


@contextmanager
def _painting(segment: Segment, config: Config, memory: FrameMemory | None) -> Iterator[_Frames]:
    threads = config.threads or 2
    if memory is None:
        yield _HostFrames(Painter(segment.video, threads))
        return
    painter = DevicePainter(segment.video, memory.device, threads)
    try:
        yield painter
    finally:
        # a batch that is given up may still be painted, and its memory is somebody else's in a moment
        painter.finish()


def _images(
    segment: Segment, config: Config, note: Callable[[str], None], memory: FrameMemory | None
) -> Generator[FrameBatch, None, None]:
    with _painting(segment, config, memory) as painter:
        batch = _Batch(segment, config.batch_size, painter, memory)
        for number, (position, picture) in enumerate(image_frames(segment, note)):
            size = picture.shape[:2]
            if batch.full or not batch.fits(size):
                yield from batch.take()
            # each image is a shot of its own
            batch.add(picture, size, float(position), position, number, number)
        yield from batch.take()


def _video(
    segment: Segment,
    config: Config,
    note: Callable[[str], None],
    frames: Generator[Taken, None, None] | None,
    memory: FrameMemory | None,
) -> Generator[FrameBatch, None, None]:
    video = segment.video
    scan = Scan(config.held, config.shot)
    rate = video.frame_rate or 25.0
    if segment.index == 0 and "streams" in video.facts:
        note(video.facts["streams"])
    size = (video.height, video.width)
    number = 0
    if frames is None:
        gpu = memory.device.index if memory is not None and memory.device.xp is not np else None
        plan = plan_decode(video, config, on_device=gpu is not None)
        frames = decoded_frames(segment, config, plan, note, device=gpu)
    with _painting(segment, config, memory) as painter, closing(frames):
        batch = _Batch(segment, config.batch_size, painter, memory)
        for taken, small in _looked_at(frames, painter):
            held, cut = scan.look(small)
            if not (taken.sampled or cut):
                continue
            index = round(taken.time * rate)
            if held and number:
                batch.hold(taken.time, index, number - 1)
                continue
            if batch.full:
                yield from batch.take()
            scan.deliver()
            batch.add(taken.frame, size, taken.time, index, number, scan.shot)
            number += 1
        yield from batch.take()


def _looked_at(frames: Generator[Taken, None, None], painter: _Frames) -> Iterator[tuple[Taken, Picture]]:
    """Frames with their small versions, some frames late where those take a way to the host."""
    waiting: deque[tuple[Taken, Callable[[], Picture]]] = deque()
    for taken in frames:
        waiting.append((taken, painter.look(taken.frame)))
        if len(waiting) > painter.ahead:
            first, small = waiting.popleft()
            yield first, small()
    while waiting:
        first, small = waiting.popleft()
        yield first, small()


class _Batch:
    """Frames being gathered. Pixels go straight into the array that is handed on."""

    def __init__(self, segment: Segment, size: int, painter: _Frames, memory: FrameMemory | None) -> None:
        self.segment = segment
        self.size = size
        self._painter = painter
        self._memory = memory
        self._clear()

    def _clear(self) -> None:
        self._room = self.size
        self._images: Array | None = None
        self._rows: list[tuple[float, int, int, int]] = []
        self._held: list[tuple[float, int, int]] = []

    @property
    def full(self) -> bool:
        return len(self._rows) >= self._room

    def fits(self, size: tuple[int, ...]) -> bool:
        return self._images is None or self._images.shape[1:3] == size

    def add(self, frame: Any, size: tuple[int, ...], time: float, index: int, number: int, shot: int) -> None:
        if self._images is None:
            height, width = size
            self._room = max(1, min(self.size, MAX_BATCH_BYTES // (height * width * 3)))
            self._images = self._allocate((self._room, height, width, 3))
        self._painter.paint(frame, self._images[len(self._rows)])
        self._rows.append((time, index, number, shot))

    def _allocate(self, shape: tuple[int, ...]) -> Array:
        if self._memory is None:
            return np.empty(shape, np.uint8)
        return self._memory.pool.lease(shape, self._memory.turn)

    def hold(self, time: float, index: int, of: int) -> None:
        self._held.append((time, index, of))

    def take(self) -> Iterator[FrameBatch]:
        """Hand over what is there, if anything."""
        if self._images is None:
            return
        self._painter.finish()
        times, indices, numbers, shots = zip(*self._rows, strict=True)
        held = tuple(zip(*self._held, strict=True)) or ((), (), ())
        batch = FrameBatch(
            self.segment,
            self._images[: len(self._rows)],
            np.array(times, np.float64),
            np.array(indices, np.int64),
            np.array(numbers, np.int64),
            np.array(shots, np.int32),
            HeldFrames(
                np.array(held[0], np.float64), np.array(held[1], np.int64), np.array(held[2], np.int64)
            ),
        )
        self._clear()
        yield batch
