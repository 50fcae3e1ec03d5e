"""Processing the sources of a work folder again with its adapted detector, and the command that does it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from stream.config import Config
from stream.progress import Progress
from stream.summary import Summary
from stream.workdir import WorkFolder

#: Settings that `celstream run` has options of their own for.
_OPTIONS = {
    "interval": "--interval",
    "sampling": "--sampling",
    "device": "--device",
    "engine": "--engine",
    "embedder.model": "--embedder",
    "cluster.clusters": "--clusters",
    "cluster.strength": "--strength",
    "adapt.mode": "--adapt",
}


class StoppedAfterwards(KeyboardInterrupt):
    """Ctrl-C when the adapted detector was written already; its text says so, and what goes on."""


def with_model(config: Config, model: Path) -> Config:
    """The same settings with another detector, by a path that holds wherever a run is started from."""
    detector = config.detector.model_copy(update={"model": str(model.absolute())})
    return config.model_copy(update={"detector": detector})


def command(inputs: Sequence[str], out: Path, config: Config) -> str:
    """The shell command that runs over the inputs with these settings, those with the default left out."""
    words = ["celstream", "run", *inputs, "-o", str(out), "--detector", config.detector.model]
    for key, value in _set(config.model_dump(mode="json"), Config().model_dump(mode="json")):
        if key == "detector.model":
            continue
        if key == "cluster.clusters" and value is not None:
            value = ":".join(map(str, value))
        if key in _OPTIONS and value is not None:
            words += [_OPTIONS[key], str(value)]
        else:
            words += ["--set", f"{key}={_text(value)}"]
    return shlex.join(words)


def _set(values: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = "") -> Iterator[Any]:
    """Key and value of every setting that is not the default."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _set(value, defaults[key], f"{prefix}{key}.")
        elif value != defaults[key]:
            yield prefix + key, value


def _text(value: Any) -> str:
    """As ``--set`` reads it: bare where YAML gives the same text back, else quoted; numbers and lists too."""
    if isinstance(value, str) and not re.fullmatch(r"\s*|\d+:\d+", value):
        try:
            if yaml.safe_load(value) == value:
                return value
        except yaml.YAMLError:
            pass
    return json.dumps(value, ensure_ascii=False)


def process_again(inputs: Sequence[str], out: str | Path, config: Config, progress: Progress) -> Summary:
    """Run over the inputs as the last run was set, but for the detector. The report is left to the caller."""
    from stream.run_job import run

    progress.note("processing the sources again with it, and what the run does after that")
    with WorkFolder.open(out, create=False) as folder:
        # a run after one that was killed goes on with this detector
        folder.write_run(folder.read_run() | {"config": config.model_dump(mode="json")})
    return run(inputs, out, config, progress=progress, report=False)
