"""From decoded frames to RGB batches on the device, and small versions of them for the host to look at.

Frames of the hardware decoder are NV12 or P010 planes in device memory: they are converted there, and only
the small version crosses to the host, without waiting: the host looks at it some frames later. Every other
frame (decoded on the CPU, or a picture already) is made into RGB on the host exactly as without a device, and
uploaded from pinned memory, two pictures in turn, while the next is being decoded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.reformatter import Colorspace

from kernels.colour import Matrix, coefficients, nv12_to_rgb
from kernels.device import traffic
from stream.batches import Video
from stream.decode.device import Device, Queue
from stream.decode.pictures import Painter, is_full_range, matrix_of
from stream.decode.scan import BLOCK

Array = Any
Frame = Any  # av.VideoFrame, Surface, or a picture (H, W, 3) on the host
Small = npt.NDArray[np.uint8]

#: FFmpeg's name of a matrix -> the one that kernels go by.
MATRICES: dict[Colorspace, Matrix] = {
    Colorspace.ITU601: "bt601",
    Colorspace.ITU709: "bt709",
    Colorspace.BT2020: "bt2020",
    Colorspace.SMPTE240M: "smpte240m",
    Colorspace.FCC: "fcc",
}

#: Decoders of codecs whose chroma lies between the columns where the stream does not say otherwise.
CENTRED_CHROMA = ("mpeg1video", "vp8", "av1", "libdav1d", "mjpeg")

#: Frames whose small versions may be on their way to the host. Raising it hides more of the way and keeps
#: more decoded frames in memory.
AHEAD = 3


@dataclass(frozen=True)
class Surface:
    """A decoded frame in the memory of the device, as it came from the decoder.

    Attributes:
        y: luma ``(H, W)`` uint8, or uint16 with the value in the upper bits (P010); any strides.
        uv: Cb and Cr ``(H / 2, W / 2, 2)`` of the same kind.
        matrix: of the stream.
        full_range: luma runs from 0 to 255.
    """

    y: Array
    uv: Array
    matrix: Colorspace
    full_range: bool

    @classmethod
    def of(cls, frame: Any, xp: Any) -> Surface:
        """An NV12 or P010 frame of FFmpeg's, in place. The arrays keep its memory alive.

        The caller orders its work behind the decoder's.
        """
        if xp is np:
            y, uv = (np.from_dlpack(plane) for plane in frame.planes[:2])
        else:
            # by capsule: PyAV takes no stream, and CuPy offers one to whatever has the protocol
            y, uv = (xp.from_dlpack(plane.__dlpack__()) for plane in frame.planes[:2])
        matrix = matrix_of(frame.colorspace, frame.width, frame.height)
        return cls(y, uv, matrix, is_full_range(frame))


def area_weights(size: int, out: int, shift: float = 0.0) -> npt.NDArray[np.float32]:
    """``(out, size)``: row i averages the source pixels that output pixel i covers, parts by their share.

    ``shift``: how many source pixels further on they lie.
    """
    edges = np.arange(out + 1) * (size / out) + shift
    pixels = np.arange(size)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.maximum(covered, 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


class SmallMaker:
    """Averages NV12 or P010 planes over blocks and makes RGB of that, as ``Painter.small`` has it.

    The same but where a rounding falls the other way: on the real films 0.003 to 0.02 levels off in the mean,
    4 at most.

    Args:
        xp: numpy or cupy.
        left: chroma samples lie on the left one of their two columns, and not between them.
    """

    def __init__(self, xp: Any, width: int, height: int, *, left: bool = True) -> None:
        self._xp = xp
        self.width, self.height = max(1, width // BLOCK), max(1, height // BLOCK)
        half = (self.width + 1) // 2  # swscale keeps one chroma sample for two pixels across
        self._rows = xp.asarray(area_weights(height, self.height))
        self._columns = xp.asarray(area_weights(width, self.width).T.copy())
        self._chroma_rows = xp.asarray(area_weights(height // 2, self.height))
        self._chroma_columns = xp.asarray(area_weights(width // 2, half, 0.25 if left else 0.0).T.copy())

    def __call__(self, surface: Surface) -> Array:
        """``(height, width, 3)`` uint8 RGB on the device."""
        xp, y, uv = self._xp, surface.y, surface.uv
        scale = np.float32(1 / 256 if y.dtype == xp.uint16 else 1)

        def level(mean: Array) -> Array:
            return xp.rint(mean * scale).astype(xp.int32)

        light = level(self._rows @ y.astype(xp.float32) @ self._columns)
        u, v = (
            level(self._chroma_rows @ uv[..., i].astype(xp.float32) @ self._chroma_columns).repeat(2, axis=1)[
                :, : self.width
            ]
            for i in range(2)
        )
        m = coefficients(MATRICES[surface.matrix], surface.full_range, 16)

        def steps(chroma: Array, by: int) -> Array:
            return (chroma * by >> 16) - (by >> 9)

        shifts = (steps(v, m.red), steps(u, m.green_blue) + steps(v, m.green_red), steps(u, m.blue))
        rgb = xp.stack([light + shift for shift in shifts], axis=2) * m.luma + m.base >> 16
        return xp.clip(rgb, 0, 255).astype(xp.uint8)


class DevicePainter:
    """Makes frames of one segment into RGB in device memory, in the queue of the thread that makes it.

    Args:
        video: whose frames they are; sizes are those of :class:`Painter`.
        device: where to.
        threads: for what is converted on the host.
    """

    def __init__(self, video: Video, device: Device, threads: int = 1) -> None:
        self._device = device
        self._queue: Queue = device.queue()
        self._host = Painter(video, threads)
        self._left = video.codec not in CENTRED_CHROMA
        self._small: SmallMaker | None = None
        self._answers: list[Array] = []  # pinned, used in turn
        self._answer = 0
        self._slots: list[tuple[Array, Callable[[], None]]] = []  # pinned pictures, and what waits for each
        self._slot = 0
        self._read: deque[tuple[Callable[[], None], Surface]] = deque()

    @property
    def ahead(self) -> int:
        """Frames that may be looked at before the first answer is asked for."""
        return AHEAD

    def look(self, frame: Frame) -> Callable[[], Small]:
        """Begin the small version; calling the result waits for it. Answers are asked for in order."""
        surface = self._surface(frame)
        if surface is None:
            small = self._host.small(frame, BLOCK)
            return lambda: small
        if self._small is None:
            height, width = surface.y.shape
            with self._queue.use():
                self._small = SmallMaker(self._device.xp, width, height, left=self._left)
            shape = (self._small.height, self._small.width, 3)
            self._answers = [self._device.pinned(shape) for _ in range(AHEAD + 2)]
        pinned = self._answers[self._answer]
        self._answer = (self._answer + 1) % len(self._answers)
        self._queue.after_decoder()
        with self._queue.use():
            made = self._small(surface)
            wait = self._queue.download(made, pinned)
            traffic.add("small versions of frames", int(made.nbytes))

        def answer() -> Small:
            wait()
            return pinned.copy()

        return answer

    def paint(self, frame: Frame, out: Array) -> None:
        """Write the frame's RGB into ``out``, ``(H, W, 3)`` on the device."""
        surface = self._surface(frame)
        if surface is None:
            self._upload(frame if isinstance(frame, np.ndarray) else self._host.rgb(frame), out)
            return
        with self._queue.use():
            nv12_to_rgb(
                surface.y, surface.uv, matrix=MATRICES[surface.matrix], full_range=surface.full_range,
                left_chroma=self._left, out=out,
            )  # fmt: skip
        # the decoder writes over a surface that nobody holds, and knows nothing of this queue
        self._read.append((self._queue.mark(), surface))
        while len(self._read) > AHEAD:
            self._read.popleft()[0]()

    def _surface(self, frame: Frame) -> Surface | None:
        """The frame in device memory, None where it is on the host or of no use there."""
        if isinstance(frame, Surface):
            return frame
        if isinstance(frame, np.ndarray) or frame.format.name not in self._device.surfaces:
            return None
        with self._queue.use():
            return Surface.of(frame, self._device.xp)

    def _upload(self, picture: npt.NDArray[np.uint8], out: Array) -> None:
        if not self._slots:
            self._slots = [(self._device.pinned(picture.shape), _nothing) for _ in range(2)]
        host, wait = self._slots[self._slot]
        wait()
        if host.shape != picture.shape:  # still images differ in size
            host = self._device.pinned(picture.shape)
        np.copyto(host, picture)
        self._slots[self._slot] = (host, self._queue.upload(host, out))
        self._slot ^= 1

    def finish(self) -> None:
        """Wait for all that was begun: pictures are there then, and no memory that goes is written to."""
        self._queue.mark()()
        self._read.clear()


def _nothing() -> None:
    return None
