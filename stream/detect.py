"""Finding characters: frames in, boxes out."""

from __future__ import annotations

import difflib
import math
from dataclasses import replace

import numpy as np

from engines.runtime import Fallback
from kernels.boxes import fuse, mirror_boxes, nms, unletterbox
from kernels.boxes_cuda import find
from kernels.device import on_device, own_stream, to_host
from kernels.image import Letterbox, fit_letterbox, letterbox
from stream.batches import Array, Detections, FrameBatch
from stream.config import DetectorConfig
from stream.errors import ConfigError, ModelError
from stream.given import GivenBoxes
from stream.heads import Found, Head, recognize
from stream.networks import Network

__all__ = ["Detector", "GivenBoxes"]

_STEP = 32
_FREE_SIZE = (640, 640)  # a network that leaves its size free and does not say what it was trained at
_USUAL_SCORE = 0.25  # of exporters who do not say at which score their network is best
_FAINT = 1 / 3  # of the smallest score kept: one look may see less of what the looks together find
_WELL_FILLED = 0.9  # a network is at its best in the shape it was trained in: worth a tenth of padding
# Pixels per call: beyond 4 canvases of 320x192 a CPU gains nothing and takes 4 MB more for each; a GPU gains.
_PIXELS_PER_CALL = {"cpu": 1 << 18, "cuda": 1 << 23}


class Detector:
    """The station that finds characters with a network.

    Frames on a GPU stay there: they are letterboxed, the network runs on them, and what it puts out is read
    and suppressed there. Only the boxes kept come to the host; the station returns when they have.

    Attributes:
        name: 'detect'.
        model_hash: sha256 of the network's file.
        class_names: what the network tells apart.
        score: smallest score kept, 0..1.
        scales: sizes at which a frame is looked at, in parts of the network's.
        mirror: whether every second one of these looks is at the mirror image.
        fallbacks: what was wanted of the device and could not be had.
    """

    name = "detect"

    def __init__(
        self, config: DetectorConfig, *, device: str = "auto", threads: int = 0, engine: str = "auto"
    ) -> None:
        """Load ``config.model``, run it once to see what it puts out.

        Raises:
            ModelError: it is no detector of a known format, or has no such ``size``.
            ConfigError: ``config.classes`` names a class it does not know, or ``device`` cannot be had.
            DependencyError: no runtime is installed.
        """
        self.config = config
        self._network = Network(
            config.model,
            "detector",
            device=device,
            threads=threads,
            engine=engine,
            precision=config.precision,
        )
        self._trained = self._network.image_size() or _FREE_SIZE
        self._step = self._find_step()
        self.scales = config.scales or self._recommended_scales()
        self.mirror = config.mirror if config.mirror is not None else self._recommended_mirror()
        self._check_size()
        self.score = config.score if config.score is not None else self._recommended_score()
        height, width = self.canvas(*self._trained)
        trial = np.zeros((1, 3, height, width), np.float32)
        outputs = self._network.tried(trial)
        self._head: Head = recognize(self._network, outputs, height, width)
        self.class_names = self._head.class_names
        self._kept = self._find_kept()

    @property
    def model_hash(self) -> str:
        """sha256 of the network's file."""
        return self._network.file.sha256

    @property
    def device(self) -> str:
        """Where the network runs: 'cpu' or 'cuda'."""
        return self._network.engine.device

    @property
    def fallbacks(self) -> tuple[Fallback, ...]:
        """What was wanted of the device and could not be had, with the reason."""
        return self._network.engine.fallbacks

    @property
    def description(self) -> str:
        """The file, its format, and what runs it, for people."""
        return (
            f"{self._network} ({self._head.format}, {len(self.class_names)} classes) on"
            f" {self._network.engine.description}"
        )

    def _recommended_score(self) -> float:
        value = self._network.literal("score")
        if value is None:
            return _USUAL_SCORE
        if not (isinstance(value, int | float) and 0 <= value <= 1):
            raise ModelError(
                f"{self._network.file.path}: metadata 'score': expected a number in 0..1, found {value!r}"
            )
        return float(value)

    def _recommended_scales(self) -> tuple[float, ...]:
        value = self._network.literal("scales")
        if value is None:
            return (1.0,)
        if not (
            isinstance(value, list | tuple)
            and value
            and all(isinstance(scale, int | float) and 0.25 <= scale <= 4 for scale in value)
        ):
            raise ModelError(
                f"{self._network.file.path}: metadata 'scales': expected a list of numbers in 0.25..4, found"
                f" {value!r}"
            )
        return tuple(float(scale) for scale in value)

    def _recommended_mirror(self) -> bool:
        value = self._network.literal("mirror")
        if value not in (None, True, False):
            raise ModelError(
                f"{self._network.file.path}: metadata 'mirror': expected True or False, found {value!r}"
            )
        return bool(value)

    def _find_step(self) -> int:
        stride = self._network.literal("stride")
        if isinstance(stride, list | tuple) and stride:
            stride = stride[-1]
        return max(_STEP, stride) if isinstance(stride, int) and 0 < stride <= 256 else _STEP

    def _check_size(self) -> None:
        height, width, size = self._network.height, self._network.width, self.config.size
        if size is not None and height is not None and width is not None and size != max(height, width):
            raise ModelError(
                f"{self._network.file.path}: detector.size {size}: expected no size, because the network's"
                f" input is fixed at {width}x{height}; leave it out, or export the network with a free size"
            )
        if self.config.scales not in (None, (1.0,)) and not (height is None and width is None):
            raise ModelError(
                f"{self._network.file.path}: detector.scales {list(self.scales)}: expected none, because the"
                f" network's input is fixed at {width or 'any'}x{height or 'any'}; leave them out, or export"
                " the network with a free size"
            )

    def _find_kept(self) -> Array | None:
        """(C,) bool: the classes to keep; None keeps all."""
        names = self.class_names
        if self.config.classes:
            for wanted in self.config.classes:
                if wanted not in names:
                    near = difflib.get_close_matches(wanted, names, n=1)
                    hint = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(names[:100])}"
                    raise ConfigError(f"detector.classes: {self._network} does not know {wanted!r}; {hint}")
            return np.array([name in self.config.classes for name in names])
        if "character" in names and "face" in names:
            return np.array([name != "face" for name in names])
        return None

    def canvas(self, frame_height: int, frame_width: int, scale: float = 1.0) -> tuple[int, int]:
        """Height and width of the network's input for frames of this size, looked at in this scale.

        A side that the file fixes is kept. Else ``config.size`` is the longer side; without it, a square
        training size gives the longer side (as its exporters mean it), and another one the number of pixels,
        or the very shape where the frame fills most of it.
        """
        if self._network.height is not None and self._network.width is not None:
            return self._network.height, self._network.width
        trained_height, trained_width = (side * scale for side in self._trained)
        longer = self.config.size or (self._trained[0] if trained_height == trained_width else None)
        if longer is not None:
            ratio = scale * longer / max(frame_height, frame_width)
            height, width = (self._up(side * ratio) for side in (frame_height, frame_width))
        elif self._fills(frame_height, frame_width) >= _WELL_FILLED:
            height, width = self._up(trained_height), self._up(trained_width)
        else:
            pixels = trained_height * trained_width
            ratio = math.sqrt(pixels / (frame_height * frame_width))
            longest = self._near(pixels / self._step)  # of a frame that is a thin line
            height, width = (min(self._near(side * ratio), longest) for side in (frame_height, frame_width))
        return self._network.height or height, self._network.width or width

    def _fills(self, frame_height: int, frame_width: int) -> float:
        """Share of the training shape that a frame covers when it is letterboxed into it."""
        covered = (self._trained[0] / frame_height, self._trained[1] / frame_width)
        return min(covered) / max(covered)

    def _up(self, side: float) -> int:
        return max(1, math.ceil(side / self._step - 1e-6)) * self._step

    def _near(self, side: float) -> int:
        return max(1, round(side / self._step)) * self._step

    def __call__(self, batch: FrameBatch) -> Detections:
        """Find the characters of a batch of frames.

        Raises:
            ModelError: the network fails, or puts out numbers that are not finite.
        """
        frame_height, frame_width = batch.images.shape[1:3]
        found: list[Found] = []
        if len(batch):
            views = dict.fromkeys(
                (self.canvas(frame_height, frame_width, scale), self.mirror and k % 2 == 1)
                for k, scale in enumerate(self.scales)
            )
            with own_stream(self.name, batch.images):
                looks = [self._look(batch.images, *view, len(views)) for view in views]
            found = looks[0] if len(looks) == 1 else [self._join(same) for same in zip(*looks, strict=True)]
        counts = [len(f.scores) for f in found]
        classes = np.concatenate([f.classes for f in found] or [np.empty(0, np.int32)])
        return Detections(
            frames=batch,
            frame=np.repeat(np.arange(len(found), dtype=np.int32), counts),
            boxes=np.concatenate([f.boxes for f in found] or [np.empty((0, 4), np.float32)]),
            scores=np.concatenate([f.scores for f in found] or [np.empty(0, np.float32)]),
            classes=classes,
            class_names=self._named(int(classes.max()) + 1 if len(classes) else 0),
        )

    def _look(self, images: Array, size: tuple[int, int], mirrored: bool, looks: int) -> list[Found]:
        """What is seen at one size, in the frames' pixels, a :class:`Found` per image."""
        height, width = images.shape[1:3]
        place = fit_letterbox(height, width, *size, centred=self._head.centred)
        floor = self.score * (_FAINT if looks > 1 else 1)
        per_call = self._per_call(place.height, place.width)
        found: list[Found] = []
        for start in range(0, len(images), per_call):
            found += self._detect(images[start : start + per_call], place, mirrored, floor)
        return found

    def _join(self, looks: tuple[Found, ...]) -> Found:
        """What several looks at one image say together, class by class, best first."""
        boxes, scores, classes = (
            np.concatenate([getattr(look, key) for look in looks]) for key in ("boxes", "scores", "classes")
        )
        if not len(classes):
            return looks[0]
        source = np.repeat(np.arange(len(looks)), [len(look.classes) for look in looks])
        parts = []
        for each in np.unique(classes):
            of = classes == each
            fused = fuse(boxes[of], scores[of], source[of], len(looks), self.config.iou)
            parts.append((fused[0], fused[1], np.full(len(fused[0]), each, np.int32)))
        boxes, scores, classes = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(-scores, kind="stable")[: self.config.max_per_frame]
        order = order[scores[order] >= self.score]
        return Found(boxes[order], scores[order], classes[order])

    def _per_call(self, height: int, width: int) -> int:
        if self._head.one_by_one:
            return 1
        return self._network.batch or max(
            1, _PIXELS_PER_CALL[self._network.engine.device] // (height * width)
        )

    def _named(self, count: int) -> tuple[str, ...]:
        """The class names, numbered on where the file names fewer classes than it puts out."""
        return self.class_names + tuple(f"class {k}" for k in range(len(self.class_names), count))

    def _detect(self, images: Array, place: Letterbox, mirrored: bool, floor: float) -> list[Found]:
        head = self._head
        dtype = self._network.dtype_for(images)
        canvas = letterbox(images, place, mul=head.mul, add=head.add, bgr=head.bgr, dtype=dtype)
        if mirrored:  # here, where it is smaller than the frame
            content = slice(place.left, place.left + place.content_width)
            canvas[..., content] = canvas[..., content][..., ::-1].copy()
        found = self._read(canvas, place, floor)
        if mirrored:
            found = [replace(one, boxes=mirror_boxes(one.boxes, place.source_width)) for one in found]
        return found

    def _read(self, canvas: Array, place: Letterbox, floor: float) -> list[Found]:
        """What the network finds on canvases (N, 3, H, W), in the pixels of the frames that lie on them."""
        outputs = self._network.run(self._network.placed(canvas))
        if self._head.layout is not None and on_device(outputs[self._head.key]):
            return self._checked(self._find(outputs, place, floor), len(canvas))
        outputs = {name: to_host(value, "network output") for name, value in outputs.items()}
        self._network.check_finite(outputs, "for these frames")
        read = self._head.read(outputs, place.height, place.width, floor)
        return [self._finish(found, place) for found in self._checked(read, len(canvas))]

    def _find(self, outputs: dict[str, Array], place: Letterbox, floor: float) -> list[Found]:
        """What the GPU reads in outputs that lie there."""
        head = self._head
        assert head.layout is not None
        kept = find(
            outputs[head.key], head.layout, place,
            score=floor, wanted=self._kept, threshold=self.config.iou if head.needs_nms else None,
            limit=self.config.max_per_frame,
            checked=tuple(value for value in outputs.values() if value.dtype.kind == "f"),
        )  # fmt: skip
        if kept is None:
            raise self._network.not_finite("its outputs have", "for these frames")
        return [Found(one.boxes, np.minimum(one.scores, np.float32(1)), one.classes) for one in kept]

    def _checked(self, found: list[Found], count: int) -> list[Found]:
        if len(found) != count:
            raise ModelError(
                f"{self._network.file.path}: expected outputs for {count} images, found {len(found)}"
            )
        return found

    def _finish(self, found: Found, place: Letterbox) -> Found:
        """Classes wanted, in the frame's pixels, suppressed, best first."""
        boxes = unletterbox(found.boxes, place)
        keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])  # some lie wholly on the grey
        if self._kept is not None:
            known = found.classes < len(self._kept)
            keep &= known & self._kept[np.where(known, found.classes, 0)]
        boxes, scores, classes = boxes[keep], found.scores[keep], found.classes[keep]
        if self._head.needs_nms:
            order = nms(boxes, scores, classes, self.config.iou, self.config.max_per_frame)
        else:
            order = np.argsort(-scores, kind="stable")[: self.config.max_per_frame]
        return Found(boxes[order], np.minimum(scores[order], np.float32(1)), classes[order])

    def close(self) -> None:
        """Free the network."""
        self._network.close()
