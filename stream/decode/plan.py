"""How a video will be decoded, and why: decided from what probing found, before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stream.batches import Video
from stream.config import Config


@dataclass(frozen=True)
class DecodePlan:
    """The chosen way and its reason; ``str()`` is one line for people."""

    way: Literal["packets", "whole", "images"]
    reason: str

    def __str__(self) -> str:
        names = {
            "packets": "only what the sampled frames need",
            "whole": "every frame",
            "images": "each image",
        }
        return f"decodes {names[self.way]}: {self.reason}"


def plan_decode(video: Video, config: Config) -> DecodePlan:
    """Choose the cheapest way that gives the right frames."""
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
