"""How fast is the whole main job, and does its memory grow with the film?

Runs ``celstream run`` as a user does, in a process of its own, on Big Buck Bunny 360p whole, on the same film
ten times over as one file (joined, not re-encoded), and on a 1080p H.264 file (the 720p film scaled up and
encoded). Limits: the decoder's rate (bench/sampling.py) and the networks' (celstream doctor).

    python bench/main_job.py [--quick] [--json] [--shared FOLDER]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, too

from bench.clips import enlarge, repeat
from bench.common import SHARED, save


def measure(video: Path, work: Path) -> dict[str, Any]:
    """One run from nothing, in its own process; its own JSON."""
    command = [
        sys.executable,
        "-m",
        "stream.cli",
        "run",
        str(video),
        "-o",
        str(work),
        "--adapt",  # its seconds are in bench/quality.py
        "off",
        "--json",
        "--log",
        "quiet",
    ]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(answer.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one file, no long film")
    parser.add_argument("--json", action="store_true", help="print one flat object")
    parser.add_argument("--shared", type=Path, default=SHARED)
    args = parser.parse_args()
    media = args.shared / "media"
    bunny = media / "big_buck_bunny_360p.mp4"
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        jobs = {"bbb_360p": bunny}
        if not args.quick:
            repeat(bunny, place / "ten.mp4", 10)
            enlarge(media / "big_buck_bunny_720p_first150s.mp4", place / "full_hd.mp4", 150)
            jobs |= {"bbb_ten_times": place / "ten.mp4", "h264_1080p": place / "full_hd.mp4"}
        for name, video in jobs.items():
            result = measure(video, place / name)
            for key in ("seconds", "times_real_time", "peak_rss_bytes", "crops", "clusters"):
                figures[f"{name}_{key}"] = result[key]
    if "bbb_ten_times_peak_rss_bytes" in figures:
        ratio = figures["bbb_ten_times_peak_rss_bytes"] / figures["bbb_360p_peak_rss_bytes"]
        figures["memory_ratio_ten_times"] = round(ratio, 3)
    save("main_job", figures, quick=args.quick)
    print(json.dumps(figures) if args.json else json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
