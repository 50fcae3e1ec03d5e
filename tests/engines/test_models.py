"""The manifest: what is in it, finding by name, and refusing what was changed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from engines.models import MANIFEST, file_sha256, list_models, register, resolve
from engines.runtime import EngineError


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest with the default detector, whose file came from elsewhere."""
    source = tmp_path / "elsewhere" / "run7.onnx"
    source.parent.mkdir()
    source.write_bytes(b"weights")
    folder = tmp_path / "models"
    folder.mkdir()
    path = folder / "manifest.yaml"
    register(source, "detector", "celstream-detector", "Apache-2.0", "RGB 0..1", {"ap50": 0.5}, manifest=path)
    return path


def test_registered_is_found_by_name_and_by_default(manifest: Path) -> None:
    found = resolve("celstream-detector", "detector", manifest=manifest)
    assert found == resolve("default", "detector", manifest=manifest)
    assert found.path == manifest.parent / "celstream-detector.onnx"
    assert found.path.read_bytes() == b"weights"
    assert found.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert (found.licence, found.input, found.figures) == ("Apache-2.0", "RGB 0..1", {"ap50": 0.5})
    assert list_models(manifest) == [found]


def test_registering_again_replaces_and_keeps_the_others(manifest: Path) -> None:
    other = manifest.parent / "other.onnx"
    other.write_bytes(b"more")
    register(other, "embedder", "other", "MIT", "", manifest=manifest)
    other.write_bytes(b"more and more")
    register(other, "embedder", "other", "MIT", "", manifest=manifest)
    assert [(m.name, m.kind, m.path.name) for m in list_models(manifest)] == [
        ("celstream-detector", "detector", "celstream-detector.onnx"),
        ("other", "embedder", "other.onnx"),
    ]
    assert resolve("other", "embedder", manifest=manifest).sha256 == file_sha256(other)
    assert sorted(p.name for p in manifest.parent.iterdir()) == [
        "celstream-detector.onnx", "manifest.yaml", "other.onnx",
    ]  # fmt: skip


def test_a_changed_file_is_refused(manifest: Path) -> None:
    file = manifest.parent / "celstream-detector.onnx"
    file.write_bytes(b"weightz")
    with pytest.raises(EngineError, match=r"celstream-detector\.onnx: expected sha256 [0-9a-f]{64}, got"):
        resolve("default", "detector", manifest=manifest)
    file.unlink()
    with pytest.raises(EngineError, match="is missing; reinstall"):
        resolve("default", "detector", manifest=manifest)


def test_own_file_and_its_weights_beside_it(manifest: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine.onnx"
    own.write_bytes(b"graph")
    alone = resolve(own, "embedder", manifest=manifest)
    assert (alone.name, alone.path) == ("mine", own)
    own.with_name("mine.onnx.data").write_bytes(b"weights")
    assert resolve(own, "embedder", manifest=manifest).sha256 != alone.sha256


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("celstream-detectr", "detector", "did you mean 'celstream-detector'"),
        ("nowhere.onnx", "embedder", "the names are default"),
        ("celstream-detector", "embedder", "expected kind 'embedder', found 'detector'"),
        ("default", "embedder", "the default embedder, 'celstream-embedder', is not in it; reinstall"),
    ],
)
def test_what_is_not_there(manifest: Path, name: str, kind: str, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        resolve(name, kind, manifest=manifest)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["- a list", "models: 3", "models: {x: 3}", "models: {x: {kind: detector}}"])
def test_a_damaged_manifest(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.yaml"
    path.write_text(text)
    with pytest.raises(EngineError, match=r"manifest\.yaml: "):
        list_models(path)


def test_command_line(manifest: Path, tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    file.write_bytes(b"abc")
    command = [sys.executable, "-m", "engines.models.register", str(file), "--kind", "embedder"]
    command += ["--manifest", str(manifest)]
    done = subprocess.run([*command, "--figures", "{purity: 0.9}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    entry = yaml.safe_load(manifest.read_text())["models"]["net"]
    assert entry["figures"] == {"purity": 0.9}
    assert entry["sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    refused = subprocess.run([*command, "--figures", "3"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "expected a mapping" in refused.stderr


def test_packaged_models_are_whole_and_small() -> None:
    """Every network that the package carries matches its manifest, and is at most 12 MB."""
    for model in list_models():
        assert resolve(model.name, model.kind).sha256 == model.sha256  # type: ignore[arg-type]
        assert model.path.stat().st_size <= 12e6
        assert model.licence
    unlisted = {p.name for p in MANIFEST.parent.glob("*.onnx")} - {m.path.name for m in list_models()}
    assert unlisted == set()
