"""The crop station."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from stream.batches import Detections, FrameBatch, HeldFrames, Segment, Video
from stream.config import CropConfig
from stream.crops import Cropper

HELD = HeldFrames(np.array([0.5]), np.array([12]), np.array([7]))


def frames(images: np.ndarray) -> FrameBatch:
    n, height, width, _ = images.shape
    video = Video("v", "v.mp4", "video", width, height, "f", frame_rate=25.0)
    return FrameBatch(
        segment=Segment(video, 0, 0.0),
        images=images,
        times=np.arange(n) * 1.5,
        indices=np.arange(n) * 36,
        numbers=np.arange(n) + 7,
        shots=np.arange(n, dtype=np.int32) * 2,
        held=HELD,
    )


def detections(
    images: np.ndarray, boxes: list[tuple[float, ...]], frame: list[int] | None = None
) -> Detections:
    m = len(boxes)
    return Detections(
        frames=frames(images),
        frame=np.array(frame or [0] * m, np.int32),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.linspace(0.9, 0.5, m, dtype=np.float32),
        classes=(np.arange(m) % 2).astype(np.int32),
        class_names=("character", "face"),
    )


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_what_travels_with_a_crop() -> None:
    images = noise(3, 100, 160, 3)
    given = detections(images, [(10, 10, 60, 80), (0, 0, 30, 30), (100, 20, 160, 100)], [0, 2, 2])
    crops = Cropper(CropConfig(), 48)(given)
    assert crops.images.shape == (3, 48, 48, 3)
    assert crops.numbers.tolist() == [7, 9, 9]
    assert crops.times.tolist() == [0, 3, 3]
    assert crops.indices.tolist() == [0, 72, 72]
    assert crops.shots.tolist() == [0, 4, 4]
    assert crops.classes == ("character", "face", "character")
    np.testing.assert_array_equal(crops.boxes, given.boxes)
    np.testing.assert_array_equal(crops.scores, given.scores)
    assert crops.held is HELD
    assert crops.embeddings is None


def test_small_boxes_are_dropped_by_their_shorter_side() -> None:
    given = detections(noise(1, 100, 200, 3), [(0, 0, 24, 90), (0, 0, 23.9, 90), (0, 0, 150, 10)])
    crops = Cropper(CropConfig(min_size=24), 32)(given)
    np.testing.assert_array_equal(crops.boxes, given.boxes[:1])
    assert len(Cropper(CropConfig(min_size=1), 32)(given)) == 3


def test_blurred_crops_are_dropped() -> None:
    images = noise(1, 100, 200, 3)
    images[0, :, 100:] = 90
    given = detections(images, [(0, 0, 90, 90), (110, 0, 200, 90)])
    crops = Cropper(CropConfig(margin=0), 64)(given)
    assert crops.sharpness[0] > 1000
    assert crops.sharpness[1] == 0
    kept = Cropper(CropConfig(margin=0, min_sharpness=10), 64)(given)
    np.testing.assert_array_equal(kept.boxes, given.boxes[:1])


def test_grey_around_the_picture_does_not_count_as_sharp() -> None:
    flat = np.full((1, 100, 200, 3), 250, np.uint8)
    crops = Cropper(CropConfig(fit="pad"), 64)(detections(flat, [(0, 20, 200, 60)]))
    assert (crops.images[0, 0] == 114).all()
    assert crops.sharpness.tolist() == [0]


def test_margin_is_a_share_of_the_box_and_ends_at_the_frame() -> None:
    images = noise(1, 100, 100, 3)
    crops = Cropper(CropConfig(margin=0.25, fit="stretch", jpeg_quality=100), 60)(
        detections(images, [(30, 30, 70, 70), (0, 0, 40, 40)])
    )
    np.testing.assert_array_equal(crops.images[0], images[0, 20:80, 20:80])
    sizes = [Image.open(io.BytesIO(jpeg)).size for jpeg in crops.jpegs]
    assert sizes == [(60, 60), (50, 50)]


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((0, 0, 200, 100), (64, 32)),
        ((0, 0, 50, 100), (32, 64)),
        ((10, 10, 40, 50), (30, 40)),  # never enlarged
        ((0, 0, 200, 1.2), (64, 1)),
    ],
)
def test_jpegs_keep_the_aspect(box: tuple[float, ...], size: tuple[int, int]) -> None:
    images = noise(1, 100, 200, 3)
    config = CropConfig(margin=0, min_size=1, jpeg_size=64)
    (jpeg,) = Cropper(config, 32)(detections(images, [box])).jpegs
    picture = Image.open(io.BytesIO(jpeg))
    assert (picture.format, picture.size) == ("JPEG", size)


def test_jpeg_shows_the_box() -> None:
    images = np.full((1, 100, 200, 3), 255, np.uint8)
    images[0, 20:80, 40:120] = (10, 120, 230)
    (jpeg,) = Cropper(CropConfig(margin=0), 32)(detections(images, [(40, 20, 120, 80)])).jpegs
    pixels = np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)
    assert np.abs(pixels[4:-4, 4:-4] - (10, 120, 230)).max() <= 3


def test_jpeg_quality_makes_larger_files() -> None:
    given = detections(noise(1, 100, 100, 3), [(0, 0, 100, 100)])
    low, high = (len(Cropper(CropConfig(jpeg_quality=q), 32)(given).jpegs[0]) for q in (30, 95))
    assert low < high


@pytest.mark.parametrize("fit", ["pad", "stretch", "square"])
def test_nothing_found(fit: str) -> None:
    crops = Cropper(CropConfig(fit=fit), 32)(detections(noise(2, 40, 40, 3), []))  # type: ignore[arg-type]
    assert len(crops) == 0
    assert crops.images.shape == (0, 32, 32, 3)
    assert crops.held is HELD


def test_one_pixel_frame() -> None:
    crops = Cropper(CropConfig(min_size=1), 16)(detections(noise(1, 1, 1, 3), [(0, 0, 1, 1)]))
    assert (crops.images[0] == crops.images[0, 0, 0]).all()


def test_the_same_boxes_give_the_same_bytes() -> None:
    given = detections(noise(1, 90, 90, 3), [(3, 5, 80, 70)])
    assert Cropper(CropConfig(), 32)(given).jpegs == Cropper(CropConfig(), 32)(given).jpegs
