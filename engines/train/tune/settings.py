"""What a training of a user's detector depends on: settings, the parts of the data, and what they must be."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

import numpy as np

from engines.train.export import IMAGE_SIZE
from engines.train.labels import LabelledDataset, split
from engines.train.localization import LocalizationSettings
from engines.train.tune.data import STEP
from engines.train.tune.start import SIZES, Size
from engines.train.tune.views import ViewSettings
from stream.errors import ConfigError

Start = Literal["default", "scratch"]
Localization = Literal["iou", "sum", "weighted", "exp", "exp_squared"]
_RATES = {"default": 5e-4, "scratch": 2e-3}
_VIEWS = 10_000  # pictures that a training is made of where no epochs are told
_FEWEST, _MOST = 12, 120  # and how many epochs that may be
_VAL = 0.2


@dataclass(frozen=True)
class TuneSettings:
    """How to train.

    Attributes:
        size: of the net: n is the default detector's, s costs about twice, m five times as much.
        start: from the default detector's weights (only size n has them) or from random ones; None: from the
            default's where there are some.
        epochs: times over the training images; None: about 10,000 pictures' worth, 12 to 120 epochs.
        minutes: longest time; fewer epochs are planned where they would take longer. Other machines, or busy
            ones, then plan other numbers; give ``epochs`` where weights shall be the same again.
        batch: pictures a step. Raising it takes memory and makes steps slower and steadier.
        imgsz: height and width of the net's input, multiples of 32. Raising them finds smaller characters and
            is slower. None: as many pixels as the default detector's, of the images' own aspect.
        rate: peak learning rate. Raising it learns faster until it diverges. None: by ``start``.
        val: share of the images to measure with; None: as the labels say, or .2 where they do not.
        patience: epochs without a better AP50:95 after which it ends; None: never.
        localization_loss: how boxes are learned. "iou": by their overlap, with scores that say how well the
            box fits. The others by their corners, in all but "sum" as far as the class is right, with scores
            that are the probability of the class; see ``engines.train.localization``.
        seed: the same seed gives the same weights on one machine with the same number of threads.
        workers: processes that read images and make pictures; 0: none beside the trainer. Weights do not
            depend on it.
        threads: of torch; None leaves them as they are.
        device: "cpu" or "cuda".
        views: what is done to the images.
    """

    size: Size = "n"
    start: Start | None = None
    epochs: int | None = None
    minutes: float | None = None
    batch: int = 8
    imgsz: tuple[int, int] | None = None
    rate: float | None = None
    val: float | None = None
    patience: int | None = None
    localization_loss: Localization = "iou"
    seed: int = 0
    workers: int = 1
    threads: int | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    views: ViewSettings = field(default_factory=ViewSettings)

    def checked(self) -> TuneSettings:
        """The same with ``start`` told. ConfigError where a value is out of its range."""
        start = self.start or ("default" if self.size == "n" else "scratch")
        if self.size not in SIZES:
            raise ConfigError(f"size: expected one of {', '.join(SIZES)}, got {self.size!r}")
        if self.localization_loss not in get_args(Localization):
            raise ConfigError(
                f"localization loss: expected one of {', '.join(get_args(Localization))},"
                f" got {self.localization_loss!r}"
            )
        if start == "default" and self.size != "n":
            raise ConfigError(
                f"from default: there are weights for size n only, not for {self.size}; use --size n, or"
                " --from scratch"
            )
        for name, least in (("epochs", 1), ("batch", 1), ("patience", 1), ("workers", 0), ("threads", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name}: expected {least} or more, got {value}")
        for name in ("minutes", "rate"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name}: expected more than 0, got {value:g}")
        if self.imgsz is not None and any(side < STEP or side % STEP for side in self.imgsz):
            raise ConfigError(
                f"imgsz: expected multiples of {STEP}, got {self.imgsz[0]}x{self.imgsz[1]} (height x width)"
            )
        return replace(self, start=start)

    @property
    def localization(self) -> LocalizationSettings | None:
        """Of the class-dependent loss, which here has to learn the whole box; None for "iou"."""
        if self.localization_loss == "iou":
            return None
        return LocalizationSettings(self.localization_loss, reference="corners")

    @property
    def peak_rate(self) -> float:
        """``rate``, or what the start asks for."""
        return self.rate if self.rate is not None else _RATES[self.start or "scratch"]

    def planned_epochs(self, images: int) -> int:
        """``epochs``, or what so many images ask for."""
        if self.epochs is not None:
            return self.epochs
        return min(_MOST, max(_FEWEST, math.ceil(_VIEWS / images)))

    def image_size(self, dataset: LabelledDataset) -> tuple[int, int]:
        """``imgsz``, or the default's number of pixels in the images' middle aspect."""
        if self.imgsz is not None:
            return self.imgsz
        ratio = float(np.median([image.width / image.height for image in dataset]))
        ratio = min(max(ratio, 0.25), 4.0)
        pixels = IMAGE_SIZE[0] * IMAGE_SIZE[1]
        height = max(1, round(math.sqrt(pixels / ratio) / STEP)) * STEP
        width = max(1, round(math.sqrt(pixels * ratio) / STEP)) * STEP
        # A square would mean its longer side, and give long frames fewer pixels.
        return height, width + STEP * (width == height)


def parts_of(
    dataset: LabelledDataset, val: float | None, seed: int
) -> tuple[LabelledDataset, LabelledDataset]:
    """(training, validation) images: as the labels say where ``val`` is None and they say, else drawn anew.

    Images of the test split are in neither.

    Raises:
        ConfigError: no boxes at all or in one of the parts, too few images, ``val`` out of its range.
    """
    used = dataset.subset(i for i, image in enumerate(dataset) if image.split != "test")
    if not used.boxes:
        names = ", ".join(dataset.class_names[:5]) or "none named"
        raise ConfigError(
            f"expected boxes to learn from, found none in {len(used)} images (classes: {names}); were the"
            " labels exported, and is this their folder?"
        )
    if val is None and any(image.split == "val" for image in used):
        drawn = used
    else:
        drawn = split(used, _VAL if val is None else val, seed)
    train = drawn.subset(i for i, image in enumerate(drawn) if image.split != "val")
    held = drawn.of_split("val")
    for part, name in ((train, "training"), (held, "validation")):
        if not part.boxes:
            raise ConfigError(
                f"expected boxes in the {name} part, found none in its {len(part)} images of {len(used)};"
                " label more images, or draw other parts with --val and --seed"
            )
    return train, held


def fingerprint(
    settings: TuneSettings, imgsz: tuple[int, int], train: LabelledDataset, held: LabelledDataset
) -> dict[str, Any]:
    """What must be the same for a checkpoint to be gone on with; the rate and the length may change."""
    digest = hashlib.sha256(json.dumps(train.class_names).encode())
    for part in (train, held):
        for image in part:
            digest.update(f"{image.name}\0{image.width}x{image.height}\0{image.flags}\0".encode())
            digest.update(image.boxes.tobytes() + image.classes.tobytes())
    free = {"epochs", "minutes", "rate", "patience", "workers", "threads", "device", "val", "views", "imgsz"}
    fixed = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name not in free}
    views = hashlib.sha256(json.dumps(asdict(settings.views)).encode()).hexdigest()[:12]
    return {**fixed, "imgsz": list(imgsz), "views": views, "images": digest.hexdigest()[:16]}
