"""The kernels of pictures: compiled for real GPUs; run on an emulated one against the CPU's functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from emulated_gpu import Builder, install
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nvrtc import check_compiles, compile_source

from kernels import device
from kernels.image import (
    clip_box,
    crop_square,
    crop_squares,
    fit_letterbox,
    letterbox,
    letterbox_reference,
    normalize,
    resize,
    resize_boxes,
    sharpness_of,
    unpacked,
)
from kernels.image_cuda import PART, SOURCE

MUL, ADD = np.array([0.01, 0.02, 0.03], np.float32), np.array([0.5, -1, 0], np.float32)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("architecture", [80, 90, 120])
def test_nvrtc_compiles(architecture: int) -> None:
    check_compiles(SOURCE, architecture)


def test_nvrtc_finds_what_is_wrong() -> None:
    status, log, _ = compile_source(SOURCE, 90, SOURCE.text().replace("part.height", "part.heigth", 1))
    assert status != 0
    assert "heigth" in log


def test_the_struct_is_the_same_on_both_sides() -> None:
    assert f"static_assert(sizeof(Part) == {PART.itemsize}," in SOURCE.text()


SIZES = [(1, 1), (1, 7), (5, 1), (17, 31), (64, 64), (97, 204), (33, 400)]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("source", SIZES)
@pytest.mark.parametrize("canvas", [(1, 1), (3, 2), (16, 16), (33, 65), (20, 64)])
def test_letterbox_matches_the_definition(
    source: tuple[int, int], canvas: tuple[int, int], dtype: str, gpu: Any
) -> None:
    images = noise(2, *source, 3, seed=source[0])
    for centred, bgr in ((True, False), (False, True)):
        place = fit_letterbox(*source, *canvas, centred=centred)
        expected = letterbox_reference(images, place, MUL, ADD, bgr)
        found = letterbox(gpu.xp.asarray(images), place, mul=MUL, add=ADD, bgr=bgr, dtype=dtype)
        assert found.dtype == dtype
        # weights have 16 bits: 0.003 of the 255 levels; half has 11 bits, and values reach 7.7
        tolerance = 1e-4 if dtype == "float32" else 5e-3
        np.testing.assert_allclose(gpu.host(found).astype(np.float32), expected, atol=tolerance)


def test_letterbox_is_the_cpu_s(gpu: Any) -> None:
    """A real shape, the usual numbers."""
    images = noise(1, 270, 480, 3)
    place = fit_letterbox(270, 480, 96, 160)
    expected = letterbox(images, place, mul=1 / 255)
    found = gpu.host(letterbox(gpu.xp.asarray(images), place, mul=1 / 255))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def boxes_in(height: int, width: int, count: int, seed: int) -> list[tuple[float, float, float, float]]:
    """Boxes that overlap the frame, some beyond its edges, some hardly there."""
    rng = np.random.default_rng(seed)
    x1, y1 = rng.uniform(-0.3 * width, width - 0.1, count), rng.uniform(-0.3 * height, height - 0.1, count)
    x2 = np.maximum(x1 + rng.uniform(0.05, 1.2, count) * width, 0.1)
    y2 = np.maximum(y1 + rng.uniform(0.05, 1.2, count) * height, 0.1)
    return [tuple(box) for box in np.stack([x1, y1, x2, y2], axis=1).tolist()]


@pytest.mark.parametrize("fit", ["pad", "stretch", "square"])
@pytest.mark.parametrize("frame", [(61, 83), (40, 64), (3, 130)])
@pytest.mark.parametrize("size", [1, 9, 32, 45])
def test_squares_of_a_batch_are_those_of_the_cpu(
    frame: tuple[int, int], size: int, fit: Any, gpu: Any
) -> None:
    images = noise(3, *frame, 3)
    boxes = boxes_in(*frame, 12, seed=size)
    at = [k % 3 for k in range(len(boxes))]
    expected, contents = crop_squares(images, at, boxes, size, fit)
    found, found_contents = crop_squares(gpu.xp.asarray(images), at, boxes, size, fit)
    np.testing.assert_array_equal(found_contents, contents)
    difference = np.abs(gpu.host(found).astype(int) - expected)
    assert difference.max() <= 1
    assert difference.mean() < 0.01
    if gpu.emulated:
        assert len(gpu.launches) == 1
    one, content = crop_square(images[at[5]], boxes[5], size, fit)
    np.testing.assert_array_equal(one, expected[5])
    assert content == tuple(contents[5])


def test_pictures_of_any_size_in_one_buffer(gpu: Any) -> None:
    images = noise(2, 50, 71, 3)
    boxes = [clip_box(box, 50, 71) for box in boxes_in(50, 71, 9, seed=1)]
    sizes = np.array([(1 + 5 * k, 40 - 4 * k) for k in range(9)])
    at = [k % 2 for k in range(9)]
    expected = resize_boxes(images, at, boxes, sizes)
    found = gpu.host(resize_boxes(gpu.xp.asarray(images), at, boxes, sizes))
    assert np.abs(found.astype(int) - expected).max() <= 1
    for picture, size, box, k in zip(unpacked(expected, sizes), sizes, boxes, at, strict=True):
        np.testing.assert_array_equal(picture, resize(images[k], box, *size.tolist()))
    if gpu.emulated:
        assert gpu.launches == ["resize_1"]


@pytest.mark.parametrize("size", [1, 2, 5, 100, 300])
def test_a_source_too_large_for_what_a_warp_keeps(size: int, gpu: Any) -> None:
    """4,000 columns to one pixel, to a few, and to so many that each stretch holds some; and 4,000 rows."""
    image = noise(8, 4000, 3)
    wide, tall = (0.5, 0.25, 3999.0, 7.5), (0.25, 0.5, 7.5, 3999.0)
    turned = np.ascontiguousarray(image.transpose(1, 0, 2))
    for source, box, out in ((image, wide, (2, size)), (turned, tall, (size, 2))):
        expected = resize(source, box, *out)
        found = gpu.host(resize(gpu.xp.asarray(source), box, *out))
        assert np.abs(found.astype(int) - expected).max() <= 1


def test_a_whole_square_alone(gpu: Any) -> None:
    image = noise(40, 52, 3)
    expected, content = crop_square(image, (-5, 3, 30, 60), 24, "pad")
    found, found_content = crop_square(gpu.xp.asarray(image), (-5, 3, 30, 60), 24, "pad")
    assert found_content == content
    assert np.abs(gpu.host(found).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (2, 16, 16), (1, 33, 65)])
def test_normalize(shape: tuple[int, int, int], mirror: bool, dtype: str, gpu: Any) -> None:
    images = noise(*shape, 3)
    expected = normalize(images, mul=MUL, add=ADD, mirror=mirror, dtype=dtype)
    found = normalize(gpu.xp.asarray(images), mul=MUL, add=ADD, mirror=mirror, dtype=dtype)
    assert found.dtype == expected.dtype == np.dtype(dtype)
    tolerance = 1e-6 if dtype == "float32" else 4e-3
    np.testing.assert_allclose(gpu.host(found), expected, atol=tolerance)


def test_sharpness_of_what_is_picture(gpu: Any) -> None:
    squares = noise(5, 33, 33, 3)
    squares[3] = 77
    contents = np.array([(0, 0, 33, 33), (4, 0, 29, 33), (0, 10, 33, 12), (0, 0, 33, 33), (7, 3, 10, 30)])
    expected = sharpness_of(squares, contents)
    found = gpu.host(sharpness_of(gpu.xp.asarray(squares), contents))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert expected[2] == expected[3] == 0
    assert expected[0] > 1000


def test_nothing_gives_nothing(gpu: Any) -> None:
    images = gpu.xp.zeros((0, 8, 9, 3), np.uint8)
    assert letterbox(images, fit_letterbox(8, 9, 32, 32), mul=1).shape == (0, 3, 32, 32)
    assert normalize(images, mul=1).shape == (0, 3, 8, 9)
    squares, contents = crop_squares(images, [], [], 5, "pad")
    assert squares.shape == (0, 5, 5, 3)
    assert contents.shape == (0, 4)
    assert resize_boxes(images, [], [], np.empty((0, 2))).shape == (0, 3)
    assert sharpness_of(squares, contents).shape == (0,)
    assert gpu.launches == []


def test_bad_input_is_named(gpu: Any) -> None:
    images = gpu.xp.zeros((1, 8, 10, 3), np.uint8)
    with pytest.raises(ValueError, match="expected frames of 9x8, got 10x8"):
        letterbox(images, fit_letterbox(8, 9, 32, 32), mul=1)
    with pytest.raises(ValueError, match="expected a box inside 10x8"):
        resize(images[0], (0, 0, 11, 4), 4, 4)
    with pytest.raises(ValueError, match="float32 or float16, got float64"):
        normalize(images, mul=1, dtype="float64")
    with pytest.raises(ValueError, match=r"uint8 \(N, H, W, 3\), got uint8 \(8, 10, 3\)"):
        normalize(images[0], mul=1)


@pytest.mark.parametrize("backwards", [False, True])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_box_any_order_of_threads_cuda_source(
    backwards: bool, data: st.DataObject, emulated_kernels: Builder
) -> None:
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 50))
    x1, y1 = data.draw(st.floats(0, width - 0.5)), data.draw(st.floats(0, height - 0.5))
    x2, y2 = data.draw(st.floats(x1 + 0.25, width)), data.draw(st.floats(y1 + 0.25, height))
    out = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 70))
    image = noise(height, width, 3, seed=height)
    with pytest.MonkeyPatch.context() as patch:
        gpu = install(patch, emulated_kernels, backwards=backwards)
        found = gpu.host(resize(gpu.xp.asarray(image), (x1, y1, x2, y2), *out))
    assert np.abs(found.astype(int) - resize(image, (x1, y1, x2, y2), *out)).max() <= 1


def test_the_emulated_gpu_is_strict(emulated_kernels: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What CuPy refuses, and what would wait for the GPU unseen, is refused in these tests too."""
    gpu = install(monkeypatch, emulated_kernels)
    there, here = gpu.xp.asarray(np.arange(3.0)), np.arange(3.0)
    with pytest.raises(TypeError, match="on the host among ones on the GPU"):
        there + here
    with pytest.raises(TypeError, match="called with an array on the GPU"):
        np.concatenate([there, here])
    with pytest.raises(TypeError, match="wait"):
        bool(there[0] > 1)
    opened = device.open_device(SOURCE)
    with pytest.raises(AssertionError, match="host memory"):
        opened.launch("sharpness", 1, (256, 1), 0, (here, here, np.int32(1), there))
