"""Picture kernels on the device: bytes they must move, against what a plain copy moves in the same time.

A kernel reads its input once and writes its output once, at best; that many bytes over the time it took is
its bandwidth here, so what it reads twice counts against it. 1080p, batches of 16 frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from bench.on_gpu.place import Array, Figures, Place

HEIGHT, WIDTH = 1080, 1920


def pictures(place: Place, limits: Figures, quick: bool) -> Iterator[Figures]:
    """NV12 and P010 to RGB, letterbox at two sizes, crops, normalization, sharpness, NMS."""
    from kernels.colour import nv12_to_rgb
    from kernels.image import crop_squares, fit_letterbox, letterbox, normalize, sharpness_of

    xp, frames = place.xp, 2 if place.rehearsal else 16
    copy = 1e9 * limits["copy_gb_per_s"]

    def told(name: str, work: Callable[[], object], moved: int, operations: float) -> Figures:
        """``operations``: of the whole call, multiplications and additions."""
        rate = moved / place.seconds(work)
        return {
            f"{name}_gb_per_s": round(rate / 1e9, 1),
            f"{name}_copy_share": round(rate / copy, 4),
            f"{name}_ops_per_byte": round(operations / moved, 2),
        }

    pixels = frames * HEIGHT * WIDTH
    for name, dtype, size in (("nv12", xp.uint8, 1), ("p010", xp.uint16, 2)):
        luma = place.random_bytes(frames, HEIGHT, WIDTH * size).view(dtype)
        chroma = place.random_bytes(frames, HEIGHT // 2, WIDTH * size).view(dtype)
        chroma = chroma.reshape(frames, HEIGHT // 2, WIDTH // 2, 2)
        out = xp.empty((frames, HEIGHT, WIDTH, 3), xp.uint8)

        def colours(luma: Array = luma, chroma: Array = chroma, out: Array = out) -> None:
            nv12_to_rgb(luma, chroma, matrix="bt709", full_range=False, out=out)

        moved = luma.nbytes + chroma.nbytes + out.nbytes
        yield told(f"{name}_to_rgb", colours, moved, 10.0 * pixels)
    images = place.random_bytes(frames, HEIGHT, WIDTH, 3)
    for height, width in ((192, 320), (640, 640)):
        where = fit_letterbox(HEIGHT, WIDTH, height, width, centred=True)
        for kind in (np.float32, np.float16):

            def boxed(where: object = where, kind: type = kind) -> None:
                letterbox(images, where, mul=1 / 255, dtype=kind)

            moved = images.nbytes + frames * 3 * height * width * np.dtype(kind).itemsize
            # every source pixel has a weight in about two output pixels of each direction
            yield told(f"letterbox_{width}_{np.dtype(kind).name}", boxed, moved, 24.0 * pixels)
    yield from _crops(place, images, told, crop_squares, sharpness_of, normalize)
    yield from _nms(place, 8 if quick else 64)


def _crops(
    place: Place,
    images: Array,
    told: Callable[[str, Callable[[], object], int, float], Figures],
    crop_squares: Callable[..., tuple[Array, Array]],
    sharpness_of: Callable[..., Array],
    normalize: Callable[..., Array],
) -> Iterator[Figures]:
    """Boxes of a third of the frame's height, eight a frame, to 224 px."""
    rng = np.random.default_rng(0)
    count, size = 8 * len(images), 224
    frame = np.repeat(np.arange(len(images)), 8)
    sides = rng.uniform(240, 480, (count, 2))
    corner = rng.uniform(0, 1, (count, 2)) * (np.array([WIDTH, HEIGHT]) - sides)
    boxes = np.concatenate([corner, corner + sides], axis=1).astype(np.float32)
    read = int(3 * sides.prod(axis=1).sum())
    squares, contents = crop_squares(images, frame, boxes, size, "pad")
    moved = read + squares.nbytes
    yield told("crops", lambda: crop_squares(images, frame, boxes, size, "pad"), moved, 8.0 * read)
    yield told("sharpness", lambda: sharpness_of(squares, contents), squares.nbytes, 9.0 * squares.size / 3)
    yield told(
        "normalize_float16",
        lambda: normalize(squares, mul=1 / 255, dtype=np.float16),
        3 * squares.nbytes,
        2.0 * squares.size,
    )


def _nms(place: Place, images: int) -> Iterator[Figures]:
    """Time for a batch of pictures with 256 candidates each."""
    from kernels.boxes import nms
    from kernels.boxes_cuda import nms_batch

    xp, count = place.xp, 256
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 280, (images, count, 2))
    corners = np.concatenate([corner, corner + rng.uniform(10, 60, (images, count, 2))], axis=2)
    boxes = xp.asarray(corners.astype(np.float32))
    scores = xp.asarray(rng.random((images, count)).astype(np.float32))
    classes = xp.asarray(rng.integers(0, 2, (images, count)).astype(np.int32))

    def suppress() -> None:
        if place.rehearsal:
            for one in zip(boxes, scores, classes, strict=True):
                nms(*one, 0.5)
        else:
            nms_batch(boxes, scores, classes, 0.5)

    seconds = place.seconds(suppress)
    yield {"nms_images": images, "nms_boxes": count, "nms_ms": round(1e3 * seconds, 4)}
