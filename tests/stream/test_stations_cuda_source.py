"""Detector, cropper and embedder on frames in the memory of a GPU, against the same on the host's.

Without a GPU it is emulated (the kernels are the real ones, compiled for the host), and refuses every mix of
its arrays with the host's. ONNX Runtime runs the networks behind an engine that takes and gives GPU arrays.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_nets import BLUE, RED, Mean, Rectangles, export

from engines.runtime import Engine, open_engine
from kernels.device import on_device, traffic
from stream.batches import CropBatch, Detections, FrameBatch, Segment, Video
from stream.cartoon.characters import make_cast
from stream.cartoon.episode import render_frames
from stream.cartoon.script import Script
from stream.config import CropConfig, DetectorConfig, EmbedderConfig
from stream.crops import Cropper
from stream.detect import Detector
from stream.embed import Embedder
from stream.errors import ModelError

NAMES = "{0: 'character', 1: 'face'}"
NETS: dict[str, dict[str, Any]] = {
    "v8": {"format": "v8"},
    "v8 batch of 3": {"format": "v8", "batch": 3},
    "v5": {"format": "v5"},
    "yolox": {"format": "yolox", "batch": 1},
    "end_to_end": {"format": "end_to_end"},
    "triple": {"format": "triple", "batch": 1, "outputs": ("boxes", "labels", "scores")},
}
SIZE = (90, 160)  # of the frames


class GpuEngine:
    """A network that lies on the emulated GPU: arrays there in, arrays there out."""

    def __init__(self, inner: Engine, xp: Any, half: bool) -> None:
        self.inner, self.xp = inner, xp
        self.inputs, self.outputs, self.metadata = inner.inputs, inner.outputs, inner.metadata
        if half:
            self.inputs = tuple(dataclasses.replace(spec, dtype="float16") for spec in inner.inputs)
        self.description, self.device, self.fallbacks = "emulated", "cuda", ()
        self.given: list[str] = []  # dtypes

    def run(self, **arrays: Any) -> dict[str, Any]:
        there = [on_device(array) for array in arrays.values()]
        assert all(there) or not any(there)
        self.given += [str(array.dtype) for array in arrays.values()]
        values = {k: self.xp.asnumpy(v) if all(there) else v for k, v in arrays.items()}
        outputs = self.inner.run(**values)
        return {k: self.xp.asarray(v) for k, v in outputs.items()} if all(there) else outputs

    def close(self) -> None:
        self.inner.close()


@pytest.fixture(scope="session")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("nets")

    def get(key: str) -> str:
        path = folder / f"{key}.onnx"
        if not path.exists():
            options = dict(NETS[key])
            export(Rectangles(options.pop("format")), path, metadata={"names": NAMES}, **options)
        return str(path)

    return get


@pytest.fixture(scope="session")
def embedder_net(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("embedder") / "mean.onnx"
    export(Mean(), path, size=(16, 16), metadata={})
    return str(path)


@pytest.fixture
def there(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The GPU, in use; ``there.engine(...)`` decides where networks run from then on."""
    gpu.engines = []

    def engine(device: str, *, half: bool = False) -> None:
        def opened(path: str | Path, **options: Any) -> Any:
            inner = open_engine(path, **options | {"device": "cpu", "threads": 1})
            gpu.engines.append(GpuEngine(inner, gpu.xp, half) if device == "cuda" else inner)
            return gpu.engines[-1]

        monkeypatch.setattr("stream.networks.open_engine", opened)
        monkeypatch.setattr("stream.networks.find_spec", lambda name: True)

    gpu.engine = engine
    engine("cuda")
    traffic.reset()
    return gpu


def frames(images: Any) -> FrameBatch:
    n, height, width, _ = images.shape
    return FrameBatch(
        segment=Segment(Video("v", "/v.mp4", "video", width, height, "f", frame_rate=25.0), 0, 0.0),
        images=images, times=np.arange(n, dtype=np.float64), indices=np.arange(n) * 25, numbers=np.arange(n),
        shots=np.zeros(n, np.int32),
    )  # fmt: skip


def pictures() -> np.ndarray:
    """Characters red, faces blue; one frame without any, one with a character cut off by the edge."""
    rng = np.random.default_rng(0)
    images = rng.integers(170, 230, (4, *SIZE, 3), dtype=np.uint8)
    images[0, 20:60, 10:70], images[0, 50:90, 90:150] = RED, BLUE
    images[1, 0:40, 0:33] = RED
    images[3, 30:90, 100:160] = RED
    return images


def assert_same(found: Detections, expected: Detections) -> None:
    assert found.frame.tolist() == expected.frame.tolist()
    assert found.classes.tolist() == expected.classes.tolist()
    assert found.class_names == expected.class_names
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    assert all(type(a) is np.ndarray for a in (found.frame, found.boxes, found.scores, found.classes))


@pytest.mark.parametrize("classes", [(), ("character", "face")])
@pytest.mark.parametrize("key", NETS)
def test_every_format_finds_the_same(key: str, classes: Any, nets: Any, there: Any) -> None:
    images = pictures()
    config = DetectorConfig(model=nets(key), classes=classes)
    detector = Detector(config)
    found = detector(frames(there.xp.asarray(images)))
    there.engine("cpu")
    expected = Detector(config)(frames(images))
    assert len(expected) == 3 + bool(classes)
    assert_same(found, expected)
    assert on_device(found.frames.images)
    kernels = {name for name in there.launches if not name.startswith("letterbox")}
    layouts = {
        "v8": "columns",
        "v8 batch of 3": "columns",
        "v5": "rows",
        "yolox": "rows",
        "end_to_end": "finished",
    }
    if key == "triple":  # few boxes to begin with: read on the host
        assert set(traffic.read()) == {"network output"}
    elif there.emulated:
        assert kernels == {"find_not_finite", f"candidates_{layouts[key.split()[0]]}", "rank", "suppress"}
        assert set(traffic.read()) == {"boxes"}
        assert traffic.read()["boxes"] < 1500


@pytest.mark.parametrize("format", ["v8", "yolox"])
def test_looks_of_several_sizes_and_mirrored_find_the_same(format: str, tmp_path: Path, there: Any) -> None:
    metadata = {"names": NAMES, "imgsz": "[192, 320]", "scales": "[1, 0.8, 0.65, 1.3]", "mirror": "True"}
    path = export(Rectangles(format), tmp_path / "net.onnx", metadata=metadata, free_size=True)
    images = pictures()[:, :, :150]  # with grey at a side of the canvas
    detector = Detector(DetectorConfig(model=str(path)))
    found = detector(frames(there.xp.asarray(images)))
    assert set(traffic.read()) == {"boxes"} or not there.emulated
    there.engine("cpu")
    expected = Detector(DetectorConfig(model=str(path)))(frames(images))
    assert len(expected) == 3
    assert_same(found, expected)


@pytest.mark.parametrize("key", ["v8", "yolox"])
@pytest.mark.parametrize(("here", "engine"), [(True, "cuda"), (False, "cpu")])
def test_a_network_elsewhere_than_the_frames(
    here: bool, engine: str, key: str, nets: Any, embedder_net: str, there: Any
) -> None:
    """The canvas is copied, once, and nothing else."""
    images = pictures()
    there.engine("cpu")
    detector, embedder = DetectorConfig(model=nets(key)), EmbedderConfig(model=embedder_net)
    expected = Detector(detector)(frames(images))
    crops = Cropper(CropConfig(), 16)(expected)
    vectors = Embedder(embedder)(crops).embeddings
    there.engine(engine)
    batch = frames(images if here else there.xp.asarray(images))
    assert_same(Detector(detector)(batch), expected)
    moved = traffic.read()
    assert set(moved) == ({"boxes"} if here else {"network input"})
    if not here:
        assert moved["network input"] == 4 * 3 * 192 * 320 * 4
    squares = crops if here else dataclasses.replace(crops, images=there.xp.asarray(crops.images))
    found = Embedder(embedder)(squares).embeddings
    assert type(found) is np.ndarray
    np.testing.assert_allclose(found, vectors, atol=1e-6)


def test_a_network_in_half_is_given_halves(nets: Any, there: Any) -> None:
    there.engine("cuda", half=True)
    found = Detector(DetectorConfig(model=nets("v8")))(frames(there.xp.asarray(pictures())))
    assert len(found) == 3
    assert set(there.engines[0].given[1:]) == {"float16"}  # the first is the trial, on the host
    if there.emulated:
        assert "letterbox_half_4" in there.launches


class NotFinite(Rectangles):
    """Numbers that are not finite as soon as there is red."""

    def forward(self, images: Any) -> Any:
        found = super().forward(images)
        return found / (found[:, 4:].amax((1, 2)) < 0.5).float()[:, None, None]


def test_numbers_that_are_not_finite_are_told(tmp_path: Path, there: Any) -> None:
    path = tmp_path / "bad.onnx"
    export(NotFinite("v8"), path, metadata={"names": NAMES})
    detector = Detector(DetectorConfig(model=str(path)))
    with pytest.raises(ModelError, match=r"bad\.onnx: its outputs have numbers that are not finite"):
        detector(frames(there.xp.asarray(pictures())))


def detections(images: Any) -> Detections:
    boxes = [(10, 20, 70, 60), (90.5, 50, 150, 90), (0, 0, 33, 40), (100, 30, 160, 90), (5, 5, 9, 60)]
    return Detections(
        frames(images), np.array([0, 0, 1, 3, 3], np.int32), np.array(boxes, np.float32),
        np.full(5, 0.9, np.float32), np.array([0, 1, 0, 0, 0], np.int32), ("character", "face"),
    )  # fmt: skip


@pytest.mark.parametrize("fit", ["pad", "stretch", "square"])
@pytest.mark.parametrize("least", [0.0, 100.0, 1e9])
def test_the_same_crops(least: float, fit: Any, there: Any) -> None:
    """Squares, pictures and sharpness; a small box and blurred ones are left out of both."""
    images = np.random.default_rng(0).integers(0, 256, (4, *SIZE, 3), dtype=np.uint8)
    images[1] = 99  # not sharp
    config = CropConfig(fit=fit, margin=0.1, min_size=16, min_sharpness=least, jpeg_size=40)
    expected = Cropper(config, 24)(detections(images))
    found = Cropper(config, 24)(detections(there.xp.asarray(images)))
    assert on_device(found.images)
    assert len(found) == len(expected) == {0.0: 4, 100.0: 3, 1e9: 0}[least]
    assert np.abs(there.host(found.images).astype(int) - expected.images).max(initial=0) <= 1
    np.testing.assert_allclose(found.sharpness, expected.sharpness, rtol=0.01)
    for name in ("numbers", "times", "indices", "shots", "boxes", "scores"):
        one, other = getattr(found, name), getattr(expected, name)
        assert type(one) is np.ndarray
        np.testing.assert_array_equal(one, other)
    assert found.classes == expected.classes
    for one, other in zip(found.jpegs, expected.jpegs, strict=True):
        a, b = (np.asarray(Image.open(io.BytesIO(data)), int) for data in (one, other))
        assert a.shape == b.shape
        assert np.abs(a - b).mean() < 1
    moved = traffic.read()
    assert moved["sharpness"] == 4 * 8
    shapes = [np.asarray(Image.open(io.BytesIO(data))).shape for data in expected.jpegs]
    assert moved.get("pictures", 0) == sum(h * w * 3 for h, w, _ in shapes)
    if there.emulated:
        assert set(there.launches) == {"resize_4", "sharpness"}


@pytest.mark.parametrize("mirror", [False, True])
def test_the_same_embeddings(mirror: bool, embedder_net: str, there: Any) -> None:
    squares = np.random.default_rng(1).integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)
    config = EmbedderConfig(model=embedder_net, mirror=mirror, batch_size=3)
    found = Embedder(config).vectors(there.xp.asarray(squares))
    assert traffic.read() == {"embeddings": found.nbytes}
    there.engine("cpu")
    expected = Embedder(config).vectors(squares)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_a_network_that_takes_no_squares(tmp_path: Path, there: Any) -> None:
    path = tmp_path / "wide.onnx"
    export(Mean(), path, size=(16, 24), metadata={})
    squares = np.random.default_rng(1).integers(0, 256, (2, 24, 24, 3), dtype=np.uint8)
    found = Embedder(EmbedderConfig(model=str(path))).vectors(there.xp.asarray(squares))
    there.engine("cpu")
    np.testing.assert_allclose(found, Embedder(EmbedderConfig(model=str(path))).vectors(squares), atol=1e-3)


def test_the_whole_way_with_the_default_networks(there: Any) -> None:
    """Frames stay where they are from the decoder to the embedding; what crosses is counted."""

    def way(images: Any) -> CropBatch:
        detector = Detector(DetectorConfig())
        embedder = Embedder(EmbedderConfig())
        return embedder(Cropper(CropConfig(), embedder.input_size)(detector(frames(images))))

    script = Script.random(make_cast(3, 3), 3, seconds=8, width=640, height=360, fps=2)
    images = np.stack([image for image, _ in itertools.islice(render_frames(script), 0, None, 4)])
    found = way(there.xp.asarray(images))
    moved = traffic.read()
    there.engine("cpu")
    expected = way(images)
    assert len(found) == len(expected) > 2
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.05)
    assert expected.embeddings is not None
    assert found.embeddings is not None
    assert found.images.shape == (len(found), 0, 0, 3)  # the GPU's memory is free again
    assert (found.embeddings * expected.embeddings).sum(axis=1).min() > 0.999
    assert set(moved) == {"boxes", "sharpness", "pictures", "embeddings"}
    assert moved["embeddings"] == found.embeddings.nbytes


def test_stations_have_streams_of_their_own(nets: Any, embedder_net: str, there: Any) -> None:
    """On the legacy default stream, where FFmpeg's decoder works, all would wait for all."""
    if not there.emulated:
        pytest.skip("a real GPU does not say on which stream a kernel ran")
    batch = frames(there.xp.asarray(pictures()))
    stations = (
        Detector(DetectorConfig(model=nets("v8"))), Cropper(CropConfig(), 16),
        Embedder(EmbedderConfig(model=embedder_net)),
    )  # fmt: skip

    def pass_through() -> list[set[Any]]:
        used, given = [], batch
        for station in stations:
            for device in there.devices:
                device.streams.clear()
            given = station(given)
            used.append({stream for device in there.devices for stream in device.streams})
        return used

    used = pass_through()
    assert [len(streams) for streams in used] == [1, 1, 1]
    assert len(set.union(*used)) == 3
    assert there.xp.cuda.Stream.null not in set.union(*used)
    assert pass_through() == used  # kept
    with there.xp.cuda.Stream(non_blocking=True) as chosen:
        assert pass_through() == [{chosen}] * 3


def test_nothing_found_and_no_frames(nets: Any, embedder_net: str, there: Any) -> None:
    detector, embedder = (
        Detector(DetectorConfig(model=nets("v8"))),
        Embedder(EmbedderConfig(model=embedder_net)),
    )
    for images in (pictures()[2:3], pictures()[:0]):
        crops = embedder(Cropper(CropConfig(), 16)(detector(frames(there.xp.asarray(images)))))
        assert len(crops) == 0
        assert crops.embeddings is not None
        assert crops.embeddings.shape == (0, embedder.dim)
