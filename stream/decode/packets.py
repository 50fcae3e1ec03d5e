"""The packets of one video stream, from a place in the file on, with times that count from its start.

Three things are put right here, so that nothing after it has to know of them: streams whose first time is not
zero, clocks that jump or wrap in the middle of a transport stream, and files that fail in the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
from av.stream import Discard

from stream.batches import Segment, Video
from stream.decode.sampling import Coded
from stream.errors import SourceError

Note = Callable[[str], None]

#: Gives the context of a hardware decoder for a stream, from the context that FFmpeg made for it.
Accelerator = Callable[[Any], Any]

#: Seconds of dts discontinuity that count as a jump of the clock rather than as a pause. The ``ffmpeg`` tool
#: uses the same two limits (``dts_delta_threshold``).
JUMP_FORWARD_S = 10.0
JUMP_BACK_S = 0.1
READ_TIMEOUT_S = 20.0
JOIN_PACKETS = 2000  # packets after which a stream is taken to have no keyframes that say so
TORN_PACKETS = 4  # packets after a jump to a byte whose times are not trusted
READ_ERRORS = 20  # read errors in a row after which the rest of a file is given up

#: Codecs whose keyframes need nothing of what the decoder saw before.
CLEAN_RESTART = frozenset(
    ("mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9", "av1", "libdav1d", "mjpeg", "prores", "theora")
)


def open_container(uri: str, timeout_s: float = READ_TIMEOUT_S) -> Any:
    """Open a file or URL; every blocking operation on it ends after ``timeout_s`` seconds.

    Raises:
        av.error.FFmpegError, OSError, ValueError: as PyAV raises them.
    """
    options = {"rw_timeout": str(int(timeout_s * 1e6))} if uri.startswith(("http:", "https:")) else {}
    if uri.startswith("rtsp:"):
        options = {"rtsp_transport": "tcp"}
    return av.open(
        uri, metadata_errors="replace", options=options, container_options=options, timeout=timeout_s
    )


def demux(container: Any, stream: Any) -> Iterator[Any]:
    """The stream's packets, without the empty ones that PyAV ends with.

    A stream that appears in the middle of a file makes PyAV 18 look beyond its list of streams at the end
    (``IndexError``): that is the end, too.
    """
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, IndexError):
            return
        if packet.size:
            yield packet


def has_clock_jumps(format_flags: int) -> bool:
    """Whether the container's clock may be discontinuous (transport and program streams)."""
    return bool(format_flags & 0x0200)  # AVFMT_TS_DISCONT


class Clock:
    """Maps a stream's own timestamps to ticks from its start, across jumps.

    After a jump the time line goes on with the duration of one frame, as if nothing had happened: a frame's
    time is then how long one has to play to see it, not what the broadcaster's clock said.
    """

    def __init__(self, start: int, time_base: Fraction, frame_ticks: int, jumps: bool) -> None:
        self.offset = -start
        self.jumps = 0
        self._watch = jumps
        self._forward = int(JUMP_FORWARD_S / time_base)
        self._back = int(JUMP_BACK_S / time_base)
        self._frame = max(1, frame_ticks)
        self._last: int | None = None

    def map(self, pts: int | None, dts: int | None) -> tuple[int | None, int | None]:
        if dts is not None:
            here = dts + self.offset
            if self._watch and self._last is not None:
                step = here - self._last
                if step > self._forward or step < -self._back:
                    self.offset += self._last + self._frame - here
                    self.jumps += 1
                    here = dts + self.offset
            self._last = here
        return (
            None if pts is None else pts + self.offset,
            None if dts is None else dts + self.offset,
        )


def nal_types(data: memoryview, length_size: int, *, limit: int = 64) -> Iterator[memoryview]:
    """The NAL units of an access unit, each from its header on (at least the first 3 bytes are there).

    Args:
        length_size: bytes of the length prefix; 0 where units are separated by start codes (Annex B).
        limit: units at most.
    """
    end = len(data)
    if length_size:
        at = 0
        while at + length_size + 2 < end and limit:
            size = int.from_bytes(data[at : at + length_size], "big")
            yield data[at + length_size : at + length_size + size]
            at += length_size + size
            limit -= 1
        return
    raw = bytes(data[: 1 << 16])  # the slice header that is asked for comes early
    at = raw.find(b"\0\0\1")
    while at >= 0 and at + 5 < len(raw) and limit:
        yield data[at + 3 :]
        at = raw.find(b"\0\0\1", at + 3)
        limit -= 1


class Anatomy:
    """What a packet's first bytes say: a clean start, a picture nothing refers to, a hidden picture."""

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self.codec = codec
        extra = extradata or b""
        self.length_size = 0
        self.one_layer = False
        if codec == "h264" and len(extra) > 6 and extra[0] == 1:
            self.length_size = (extra[4] & 3) + 1
        if codec == "hevc" and len(extra) > 22 and extra[0] == 1:
            self.length_size = (extra[21] & 3) + 1
            self.one_layer = (extra[21] >> 3) & 7 == 1
        elif codec == "hevc":
            self._read_vps(memoryview(extra))

    def _read_vps(self, data: memoryview) -> None:
        for unit in nal_types(data, self.length_size, limit=8):
            if len(unit) > 4 and (unit[0] >> 1) & 63 == 32:
                self.one_layer = (unit[3] >> 1) & 7 == 0  # vps_max_sub_layers_minus1
                return

    def clean_start(self, packet: Any) -> bool:
        """Whether decoding may start at this keyframe without emptying the decoder first."""
        if self.codec in CLEAN_RESTART:
            return True
        if self.codec == "h264":
            types = (unit[0] & 31 for unit in nal_types(memoryview(packet), self.length_size))
            return next((t for t in types if 1 <= t <= 5), 0) == 5
        if self.codec == "hevc":
            types = ((unit[0] >> 1) & 63 for unit in nal_types(memoryview(packet), self.length_size))
            return next((t for t in types if t < 32), 0) in (16, 17, 18, 19, 20)
        return False

    def unreferenced(self, packet: Any) -> bool:
        """Whether no other picture needs this one, where the decoder's own ``skip_frame`` cannot tell."""
        if packet.is_disposable:
            return True
        if self.codec == "hevc":
            for unit in nal_types(memoryview(packet), self.length_size):
                kind = (unit[0] >> 1) & 63
                if kind == 32 and not self.one_layer:
                    self._read_vps(memoryview(packet))
                if kind < 32:
                    # even types below 16 are "sub-layer non-reference" (H.265 table 7-1)
                    return self.one_layer and kind < 16 and kind % 2 == 0
        return False

    @property
    def drops_leading(self) -> bool:
        """Whether pictures presented before the keyframe they follow are left out after a restart there."""
        return self.codec in ("hevc", "mpeg1video", "mpeg2video", "mpeg4")

    def shown(self, packet: Any) -> bool:
        """Whether the packet decodes to a frame of its own."""
        if packet.is_discard:
            return False
        if self.codec == "vp8" and packet.size:
            return bool((memoryview(packet)[0] >> 4) & 1)
        return True


class PacketReader:
    """An open video stream. Use as a context manager; closing ends every thread of it.

    Args:
        segment: where to start: at the last keyframe not after ``start_s``, or before.
        note: called with a sentence for everything that was damaged.
        from_start: do not seek.
        preroll_s: start this much earlier than needed, for pictures that refresh gradually.
        accelerator: gives the decoder in place of FFmpeg's own.

    Raises:
        SourceError: the file cannot be opened any more, or the stream is gone.
    """

    def __init__(
        self,
        segment: Segment,
        note: Note,
        *,
        from_start: bool = False,
        preroll_s: float = 0.0,
        threads: int = 0,
        accelerator: Accelerator | None = None,
    ) -> None:
        self.video: Video = segment.video
        self.segment = segment
        self.note = note
        self.threads = threads
        self._accelerator = accelerator
        self.time_base = Fraction(*self.video.facts["time_base"])
        self.frame_ticks = round(1 / (self.video.frame_rate or 25) / self.time_base)
        self.at_start = True
        self._open()
        if segment.start_s > 0 and not from_start:
            try:
                found = self._seek(int(segment.start_s / self.time_base), preroll_s)
            except BaseException:
                self.close()
                raise
            if not found:  # nowhere trustworthy to start: read from the beginning
                self.close()
                self._open()
            self.at_start = not found

    def _open(self) -> None:
        facts = self.video.facts
        try:
            self.container = open_container(self.video.uri, facts.get("timeout_s", READ_TIMEOUT_S))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise SourceError(
                f"{self.video.uri}: cannot be opened any more ({reason(error)}); was it moved?"
            ) from error
        try:
            self.stream = self.container.streams[self.video.stream_index]
            self.context = self.stream.codec_context
            self.context.thread_type = "AUTO"
            self.context.thread_count = self.threads
            for other in self.container.streams:
                if other.index != self.video.stream_index:
                    other.discard = Discard.all
            self.anatomy = Anatomy(self.context.name, self.context.extradata)
            if self._accelerator is not None:
                self.context = self._accelerator(self.context)
        except (IndexError, AttributeError) as error:
            self.close()
            raise SourceError(
                f"{self.video.uri}: has no video stream {self.video.stream_index} any more; "
                "it changed since it was listed, run again"
            ) from error
        except BaseException:
            self.close()
            raise
        jumps = has_clock_jumps(self.container.format.flags)
        self.clock = Clock(facts["start"], self.time_base, self.frame_ticks, jumps)

    def __enter__(self) -> PacketReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.container.close()

    def skip_to(self, tick: int) -> bool:
        """Go on from the last keyframe not after ``tick``; start ``packets()`` anew. Empties the decoder.

        False: that place cannot be found, and packets start from the beginning again.
        """
        found = self._seek(tick, 0.0)
        if found:
            self.context.flush_buffers()  # seeking does that to the container's own decoder only
        else:
            self.close()
            self._open()
            self.at_start = True
        return found

    def _seek(self, want: int, preroll_s: float) -> bool:
        """Go to a keyframe presented at or before tick ``want``; check it, and go further back."""
        try:
            if self.segment.entry is not None:
                position, self.clock.offset = self.segment.entry
                self.container.seek(position, unsupported_byte_offset=True)
                return True
            for back_s in (0.0, 1.0, 10.0, 60.0, 600.0):
                target = want - int((back_s + preroll_s) / self.time_base)
                if target <= 0:
                    return False
                if self._seek_key(target, want):
                    return True
        except (av.error.FFmpegError, OSError):
            pass
        return False

    def _seek_key(self, target: int, latest: int) -> bool:
        """Seek to a keyframe near ``target``; whether it is one presented at ``latest`` at the latest."""
        self.container.seek(target - self.clock.offset, stream=self.stream)
        first = next(demux(self.container, self.stream), None)
        if first is None or not first.is_keyframe or first.pts is None:
            return False
        if first.pts + self.clock.offset > latest:
            return False
        self.container.seek(target - self.clock.offset, stream=self.stream)
        return True

    def packets(self) -> Iterator[tuple[Any, int | None, int | None]]:
        """Packets with their mapped (pts, dts); their own pts and dts are rewritten to the same.

        Raises:
            SourceError: a live source stopped answering.
        """
        errors = count = 0
        torn = 0 if self.at_start or self.segment.entry is None else TORN_PACKETS
        if self.video.duration_s is None and "timeout_s" in self.video.facts:
            torn = 1  # a live stream is joined in the middle of a group of pictures
        while True:
            try:
                for packet in demux(self.container, self.stream):
                    errors = 0
                    count += 1
                    pts, dts = self.clock.map(packet.pts, packet.dts)
                    torn -= 1
                    if torn > 0 or (torn == 0 and not packet.is_keyframe and count < JOIN_PACKETS):
                        torn = max(torn, 1)  # goes on until a keyframe
                        continue
                    packet.pts, packet.dts = pts, dts
                    yield packet, pts, dts
                break
            except (av.error.ExitError, av.error.TimeoutError) as error:  # PyAV's time-out, or the protocol's
                waited = self.video.facts.get("timeout_s", READ_TIMEOUT_S)
                if not count:
                    raise SourceError(
                        f"{self.video.uri}: no data for {waited:.0f} s; check the source and run again"
                    ) from error
                self.note(f"no data for {waited:.0f} s: taken as the end")
                break
            except (av.error.FFmpegError, OSError) as error:
                errors += 1
                self.note(f"a part of the file cannot be read ({reason(error)})")
                if errors >= READ_ERRORS:
                    break
        if self.clock.jumps:
            self.note(f"jumps of the clock: {self.clock.jumps}; the time line goes on without the gaps")

    def coded(self, packet: Any, pts: int, dts: int | None) -> Coded:
        return Coded(
            packet,
            pts,
            dts,
            packet.size,
            key=bool(packet.is_keyframe),
            shown=self.anatomy.shown(packet),
        )


def reason(error: BaseException) -> str:
    """An FFmpeg error in a few words, without its number and path."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split())
