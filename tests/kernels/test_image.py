"""The compiled resizing against its definition and against Pillow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kernels.image import (
    PAD,
    clip_box,
    crop_square,
    fit_letterbox,
    letterbox,
    letterbox_reference,
    normalize,
    resize,
    resize_reference,
    sharpness,
)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


SIZES = [(1, 1), (1, 7), (5, 1), (2, 3), (17, 31), (64, 64), (97, 203)]


@pytest.mark.parametrize("source", SIZES)
@pytest.mark.parametrize("out", [(1, 1), (3, 2), (16, 16), (33, 65)])
def test_resize_matches_the_definition(source: tuple[int, int], out: tuple[int, int]) -> None:
    image = noise(*source, 3)
    box = (0.0, 0.0, float(source[1]), float(source[0]))
    expected = resize_reference(image, box, *out)
    assert np.abs(resize(image, box, *out) - expected).max() <= 0.51


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_resize_of_any_box_matches_pillow(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(2, 60)), data.draw(st.integers(2, 60))
    x1 = data.draw(st.floats(0, width - 1))
    y1 = data.draw(st.floats(0, height - 1))
    x2 = data.draw(st.floats(x1 + 0.5, width))
    y2 = data.draw(st.floats(y1 + 0.5, height))
    out_height, out_width = data.draw(st.integers(1, 50)), data.draw(st.integers(1, 50))
    image = noise(height, width, 3, seed=height * width)
    ours = resize(image, (x1, y1, x2, y2), out_height, out_width)
    pillow = Image.fromarray(image).resize(
        (out_width, out_height), Image.Resampling.BILINEAR, box=(x1, y1, x2, y2)
    )
    # Pillow rounds between its two passes, and keeps the box in 32 bits
    assert np.abs(ours.astype(int) - np.asarray(pillow).astype(int)).max() <= 2


@pytest.mark.parametrize("box", [(-1, 0, 4, 4), (0, 0, 11, 4), (3, 3, 3, 4), (5, 5, 4, 6), (np.nan, 0, 4, 4)])
def test_resize_refuses_a_box_outside(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="expected a box inside 10x8"):
        resize(noise(8, 10, 3), box, 4, 4)


def test_resize_refuses_what_is_no_rgb() -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(H, W, 3\), got float64"):
        resize(np.zeros((4, 4, 3)), (0, 0, 4, 4), 2, 2)


def test_resize_of_a_view_that_is_not_contiguous() -> None:
    image = noise(20, 30, 3)
    box = (0.0, 0.0, 15.0, 10.0)
    view = image[::2, ::2]
    np.testing.assert_array_equal(resize(view, box, 5, 6), resize(view.copy(), box, 5, 6))


@pytest.mark.parametrize(
    ("source", "canvas", "centred", "expected"),
    [
        ((1080, 1920), (192, 320), True, (6, 0, 180, 320)),
        ((1080, 1920), (192, 320), False, (0, 0, 180, 320)),
        ((100, 50), (64, 64), True, (0, 16, 64, 32)),
        ((1, 1), (32, 64), True, (0, 16, 32, 32)),
        ((1, 4000), (32, 32), True, (15, 0, 1, 32)),
    ],
)
def test_letterbox_is_placed(
    source: tuple[int, int], canvas: tuple[int, int], centred: bool, expected: tuple[int, ...]
) -> None:
    place = fit_letterbox(*source, *canvas, centred=centred)
    assert (place.top, place.left, place.content_height, place.content_width) == expected


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(1, 70)] * 2), st.tuples(*[st.integers(1, 70)] * 2), st.booleans(), st.booleans()
)
def test_letterbox_matches_the_definition(
    source: tuple[int, int], canvas: tuple[int, int], centred: bool, bgr: bool
) -> None:
    images = noise(2, *source, 3, seed=source[0])
    place = fit_letterbox(*source, *canvas, centred=centred)
    mul, add = np.array([0.01, 0.02, 0.03], np.float32), np.array([0.5, -1, 0], np.float32)
    ours = letterbox(images, place, mul=mul, add=add, bgr=bgr)
    np.testing.assert_allclose(ours, letterbox_reference(images, place, mul, add, bgr), atol=1e-4)


def test_letterbox_of_no_frames() -> None:
    place = fit_letterbox(10, 20, 32, 32)
    assert letterbox(np.empty((0, 10, 20, 3), np.uint8), place, mul=1).shape == (0, 3, 32, 32)


def test_letterbox_refuses_frames_of_another_size() -> None:
    with pytest.raises(ValueError, match="expected frames of 20x10, got 10x20"):
        letterbox(noise(1, 20, 10, 3), fit_letterbox(10, 20, 32, 32), mul=1)


def test_normalize_and_mirror() -> None:
    images = noise(3, 5, 7, 3)
    mul, add = np.array([0.1, 0.2, 0.3], np.float32), np.array([1, 2, 3], np.float32)
    expected = (images.astype(np.float32) * mul + add).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(normalize(images, mul=mul, add=add), expected, rtol=1e-6)
    np.testing.assert_allclose(
        normalize(images, mul=mul, add=add, mirror=True), expected[..., ::-1], rtol=1e-6
    )
    assert normalize(images[:0], mul=1).shape == (0, 3, 5, 7)


def quadrants(height: int = 100, width: int = 200) -> np.ndarray:
    """White with a red rectangle at x 40..120, y 30..70."""
    image = np.full((height, width, 3), 255, np.uint8)
    image[30:70, 40:120] = (255, 0, 0)
    return image


def test_crop_pad_keeps_the_aspect_on_grey() -> None:
    square, content = crop_square(quadrants(), (40, 30, 120, 70), 64, "pad")
    assert content == (16, 0, 48, 64)
    assert (square[:16] == PAD).all()
    assert (square[48:] == PAD).all()
    # the filter reaches a pixel over the box's edge, as Pillow's does
    assert (square[17:47, 1:63] == (255, 0, 0)).all()


def test_crop_stretch_fills() -> None:
    square, content = crop_square(quadrants(), (40, 30, 120, 70), 64, "stretch")
    assert content == (0, 0, 64, 64)
    assert (square[1:63, 1:63] == (255, 0, 0)).all()


def test_crop_square_takes_in_the_frame_and_moves_inside() -> None:
    image = quadrants()
    square, content = crop_square(image, (40, 30, 120, 70), 80, "square")  # x 40..120, y 10..90
    assert content == (0, 0, 80, 80)
    np.testing.assert_array_equal(square, image[10:90, 40:120])
    square, content = crop_square(image, (40, 0, 120, 40), 80, "square")  # would reach to y -20
    assert content == (0, 0, 80, 80)
    np.testing.assert_array_equal(square, image[0:80, 40:120])
    square, content = crop_square(image, (0, 30, 200, 70), 100, "square")  # higher than the frame
    assert content == (25, 0, 75, 100)
    assert (square[:25] == PAD).all()


@settings(max_examples=80, deadline=None)
@given(
    st.tuples(*[st.integers(1, 40)] * 2),
    st.tuples(*[st.floats(-60, 60)] * 4),
    st.integers(1, 40),
    st.sampled_from(["pad", "stretch", "square"]),
)
def test_any_box_that_overlaps_gives_a_crop(
    frame: tuple[int, int], corners: tuple[float, float, float, float], size: int, fit: str
) -> None:
    image = noise(*frame, 3)
    x1, x2 = sorted(corners[:2])
    y1, y2 = sorted(corners[2:])
    overlaps = max(x1, 0) < min(x2, frame[1]) and max(y1, 0) < min(y2, frame[0])
    if not overlaps:
        with pytest.raises(ValueError, match="overlaps"):
            crop_square(image, (x1, y1, x2, y2), size, fit)  # type: ignore[arg-type]
        return
    square, (top, left, bottom, right) = crop_square(image, (x1, y1, x2, y2), size, fit)  # type: ignore[arg-type]
    assert square.shape == (size, size, 3)
    assert 0 <= top < bottom <= size
    assert 0 <= left < right <= size
    assert max(bottom - top, right - left) == size
    outside = np.ones((size, size), bool)
    outside[top:bottom, left:right] = False
    assert (square[outside] == PAD).all()


def test_clip_box() -> None:
    assert clip_box((-5, 2, 50, 90), 20, 40) == (0, 2, 40, 20)
    with pytest.raises(ValueError, match="overlaps the 40x20 frame"):
        clip_box((40, 0, 50, 10), 20, 40)


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    image = noise(9, 11, 3)
    luma = image @ np.array([0.299, 0.587, 0.114])
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * luma[1:-1, 1:-1]
    assert sharpness(image) == pytest.approx(laplacian.var(), rel=1e-9)
    assert sharpness(np.full((9, 9, 3), 77, np.uint8)) == 0
    assert sharpness(image[:2]) == 0
    blurred = np.asarray(Image.fromarray(image).resize((5, 5)).resize((11, 9)))
    assert sharpness(blurred) < sharpness(image) / 10
