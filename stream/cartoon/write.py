"""Writes an episode as people get them: an H.264 file with an AAC track, and its truth as label files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from stream.cartoon.characters import Character, Look, make_cast
from stream.cartoon.episode import Script, render_frames
from stream.errors import ConfigError
from stream.labels import FrameStatus, LabelBox, Labels

AUDIO_RATE = 44_100
_AUDIO_BLOCK = 1024  # samples in an AAC frame
# The same bytes whatever the machine's vector width and number of cores, and the version of the muxer.
_BITEXACT = {"flags": "+bitexact"}
_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


@dataclass(frozen=True)
class Episode:
    """What `render_episode` left: the video, its label files, who plays in it, and the script."""

    video: Path
    boxes_csv: Path
    frames_csv: Path
    cast: tuple[Character, ...]
    script: Script


def render_episode(
    out: Path | str,
    *,
    seed: int = 0,
    characters: int = 5,
    seconds: float = 60.0,
    width: int = 640,
    height: int = 360,
    fps: int = 24,
    style: str | Look | None = None,
    gop: int = 48,
    label_interval_s: float | None = None,
) -> Episode:
    """Render an episode to `out` (an .mp4; or a folder, which gets `cartoon_<seed>.mp4`), with labels beside
    it.

    Args:
        seed: another seed is another cast, other sets and other action; the same seed gives the same frames.
        characters: size of the cast; with 0 every frame is empty.
        seconds: length; time to render grows with it, memory does not.
        width, height: frame size in pixels, even numbers (H.264 4:2:0).
        fps: frames per second, a whole number.
        style: a `Look`, the name of one (see `Look.named`), or None for a random one.
        gop: frames between keyframes; raising it makes the file smaller and seeking slower.
        label_interval_s: label one frame per so many seconds; None labels every frame.

    Raises:
        ConfigError: a value out of its range.
    """
    _check(characters, width, height, fps, gop, label_interval_s)
    path = Path(out)
    if path.suffix.lower() != ".mp4":
        path = path / f"cartoon_{seed}.mp4"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path.parent}: cannot be made ({error.strerror}); give another folder") from error
    look = Look.named(style, seed) if isinstance(style, str) else style
    cast = make_cast(characters, seed, look)
    script = Script.random(cast, seed, seconds=seconds, width=width, height=height, fps=fps, look=look)
    boxes: list[LabelBox] = []
    statuses: list[FrameStatus] = []
    next_label = 0.0
    with av.open(str(path), "w", options={"movflags": "+faststart", "fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=fps)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        # One thread: with more, the bits depend on the machine.
        video.options = {
            "preset": "veryfast", "crf": "20", "g": str(gop), "keyint_min": "1", "threads": "1", **_BITEXACT
        }  # fmt: skip
        video.codec_context.time_base = Fraction(1, fps)
        audio = container.add_stream("aac", rate=AUDIO_RATE, layout="mono", options=_BITEXACT)
        sound = _sound(seed, script.frames / fps)
        heard = 0
        last: NDArray[np.uint8] | None = None
        picture: av.VideoFrame | None = None
        for number, (image, truth) in enumerate(render_frames(script)):
            if picture is None or image is not last:
                picture = av.VideoFrame.from_ndarray(image, format="rgb24")
                picture = picture.reformat(format="yuv420p", interpolation=_EXACT, threads=1)
                last = image
            picture.pts, picture.time_base = number, Fraction(1, fps)
            container.mux(video.encode(picture))
            while heard / AUDIO_RATE < number / fps:
                heard += _AUDIO_BLOCK
                if (block := next(sound, None)) is not None:
                    container.mux(audio.encode(block))
            if number / fps >= next_label - 1e-9:
                if label_interval_s is not None:
                    next_label += label_interval_s
                # Rounded down: the first frame with pts >= time_s must be this one.
                time_s = floor(number / fps * 1e6) / 1e6
                statuses.append(FrameStatus(path.name, time_s, "ok" if truth else "empty"))
                boxes += [
                    LabelBox(path.name, time_s, width, height, t.box, t.identity, t.flags) for t in truth
                ]
        for block in sound:
            container.mux(audio.encode(block))
        container.mux(audio.encode(None))
        container.mux(video.encode(None))
    boxes_csv, frames_csv = Labels(tuple(boxes), tuple(statuses)).write(
        path.with_name(f"{path.stem}_boxes.csv")
    )
    return Episode(path, boxes_csv, frames_csv, cast, script)


def _check(characters: int, width: int, height: int, fps: int, gop: int, interval: float | None) -> None:
    if characters < 0:
        raise ConfigError(f"characters: expected 0 or more, got {characters}; ask for a cast of 1 or more")
    for name, value in (("width", width), ("height", height)):
        if value < 16 or value % 2:
            near = max(16, value + value % 2)
            raise ConfigError(
                f"{name}: expected an even number of pixels from 16 on, got {value}; try {near}"
            )
    for name, value in (("fps", fps), ("gop", gop)):
        if value < 1 or value != int(value):
            raise ConfigError(f"{name}: expected a whole number of at least 1, got {value}; try 24")
    if interval is not None and not interval > 0:
        raise ConfigError(
            f"label_interval_s: expected seconds over 0, got {interval}; None labels every frame"
        )


def _sound(seed: int, seconds: float) -> Iterator[av.AudioFrame]:
    """A plucked pentatonic tune over a little noise, block by block, `seconds` long."""
    rng = np.random.default_rng([seed, 0xA0D10])
    root, beat = float(rng.choice([196.0, 220.0, 246.9])), float(rng.choice([0.2, 0.25, 0.3]))
    scale = root * 2.0 ** (np.array([0, 2, 4, 7, 9, 12, 14]) / 12.0)
    notes = scale[rng.integers(0, len(scale), 64)]
    total = round(seconds * AUDIO_RATE)
    for start in range(0, total, _AUDIO_BLOCK):
        count = min(_AUDIO_BLOCK, total - start)
        t = (start + np.arange(count)) / AUDIO_RATE
        beats = t / beat
        since = (beats % 1.0) * beat
        tone = notes[beats.astype(int) % len(notes)]
        wave = np.exp(-6.0 * since) * (
            np.sin(2 * np.pi * tone * since) + 0.3 * np.sin(4 * np.pi * tone * since)
        )
        samples = 0.22 * wave + 0.004 * rng.standard_normal(count)
        frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, start, Fraction(1, AUDIO_RATE)
        yield frame


__all__ = ["Episode", "render_episode"]
