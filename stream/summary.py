"""What a run did, as one flat object for people and for machines."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stream.errors import EXIT_DEFECT, EXIT_DONE, EXIT_INTERRUPTED, EXIT_QUARANTINED

if TYPE_CHECKING:
    from stream.store import SegmentInfo


@dataclass(frozen=True)
class Summary:
    """What a run did. Counts are those of the whole work folder, times those of this run."""

    out: str
    videos: int = 0
    frames: int = 0  # looked at, held ones too
    held_frames: int = 0  # of those, recognized as repeats and not detected again
    detections: int = 0  # boxes found; those of held frames are not found again
    crops: int = 0  # rows of the segment files, held frames' too
    tracks: int = 0
    clusters: int = 0
    segments: int = 0  # of this run's plan
    segments_done_before: int = 0  # of those, by an earlier run
    seconds: float = 0.0
    times_real_time: float = 0.0  # seconds of video done in this run, per second
    peak_rss_bytes: int = 0
    quarantined: tuple[dict[str, str], ...] = ()
    fallbacks: tuple[dict[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    report: str | None = None
    interrupted: bool = False
    defects: int = 0  # of the quarantined, those that are errors of ours

    @property
    def exit_code(self) -> int:
        """0 done, 1 a defect of ours, 3 done with quarantined inputs, 130 interrupted."""
        if self.interrupted:
            return EXIT_INTERRUPTED
        if self.defects:
            return EXIT_DEFECT
        return EXIT_QUARANTINED if self.quarantined else EXIT_DONE


def folder_counts(infos: Sequence[SegmentInfo]) -> dict[str, Any]:
    """What the segment files of a work folder hold together, by the names of :class:`Summary`."""
    return {
        "videos": len({info.video for info in infos}),
        "frames": sum(len(info.frames) for info in infos),
        "held_frames": sum(int(info.frames.held.sum()) for info in infos),
        "detections": sum(info.notes.get("detections", 0) for info in infos),
        "crops": sum(info.crops for info in infos),
    }


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def release_memory() -> None:
    """Give what streaming has freed back to the system, so that clustering does not come on top of it."""
    import pyarrow as pa

    gc.collect()
    pa.default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it; elsewhere nothing is to be done
        ctypes.CDLL("libc.so.6").malloc_trim(0)
