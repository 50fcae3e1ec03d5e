"""A video's segments: the units of work, of resume and of distribution, cut where decoding can start."""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections import deque
from fractions import Fraction
from typing import Any

import av.error

from stream.batches import Segment, Video
from stream.decode.packets import PacketReader, demux, open_container
from stream.probe import is_url

MARGIN_PACKETS = 8  # between the place where reading starts and the keyframe that it is for
BYTE_SEEKS = frozenset(("mpegts", "mpeg"))  # containers that can be entered at any byte
SLACK_S = 1.0  # the last segment ends this much after the duration that the header claims


def plan_segments(video: Video, segment_seconds: float, interval_s: float) -> list[Segment]:
    """Cut a video into segments of about ``segment_seconds``.

    Each border is the first sampling time at or after a keyframe: every sampled frame belongs to exactly one
    segment, and a segment decodes next to nothing that it does not need. Where keyframes are rarer than
    segments, segments are longer. Images are cut by their number, one a second.

    Transport and program streams are read through once, because their own clocks cannot be trusted to find a
    place again; everything else is asked for its keyframes near each border. A file that cannot seek is one
    segment. A live stream is one without an end, cut as it comes: see :mod:`stream.live`.

    Args:
        segment_seconds: aimed at. Raising it makes fewer, longer segments.
        interval_s: seconds between sampled frames.

    Raises:
        SourceError: the file cannot be read any more.
    """
    if video.kind == "images":
        count = len(video.files)
        step = max(1, math.ceil(segment_seconds))
        return [
            Segment(video, i, float(start), float(min(start + step, count)))
            for i, start in enumerate(range(0, count, step))
        ]
    remote = is_url(video.uri)
    if remote and video.duration_s is None:
        return [Segment(video, 0, 0.0)]
    interval = Fraction(str(interval_s))
    if not remote and (
        video.facts.get("jumps") or video.duration_s is None or not video.facts.get("pts", True)
    ):
        every, duration = _scan(video)
        keys = _wanted(every, segment_seconds, duration)
        video = dataclasses.replace(video, duration_s=duration)  # a header is wrong about a clock that jumps
    else:
        duration = video.duration_s or 0.0
        keys = _asked(video, segment_seconds, duration)
    borders: list[tuple[float, tuple[int, int] | None]] = []
    last = Fraction(0)
    for key_s, entry in keys:
        border = math.ceil(key_s / interval) * interval
        if border - last >= Fraction(segment_seconds) / 2 and border < duration:
            borders.append((float(border), entry))
            last = border
    starts = [(0.0, None), *borders]
    end = max(duration, starts[-1][0]) + max(SLACK_S, interval_s)
    return [
        Segment(video, i, start, starts[i + 1][0] if i + 1 < len(starts) else end, entry)
        for i, (start, entry) in enumerate(starts)
    ]


_Keys = list[tuple[Fraction, tuple[int, int] | None]]


def _wanted(every: _Keys, segment_seconds: float, duration: float) -> _Keys:
    """Of all keyframes the last ones before the wanted borders, as seeking finds them."""
    keys: _Keys = []
    every = sorted(every, key=lambda key: key[0])
    times = [key_s for key_s, _ in every]
    wanted = segment_seconds
    while wanted < duration:
        at = bisect.bisect_right(times, wanted) - 1
        if at >= 0:
            keys.append(every[at])
        wanted += segment_seconds
    return keys


def _asked(video: Video, segment_seconds: float, duration: float) -> _Keys:
    """Keyframes near the wanted borders, by seeking."""
    base = Fraction(*video.facts["time_base"])
    start = video.facts["start"]
    keys: _Keys = []
    try:
        with open_container(video.uri, video.facts.get("timeout_s", 20.0)) as container:
            stream = container.streams[video.stream_index]
            wanted = segment_seconds
            while wanted < duration:
                container.seek(int(Fraction(wanted) / base) + start, stream=stream)
                first = next(demux(container, stream), None)
                if first is not None and first.is_keyframe and first.pts is not None:
                    keys.append(((first.pts - start) * base, None))
                wanted += segment_seconds
    except (av.error.FFmpegError, OSError, ValueError, IndexError):
        pass  # it cannot seek: one segment
    return keys


def _scan(video: Video) -> tuple[_Keys, float]:
    """Every keyframe with its place in the file, and the true duration: one pass over the packets."""
    whole = Segment(video, 0, 0.0)
    facts: dict[str, Any] = video.facts
    keys: _Keys = []
    end = count = 0
    timed = facts.get("pts", True)
    # reading starts two keyframes earlier: the first picture after a jump to a byte may be torn, and the
    # demuxer then gives its time to the next; and a gradual refresh needs a whole round
    places: deque[tuple[int, tuple[int, int]]] = deque()  # packet number, (byte, clock offset)
    with PacketReader(whole, lambda _: None) as reader:
        watched = timed and reader.container.format.name in BYTE_SEEKS
        for packet, pts, dts in reader.packets():
            count += 1
            time = pts if pts is not None else dts
            if time is None:
                end = max(end, count * reader.frame_ticks)
                continue
            end = max(end, time + reader.frame_ticks)
            if packet.is_keyframe and timed:
                while len(places) > 2 and places[1][0] <= count - MARGIN_PACKETS:
                    places.popleft()
                far = len(places) > 1 and places[0][0] <= count - MARGIN_PACKETS
                keys.append((time * reader.time_base, places[0][1] if far else None))
                if watched and packet.pos is not None and packet.pos >= 0:
                    places.append((count, (packet.pos, reader.clock.offset)))
        duration = float(end * reader.time_base)
        if reader.clock.jumps and not watched:
            keys = []  # no place in it can be found again
    return keys, duration
