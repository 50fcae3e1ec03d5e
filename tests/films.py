"""Small real films whose every frame shows its own number, written with PyAV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]

BITS = 12
WIDTH, HEIGHT, RATE = 192, 144, 24


def numbered(number: int, width: int = WIDTH, height: int = HEIGHT) -> Picture:
    """A picture with a moving square, a colour gradient, and its number as black and white blocks on top."""
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack([x * 200 // width, y * 200 // height, (x + y + 3 * number) % 160], axis=2)
    left = (number * 3) % (width - 24)
    picture[height // 2 : height // 2 + 24, left : left + 24] = (230, 40, 40)
    cell = width // BITS
    for bit in range(BITS):
        picture[: height // 4, bit * cell : (bit + 1) * cell] = 235 if number >> bit & 1 else 20
    return picture.astype(np.uint8)


def number_of(picture: Picture) -> int:
    """The number a picture shows."""
    height, width = picture.shape[:2]
    cell = width // BITS
    centres = [int(picture[height // 8, bit * cell + cell // 2].mean()) for bit in range(BITS)]
    return sum(1 << bit for bit, value in enumerate(centres) if value > 128)


def write_film(
    path: Path | Any,
    pictures: Iterable[Picture] | int = 96,
    *,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
    start: int = 0,
    rate: Fraction | int = RATE,
    time_base: Fraction | None = None,
    container: str | None = None,
    container_options: dict[str, str] | None = None,
    pixels: str = "yuv420p",
    audio: bool = False,
    **settings: Any,
) -> Path:
    """Encode pictures (or that many numbered ones). ``pts``: in units of 1/rate, else one after the other;
    ``start`` is added. ``settings`` are set on the stream's codec context."""
    pictures = (numbered(i) for i in range(pictures)) if isinstance(pictures, int) else pictures
    base = time_base or 1 / Fraction(rate)
    with av.open(path, "w", format=container, options=container_options or {}) as out:
        stream: Any = None
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if stream is None:
                stream = out.add_stream(codec, rate=rate, options={"threads": "1", **(options or {})})
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pixels
                stream.codec_context.time_base = base
                rotation = settings.pop("rotation", None)
                for key, value in settings.items():
                    setattr(stream.codec_context, key, value)
                if rotation is not None:
                    stream.set_display_rotation(rotation)
                sound = out.add_stream("aac", rate=44100, layout="mono") if audio else None
            frame = frame.reformat(format=pixels)
            frame.pts = (pts[i] if pts is not None else i) + start
            frame.time_base = base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound is not None:
            silence = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            for i in range(20):
                silence.sample_rate, silence.pts = 44100, i * 1024
                out.mux(sound.encode(silence))
            out.mux(sound.encode(None))
    return Path(path) if isinstance(path, str | Path) else path
