"""The detector that a work folder adapted to its show: where it is, and which runs go on with it.

A run that names no detector goes on with the one that the last run had, where that was the folder's own;
otherwise every segment would be done again with another network. Naming a detector, the default one too, or
deleting the file goes back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engines.models import file_sha256
from stream.config import Config
from stream.errors import ConfigError
from stream.workdir import WorkFolder

RECORD = "detector_adaptation"  # the key in run.yaml, of the last attempt
REPLACES = "replaces"  # the key in about.json: hashes of the folder's own detectors of before


def own_detector(folder: WorkFolder) -> Path:
    """Where the folder's adapted detector is, or would be."""
    return folder.path / "detector" / "adapted.onnx"


def about_own(folder: WorkFolder) -> dict[str, Any]:
    """What ``about.json`` says of the folder's adapted detector; empty where it is not of the file there."""
    own = own_detector(folder)
    try:
        about = json.loads(own.with_name("about.json").read_bytes())
    except (OSError, ValueError):
        return {}
    known = isinstance(about, dict) and own.is_file() and about.get("sha256") == file_sha256(own)
    return about if known else {}


def replaced(folder: WorkFolder) -> list[str]:
    """Hashes of the folder's own detectors that one written now takes the place of, the latest first."""
    own = own_detector(folder)
    return [file_sha256(own), *about_own(folder).get(REPLACES, ())] if own.is_file() else []


def in_use(folder: WorkFolder, record: Mapping[str, Any] | None = None) -> bool:
    """Whether the last run, or ``record`` of one, found its boxes with the folder's own detector.

    Told by the path, or by the content where the folder was moved or looked at from elsewhere since: that of
    the file, or of one that an adaptation has replaced with it.
    """
    record = folder.read_run() if record is None else record
    own = own_detector(folder)
    if not own.is_file():
        return False
    if _is_own(folder, _at(record, "config", "detector", "model")):
        return True
    return found_with_own(folder, record) or _was_own(folder, record)


def found_with_own(folder: WorkFolder, record: Mapping[str, Any]) -> bool:
    """Whether the boxes that are there are those of the folder's own detector, told by its content."""
    own, used = own_detector(folder), _at(record, "models", "detector", "sha256")
    return own.is_file() and (used == file_sha256(own) or used in about_own(folder).get(REPLACES, ()))


def _was_own(folder: WorkFolder, record: Mapping[str, Any]) -> bool:
    """Whether the last run began with the detector that is here, in another place than the folder has now."""
    model = _at(record, "config", "detector", "model")
    named = isinstance(model, str) and Path(model).parts[-2:] == own_detector(folder).parts[-2:]
    return named and not Path(str(model)).is_file() and bool(about_own(folder))


def continued(folder: WorkFolder, config: Config, note: Callable[[str], object]) -> Config:
    """The settings of a run, with the folder's own detector where the last run had it and none is named."""
    if config.boxes is not None:
        return config
    own, asked = own_detector(folder).absolute(), config.detector
    if _is_own(folder, asked.model):  # as every folder that a run is started from finds it
        return config.model_copy(update={"detector": asked.model_copy(update={"model": str(own)})})
    if not in_use(folder):
        _check_same(folder, config)
        return config
    if "model" not in asked.model_fields_set:
        note(f"goes on with the detector adapted to this show, {own}; `--detector default` goes back")
        return config.model_copy(update={"detector": asked.model_copy(update={"model": str(own)})})
    if asked.model == "default":
        note(f"goes back to the default detector; `--detector {own}` is the one adapted to this show")
    return config


def _is_own(folder: WorkFolder, model: object) -> bool:
    own = own_detector(folder)
    return isinstance(model, str) and own.is_file() and Path(model).resolve() == own.resolve()


def _check_same(folder: WorkFolder, config: Config) -> None:
    """Raise where the last run had this folder's own detector, and the file there is another one by now."""
    own, record = own_detector(folder), folder.read_run()
    model = _at(record, "config", "detector", "model")
    had_own = isinstance(model, str) and Path(model).parts[-2:] == own.parts[-2:]
    elsewhere = isinstance(model, str) and Path(model).is_file()  # another folder's, which is still there
    if had_own and not elsewhere and own.is_file() and "model" not in config.detector.model_fields_set:
        raise ConfigError(
            f"{own}: expected the detector that the last run into this folder used, found another file (it"
            " was damaged or replaced); put it back, or name a detector (`--detector default`)"
        )


def _at(record: object, *keys: str) -> object:
    for key in keys:
        record = record.get(key) if isinstance(record, Mapping) else None
    return record
