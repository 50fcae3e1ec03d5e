"""float16 and int8 files against float32 on ONNX Runtime, on pictures of a drawn episode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tiny_nets import Mean, export

from engines.models import resolve
from engines.runtime import EngineError
from engines.runtime.cache import Cache
from engines.runtime.precision import PRECISIONS, Precision, calibrate, calibration, prepare
from engines.runtime.precision.graph import load_model
from engines.runtime.precision.half import to_half
from stream.config import DetectorConfig, EmbedderConfig
from stream.engine_tools.samples import Samples, detector_inputs, embedder_inputs, rendered

DETECTOR, EMBEDDER = resolve("default", "detector").path, resolve("default", "embedder").path


@pytest.fixture(scope="module")
def samples() -> Samples:
    return rendered(16)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache("networks", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def frames(samples: Samples) -> list[np.ndarray]:
    return detector_inputs(DetectorConfig(), samples.frames)


@pytest.fixture(scope="module")
def crops(samples: Samples) -> list[np.ndarray]:
    return embedder_inputs(EmbedderConfig(mirror=False), samples.crops)


def run(path: Path, images: np.ndarray, optimize: bool = True) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if not optimize:  # what ONNX Runtime makes of float16 between int8 on a CPU is less exact than the file
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    dtype = np.float16 if given.type == "tensor(float16)" else np.float32
    result: np.ndarray = session.run(None, {given.name: images.astype(dtype)})[0]
    return result


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_samples_are_different_pictures(samples: Samples) -> None:
    assert len({frame.tobytes() for frame in samples.frames}) == 16
    assert len({crop.tobytes() for crop in samples.crops}) == 16


def test_detector_in_float16(frames: list[np.ndarray], cache: Cache) -> None:
    """Scores within 0.01, boxes within 1.5 px of a 320 px canvas, on average a twentieth of a pixel."""
    prepared = prepare(DETECTOR, "fp16", cache=cache)
    images = np.concatenate(frames)
    want, have = run(DETECTOR, images), run(prepared.path, images)
    gap = np.abs(have - want)
    assert gap[:, 4:].max() < 0.01
    assert gap[:, :4].max() < 1.5
    assert gap[:, :4].mean() < 0.05
    assert gap.max() > 0
    model, original = onnx.load(prepared.path), onnx.load(DETECTOR)
    assert model.metadata_props == original.metadata_props
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert prepared.path.stat().st_size < 0.6 * DETECTOR.stat().st_size


def test_embedder_in_float16(crops: list[np.ndarray], cache: Cache) -> None:
    images = np.concatenate(crops)
    have = run(prepare(EMBEDDER, "fp16", cache=cache).path, images)
    assert have.dtype == np.float32
    assert cosines(run(EMBEDDER, images), have).min() > 0.9999


def test_embedder_in_int8(crops: list[np.ndarray], cache: Cache) -> None:
    """Calibrated on one half of the crops, compared on the other: cosine 0.99 at least, 0.998 on average."""
    prepared = calibrate(EMBEDDER, [{"images": x} for x in crops[::2]], "an episode", cache=cache)
    kept = calibration(EMBEDDER, cache=cache)
    assert kept is not None
    assert (kept.about["pictures"], kept.about["origin"]) == (8, "an episode")
    images = np.concatenate(crops[1::2])
    want = run(EMBEDDER, images)
    mixed = prepare(EMBEDDER, "int8", rest="fp16", cache=cache)
    assert prepare(EMBEDDER, "int8", cache=cache) == prepared
    for path, optimize in ((prepared.path, True), (mixed.path, False)):
        found = cosines(want, run(path, images, optimize))
        assert found.min() > 0.99, path
        assert 0.998 < found.mean() < 0.9999999, path
        assert onnx.load(path).metadata_props == onnx.load(EMBEDDER).metadata_props


def test_detector_in_int8(frames: list[np.ndarray], cache: Cache) -> None:
    """Scores within 0.002 and boxes within 2 px, on average over all cells; most of them see nothing."""
    prepared = calibrate(DETECTOR, [{"images": x} for x in frames[::2]], "an episode", cache=cache)
    images = np.concatenate(frames[1::2])
    want = run(DETECTOR, images)
    mixed = prepare(DETECTOR, "int8", rest="fp16", cache=cache)
    for path, optimize in ((prepared.path, True), (mixed.path, False)):
        gap = np.abs(run(path, images, optimize) - want)
        assert gap[:, 4:].mean() < 0.002, path
        assert gap[:, :4].mean() < 2, path
    nodes = onnx.load(prepared.path).graph.node
    weights = [node for node in nodes if node.op_type == "DequantizeLinear"]
    outputs = {f"{name}.weight" for k in range(3) for name in (f"box_out.{k}", f"class_out.{k}")}
    assert len(weights) > 100
    assert not any(name in outputs for node in nodes if node.op_type != "Conv" for name in node.input)


def one_layer(path: Path, *tail: Any, opset: int = 18) -> Path:
    """images -> 1x1 convolution that copies -> ``tail`` -> out; 3 channels of 2x2."""
    kernel = numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "kernel")
    numbers = [numpy_helper.from_array(np.float32(v), n) for v, n in ((4096.0, "scale"), (0.3, "shift"))]
    shape = ["N", 3, 2, 2]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "kernel"], ["copied"]), *tail],
        "one layer",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)],
        [kernel, *numbers],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), str(path)
    )
    return path


def test_what_follows_the_last_layer_stays_float32(tmp_path: Path) -> None:
    """4096.3 is 4096 in float16: a box at the right edge of a large frame would be off by pixels."""
    path = one_layer(
        tmp_path / "edge.onnx",
        helper.make_node("Mul", ["copied", "scale"], ["large"]),
        helper.make_node("Add", ["large", "shift"], ["out"]),
    )
    half = to_half(load_model(path))
    kinds = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert kinds == {
        "kernel__fp16": TensorProto.FLOAT16,
        "scale": TensorProto.FLOAT,
        "shift": TensorProto.FLOAT,
    }
    assert [node.op_type for node in half.graph.node] == ["Conv", "Cast", "Mul", "Add"]
    onnx.save(half, str(tmp_path / "half.onnx"))
    out = run(tmp_path / "half.onnx", np.ones((2, 3, 2, 2), np.float32))
    np.testing.assert_allclose(out, 4096.3, atol=1e-3)


def test_values_that_float16_cannot_hold(tmp_path: Path) -> None:
    """A huge constant becomes the largest there is, a tiny one stays above zero, infinity stays."""
    big = numpy_helper.from_array(np.float32([1e9, 1e-12, np.inf, -1e-12]).reshape(1, 1, 2, 2), "big")
    path = one_layer(
        tmp_path / "x.onnx",
        helper.make_node("Add", ["copied", "big"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["out"]),
    )
    model = onnx.load(path)
    model.graph.initializer.append(big)
    onnx.save(model, path)
    half = to_half(load_model(path))
    (found,) = [numpy_helper.to_array(t) for t in half.graph.initializer if t.name.startswith("big")]
    assert found.dtype == np.float16
    assert found.ravel()[0] == 65504
    assert found.ravel()[1] > 0 > found.ravel()[3]
    assert np.isinf(found.ravel()[2])


def test_a_file_in_float16_stays_as_it_is(tmp_path: Path, cache: Cache) -> None:
    path = export(Mean(), tmp_path / "half.onnx", size=(8, 8), half=True)
    for precision in PRECISIONS[1:]:
        assert prepare(path, precision, cache=cache).path == path
    with pytest.raises(EngineError, match="expected a network in float32, found fp16"):
        calibrate(path, [], "nothing", cache=cache)


def test_a_converted_file_is_made_once(tmp_path: Path) -> None:
    cache = Cache("networks", tmp_path)
    first = prepare(EMBEDDER, "fp16", cache=cache)
    time = first.path.stat().st_mtime_ns
    again = prepare(EMBEDDER, "fp16", cache=cache)
    assert (again, again.path.stat().st_mtime_ns) == (first, time)


def test_control_flow_is_refused(tmp_path: Path, cache: Cache) -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["copied"], ["b"])],
        "branch",
        [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)],
    )
    always = helper.make_node("Constant", [], ["always"], value=numpy_helper.from_array(np.array(True)))
    path = one_layer(
        tmp_path / "if.onnx",
        always,
        helper.make_node("If", ["always"], ["out"], name="choice", then_branch=branch, else_branch=branch),
    )
    with pytest.raises(
        EngineError, match=r"if\.onnx: float16: node 'choice' is a If with a graph of its own"
    ):
        prepare(path, "fp16", cache=cache)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("content", [b"", b"not a network", b"\x08\x0a"])
def test_no_onnx_file(tmp_path: Path, cache: Cache, content: bytes, precision: Precision) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=r"bad\.onnx: expected an ONNX file"):
        prepare(path, precision, cache=cache)
    with pytest.raises(EngineError, match=r"gone\.onnx: no such file"):
        prepare(tmp_path / "gone.onnx", precision, cache=cache)


class Layers(torch.nn.Module):
    """Four convolutions, of (N, 3, H, W) or of one picture (3, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(*(torch.nn.Conv2d(3, 3, 3) for _ in range(4)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images if images.ndim == 4 else images[None])


def test_int8_of_a_network_that_fixes_how_many_pictures_it_takes(tmp_path: Path) -> None:
    """Six pictures are two batches of four, the last picture three times; the scales are those of a network
    that takes any number."""
    net = Layers()
    cache = Cache("networks", tmp_path)
    rng = np.random.default_rng(0)
    pictures = [rng.random((n, 3, 16, 16), np.float32) for n in (1, 2, 3)]
    pictures[-1][-1] *= 3  # what is in the batch that is filled up matters most
    ways: dict[str, dict[str, Any]] = {"free": {}, "four": {"batch": 4}, "alone": {"stacked": False}}
    found = {}
    for name, how in ways.items():
        path = export(net, tmp_path / f"{name}.onnx", size=(16, 16), **how)
        prepared = calibrate(path, [{"images": x} for x in pictures], "noise", cache=cache)
        given = pictures[-1][-1] if name == "alone" else pictures[-1][[0, 1, 2, 2]]
        found[name] = run(prepared.path, given)
    for kept in cache.entries():
        assert kept.about["pictures"] == 6
    np.testing.assert_allclose(found["four"], found["free"], atol=1e-5)
    np.testing.assert_allclose(found["alone"], found["free"][-1:], atol=1e-5)
    with pytest.raises(EngineError, match=r"four\.onnx: int8: expected pictures for 'images', got \['x'\]"):
        calibrate(tmp_path / "four.onnx", [{"x": pictures[0]}], "noise", cache=cache)


def test_int8_needs_pictures_that_fit(tmp_path: Path) -> None:
    cache = Cache("networks", tmp_path)
    with pytest.raises(EngineError, match=r"needs a calibration .* engines build --precision int8"):
        prepare(EMBEDDER, "int8", cache=cache)
    with pytest.raises(EngineError, match="expected pictures to calibrate with, got none"):
        calibrate(EMBEDDER, [], "nothing", cache=cache)
    with pytest.raises(EngineError, match=r"calibrating failed: .*images"):
        calibrate(EMBEDDER, [{"images": np.zeros((1, 3, 9, 9), np.float32)}], "wrong", cache=cache)
    plain = export(Mean(), tmp_path / "mean.onnx", size=(8, 8))
    with pytest.raises(EngineError, match="expected a network with convolutions, found none"):
        calibrate(plain, [{"images": np.zeros((1, 3, 8, 8), np.float32)}], "flat", cache=cache)
    assert calibration(EMBEDDER, cache=cache) is None
    assert cache.entries() == []
