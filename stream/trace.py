"""What each station did when: a trace for chrome://tracing and Perfetto, and ranges for NVIDIA's profilers.

The file is in the Trace Event Format: one complete event for each batch of each station, one row per thread,
counters for the queues between them. NVTX ranges of the same names appear in Nsight Systems beside the
kernels.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stream.errors import ConfigError

#: Events kept at most, about 60 MB of file: the beginning of a run shows how it works.
MOST_EVENTS = 400_000


def check_writable(path: str | Path) -> None:
    """Raise ConfigError where no trace can be written: better before a run of hours than after it."""
    path = Path(path)
    if path.is_dir():
        raise ConfigError(f"trace {path}: expected the name of a file, found a folder")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ConfigError(
            f"trace {path}: nothing can be written there ({error.strerror}); give another path"
        ) from error


class Trace:
    """Collects events from any thread.

    Args:
        ranges: also mark NVTX ranges, through CuPy; without CuPy that does nothing.
        most: events kept at most; those after it are counted, and told in the file. Raising it takes memory.
    """

    def __init__(self, *, ranges: bool = False, most: int = MOST_EVENTS) -> None:
        self._events: list[dict[str, Any]] = []
        self._threads: dict[int, str] = {}
        self._most = most
        self._left_out = 0
        self._lock = threading.Lock()
        self._start = time.perf_counter()
        self._nvtx = _nvtx() if ranges else None

    @contextlib.contextmanager
    def span(self, name: str, **about: Any) -> Iterator[dict[str, Any]]:
        """One piece of work of the calling thread; ``about`` is shown with it, and may be added to inside."""
        if self._nvtx is not None:
            self._nvtx.RangePush(name)
        begin = time.perf_counter()
        try:
            yield about
        finally:
            end = time.perf_counter()
            if self._nvtx is not None:
                self._nvtx.RangePop()
            self._add(name, "X", begin, {"dur": round(1e6 * (end - begin), 1), "args": about})

    def count(self, name: str, value: int) -> None:
        """The value of a counter from now on."""
        self._add(name, "C", time.perf_counter(), {"args": {name: value}})

    def _add(self, name: str, kind: str, at: float, rest: dict[str, Any]) -> None:
        thread = threading.get_ident()
        event = {"name": name, "ph": kind, "ts": round(1e6 * (at - self._start), 1), "pid": 1, "tid": thread}
        with self._lock:
            if len(self._events) >= self._most:
                self._left_out += 1
                return
            self._threads.setdefault(thread, threading.current_thread().name)
            self._events.append(event | rest)

    def write(self, path: str | Path) -> Path:
        """Write what was collected so far, atomically.

        Raises:
            OSError: the file cannot be written.
        """
        with self._lock:
            names = [
                {"name": "thread_name", "ph": "M", "pid": 1, "tid": thread, "args": {"name": name}}
                for thread, name in self._threads.items()
            ]
            content = {
                "displayTimeUnit": "ms",
                "otherData": {"events_left_out": self._left_out},
                "traceEvents": [*names, *self._events],
            }
        path = Path(path)
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(content))
        part.replace(path)
        return path


def _nvtx() -> Any:
    try:
        from cupy.cuda import nvtx
    except ImportError:
        return None
    return nvtx
