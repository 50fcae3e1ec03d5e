"""The kernels that make RGB of NV12 and P010 against their reference."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from kernels.colour import Matrix, nv12_to_rgb, nv12_to_rgb_reference

MATRICES: tuple[Matrix, ...] = get_args(Matrix)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(2, 2), (7, 3), (9, 131), (34, 128), (3, 260)])
def test_the_kernel_is_the_reference(
    size: tuple[int, int], dtype: Any, matrix: Matrix, full_range: bool, gpu: Any
) -> None:
    height, width = size
    rng = np.random.default_rng(width)
    top = int(np.iinfo(dtype).max) + 1
    luma = rng.integers(0, top, (2, height, width), dtype=dtype)
    chroma = rng.integers(0, top, (2, (height + 1) // 2, (width + 1) // 2, 2), dtype=dtype)
    for left in (False, True):
        options = {"matrix": matrix, "full_range": full_range, "left_chroma": left}
        expected = nv12_to_rgb_reference(luma, chroma, **options)
        found = nv12_to_rgb(gpu.xp.asarray(luma), gpu.xp.asarray(chroma), **options)
        np.testing.assert_array_equal(gpu.host(found), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("pitch", [64, 67])
def test_rows_with_a_pitch_into_a_part_of_a_batch(pitch: int, dtype: Any, gpu: Any) -> None:
    """One frame as NVDEC gives it: rows longer than the picture, chroma in turns in rows as long."""
    surface = np.random.default_rng(1).integers(0, 256, (30, pitch), dtype=dtype)
    luma, chroma = surface[:20, :50], surface[20:, :50]
    expected = nv12_to_rgb_reference(luma[None], chroma.reshape(1, 10, 25, 2))[0]
    on_gpu = gpu.xp.asarray(surface)
    batch = gpu.xp.zeros((3, 20, 50, 3), np.uint8)
    found = nv12_to_rgb(on_gpu[:20, :50], on_gpu[20:, :50], out=batch[1])
    assert found.shape == (20, 50, 3)
    batch = gpu.host(batch)
    np.testing.assert_array_equal(batch[1], expected)
    assert not batch[[0, 2]].any()
    out = np.zeros_like(batch[1])
    assert nv12_to_rgb(luma, chroma, out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_no_frames(gpu: Any) -> None:
    empty = gpu.xp.zeros((0, 4, 4), np.uint8), gpu.xp.zeros((0, 2, 2, 2), np.uint8)
    assert nv12_to_rgb(*empty).shape == (0, 4, 4, 3)
