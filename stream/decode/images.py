"""Still images: each one frame, upright, in RGB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from stream.batches import Segment
from stream.decode.packets import Note

#: Decoded pixels of one image at most; beyond it is a decompression bomb, not a picture.
MAX_PIXELS = 400_000_000


def read_image(path: str | Path) -> npt.NDArray[np.uint8]:
    """``(H, W, 3)`` uint8 RGB of a JPEG, PNG, WebP or GIF (its first frame); transparency lies on white.

    Raises:
        ValueError: not an image, damaged, or absurdly large. The message says which.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{path}: {image.width}x{image.height} is too large for one picture")
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                rgba = upright.convert("RGBA")
                white = Image.new("RGBA", rgba.size, "white")
                upright = Image.alpha_composite(white, rgba)
            elif upright.mode in ("I;16", "I;16B", "I"):
                wide = np.asarray(upright, np.float64)
                upright = Image.fromarray((wide / max(255.0, float(wide.max())) * 255).astype(np.uint8))
            return np.array(upright.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        detail = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ValueError(f"{path}: cannot be read as an image ({detail})") from error


def image_frames(segment: Segment, note: Note) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """(position, picture) of the segment's images: image ``i`` has the time of ``i`` seconds."""
    files = segment.video.files
    last = len(files) if segment.end_s >= len(files) else int(np.ceil(segment.end_s))
    for position in range(int(np.ceil(segment.start_s)), last):
        try:
            yield position, read_image(files[position])
        except ValueError as error:
            note(str(error))
