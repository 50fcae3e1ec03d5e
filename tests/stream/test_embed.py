"""The embedder station on real ONNX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_nets import Mean, Rectangles, export

from stream.batches import CropBatch, Segment, Video
from stream.config import EmbedderConfig
from stream.embed import IMAGENET_MEAN, IMAGENET_STD, Embedder
from stream.errors import ModelError

PLAIN = {"mean": "[0.0, 0.0, 0.0]", "std": "[1.0, 1.0, 1.0]"}


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("embedders")

    def get(four: bool = False, factor: float = 1.0, **options: object) -> Path:
        path = folder / f"{abs(hash((four, factor, repr(options))))}.onnx"
        if not path.exists():
            export(Mean(four, factor), path, **{"size": (16, 16), "metadata": PLAIN} | options)  # type: ignore[arg-type]
        return path

    return get


def crops(m: int, side: int = 16) -> CropBatch:
    images = np.random.default_rng(m).integers(0, 256, (m, side, side, 3), dtype=np.uint8)
    return CropBatch(
        segment=Segment(Video("v", "v.mp4", "video", 64, 64, "f"), 0, 0.0),
        images=images,
        jpegs=(b"",) * m,
        numbers=np.arange(m),
        times=np.arange(m, dtype=np.float64),
        indices=np.arange(m),
        shots=np.zeros(m, np.int32),
        boxes=np.zeros((m, 4), np.float32),
        scores=np.ones(m, np.float32),
        classes=("character",) * m,
        sharpness=np.zeros(m, np.float32),
    )


def expected(images: np.ndarray, mirror: bool, mean=(0, 0, 0), std=(1, 1, 1)) -> np.ndarray:
    """The means of both halves, of the crop and of its mirror image, added and made of length 1."""
    values = (images / 255 - np.array(mean)) / np.array(std)

    def halves(x: np.ndarray) -> np.ndarray:
        half = x.shape[2] // 2
        return np.concatenate([x[:, :, :half].mean((1, 2)), x[:, :, half:].mean((1, 2))], 1)

    total = halves(values) + (halves(values[:, :, ::-1]) if mirror else 0)
    return total / np.linalg.norm(total, axis=1, keepdims=True)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"batch": 1}, {"batch": 4}, {"four": True}, {"four": True, "batch": 4}]
)
@pytest.mark.parametrize("m", [0, 1, 4, 9])
def test_embeds_any_number(net, options: dict, mirror: bool, m: int) -> None:
    embedder = Embedder(EmbedderConfig(model=str(net(**options)), mirror=mirror, batch_size=4), device="cpu")
    assert (embedder.name, embedder.input_size, embedder.dim) == ("embed", 16, 6)
    batch = crops(m)
    out = embedder(batch)
    assert out.embeddings.shape == (m, 6)
    assert out.embeddings.dtype == np.float32
    assert out.images is batch.images
    if m:
        np.testing.assert_allclose(out.embeddings, expected(batch.images, mirror), atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(out.embeddings, axis=1), 1, atol=1e-6)


def test_mirror_makes_a_crop_and_its_mirror_image_one(net) -> None:
    embedder = Embedder(EmbedderConfig(model=str(net())), device="cpu")
    batch = crops(2)
    batch.images[1] = batch.images[0, :, ::-1]
    a, b = embedder(batch).embeddings
    np.testing.assert_allclose(a, b, atol=1e-6)
    plain = Embedder(EmbedderConfig(model=str(net()), mirror=False), device="cpu")
    a, b = plain(batch).embeddings
    assert np.abs(a - b).max() > 1e-3


def test_without_metadata_the_scaling_is_imagenets(net) -> None:
    batch = crops(3)
    out = Embedder(EmbedderConfig(model=str(net(metadata={}))), device="cpu")(batch)
    np.testing.assert_allclose(
        out.embeddings, expected(batch.images, True, IMAGENET_MEAN, IMAGENET_STD), atol=1e-5
    )


def test_input_sizes(net) -> None:
    free = net(free_size=True, metadata=PLAIN | {"imgsz": "[24, 24]"})
    assert Embedder(EmbedderConfig(model=str(free)), device="cpu").input_size == 24
    unknown = net(free_size=True, metadata=PLAIN)
    assert Embedder(EmbedderConfig(model=str(unknown)), device="cpu").input_size == 224
    upright = Embedder(EmbedderConfig(model=str(net(size=(32, 16)))), device="cpu")
    assert upright.input_size == 32
    batch = crops(2, 32)
    batch.images[:, :, :16] = 50
    batch.images[:, :, 16:] = 200
    out = upright(batch).embeddings
    np.testing.assert_allclose(out, expected(batch.images, True), atol=0.01)
    with pytest.raises(ValueError, match="expected crops of side 32, got 16"):
        upright(crops(1))


def test_half_precision(net) -> None:
    batch = crops(3)
    out = Embedder(EmbedderConfig(model=str(net(half=True))), device="cpu")(batch)
    assert out.embeddings.dtype == np.float32
    np.testing.assert_allclose(out.embeddings, expected(batch.images, True), atol=3e-3)


def test_describes_itself(net) -> None:
    embedder = Embedder(EmbedderConfig(model=str(net())), device="cpu", threads=1)
    assert "(16x16 -> 6, with mirror) on ONNX Runtime" in embedder.description
    assert len(embedder.model_hash) == 64
    assert embedder.fallbacks == ()
    embedder.close()


def test_what_is_no_embedder(net, tmp_path: Path) -> None:
    detector = export(Rectangles("v8"), tmp_path / "detector.onnx")
    with pytest.raises(ModelError, match=r"expected an embedder.*found output0 float32 \(1, 6, 1260\)"):
        Embedder(EmbedderConfig(model=str(detector)), device="cpu")
    with pytest.raises(ModelError, match="found neither"):
        Embedder(EmbedderConfig(model="gone.onnx"), device="cpu")


def test_a_network_that_never_has_finite_numbers_is_refused_before_any_frame(net) -> None:
    path = net(factor=float("inf"))
    said = rf"{path.name}: output 'output0' has numbers that are not finite for a black picture and for noise"
    with pytest.raises(ModelError, match=said):
        Embedder(EmbedderConfig(model=str(path)), device="cpu")


def test_a_crop_does_not_depend_on_its_neighbours(net) -> None:
    batch = crops(7)
    small = Embedder(EmbedderConfig(model=str(net()), batch_size=2), device="cpu")(batch).embeddings
    large = Embedder(EmbedderConfig(model=str(net()), batch_size=32), device="cpu")(batch).embeddings
    np.testing.assert_allclose(small, large, atol=1e-6)


def test_later_numbers_that_are_not_finite_name_the_model(net) -> None:
    embedder = Embedder(EmbedderConfig(model=str(net())), device="cpu")
    run = embedder._network.run
    embedder._network.run = lambda x: {k: v * np.float32("inf") for k, v in run(x).items()}
    with pytest.raises(ModelError, match="has numbers that are not finite for these crops"):
        embedder(crops(2))
