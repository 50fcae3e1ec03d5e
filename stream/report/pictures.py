"""Small JPEG pictures for the page, within a number of bytes."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

# longest side in pixels and JPEG quality, best first: the first that fits the budget is taken
LADDER = ((256, 82), (208, 80), (168, 78), (128, 75), (96, 70))
ICON_EDGE = 96
_PROBES = 12
_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class Small:
    """A re-encoded picture and its size in pixels."""

    jpeg: bytes
    width: int
    height: int


def shrink(jpeg: bytes, edge: int, quality: int) -> Small | None:
    """Re-encode a JPEG so that its longest side is at most ``edge`` pixels; it is never enlarged.

    Raising ``quality`` (1..95) gives larger files. A picture that cannot be decoded gives None: the page
    goes without it.
    """
    try:
        with Image.open(io.BytesIO(jpeg)) as opened:
            opened.draft("RGB", (edge, edge))
            image = opened.convert("RGB")
        image.thumbnail((edge, edge), Image.Resampling.BILINEAR)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return Small(out.getvalue(), image.width, image.height)


def icon(jpeg: bytes) -> bytes:
    """A square of ``ICON_EDGE`` pixels from the upper middle, where heads are; b"" if undecodable."""
    try:
        with Image.open(io.BytesIO(jpeg)) as opened:
            image = opened.convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 5
        square = image.crop((left, top, left + side, top + side)).resize((ICON_EDGE, ICON_EDGE))
        out = io.BytesIO()
        square.save(out, "JPEG", quality=80)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return b""
    return out.getvalue()


def fit(wanted: Sequence[str], jpegs: Mapping[str, bytes], budget: int) -> dict[str, Small]:
    """Re-encode pictures, most wanted first, at the best size of ``LADDER`` that fits ``budget`` bytes.

    Where not even the smallest size fits, the least wanted are left out. The sum never passes ``budget``.
    """
    wanted = [key for key in dict.fromkeys(wanted) if key in jpegs]
    if not wanted:
        return {}
    edge, quality = _step(wanted, jpegs, budget)
    with ThreadPoolExecutor(_THREADS) as pool:  # decoding, resizing and encoding let go of the interpreter
        made = pool.map(lambda key: shrink(jpegs[key], edge, quality), wanted)
        chosen: dict[str, Small] = {}
        spent = 0
        for key, small in zip(wanted, made, strict=True):
            if small is None:
                continue
            if spent + len(small.jpeg) > budget:
                pool.shutdown(cancel_futures=True)
                break
            chosen[key] = small
            spent += len(small.jpeg)
    return chosen


def _step(wanted: Sequence[str], jpegs: Mapping[str, bytes], budget: int) -> tuple[int, int]:
    """The first step of the ladder whose mean size, measured on a few pictures, fits."""
    probes = wanted[:: max(1, len(wanted) // _PROBES)][:_PROBES]
    for edge, quality in LADDER:
        sizes = [len(s.jpeg) for key in probes if (s := shrink(jpegs[key], edge, quality)) is not None]
        if not sizes or 1.1 * len(wanted) * sum(sizes) / len(sizes) <= budget:
            return edge, quality
    return LADDER[-1]
