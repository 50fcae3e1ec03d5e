"""Decode every file named on the command line, in a process of its own: one JSON line each, before and after.

A crash or a hang of the decoder ends this process; the last "begin" line says on which file.
"""

from __future__ import annotations

import faulthandler
import json
import sys
import time

from stream.config import Config
from stream.decode import decode_segment
from stream.errors import SourceError
from stream.sources import find_videos, plan_segments

LIMIT_S = 30.0
CONFIG = {
    0: Config(interval=0.5, threads=2),
    1: Config(interval=1.0, threads=2, sampling="scene"),
    2: Config(interval=1.0, threads=2, sampling="keyframes"),
}


def tell(**what: object) -> None:
    print(json.dumps(what), flush=True)


def decode(path: str, config: Config) -> dict[str, object]:
    reasons: list[str] = []
    notes: list[str] = []
    frames = 0
    for video in find_videos([path], on_bad=lambda _, why: reasons.append(why), timeout_s=10):
        try:
            for segment in plan_segments(video, 2.0, config.interval):
                for batch in decode_segment(segment, config, note=notes.append):
                    frames += len(batch)
                    assert batch.images.shape[1:3] == (video.height, video.width)
        except SourceError as error:
            reasons.append(str(error))
    return {"frames": frames, "reasons": reasons, "notes": notes}


def main() -> None:
    for number, path in enumerate(sys.argv[1:]):
        tell(begin=path)
        faulthandler.dump_traceback_later(LIMIT_S, exit=True)
        start = time.perf_counter()
        try:
            tell(end=path, **decode(path, CONFIG[number % 3]), seconds=time.perf_counter() - start)
        except Exception as error:  # what must not happen is told, so that the rest is still tried
            tell(end=path, failed=f"{type(error).__name__}: {error}", seconds=time.perf_counter() - start)
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
