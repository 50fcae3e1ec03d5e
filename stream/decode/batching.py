"""Sampled frames become batches: pictures once, repetitions as held frames."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing

import av.error
import numpy as np
import numpy.typing as npt

from stream.batches import FrameBatch, HeldFrames, Segment
from stream.config import Config
from stream.decode.images import image_frames
from stream.decode.packets import reason
from stream.decode.pictures import Painter
from stream.decode.plan import plan_decode
from stream.decode.pyav import Taken, sampled_frames
from stream.decode.scan import BLOCK, Scan
from stream.errors import SourceError

Picture = npt.NDArray[np.uint8]

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
) -> Generator[FrameBatch, None, None]:
    """Decode the sampled frames of a segment, in batches of at most ``config.batch_size`` pictures.

    A frame that shows the picture delivered last is not delivered again: it becomes an entry of ``held``,
    always in the batch that has its picture. Closing the generator closes the decoder.

    Args:
        segment: from :func:`stream.sources.plan_segments`.
        config: ``interval``, ``sampling``, ``batch_size``, ``held``, ``shot`` and ``threads`` are used.
        note: called with a sentence for each thing that was damaged or worked around.
        frames: those of the segment, in order, where they are decoded already (a live stream).

    Raises:
        SourceError: nothing of the segment can be decoded although something should be there.
    """
    notes: list[str] = []

    def tell(text: str) -> None:
        notes.append(text)
        note(text)

    batches = (
        _images(segment, config, tell)
        if segment.video.kind == "images"
        else _video(segment, config, tell, frames)
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


def _images(
    segment: Segment, config: Config, note: Callable[[str], None]
) -> Generator[FrameBatch, None, None]:
    batch = _Batch(segment, config.batch_size)
    for number, (position, picture) in enumerate(image_frames(segment, note)):
        if batch.full or not batch.fits(picture):
            yield from batch.take()
        batch.add(picture, float(position), position, number, number)  # each image is a shot of its own
    yield from batch.take()


def _video(
    segment: Segment,
    config: Config,
    note: Callable[[str], None],
    frames: Generator[Taken, None, None] | None,
) -> Generator[FrameBatch, None, None]:
    video = segment.video
    painter = Painter(video, config.threads or 2)
    scan = Scan(config.held, config.shot)
    rate = video.frame_rate or 25.0
    if segment.index == 0 and "streams" in video.facts:
        note(video.facts["streams"])
    batch = _Batch(segment, config.batch_size)
    number = 0
    if frames is None:
        frames = sampled_frames(segment, config, plan_decode(video, config), note)
    with closing(frames):
        for taken in frames:
            held, cut = scan.look(painter.small(taken.frame, BLOCK))
            if not (taken.sampled or cut):
                continue
            index = round(taken.time * rate)
            if held and number:
                batch.hold(taken.time, index, number - 1)
                continue
            if batch.full:
                yield from batch.take()
            scan.deliver()
            batch.add(painter.rgb(taken.frame), taken.time, index, number, scan.shot)
            number += 1
    yield from batch.take()


class _Batch:
    """Frames being gathered. Pixels go straight into the array that is handed on."""

    def __init__(self, segment: Segment, size: int) -> None:
        self.segment = segment
        self.size = size
        self._clear()

    def _clear(self) -> None:
        self._room = self.size
        self._images: Picture | None = None
        self._rows: list[tuple[float, int, int, int]] = []
        self._held: list[tuple[float, int, int]] = []

    @property
    def full(self) -> bool:
        return len(self._rows) >= self._room

    def fits(self, picture: Picture) -> bool:
        return self._images is None or self._images.shape[1:] == picture.shape

    def add(self, picture: Picture, time: float, index: int, number: int, shot: int) -> None:
        if self._images is None:
            self._room = max(1, min(self.size, MAX_BATCH_BYTES // picture.nbytes))
            self._images = np.empty((self._room, *picture.shape), np.uint8)
        self._images[len(self._rows)] = picture
        self._rows.append((time, index, number, shot))

    def hold(self, time: float, index: int, of: int) -> None:
        self._held.append((time, index, of))

    def take(self) -> Iterator[FrameBatch]:
        """Hand over what is there, if anything."""
        if self._images is None:
            return
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
