"""How good are detections and clusters, on films with labels and on rendered episodes nobody trained on?

Detections: the labelled frames alone are looked at, at all scores and at the working threshold; beside it
``yolox_nano.onnx`` of COCO, whose persons and animals count as characters. Rendered episodes are three, with
seeds of their own and a look each, so that their spread shows.

Clusters: purity, AMI and clusters per character with the default embedding (``_before``), with one adapted to
the show (three seeds, median), and with a hand-made feature (``_hand``); see bench/quality_clusters.py.

    python bench/quality.py [--quick] [--json] [--shared FOLDER] [--detector FILE] [--size PIXELS]
                            [--part detector|clusters] [--cache FOLDER]

``adapt_seconds`` is the longest of the adaptations, on one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, too

from bench.common import RESULTS, SHARED, save
from bench.quality_clusters import cluster_figures, main_job
from bench.quality_detector import Looked, figures, look
from bench.quality_plots import plot_clusters, plot_detectors
from stream.cartoon.write import render_episode
from stream.config import DetectorConfig
from stream.detect import Detector
from stream.labels import Labels

FILMS = {"bbb": "bbb_boxes.csv", "popeye": "popeye_boxes.csv"}
SEEDS = (9101, 9102, 9103)
_PEER_SCORE = 0.25  # as its authors show it
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


def look_at_all(model: str, size: int | None, films: dict[str, tuple[Labels, Path]]) -> dict[str, Looked]:
    """What a detector finds in every film."""
    detector = Detector(DetectorConfig(model=model, size=size, score=_LOWEST))
    classes = tuple(name for name in COCO if name in detector.class_names) or None
    looked = {name: look(detector, labels, folder, classes) for name, (labels, folder) in films.items()}
    detector.close()
    return looked


def detector_figures(looked: dict[str, Looked], threshold: float) -> dict[str, float]:
    """Figures of every film, ``<figure>_<film>``; the rendered ones as median and spread."""
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
    return flat


def detector_part(args: argparse.Namespace, place: Path) -> dict[str, float]:
    """Our detector and the peer, and their plot."""
    films = {
        name: (Labels.read(args.shared / "labels" / file), args.shared / "media")
        for name, file in FILMS.items()
    }
    films |= rendered(place, SEEDS[:1] if args.quick else SEEDS)
    threshold = Detector(DetectorConfig(model=args.detector)).score
    ours = look_at_all(args.detector, args.size, films)
    found = detector_figures(ours, threshold) | {"threshold": threshold}
    if not args.quick:
        peer = look_at_all(str(args.shared / "models" / "yolox_nano.onnx"), None, films)
        found |= {f"{key}_yolox": value for key, value in detector_figures(peer, _PEER_SCORE).items()}
        if args.detector == "default":
            plot_detectors(RESULTS / "quality_detector.png", ours, peer, (threshold, _PEER_SCORE))
    return found


def clusters_part(args: argparse.Namespace, place: Path) -> dict[str, float]:
    """Embeddings before and after adaptation and by hand, and their plot."""
    cache = args.cache or place
    if args.quick:
        return cluster_figures(cache, args.shared, 1, 20.0, ("bbb_given",))[0]
    found, shows = cluster_figures(cache, args.shared, 3, 180.0)
    plot_clusters(RESULTS / "quality_clusters.png", shows)
    bunny = args.shared / "media" / "big_buck_bunny_360p.mp4"
    return found | main_job(bunny, args.shared / "labels" / FILMS["bbb"], place)


PARTS = {"detector": detector_part, "clusters": clusters_part}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a short look at each part; leaves no record")
    parser.add_argument("--json", action="store_true", help="print one flat object and nothing else")
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--detector", default="default", help="another detector to look at")
    parser.add_argument("--size", type=int, help="its longer side, in place of what it was trained for")
    parser.add_argument("--part", choices=sorted(PARTS), help="this one alone; the other's record stays")
    parser.add_argument("--cache", type=Path, help="folder that keeps episodes and work folders")
    args = parser.parse_args()
    found: dict[str, Any] = _known() if args.part and not args.quick else {}
    with tempfile.TemporaryDirectory() as place:
        for name in [args.part] if args.part else sorted(PARTS, reverse=True):
            found |= {key: round(value, 4) for key, value in PARTS[name](args, Path(place)).items()}
            if args.detector == "default":
                save("quality", found, quick=args.quick)
    print(json.dumps(found) if args.json else "\n".join(f"{key:40} {value}" for key, value in found.items()))


def _known() -> dict[str, Any]:
    """The figures of the last record."""
    path = RESULTS / "quality.json"
    return dict(json.loads(path.read_text())["figures"]) if path.exists() else {}


if __name__ == "__main__":
    main()
