"""How far the building of an engine is: one line that says what is done, and about how long it takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO


@dataclass(frozen=True)
class BuildState:
    """Where a build is.

    ``phase`` is the builder's own word, ``steps`` how many of it are done and of how many, None where it is
    in one step. ``expected_s`` is what the whole takes by what earlier builds took; None: there were none.
    """

    name: str
    phase: str
    elapsed_s: float
    expected_s: float | None = None
    steps: tuple[int, int] | None = None
    done: bool = False

    def __str__(self) -> str:
        if self.done:
            return f"built {self.name} in {lasting(self.elapsed_s)}"
        left = ", no estimate yet"
        if self.expected_s is not None and self.elapsed_s < self.expected_s:
            left = f", about {lasting(self.expected_s - self.elapsed_s)} left"
        elif self.expected_s is not None:
            left = f", longer than the {lasting(self.expected_s)} that were expected"
        steps = "" if self.steps is None else f", {self.steps[0]} of {self.steps[1]}"
        return f"building {self.name}: {lasting(self.elapsed_s)}{left} ({self.phase}{steps})"


OnProgress = Callable[[BuildState], None]


def lasting(seconds: float) -> str:
    """A duration for people: "0.4 s", "8 s", "3 min 20 s"."""
    if seconds < 0.95:
        return f"{max(0.1, seconds):.1f} s"
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
