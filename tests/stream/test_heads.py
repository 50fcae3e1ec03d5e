"""Exports of SSD and Faster R-CNN as torchvision writes them: boxes, labels, scores of one image, as many as
there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stream.batches import FrameBatch, Segment, Video
from stream.config import DetectorConfig
from stream.detect import Detector
from stream.errors import ModelError

TALL, WIDE, STEP = 64, 80, 16  # the boxes that the network knows, and how far apart they are
HEIGHT, WIDTH = 192, 320
NAMES = ("boxes", "labels", "scores")


def two_stage(
    path: Path,
    outputs: tuple[str, str, str] = NAMES,
    *,
    stacked: bool = True,
    order: tuple[int, int, int] = (0, 1, 2),
    label_type: int = TensorProto.INT64,
    shares: bool = False,
    metadata: dict[str, str] | None = None,
) -> Path:
    """A detector with NonMaxSuppression of its own: windows of 80x64 px that are red (label 1) or blue (2).

    A window's score is the share of it that has the colour; those of .7 and more come out.
    """
    rows, cols = (HEIGHT - TALL) // STEP + 1, (WIDTH - WIDE) // STEP + 1
    y, x = np.mgrid[:rows, :cols].astype(np.float32) * STEP
    anchors = np.stack([x.ravel(), y.ravel(), x.ravel() + WIDE, y.ravel() + TALL], 1)
    if shares:
        anchors /= np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32)
    # Colours by a 1x1 convolution: full red less the others, and full blue less the others.
    kernel = np.array([[1, -1, -1], [-1, -1, 1]], np.float32)[:, :, None, None]
    constants: dict[str, np.ndarray] = {
        "kernel": kernel,
        "anchors": anchors,
        "candidates": anchors[None],
        "flat": np.array([1, 2, -1], np.int64),
        "most": np.array([100], np.int64),
        "overlap": np.array([0.5], np.float32),
        "least": np.array([0.7], np.float32),
        "class_column": np.array(1, np.int64),
        "box_column": np.array(2, np.int64),
        "one": np.array(1, np.int64),
        "line": np.array([-1], np.int64),
        "front": np.array([0], np.int64),
        "both": np.array([1, 2], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Identity" if stacked else "Unsqueeze", ["images"] if stacked else ["images", "front"], ["x"]),
        node("Conv", ["x", "kernel"], ["colours"]),
        node("Relu", ["colours"], ["seen"]),
        node("AveragePool", ["seen"], ["shares"], kernel_shape=[TALL, WIDE], strides=[STEP, STEP]),
        node("Reshape", ["shares", "flat"], ["all_scores"]),
        node(
            "NonMaxSuppression", ["candidates", "all_scores", "most", "overlap", "least"], ["chosen"]
        ),  # (n, 3): image, class, box
        node("Gather", ["chosen", "class_column"], ["class_of"], axis=1),
        node("Gather", ["chosen", "box_column"], ["box_of"], axis=1),
        node("Gather", ["anchors", "box_of"], [outputs[0]], axis=0),
        node("Add", ["class_of", "one"], ["labels_of"]),
        node("Cast", ["labels_of"], [outputs[1]], to=label_type),
        node("GatherND", ["all_scores", "chosen"], [outputs[2]]),
    ]
    shape = [1, 3, HEIGHT, WIDTH]
    told = [
        helper.make_tensor_value_info(outputs[0], TensorProto.FLOAT, ["n", 4]),
        helper.make_tensor_value_info(outputs[1], label_type, ["n"]),
        helper.make_tensor_value_info(outputs[2], TensorProto.FLOAT, ["n"]),
    ]
    graph = helper.make_graph(
        nodes,
        "two stages",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape if stacked else shape[1:])],
        [told[i] for i in order],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def frames(*rectangles: list[tuple[int, int, tuple[int, int, int]]]) -> FrameBatch:
    """Grey frames, each with coloured windows at (x, y)."""
    images = np.full((len(rectangles), HEIGHT, WIDTH, 3), 128, np.uint8)
    for image, some in zip(images, rectangles, strict=True):
        for x, y, colour in some:
            image[y : y + TALL, x : x + WIDE] = colour
    n = len(images)
    video = Video("v", "/films/v.mp4", "video", WIDTH, HEIGHT, "f", frame_rate=25.0)
    numbers = np.arange(n)
    return FrameBatch(
        Segment(video, 0, 0.0), images, numbers / 1.0, numbers * 25, numbers, np.zeros(n, np.int32)
    )


RED, BLUE = (255, 0, 0), (0, 0, 255)
VARIANTS = {
    "a batch of one": {},
    "one image without a batch axis, as torchvision traces it": {"stacked": False},
    "outputs with numbers for names": {"outputs": ("2770", "2868", "2869")},
    "scores before labels": {"order": (0, 2, 1)},
    "labels first": {"order": (1, 2, 0)},
    "labels of 32 bits": {"label_type": TensorProto.INT32},
    "labels as decimals": {"label_type": TensorProto.FLOAT},
    "boxes as shares of the canvas": {"shares": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_boxes_come_out_as_they_are_in_the_picture(variant: str, tmp_path: Path) -> None:
    path = two_stage(tmp_path / "d.onnx", metadata={"names": "{1: 'fox', 2: 'cat'}"}, **VARIANTS[variant])  # type: ignore[arg-type]
    detector = Detector(DetectorConfig(model=str(path)), device="cpu", threads=1)
    assert "boxes, labels, scores" in detector.description
    found = detector(frames([(32, 16, RED), (208, 112, BLUE), (160, 0, RED)], [], [(0, 0, BLUE)]))
    rows = sorted(
        (int(f), found.class_names[c], *(round(float(v)) for v in box))
        for f, c, box in zip(found.frame, found.classes, found.boxes, strict=True)
    )
    assert rows == [
        (0, "cat", 208, 112, 288, 176),
        (0, "fox", 32, 16, 112, 80),
        (0, "fox", 160, 0, 240, 64),
        (2, "cat", 0, 0, 80, 64),
    ]
    np.testing.assert_allclose(found.scores, 1, atol=0.01)


def test_names_choose_and_scores_cut(tmp_path: Path) -> None:
    path = str(two_stage(tmp_path / "d.onnx", metadata={"names": "{1: 'fox', 2: 'cat'}"}))
    seen = frames([(32, 16, RED), (208, 112, (0, 0, 230))])

    def count(**changes: object) -> int:
        return len(Detector(DetectorConfig(model=path, **changes), device="cpu", threads=1)(seen))  # type: ignore[arg-type]

    assert count() == 2
    assert count(classes=("cat",)) == 1
    assert count(score=0.95) == 1
    assert count(max_per_frame=1) == 1


def test_without_names_classes_are_numbered(tmp_path: Path) -> None:
    detector = Detector(DetectorConfig(model=str(two_stage(tmp_path / "d.onnx"))), device="cpu", threads=1)
    found = detector(frames([(32, 16, BLUE)]))
    assert [found.class_names[c] for c in found.classes] == ["class 2"]


def test_two_outputs_that_could_be_scores_are_refused(tmp_path: Path) -> None:
    path = two_stage(tmp_path / "d.onnx", ("a", "b", "c"), label_type=TensorProto.FLOAT)
    with pytest.raises(ModelError, match=r"d\.onnx: expected a detector .* found a float32"):
        Detector(DetectorConfig(model=str(path)), device="cpu", threads=1)
