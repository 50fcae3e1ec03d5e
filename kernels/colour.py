"""NV12 and P010, as video decoders put them out, to RGB; on the GPU (``colour.cu``) or the host.

The arithmetic is that of swscale, which the CPU decodes with (:mod:`stream.decode.pictures`), so that a
frame decoded by the GPU is the one decoded by the CPU. Chroma is taken from the nearest sample, as swscale
does outside its slower, exact modes. Measured against swscale (PyAV 18, x86) on the real films and on noise,
all five matrices, both ranges:

- 8 bits: equal to the last bit for frames of an even height. Each product is cut off to whole levels, so the
  picture is 0.5 to 1 level darker than the exact formula has it.
- 10 bits: equal to the last bit for frames of an even size. They are rounded to 8 bits first, chroma being
  interpolated between lines at 3:1, and in a line too where the stream says that it lies on the left pixel;
  the colour shifts are counted in whole steps of luma. Limited range comes out 1.8 levels dark.
- odd heights, and odd widths of 10 bits, where swscale interpolates chroma both ways: within 1.4 levels on
  the average on real frames. Video is coded in even sizes; what is odd has been cropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from kernels import device as gpu
from kernels.device import on_device
from kernels.image_cuda import SOURCE

Array = Any  # numpy.ndarray or cupy.ndarray
Matrix = Literal["bt601", "bt709", "bt2020", "smpte240m", "fcc"]

_WEIGHTS: dict[Matrix, tuple[float, float]] = {  # of red and blue in luma
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "smpte240m": (0.212, 0.087),
    "fcc": (0.30, 0.11),
}
_QUADS, _ROWS = 128, 8  # pixels and rows of a block, see colour.cu


@dataclass(frozen=True)
class Coefficients:
    """Whole numbers that a conversion multiplies by: of luma, of chroma in red, green (twice) and blue.

    8 bits: value = (luma (Y - base) >> 13) + the chroma less 128, times its number, >> 13; each 16 bits.
    More bits: value = (luma (Y + steps) + base) >> 16, steps = (chroma x number >> 16) - (number >> 9).
    """

    luma: int
    base: int
    red: int
    green_blue: int
    green_red: int
    blue: int


def coefficients(matrix: Matrix, full_range: bool, bits: int) -> Coefficients:
    """The numbers for a matrix and range, for samples of 8 bits or more.

    Raises:
        ValueError: the matrix is not known.
    """
    if matrix not in _WEIGHTS:
        raise ValueError(f"matrix: expected one of {', '.join(_WEIGHTS)}, got {matrix!r}")
    kr, kb = _WEIGHTS[matrix]
    kg = 1 - kr - kb
    shares = (2 * (1 - kr), -2 * (1 - kb) * kb / kg, -2 * (1 - kr) * kr / kg, 2 * (1 - kb))
    # in 65536ths; limited chroma has 224 levels where RGB has 255
    chroma = [round(share * 65536 * 255 / 224) for share in shares]
    luma, black = 65536 * 255 // 219, 16
    if full_range:
        chroma = [int(number * 224 / 255) for number in chroma]
        luma, black = 65536, 0
    if bits == 8:
        return Coefficients(_thirteen(luma), black, *map(_thirteen, chroma))
    # the table that this stands for begins at -384 levels, at 384 or, for limited range, 326 steps below 0
    below = 384 if full_range else 326
    base = luma * below - (384 << 16) - (black << 16) + 0x8000
    return Coefficients(luma, base, *(_divided((number << 16) + 0x8000, luma) for number in chroma))


def _thirteen(number: int) -> int:
    """From 16 bits behind the point to 13, rounded."""
    return (number * (1 << 13) + (1 << 15)) >> 16


def _divided(a: int, b: int) -> int:
    """As C divides: cut off towards zero."""
    return -(-a // b) if a < 0 else a // b


def nv12_to_rgb_reference(
    luma: Array,
    chroma: Array,
    *,
    matrix: Matrix = "bt709",
    full_range: bool = False,
    left_chroma: bool = False,
) -> Array:
    """:func:`nv12_to_rgb` of NumPy arrays, from the definition."""
    luma, chroma = _checked(luma, chroma)
    _, height, width = luma.shape
    m = coefficients(matrix, full_range, 8 * luma.dtype.itemsize)
    y = luma.astype(np.int64)
    rows = np.minimum(np.arange(height) // 2, chroma.shape[1] - 1)
    columns = np.minimum(np.arange(width) // 2, chroma.shape[2] - 1)
    planes = chroma.astype(np.int64)
    if luma.dtype == np.uint8:
        near = (planes[:, rows][:, :, columns] - 128) * 8
        u, v = near[..., 0], near[..., 1]
        light = ((y - m.base) * 8 * m.luma) >> 16
        green = ((u * m.green_blue) >> 16) + ((v * m.green_red) >> 16)
        rgb = np.stack([light + ((v * m.red) >> 16), light + green, light + ((u * m.blue) >> 16)], axis=-1)
    else:
        beside = np.clip(rows + np.where(np.arange(height) % 2, 1, -1), 0, chroma.shape[1] - 1)
        mixed = 3 * planes[:, rows] + planes[:, beside]
        after = np.minimum(columns + 1, chroma.shape[2] - 1) if left_chroma else columns
        mixed = np.minimum((3 * mixed[:, :, columns] + mixed[:, :, after] + 2048) >> 12, 255)

        def steps(plane: Array, by: int) -> Array:
            return ((plane * by) >> 16) - (by >> 9)

        u, v = mixed[..., 0], mixed[..., 1]
        green = steps(u, m.green_blue) + steps(v, m.green_red)
        shifts = np.stack([steps(v, m.red), green, steps(u, m.blue)], axis=-1)
        rgb = (m.luma * (((y + 128) >> 8)[..., None] + shifts) + m.base) >> 16
    return np.clip(rgb, 0, 255).astype(np.uint8)


def nv12_to_rgb(
    luma: Array,
    chroma: Array,
    *,
    matrix: Matrix = "bt709",
    full_range: bool = False,
    left_chroma: bool = False,
    out: Array | None = None,
) -> Array:
    """Frames of NV12 or P010 as RGB.

    Args:
        luma: (N, H, W) or, one frame, (H, W); uint8 (NV12), or uint16 with 10 bits or more in the upper ones
            (P010, P016). Rows may have a pitch; the samples of a row lie side by side.
        chroma: (N, H/2, W/2, 2) or (N, H/2, W), or one frame's, of the same type: Cb and Cr in turns.
        matrix: of the stream, not of its size.
        full_range: luma is 0..255 and not 16..235.
        left_chroma: chroma lies on the left pixel of two (what H.264 and HEVC say unless they say otherwise),
            not between them; counts for more than 8 bits only, as with swscale.
        out: (N, H, W, 3) uint8, C-ordered, that gets the pictures: a part of a batch, for instance.

    Returns:
        (N, H, W, 3) uint8, without N for one frame; ``out`` where it was given. Nothing is waited for.

    Raises:
        ValueError: shapes, types or the matrix do not fit.
    """
    one = luma.ndim == 2
    luma, chroma = _checked(luma, chroma)
    n, height, width = luma.shape
    if out is not None:
        _check_out(out, (height, width, 3) if one else (n, height, width, 3))
    if on_device(luma):
        rgb = _on_gpu(luma, chroma, matrix, full_range, left_chroma, out)
    else:
        rgb = nv12_to_rgb_reference(
            luma, chroma, matrix=matrix, full_range=full_range, left_chroma=left_chroma
        )
        if out is not None:
            out.reshape(rgb.shape)[...] = rgb
    return out if out is not None else rgb[0] if one else rgb


def _checked(luma: Array, chroma: Array) -> tuple[Array, Array]:
    """(N, H, W) and (N, H/2, W/2, 2)."""
    if luma.ndim == 2:
        luma, chroma = luma[None], chroma[None]
    n, height, width = luma.shape if luma.ndim == 3 else (0, 0, 0)
    if chroma.ndim == 3 and chroma.shape[2] % 2 == 0:
        step = chroma.strides[2]
        fits = step == chroma.dtype.itemsize
        chroma = chroma.reshape(*chroma.shape[:2], -1, 2) if fits else chroma
    shapes = [(n, *size, 2) for size in ((height // 2, width // 2), (-(-height // 2), -(-width // 2)))]
    if (
        luma.ndim != 3
        or luma.dtype not in (np.uint8, np.uint16)
        or luma.dtype != chroma.dtype
        or not (n == 0 or tuple(chroma.shape) in shapes)
        or min(height, width) < 2
    ):
        raise ValueError(
            "nv12_to_rgb: expected luma (N, H, W) of at least 2x2 and chroma (N, H/2, W/2, 2), both uint8 or"
            f" both uint16, got {luma.dtype} {tuple(luma.shape)} and {chroma.dtype} {tuple(chroma.shape)}"
        )
    size = luma.dtype.itemsize
    if n and (luma.strides[2] != size or tuple(chroma.strides[2:]) != (2 * size, size)):
        raise ValueError(
            "nv12_to_rgb: expected the samples of a row side by side,"
            f" got strides {luma.strides} and {chroma.strides} bytes"
        )
    return luma, chroma


def _check_out(out: Array, shape: tuple[int, ...]) -> None:
    if tuple(out.shape) != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(
            f"nv12_to_rgb: expected out to be C-ordered uint8 {shape}, got {out.dtype} {tuple(out.shape)}"
        )


def _on_gpu(
    luma: Array, chroma: Array, matrix: Matrix, full_range: bool, left_chroma: bool, out: Array | None
) -> Array:
    device = gpu.open_device(SOURCE)
    xp, whole, wide = device.xp, np.int32, np.int64
    luma, chroma = xp.asarray(luma), xp.asarray(chroma)
    n, height, width = luma.shape
    rgb = xp.empty((n, height, width, 3), np.uint8) if out is None else xp.asarray(out).reshape(
        n, height, width, 3
    )  # fmt: skip
    if n == 0:
        return rgb
    size = luma.dtype.itemsize
    strides = [s // size for s in (*luma.strides[:2], *chroma.strides[:2])]
    # four samples are loaded at once where every row begins at a multiple of four
    aligned = all(s % 4 == 0 for s in strides) and all(
        array.__cuda_array_interface__["data"][0] % (4 * size) == 0 for array in (luma, chroma)
    )
    m = coefficients(matrix, full_range, 8 * size)
    device.launch(
        "nv12_to_rgb" if size == 1 else "p010_to_rgb",
        n * -(-height // _ROWS) * -(-width // _QUADS), (32, _ROWS), 0,
        (
            luma, chroma, rgb, whole(height), whole(width), whole(chroma.shape[1]), whole(chroma.shape[2]),
            *(wide(s) for s in strides), whole(aligned), whole(left_chroma), whole(m.luma), whole(m.base),
            whole(m.red), whole(m.green_blue), whole(m.green_red), whole(m.blue),
        ),
    )  # fmt: skip
    return rgb
