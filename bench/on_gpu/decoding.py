"""Frames decoded to the device: how many a second, of which files, by all decoders at once.

The limit is the rate at which the decoders give every frame of a file; what is asked is a frame a second, or
one in ten seconds, where skipping pays. All are times real time, so that they compare.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.on_gpu.place import Figures, Place, Skipped

CODECS = ("h264", "hevc")


def decoding(place: Place, videos: list[Path], scratch: Path, quick: bool) -> Iterator[Figures]:
    """Times real time for each file and interval; what decoded it, where that was not the GPU.

    Raises:
        Skipped: PyAV or another package that decoding needs is missing.
    """
    try:
        from bench.on_gpu.films import film
    except ImportError as error:
        raise Skipped(f"decoding: {error}") from error
    for codec in CODECS:
        files = [video for video in videos if codec in video.stem] or [film(scratch, codec, quick)]
        for name, interval in (("every_frame", None), ("1s", 1.0), ("10s", 10.0)):
            began, found = time.perf_counter(), decoded(place, files[0], interval)
            key = f"decode_{codec}_{name}"
            seconds = time.perf_counter() - began
            figures: Figures = {
                f"{key}_times_real_time": round(found["video_s"] / seconds, 1),
                f"{key}_frames_per_s": round(found["frames"] / seconds, 1),
                f"{key}_lanes": found["lanes"],
            }
            if found["notes"]:
                figures[f"{key}_notes"] = "; ".join(sorted(found["notes"])[:3])
            yield figures


def decoded(place: Place, file: Path, interval: float | None) -> dict[str, Any]:
    """Decode a file whole, as a run does, and let the frames go."""
    from stream.config import load_config
    from stream.decode.lanes import SegmentDecoder
    from stream.probe import describe
    from stream.segments import plan_segments

    video = describe(str(file), file.stem, 10.0)
    step = interval or 1 / (video.frame_rate or 25.0)
    device = "cpu" if place.rehearsal else "cuda"
    config = load_config(values={"interval": step, "held": 0.0, "device": device, "segment_seconds": 60})
    decoder = SegmentDecoder(config)
    notes: set[str] = set()
    frames = 0
    try:
        for segment in decoder.ahead(plan_segments(video, config.segment_seconds, step)):
            for batch in decoder.decode(segment, notes.add):
                frames += len(batch)
                del batch
        place.synchronize()
    finally:
        decoder.close()
    return {"frames": frames, "video_s": video.duration_s or 0.0, "notes": notes, "lanes": decoder.count}
