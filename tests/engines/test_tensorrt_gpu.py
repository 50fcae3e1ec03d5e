"""Every engine on a GPU: what it puts out, where, and on which stream. Skipped where there is none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.models import resolve
from engines.runtime import DeviceError, Engine, EngineError, MissingRuntimeError, open_engine
from engines.runtime.choose import open_exactly
from engines.runtime.devices import cuda_missing, gpu
from engines.runtime.onnx import OnnxEngine
from stream.config import DetectorConfig, EmbedderConfig
from stream.engine_tools.samples import detector_inputs, embedder_inputs, rendered

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(cuda_missing() is not None, reason=cuda_missing() or ""),
    pytest.mark.timeout(600),
]

DETECTOR, EMBEDDER = resolve("default", "detector").path, resolve("default", "embedder").path


@pytest.fixture(scope="module")
def cupy() -> Any:
    return pytest.importorskip("cupy")


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return np.concatenate(embedder_inputs(EmbedderConfig(mirror=False), rendered(24).crops))


@pytest.fixture(scope="module")
def expected(crops: np.ndarray) -> np.ndarray:
    out: np.ndarray = OnnxEngine(EMBEDDER, device="cpu").run(images=crops)["embedding"]
    return out


@pytest.fixture(scope="module", params=["tensorrt", "onnx", "torch"])
def embedder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = opened(EMBEDDER, request.param, tmp_path_factory.mktemp("cache"))
    yield engine
    engine.close()


def opened(path: Path, name: str, cache: Path, precision: Any = "fp16") -> Engine:
    try:
        return open_exactly(path, engine=name, device="cuda", precision=precision, cache=cache)
    except (MissingRuntimeError, DeviceError) as error:
        pytest.skip(str(error))


def close(have: np.ndarray, want: np.ndarray) -> bool:
    """Whether float16's embeddings are those of float32, to a thousandth of their length."""
    gap = np.linalg.norm(have - want, axis=1) / np.linalg.norm(want, axis=1)
    return bool((gap < 5e-3).all())


def test_the_gpu_has_a_name() -> None:
    found = gpu()
    assert found is not None
    assert found.name
    assert found.capability >= (5, 0)


def test_numpy_in_numpy_out(embedder: Engine, crops: np.ndarray, expected: np.ndarray) -> None:
    out = embedder.run(images=crops)["embedding"]
    assert isinstance(out, np.ndarray)
    assert out.dtype == np.float32
    assert close(out, expected)
    assert embedder.device == "cuda"
    assert embedder.inputs[0].dtype == "float16"


def test_cupy_in_cupy_out_on_the_current_stream(
    embedder: Engine, crops: np.ndarray, expected: np.ndarray, cupy: Any
) -> None:
    """Twice per shape: the second run is a captured graph. Earlier results stay as they were."""
    streams = [
        cupy.cuda.Stream.null,
        cupy.cuda.Stream(non_blocking=True),
        cupy.cuda.Stream(non_blocking=True),
    ]
    results = []
    for turn in range(6):
        with streams[turn % 3]:
            given = cupy.asarray(np.roll(crops, turn, axis=0))
            results.append(embedder.run(images=given)["embedding"])
    cupy.cuda.Device().synchronize()
    for turn, out in enumerate(results):
        assert isinstance(out, cupy.ndarray)
        assert close(out.get(), np.roll(expected, turn, axis=0)), turn


@pytest.mark.parametrize("count", [0, 1, 3, 17, 24, 70, 150])
def test_any_batch(embedder: Engine, crops: np.ndarray, expected: np.ndarray, cupy: Any, count: int) -> None:
    which = np.arange(count) % len(crops)
    out = embedder.run(images=cupy.asarray(crops[which]))["embedding"].get()
    assert out.shape == (count, expected.shape[1])
    assert close(out, expected[which])


def test_the_steady_state_takes_no_memory(embedder: Engine, crops: np.ndarray, cupy: Any) -> None:
    given = cupy.asarray(crops[:16], dtype=np.float16)
    for _ in range(4):
        embedder.run(images=given)
    cupy.cuda.Device().synchronize()
    free = cupy.cuda.runtime.memGetInfo()[0]
    for _ in range(50):
        embedder.run(images=given)
    cupy.cuda.Device().synchronize()
    assert cupy.cuda.runtime.memGetInfo()[0] == free


def test_errors(embedder: Engine, cupy: Any) -> None:
    with pytest.raises(EngineError, match=r"expected the inputs \['images'\], got \['x'\]"):
        embedder.run(x=cupy.zeros((1, 3, 64, 64), np.float32))
    with pytest.raises(
        EngineError, match=r"celstream-embedder\.onnx: running it on images \(1, 3, 9, 9\) failed"
    ):
        embedder.run(images=cupy.zeros((1, 3, 9, 9), np.float32))


@pytest.mark.parametrize("name", ["tensorrt", "onnx", "torch"])
def test_two_engines_set_up_at_once_while_memory_is_taken(
    tmp_path: Path, crops: np.ndarray, expected: np.ndarray, cupy: Any, name: str
) -> None:
    """As in a run: each station has its thread and stream, meets new sizes, and decoders take memory."""
    engines = [opened(EMBEDDER, name, tmp_path) for _ in range(2)]
    over = threading.Event()

    def take() -> None:
        while not over.is_set():
            memory = cupy.cuda.Memory(1 << 20)
            cupy.cuda.alloc_pinned_memory(1 << 16)
            cupy.cuda.Stream.null.synchronize()
            del memory

    def run(engine: Engine) -> bool:
        with cupy.cuda.Stream(non_blocking=True):
            for count in (1, 5, 3, 12, 7, 24, 11, 20, 2, 16) * 2:
                out = engine.run(images=cupy.asarray(crops[:count]))["embedding"].get()
                if not close(out, expected[:count]):
                    return False
        return True

    taker = threading.Thread(target=take)
    taker.start()
    try:
        with ThreadPoolExecutor(2) as threads:
            assert list(threads.map(run, engines)) == [True, True]
    finally:
        over.set()
        taker.join()
    assert not any("call by call" in f.used for engine in engines for f in engine.fallbacks)
    for engine in engines:
        engine.close()


@pytest.mark.parametrize("name", ["tensorrt", "onnx", "torch"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_detector_at_sizes_that_change(tmp_path: Path, cupy: Any, name: str, precision: str) -> None:
    engine = opened(DETECTOR, name, tmp_path, precision)
    reference = OnnxEngine(DETECTOR, device="cpu")
    inputs = detector_inputs(DetectorConfig(), rendered(4).frames)
    inputs += detector_inputs(DetectorConfig(size=640), rendered(2).frames)
    for images in inputs:
        want = reference.run(images=images)["output0"]
        for _ in range(2):
            have = engine.run(images=cupy.asarray(images))["output0"].get()
            assert np.abs(have[:, 4:] - want[:, 4:]).max() < 0.02
            assert np.abs(have[:, :4] - want[:, :4]).mean() < 0.1
    engine.close()
    with pytest.raises(EngineError, match="was closed"):
        engine.run(images=cupy.asarray(inputs[0]))


def test_auto_takes_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crops: np.ndarray) -> None:
    """And says of every faster engine why it is not taken."""
    monkeypatch.setenv("CELSTREAM_CACHE", str(tmp_path))
    engine = open_engine(EMBEDDER)
    order = ["tensorrt", "onnx", "torch"]
    assert [f.wanted for f in engine.fallbacks] == order[: len(engine.fallbacks)]
    if len(engine.fallbacks) < len(order):
        assert engine.device == "cuda"
    assert engine.run(images=crops)["embedding"].shape == (len(crops), 256)
