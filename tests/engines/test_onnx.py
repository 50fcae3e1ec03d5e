"""Loading and running real ONNX files."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from tiny_nets import Mean, export

from engines.runtime import DeviceError, Engine, EngineError, TensorSpec, open_engine
from engines.runtime.devices import cpu_cores, cuda_missing
from engines.runtime.onnx import OnnxEngine


@pytest.fixture(scope="module")
def mean_net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nets") / "mean.onnx"
    return export(Mean(), path, size=(8, 10), metadata={"mean": "[0, 0, 0]"})


def test_describes_itself(mean_net: Path) -> None:
    engine = open_engine(mean_net, device="cpu", threads=1)
    assert isinstance(engine, Engine)
    assert engine.inputs == (TensorSpec("images", "float32", (None, 3, 8, 10)),)
    assert [(o.name, o.shape) for o in engine.outputs] == [("output0", (None, 6))]
    assert engine.metadata["mean"] == "[0, 0, 0]"
    assert engine.description.startswith("ONNX Runtime ")
    assert engine.description.endswith(" CPU, 1 thread")
    assert engine.device == "cpu"
    assert engine.fallbacks == ()


def test_runs_any_batch_and_casts(mean_net: Path) -> None:
    engine = open_engine(mean_net, device="cpu")
    images = np.random.default_rng(0).random((5, 3, 8, 10))
    out = engine.run(images=images)["output0"]
    expected = np.concatenate([images[..., :5].mean((2, 3)), images[..., 5:].mean((2, 3))], axis=1)
    np.testing.assert_allclose(out, expected, rtol=1e-5)
    assert out.dtype == np.float32
    assert engine.run(images=images[:0])["output0"].shape == (0, 6)


def test_runs_from_several_threads(mean_net: Path) -> None:
    engine = open_engine(mean_net, device="cpu", threads=1)
    wrong: list[int] = []

    def work(seed: int) -> None:
        images = np.full((2, 3, 8, 10), seed, np.float32)
        for _ in range(50):
            if not np.allclose(engine.run(images=images)["output0"], seed):
                wrong.append(seed)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_errors_name_the_file_and_the_shapes(mean_net: Path) -> None:
    engine = open_engine(mean_net, device="cpu")
    with pytest.raises(EngineError, match=r"expected the inputs \['images'\], got \['x'\]"):
        engine.run(x=np.zeros((1, 3, 8, 10)))
    with pytest.raises(EngineError, match=r"mean\.onnx: running it on images \(1, 3, 9, 9\) failed"):
        engine.run(images=np.zeros((1, 3, 9, 9)))
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="was closed"):
        engine.run(images=np.zeros((1, 3, 8, 10)))


def test_files_that_are_no_network(tmp_path: Path, mean_net: Path) -> None:
    with pytest.raises(EngineError, match=r"gone\.onnx: no such file"):
        open_engine(tmp_path / "gone.onnx")
    for name, content in (("text", b"not a network"), ("empty", b""), ("cut", mean_net.read_bytes()[:200])):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(EngineError, match=f"{name}.onnx: expected an ONNX file that ONNX Runtime"):
            open_engine(path, device="cpu")


def test_unknown_device(mean_net: Path) -> None:
    with pytest.raises(EngineError, match="expected 'auto', 'cpu' or 'cuda'"):
        open_engine(mean_net, device="tpu")


@pytest.mark.skipif(cuda_missing() is None, reason="this machine has a GPU")
def test_without_a_gpu_auto_falls_back_and_cuda_is_an_error(mean_net: Path) -> None:
    engine = open_engine(mean_net)
    (fallback,) = engine.fallbacks
    assert (fallback.wanted, fallback.used) == ("cuda", "cpu")
    assert "NVIDIA driver" in fallback.reason
    with pytest.raises(DeviceError, match=r"device 'cuda': .*NVIDIA driver.*or use 'auto'"):
        open_engine(mean_net, device="cuda")


def test_cuda_that_does_not_start_is_told_once(
    mean_net: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As where the GPU build is installed and CUDA's libraries are not those it needs."""
    real = onnxruntime.InferenceSession

    def session(path: str, options: Any, *, providers: list[Any], enable_fallback: int) -> Any:
        assert enable_fallback == 0  # else ONNX Runtime prints, and goes on with less than what was asked for
        if "CUDAExecutionProvider" in providers:
            raise RuntimeError("CUDA failure 35: the driver is too old")
        return real(path, options, providers=providers, enable_fallback=enable_fallback)

    monkeypatch.setattr("engines.runtime.onnx.cuda_missing", lambda: None)
    monkeypatch.setattr("engines.runtime.onnx._device_io", lambda ort: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    engine = OnnxEngine(mean_net)
    assert engine.device == "cpu"
    assert [f.reason for f in engine.fallbacks] == [
        "ONNX Runtime could not start CUDA (CUDA failure 35: the driver is too old)"
    ]
    assert engine.run(images=np.zeros((1, 3, 8, 10)))["output0"].shape == (1, 6)
    with pytest.raises(DeviceError, match=r"device 'cuda': ONNX Runtime could not start CUDA .*too old"):
        OnnxEngine(mean_net, device="cuda")
    assert capfd.readouterr().out == ""


@pytest.mark.skipif(cuda_missing() is None, reason="this machine has a GPU")
def test_a_named_engine_that_cannot_be_had_is_said_and_replaced(mean_net: Path) -> None:
    engine = open_engine(mean_net, engine="tensorrt")
    assert engine.description.startswith("ONNX Runtime ")
    assert [(f.wanted, f.used) for f in engine.fallbacks] == [("cuda", "cpu"), ("tensorrt", "onnx")]
    assert all("NVIDIA driver" in f.reason for f in engine.fallbacks)
    with pytest.raises(DeviceError, match=r"device 'cuda': .*NVIDIA driver"):
        open_engine(mean_net, engine="tensorrt", device="cuda")
    with pytest.raises(EngineError, match="TensorRT runs on a GPU only"):
        open_engine(mean_net, engine="tensorrt", device="cpu")


@pytest.mark.skipif(cuda_missing() is None, reason="this machine has a GPU")
def test_every_engine_that_fails_on_a_gpu_is_told(
    mean_net: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on a machine whose driver answers and whose packages do not: each is tried, the CPU is last."""
    monkeypatch.setenv("CELSTREAM_CACHE", str(tmp_path))
    monkeypatch.setattr("engines.runtime.choose.cuda_missing", lambda: None)
    engine = open_engine(mean_net)
    told = [(f.wanted, f.used) for f in engine.fallbacks]
    assert told == [("tensorrt", "onnx"), ("onnx", "torch"), ("torch", "onnx on the CPU")]
    assert engine.device == "cpu"
    assert engine.inputs[0].dtype == "float32"
    named = open_engine(mean_net, engine="torch")
    assert [f.wanted for f in named.fallbacks] == ["torch", "tensorrt", "onnx"]
    with pytest.raises(DeviceError, match=r"mean\.onnx runs on no engine there is: TensorRT: .*; torch"):
        open_engine(mean_net, device="cuda")
    with pytest.raises(DeviceError, match=r"^torch .* sees no CUDA device"):
        open_engine(mean_net, device="cuda", engine="torch")


def test_precision_is_what_was_asked_for(
    mean_net: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CELSTREAM_CACHE", str(tmp_path))
    whole = open_engine(mean_net, device="cpu", precision="auto")
    half = open_engine(mean_net, device="cpu", precision="fp16")
    assert (whole.inputs[0].dtype, half.inputs[0].dtype) == ("float32", "float16")
    assert half.description.endswith(", fp16")
    assert "fp" not in whole.description
    images = np.random.default_rng(0).random((2, 3, 8, 10), np.float32)
    gap = np.abs(half.run(images=images)["output0"] - whole.run(images=images)["output0"])
    assert 0 < gap.max() < 1e-3
    with pytest.raises(EngineError, match=r"mean\.onnx: int8 needs a calibration"):
        open_engine(mean_net, device="cpu", precision="int8")


@pytest.mark.parametrize(("name", "value"), [("engine", "openvino"), ("precision", "fp8")])
def test_unknown_choices(mean_net: Path, name: str, value: str) -> None:
    with pytest.raises(EngineError, match=rf"{name} '{value}': expected 'auto', "):
        open_engine(mean_net, **{name: value})


def test_cores() -> None:
    assert cpu_cores() >= 1


def test_without_onnxruntime_the_error_names_the_pip_command(tmp_path: Path) -> None:
    """In an interpreter that cannot import onnxruntime, through the station that a person meets it in."""
    code = (
        "import sys\n"
        "sys.modules['onnxruntime'] = None\n"
        "from pathlib import Path\n"
        "from stream.errors import DependencyError\n"
        "from stream.networks import Network\n"
        "path = Path(sys.argv[1]); path.write_bytes(b'x')\n"
        "try:\n"
        "    Network(str(path), 'detector', device='auto', threads=0)\n"
        "except DependencyError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.onnx")], capture_output=True, text=True, check=True
    )
    assert "pip install 'celstream[cpu]'" in done.stdout


def test_running_a_network_needs_no_torch() -> None:
    code = (
        "import sys, stream.detect, stream.embed, stream.crops, engines.models; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
