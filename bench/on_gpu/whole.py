"""The whole pipeline on a film of an hour: hours of video per hour, each station's share, memory, bytes.

What bounds it should be the video decoders: the same file decoded alone is measured just before, and the
pipeline's rate is given as a share of that. What crosses to the host is counted by kind; device memory is
looked at twice a second, and ought to be as high in the last quarter as in the second.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.on_gpu.place import Figures, Place, Skipped


class _Memory:
    """Device memory in use, sampled in a thread of its own while the work runs."""

    def __init__(self, place: Place) -> None:
        self._place, self._end = place, threading.Event()
        self.samples: list[int] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        start = self._place.free_bytes()
        while not self._end.wait(0.5):
            self.samples.append(start - self._place.free_bytes())


def whole(place: Place, videos: list[Path], scratch: Path, quick: bool) -> Iterator[Figures]:
    """Figures of a run with the default networks, and of decoding alone.

    Raises:
        Skipped: a package that a run needs is missing.
    """
    try:
        from bench.on_gpu.decoding import decoded
        from bench.on_gpu.films import film
        from kernels.device import traffic
        from stream import load_config, run
    except ImportError as error:
        raise Skipped(f"the whole pipeline: {error}") from error
    file = videos[0] if videos else film(scratch, "h264", quick, minutes=60.0)
    began = time.perf_counter()
    alone = decoded(place, file, 1.0)
    limit = alone["video_s"] / (time.perf_counter() - began)
    yield {"decoding_alone_times_real_time": round(limit, 1)}
    settings: dict[str, Any] = {
        "device": "cpu" if place.rehearsal else "cuda",
        "adapt": {"mode": "off"},
        "segment_seconds": 60,
        "batch_size": 8 if place.rehearsal else 64,
        "trace": str(scratch / "trace.json"),
    }
    traffic.reset()
    with _Memory(place) as memory:
        summary = run(file, scratch / "work", load_config(values=settings), report=False)
    figures: Figures = {
        "whole_times_real_time": summary.times_real_time,
        "whole_hours_per_hour": summary.times_real_time,
        "whole_share_of_decoding": round(summary.times_real_time / limit, 4),
        "whole_crops": summary.crops,
        "whole_frames": summary.frames,
    }
    figures |= {f"to_host_bytes_{what}": count for what, count in traffic.read().items()}
    figures |= _shares(scratch / "work")
    samples = memory.samples
    if len(samples) >= 8:
        quarter = len(samples) // 4
        second, last = samples[quarter : 2 * quarter], samples[-quarter:]
        figures["device_memory_second_quarter_mb"] = round(statistics.median(second) / 2**20, 1)
        figures["device_memory_last_quarter_mb"] = round(statistics.median(last) / 2**20, 1)
    yield figures


def _shares(work: Path) -> Figures:
    """Each station's seconds of work as a share of the run's."""
    from stream.workdir import WorkFolder

    with WorkFolder.open(work, create=False, write=False) as folder:
        record = folder.read_run()
    total = max(record["seconds"], 1e-9)
    return {f"share_{name}": round(of["seconds"] / total, 4) for name, of in record["stations"].items()}
