"""The stations of one run, made from the config, and what identifies their results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engines.runtime.base import Fallback
from stream.batches import Video
from stream.config import Config
from stream.crops import Cropper
from stream.detect import Detector
from stream.embed import Embedder
from stream.given import GivenBoxes

# settings that change what a segment file holds; all others may change without redoing segments
_ROW_SETTINGS = ("interval", "sampling", "held", "shot", "detector", "crops", "embedder", "tracks")


class Stations:
    """Detector (or given boxes), cropper and embedder, opened once for a run.

    Raises:
        ModelError: a network is missing or of the wrong kind.
        ConfigError: the device cannot be had, or the given boxes cannot be read.
        DependencyError: the package that runs networks is missing.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.detect: Detector | GivenBoxes
        if config.boxes is None:
            self.detect = Detector(
                config.detector, device=config.device, threads=config.threads, engine=config.engine
            )
        else:
            self.detect = GivenBoxes(config.boxes)
        self.embed = Embedder(
            config.embedder, device=config.device, threads=config.threads, engine=config.engine
        )
        self.crop = Cropper(config.crops, self.embed.input_size)

    @property
    def order(self) -> tuple[Any, ...]:
        """In the order a batch passes them."""
        return (self.detect, self.crop, self.embed)

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Where frames are wanted: on the GPU where every network of the run is."""
        found = {getattr(station, "device", "cuda") for station in (self.detect, self.embed)}
        return "cuda" if found == {"cuda"} else "cpu"

    @property
    def fallbacks(self) -> tuple[Fallback, ...]:
        """What was wanted and could not be had, each once."""
        both = (*getattr(self.detect, "fallbacks", ()), *self.embed.fallbacks)
        return tuple(dict.fromkeys(both))

    @property
    def model_hashes(self) -> dict[str, str]:
        """SHA-256 of what finds the boxes and of what embeds them."""
        return {"detector": self.detect.model_hash, "embedder": self.embed.model_hash}

    @property
    def models(self) -> dict[str, dict[str, str]]:
        """For the run's record: which network, its hash, and what runs it."""
        names = {
            "detector": self._config.boxes or self._config.detector.model,
            "embedder": self._config.embedder.model,
        }
        described = {"detector": self.detect.description, "embedder": self.embed.description}
        return {
            role: {"model": str(names[role]), "sha256": sha256, "engine": described[role]}
            for role, sha256 in self.model_hashes.items()
        }

    def check(self, videos: Sequence[Video]) -> None:
        """Raise ConfigError where given boxes are of none of these videos: nothing would be found."""
        if isinstance(self.detect, GivenBoxes) and videos:
            self.detect.check(videos)

    def close(self) -> None:
        """Let the networks go: their memory is free for clustering."""
        close = getattr(self.detect, "close", None)
        if close is not None:
            close()
        self.embed.close()


def row_settings(config: Config) -> dict[str, Any]:
    """The part of the config that segment rows follow from, for their fingerprint.

    Models count by their hash and not by their path, given boxes by their content.
    """
    values = config.model_dump(mode="json", include=set(_ROW_SETTINGS))
    values["detector"].pop("model")
    values["embedder"].pop("model")
    values["embedder"].pop("batch_size")
    for role in ("detector", "embedder"):
        if values[role]["precision"] == "auto":  # whatever it was: a GPU's rows go on with a CPU's
            del values[role]["precision"]
    if config.boxes is not None:
        values.pop("detector")
    return values
