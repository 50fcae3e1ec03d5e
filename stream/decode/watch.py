"""A decoder with a watchdog: one that gives nothing for too long is left behind.

It runs in a thread of its own, some frames ahead. A thread and not a process: the frames lie in this
process's device memory, where what follows works on them, and passing them from another process costs more
than the rare hang. The price is that a hung decoder cannot be killed. Its thread is abandoned with all that
it holds, as a daemon, so that it keeps neither the run nor its end; and because each of them costs memory, a
decoder that hung is not used again in this process (:func:`hung_before`).
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator
from typing import Any

from stream.decode.plan import NAMES, Unfit
from stream.decode.pyav import Taken

AHEAD = 3  # frames that may wait: each keeps its memory
_POLL_S = 0.1

_hung: dict[str, str] = {}  # decoder -> where it hung first


def hung_before(decoder: str) -> str | None:
    """Why this decoder is not used any more, as a clause; None if it is."""
    return _hung.get(decoder)


def watched(
    frames: Generator[Taken, None, None], decoder: str, patience_s: float, where: str
) -> Generator[Taken, None, None]:
    """The frames, decoded ahead in another thread.

    Args:
        frames: of one segment; closed in the thread that runs it.
        decoder: its name, as plans have it.
        patience_s: seconds without a frame after which it is left behind. Raising it is kinder to slow disks.
        where: the source, for the message of later segments.

    Raises:
        Unfit: it gave nothing for ``patience_s``.
        Exception: whatever ``frames`` raises.
    """
    results: queue.Queue[Any] = queue.Queue(AHEAD)
    left = threading.Event()

    def put(item: Any) -> bool:
        while not left.is_set():
            with contextlib.suppress(queue.Full):
                results.put(item, timeout=_POLL_S)
                return True
        return False

    def work() -> None:
        try:
            with contextlib.closing(frames):
                for taken in frames:
                    if not put(taken):
                        return
                    del taken  # or its memory would be held while the next is made
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name=f"decode by {decoder}", daemon=True)
    thread.start()
    hung = False
    try:
        while True:
            try:
                item = results.get(timeout=patience_s)
            except queue.Empty:
                hung = True
                _hung.setdefault(decoder, f"{NAMES[decoder]} hung on {where}")
                raise Unfit(f"{NAMES[decoder]} gave no frame for {patience_s:.0f} s") from None
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
            del item
    finally:
        left.set()
        if not hung:
            thread.join(timeout=patience_s)
