"""Cutting characters out of frames: the embedder's square, and a picture for people and training."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from kernels.image import clip_box, crop_square, resize, sharpness
from stream.batches import Array, CropBatch, Detections
from stream.config import CropConfig


class Cropper:
    """The station that cuts boxes out of frames. The frames' pixels are let go here.

    Each box gets its margin, is clipped to the frame, and is resized twice straight from the frame: to the
    embedder's square (``fit``), and to a JPEG in its own aspect. Its sharpness is the variance of the
    Laplacian of the square's luma (0..255), without the grey around the picture.
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
        sides = detections.boxes[:, 2:] - detections.boxes[:, :2]
        large = np.flatnonzero(sides.min(axis=1, initial=np.inf) >= self.config.min_size)
        kept: list[int] = []
        images: list[Array] = []
        jpegs: list[bytes] = []
        sharp: list[float] = []
        for i in large.tolist():
            image = frames.images[detections.frame[i]]
            box = self._with_margin(detections.boxes[i], image)
            square, (top, left, bottom, right) = crop_square(image, box, self.size, self.config.fit)
            value = sharpness(square[top:bottom, left:right])
            if value < self.config.min_sharpness:
                continue
            kept.append(i)
            images.append(square)
            sharp.append(value)
            jpegs.append(self._jpeg(image, box))
        frame = detections.frame[kept]
        return CropBatch(
            segment=frames.segment,
            images=np.stack(images) if images else np.empty((0, self.size, self.size, 3), np.uint8),
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

    def _with_margin(self, box: Array, image: Array) -> tuple[float, float, float, float]:
        x1, y1, x2, y2 = box.tolist()
        dx, dy = (x2 - x1) * self.config.margin, (y2 - y1) * self.config.margin
        return clip_box((x1 - dx, y1 - dy, x2 + dx, y2 + dy), *image.shape[:2])

    def _jpeg(self, image: Array, box: tuple[float, float, float, float]) -> bytes:
        x1, y1, x2, y2 = box
        scale = min(1.0, self.config.jpeg_size / max(x2 - x1, y2 - y1))
        height, width = (max(1, round(side * scale)) for side in (y2 - y1, x2 - x1))
        buffer = io.BytesIO()
        picture = resize(image, box, height, width)
        Image.fromarray(picture).save(buffer, "JPEG", quality=self.config.jpeg_quality)
        return buffer.getvalue()
