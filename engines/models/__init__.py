"""The networks that come with the product, and finding one by name or path.

``manifest.yaml`` names each with its sha256, licence, input and figures; a file that does not match its
sha256 is refused. ``python -m engines.models.register --help`` adds one. ``downloads`` are weights of others,
which ``celstream models pull`` fetches when it is told to.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from engines.runtime.base import EngineError
from engines.runtime.cache import cache_folder

Kind = Literal["detector", "embedder"]
FOLDER = Path(__file__).parent
MANIFEST = FOLDER / "manifest.yaml"
DEFAULTS: dict[str, str] = {"detector": "celstream-detector", "embedder": "celstream-embedder"}


@dataclass(frozen=True)
class ModelFile:
    """One network's file. ``figures`` are what it was measured at (name -> number or text)."""

    name: str
    kind: str
    path: Path
    sha256: str
    licence: str = "not stated: your own file"
    input: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


def file_sha256(path: Path) -> str:
    """Hash of an ONNX file, together with the weights file beside it (``x.onnx.data``) where it has one."""
    digest = hashlib.sha256()
    try:
        for part in (path, path.with_name(path.name + ".data")):
            if part == path or part.is_file():
                with part.open("rb") as stream:
                    while chunk := stream.read(1 << 20):
                        digest.update(chunk)
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    return digest.hexdigest()


def _read(manifest: Path) -> dict[str, dict[str, Any]]:
    if not manifest.is_file():
        return {}
    loaded = yaml.safe_load(manifest.read_text(encoding="utf-8")) or {}
    models = loaded.get("models") if isinstance(loaded, dict) else None
    if not (isinstance(models, dict) and all(isinstance(entry, dict) for entry in models.values())):
        raise EngineError(
            f"{manifest}: expected 'models', a mapping of names to entries; reinstall celstream"
        )
    return models


def _downloads(manifest: Path) -> dict[str, dict[str, Any]]:
    loaded = yaml.safe_load(manifest.read_text(encoding="utf-8")) if manifest.is_file() else None
    found = loaded.get("downloads") if isinstance(loaded, dict) else None
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Download:
    """Weights that `celstream models pull` fetches, and the network that is made of them.

    ``sha256`` is what its publisher says of it: all 64 digits, or the first ones. ``architecture`` is that of
    ``python -m engines.train.densenet``.
    """

    name: str
    kind: str
    url: str
    sha256: str
    licence: str
    architecture: str
    input: str

    @property
    def path(self) -> Path:
        """Where its network is once it was pulled."""
        return cache_folder() / "models" / f"{self.name}.onnx"

    @property
    def weights(self) -> Path:
        """Where its weights are once they were fetched."""
        return self.path.with_suffix(Path(self.url).suffix)

    @property
    def state(self) -> Literal["here", "fetched", "cut off", "not here"]:
        """How far it is: 'here' is the network, 'fetched' its weights alone, 'cut off' a part of these."""
        if self.path.is_file():
            return "here"
        if self.weights.is_file():
            return "fetched"
        return "cut off" if part_of(self.weights).is_file() else "not here"


def part_of(target: Path) -> Path:
    """Where a file lies while it is being fetched, and when that was cut off."""
    return target.with_name(f"{target.name}.part")


def list_downloads(manifest: Path = MANIFEST) -> list[Download]:
    """What can be pulled, by name."""
    try:
        return [Download(name, **entry) for name, entry in sorted(_downloads(manifest).items())]
    except TypeError as error:
        raise EngineError(f"{manifest}: 'downloads': {error}; reinstall celstream") from error


def _entry(manifest: Path, name: str, entry: Mapping[str, Any]) -> ModelFile:
    try:
        return ModelFile(
            name=name,
            kind=entry["kind"],
            path=manifest.parent / entry["file"],
            sha256=entry["sha256"],
            licence=entry["licence"],
            input=entry["input"],
            figures=dict(entry.get("figures") or {}),
        )
    except KeyError as error:
        raise EngineError(f"{manifest}: model {name!r} lacks the key {error}") from error


def list_models(manifest: Path = MANIFEST) -> list[ModelFile]:
    """The networks of the manifest, by name. Files are not opened."""
    return [_entry(manifest, name, entry) for name, entry in sorted(_read(manifest).items())]


def resolve(name_or_path: str | Path, kind: Kind, *, manifest: Path = MANIFEST) -> ModelFile:
    """Find a network: 'default', a name in the manifest, or the path of an ONNX file.

    Raises:
        EngineError: no such file or name, a name of the other kind, or a packaged file whose sha256 is
            not the manifest's.
    """
    text = str(name_or_path)
    named = _read(manifest)
    name = DEFAULTS[kind] if text == "default" else text
    if name in named:
        model = _entry(manifest, name, named[name])
        if model.kind != kind:
            raise EngineError(f"model {name!r}: expected kind {kind!r}, found {model.kind!r}")
        if not model.path.is_file():
            raise EngineError(f"{model.path}: the file of model {name!r} is missing; reinstall celstream")
        found = file_sha256(model.path)
        if found != model.sha256:
            raise EngineError(
                f"{model.path}: expected sha256 {model.sha256}, got {found}: the file was changed or damaged;"
                " reinstall celstream, or give the path of your own file"
            )
        return model
    pulled = next((d for d in list_downloads(manifest) if d.name == text and d.kind == kind), None)
    if pulled is not None:
        if not pulled.path.is_file():
            raise EngineError(f"model {text!r} is not on this machine yet; celstream models pull {text}")
        sha256 = file_sha256(pulled.path)
        return ModelFile(pulled.name, kind, pulled.path, sha256, pulled.licence, pulled.input)
    path = Path(text).expanduser()
    if path.is_file():
        return ModelFile(path.stem, kind, path, file_sha256(path))
    if text == "default":
        raise EngineError(f"{manifest}: the default {kind}, {name!r}, is not in it; reinstall celstream")
    computed = ["gist"] if kind == "embedder" else []  # no file: the runtime computes it
    names = ["default", *computed, *sorted(n for n, entry in named.items() if entry.get("kind") == kind)]
    if text in computed:
        raise EngineError(f"{kind} {text!r} is computed: it has no network; name one, or give an ONNX file")
    names += [d.name for d in list_downloads(manifest) if d.kind == kind]
    near = difflib.get_close_matches(text, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the names are {', '.join(names)}"
    raise EngineError(
        f"{kind} {text!r}: expected the path of an ONNX file or a known name, found neither; {hint}"
    )


def register(
    path: str | Path,
    kind: Kind,
    name: str,
    licence: str,
    input: str,
    figures: Mapping[str, Any] | None = None,
    *,
    manifest: Path = MANIFEST,
) -> ModelFile:
    """Write (or replace) a network's manifest entry; a file from elsewhere is copied beside the manifest.

    Args:
        name: how ``--detector`` and ``--embedder`` will find it.
        licence: SPDX name of the weights' licence.
        input: what the network takes, for people ("RGB 0..1, (N, 3, 192, 320)").
        figures: what it was measured at.
    """
    source = Path(path)
    if kind not in DEFAULTS:
        raise EngineError(f"kind {kind!r}: expected one of {', '.join(DEFAULTS)}")
    if not source.is_file():
        raise EngineError(f"{source}: no such file")
    target = manifest.parent / (
        source.name if source.resolve().parent == manifest.parent.resolve() else f"{name}.onnx"
    )
    if source.resolve() != target.resolve():
        shutil.copyfile(source, target)
    model = ModelFile(name, kind, target, file_sha256(target), licence, input, dict(figures or {}))
    entry = {k: v for k, v in asdict(model).items() if k not in ("name", "path")} | {"file": target.name}
    models = _read(manifest) | {name: entry}
    text = "# Written by python -m engines.models.register; sha256 is checked when a model is opened.\n"
    content = {"models": dict(sorted(models.items()))}
    downloads = _downloads(manifest)
    if downloads:
        content["downloads"] = downloads
    text += yaml.safe_dump(content, sort_keys=True, allow_unicode=True)
    draft = manifest.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(manifest)
    return model
