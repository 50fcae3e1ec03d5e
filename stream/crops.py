"""Cutting characters out of frames: the embedder's square, and a picture for people and training."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from kernels.device import on_device, own_stream, to_device, to_host
from kernels.image import (
    clip_box,
    crop_square,
    crop_squares,
    resize,
    resize_boxes,
    sharpness,
    sharpness_of,
    unpacked,
)
from kernels.placement import Box
from stream.batches import Array, CropBatch, Detections
from stream.config import CropConfig


class Cropper:
    """The station that cuts boxes out of frames. The frames' pixels are let go here.

    Each box gets its margin, is clipped to the frame, and is resized twice straight from the frame: to the
    embedder's square (``fit``), and to a JPEG in its own aspect. Its sharpness is the variance of the
    Laplacian of the square's luma (0..255), without the grey around the picture.

    Of frames on a GPU the squares are made, and stay, there: a batch of them in one launch. Their sharpness
    and the pictures for JPEG come to the host, and the station returns when they have.
    """

    name = "crop"

    def __init__(self, config: CropConfig, size: int) -> None:
        """
        Args:
            size: side of the embedder's square, in pixels.
        """
        if size < 1:
            raise ValueError(f"Cropper: expected a size of at least 1, got {size}")
        self.config = config
        self.size = size

    @property
    def description(self) -> str:
        """What is made of each box, for people."""
        return f"{self.size}x{self.size} crops ({self.config.fit}), JPEG up to {self.config.jpeg_size}"

    def __call__(self, detections: Detections) -> CropBatch:
        """Cut out every box that is large and sharp enough, in the order of the detections."""
        frames = detections.frames
        cut = self._cut_on_gpu if on_device(frames.images) else self._cut
        sides = detections.boxes[:, 2:] - detections.boxes[:, :2]
        large = np.flatnonzero(sides.min(axis=1, initial=np.inf) >= self.config.min_size)
        with own_stream(self.name, frames.images):
            kept, images, sharp, jpegs = cut(detections, large.tolist())
        frame = detections.frame[kept]
        return CropBatch(
            segment=frames.segment,
            images=images,
            jpegs=tuple(jpegs),
            numbers=frames.numbers[frame],
            times=frames.times[frame],
            indices=frames.indices[frame],
            shots=frames.shots[frame],
            boxes=detections.boxes[kept],
            scores=detections.scores[kept],
            classes=tuple(detections.class_names[c] for c in detections.classes[kept].tolist()),
            sharpness=np.array(sharp, np.float32),
            held=frames.held,
        )

    def _cut(
        self, detections: Detections, large: list[int]
    ) -> tuple[list[int], Array, list[float], list[bytes]]:
        """Which boxes are kept, their squares, sharpness and pictures."""
        kept: list[int] = []
        images: list[Array] = []
        jpegs: list[bytes] = []
        sharp: list[float] = []
        for i in large:
            image = detections.frames.images[detections.frame[i]]
            box = self._with_margin(detections.boxes[i], image.shape)
            square, (top, left, bottom, right) = crop_square(image, box, self.size, self.config.fit)
            value = sharpness(square[top:bottom, left:right])
            if value < self.config.min_sharpness:
                continue
            kept.append(i)
            images.append(square)
            sharp.append(value)
            height, width = self._picture_size(box)
            jpegs.append(self._jpeg(resize(image, box, height, width)))
        empty = np.empty((0, self.size, self.size, 3), np.uint8)
        return kept, np.stack(images) if images else empty, sharp, jpegs

    def _cut_on_gpu(
        self, detections: Detections, large: list[int]
    ) -> tuple[list[int], Array, list[float], list[bytes]]:
        """The same, where the frames lie."""
        frames = detections.frames.images
        at = detections.frame[large]
        boxes = [self._with_margin(box, frames.shape[1:]) for box in detections.boxes[large]]
        squares, contents = crop_squares(frames, at, boxes, self.size, self.config.fit)
        sharp = to_host(sharpness_of(squares, contents), "sharpness")
        sure = np.flatnonzero(sharp >= self.config.min_sharpness)
        if len(sure) < len(large):
            squares = squares[to_device(sure)]
        boxes = [boxes[k] for k in sure]
        sizes = np.array([self._picture_size(box) for box in boxes], np.int64).reshape(-1, 2)
        pictures = to_host(resize_boxes(frames, at[sure], boxes, sizes), "pictures")
        jpegs = [self._jpeg(picture) for picture in unpacked(pictures, sizes)]
        return [large[k] for k in sure], squares, sharp[sure].tolist(), jpegs

    def _with_margin(self, box: Array, frame: tuple[int, ...]) -> Box:
        x1, y1, x2, y2 = box.tolist()
        dx, dy = (x2 - x1) * self.config.margin, (y2 - y1) * self.config.margin
        return clip_box((x1 - dx, y1 - dy, x2 + dx, y2 + dy), *frame[:2])

    def _picture_size(self, box: Box) -> tuple[int, int]:
        """Height and width of a box's JPEG."""
        x1, y1, x2, y2 = box
        scale = min(1.0, self.config.jpeg_size / max(x2 - x1, y2 - y1))
        return max(1, round((y2 - y1) * scale)), max(1, round((x2 - x1) * scale))

    def _jpeg(self, picture: Array) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=self.config.jpeg_quality)
        return buffer.getvalue()
