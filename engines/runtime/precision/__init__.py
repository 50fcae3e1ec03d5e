"""The same network in another precision: the ONNX file is converted once and kept.

float32 is the file as it is. float16 converts the layers, and is the precision of choice on a GPU. int8 needs
pictures to calibrate with, once (:func:`calibrate`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engines.runtime.base import EngineError
from engines.runtime.cache import Cache, Entry, Say
from engines.runtime.precision.graph import has_precision, import_onnx, load_model, read_model

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")

AS_IT_IS = "as it is"  # recipe of a file that nothing was made of
_FILE = "network.onnx"
_MAKER = 1  # raised when the conversion changes, so that nothing made by the older one is used


@dataclass(frozen=True)
class Prepared:
    """A network's file in a precision.

    ``path`` is what to run, ``model_sha256`` the hash of the file that it was made from, ``recipe`` tells
    apart what was made of it in different ways (another calibration).
    """

    path: Path
    precision: Precision
    model_sha256: str
    recipe: str


def prepare(
    path: Path,
    precision: Precision,
    *,
    rest: Literal["fp32", "fp16"] = "fp32",
    cache: Cache | None = None,
    say: Say | None = None,
) -> Prepared:
    """The network ``path`` in ``precision``, converted where it was not yet.

    A file that is in float16 or int8 already is taken as it is.

    Args:
        rest: what is not int8 in an int8 network: 'fp32' is best on a CPU, 'fp16' on a GPU.
        cache: where converted files are kept, by default the user's.
        say: told when another process is converting the same.

    Raises:
        MissingRuntimeError: onnx is not installed, and needed.
        EngineError: no ONNX file; it cannot be converted; or int8 without a calibration.
    """
    from engines.models import file_sha256

    if not path.is_file():
        raise EngineError(f"{path}: no such file; give the path of an ONNX file")
    sha256 = file_sha256(path)
    if precision == "fp32":
        return Prepared(path, "fp32", sha256, AS_IT_IS)
    cache = cache or Cache("networks")
    key: dict[str, Any] = {"model": sha256, "precision": "fp16", "maker": _MAKER}
    source = path
    found = cache.find(key) if precision == "fp16" else None
    if found is None:
        own = _own_precision(path)
        if own != "fp32":
            return Prepared(path, own, sha256, AS_IT_IS)
    if precision == "int8":
        calibrated = calibration(path, cache=cache)
        if calibrated is None:
            raise EngineError(
                f"{path}: int8 needs a calibration on pictures like those it will see, and there is none;"
                " celstream engines build --precision int8 --calibration WORKDIR makes it"
            )
        source, recipe = calibrated.path / _FILE, str(calibrated.about["sha256"])
        if rest == "fp32":
            return Prepared(source, "int8", sha256, recipe)
        key = _mixed_key(sha256, recipe)
    what = f"{path.name} in {precision}"
    entry = cache.get(key, lambda folder: _make_half(source, folder, path, precision), what=what, say=say)
    return Prepared(entry.path / _FILE, precision, sha256, str(key))


def calibrate(
    path: Path,
    pictures: Iterable[Mapping[str, Any]],
    origin: str,
    *,
    cache: Cache | None = None,
    say: Say | None = None,
) -> Prepared:
    """Make the int8 network from pictures, in place of one calibrated before.

    Args:
        pictures: inputs by name, as for ``Engine.run``. A hundred that are as varied as what it will see are
            enough.
        origin: where they are from, for people.
        say: told when another process is calibrating the same network.

    Raises:
        MissingRuntimeError: onnx or ONNX Runtime is not installed.
        EngineError: no ONNX file in float32, or pictures that do not fit.
    """
    from engines.models import file_sha256
    from engines.runtime.precision.int8 import quantize

    cache = cache or Cache("networks")
    if _own_precision(path) != "fp32":
        raise EngineError(f"{path}: int8: expected a network in float32, found {_own_precision(path)}")
    sha256 = file_sha256(path)
    seen = 0

    def counted() -> Iterable[Mapping[str, Any]]:
        nonlocal seen
        for given in pictures:
            seen += len(next(iter(given.values())))
            yield given

    def make(folder: Path) -> dict[str, Any]:
        _save(quantize(path, counted()), folder / _FILE)
        digest = hashlib.sha256((folder / _FILE).read_bytes()).hexdigest()
        return _about(path, "int8") | {"sha256": digest, "origin": origin, "pictures": seen}

    what = f"{path.name} in int8, by calibrating it"
    entry = cache.get(_int8_key(sha256), make, what=what, say=say, anew=True)
    return Prepared(entry.path / _FILE, "int8", sha256, str(entry.about["sha256"]))


def calibration(path: Path, *, cache: Cache | None = None) -> Entry | None:
    """The int8 network made from ``path`` before; its ``about`` says from which pictures. None: never."""
    from engines.models import file_sha256

    return (cache or Cache("networks")).find(_int8_key(file_sha256(path)))


def outdated(about: Mapping[str, Any], *, cache: Cache | None = None) -> str:
    """Why a converted network that was kept will not be used again; empty where it may be."""
    key = about.get("key", {})
    if key.get("maker") != _MAKER:
        return "another version of celstream made it"
    return recalibrated(str(key.get("model")), key["calibrated"], cache=cache) if "calibrated" in key else ""


def recalibrated(sha256: str, recipe: str, *, cache: Cache | None = None) -> str:
    """Why an engine made of an int8 network by ``recipe`` will not be used again; empty where it may be.

    Args:
        sha256: of the network's file.
        recipe: as :class:`Prepared` has it.
    """
    found = (cache or Cache("networks")).find(_int8_key(sha256))
    if found is None:
        return "its calibration is gone"
    now = str(found.about["sha256"])
    return "" if recipe in (now, str(_mixed_key(sha256, now))) else "it was calibrated anew since"


def _int8_key(sha256: str) -> dict[str, Any]:
    """Of the network with what is not int8 in float32, as calibration makes it."""
    return {"model": sha256, "precision": "int8", "rest": "fp32", "maker": _MAKER}


def _mixed_key(sha256: str, calibrated: str) -> dict[str, Any]:
    """Of the one with what is not int8 in float16; ``calibrated``: hash of the one that it is made of."""
    return {"model": sha256, "precision": "int8", "rest": "fp16", "maker": _MAKER, "calibrated": calibrated}


def _own_precision(path: Path) -> Precision:
    found: Precision = has_precision(read_model(path))  # type: ignore[assignment]
    return found


def _make_half(source: Path, folder: Path, path: Path, precision: str) -> dict[str, Any]:
    from engines.runtime.precision.half import to_half

    try:
        _save(to_half(load_model(source)), folder / _FILE)
    except EngineError as error:
        raise EngineError(f"{path}: {error}") from error
    return _about(path, precision)


def _about(path: Path, precision: str) -> dict[str, Any]:
    return {"name": path.stem, "source": str(path.absolute()), "precision": precision}


def _save(model: Any, path: Path) -> None:
    import_onnx().save_model(model, str(path))
