"""What detectors put out, recognized from the shapes of a trial run and the file's metadata.

=================  ==========================================  =====================  ===================
format             outputs                                     input                  boxes
=================  ==========================================  =====================  ===================
YOLOv8, v11, ours  (N, 4+C, A), scores already 0..1            RGB 0..1, centred      cx, cy, w, h pixels
YOLOv5, v7         (N, 3A, 5+C), objectness x class            RGB 0..1, centred      cx, cy, w, h pixels
YOLOX              (N, A, 5+C), objectness x class             BGR 0..255, top left   per grid cell
end to end         (N, K, 6): x1, y1, x2, y2, score, class     RGB 0..1, centred      pixels
SSD, Faster R-CNN  boxes (N, K, 4), labels, scores (N, K)      RGB 0..1 or mean, std  pixels or 0..1
=================  ==========================================  =====================  ===================

``A`` is the number of grid cells: the sum of H/s * W/s over the strides s (8, 16, 32; also with 4 or 64, and
16, 32 alone). Segmentation and pose exports carry more channels than classes; their boxes are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from kernels.boxes import xywh_to_xyxy
from kernels.boxes_cuda import Layout
from stream.batches import Array
from stream.errors import ModelError
from stream.networks import Network

_COCO = (
    "person;bicycle;car;motorcycle;airplane;bus;train;truck;boat;traffic light;fire hydrant;stop sign;"
    "parking meter;bench;bird;cat;dog;horse;sheep;cow;elephant;bear;zebra;giraffe;backpack;umbrella;handbag;"
    "tie;suitcase;frisbee;skis;snowboard;sports ball;kite;baseball bat;baseball glove;skateboard;surfboard;"
    "tennis racket;bottle;wine glass;cup;fork;knife;spoon;bowl;banana;apple;sandwich;orange;broccoli;carrot;"
    "hot dog;pizza;donut;cake;chair;couch;potted plant;bed;dining table;toilet;tv;laptop;mouse;remote;"
    "keyboard;cell phone;microwave;oven;toaster;sink;refrigerator;book;clock;vase;scissors;teddy bear;"
    "hair drier;toothbrush"
)
COCO_NAMES = tuple(_COCO.split(";"))
_STRIDE_RUNS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))


@dataclass(frozen=True)
class Found:
    """Boxes of one image: (M, 4) float32 xyxy on the network's canvas, scores (M,), classes (M,) int32."""

    boxes: Array
    scores: Array
    classes: Array


@dataclass(frozen=True)
class Head:
    """How to feed a detector and to read it.

    ``read(outputs, height, width, score)`` gives a :class:`Found` per image, scores of at least ``score``. It
    reads arrays on the host; ``layout`` says how :func:`kernels.boxes_cuda.find` reads the output ``key``
    where it lies on a GPU. Without it the outputs, which are few boxes then, are brought to the host.
    """

    format: str
    class_names: tuple[str, ...]
    read: Callable[[dict[str, Array], int, int, float], list[Found]]
    mul: Array
    add: Array
    bgr: bool = False
    centred: bool = True
    needs_nms: bool = True
    one_by_one: bool = False
    key: str = ""
    layout: Layout | None = None


def recognize(network: Network, outputs: dict[str, Array], height: int, width: int) -> Head:
    """Tell a detector's format from what it put out for a ``height`` x ``width`` canvas of zeros.

    Raises:
        ModelError: it is no detector, or one of a format that is not known; with the shapes found.
    """
    task = network.metadata.get("task", "detect")
    names = _names(network)
    mul, add = network.scaling((0, 0, 0), (1, 1, 1))
    scaled = not {"mean", "std"}.isdisjoint(network.metadata)
    head = None
    if task in ("detect", "segment", "pose"):
        dense = [(k, v) for k, v in outputs.items() if v.ndim == 3 and v.dtype.kind == "f" and len(v) == 1]
        triple = _triple(outputs)
        if triple is not None:
            rank = outputs[triple[0]].ndim
            read = partial(_read_triple, triple)
            head = Head("boxes, labels, scores", names, read, mul, add, one_by_one=rank == 2)
        elif len(dense) == 1:
            head = _dense_head(*dense[0], names, height, width, mul, add, scaled)
    if head is None:
        shapes = ", ".join(f"{name} {value.dtype} {value.shape}" for name, value in outputs.items())
        cells = _cells((8, 16, 32), height, width)
        raise ModelError(
            f"{network.file.path}: expected a detector whose outputs for one {width}x{height} image are"
            f" (1, 4+classes, {cells}) as YOLOv8 and v11, (1, {3 * cells}, 5+classes) as YOLOv5,"
            f" (1, {cells}, 5+classes) as YOLOX, (1, K, 6) end to end, or boxes, labels and scores;"
            f" found {shapes}, {len(names)} class names, task {task!r}"
        )
    return head


def _names(network: Network) -> tuple[str, ...]:
    """Metadata ``names``: a dict of number to name, or a list; empty where there is none."""
    value = network.literal("names")
    if value is None:
        return ()
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not (isinstance(value, dict) and value and all(isinstance(k, int) and 0 <= k < 65536 for k in value)):
        raise ModelError(
            f"{network.file.path}: metadata 'names': expected {{0: 'person', ...}}, found {str(value)[:80]}"
        )
    return tuple(str(value.get(k, f"class {k}")) for k in range(max(value) + 1))


def _cells(strides: tuple[int, ...], height: int, width: int) -> int:
    return sum(-(-height // s) * -(-width // s) for s in strides)


def _strides(cells: int, height: int, width: int) -> tuple[int, ...] | None:
    """The strides whose grids have ``cells`` cells together, None where there are none."""
    return next((run for run in _STRIDE_RUNS if _cells(run, height, width) == cells), None)


def _numbered(names: tuple[str, ...], count: int) -> tuple[str, ...]:
    if names:
        return names
    return COCO_NAMES if count == len(COCO_NAMES) else tuple(f"class {k}" for k in range(count))


def _dense_head(
    key: str,
    value: Array,
    names: tuple[str, ...],
    height: int,
    width: int,
    mul: Array,
    add: Array,
    scaled: bool,
) -> Head | None:
    _, rows, columns = value.shape
    strides = _strides(rows, height, width)
    if columns == 6 and rows <= 1000 and (strides is None or len(strides) < 3):
        return Head(
            "end to end", names, partial(_read_finished, key), mul, add,
            needs_nms=False, key=key, layout=Layout("finished"),
        )  # fmt: skip
    if columns >= 6 and strides is not None and len(names) in (0, columns - 5):
        # YOLOX was trained on 0..255, unless mean and std are told
        mul, add = (mul, add) if scaled else (np.ones(3, np.float32), np.zeros(3, np.float32))
        grid = None if _is_decoded(value[0], strides, height, width) else strides
        read = partial(_read_rows, key, grid)
        class_names = _numbered(names, columns - 5)
        layout = Layout("rows", columns - 5, grid or ())
        return Head(
            "YOLOX", class_names, read, mul, add, bgr=True, centred=False, key=key, layout=layout
        )  # fmt: skip
    if columns >= 6 and rows % 3 == 0 and _strides(rows // 3, height, width) is not None:
        classes = len(names) or columns - 5
        if 1 <= classes <= columns - 5:
            read = partial(_read_rows, key, None, classes=classes)
            layout = Layout("rows", classes)
            return Head("YOLOv5", _numbered(names, classes), read, mul, add, key=key, layout=layout)
    if rows >= 5 and _strides(columns, height, width) is not None:
        classes = len(names) or rows - 4
        if 1 <= classes <= rows - 4:
            read = partial(_read_columns, key, classes)
            layout = Layout("columns", classes)
            return Head("YOLOv8", _numbered(names, classes), read, mul, add, key=key, layout=layout)
    return None


def _is_decoded(rows: Array, strides: tuple[int, ...], height: int, width: int) -> bool:
    """Whether a YOLOX output is in pixels: then box centres lie near the centres of their cells."""
    points, _ = _grid(strides, height, width)
    return bool(np.abs(rows[:, 0] - points[:, 0]).mean() < np.abs(rows[:, 0]).mean() / 2)


def _grid(strides: tuple[int, ...], height: int, width: int) -> tuple[Array, Array]:
    """(A, 2) corner of each cell in pixels, row by row, and (A, 1) its stride."""
    points, sizes = [], []
    for s in strides:
        y, x = np.mgrid[: -(-height // s), : -(-width // s)].astype(np.float32)
        points.append(np.stack([x.ravel(), y.ravel()], 1) * s)
        sizes.append(np.full((x.size, 1), s, np.float32))
    return np.concatenate(points), np.concatenate(sizes)


def _read_columns(
    key: str, classes: int, outputs: dict[str, Array], height: int, width: int, score: float
) -> list[Found]:
    """(N, 4+C, A) centre boxes in pixels, a score per class."""
    found = []
    for image in outputs[key]:
        all_scores = image[4 : 4 + classes]
        keep = np.flatnonzero(all_scores.max(axis=0) >= score)
        scores = all_scores[:, keep]
        found.append(_found(xywh_to_xyxy(image[:4, keep].T), scores.max(axis=0), scores.argmax(axis=0)))
    return found


def _read_rows(
    key: str,
    strides: tuple[int, ...] | None,
    outputs: dict[str, Array],
    height: int,
    width: int,
    score: float,
    classes: int | None = None,
) -> list[Found]:
    """(N, A, 5+C) centre boxes, objectness, a score per class; on the grid of ``strides`` unless None.

    Boxes on the grid (Ge et al. 2021, YOLOX): centre = (cell + xy) * stride, size = exp(wh) * stride.
    """
    points, sizes = _grid(strides, height, width) if strides else (None, None)
    last = None if classes is None else 5 + classes
    found = []
    for image in outputs[key]:
        some = np.flatnonzero(image[:, 4] >= score)  # the product can only be smaller
        scores = image[some, 4:5] * image[some, 5:last]
        best = scores.max(axis=1)
        sure = best >= score
        keep = some[sure]
        boxes = image[keep, :4]
        if points is not None and sizes is not None:
            centre = boxes[:, :2] * sizes[keep] + points[keep]
            size = np.exp(np.minimum(boxes[:, 2:], 20)) * sizes[keep]
            boxes = np.concatenate([centre, size], axis=1)
        found.append(_found(xywh_to_xyxy(boxes), best[sure], scores[sure].argmax(axis=1)))
    return found


def _read_finished(key: str, outputs: dict[str, Array], height: int, width: int, score: float) -> list[Found]:
    """(N, K, 6) corners in pixels, score, class."""
    found = []
    for image in outputs[key]:
        kept = image[image[:, 4] >= score]
        found.append(_found(kept[:, :4], kept[:, 4], kept[:, 5]))
    return found


def _triple(outputs: dict[str, Array]) -> tuple[str, str, str] | None:
    """Names of the boxes, labels and scores outputs, None unless all three are there."""
    boxes = [k for k, v in outputs.items() if v.ndim in (2, 3) and v.shape[-1] == 4 and v.dtype.kind == "f"]
    if len(boxes) != 1:
        return None
    rest = {k: v for k, v in outputs.items() if v.shape == outputs[boxes[0]].shape[:-1]}
    labels = [
        k for k, v in rest.items() if v.dtype.kind in "iu" or "label" in k.lower() or "class" in k.lower()
    ]
    scores = [k for k, v in rest.items() if v.dtype.kind == "f" and k not in labels]
    if len(labels) != 1 or len(scores) != 1:
        return None
    return boxes[0], labels[0], scores[0]


def _read_triple(
    keys: tuple[str, str, str], outputs: dict[str, Array], height: int, width: int, score: float
) -> list[Found]:
    """Boxes, labels and scores, of one image without or of several with the batch axis."""
    boxes, labels, scores = (outputs[key] for key in keys)
    if boxes.ndim == 2:
        boxes, labels, scores = boxes[None], labels[None], scores[None]
    found = []
    for corners, numbers, sure in zip(boxes, labels, scores, strict=True):
        keep = (sure >= score) & (numbers >= 0)
        corners = corners[keep]
        # a box in pixels that ends within the first two does not occur, so these are shares of the canvas
        if len(corners) and corners.max() <= 2:
            corners = corners * np.array([width, height, width, height], np.float32)
        found.append(_found(corners, sure[keep], numbers[keep]))
    return found


def _found(boxes: Array, scores: Array, classes: Array) -> Found:
    boxes = np.ascontiguousarray(boxes, np.float32)
    real = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & (classes >= 0)
    return Found(boxes[real], scores[real].astype(np.float32), classes[real].astype(np.int32))
