"""Interlaced frames become progressive ones, with their real neighbours at hand."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
import av.filter

Frame = Any


class Deinterlacer:
    """Passes frames through; an interlaced one that is wanted goes through FFmpeg's ``bwdif`` with the frame
    before and the frame after it. Progressive frames are returned as they came.

    ``push`` gives back (frame, wanted) pairs one frame late where that is needed.
    """

    def __init__(self) -> None:
        self._before: Frame | None = None
        self._held: Frame | None = None  # wanted and interlaced, waits for the frame after it

    @property
    def waiting(self) -> bool:
        return self._held is not None

    def push(self, frame: Frame, wanted: bool) -> Iterator[tuple[Frame, bool]]:
        if self._held is not None:
            held, self._held = self._held, None
            yield bwdif(self._before, held, frame), True
            self._before = held
        if wanted and frame.interlaced_frame:
            self._held = frame
            return
        self._before = frame
        yield frame, wanted

    def finish(self) -> Iterator[tuple[Frame, bool]]:
        if self._held is not None:
            yield bwdif(self._before, self._held, None), True
            self._held = None


def bwdif(before: Frame | None, frame: Frame, after: Frame | None) -> Frame:
    """``frame`` deinterlaced at its own rate; neighbours of another size or format are not used."""
    fit = [
        other
        if other is not None
        and (other.width, other.height, other.format.name) == (frame.width, frame.height, frame.format.name)
        else None
        for other in (before, after)
    ]
    time_base = frame.time_base or Fraction(1, 90000)
    graph = av.filter.Graph()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = graph.add_buffer(template=frame, time_base=time_base)
    # without neighbours bwdif takes everything for unmoved and keeps the comb: then from one field alone
    name, mode = ("bwdif", "send_frame") if any(fit) else ("estdif", "frame")
    filtered = graph.add(name, f"mode={mode}:parity=auto:deint=interlaced")
    sink = graph.add("buffersink")
    graph.link_nodes(source, filtered, sink).configure()
    inputs = [f for f in (fit[0], frame, fit[1]) if f is not None]
    place = 1 if fit[0] is not None else 0
    outputs: list[Frame] = []
    for item in [*inputs, None]:
        graph.vpush(item)
        while True:
            try:
                outputs.append(graph.vpull())
            except (av.error.BlockingIOError, av.error.EOFError):
                break
    result = outputs[place] if place < len(outputs) else frame
    result.pts = frame.pts
    result.time_base = time_base
    return result
