"""ONNX files on torch against ONNX Runtime, and its operators against their definition."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tiny_nets import Mean, Rectangles, export

from engines.models import resolve
from engines.runtime import DeviceError, Engine, EngineError, open_engine
from engines.runtime.cuda_arrays import CAPTURING
from engines.runtime.devices import cuda_missing
from engines.runtime.onnx import OnnxEngine
from engines.runtime.torch import TorchEngine
from engines.runtime.torch.fold import Call, folded
from engines.runtime.torch.graph import TorchGraph
from engines.runtime.torch.ops import OPS, SCALE_SHIFT


def both(path: Path, images: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    reference = OnnxEngine(path, device="cpu", threads=1)
    name = reference.inputs[0].name
    return reference.run(**{name: images}), TorchEngine(path).run(**{name: images})


def test_the_default_detector_at_sizes_that_change(rng: np.random.Generator) -> None:
    path = resolve("default", "detector").path
    reference, engine = OnnxEngine(path, device="cpu", threads=1), TorchEngine(path)
    assert isinstance(engine, Engine)
    assert (engine.inputs, engine.outputs, engine.metadata) == (
        reference.inputs,
        reference.outputs,
        reference.metadata,
    )
    for shape in ((2, 3, 64, 96), (1, 3, 96, 64), (2, 3, 64, 96)):
        images = rng.random(shape, np.float32)
        want, have = reference.run(images=images)["output0"], engine.run(images=images)["output0"]
        np.testing.assert_allclose(have, want, atol=2e-3)
        assert have.dtype == np.float32


def test_the_default_embedder(rng: np.random.Generator) -> None:
    want, have = both(resolve("default", "embedder").path, rng.random((3, 3, 64, 64), np.float32))
    np.testing.assert_allclose(have["embedding"], want["embedding"], atol=1e-5)


@pytest.mark.parametrize("form", ["v8", "v5", "yolox", "end_to_end"])
def test_tails_of_other_detectors(tmp_path: Path, rng: np.random.Generator, form: str) -> None:
    path = export(Rectangles(form), tmp_path / "net.onnx", size=(64, 96))
    images = np.full((2, 3, 64, 96), 0.45, np.float32) * (255 if form == "yolox" else 1)
    images[:, :, 8:30, 10:50] = np.float32([1, 0, 0])[None, :, None, None] * (255 if form == "yolox" else 1)
    want, have = both(path, images)
    for name, value in want.items():
        np.testing.assert_allclose(have[name], value, atol=1e-3)


def make(path: Path, op: str, shape: tuple[int, ...], *inputs: Any, **attributes: Any) -> Path:
    """One operator on ``images``; further inputs are constants, '' leaves one out."""
    weights, names = [], ["images"]
    for i, value in enumerate(inputs):
        names.append("" if value is None else f"w{i}")
        if value is not None:
            weights.append(numpy_helper.from_array(np.asarray(value), f"w{i}"))
    outputs = [f"out{i}" for i in range(attributes.pop("parts", 1))]
    graph = helper.make_graph(
        [helper.make_node(op, names, outputs, **attributes)],
        op,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), str(path))
    return path


INT = np.int64
CASES: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("Slice", (INT([1, -2]), INT([9, -9]), INT([2, 3]), INT([2, -1])), {}),
    ("Slice", (INT([-1]), INT([-(2**62)]), INT([3]), INT([-2])), {}),
    ("Split", (INT([1, 2]),), {"axis": 1, "parts": 2}),
    ("Split", (), {"axis": 2, "num_outputs": 4, "parts": 4}),
    ("Pad", (INT([0, 0, 1, 2, 0, 0, 3, 0]), np.float32(0.5)), {}),
    ("Pad", (INT([0, 0, 1, 2, 0, 0, 3, 0]),), {"mode": "reflect"}),
    ("Gather", (INT([[2, -1], [0, 1]]),), {"axis": 1}),
    ("Reshape", (INT([0, -1, 6]),), {}),
    ("Transpose", (), {"perm": [0, 2, 3, 1]}),
    ("Transpose", (), {}),
    ("Unsqueeze", (INT([0, -1]),), {}),
    ("Expand", (INT([2, 1, 1, 1, 1]),), {}),
    ("Tile", (INT([1, 2, 1, 3]),), {}),
    ("Flatten", (), {"axis": 2}),
    ("ReduceMean", (INT([2, 3]),), {"keepdims": 0}),
    ("ReduceMax", (INT([1]),), {"keepdims": 1}),
    ("ReduceSum", (), {"keepdims": 0}),
    ("ReduceL2", (INT([-1]),), {}),
    ("Clip", (np.float32(0.2), None), {}),
    ("Clip", (None, np.float32(0.6)), {}),
    ("Resize", (None, np.float32([1, 1, 2, 3])), {"mode": "nearest", "nearest_mode": "floor",
     "coordinate_transformation_mode": "asymmetric"}),
    ("Resize", (None, None, INT([2, 3, 16, 18])), {"mode": "linear"}),
    ("Resize", (None, None, INT([2, 3, 15, 11])), {"mode": "linear",
     "coordinate_transformation_mode": "align_corners"}),
    ("AveragePool", (), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("AveragePool", (), {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", (), {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [0, 0, 1, 1]}),
    ("Conv", (np.ones((4, 3, 3, 3), np.float32) / 9,), {"pads": [0, 1, 2, 1], "strides": [2, 1]}),
    ("Conv", (np.ones((3, 1, 3, 3), np.float32) / 9,), {"group": 3, "pads": [2] * 4, "dilations": [2, 2]}),
    ("CumSum", (INT(2),), {}),
    ("CumSum", (INT(-1),), {"exclusive": 1, "reverse": 1}),
    ("ConvTranspose", (np.ones((3, 2, 2, 2), np.float32) / 9,), {"strides": [2, 2]}),
    ("HardSigmoid", (), {"alpha": 0.3, "beta": 0.1}),
    ("HardSwish", (), {}),
    ("LeakyRelu", (), {"alpha": 0.3}),
    ("PRelu", (np.float32([[[0.1]], [[0.2]], [[0.3]]]),), {}),
    ("Softmax", (), {"axis": 1}),
    ("Pow", (np.float32(2.0),), {}),
    ("Max", (np.float32(0.5), np.float32([[[[0.1]]]])), {}),
    ("QuantizeLinear", (np.float32([0.01, 0.02, 0.1]), np.int8([0, 0, 0])), {"axis": 1}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)]
)
def test_operators(
    tmp_path: Path, rng: np.random.Generator, op: str, inputs: tuple[Any, ...], attributes: dict[str, Any]
) -> None:
    path = make(tmp_path / "op.onnx", op, (2, 3, 8, 6), *inputs, **dict(attributes))
    images = rng.standard_normal((2, 3, 8, 6)).astype(np.float32)
    want = onnxruntime.InferenceSession(str(path)).run(None, {"images": images})
    engine = TorchEngine(path)
    have = engine.run(images=images)
    again = engine.run(images=images)  # from what the first run at this size kept
    for name, value in zip((spec.name for spec in engine.outputs), want, strict=True):
        np.testing.assert_allclose(have[name], value, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(have[name], again[name])
        assert have[name].dtype == value.dtype


def test_batch_normalizations_are_worked_out() -> None:
    """Those after a convolution disappear in it, the others become a scale and a shift."""
    path = resolve("default", "embedder").path
    nodes = [node.op_type for node in onnx.load(path).graph.node]
    left = [call.op for call in TorchGraph(path, "cpu")._calls]
    assert "BatchNormalization" in nodes
    assert "BatchNormalization" not in left
    assert 0 < left.count(SCALE_SHIFT) <= nodes.count("BatchNormalization")
    calls = [
        Call("Conv", "c", ("x", "k"), ("a",), {}),
        Call("BatchNormalization", "n", ("a", "s", "b", "m", "v"), ("y",), {}),
        Call("BatchNormalization", "n2", ("y", "s", "b", "m", "v"), ("z",), {}),
    ]
    weights = {name: np.ones(4, np.float32) for name in "sbmv"}
    weights["k"] = np.ones((4, 3, 3, 3), np.float32)
    assert [c.op for c in folded(calls, dict(weights), ["z"])] == ["Conv"]
    assert [c.op for c in folded(calls, dict(weights), ["y", "z"])] == ["Conv", SCALE_SHIFT]
    assert [c.op for c in folded(calls, dict(weights), ["a", "z"])] == ["Conv", SCALE_SHIFT, SCALE_SHIFT]
    del weights["m"]
    assert len(folded(calls, weights, ["z"])) == 3


def test_weights_that_go_by_two_names_are_weights(tmp_path: Path) -> None:
    """Exporters write equal ones once; a batch normalization of them is worked out all the same."""
    one, two = np.ones(3, np.float32), np.full(3, 2.0, np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Identity", ["s"], ["v"]),
            helper.make_node("BatchNormalization", ["images", "s", "b", "m", "v"], ["out"], epsilon=0.0),
            helper.make_node("Identity", ["b"], ["constant"]),
        ],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, 3, 2, 2))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("out", "constant")],
        [numpy_helper.from_array(value, name) for name, value in (("s", one), ("b", two), ("m", two))],
    )
    path = tmp_path / "twice.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    net = TorchGraph(path, "cpu")
    assert [call.op for call in net._calls] == [SCALE_SHIFT]
    images = torch.rand(1, 3, 2, 2)
    for _ in range(2):
        found = net(images)
        torch.testing.assert_close(found["out"], images)
        assert found["constant"].tolist() == two.tolist()


def test_errors_name_the_file_and_the_operator(tmp_path: Path) -> None:
    path = make(tmp_path / "det.onnx", "Det", (2, 3, 6, 6))
    assert "Det" not in OPS
    with pytest.raises(EngineError, match=r"det\.onnx: torch: node 'Det_0': Det is not supported"):
        TorchEngine(path)
    good = export(Mean(), tmp_path / "mean.onnx", size=(8, 10))
    engine = TorchEngine(good)
    with pytest.raises(EngineError, match=r"expected the inputs \['images'\], got \['x'\]"):
        engine.run(x=np.zeros((1, 3, 8, 10), np.float32))
    with pytest.raises(
        EngineError, match=r"mean\.onnx: running it on images \(1, 3, 9, 9\) failed: expected"
    ):
        engine.run(images=np.zeros((1, 3, 9, 9), np.float32))
    assert engine.run(images=np.zeros((0, 3, 8, 10)))["output0"].shape == (0, 6)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="was closed"):
        engine.run(images=np.zeros((1, 3, 8, 10), np.float32))
    with pytest.raises(EngineError, match=r"gone\.onnx"):
        TorchEngine(tmp_path / "gone.onnx")


class Graphs:
    """Stands for torch's streams and CUDA graphs: what is captured is computed again, in the same memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, engine: TorchEngine) -> None:
        assert engine._graph is not None
        self.net = engine._graph
        self.captured: list[tuple[int, ...]] = []
        self.possible = True
        self._last: tuple[torch.Tensor, dict[str, torch.Tensor]] | None = None
        graphs = self

        class Graph:
            def replay(self) -> None:
                with torch.inference_mode():
                    for name, value in graphs.net(self.given).items():
                        self.results[name].copy_(value)

        @contextlib.contextmanager
        def capture(graph: Any, *, stream: Any, capture_error_mode: str) -> Iterator[None]:
            # other threads may take memory, and none captures or waits for the device
            assert capture_error_mode == "relaxed"
            assert CAPTURING._is_owned()  # type: ignore[attr-defined]
            if not graphs.possible:
                raise RuntimeError("operation not permitted when stream is capturing")
            yield
            assert graphs._last is not None
            graph.given, graph.results = graphs._last
            graphs.captured.append(tuple(graph.given.shape))

        stream = SimpleNamespace(wait_stream=lambda other: None)
        event = SimpleNamespace(wait=lambda stream: None, record=lambda stream: None)
        for name, value in {
            "Stream": lambda: stream, "current_stream": lambda: stream, "synchronize": lambda: None,
            "stream": lambda stream: contextlib.nullcontext(), "Event": lambda: event, "CUDAGraph": Graph,
            "graph": capture,
        }.items():  # fmt: skip
            monkeypatch.setattr(f"torch.cuda.{name}", value)
        monkeypatch.setattr(engine, "_graph", self)

    def __call__(self, given: torch.Tensor) -> dict[str, torch.Tensor]:
        self._last = given, self.net(given)
        return self._last[1]


def test_batches_of_any_size_run_in_few_graphs(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = export(Mean(), tmp_path / "mean.onnx", size=(8, 10))
    reference, engine = OnnxEngine(path, device="cpu", threads=1), TorchEngine(path)
    graphs = Graphs(monkeypatch, engine)
    given, found = [], []
    for count in (3, 4, 3, 4, 2, 4, 0, 1, 17, 24, 20, 70, 90, 3):
        given.append(rng.random((count, 3, 8, 10), np.float32))
        found.append(engine._replayed(torch.from_numpy(given[-1])))
    assert [shape[0] for shape in graphs.captured] == [4, 24, 96]
    for images, results in zip(given, found, strict=True):  # what came before is left alone
        for name, want in reference.run(images=images).items():
            np.testing.assert_allclose(results[name].numpy(), want, atol=1e-6)
    monkeypatch.setattr("engines.runtime.torch.engine._MOST_GRAPHS", 3)
    for _ in range(2):
        engine._replayed(torch.zeros(32, 3, 8, 10))
    assert [shape[0] for shape in engine._captured] == [96, 4, 32]  # the one used longest ago went


def test_a_network_that_no_graph_can_hold_still_runs(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = export(Mean(), tmp_path / "mean.onnx", size=(8, 10))
    engine = TorchEngine(path)
    Graphs(monkeypatch, engine).possible = False
    images = rng.random((2, 3, 8, 10), np.float32)
    one, other = (engine._replayed(torch.from_numpy(images)) for _ in range(2))
    assert all((one[name] == other[name]).all() for name in one)
    assert [f.used for f in engine.fallbacks] == ["torch call by call"]
    assert "stream is capturing" in engine.fallbacks[0].reason


@pytest.mark.skipif(cuda_missing() is None, reason="this machine has a GPU")
def test_without_a_gpu_cuda_is_an_error(tmp_path: Path) -> None:
    path = export(Mean(), tmp_path / "mean.onnx", size=(8, 10))
    with pytest.raises(DeviceError, match="sees no CUDA device"):
        TorchEngine(path, device="cuda")
    engine = open_engine(path, engine="torch")
    assert engine.description.startswith("torch ")
    assert [f.wanted for f in engine.fallbacks] == ["cuda"]


def test_without_torch_it_says_how_to_get_it(tmp_path: Path) -> None:
    path = export(Mean(), tmp_path / "mean.onnx", size=(8, 10))
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from engines.runtime import MissingRuntimeError, open_engine\n"
        "try:\n"
        "    open_engine(sys.argv[1], device='cpu', engine='torch')\n"
        "except MissingRuntimeError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert "torch is not installed" in done.stdout
    assert "pip install torch" in done.stdout


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
