"""TensorRT-RTX really parses and builds here, without a GPU or driver: every network in every precision."""

from __future__ import annotations

import io
import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from needs import needs
from onnx import TensorProto, helper
from tiny_nets import Mean, export

from engines.models import resolve
from engines.nets.densenet import densenet161
from engines.runtime import DeviceError, EngineError, MissingRuntimeError, TensorSpec
from engines.runtime.cache import Cache
from engines.runtime.devices import Gpu, cuda_missing
from engines.runtime.onnxfile import describe
from engines.runtime.precision import PRECISIONS, Precision, calibrate, prepare
from engines.runtime.progress import BuildLine, BuildState
from engines.runtime.tensorrt import (
    Profile,
    TensorRTEngine,
    choose_flavour,
    default_profiles,
    flavour,
    get_plan,
)
from engines.runtime.tensorrt.build import Watch
from engines.runtime.tensorrt.pace import Pace
from engines.runtime.tensorrt.plans import ANY_GPU
from engines.train.untrained import NETWORKS
from engines.train.untrained import main as untrained

needs("tensorrt_rtx", "pip install tensorrt-rtx-cu13 (wheels for Linux on x86-64 only)")

EMBEDDER = resolve("default", "embedder").path
SIDES = {"detector": (192, 320), "embedder": (64, 64), "densenet161": (224, 224)}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> dict[str, Path]:
    """The default networks and a DenseNet-161 with random weights, all calibrated on a bit of noise: what
    the scales are does not matter to whether they build."""
    torch.manual_seed(0)
    large = export(
        densenet161(classes=0), tmp_path_factory.mktemp("nets") / "densenet161.onnx", size=(224, 224)
    )
    found = {"densenet161": large}
    found |= {kind: resolve("default", kind).path for kind in ("detector", "embedder")}
    for name, path in found.items():
        noise = np.random.default_rng(0).random((1, 3, *SIDES[name]), np.float32)
        calibrate(path, [{"images": noise}], "noise", cache=Cache("networks", cache))
    return found


def convolution_types(plan: bytes) -> dict[str, set[str]]:
    """What the convolutions of a plan compute with: the types of their pictures and weights, by layer.

    It is read out of the program that TensorRT-RTX writes into a plan, because its engine inspector needs a
    driver. The form of that program is TensorRT-RTX's own: another version may write it otherwise.
    """
    kinds = dict(re.findall(rb'tensor=\{[^\n]* name="([^"\n]+)"[^\n]* type=(\w+)', plan))
    found: dict[str, set[str]] = {}
    for layer, pictures, weights in re.findall(
        rb'corrltn=\{ name="([^"\n]+)"[^\n]* input=\{"([^"\n]+)" "([^"\n]+)"', plan
    ):
        name = layer.decode().partition(" [profile")[0]  # each profile has a program of its own
        found.setdefault(name, set()).update(kinds[tensor].decode() for tensor in (pictures, weights))
    return found


def quantized_convolutions(path: Path) -> set[str]:
    """Names of the convolutions of an ONNX file whose pictures and weights come out of int8."""
    nodes = onnx.load(path).graph.node
    int8 = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
    return {node.name for node in nodes if node.op_type == "Conv" and int8.issuperset(node.input[:2])}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["detector", "embedder", "densenet161"])
def test_builds(
    networks: dict[str, Path],
    cache: Path,
    name: str,
    precision: Precision,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engines.runtime.tensorrt.build._TELL_EVERY_S", 0.05)
    states: list[BuildState] = []
    plan = get_plan(networks[name], precision, cache=cache, on_progress=states.append)
    assert plan.about["precision"] == precision
    assert plan.path.stat().st_size > 500_000
    assert plan.flavour.rtx
    if cuda_missing() is not None:
        assert plan.about["device"] == ANY_GPU
    height, width = SIDES[name]
    exact = plan.profiles[0]
    assert exact == Profile((1, 32, 64), (height,) * 3, (width,) * 3)
    assert len(plan.profiles) == (2 if name == "detector" else 1)
    assert plan.network.inputs[0].dtype == ("float32" if precision == "fp32" else "float16")
    assert {spec.dtype for spec in plan.network.outputs} == {"float32"}
    types = convolution_types(plan.path.read_bytes())
    quantized = quantized_convolutions(
        prepare(networks[name], precision, rest="fp16", cache=Cache("networks", cache)).path
    )
    assert (len(quantized) >= 26) == (precision == "int8")
    assert {layer for layer, kinds in types.items() if kinds == {"int8"}} == quantized
    rest = {kind for layer, kinds in types.items() if layer not in quantized for kind in kinds}
    assert rest == {"float" if precision == "fp32" else "half"}
    assert states[-1].done
    assert all(state.steps is None or state.steps[0] <= state.steps[1] for state in states)
    # one of TensorRT's steps is four fifths of a build: the line goes on meanwhile
    times = [state.elapsed_s for state in states]
    assert times == sorted(times)
    if name == "densenet161":
        assert max(b - a for a, b in pairwise(times)) < 0.4 * times[-1]


@pytest.mark.slow
def test_a_detector_at_640(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = export(NETWORKS["yolo-640"].make(), tmp_path / "yolo.onnx", size=(640, 640))
    plan = get_plan(path, "fp16", cache=tmp_path)
    assert plan.profiles == (Profile((1, 20, 20), (640,) * 3, (640,) * 3),)
    assert plan.path.stat().st_size > 20_000_000


@pytest.mark.slow
def test_untrained_networks_say_that_they_are(tmp_path: Path) -> None:
    for name, side in (("yolo-640", 640), ("densenet161", 224)):
        path = tmp_path / f"{name}.onnx"
        assert untrained(["--net", name, "--out", str(path)]) == 0
        found = describe(path)
        assert found.inputs[0].shape == (None, 3, side, side)
        assert "random weights" in found.metadata["description"]


def test_a_larger_profile_makes_another_plan(networks: dict[str, Path], cache: Path) -> None:
    small = get_plan(
        networks["embedder"], "fp16", profiles=[Profile((1, 1, 1), (64,) * 3, (64,) * 3)], cache=cache
    )
    large = get_plan(networks["embedder"], "fp16", cache=cache)
    assert small.path != large.path
    assert small.profiles[0].batch == (1, 1, 1)


def refused_network(path: Path, operator: str, domain: str = "") -> Path:
    graph = helper.make_graph(
        [helper.make_node(operator, ["images"], ["out"], name="strange", domain=domain)],
        "strange",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), str(path))
    return path


@pytest.mark.parametrize(("operator", "domain"), [("Det", ""), ("Invented", "example.org")])
def test_an_operator_that_tensorrt_lacks(tmp_path: Path, operator: str, domain: str) -> None:
    path = refused_network(tmp_path / "odd.onnx", operator, domain)
    with pytest.raises(EngineError, match=rf"odd\.onnx .*cannot take this network: .*{operator}"):
        get_plan(path, "fp32", cache=tmp_path)
    assert Cache("engines", tmp_path).entries() == []


def test_files_that_are_no_network(tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"not a network")
    with pytest.raises(EngineError, match=r"bad\.onnx: expected an ONNX file"):
        get_plan(bad, "fp32", cache=tmp_path)
    with pytest.raises(EngineError, match=r"gone\.onnx: no such file"):
        get_plan(tmp_path / "gone.onnx", "fp16", cache=tmp_path)


def test_stopping_a_build(tmp_path: Path) -> None:
    """Ctrl-C in the middle ends it, and nothing is kept."""

    def stop(state: BuildState) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get_plan(EMBEDDER, "fp32", cache=tmp_path, on_progress=stop)
    watch = Watch(choose_flavour(None).module, "net", stop)
    watch.monitor.phase_start("Building", None, 4)
    assert watch.monitor.step_complete("Building", 0) is False  # TensorRT's word for: stop
    assert Watch(choose_flavour(None).module, "net", None).monitor.step_complete("Building", 0) is True
    assert Cache("engines", tmp_path).entries() == []
    assert [p.name for p in (tmp_path / "engines").iterdir() if not p.name.endswith(".lock")] == []


@pytest.mark.skipif(cuda_missing() is None, reason="this machine has a GPU")
def test_running_without_a_driver_names_the_step(tmp_path: Path) -> None:
    with pytest.raises(
        DeviceError, match=r"TensorRT: .*NVIDIA driver.*install the driver, or use engine onnx"
    ):
        TensorRTEngine(EMBEDDER, cache=tmp_path)


def test_a_driver_that_is_too_old_is_told(tmp_path: Path) -> None:
    """TensorRT logs why it gives nothing, and pybind11 makes a TypeError of the nothing."""
    real = choose_flavour(None)

    def builder(logger: Any) -> None:
        logger.log(real.module.ILogger.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    module = SimpleNamespace(ILogger=real.module.ILogger, Builder=builder, __version__="11")
    with pytest.raises(
        EngineError, match=r"^TensorRT 11 does not start \(CUDA initialization .* 35\); update"
    ):
        get_plan(EMBEDDER, "fp32", cache=tmp_path, flavour=flavour.Flavour(module, False))


def test_which_tensorrt_serves_a_gpu() -> None:
    """TensorRT-RTX has no kernels for Hopper: there the other one is asked for, by name."""
    rtx = choose_flavour(None)
    assert rtx.serves(Gpu("NVIDIA GeForce RTX 5090", (12, 0)))
    hopper = Gpu("NVIDIA H200", (9, 0))
    assert not rtx.serves(hopper)
    if len(flavour.installed()[0]) == 1:
        with pytest.raises(MissingRuntimeError, match=r"does not serve NVIDIA H200 .*pip install tensorrt"):
            choose_flavour(hopper)


def spec(*shape: int | None) -> list[TensorSpec]:
    return [TensorSpec("images", "float32", shape)]


def test_profiles_of_fixed_and_free_shapes() -> None:
    assert default_profiles(spec(None, 3, 64, 64), {}) == (Profile((1, 32, 64), (64,) * 3, (64,) * 3),)
    assert default_profiles(spec(8, 3, 64, 64), {}) == (Profile((8,) * 3, (64,) * 3, (64,) * 3),)
    assert default_profiles(spec(None, 3, 640, 640), {})[0].batch == (1, 20, 20)  # 8 million pixels
    assert default_profiles(spec(None, 3, 64, 64), {}, batch=16)[0].batch == (1, 16, 16)
    exact, wide = default_profiles(spec(None, 3, None, None), {"imgsz": "[192, 320]"})
    assert (exact.height, exact.width) == ((192,) * 3, (320,) * 3)
    assert (wide.height, wide.width, wide.batch) == ((32, 192, 1024), (32, 320, 1024), (1, 8, 8))
    assert not exact.holds(224, 288)
    assert wide.holds(224, 288)
    assert wide.shapes(spec(None, 3, None, None)[0])[2] == (8, 3, 1024, 1024)
    (one,) = default_profiles(spec(3, 96, 96), {})
    assert one.shapes(spec(3, 96, 96)[0]) == ((3, 96, 96),) * 3
    with pytest.raises(EngineError, match=r"expected a network with one input \(N, 3, H, W\)"):
        default_profiles(spec(None, 7), {})
    with pytest.raises(EngineError, match="with N, H and W free at most"):
        exact.shapes(spec(None, None, 64, 64)[0])
    with pytest.raises(EngineError, match="expected smallest <= usual <= largest, got 4, 2, 8"):
        Profile((4, 2, 8), (64,) * 3, (64,) * 3)


def test_the_progress_line() -> None:
    out = io.StringIO()
    line = BuildLine(out, every_s=0.0)
    line(BuildState("net.onnx", "Timing", 0.4, 0.8))
    assert out.getvalue() == ""  # what takes no second needs no line
    line(BuildState("net.onnx", "Timing", 200.0, 400.0, (3, 7)))
    line(BuildState("net.onnx", "Timing", 410.0, 400.0))
    line(BuildState("net.onnx", "finishing", 411.0))
    line(BuildState("net.onnx", "", 412.0, done=True))
    assert out.getvalue().splitlines() == [
        "building net.onnx: 3 min 20 s, about 3 min 20 s left (Timing, 3 of 7)",
        "building net.onnx: 6 min 50 s, longer than the 6 min 40 s that were expected (Timing)",
        "building net.onnx: 6 min 51 s, no estimate yet (finishing)",
        "built net.onnx in 6 min 52 s",
    ]


def test_the_time_of_a_build_is_told_by_earlier_ones(tmp_path: Path) -> None:
    pace = Pace(tmp_path / "timings" / "builds.json")
    assert pace.expected(100) is None
    for layers, seconds in ((1000, 20.0), (100, 9.0), (100, 4.0)):
        pace.note(layers, seconds)
    assert pace.expected(100) == 4.0  # the latest of the same size
    assert pace.expected(200) == 8.0
    assert pace.expected(900) == 18.0
    (tmp_path / "timings" / "builds.json").write_text("[[0, 1], 3")
    assert pace.expected(100) is None


def test_a_fixed_batch(tmp_path: Path) -> None:
    """The profile of a network exported with a fixed batch has that batch alone, and builds; the second time
    the first one says how long it takes."""
    path = export(Mean(), tmp_path / "four.onnx", batch=4, size=(8, 8))
    first: list[BuildState] = []
    second: list[BuildState] = []
    plan = get_plan(path, "fp32", cache=tmp_path, on_progress=first.append)
    assert plan.profiles[0].batch == (4, 4, 4)
    assert plan.entry.fresh
    assert not get_plan(path, "fp32", cache=tmp_path).entry.fresh
    assert get_plan(path, "fp32", cache=tmp_path, anew=True, on_progress=second.append).entry.fresh
    assert {state.expected_s for state in first} == {None}
    assert second[0].expected_s == pytest.approx(first[-1].elapsed_s, abs=0.001)
