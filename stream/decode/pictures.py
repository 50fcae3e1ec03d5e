"""From a decoded frame to the picture people see: right matrix and range, square pixels, upright."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from stream.batches import Video
from stream.decode import hdr

Frame = Any
Picture = npt.NDArray[np.uint8]

#: FFmpeg's AVColorSpace -> the matrix swscale is told; what is missing is guessed from the size.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}


def matrix_of(colorspace: int, width: int, height: int) -> Colorspace:
    """The YUV matrix of a frame. Untagged video is BT.709 from 720 lines (or 1280 columns) on and BT.601
    below, as players have it."""
    guess = Colorspace.ITU709 if height > 576 or width >= 1280 else Colorspace.ITU601
    return _MATRICES.get(colorspace, guess)


def squared_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """The size with square pixels. Nothing is lost: wide pixels widen the picture, tall ones heighten it.

    >>> squared_size(720, 576, Fraction(64, 45))
    (1024, 576)
    """
    if aspect is None or aspect <= 0 or aspect == 1 or not Fraction(1, 8) <= aspect <= 8:
        return width, height
    if aspect > 1:
        return max(1, round(width * aspect)), height
    return width, max(1, round(height / aspect))


def upright_size(width: int, height: int, rotation: int) -> tuple[int, int]:
    """The size after a counterclockwise rotation by ``rotation`` degrees, to the nearest quarter turn."""
    return (height, width) if round(rotation / 90) % 2 else (width, height)


class Painter:
    """Converts frames of one video to ``(H, W, 3)`` uint8 RGB of the size that :class:`Video` tells.

    A frame of another size (the resolution changes in mid-stream) is fitted into that size, on black.
    """

    def __init__(self, video: Video, threads: int = 1) -> None:
        self.width, self.height = video.width, video.height
        self.turns = round(int(video.facts.get("rotation", 0)) / 90) % 4
        self.threads = max(1, threads)
        sar = video.facts.get("sar")
        self.aspect = Fraction(*sar) if sar else None
        self._coded = tuple(video.facts.get("coded", ()))
        self._reformatter = VideoReformatter()
        self._small = VideoReformatter()

    def rgb(self, frame: Frame, aspect: Fraction | None = None) -> Picture:
        """The picture. ``aspect``: shape of this frame's pixels, where its size is not the video's."""
        same = (frame.width, frame.height) == self._coded
        shape = self.aspect if same else aspect or Fraction(1)
        width, height = squared_size(frame.width, frame.height, shape)
        # the size that it must have before it is turned upright
        room = (self.height, self.width) if self.turns % 2 else (self.width, self.height)
        if (width, height) != room:
            scale = min(room[0] / width, room[1] / height)
            width = max(1, min(room[0], round(width * scale)))
            height = max(1, min(room[1], round(height * scale)))
        picture = self._convert(frame, width, height)
        if self.turns:
            picture = np.rot90(picture, self.turns)
        if picture.shape[:2] != (self.height, self.width):
            canvas = np.zeros((self.height, self.width, 3), np.uint8)
            top, left = (self.height - picture.shape[0]) // 2, (self.width - picture.shape[1]) // 2
            canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            picture = canvas
        return picture

    def _convert(self, frame: Frame, width: int, height: int) -> Picture:
        kind = hdr.transfer_of(frame)
        converted = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb48le" if kind else "rgb24",
            interpolation=Interpolation.BICUBIC
            if (width, height) != (frame.width, frame.height)
            else Interpolation.BILINEAR,
            threads=self.threads,
            **_source(frame),
        )
        picture: Any = converted.to_ndarray()
        return hdr.to_sdr(picture, kind) if kind else picture

    def small(self, frame: Frame, block: int) -> Picture:
        """The frame averaged over ``block`` x ``block`` pixels: RGB, as coded, not squared or turned."""
        small: Any = self._small.reformat(
            frame,
            width=max(1, frame.width // block),
            height=max(1, frame.height // block),
            format="rgb24",
            interpolation=Interpolation.AREA,
            threads=1,
            **_source(frame),
        ).to_ndarray()
        return small


def is_full_range(frame: Frame) -> bool:
    """Whether luma runs from 0 to 255; ``yuvj`` formats are full range without a tag."""
    return bool(frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj"))


def _source(frame: Frame) -> dict[str, Any]:
    """What swscale must be told of a frame's colours."""
    return {
        "src_colorspace": matrix_of(frame.colorspace, frame.width, frame.height),
        "src_color_range": ColorRange.JPEG if is_full_range(frame) else ColorRange.MPEG,
        "dst_color_range": ColorRange.JPEG,
    }
