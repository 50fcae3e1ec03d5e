"""How good are detections and clusters, on films with labels and on rendered episodes nobody trained on?

Detections: the labelled frames alone are looked at, at all scores and at the working threshold, with the
default detector (``_before`` on the films), with one adapted to the film by ``celstream adapt --detector``
(three seeds, median) and with ``yolox_nano.onnx`` of COCO, whose persons and animals count as characters.
Rendered episodes are three, with seeds of their own and a look each, so that their spread shows.

Clusters: purity, AMI and clusters per character with the default embedding (``_before``), with one adapted to
the show (three seeds, median), and with a hand-made feature (``_hand``); see bench/quality_clusters.py.

    python bench/quality.py [--quick] [--json] [--shared FOLDER] [--detector FILE] [--size PIXELS]
                            [--part detector|clusters] [--cache FOLDER]

``adapt_seconds`` is the longest of the embedding's adaptations, on one thread, ``detector_adapt_seconds``
that of the detector's.
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
from bench.quality_adapted import Adapted, adapted
from bench.quality_clusters import cluster_figures, main_job
from bench.quality_detector import Looked, figures, look
from bench.quality_plots import Curve, plot_clusters, plot_detectors
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


def detector_figures(looked: dict[str, Looked], threshold: float, suffix: str = "") -> dict[str, float]:
    """Figures of every film, ``<figure>_<film><suffix>``; the rendered ones as median and spread."""
    of = {name: figures(part, threshold) for name, part in looked.items()}
    flat = {
        f"{key}_{name}{suffix}": value
        for name, part in of.items()
        if name in FILMS
        for key, value in part.items()
    }
    episodes = [part for name, part in of.items() if name not in FILMS]
    for key in episodes[0] if episodes else ():
        values = [part[key] for part in episodes]
        flat[f"{key}_rendered"] = statistics.median(values)
        flat[f"{key}_rendered_spread"] = max(values) - min(values)
    every = figures(Looked.join(list(looked.values())), threshold)
    flat[f"calibration_error{suffix}"] = every["calibration_error"]
    return flat


def adapt_all(films: dict[str, tuple[Labels, Path]], place: Path, quick: bool) -> dict[str, Adapted]:
    """The detector adapted to every film."""
    seeds, minutes = ((0,), 1.0) if quick else ((0, 1, 2), 4.0)
    return {
        name: adapted(labels, folder, place / f"{name}_adapted", seeds, minutes, _LOWEST)
        for name, (labels, folder) in films.items()
        if name in FILMS
    }


def adapted_figures(after: dict[str, Adapted], before: dict[str, Looked]) -> dict[str, float]:
    """Figures of the films once the detector has adapted itself to each; ``before``: of the default one."""
    flat: dict[str, float] = {}
    for name, part in after.items():
        medians, spreads = part.figures()
        flat |= {f"{key}_{name}": value for key, value in medians.items()}
        flat |= {f"{key}_{name}_spread": value for key, value in spreads.items()}
    summaries = {name: part.summaries for name, part in after.items()}
    for name, told in summaries.items():
        flat[f"detector_adapt_kept_{name}"] = statistics.mean(one.kept for one in told)
    flat["detector_adapt_seconds"] = max(one.seconds for told in summaries.values() for one in told)
    threshold = min(at for part in after.values() for at in part.thresholds)
    rest = [part for name, part in before.items() if name not in after]  # episodes are not adapted to
    each_seed = zip(*(part.looked for part in after.values()), strict=True)
    joined = [figures(Looked.join([*rest, *parts]), threshold) for parts in each_seed]
    flat["calibration_error"] = statistics.median(every["calibration_error"] for every in joined)
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
    own = args.detector == "default"
    found = detector_figures(ours, threshold, "_before" if own else "") | {"threshold": threshold}
    after = adapt_all(films, place, args.quick) if own else {}
    if after:
        found |= adapted_figures(after, ours)
    if not args.quick:
        peer = look_at_all(str(args.shared / "models" / "yolox_nano.onnx"), None, films)
        found |= {f"{key}_yolox": value for key, value in detector_figures(peer, _PEER_SCORE).items()}
        if own:
            middle = {name: part.middle() for name, part in after.items()}
            curves = [
                Curve("celstream", "#0b6e4f", ours, threshold),
                Curve("adapted to the film", "#d1495b", middle, threshold),
                Curve("YOLOX-nano, COCO", "#888888", peer, _PEER_SCORE),
            ]
            plot_detectors(RESULTS / "quality_detector.png", curves)
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
    parser.add_argument("--detector", default="default", help="another to look at, as it is")
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
