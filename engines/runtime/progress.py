"""How far the building of an engine is: one line that says what is done, and about how long it takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO


@dataclass(frozen=True)
class BuildState:
    """Where a build is. ``share`` is 0..1, of the builder's own steps, which are not equally long.

    ``eta_s`` is what is left at the pace so far; None at the beginning.
    """

    name: str
    phase: str
    share: float
    elapsed_s: float
    eta_s: float | None
    done: bool = False

    def __str__(self) -> str:
        if self.done:
            return f"built {self.name} in {lasting(self.elapsed_s)}"
        left = "" if self.eta_s is None else f", about {lasting(self.eta_s)} left"
        return f"building {self.name}: {self.share:4.0%}, {lasting(self.elapsed_s)}{left}  ({self.phase})"


OnProgress = Callable[[BuildState], None]


def lasting(seconds: float) -> str:
    """A duration for people: "8 s", "3 min 20 s"."""
    whole = round(seconds)
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60} s"


class BuildLine:
    """Tells a build on a stream: on a terminal one line, written over; elsewhere a line every ``every_s``.

    A build that ends within a second is not told at all.
    """

    def __init__(self, stream: TextIO | None = None, every_s: float = 30.0) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._every_s = 0.2 if self._terminal else every_s
        self._last: float | None = None
        self._told = False
        self._width = 0

    def __call__(self, state: BuildState) -> None:
        now = time.monotonic()
        if state.done:
            if self._told:
                self._write(str(state), end="\n")
            self._last, self._told = None, False
            return
        first = self._last is None and state.elapsed_s >= 1.0
        due = self._last is not None and now - self._last >= self._every_s
        if first or due:
            self._last, self._told = now, True
            self._write(str(state), end="" if self._terminal else "\n")

    def _write(self, line: str, end: str) -> None:
        if self._terminal:
            padded = line.ljust(self._width)
            self._width = len(line)
            line = "\r" + padded
        self._stream.write(line + end)
        self._stream.flush()
