"""How fast are sampled frames? Against ``ffmpeg -vf fps=1`` to raw frames, same file, same run.

    python bench/sampling.py [--quick] [--json] [--film FILE] [--also FILE...]

Ours includes the conversion to RGB and the comparison that finds held frames and shots; ffmpeg's output is
raw YUV thrown away. Each figure is the median of runs that take turns (three, or one with ``--quick``), so
that a noisy machine hits both alike. Without ``--film`` one is rendered: shapes and noise, 1080p24 H.264.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, too

from bench.common import save
from stream.batches import Video
from stream.config import Config
from stream.decode import decode_segment, plan_decode
from stream.sources import find_videos, plan_segments


def render(folder: Path, seconds: int, gops: tuple[int, ...], source: Path | None) -> dict[str, Path]:
    """A 1080p24 H.264 film at several distances of keyframes: ``source`` scaled up, or drawn."""
    films = {f"1080p_gop{gop}": folder / f"gop{gop}.mp4" for gop in gops}
    with contextlib.ExitStack() as stack:
        outs = []
        for gop, path in zip(gops, films.values(), strict=True):
            out = stack.enter_context(av.open(str(path), "w"))
            options = {"preset": "veryfast", "bf": "3", "crf": "21", "g": str(gop)}
            stream = out.add_stream("libx264", rate=24, options=options)
            stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
            outs.append((out, stream))
        for i, frame in enumerate(itertools.islice(pictures(source), 24 * seconds)):
            frame = frame.reformat(1920, 1080, "yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 24)
            for out, stream in outs:
                out.mux(stream.encode(frame))
        for out, stream in outs:
            out.mux(stream.encode(None))
    return films


def pictures(source: Path | None) -> Iterator[av.VideoFrame]:
    if source is not None:
        with av.open(str(source)) as container:
            yield from container.decode(video=0)
        return
    rng = np.random.default_rng(7)
    for shot in range(1000):
        ground = rng.integers(30, 220, (18, 32, 3)).astype(np.uint8).repeat(60, 0).repeat(60, 1)
        places, speeds = rng.integers(0, 1600, (6, 2)), rng.integers(-12, 13, (6, 2))
        colours = rng.integers(0, 255, (6, 3))
        for i in range(60 + shot * 13 % 50):
            picture = np.roll(ground, i * 2, axis=1)
            for place, speed, colour in zip(places, speeds, colours, strict=True):
                x, y = (place + speed * i) % (1700, 860)
                picture[y : y + 220, x : x + 160] = colour
            picture[::3, ::3] ^= rng.integers(0, 8, picture[::3, ::3].shape, np.uint8)
            yield av.VideoFrame.from_ndarray(picture, format="rgb24")


def ours(video: Video, config: Config) -> int:
    frames = 0
    for segment in plan_segments(video, config.segment_seconds, config.interval):
        for batch in decode_segment(segment, config):
            frames += len(batch) + len(batch.held)
    return frames


def ffmpeg(video: Video, rate: str = "1") -> int:
    command = ["ffmpeg", "-v", "error", "-i", video.uri, "-an", "-vf", f"fps={rate}"]
    subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "yuv420p", "-y", os.devnull], check=True)
    return 0


def in_turns(jobs: dict[str, Callable[[], int]], rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of each job, on the clock and of all cores together."""
    clock: dict[str, list[float]] = {name: [] for name in jobs}
    cores: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            start, before = time.perf_counter(), os.times()
            job()
            after = os.times()
            clock[name].append(time.perf_counter() - start)
            cores[name].append(sum(after[:4]) - sum(before[:4]))
    return (
        {name: statistics.median(values) for name, values in clock.items()},
        {name: statistics.median(values) for name, values in cores.items()},
    )


def measure(video: Video, label: str, rounds: int, threads: int) -> dict[str, float]:
    """Ratios to ffmpeg at one frame a second, and times real time."""
    base = Config(threads=threads)
    ways = {
        "1fps": base,
        "10s": base.model_copy(update={"interval": 10.0}),
        "keyframes": base.model_copy(update={"sampling": "keyframes"}),
    }
    jobs: dict[str, Callable[[], int]] = {"ffmpeg": lambda: ffmpeg(video)}
    for name, config in ways.items():
        jobs[name] = lambda config=config: ours(video, config)  # type: ignore[misc]
    seconds, cores = in_turns(jobs, rounds)
    length = video.duration_s or 0.0
    result = {f"x_realtime_{name}_{label}": length / value for name, value in seconds.items()}
    result |= {f"ratio_{name}_{label}": seconds["ffmpeg"] / seconds[name] for name in ways}
    result |= {f"ratio_of_core_seconds_{name}_{label}": cores["ffmpeg"] / cores[name] for name in ways}
    return {key: round(value, 3) for key, value in result.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter films, one round")
    parser.add_argument("--json", action="store_true", help="print one flat object and nothing else")
    parser.add_argument("--film", type=Path, help="scaled to 1080p in place of the drawn film")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--also", type=Path, nargs="*", default=[], help="measured as they are")
    arguments = parser.parse_args()
    rounds, seconds = (1, 24) if arguments.quick else (3, 60)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        films = render(Path(folder), seconds, (48, 250), arguments.film)
        films |= {path.stem: path for path in arguments.also}
        for label, path in films.items():
            (video,) = find_videos([str(path)], on_bad=print)
            if not arguments.json:
                print(f"{label}: {plan_decode(video, Config())}", file=sys.stderr)
            figures |= measure(video, label, rounds, arguments.threads)
    figures["ratio_1fps"] = min(figures["ratio_1fps_1080p_gop48"], figures["ratio_1fps_1080p_gop250"])
    figures["ratio_10s_gop48"] = figures["ratio_10s_1080p_gop48"]
    figures["ratio_keyframes"] = min(
        figures["ratio_keyframes_1080p_gop48"], figures["ratio_keyframes_1080p_gop250"]
    )
    version = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True).stdout.split()[2]
    if arguments.json:
        print(json.dumps(figures))
    else:
        for key, value in figures.items():
            print(f"{key:45} {value:10.2f}")
    save("sampling", {**figures, "ffmpeg": version}, quick=arguments.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
