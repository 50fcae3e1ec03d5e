"""The detector that an adaptation begins with, the one that is in use, and how the run looks with it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from engines.models import resolve
from stream.adapt.own_detector import RECORD, about_own, in_use, own_detector
from stream.config import Config, DetectorConfig
from stream.detect import Detector
from stream.errors import ConfigError
from stream.workdir import WorkFolder

_LOWEST, _HIGHEST = 0.02, 0.98  # scores that boxes are counted from: the teacher sees none below


@dataclass(frozen=True)
class DetectorStart:
    """The detector that is adapted: as settings name it, its file, and what that says of itself.

    ``threshold``: smallest score that the file recommends. ``imgsz``: height and width. ``scales``: in parts
    of that, how often and how large the file recommends to look at a frame, ``mirror`` whether every second
    time at the mirror image. ``calibrated``: its scores are probabilities.

    ``score``, ``looks``, ``mirrored``: those as the run has them, whose number of boxes an adapted detector
    has to keep: what the run's settings ask, or else what the file recommends; ``iou``: at which the run
    joins boxes. ``used``: file of the detector
    in use, which is another one where the folder goes on with its own.
    """

    model: str
    path: Path
    names: tuple[str, ...]
    threshold: float
    imgsz: tuple[int, int]
    scales: tuple[float, ...]
    mirror: bool
    calibrated: bool
    score: float
    looks: tuple[float, ...]
    mirrored: bool
    iou: float
    used: Path

    @property
    def named(self) -> str:
        """The detector in use, for people."""
        if self.used != self.path:
            return f"the one adapted before, {self.used}"
        return "the default" if self.model == "default" else str(self.path)


def detector_start(folder: WorkFolder, config: Config) -> DetectorStart:
    """The detector of the last run of an open folder; but an adapted one is not adapted once more.

    Raises:
        ConfigError: its first class is no 'character', or its input has a fixed size.
        ModelError: it is gone, no detector, or none of ours; or that in use is none.
    """
    from engines.train.tune.start import read_detector

    model = config.detector.model
    own = own_detector(folder) if in_use(folder) else None
    if own is not None:
        Detector(DetectorConfig(model=str(own))).close()
        model = _before(folder)
    detector = Detector(DetectorConfig(model=model))
    detector.close()
    path = Path(resolve(model, "detector").path)
    if detector.class_names[:1] != ("character",):
        raise ConfigError(
            f"{path}: expected a detector whose first class is 'character', found {detector.class_names[:1]};"
            " one that was trained on names of your own cannot be adapted, train it on with"
            " `celstream train detector`"
        )
    read_detector(path)  # what cannot be trained is refused before anything is looked at
    if not _size_is_free(path):
        raise ConfigError(
            f"{path}: expected a detector that takes pictures of any size, found one whose input is fixed;"
            " the views that it learns from have several; adapt the one that it was made from"
        )
    meta = _metadata(path)
    imgsz, asked = _imgsz(meta.get("imgsz")), config.detector
    sized = asked.size / max(imgsz) if asked.size is not None else 1.0
    score = detector.score if asked.score is None else asked.score
    return DetectorStart(
        model=str(path.absolute()) if model != "default" and Path(model).is_file() else model,
        path=path,
        names=detector.class_names,
        threshold=detector.score,
        imgsz=imgsz,
        scales=detector.scales,
        mirror=detector.mirror,
        calibrated="score_maps" in meta,
        score=min(max(score, _LOWEST), _HIGHEST),
        looks=tuple(scale * sized for scale in asked.scales or detector.scales),
        mirrored=detector.mirror if asked.mirror is None else asked.mirror,
        iou=asked.iou,
        used=own or path,
    )


def _before(folder: WorkFolder) -> str:
    """What the folder's own detector was adapted from: of that file, whatever was tried since."""
    attempt = folder.read_run().get(RECORD)
    for about in (about_own(folder), attempt):
        if isinstance(about, dict) and about.get("start"):
            return str(about["start"])
    return "default"


def _size_is_free(path: Path) -> bool:
    import onnx

    shape = onnx.load(str(path), load_external_data=False).graph.input[0].type.tensor_type.shape
    return not any(side.HasField("dim_value") for side in shape.dim[2:])


def _metadata(source: Path) -> dict[str, str]:
    import onnx

    return {p.key: p.value for p in onnx.load(str(source), load_external_data=False).metadata_props}


def _imgsz(told: str | None) -> tuple[int, int]:
    """Height and width that a detector's file says it works at, else the default's."""
    from engines.train.export import IMAGE_SIZE

    try:
        tall, wide = ast.literal_eval(told or "")
        return int(tall), int(wide)
    except (ValueError, SyntaxError, TypeError):
        return IMAGE_SIZE
