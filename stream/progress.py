"""How a run tells where it is: a bar on a terminal, JSON lines for a server's log, or nothing."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Literal, Protocol, TextIO

from stream.files import text

LogStyle = Literal["auto", "rich", "json", "quiet"]


class Progress(Protocol):
    """What a run tells. ``advance`` comes often and cheap; ``note`` is said once for a person to read.

    ``quarantined`` names an input that cannot be used, the station that found out, and why.
    """

    def begin(self, segments: int, video_seconds: float) -> None: ...

    def advance(self, frames: int, video_seconds: float) -> None: ...

    def segment_done(self, name: str, crops: int) -> None: ...

    def note(self, message: str) -> None: ...

    def quarantined(self, uri: str, stage: str, reason: str) -> None: ...

    def end(self) -> None: ...


class Quiet:
    """Says nothing."""

    def begin(self, segments: int, video_seconds: float) -> None:
        pass

    def advance(self, frames: int, video_seconds: float) -> None:
        pass

    def segment_done(self, name: str, crops: int) -> None:
        pass

    def note(self, message: str) -> None:
        pass

    def quarantined(self, uri: str, stage: str, reason: str) -> None:
        pass

    def end(self) -> None:
        pass


class _Counter:
    """Frames and seconds so far, and the rates that follow."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.total_s = 0.0
        self.done_s = 0.0
        self.frames = 0

    def rates(self) -> dict[str, Any]:
        elapsed = max(time.monotonic() - self.start, 1e-6)
        speed = self.done_s / elapsed
        left = (self.total_s - self.done_s) / speed if speed and self.total_s > self.done_s else None
        return {
            "frames": self.frames,
            "frames_per_s": round(self.frames / elapsed, 1),
            "times_real_time": round(speed, 1),
            "eta_s": None if left is None else round(left),
        }


class JsonLines:
    """One JSON object a line on stderr, at most one progress line every ``every_s`` seconds."""

    def __init__(self, stream: TextIO | None = None, every_s: float = 5.0) -> None:
        self._stream = stream or sys.stderr
        self._every_s = every_s
        self._last = 0.0
        self._counter = _Counter()

    def _line(self, event: str, **values: Any) -> None:
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        print(json.dumps({"time": moment, "event": event, **values}), file=self._stream, flush=True)

    def begin(self, segments: int, video_seconds: float) -> None:
        self._counter = _Counter()
        self._counter.total_s = video_seconds
        self._line("begin", segments=segments, video_seconds=round(video_seconds, 3))

    def advance(self, frames: int, video_seconds: float) -> None:
        self._counter.frames += frames
        self._counter.done_s += video_seconds
        if time.monotonic() - self._last >= self._every_s:
            self._last = time.monotonic()
            self._line("progress", **self._counter.rates())

    def segment_done(self, name: str, crops: int) -> None:
        self._line("segment", segment=name, crops=crops)

    def note(self, message: str) -> None:
        self._line("note", message=message)

    def quarantined(self, uri: str, stage: str, reason: str) -> None:
        self._line("quarantined", uri=text(uri), stage=stage, reason=text(reason))

    def end(self) -> None:
        self._line("end", **self._counter.rates())


class Bar:
    """A live line on a terminal: share done, frames/s, times real time, time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._console = Console(stderr=True)
        self._counter = _Counter()
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[rates]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task: Any = None

    def begin(self, segments: int, video_seconds: float) -> None:
        self._counter = _Counter()
        self._counter.total_s = video_seconds
        plural = "segment" if segments == 1 else "segments"
        self._task = self._bar.add_task(f"{segments} {plural}", total=video_seconds or None, rates="")
        self._bar.start()

    def advance(self, frames: int, video_seconds: float) -> None:
        self._counter.frames += frames
        self._counter.done_s += video_seconds
        rates = self._counter.rates()
        shown = f"{rates['frames_per_s']} frames/s, {rates['times_real_time']}x real time"
        self._bar.update(self._task, completed=self._counter.done_s, rates=shown)

    def segment_done(self, name: str, crops: int) -> None:
        pass

    def note(self, message: str) -> None:
        self._console.print(message, style="yellow", markup=False, highlight=False, soft_wrap=True)

    def quarantined(self, uri: str, stage: str, reason: str) -> None:
        self.note(f"quarantined: {reason}")

    def end(self) -> None:
        self._bar.stop()


class Lines(Quiet):
    """Notes as plain lines on stderr: where there is no terminal for a bar."""

    def note(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    def quarantined(self, uri: str, stage: str, reason: str) -> None:
        self.note(f"quarantined: {reason}")


def make_progress(style: LogStyle) -> Progress:
    """'auto' takes the bar on a terminal and plain lines elsewhere."""
    if style == "json":
        return JsonLines()
    if style == "rich" or (style == "auto" and sys.stderr.isatty()):
        return Bar()
    return Quiet() if style == "quiet" else Lines()
