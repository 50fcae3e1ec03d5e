"""CuPy arrays in and out of an engine: CuPy itself, and order between streams."""

from __future__ import annotations

import threading
from typing import Any

from engines.runtime.base import MissingRuntimeError

CAPTURING = threading.RLock()
"""Held while a CUDA graph is captured, and while the whole device is waited for: no thread may do the one
while another does the other, and torch captures one graph at a time."""


def import_cupy() -> Any:
    """The package ``cupy``.

    Raises:
        MissingRuntimeError: it is not installed, or does not start.
    """
    try:
        import cupy
    except Exception as error:  # it loads CUDA's libraries, and fails in their ways
        raise MissingRuntimeError(
            f"CuPy, which holds arrays on the GPU, does not load ({' '.join(str(error).split())[:200]});"
            " pip install 'cupy-cuda13x[ctk]'"
        ) from error
    return cupy


class Turns:
    """Lets calls on different streams take turns on buffers that they share, without the host waiting.

    Use it as ``with turns(stream): ...``, one thread at a time: what is enqueued inside begins after what was
    enqueued in the turn before has ended.
    """

    def __init__(self, cupy: Any) -> None:
        self._event = cupy.cuda.Event(block=False, disable_timing=True)
        self._stream: Any = None
        self._begun = False

    def __call__(self, stream: Any) -> Turns:
        self._stream = stream
        return self

    def __enter__(self) -> None:
        if self._begun:
            self._stream.wait_event(self._event)

    def __exit__(self, *_: object) -> None:
        self._event.record(self._stream)
        self._begun = True
