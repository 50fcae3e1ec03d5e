"""Segments with made-up but complete contents, for the tests of what stores and reads them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from stream.batches import CropBatch, HeldFrames, Segment, Video
from stream.rows import FrameTable, SegmentRows

SIZE = 16  # of an embedding


def video(name: str = "film", **changes: object) -> Video:
    facts = {
        "uri": f"/films/{name}.mp4",
        "kind": "video",
        "width": 640,
        "height": 360,
        "fingerprint": "c0ffee",
    }
    return Video(name=name, **{**facts, **changes})  # type: ignore[arg-type]


def segment(index: int = 0, name: str = "film") -> Segment:
    return Segment(video(name), index, 10.0 * index, 10.0 * (index + 1))


def jpeg(seed: int, side: int = 24) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def crops(
    of: Segment, count: int, seed: int = 0, held: HeldFrames | None = None, side: int = 24
) -> CropBatch:
    """``count`` crops, two to a picture, a picture a second."""
    random = np.random.default_rng([seed, of.index, count])
    numbers = np.arange(count, dtype=np.int64) // 2
    vectors = random.normal(size=(count, SIZE)).astype(np.float32)
    return CropBatch(
        segment=of,
        images=np.zeros((count, 4, 4, 3), np.uint8),
        jpegs=tuple(jpeg(seed * 1000 + n, side) for n in range(count)),
        numbers=numbers,
        times=of.start_s + numbers.astype(np.float64),
        indices=numbers * 24 + round(of.start_s * 24),
        shots=(numbers // 3).astype(np.int32),
        boxes=random.uniform(0, 300, (count, 4)).astype(np.float32),
        scores=random.random(count, dtype=np.float32),
        classes=tuple("face" if n % 3 == 0 else "character" for n in range(count)),
        sharpness=random.random(count, dtype=np.float32),
        held=HeldFrames() if held is None else held,
        embeddings=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )


def held_frames(times: list[float], of: list[int]) -> HeldFrames:
    indices = np.array([round(t * 24) for t in times], np.int64)
    return HeldFrames(np.array(times, np.float64), indices, np.array(of, np.int64))


def rows(of: Segment, count: int = 6, seed: int = 0, side: int = 24) -> SegmentRows:
    filled = SegmentRows.from_batches([crops(of, count, seed, side=side)], SIZE)
    return filled.with_tracks(np.arange(count, dtype=np.int64) % 2)


def frames(of: Segment, count: int = 10) -> FrameTable:
    numbers = np.arange(count, dtype=np.int64)
    return FrameTable(
        times=of.start_s + numbers.astype(np.float64),
        indices=numbers * 24 + round(of.start_s * 24),
        numbers=numbers,
        shots=(numbers // 3).astype(np.int32),
        held=np.zeros(count, np.bool_),
    )
