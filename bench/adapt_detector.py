"""What does adapting the detector to a show gain, and does its label-free signal know?

    python -m bench.adapt_detector [--quick] [--json] [--shows NAME ...] [--seeds 2] [--minutes 4]
                                   [--shared FOLDER] [--cache FOLDER]

Shows are rendered episodes in looks of no other production here, worn as by an old tape or film, and the
labelled films. Each is processed by the product, its detector adapted as ``celstream adapt --detector`` does,
and looked at on the labelled frames before and after. At every look on the way the signal stands beside the
AP50 there, for their rank correlation over the rendered shows. The clock is left out: the steps are those
that the budget stands for, whatever else the machine does.

Labels are for measuring: settings were chosen on the rendered shows.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from scipy import ndimage, stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, too

from bench.common import RESULTS, SHARED, save
from bench.quality_detector import figures, look
from engines.train.export import export_detector
from stream import load_config, run
from stream.adapt.detector import adapt_detector
from stream.cartoon.model import Look
from stream.cartoon.write import render_episode
from stream.config import DetectorConfig
from stream.detect import Detector
from stream.labels import Labels

#: seed, wear, look: the numbers of looks that no production of the training material has
EPISODES = {
    "rendered_tape": (920_001, "tape", Look((90, 60, 150), 0.016, "soft", texture=0.6)),
    "rendered_nitrate": (920_002, "nitrate", Look((70, 40, 20), 0.0, "soft", fur=0.01, texture=0.9)),
}
FILMS = {
    "bbb": (["big_buck_bunny_360p.mp4"], "bbb_boxes.csv"),
    "popeye": (["popeye_sinbad_1936_part1.mkv", "popeye_sinbad_1936_part2.mkv"], "popeye_boxes.csv"),
}
_LOWEST = 0.001  # score from which boxes are looked at for the precision-recall curve


def worn(source: Path, target: Path, seed: int, kind: str) -> None:
    """Write a video again as an old tape (soft, pale, other hues) or a nitrate print (grey, dark, grainy)."""
    rng = np.random.default_rng(seed)
    luma = np.array([0.3, 0.59, 0.11], np.float32)
    with av.open(str(source)) as film, av.open(str(target), "w") as out:
        stream = film.streams.video[0]
        assert stream.average_rate is not None
        video = out.add_stream("libx264", rate=stream.average_rate)
        video.width, video.height, video.pix_fmt = stream.width, stream.height, "yuv420p"
        video.options = {"preset": "veryfast", "crf": "37", "threads": "1"}
        beat = Fraction(1) / stream.average_rate
        dirt = ndimage.gaussian_filter(rng.normal(size=(stream.height, stream.width)), (1, 6))
        dirt /= dirt.std()
        for number, frame in enumerate(film.decode(stream)):
            image = frame.to_ndarray(format="rgb24").astype(np.float32)
            grey = ndimage.uniform_filter(image @ luma, 3)
            if kind == "tape":
                colour = ndimage.uniform_filter1d(image - (image @ luma)[..., None], 13, axis=1)
                noise = 9 * rng.normal(size=grey.shape)
                image = (0.6 * grey + 50 + noise)[..., None] + 0.8 * colour[..., [1, 2, 0]]
            else:
                grey = 255 * (grey / 255) ** 1.7 * (0.75 + 0.1 * np.sin(number / 3)) + 25
                grey += 10 * dirt + 14 * rng.normal(size=grey.shape)
                image = np.stack([1.05 * grey, grey, 0.85 * grey], -1)
            picture = av.VideoFrame.from_ndarray(image.clip(0, 255).astype(np.uint8), format="rgb24")
            picture = picture.reformat(format="yuv420p")
            picture.pts, picture.time_base = number, beat
            out.mux(video.encode(picture))
        out.mux(video.encode(None))


def show(name: str, cache: Path, shared: Path, seconds: float) -> tuple[list[Path], Labels, Path]:
    """The videos of a show, their labels, and the folder that the labels name files in."""
    if name in FILMS:
        files, labels = FILMS[name]
        folder = shared / "media"
        return [folder / file for file in files], Labels.read(shared / "labels" / labels), folder
    seed, kind, drawn = EPISODES[name]
    folder = cache / name
    video = folder / f"{name}.mp4"
    csv = folder / "raw" / f"{name}_boxes.csv"
    if not video.exists():
        fresh = folder / "raw" / video.name
        render_episode(
            fresh, seed=seed, characters=7, seconds=seconds, fps=12, width=480, height=270, style=drawn,
            label_interval_s=1.0,
        )  # fmt: skip
        worn(fresh, video, seed, kind)
    return [video], Labels.read(csv), folder


def quality(model: str, labels: Labels, folder: Path) -> dict[str, float]:
    """Figures of a detector's file on labelled frames, at all scores and at the working threshold.

    The score and the looks are the default's: a network on the way is written without its own.
    """
    default = Detector(DetectorConfig())
    default.close()
    detector = Detector(
        DetectorConfig(model=model, score=_LOWEST, scales=default.scales, mirror=default.mirror)
    )
    found = figures(look(detector, labels, folder), default.score)
    detector.close()
    return found


def measure(name: str, options: argparse.Namespace, cache: Path) -> dict[str, Any]:
    """Every figure of a show."""
    videos, labels, folder = show(name, cache, options.shared, 30.0 if options.quick else 300.0)
    work = cache / f"{name}_work"
    run(videos, work, load_config(values={"interval": 2.0}), report=False)
    before = quality("default", labels, folder)
    out: dict[str, Any] = {f"{name}/before/{key}": value for key, value in before.items()}
    ends, points = [], []
    for seed in range(options.seeds):
        looks: list[dict[str, float]] = []

        def watch(step: int, net: Any, found: Any, looks: list[dict[str, float]] = looks) -> None:
            path = cache / "look.onnx"
            export_detector(net, path, "look")
            looks.append({"step": step} | found.as_dict() | quality(str(path), labels, folder))

        began = time.perf_counter()
        done = adapt_detector(
            work, minutes=options.minutes, seed=seed, rerun=False, report=False, watch=watch, clock=False
        )
        after = quality(done.detector, labels, folder)
        ends.append(after)
        out |= {f"{name}/after_{seed}/{key}": value for key, value in after.items()}
        told: dict[str, float] = {
            "kept": done.kept,
            "steps": done.steps,
            "windows": done.windows,
            "sure": done.sure_boxes,
        }
        told |= {"signal_before": done.before["score"], "signal_after": done.after["score"]}
        told |= {"seconds_with_measuring": time.perf_counter() - began}
        out |= {f"{name}/run_{seed}/{key}": value for key, value in told.items()}
        out[f"{name}/run_{seed}/looks"] = looks
        points += [(row["score"] - done.before["score"], row["ap50"] - before["ap50"]) for row in looks]
        print(f"{name} {seed}: {done.reason}; {before['ap50']:.3f} -> {after['ap50']:.3f}", file=sys.stderr)
    for key in before:
        out[f"{name}/after/{key}"] = float(np.median([end[key] for end in ends]))
    return out | {f"{name}/points": points}


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; see the module's text."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [*EPISODES, *FILMS]
    parser.add_argument("--quick", action="store_true", help="one short show and budget, no record")
    parser.add_argument("--json", action="store_true", help="one flat object on stdout")
    parser.add_argument("--shows", nargs="+", choices=every, help="those alone; results of others are kept")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=4.0, help="budget of an adaptation")
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--cache", type=Path, help="folder that keeps episodes and work folders")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seeds, options.minutes, options.shows = 1, 0.5, ["rendered_tape"]
    known = RESULTS / "adapt_detector.json"
    result: dict[str, Any] = {}
    if options.shows and not options.quick and known.exists():
        result = json.loads(known.read_text())["figures"]
    with tempfile.TemporaryDirectory() as temporary:
        cache = options.cache or Path(temporary)
        for name in options.shows or every:
            if name in FILMS and not (options.shared / "labels").is_dir():
                continue
            result |= measure(name, options, cache)
            rise = [point for show in EPISODES for point in result.get(f"{show}/points", [])]
            if len(rise) > 2:
                result["signal_rank_correlation_rendered"] = float(stats.spearmanr(np.array(rise))[0])
            save("adapt_detector", result, quick=options.quick)
    if options.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            if isinstance(value, bool | int | float):
                print(f"{key:50} {value:.4g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
