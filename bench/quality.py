"""How good are detections and clusters, on films with labels and on rendered episodes nobody trained on?

The detector is looked at on the labelled frames alone, at all scores, and at the working threshold; beside it
``yolox_nano.onnx`` of COCO, whose persons and animals count as characters. Rendered episodes are three, with
seeds of their own and a look each, so that their spread shows.

    python bench/quality.py [--quick] [--json] [--shared FOLDER] [--detector FILE] [--size PIXELS]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from common import SHARED, save
from quality_detector import Looked, figures, look

from stream.cartoon.write import render_episode
from stream.config import DetectorConfig
from stream.detect import Detector
from stream.labels import Labels

FILMS = {"bbb": "bbb_boxes.csv", "popeye": "popeye_boxes.csv"}
SEEDS = (9101, 9102, 9103)
_LOWEST = 0.001  # score from which boxes are looked at for the precision-recall curve
ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")
COCO = ("person", "teddy bear", *ANIMALS)


def rendered(folder: Path, seeds: tuple[int, ...]) -> dict[str, tuple[Labels, Path]]:
    """Episodes of a minute with 8 characters, labelled twice a second."""
    made = {}
    for seed in seeds:
        film = folder / f"{seed}.mp4"
        episode = render_episode(film, seed=seed, characters=8, seconds=60, label_interval_s=0.5)
        made[f"rendered_{seed}"] = Labels.read(episode.boxes_csv), folder
    return made


def detector_figures(
    model: str, size: int | None, threshold: float, films: dict[str, tuple[Labels, Path]]
) -> dict[str, float]:
    """Figures of every film, ``<figure>_<film>``; the rendered ones as median and spread."""
    detector = Detector(DetectorConfig(model=model, size=size, score=_LOWEST))
    classes = tuple(name for name in COCO if name in detector.class_names) or None
    looked: dict[str, Looked] = {}
    for name, (labels, folder) in films.items():
        looked[name] = look(detector, labels, folder, classes)
    detector.close()
    of = {name: figures(part, threshold) for name, part in looked.items()}
    flat = {
        f"{key}_{name}": value for name, part in of.items() if name in FILMS for key, value in part.items()
    }
    episodes = [part for name, part in of.items() if name not in FILMS]
    for key in episodes[0] if episodes else ():
        values = [part[key] for part in episodes]
        flat[f"{key}_rendered"] = statistics.median(values)
        flat[f"{key}_rendered_spread"] = max(values) - min(values)
    flat["calibration_error"] = figures(Looked.join(list(looked.values())), threshold)["calibration_error"]
    return {key: round(value, 4) for key, value in flat.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one episode, no peer; leaves no record")
    parser.add_argument("--json", action="store_true", help="print one flat object and nothing else")
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--detector", default="default", help="another detector to look at")
    parser.add_argument("--size", type=int, help="its longer side, in place of what it was trained for")
    args = parser.parse_args()
    films = {
        name: (Labels.read(args.shared / "labels" / file), args.shared / "media")
        for name, file in FILMS.items()
    }
    threshold = DetectorConfig().score
    with tempfile.TemporaryDirectory() as folder:
        films |= rendered(Path(folder), SEEDS[:1] if args.quick else SEEDS)
        found = detector_figures(args.detector, args.size, threshold, films)
        if not args.quick:
            peer = detector_figures(str(args.shared / "models" / "yolox_nano.onnx"), None, threshold, films)
            found |= {f"{key}_yolox": value for key, value in peer.items()}
    if args.detector == "default":
        save("quality", found, quick=args.quick)
    print(json.dumps(found) if args.json else "\n".join(f"{key:32} {value}" for key, value in found.items()))


if __name__ == "__main__":
    main()
