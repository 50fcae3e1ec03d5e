"""The detector that an adaptation begins with, and what its file says of itself."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from engines.models import resolve
from stream.adapt.own_detector import RECORD, in_use
from stream.config import Config, DetectorConfig
from stream.detect import Detector
from stream.errors import ConfigError
from stream.workdir import WorkFolder


@dataclass(frozen=True)
class DetectorStart:
    """The detector that is adapted: as settings name it, its file, and what that says of itself.

    ``threshold``: smallest score that the pipeline keeps, whatever the run's settings ask. ``imgsz``: height
    and width. ``scales``: in parts of that, how often and how large a frame is looked at.
    ``calibrated``: its scores are probabilities.
    """

    model: str
    path: Path
    names: tuple[str, ...]
    threshold: float
    imgsz: tuple[int, int]
    scales: tuple[float, ...]
    calibrated: bool


def detector_start(folder: WorkFolder, config: Config) -> DetectorStart:
    """The detector of the last run of an open folder; but an adapted one is not adapted once more.

    Raises:
        ConfigError: its first class is no 'character'.
        ModelError: it is gone, or no detector.
    """
    model = config.detector.model
    if in_use(folder):
        before = folder.read_run().get(RECORD)
        model = str(before.get("start", "default")) if isinstance(before, dict) else "default"
    detector = Detector(DetectorConfig(model=model))
    detector.close()
    path = Path(resolve(model, "detector").path)
    if detector.class_names[:1] != ("character",):
        raise ConfigError(
            f"{path}: expected a detector whose first class is 'character', found {detector.class_names[:1]};"
            " one that was trained on names of your own cannot be adapted, train it on with"
            " `celstream train detector`"
        )
    meta = _metadata(path)
    return DetectorStart(
        model=model,
        path=path,
        names=detector.class_names,
        threshold=detector.score,
        imgsz=_imgsz(meta.get("imgsz")),
        scales=detector.scales,
        calibrated="score_maps" in meta,
    )


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
