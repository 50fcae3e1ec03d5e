"""High dynamic range to the ordinary range: PQ and HLG pictures as a good SDR grade would show them.

Transfer functions: ITU-R BT.2100-2 (PQ EOTF, HLG inverse OETF and OOTF at 1000 cd/m2). Highlights roll off by
the Hermite knee of ITU-R BT.2390-10 section 5.4, applied in PQ code values to the largest of R, G and B, so
that hue stays. Reference white (203 cd/m2, ITU-R BT.2408) comes out a little below SDR white, and 1000 cd/m2
as white.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Transfer = Literal["pq", "hlg"]

PEAK = 1000.0  # cd/m2, the brightest that is told apart
WHITE = 203.0  # cd/m2, what diffuse white has in HDR
SDR_WHITE = 203.0 * 1.25  # cd/m2 of the source that the knee maps SDR white to
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
#: linear BT.2020 -> BT.709 (ITU-R BT.2087)
_TO_709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
_ROWS = 64  # rows converted at once: keeps the work in the cache

Floats = npt.NDArray[np.float32]


def transfer_of(frame: Any) -> Transfer | None:
    """'pq' (SMPTE 2084), 'hlg' (ARIB STD-B67), or None for everything of ordinary range."""
    kinds: dict[int, Transfer] = {16: "pq", 18: "hlg"}
    return kinds.get(int(frame.color_trc))


def pq_to_light(code: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """PQ signal 0..1 to cd/m2."""
    root = np.power(np.asarray(code, np.float64), 1 / _M2)
    return 10000 * np.power(np.maximum(root - _C1, 0) / (_C2 - _C3 * root), 1 / _M1)


def light_to_pq(light: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """cd/m2 to PQ signal 0..1."""
    power = np.power(np.asarray(light, np.float64) / 10000, _M1)
    return np.power((_C1 + _C2 * power) / (1 + _C3 * power), _M2)


def hlg_to_scene(code: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """HLG signal 0..1 to scene light 0..1."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    code = np.asarray(code, np.float64)
    return np.where(code <= 0.5, code * code / 3, (np.exp((code - c) / a) + b) / 12)


def knee(light: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """cd/m2 of the source to linear SDR 0..1: straight up to the knee, then rolled off (BT.2390)."""
    top = light_to_pq(PEAK)
    signal = light_to_pq(np.minimum(light, PEAK)) / top
    limit = float(light_to_pq(SDR_WHITE) / top)
    start = 1.5 * limit - 0.5
    t = np.clip((signal - start) / (1 - start), 0, 1)
    curve = (
        (2 * t**3 - 3 * t**2 + 1) * start
        + (t**3 - 2 * t**2 + t) * (1 - start)
        + (-2 * t**3 + 3 * t**2) * limit
    )
    return pq_to_light(np.where(signal < start, signal, curve) * top) / SDR_WHITE


@lru_cache(maxsize=2)
def _tables(kind: Transfer) -> tuple[Floats, Floats, npt.NDArray[np.uint8]]:
    """Signal (16 bit) -> light; log-spaced light -> gain; linear SDR (12 bit) -> display value."""
    codes = np.arange(65536) / 65535
    light = pq_to_light(codes) if kind == "pq" else hlg_to_scene(codes)
    levels = np.linspace(0, 1, 4096) ** 2 * PEAK
    gain = np.ones(4096)
    gain[1:] = knee(levels[1:]) / levels[1:]
    gain[0] = gain[1]
    display = np.round(255 * np.power(np.arange(4096) / 4095, 1 / 2.2)).astype(np.uint8)
    return light.astype(np.float32), gain.astype(np.float32), display


def to_sdr(picture: npt.NDArray[np.uint16], kind: Transfer) -> npt.NDArray[np.uint8]:
    """``(H, W, 3)`` uint16 BT.2100 RGB to uint8 BT.709 RGB."""
    light_of, gain_of, display_of = _tables(kind)
    out = np.empty(picture.shape, np.uint8)
    for top in range(0, picture.shape[0], _ROWS):
        light = light_of[picture[top : top + _ROWS]]  # (R, W, 3)
        if kind == "hlg":  # OOTF: system gamma 1.2 on luminance at a 1000 cd/m2 display
            luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
            light *= (PEAK * np.power(np.maximum(luminance, 1e-6), 0.2))[..., None]
        peak = light.max(axis=2)
        index = np.sqrt(np.minimum(peak, PEAK) / PEAK) * 4095
        light *= gain_of[index.astype(np.int32)][..., None]
        linear = light @ _TO_709.T
        out[top : top + _ROWS] = display_of[(np.clip(linear, 0, 1) * 4095 + 0.5).astype(np.int32)]
    return out
