"""Opening a source once and describing it: what there is to decode, how its time runs, who it is."""

from __future__ import annotations

import contextlib
import hashlib
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error

from stream.batches import Video
from stream.decode.packets import demux, has_clock_jumps, open_container, reason
from stream.decode.pictures import is_full_range, squared_size, upright_size
from stream.errors import SourceError

ATTACHED_PICTURE = 1 << 10 | 1 << 11  # cover art, timed thumbnails
DEFAULT_STREAM = 1
BLOCK_BYTES = 1 << 20
LOOK_PACKETS = 600  # packets looked at to learn how a stream behaves
LOOK_BYTES = 32 << 20
LOOK_FRAMES = 8  # decoded to learn interlacing, rotation and colours

#: What a file is, told by its first bytes, where FFmpeg would only say "invalid data".
_SIGNATURES = ((b"PK\3\4", "a ZIP archive"), (b"%PDF", "a PDF"), (b"\x1f\x8b", "a gzip archive"))


def is_url(uri: str) -> bool:
    """Whether FFmpeg opens it over a protocol rather than as a file."""
    head, separator, _ = uri.partition("://")
    return bool(separator) and head.replace("+", "").isalnum() and head.lower() != "file"


def fingerprint_file(path: Path) -> str:
    """Identity of a file's content: its size and the hash of blocks from its head, middle and tail.

    Reads 4 MiB at most, so that a file of 50 GB takes no longer than a small one; a change of size, or in the
    headers, index, first, last or two middle megabytes changes it.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for offset in sorted({0, size // 3, 2 * size // 3, max(0, size - BLOCK_BYTES)}):
            file.seek(offset)
            digest.update(file.read(BLOCK_BYTES))
    return digest.hexdigest()[:32]


def fingerprint_images(files: list[str]) -> str:
    """Identity of a set of images: the names, sizes and head and tail blocks of all of them."""
    digest = hashlib.sha256()
    for name in files:
        path = Path(name)
        digest.update(f"{path.name}\0{fingerprint_file(path)}\0".encode())
    return digest.hexdigest()[:32]


def describe(uri: str, name: str, timeout_s: float) -> Video:
    """Open a file or URL and describe its best video stream.

    Raises:
        SourceError: it cannot be used; the message says why and what to do.
    """
    remote = is_url(uri)
    fingerprint = "" if remote else _check_file(uri)
    started = time.monotonic()
    try:
        container = open_container(uri, timeout_s)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise SourceError(_why_not(uri, error, time.monotonic() - started, timeout_s)) from error
    with container:
        stream, told = _best_stream(uri, container)
        facts = _facts(uri, container, stream, remote)
        if told:
            facts["streams"] = told
        if remote:
            facts["timeout_s"] = timeout_s
            identity = f"{uri}\0{container.duration}\0{stream.width}x{stream.height}\0{stream.frames}"
            fingerprint = hashlib.sha256(identity.encode()).hexdigest()[:32]
        rates = (stream.average_rate, stream.guessed_rate)
        rate = next(filter(None, rates if facts["pts"] else reversed(rates)), facts.get("packet_rate"))
        sar = Fraction(*facts["sar"]) if facts.get("sar") else None
        width, height = upright_size(
            *squared_size(facts["coded"][0], facts["coded"][1], sar), facts["rotation"]
        )
        return Video(
            name=name,
            uri=uri,
            kind="video",
            width=width,
            height=height,
            fingerprint=fingerprint,
            duration_s=_duration(container, stream),
            frame_rate=float(rate) if rate and 0 < rate <= 1000 else None,
            codec=stream.codec_context.name,
            stream_index=stream.index,
            facts=facts,
        )


def _check_file(uri: str) -> str:
    path = Path(uri)
    try:
        if not path.exists():
            raise SourceError(f"{uri}: there is no such file; check the path")
        if not path.is_file():
            raise SourceError(f"{uri}: is not a regular file; give a video file, a folder or a URL")
        if path.stat().st_size == 0:
            raise SourceError(f"{uri}: the file is empty (0 bytes); copy it again")
        return fingerprint_file(path)
    except OSError as error:
        raise SourceError(f"{uri}: cannot be read ({error.strerror}); check its permissions") from error


def _why_not(uri: str, error: BaseException, waited_s: float, timeout_s: float) -> str:
    if isinstance(error, av.error.ExitError | av.error.TimeoutError) or (
        is_url(uri) and waited_s >= timeout_s
    ):
        return f"{uri}: did not answer within {timeout_s:.0f} s; check the address and the network"
    if is_url(uri):
        return f"{uri}: cannot be opened ({reason(error)}); check the address"
    try:
        with Path(uri).open("rb") as file:
            head = file.read(4096)
    except OSError:
        head = b""
    for signature, what in _SIGNATURES:
        if head.startswith(signature):
            return f"{uri}: this is {what}, not a video; unpack or convert it first"
    if head and not any(byte < 9 or 13 < byte < 32 for byte in head):
        return f"{uri}: this is a text file, not a video; give the video itself"
    return f"{uri}: FFmpeg finds no video in it ({reason(error)}); check that it plays"


def _best_stream(uri: str, container: Any) -> tuple[Any, str]:
    """The stream to use, and a sentence on the choice where there was one."""
    real = [
        s
        for s in container.streams.video
        if not s.disposition & ATTACHED_PICTURE and s.codec_context is not None
    ]
    if not real:
        if container.streams.video:
            raise SourceError(
                f"{uri}: holds only cover art, or video of an unknown codec, and no film; leave it out"
            )
        kinds = sorted({s.type for s in container.streams if s.type})
        found = f"only {', '.join(kinds)}" if kinds else "no stream at all"
        raise SourceError(f"{uri}: has no video stream (it holds {found}); leave it out or give the video")
    sized = [s for s in real if s.width and s.height]
    if not sized:
        raise SourceError(
            f"{uri}: the size of its pictures is unknown; "
            + _remedy(uri, container, "the file is damaged or cut off, copy it again")
        )
    best = max(sized, key=lambda s: (bool(s.disposition & DEFAULT_STREAM), s.width * s.height, -s.index))
    if len(sized) == 1:
        return best, ""
    sizes = ", ".join(f"#{s.index} {s.width}x{s.height}" for s in sized)
    return best, f"{len(sized)} video streams ({sizes}); #{best.index} is used"


def _remedy(uri: str, container: Any, otherwise: str) -> str:
    """What to do about a file that opens and cannot be read: over HTTP it need not be the file's fault."""
    if not uri.lower().startswith(("http:", "https:")):
        return otherwise
    if "mp4" not in container.format.name.split(","):
        return "it may be damaged, or the server may not seek (answer range requests): download it"
    return (
        "the server may not seek (answer range requests), as an MP4 with its index at the end needs: download"
        " it, or remux it with `ffmpeg -i IN -c copy -movflags +faststart OUT`; or it is damaged"
    )


def _duration(container: Any, stream: Any) -> float | None:
    if stream.duration is not None and stream.duration > 0:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and container.duration > 0:
        return container.duration / av.time_base
    return None


def _facts(uri: str, container: Any, stream: Any, remote: bool) -> dict[str, Any]:
    """Look at the first packets and decode a few frames.

    Raises:
        SourceError: not one of the first frames decodes, and there is no more to try.
    """
    context = stream.codec_context
    base: Fraction = stream.time_base or Fraction(1, 90000)
    times: list[int] = []
    keys: list[int] = []
    missing = packets = size = 0
    frames: list[Any] = []
    decoding = True
    try:
        for packet in demux(container, stream):
            packets += 1
            size += packet.size
            if packet.pts is None:
                missing += 1
            else:
                times.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
            if decoding:
                with contextlib.suppress(av.error.FFmpegError, ValueError):
                    frames += context.decode(packet)
                decoding = len(frames) < LOOK_FRAMES
            enough = remote or len(keys) > 2
            if not decoding and (enough or packets >= LOOK_PACKETS or size >= LOOK_BYTES):
                break
            if packets >= 4 * LOOK_PACKETS or size >= 4 * LOOK_BYTES:
                break
        else:
            if decoding:
                frames += context.decode(None)
    except (av.error.FFmpegError, OSError) as error:
        if not frames:
            raise SourceError(
                f"{uri}: cannot be read ({reason(error)}); "
                + _remedy(uri, container, "it is damaged or cut off, copy it again")
            ) from error
    if not frames:
        raise SourceError(
            f"{uri}: none of its first pictures decodes; "
            + _remedy(uri, container, "it is damaged, copy it again")
        )
    first = frames[0]
    shown = [frame.pts for frame in frames]
    # AVI has no presentation times; what FFmpeg makes up for it is wrong as soon as frames are reordered
    timed = container.format.name != "avi" or not context.has_b_frames
    timed = timed and missing <= packets * 0.02 and None not in shown and shown == sorted(set(shown))
    start = shown[0] if timed else stream.start_time or 0
    sar = stream.sample_aspect_ratio
    facts: dict[str, Any] = {
        "format": container.format.name,
        "time_base": (base.numerator, base.denominator),
        "start": start,
        "pts": timed,
        "jumps": has_clock_jumps(container.format.flags),
        "interlaced": any(frame.interlaced_frame for frame in frames),
        "rotation": int(first.rotation),
        "sar": (sar.numerator, sar.denominator) if sar and sar != 1 else None,
        "coded": (first.width, first.height),
        "pixels": first.format.name,
        "colorspace": int(first.colorspace),
        "full_range": is_full_range(first),
        "transfer": {16: "pq", 18: "hlg"}.get(int(first.color_trc)),
    }
    if len(keys) > 1:
        facts["gop_s"] = float((keys[-1] - keys[0]) * base / (len(keys) - 1))
    if len(times) > 2 and max(times) > min(times):
        facts["packet_rate"] = float((len(times) - 1) / ((max(times) - min(times)) * base))
    return facts
