"""Decoding with FFmpeg (PyAV): the sampled frames of a segment, exactly and fast.

Two ways lead to the same frames:

- ``packets``: :class:`~stream.decode.sampling.PacketPicker` says what to feed. Pictures that nothing
  refers to are skipped in the decoder (``skip_frame=NONREF``, set per packet: frame threads copy it with
  each packet), and groups of pictures without a target are not fed at all.
- ``whole``: every packet is decoded and frames are chosen by the times the decoder gives them. For streams
  whose packets carry no presentation times, for interlaced ones (a frame needs its neighbours), and wherever
  the first way did not deliver a frame that it should have (damage, gradual refresh).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av.error

from stream.batches import Segment
from stream.config import Config
from stream.decode.interlace import Deinterlacer, bwdif
from stream.decode.packets import Accelerator, Note, PacketReader, reason
from stream.decode.plan import DecodePlan, Unfit
from stream.decode.sampling import Coded, EveryInterval, EveryKeyframe, OutOfOrder, PacketPicker

Frame = Any  # av.VideoFrame


#: Bytes to the next sampled frame from which on it is jumped to. Raising it reads more and jumps less.
JUMP_BYTES = 6 << 20


@dataclass(frozen=True)
class Taken:
    """A decoded frame, in order. ``sampled`` False: only looked at, to find where shots begin."""

    frame: Frame
    time: float
    sampled: bool = True


def sampling_rule(segment: Segment, config: Config, time_base: Fraction) -> EveryInterval:
    """Which frames of the segment are taken, in ticks of ``time_base``."""
    kind = EveryKeyframe if config.sampling == "keyframes" else EveryInterval
    return kind(config.interval, time_base, segment.start_s, segment.end_s)


class Damage:
    """Counts what could not be decoded, to be told once.

    Args:
        strict: damage raises :class:`Unfit` instead: the decoder does not say how well it mended it.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.packets = 0
        self.frames = 0
        self.without = 0

    def decode(self, context: Any, packet: Any) -> list[Frame]:
        if self.strict and packet is not None and packet.is_corrupt:
            raise Unfit("a packet is damaged")
        try:
            frames = list(context.decode(packet))
        except av.error.EOFError:
            return []
        except (av.error.FFmpegError, ValueError) as error:
            if self.strict:
                raise Unfit(f"a packet does not decode ({reason(error)})") from error
            self.packets += 1
            return []
        damaged = sum(frame.is_corrupt for frame in frames)
        if damaged and self.strict:
            raise Unfit("a decoded frame is damaged")
        self.frames += damaged
        return frames

    def tell(self, note: Note) -> None:
        if self.packets:
            note(f"damaged packets skipped: {self.packets}")
        if self.frames:
            note(f"{self.frames} decoded frames are damaged, mended as the decoder could")
        if self.without:
            note(
                f"{self.without} sampling times have no frame of their own: the interval is shorter than a"
                " frame, or the stream pauses or lost parts there"
            )


def sampled_frames(
    segment: Segment, config: Config, plan: DecodePlan, note: Note, *, after: float | None = None
) -> Generator[Taken, None, None]:
    """Frames of a video segment in presentation order, decoded on the CPU.

    Args:
        after: frames up to and including this time have been delivered already, by another decoder.

    Raises:
        SourceError: the source cannot be opened or stopped answering.
    """
    damage = Damage()
    try:
        if plan.way == "packets":
            try:
                for taken in frames_by_packets(segment, config, note, damage):
                    if after is None or taken.time > after:
                        after = taken.time
                        yield taken
                return
            except (Unfit, OutOfOrder) as why:
                note(f"{why}; the rest of the segment is decoded whole")
        yield from _whole(segment, config, note, damage, after)
    finally:
        damage.tell(note)


def frames_by_packets(
    segment: Segment, config: Config, note: Note, damage: Damage, accelerator: Accelerator | None = None
) -> Generator[Taken, None, None]:
    """Frames of a segment, feeding the decoder no more than they need.

    Args:
        damage: is told of what does not decode.
        accelerator: opens a hardware decoder in place of FFmpeg's own; its frames stay on the device.

    Raises:
        Unfit, OutOfOrder: the stream is not of the kind that this can be done with, from here on.
        SourceError: the source cannot be opened or stopped answering.
    """
    with PacketReader(segment, note, threads=config.threads, accelerator=accelerator) as reader:
        time_base = reader.time_base
        scene = config.sampling == "scene"
        rule = sampling_rule(segment, config, time_base)
        picker = PacketPicker(rule, keep_all=scene, keys_only=config.sampling == "keyframes")

        def missed(tick: int) -> str:
            return (
                f"the frame due at {tick * float(time_base):.3f} s does not decode from its group of pictures"
            )

        early: list[Frame] = []  # decoded before it was known whether they are wanted

        def deliver(frames: list[Frame], final: bool = False) -> Iterator[Taken]:
            early.extend(f for f in frames if f.pts is not None)
            while early and (final or early[0].pts <= picker.settled):
                frame = early.pop(0)
                wanted = picker.wanted
                if wanted and wanted[0] < frame.pts:
                    raise Unfit(missed(wanted[0]))
                if wanted and wanted[0] == frame.pts:
                    if frame.interlaced_frame:
                        if config.sampling != "keyframes" or accelerator is not None:
                            raise Unfit(f"it is interlaced from {float(frame.pts * time_base):.3f} s on")
                        frame = bwdif(None, frame, None)  # a keyframe comes without its neighbours
                    wanted.popleft()
                    yield Taken(frame, float(frame.pts * time_base))
                elif scene and rule.start <= frame.pts and (rule.end is None or frame.pts < rule.end):
                    yield Taken(frame, float(frame.pts * time_base), sampled=False)

        def feed(coded: Coded) -> Iterator[Taken]:
            context = reader.context
            unwanted = coded.wanted is False
            if unwanted and (reader.anatomy.unreferenced(coded.packet) or (coded.leading and lead_dropped)):
                return
            if coded.restart and not reader.anatomy.clean_start(coded.packet):
                yield from deliver(damage.decode(context, None))
                context.flush_buffers()
            context.skip_frame = "NONREF" if unwanted else "DEFAULT"
            yield from deliver(damage.decode(context, coded.packet))

        lead_dropped = reader.anatomy.drops_leading
        far = _far(reader, config)
        here: int | None = None  # decoding time at which the last jump was made
        packets = reader.packets()
        while not rule.done:
            following = next(packets, None)
            if following is None:
                for coded in picker.finish():
                    yield from feed(coded)
                break
            packet, pts, dts = following
            if pts is None:
                raise OutOfOrder("a packet has no presentation time")
            if here is not None and dts is not None:
                if dts <= here:
                    far = None  # the index is too coarse to get ahead by it
                here = None
            for coded in picker.push(reader.coded(packet, pts, dts)):
                yield from feed(coded)
            if far is not None and dts is not None and rule.next - dts > far and not rule.done:
                yield from deliver(damage.decode(reader.context, None), final=True)
                if picker.wanted:
                    break
                here = dts
                if not reader.skip_to(rule.next):
                    far = None
                picker.jump()
                packets = reader.packets()
        yield from deliver(damage.decode(reader.context, None), final=True)
        damage.without = rule.without
        if picker.wanted:
            raise Unfit(missed(picker.wanted[0]))


def _far(reader: PacketReader, config: Config) -> int | None:
    """Ticks to the next target beyond which the file is not read through but jumped in, if ever.

    Not feeding a group of pictures costs nothing but reading it. Jumping empties the decoder, so it must save
    reading a good deal. Only containers whose index is to be trusted, and where one lands is checked.
    """
    video = reader.video
    gop = video.facts.get("gop_s")
    size = reader.container.size
    indexed = str(video.facts.get("format", "")).startswith(("mov", "matroska"))
    if not indexed or not gop or not video.duration_s or size <= 0 or config.sampling != "interval":
        return None
    seconds = max(2 * gop, JUMP_BYTES * video.duration_s / size)
    return int(seconds / reader.time_base) if seconds < config.interval else None


def _whole(
    segment: Segment, config: Config, note: Note, damage: Damage, after: float | None
) -> Iterator[Taken]:
    """Every frame is decoded; frames up to and including time ``after`` have been delivered already."""
    facts = segment.video.facts
    from_start = not facts.get("pts", True) and segment.entry is None
    preroll = 2 * facts.get("gop_s", 0.0) + 1.0
    with PacketReader(
        segment, note, from_start=from_start, preroll_s=preroll, threads=config.threads
    ) as reader:
        time_base = reader.time_base
        rule = sampling_rule(segment, config, time_base)
        scene = config.sampling == "scene"
        keys = config.sampling == "keyframes"
        deinterlacer = Deinterlacer()
        stamps = _Stamps(reader.frame_ticks, config.threads or os.cpu_count() or 1, facts.get("pts", True))

        def choose(frames: list[Frame]) -> Iterator[Taken]:
            for frame in frames:
                if (pts := stamps.time_of(frame)) is None:
                    continue
                if rule.done:
                    return
                take = rule.takes(pts, bool(frame.key_frame))
                inside = rule.start <= pts and (rule.end is None or pts < rule.end)
                frame.pts, frame.time_base = pts, time_base
                for ready, wanted in deinterlacer.push(frame, take):
                    seconds = float(ready.pts * time_base)
                    if after is not None and seconds <= after:
                        continue
                    if wanted:
                        yield Taken(ready, seconds)
                    elif scene and inside:
                        yield Taken(ready, seconds, sampled=False)

        if keys:
            reader.context.skip_frame = "NONKEY"
        for packet, _, dts in reader.packets():
            stamps.fed(dts)
            yield from choose(damage.decode(reader.context, packet))
            if rule.done and not deinterlacer.waiting:
                break
        yield from choose(damage.decode(reader.context, None))
        for ready, wanted in deinterlacer.finish():
            seconds = float(ready.pts * time_base)
            if wanted and (after is None or seconds > after):
                yield Taken(ready, seconds)
        damage.without = rule.without


class _Stamps:
    """Presentation times of decoded frames that carry none (AVI, raw streams).

    Frames come out in the order of presentation, one for each packet, so the n-th frame out has the n-th
    decoding time that went in. A packet that gave no frame is noticed when times fall behind what the decoder
    can hold back, and left out.
    """

    MOST_HELD = 32  # frames a decoder holds back at most: reordering and one for each thread

    def __init__(self, frame_ticks: int, threads: int, trusted: bool) -> None:
        self._step = max(1, frame_ticks)
        self._last: int | None = None
        self._trusted = trusted
        self._open: deque[int] = deque()
        self._limit = self.MOST_HELD + threads

    def fed(self, dts: int | None) -> None:
        """A packet was handed to the decoder."""
        if dts is not None:
            self._open.append(dts)
            if len(self._open) > self._limit:
                self._open.popleft()

    def time_of(self, frame: Frame) -> int | None:
        """Ticks, or None for a frame that is not later than the one before it."""
        pts: int | None = frame.pts if self._trusted else None
        if pts is None and self._open:
            pts = self._open.popleft()
        if pts is None:
            pts = 0 if self._last is None else self._last + self._step
        if self._last is not None and pts <= self._last:
            return None
        self._last = pts
        return pts
