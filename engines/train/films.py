"""What a film says about its own characters without any label: what moves, and what never does.

Frames of one shot are registered to a middle frame by phase correlation (Kuglin and Hines 1975). Pixels that
hold still over the whole window are background for sure; compact things that move against it are probably
characters; everything else is unknown, and the training does not judge it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

HEIGHT, WIDTH = 256, 416  # the largest stored picture; the detector works at less, and looks closer here
LOOK_HEIGHT, LOOK_WIDTH = 192, 320  # motion is analysed in smaller ones
CUT = 0.10  # mean change of 24x40 thumbnails, 0..1, that starts a new shot
UNLIKE = (
    45.0  # of 255: where most pixels differ by more than a good third of it, a cut was missed, or all changed
)
WINDOW = 11  # frames compared, about 2.5 s
CELL = 4  # the map of knowledge has one cell per 4x4 pixels


@dataclass(frozen=True)
class FilmFrame:
    """A frame with what its motion says.

    ``image``: uint8 (h, w, 3). ``unknown``: bool (h/4, w/4), True where something moved, or nothing can be
    said. ``boxes``: float32 (n, 4) xyxy of compact moving things. ``registered``: False when the window could
    not be registered, and all is unknown.
    """

    image: NDArray[np.uint8]
    unknown: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    registered: bool


def fitting(width: int, height: int, most_wide: int, most_high: int) -> tuple[int, int]:
    """Width and height of a picture shrunk into a frame, rounded down to multiples of 4."""
    scale = min(most_wide / width, most_high / height, 1.0)
    return round(width * scale) // CELL * CELL, round(height * scale) // CELL * CELL


def shrunk(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture as motion is analysed in."""
    size = fitting(image.shape[1], image.shape[0], LOOK_WIDTH, LOOK_HEIGHT)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def enlarged(frame: FilmFrame, image: NDArray[np.uint8]) -> FilmFrame:
    """What was found in the shrunk picture, said of ``image``."""
    (h, w), (rows, cols) = image.shape[:2], frame.unknown.shape
    ys = ((np.arange(h // CELL) + 0.5) * rows * CELL / h).astype(int)
    xs = ((np.arange(w // CELL) + 0.5) * cols * CELL / w).astype(int)
    ratio = np.array([w / frame.image.shape[1], h / frame.image.shape[0]] * 2, np.float32)
    return FilmFrame(image, frame.unknown[np.ix_(ys, xs)], frame.boxes * ratio, frame.registered)


def small_frames(path: Path, per_second: float) -> Iterator[NDArray[np.uint8]]:
    """``per_second`` frames of a video, shrunk to fit 416x256: uint8 (h, w, 3), sides multiples of 4."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = 2
        if per_second <= 6:
            stream.codec_context.skip_frame = "NONREF"
        due = -1e9
        for frame in container.decode(stream):
            if frame.time is None or frame.time < due:
                continue
            due = max(due, frame.time - 1e-3) if due < -1e8 else due
            due += 1.0 / per_second
            w, h = fitting(frame.width, frame.height, WIDTH, HEIGHT)
            yield frame.reformat(w, h, format="rgb24", interpolation="AREA").to_ndarray()


def shots(frames: Iterator[NDArray[np.uint8]], cut: float = CUT) -> Iterator[list[NDArray[np.uint8]]]:
    """Runs of frames between cuts. Raising ``cut`` finds fewer cuts."""
    run: list[NDArray[np.uint8]] = []
    last = None
    for frame in frames:
        thumb = frame[4::8, 4::8].astype(np.float32) / 255
        if last is not None and (len(run) >= 240 or float(np.abs(thumb - last).mean()) > cut):
            yield run
            run = []
        last = thumb
        run.append(frame)
    if run:
        yield run


def shift_between(a: NDArray[np.float32], b: NDArray[np.float32]) -> tuple[int, int, float]:
    """(dy, dx, peak): ``b`` rolled by (dy, dx) lies on ``a``; ``peak`` 0..1 is how sure.

    An inked figure on soft scenery has the sharper peak, so standing still and the best few peaks compete,
    and the shift that leaves the smallest median difference, that of most of the picture, wins.
    """
    window = np.outer(np.hanning(a.shape[0]), np.hanning(a.shape[1])).astype(np.float32)
    fa = np.fft.rfft2((a - a.mean()) * window)
    fb = np.fft.rfft2((b - b.mean()) * window)
    cross = fa * np.conj(fb)
    surface = np.fft.irfft2(cross / (np.abs(cross) + 1e-3 * np.abs(cross).mean() + 1e-9), s=a.shape)
    soft = ndimage.uniform_filter(surface, 3, mode="wrap")
    best = (np.inf, 0, 0, 0.0)
    for at in [0, int(surface.argmax()), *soft.ravel().argpartition(-4)[-4:].tolist()]:
        dy, dx = divmod(at, a.shape[1])
        dy = dy - a.shape[0] if dy > a.shape[0] // 2 else dy
        dx = dx - a.shape[1] if dx > a.shape[1] // 2 else dx
        if abs(dy) > a.shape[0] // 3 or abs(dx) > a.shape[1] // 3:
            continue
        rest = float(np.median(np.abs(a - np.roll(b, (dy, dx), (0, 1)))[::2, ::2]))
        if rest < best[0]:
            best = (rest, dy, dx, float(surface.flat[at]))
    rest, dy, dx, peak = best
    return dy, dx, max(peak, 0.05 if rest < 2.0 else 0.0)  # a still, plain picture has no peak


def analyse(window: list[NDArray[np.uint8]], at: int | None = None) -> FilmFrame:
    """Look at a window of frames of one shot; what is returned is about frame ``at``, or the middle one."""
    middle = len(window) // 2 if at is None else at
    image = window[middle]
    height, width = image.shape[:2]
    grey = [f.astype(np.float32).mean(2) for f in window]
    unknown = np.ones((height // CELL, width // CELL), bool)
    nothing = np.zeros((0, 4), np.float32)
    if len(window) < 5:
        return FilmFrame(image, unknown, nothing, False)
    moves = [(0, 0)] * len(window)
    sure = []
    for step in (-1, 1):
        y = x = 0
        i = middle
        while 0 <= i + step < len(window):
            dy, dx, peak = shift_between(grey[i], grey[i + step])
            y, x = y + dy, x + dx
            sure.append(peak)
            i += step
            moves[i] = (y, x)
    if min(sure) < 0.03 or max(max(abs(y), abs(x)) for y, x in moves) > 60:
        return FilmFrame(image, unknown, nothing, False)
    stack = np.full((len(window), height, width), np.nan, np.float32)
    soft = [ndimage.uniform_filter(g, 3) for g in grey]
    for i, (dy, dx) in enumerate(moves):
        y1, y2, x1, x2 = max(0, dy), height + min(0, dy), max(0, dx), width + min(0, dx)
        stack[i, y1:y2, x1:x2] = soft[i][y1 - dy : y2 - dy, x1 - dx : x2 - dx]
    base = stack[middle]
    change = np.abs(stack - base)
    change = np.where(np.isnan(change), 0.0, change)
    # An edge may shimmer when the registration is half a pixel off: tolerate what a shift explains.
    slope = ndimage.gaussian_gradient_magnitude(base, 1.0)
    seen = (~np.isnan(stack)).mean(0) > 0.6
    excess = np.sort(change, 0)[-2] - 1.2 * slope
    floor = max(9.0, 2.5 * float(np.median(np.sort(change, 0)[-2])))
    if floor > UNLIKE:
        return FilmFrame(image, unknown, nothing, False)
    moving = ndimage.binary_opening(excess > floor, iterations=1)
    body = ndimage.binary_closing(np.pad(moving, 12), iterations=6)[12:-12, 12:-12]
    body = ndimage.binary_fill_holes(body)
    share = float(moving.mean())
    if share > 0.4:
        return FilmFrame(image, unknown, nothing, False)
    # The inside of a large smooth body does not look as if it moved: close generously.
    hull = ndimage.binary_closing(np.pad(moving, 40, mode="edge"), iterations=18)[40:-40, 40:-40]
    wide = ndimage.binary_dilation(ndimage.binary_fill_holes(hull | body), iterations=8) | ~seen
    unknown = wide[: height // CELL * CELL, : width // CELL * CELL]
    unknown = unknown.reshape(height // CELL, CELL, width // CELL, CELL).any((1, 3))
    # The thing's place in the middle frame: where it differs from the median of the shot.
    plate = np.nanmedian(stack, 0)
    raw = np.abs(base - plate) - 0.7 * slope > floor
    here = ndimage.binary_closing(np.pad(raw, 12), iterations=6)[12:-12, 12:-12]
    here = ndimage.binary_opening(ndimage.binary_fill_holes(here), iterations=2)
    label, _ = ndimage.label(here)
    pieces, _ = ndimage.label(ndimage.binary_dilation(raw, iterations=5))
    boxes = []
    for n, where in enumerate(ndimage.find_objects(label), 1):
        ys, xs = where
        h, w = ys.stop - ys.start, xs.stop - xs.start
        area = int((label[where] == n).sum())
        whole = float(body[where].mean())
        inside = ys.start > 1 and xs.start > 1 and ys.stop < height - 1 and xs.stop < width - 1
        if (
            h < 24
            or w < 14
            or area < 0.42 * h * w
            or not inside
            or h > 0.95 * height
            or not 0.3 < w / h < 2.2
        ):
            continue
        # Where the rest of a larger moving thing touches it, this is only a part of a character.
        touching = np.unique(pieces[where][label[where] == n])
        reach = int((raw & np.isin(pieces, touching[touching > 0])).sum())
        inner = int((raw & (label == n)).sum())
        if whole > 0.5 and inner > 0.75 * reach and inner > 0.45 * area:
            boxes.append([xs.start, ys.start, xs.stop, ys.stop])
    flat = float(np.bincount((base // 16).astype(int).ravel()).max() / base.size)
    found = np.array(boxes, np.float32).reshape(-1, 4) if flat < 0.6 and len(boxes) <= 4 else nothing
    return FilmFrame(image, unknown, found, True)


def film_frames(path: Path, per_second: float = 4.0, keep_every: int = 5) -> Iterator[FilmFrame]:
    """Analysed frames of a film: one of every ``keep_every`` sampled. Raising it gives fewer frames."""
    for shot in shots(small_frames(path, per_second)):
        offset = min(keep_every // 2, len(shot) - 1)
        small = [shrunk(frame) for frame in shot]
        for middle in range(offset, len(shot), keep_every):
            first = max(0, min(middle - WINDOW // 2, len(shot) - WINDOW))
            yield enlarged(analyse(small[first : first + WINDOW], middle - first), shot[middle])
