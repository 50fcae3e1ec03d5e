"""What a run did, as one flat object for people and for machines."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream.errors import EXIT_DEFECT, EXIT_DONE, EXIT_INTERRUPTED, EXIT_QUARANTINED, EXIT_USAGE

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
    seconds: float = 0.0  # without those of adaptation
    times_real_time: float = 0.0  # seconds of video done in this run, per second
    peak_rss_bytes: int = 0  # until adaptation, where there was one
    adapted: bool = False  # whether the clusters are of adapted embeddings, of this run or an earlier one
    adapt_seconds: float = 0.0
    adapt_peak_rss_bytes: int = 0  # of the whole run, with adaptation
    adaptation: dict[str, Any] | None = None  # what this run's did: kept, reason, before, after, ...
    adapt_failed: bool = False  # it was to be done (adapt.mode: on) and could not be
    quarantined: tuple[dict[str, str], ...] = ()
    fallbacks: tuple[dict[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    report: str | None = None
    interrupted: bool = False
    defects: int = 0  # of the quarantined, those that are errors of ours

    @property
    def exit_code(self) -> int:
        """0 done, 1 a defect of ours, 3 done with quarantined inputs, 130 interrupted.

        2 where all is done but an adaptation that had to be.
        """
        if self.interrupted:
            return EXIT_INTERRUPTED
        if self.defects:
            return EXIT_DEFECT
        if self.adapt_failed:
            return EXIT_USAGE
        return EXIT_QUARANTINED if self.quarantined else EXIT_DONE

    def as_text(self) -> str:
        """A few lines for people."""
        from stream.report.words import count, lasting, rate

        if self.interrupted:
            return self._stopped()
        if not self.segments and self.quarantined:
            kept = Path(self.out, "quarantine.jsonl")
            return "No input could be used" + (f": see {kept}" if kept.exists() else ".")
        # as the report says it
        speed = f" ({rate(self.times_real_time)}x real time)" if self.times_real_time else ""
        lines = [
            f"{count(self.clusters, 'cluster')} from {count(self.crops, 'crop')}"
            f" in {count(self.frames, 'frame')} of {count(self.videos, 'video')},"
            f" {lasting(self.seconds)}{speed}"
        ]
        if self.adaptation is not None:
            head = "Adapted to the show" if self.adaptation.get("kept") else "Not adapted to the show"
            lines.append(f"{head} in {lasting(self.adapt_seconds)} more: {self.adaptation.get('reason')}")
        if self.segments_done_before:
            were = "was" if self.segments_done_before == 1 else "were"
            lines.append(
                f"{self.segments_done_before} of {count(self.segments, 'segment')} {were} done before"
            )
        if self.quarantined:
            failed = count(len(self.quarantined), "input")
            lines.append(f"{failed} could not be used: see {self.out}/quarantine.jsonl")
        if self.report:
            lines.append(f"Report: {self.report}")
        return "\n".join(lines)

    def _stopped(self) -> str:
        if self.report:
            how = "with the adapted embedding" if self.adapted else "with the embedding as it comes"
            return (
                f"Stopped, and clustered {how}: see {self.report}."
                " Run the same command again for what is missing."
            )
        return (
            f"Stopped; whole segments are kept in {self.out}. Run the same command again to go on, "
            f"or `celstream cluster {self.out}` to group what is there."
        )


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
