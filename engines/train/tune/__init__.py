"""Training a detector on labelled images: ``tune`` reads labels, trains, measures and exports."""

from __future__ import annotations

from engines.train.tune.job import Tuned, training_folder, tune
from engines.train.tune.settings import TuneSettings
from engines.train.tune.state import LossError

__all__ = ["LossError", "TuneSettings", "Tuned", "training_folder", "tune"]
