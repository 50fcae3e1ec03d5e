"""Everything that needs a GPU, in one call: what the device can do at best, and what we reach of it.

    python bench/gpu.py [--quick] [--json] [--parts NAME ...] [--videos FILE ...] [--minutes 8] [--rehearse]

First the copy bandwidth and the matrix rate; then, station by station, the share of these that is reached:
colours, letterbox, crops and NMS (bytes moved against the copy bandwidth), networks (pictures/s against the
matrix rate, and against torch.compile in fp16), affinity propagation at N = 10,000, 50,000 and 100,000,
decoding (frames/s of 1080p H.264 and HEVC at 1 frame/s and 1 frame/10 s); then the whole pipeline in hours of
video per hour, with a trace. Works with what is installed: what cannot be run is named with its reason, and
figures measured when the time is up are kept.

``--rehearse`` runs every part on the CPU at small sizes, to try the script before it is sent to a GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, too

from bench.common import RESULTS, save
from bench.on_gpu.affinity import affinity
from bench.on_gpu.decoding import decoding
from bench.on_gpu.networks import networks
from bench.on_gpu.pictures import pictures
from bench.on_gpu.place import PARTS, Figures, Place, Skipped, limits, skipped_without_a_gpu
from bench.on_gpu.whole import whole


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(arguments: argparse.Namespace, found: Figures, skipped: list[str]) -> None:
    """Fill ``found`` part by part until the time is up."""
    began = time.monotonic()
    try:
        place = Place("cpu" if arguments.rehearse else "cuda")
    except Skipped as error:
        skipped += skipped_without_a_gpu(arguments.parts, str(error))
        return
    found |= limits(place)
    say(f"{found['device']}: copies {found['copy_gb_per_s']} GB/s")
    quick = arguments.quick or arguments.rehearse
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        parts: dict[str, Callable[[], Iterator[Figures]]] = {
            "pictures": lambda: pictures(place, found, quick),
            "networks": lambda: networks(place, found, scratch, quick),
            "affinity": lambda: affinity(place, found, quick),
            "decoding": lambda: decoding(place, arguments.videos, scratch, quick),
            "whole": lambda: whole(place, arguments.videos, scratch, quick),
        }
        for name in arguments.parts:
            try:
                for figures in parts[name]():
                    for key, value in figures.items():
                        if key.startswith("skipped_"):
                            skipped.append(f"{key.removeprefix('skipped_')}: {value}")
                        else:
                            found[key] = value
                    if time.monotonic() - began > 60 * arguments.minutes:
                        skipped.append(f"the rest of {name}, and what comes after it: the time was up")
                        return
            except Skipped as error:
                skipped.append(f"{name}: {error}")
            except Exception as error:  # one part that fails must not lose the others' figures
                skipped.append(f"{name}: {type(error).__name__}: {error}")
                found["failed"] = [*found.get("failed", []), name]
            place.release()
            say(f"{name}: {time.monotonic() - began:.0f} s since the start")


def draw(figures: Figures) -> None:
    """The roofline, beside the record; not being able to is no failure."""
    try:
        from bench.on_gpu.roofline import plot

        plot(figures, RESULTS / "gpu.png")
    except ImportError as error:
        say(f"skipped the plot: {error}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, shorter; leaves no record")
    parser.add_argument("--json", action="store_true", help="print one flat object and nothing else")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument(
        "--videos", nargs="+", type=Path, default=[], help="1080p files in place of rendered ones"
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="no part begins after these")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, small; leaves no record")
    arguments = parser.parse_args()
    figures: Figures = {}
    skipped: list[str] = []
    measure(arguments, figures, skipped)
    for line in skipped:
        say(f"skipped {line}")
    if not figures:
        say("nothing was measured; --rehearse tries every part on the CPU")
    if arguments.json:
        print(json.dumps({**figures, "skipped": skipped}))
    else:
        for key, value in figures.items():
            print(f"{key:44} {value}")
    if figures and not arguments.rehearse:
        save("gpu", {**figures, "skipped": skipped}, quick=arguments.quick)
        if not arguments.quick:
            draw(figures)
    return 0 if figures.get("same_as_cpu", True) and not figures.get("failed") else 1


if __name__ == "__main__":
    sys.exit(main())
