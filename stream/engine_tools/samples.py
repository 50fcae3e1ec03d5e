"""Real inputs for networks: what calibration learns its scales from, and what engines are compared on.

Crops and frames of a user's own work folder, or of a drawn episode where there is none. What engines are
compared on is held out of calibration: other stretches of the videos, or another episode.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kernels.image import clip_box, crop_square
from stream.batches import Array, FrameBatch, Segment, Video
from stream.config import Config, CropConfig, DetectorConfig, EmbedderConfig
from stream.detect import Detector
from stream.embed import Embedder
from stream.errors import ConfigError, SourceError
from stream.networks import recording

_WIDTH, _HEIGHT, _RATE = 640, 360, 2  # of the episode: few frames a second, each another picture
_STEP = 3  # frames of the episode from one that is taken to the next: another pose, or another shot
_CAST = 6
_STRETCH_S = 10.0  # of a video for calibration, and the next one for comparing: other shots, as a rule
_FRAME_STEP_S = 0.5  # between neighbouring frames of a video that may be taken


@dataclass(frozen=True)
class Samples:
    """Pictures for both networks, and where they are from.

    ``frames``: uint8 (H, W, 3) each, of any size; ``crops``: pictures of characters, uint8 (h, w, 3) each.
    """

    origin: str
    frames: tuple[Array, ...]
    crops: tuple[Array, ...]


def rendered(count: int, seed: int = 0) -> Samples:
    """``count`` frames of a drawn episode, and as many crops of the characters in them, by their true boxes.

    The same seed gives the same pictures.
    """
    from stream.cartoon.characters import make_cast
    from stream.cartoon.episode import render_frames
    from stream.cartoon.script import Script

    seconds = (count + 1) * 2.0 * _STEP / _RATE  # in some frames nobody is seen
    script = Script.random(
        make_cast(_CAST, seed), seed, seconds=seconds, width=_WIDTH, height=_HEIGHT, fps=_RATE
    )
    frames: list[Array] = []
    crops: list[Array] = []
    margin = CropConfig().margin
    for number, (image, truth) in enumerate(render_frames(script)):
        if number % _STEP or not truth or (frames and np.array_equal(image, frames[-1])):
            continue
        frames.append(image)
        for seen in truth:
            x1, y1, x2, y2 = seen.box
            dx, dy = (x2 - x1) * margin, (y2 - y1) * margin
            left, top, right, bottom = clip_box((x1 - dx, y1 - dy, x2 + dx, y2 + dy), *image.shape[:2])
            crops.append(image[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))])
        if len(frames) >= count and len(crops) >= count:
            break
    return Samples(f"a drawn episode (seed {seed})", tuple(frames[:count]), tuple(crops[:count]))


def of_folder(path: str | Path, count: int, *, held_out: bool = False) -> Samples:
    """Up to ``count`` crops of a work folder, evenly over it, and frames of its videos where those are still
    there.

    Args:
        held_out: False takes every other stretch of ten seconds (a quarter of a shorter video), True those
            between them, so that no picture is among both.

    Raises:
        WorkdirError: no work folder, or a damaged one.
        ConfigError: it has no crops, or one alone, of which none can be held out.
    """
    import io

    from PIL import Image

    from stream.workdir import WorkFolder

    with WorkFolder.open(path, create=False, write=False) as folder:
        table = folder.crops(embeddings=False)
        ids = list(table.crop_id[_held_out(table.video, table.time_s) == held_out])
        taken = [ids[i] for i in _evenly(len(ids), count)]
        if not taken:
            raise ConfigError(
                f"{path}: expected a work folder with {'2 crops or more' if held_out else 'crops'}, found"
                f" {len(table)}; run it on a video first"
            )
        jpegs = folder.jpegs(taken)
        uris = [
            uri for name in sorted({info.video for info in folder.segments()}) if (uri := folder.uri_of(name))
        ]
    crops = []
    for crop_id in taken:
        with Image.open(io.BytesIO(jpegs[crop_id])) as picture:
            crops.append(np.asarray(picture.convert("RGB")))
    return Samples(str(path), tuple(_frames(uris, count, held_out)), tuple(crops))


def _held_out(videos: Array, times: Array) -> Array:
    """(M,) bool: which of M pictures, of these videos and at these seconds, are for comparing.

    Where all would be on one side (one picture of each of a few videos), every other one is.
    """
    found = np.zeros(len(times), np.bool_)
    for name in set(videos):
        mine = videos == name
        stretch = min(_STRETCH_S, max(1.0, float(times[mine].max()) / 4))
        found[mine] = (times[mine] // stretch + zlib.crc32(name.encode())) % 2 == 1
    return found if found.any() and not found.all() else np.arange(len(times)) % 2 == 1


def _evenly(length: int, count: int) -> list[int]:
    """Up to ``count`` positions of ``length``, evenly spread."""
    return sorted({round(i) for i in np.linspace(0, length - 1, min(length, count))}) if length else []


def _frames(uris: Sequence[str], count: int, held_out: bool) -> Iterator[Array]:
    """About ``count`` frames, evenly over the videos that are still there, those that can be read."""
    from stream.decode import decode_segment
    from stream.sources import find_videos

    local = [uri for uri in uris if Path(uri).exists()]
    each = -(-count // len(local)) if local else 0
    config = Config(held=0.0, batch_size=1, threads=1, interval=_FRAME_STEP_S)
    for uri in local:
        with contextlib.suppress(SourceError):
            for video in find_videos([uri], on_bad=lambda _uri, _why: None):
                # the images of a folder lie a second apart
                step = 1.0 if video.kind == "images" else _FRAME_STEP_S
                times = np.arange(0.0, max(video.duration_s or 0.0, step), step)
                times = times[_held_out(np.array([uri] * len(times), object), times) == held_out]
                for at in times[_evenly(len(times), each)].tolist():
                    with contextlib.closing(
                        decode_segment(Segment(video, 0, at, at + 2.0), config)
                    ) as batches:
                        yield from next((batch.images[:1] for batch in batches if len(batch)), ())


def embedder_inputs(config: EmbedderConfig, crops: Sequence[Array]) -> list[Array]:
    """What the embedder's network is given for these crops, (1, 3, H, W) float32 each, mirrored ones among
    them.

    Raises:
        ModelError: it is no embedder.
    """
    station = Embedder(config, device="cpu", engine="onnx", threads=1)
    try:
        whole = [(0.0, 0.0, float(crop.shape[1]), float(crop.shape[0])) for crop in crops]
        fit = CropConfig().fit
        squares = [
            crop_square(c, box, station.input_size, fit)[0] for c, box in zip(crops, whole, strict=True)
        ]
        with recording() as fed:
            for square in squares:
                station.vectors(square[None])
    finally:
        station.close()
    return fed


def detector_inputs(config: DetectorConfig, frames: Sequence[Array]) -> list[Array]:
    """What the detector's network is given for these frames in one look each, (1, 3, H, W) float32.

    Raises:
        ModelError: it is no detector.
    """
    once = config.model_copy(update={"scales": (1.0,)})
    station = Detector(once, device="cpu", engine="onnx", threads=1)
    try:
        with recording() as fed:
            for frame in frames:
                station(alone(frame))
    finally:
        station.close()
    return fed


def alone(frame: Array) -> FrameBatch:
    """One frame (H, W, 3) uint8 as a batch of its own."""
    height, width = frame.shape[:2]
    video = Video("frame", "frame", "images", width, height, "frame")
    one = np.zeros(1, np.int64)
    return FrameBatch(Segment(video, 0, 0.0), frame[None], np.zeros(1), one, one, shots=np.zeros(1, np.int32))
