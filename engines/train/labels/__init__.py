"""Labels for training a detector: DarkNet text, PASCAL VOC, COCO and this project's CSV, in and out.

``read_labels`` gives a ``LabelledDataset``: paths, sizes, boxes (n, 4) float32 xyxy in pixels, class ids and
names; pictures are read when asked for. ``split`` draws training and validation parts. ``convert`` writes
another format. Nothing is dropped in silence: ``Problems`` lists every finding with its file and place.

Pixels: the left edge of the first column is 0.0, the right edge of the last is the width, as in COCO.
"""

from __future__ import annotations

from engines.train.labels.check import ReadOptions
from engines.train.labels.convert import Conversion, check, convert, form_of, read_labels
from engines.train.labels.dataset import LabelledDataset, LabelledImage
from engines.train.labels.problems import Problem, Problems
from engines.train.labels.split import split

__all__ = [
    "Conversion",
    "LabelledDataset",
    "LabelledImage",
    "Problem",
    "Problems",
    "ReadOptions",
    "check",
    "convert",
    "form_of",
    "read_labels",
    "split",
]
