"""The films that decoding is measured on: drawn, enlarged to 1080p, and joined to themselves."""

from __future__ import annotations

from pathlib import Path

from bench.clips import enlarge, repeat
from stream.cartoon.write import render_episode

SECONDS = 20  # drawn; the rest is repetition


def film(folder: Path, codec: str, quick: bool, minutes: float = 10.0) -> Path:
    """A film of so many minutes (half of one when quick) in ``codec``, made once."""
    seconds = 5 if quick else SECONDS
    times = 3 if quick else max(1, round(60 * minutes / seconds))
    path = folder / f"{codec}_{seconds * times}s.mp4"
    if not path.exists():
        drawn, large = folder / f"drawn_{seconds}.mp4", folder / f"{codec}_large.mp4"
        if not drawn.exists():
            render_episode(drawn, seed=930_001, characters=4, seconds=seconds, width=640, height=360)
        enlarge(drawn, large, seconds, codec=codec, height=360 if quick else 1080)
        repeat(large, path, times)
    return path
