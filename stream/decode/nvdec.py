"""The GPU's video decoders (NVDEC), driven through FFmpeg: frames that stay in device memory.

FFmpeg's own parser and reference handling run as on the CPU, so that the same packets are fed, the same
pictures skipped and the same times come out; only the pixels are made by NVDEC. What FFmpeg hands over is a
copy in a pool of its own (NV12, or P010 where there are more than 8 bits), so that keeping a frame keeps no
decoder surface.

Damage that a header does not show is mended by the hardware without a word, as FFmpeg mends it on the CPU;
everything that does show (a packet marked damaged, one that does not decode, another size, interlacing)
raises :class:`~stream.decode.plan.Unfit`, and the CPU goes on.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import av.error
from av.codec.hwaccel import HWAccel, hwdevices_available

from engines.runtime.devices import cuda_missing
from stream.batches import Segment, Video
from stream.config import Config
from stream.decode.packets import Note, reason
from stream.decode.plan import Unfit, unfit_picture
from stream.decode.pyav import Damage, Taken, frames_by_packets
from stream.decode.sampling import OutOfOrder
from stream.errors import ConfigError

INSTALL = "install NVIDIA's driver, then pip install 'celstream[gpu]'"


@dataclass(frozen=True)
class _Codec:
    """``decoder`` is FFmpeg's, ``number`` the driver's (cudaVideoCodec)."""

    decoder: str
    number: int
    ten_bit: bool = False  # whether some GPUs decode 4:2:0 with 10 bits of it


#: By FFmpeg's name of the decoder that probing found. MPEG-4 part 2 is not in it: NVDEC lacks what the
#: Advanced Simple Profile of most files in the field uses (global motion compensation, quarter pixels).
CODECS = {
    "h264": _Codec("h264", 4),
    "hevc": _Codec("hevc", 8, ten_bit=True),
    "vp8": _Codec("vp8", 9),
    "vp9": _Codec("vp9", 10, ten_bit=True),
    "av1": _Codec("av1", 11, ten_bit=True),
    "libdav1d": _Codec("av1", 11, ten_bit=True),  # FFmpeg's own av1 decoder is the one with NVDEC
    "mpeg1video": _Codec("mpeg1video", 0),
    "mpeg2video": _Codec("mpeg2video", 1),
}
_EIGHT_BIT = ("yuv420p", "yuvj420p", "nv12")
_TEN_BIT = ("yuv420p10le", "p010le")
_CHROMA_420 = 1
WHOLE = "every frame of it has to be decoded to know the times"

#: FFmpeg is to work in the device's primary context, where CuPy and the engines are. It takes it as the one
#: that is current: asked for the primary one by name, as PyAV would, it wants flags of its own on it, and
#: refuses a context that CuPy or an engine has opened before.
_CONTEXT: dict[str, object] = {"primary_ctx": "0", "current_ctx": "1"}


class DecodeCaps(ctypes.Structure):
    """CUVIDDECODECAPS of the Video Codec SDK (``cuviddec.h``), 88 bytes."""

    _fields_ = (
        ("codec", ctypes.c_int),
        ("chroma", ctypes.c_int),
        ("bits_minus_8", ctypes.c_uint),
        ("reserved1", ctypes.c_uint * 3),
        ("supported", ctypes.c_ubyte),
        ("engines", ctypes.c_ubyte),
        ("formats", ctypes.c_ushort),
        ("max_width", ctypes.c_uint),
        ("max_height", ctypes.c_uint),
        ("max_blocks", ctypes.c_uint),  # of 16 x 16 pixels
        ("min_width", ctypes.c_ushort),
        ("min_height", ctypes.c_ushort),
        ("histogram", ctypes.c_ubyte),
        ("counter_bits", ctypes.c_ubyte),
        ("histogram_bins", ctypes.c_ushort),
        ("reserved2", ctypes.c_uint * 10),
    )


@contextlib.contextmanager
def primary_context(device: int = 0) -> Iterator[None]:
    """Inside, the device's primary context is current for this thread.

    Raises:
        ImportError: there is no CuPy.
        RuntimeError: there is no such device.
    """
    import cupy

    with cupy.cuda.Device(device):
        cupy.cuda.runtime.memGetInfo()  # choosing a device opens its context from CUDA 12 on; this always
        yield


def hardware(device: int = 0) -> HWAccel:
    """FFmpeg's NVDEC on a device, whose frames stay there. To be opened in :func:`primary_context`."""
    return HWAccel(
        "cuda", device=str(device), allow_software_fallback=False, is_hw_owned=True, options=_CONTEXT
    )


@lru_cache(maxsize=32)
def driver_caps(codec: int, bits: int) -> DecodeCaps | None:
    """What the driver says of decoding 4:2:0 of a codec (cudaVideoCodec) and depth on the current device.

    None: it cannot be asked.
    """
    try:
        with primary_context():
            ask = ctypes.CDLL("libnvcuvid.so.1").cuvidGetDecoderCaps
            ask.argtypes, ask.restype = [ctypes.POINTER(DecodeCaps)], ctypes.c_int
            caps = DecodeCaps(codec=codec, chroma=_CHROMA_420, bits_minus_8=bits - 8)
            return caps if ask(ctypes.byref(caps)) == 0 else None
    except Exception:  # no package, no driver, no GPU: each with an error of its own
        return None


#: Video decoders by the GPU's name, where the driver does not tell.
_ENGINES = {"H200": 7, "H100": 7, "A100": 5, "L40": 3, "L4": 4, "A10": 2, "T4": 2}


def engine_count(device_name: str) -> int:
    """Video decoders of the GPU, at least 1: as its driver tells, else by its name."""
    caps = driver_caps(CODECS["h264"].number, 8)
    if caps is not None and caps.engines:
        return int(caps.engines)
    return next((count for name, count in _ENGINES.items() if name in device_name), 1)


def driver_missing() -> str | None:
    """Why the GPU's decoders cannot be reached by anybody, with the step to take; None where they can."""
    try:
        ctypes.CDLL("libnvcuvid.so.1")
    except OSError:
        if cuda_missing() is None:  # a container has the parts of the driver that it was started with
            return (
                "the driver is there without its video part (libnvcuvid.so.1);"
                " start the container with NVIDIA_DRIVER_CAPABILITIES=all, or install the whole driver"
            )
        return f"there is no NVIDIA video driver (libnvcuvid.so.1); {INSTALL}"
    return None


def missing() -> str | None:
    """What NVDEC would need and this machine lacks, with the step to get it; None where it can be used."""
    lacks = driver_missing()
    if lacks:
        return lacks
    if int(av.__version__.partition(".")[0]) < 18:  # frames leave the device, or FFmpeg closes the context
        return f"PyAV {av.__version__} is too old; pip install -U 'av>=18'"
    if "cuda" not in hwdevices_available():
        return "this PyAV is built without CUDA; pip install --force-reinstall av"
    try:
        with primary_context():
            hardware().create(av.codec.Codec("h264", "r"))
    except ImportError as error:
        return f"CuPy is not installed ({error}); pip install 'celstream[gpu]'"
    except (av.error.FFmpegError, OSError, RuntimeError) as error:
        return f"FFmpeg cannot open a CUDA device ({reason(error)}); {INSTALL}"
    return None


_missing = lru_cache(maxsize=1)(missing)


def refusal(video: Video, way: str, *, forced: bool) -> str | None:
    """Why NVDEC does not decode this video, as a clause; None where it does.

    Raises:
        ConfigError: it is forced (``decode.decoder: nvdec``) and this machine has none.
    """
    lacks = _missing()
    if lacks:
        if forced:
            raise ConfigError(f"decode.decoder nvdec: {lacks}; or set decode.decoder to auto")
        return lacks
    return unfit_stream(video, way) or unfit_picture(video)


def unfit_stream(video: Video, way: str) -> str | None:
    """Why NVDEC cannot decode this stream, from what it is and what the driver says; None if it can."""
    codec = CODECS.get(video.codec)
    pixels = str(video.facts.get("pixels", ""))
    if codec is None:
        return f"NVDEC does not decode {video.codec}"
    if pixels in _TEN_BIT and codec.ten_bit:
        bits = 10
    elif pixels in _EIGHT_BIT:
        bits = 8
    else:
        return f"NVDEC does not decode {video.codec} with {pixels} pixels"
    if way == "whole":
        return WHOLE
    caps = driver_caps(codec.number, bits)
    if caps is None:
        return None  # opening it will tell
    width, height = video.facts.get("coded", (video.width, video.height))
    if not caps.supported:
        return f"this GPU does not decode {video.codec} with {bits} bits"
    if not (caps.min_width <= width <= caps.max_width and caps.min_height <= height <= caps.max_height):
        return (
            f"this GPU decodes {video.codec} from {caps.min_width}x{caps.min_height} to"
            f" {caps.max_width}x{caps.max_height}, and it is {width}x{height}"
        )
    if (width + 15) // 16 * ((height + 15) // 16) > caps.max_blocks:
        return f"{width}x{height} is more than this GPU decodes of {video.codec}"
    return None


def accelerated(context: Any, accel: HWAccel | None) -> Any:
    """A decoder for the same stream as ``context``, on the device of ``accel`` (None: FFmpeg's own).

    Raises:
        Unfit: the device does not open a decoder for it.
    """
    name = CODECS[context.name].decoder
    try:
        made = av.CodecContext.create(name, "r", hwaccel=accel)
        if accel is not None and not made.is_hwaccel:
            raise Unfit(f"FFmpeg has no NVDEC for {name}")
    except (av.error.FFmpegError, OSError, RuntimeError, ValueError) as error:
        raise Unfit(f"NVDEC does not open ({reason(error)})") from error
    if context.extradata:
        made.extradata = context.extradata
    # what the container says of colours; a stream that says so itself overrides it
    for tag in ("color_range", "colorspace", "color_primaries", "color_trc"):
        setattr(made, tag, getattr(context, tag))
    # how far frames are reordered: H.264 that does not say so itself loses frames until the decoder finds out
    made.reorder_depth = context.reorder_depth
    made.thread_count = 1  # NVDEC is driven by one thread; more only hold more surfaces
    return made


def nvdec_frames(
    segment: Segment, config: Config, note: Note, *, device: int = 0
) -> Generator[Taken, None, None]:
    """The sampled frames of a segment, decoded by NVDEC: ``frame.format`` is ``cuda``, pixels by DLPack.

    Raises:
        Unfit: it has to be decoded on the CPU, from the frame after the last one given.
        SourceError: the source cannot be opened or stopped answering.
    """

    def opened(context: Any) -> Any:
        with primary_context(device):
            return accelerated(context, hardware(device))

    damage = Damage(strict=True)
    frames = frames_by_packets(segment, config, note, damage, opened)
    yield from checked_frames(segment, frames)
    damage.tell(note)


def checked_frames(segment: Segment, frames: Generator[Taken, None, None]) -> Generator[Taken, None, None]:
    """The frames, as long as each is such as the device's kernels expect.

    Raises:
        Unfit: one is not, and has not been given.
    """
    coded = tuple(segment.video.facts.get("coded", ()))
    try:
        for taken in frames:
            frame = taken.frame
            if coded and (frame.width, frame.height) != coded:
                was, now = "x".join(map(str, coded)), f"{frame.width}x{frame.height}"
                raise Unfit(f"its size changes from {was} to {now} at {taken.time:.3f} s")
            if int(frame.color_trc) in (16, 18):
                raise Unfit(f"it turns to high dynamic range at {taken.time:.3f} s")
            yield taken
    except OutOfOrder as why:
        raise Unfit(str(why)) from why
    finally:
        frames.close()
