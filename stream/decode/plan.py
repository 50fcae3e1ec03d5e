"""How a video will be decoded, and why: decided from what probing found, before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from engines.runtime.base import Fallback
from stream.batches import Video
from stream.config import Config
from stream.errors import ConfigError

DecoderName = Literal["cpu", "nvdec", "dali"]

#: What people call the decoders.
NAMES: dict[str, str] = {"cpu": "FFmpeg on the CPU", "nvdec": "NVDEC", "dali": "DALI"}


class Unfit(Exception):
    """A way of decoding does not do for this segment after all. The message is a clause for people."""


@dataclass(frozen=True)
class DecodePlan:
    """The chosen way and its reason; ``str()`` is one line for people.

    ``decoder`` is what decodes, ``fallback`` says what would have been taken in its place and why it was not.
    """

    way: Literal["packets", "whole", "images"]
    reason: str
    decoder: DecoderName = "cpu"
    fallback: Fallback | None = None

    def __str__(self) -> str:
        names = {
            "packets": "only what the sampled frames need",
            "whole": "every frame",
            "images": "each image",
        }
        by = "" if self.decoder == "cpu" else f" with {NAMES[self.decoder]}"
        return f"decodes {names[self.way]}{by}: {self.reason}"


def plan_decode(video: Video, config: Config, *, on_device: bool = False) -> DecodePlan:
    """Choose the cheapest way that gives the right frames.

    Args:
        config: ``sampling``, ``interval`` and ``decode.decoder`` are used.
        on_device: frames go to a GPU, so that its decoders are worth having.

    Raises:
        ConfigError: ``decode.decoder`` names a decoder that this machine does not have.
    """
    plan = _way(video, config)
    wanted = config.decode.decoder
    if plan.way == "images" or wanted == "cpu" or (wanted == "auto" and not on_device):
        return plan
    # imported late: a run on the CPU needs to know nothing of them
    from stream.decode import dali, nvdec

    fallback: Fallback | None = None
    if wanted != "dali":
        why = nvdec.refusal(video, plan.way, forced=wanted == "nvdec")
        if not why:
            return replace(plan, decoder="nvdec")
        fallback = Fallback(NAMES["nvdec"], NAMES["cpu"], why)
    if wanted != "nvdec":
        why = dali.refusal(video, config, plan.way, on_device=on_device)
        if not why:
            return replace(plan, decoder="dali", fallback=fallback and replace(fallback, used=NAMES["dali"]))
        fallback = fallback or Fallback(NAMES["dali"], NAMES["cpu"], why)
    return replace(plan, fallback=fallback)


def check_decoder(config: Config) -> None:
    """Raise ConfigError where ``decode.decoder`` names one that this machine lacks, before any video."""
    from stream.decode import dali, nvdec

    wanted = config.decode.decoder
    lacks = {"nvdec": nvdec.missing, "dali": dali.missing}.get(wanted, lambda: None)()
    if lacks:
        raise ConfigError(f"decode.decoder {wanted}: {lacks}; or set decode.decoder to auto")


def _way(video: Video, config: Config) -> DecodePlan:
    facts = video.facts
    if video.kind == "images":
        return DecodePlan("images", f"{len(video.files)} still images")
    if not facts.get("pts", True):
        return DecodePlan("whole", f"{facts.get('format', 'the container')} gives packets no times")
    if config.sampling == "keyframes":
        return DecodePlan("packets", "only keyframes are fed to the decoder")
    if facts.get("interlaced"):
        return DecodePlan("whole", "interlaced, and a frame needs its neighbours to be deinterlaced")
    if config.sampling == "scene":
        return DecodePlan("packets", "reference frames are looked at for cuts, the others are skipped")
    gop = facts.get("gop_s")
    if gop and config.interval > gop:
        return DecodePlan(
            "packets", f"a keyframe every {gop:.1f} s: groups without one of the sampled frames are left out"
        )
    return DecodePlan("packets", "frames that nothing refers to are skipped unless sampled")


def unfit_picture(video: Video) -> str | None:
    """Why this video's pictures are not made on the device, whatever decodes them; None if they are.

    Turning, squaring pixels, tone mapping and deinterlacing are FFmpeg's here, on the CPU.
    """
    facts = video.facts
    width, height = facts.get("coded", (video.width, video.height))
    if facts.get("interlaced"):
        return "it is interlaced"
    if facts.get("transfer"):
        return f"it is high dynamic range ({facts['transfer'].upper()}), which is mapped on the CPU"
    if round(int(facts.get("rotation", 0)) / 90) % 4:
        return f"it is turned by {facts['rotation']} degrees"
    if facts.get("sar"):
        across, down = facts["sar"]
        return f"its pixels are not square ({across}:{down})"
    if width % 2 or height % 2:
        return f"its size is odd ({width}x{height})"
    return None
