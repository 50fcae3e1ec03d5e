"""``celstream engines`` and ``celstream models`` as a person types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_nets import Mean, export

from engines.runtime.devices import cuda_missing
from stream import run
from stream.cartoon.write import Episode
from stream.cli import main
from stream.config import Config, load_config
from stream.stations import row_settings

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has wheels for Linux on x86-64 only")

without_gpu = pytest.mark.skipif(cuda_missing() is None, reason="this machine has a GPU")


def celstream(cache: Path, *args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stream.cli", *map(str, args)]
    environment = os.environ | {"CELSTREAM_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


@without_gpu
def test_build_list_and_prune(tmp_path: Path) -> None:
    net = export(Mean(), tmp_path / "mine.onnx", size=(64, 64))
    done = celstream(tmp_path, "engines", "build", "--embedder", net)
    assert done.returncode == 0, done.stderr
    assert "mine: fp16 for TensorRT-RTX" in done.stdout
    assert "64x64, up to 64 a call" in done.stdout
    listed = json.loads(celstream(tmp_path, "engines", "list", "--json").stdout)
    (engine,) = listed["engines"]
    assert (engine["name"], engine["precision"], engine["stale"]) == ("mine", "fp16", "")
    assert [network["precision"] for network in listed["networks"]] == ["fp16"]
    assert Path(engine["path"], "engine.plan").stat().st_size < engine["bytes"]
    net.unlink()
    assert "not used: its network is gone" in celstream(tmp_path, "engines", "list").stdout
    assert "0 engines" in celstream(tmp_path, "engines", "list", "--prune").stdout


@without_gpu
def test_int8_on_the_users_own_crops_and_frames(episode: Episode, tmp_path: Path) -> None:
    """A run's folder calibrates both networks; then `check` and `run` use them."""
    work = tmp_path / "work"
    run(episode.video, work, report=False, adapt="off", interval=1.0)
    done = celstream(
        tmp_path, "engines", "build", "--precision", "int8", "--calibration", work, "--pictures", 6, "--json"
    )
    assert done.returncode == 0, done.stderr
    detector, embedder = json.loads(done.stdout)
    assert detector["calibration"] == f"6 pictures of {work}"
    assert embedder["calibration"] == f"6 pictures of {work}"
    assert all(Path(result["path"]).is_file() for result in (detector, embedder))
    checked = celstream(tmp_path, "engines", "check", work, "--pictures", 6, "--engine", "onnx", "--json")
    assert checked.returncode == 0, checked.stderr
    rows = json.loads(checked.stdout)
    measured = {(row["kind"], row["precision"]): row for row in rows if not row["skipped"]}
    assert set(measured) == {(k, p) for k in ("detector", "embedder") for p in ("fp32", "fp16", "int8")}
    assert measured["detector", "fp32"]["error_max"] == measured["embedder", "fp32"]["error_max"] == 0
    assert 0 < measured["embedder", "fp16"]["error_max"] < measured["embedder", "int8"]["error_max"] < 0.2
    assert measured["embedder", "fp16"]["cosine_min"] > 0.9999
    assert measured["embedder", "int8"]["cosine_mean"] > 0.99
    assert measured["detector", "fp16"]["boxes"] > 0.9
    assert measured["detector", "int8"]["note"] == f"calibrated on 6 pictures of {work}"
    assert all(row["per_second"] > 0 for row in measured.values())
    skipped = [row for row in rows if row["skipped"]]
    assert {row["device"] for row in skipped} == {"cuda"}
    assert all("NVIDIA driver" in row["skipped"] for row in skipped)
    again = celstream(
        tmp_path, "run", episode.video, "-o", tmp_path / "second", "--precision", "int8", "--adapt", "off",
        "--json", "--log", "quiet",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["crops"] > 0
    record = (tmp_path / "second" / "run.yaml").read_text()
    assert record.count(", int8") == 2


@without_gpu
def test_check_prints_a_table_and_each_reason_once(tmp_path: Path) -> None:
    done = celstream(
        tmp_path, "engines", "check", "--embedder", "default", "--pictures", 4, "--precision", "fp16"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "embedder default, on pictures of a drawn episode (seed 1)"
    assert [line.split()[:3] for line in lines[2:4]] == [["onnx", "cpu", "fp32"], ["onnx", "cpu", "fp16"]]
    left_out = [line for line in lines if line.startswith("  left out: ")]
    assert len(left_out) == 3
    assert any("tensorrt cuda fp16: TensorRT: no NVIDIA driver" in line for line in left_out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("engines", "build", "--calibration", "work"), "only int8 learns scales, --precision is fp16"),
        (("engines", "build", "--embedder", "gone.onnx"), "embedder 'gone.onnx': expected the path"),
        (("engines", "check", "gone"), "gone"),
        (("models", "pull", "resnet"), "models pull resnet: expected one of densenet161"),
        (("run", "x.mp4", "-o", "w", "--embedder", "densenet161"), "celstream models pull densenet161"),
        (("run", "x.mp4", "-o", "w", "--engine", "fast"), "'fast' is not one of"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setenv("CELSTREAM_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["celstream", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_models_lists_what_can_be_pulled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CELSTREAM_CACHE", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["celstream", "models"])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    listed = capsys.readouterr().out
    assert "celstream models pull densenet161" in listed
    assert "celstream-detector (detector)" in listed


def test_precision_changes_the_rows_and_the_engine_does_not() -> None:
    """Segments are done again for another precision that was asked for, and kept where it is the default."""
    default = row_settings(Config())
    assert "precision" not in default["detector"]
    assert row_settings(load_config(values={"engine": "torch"})) == default
    half = row_settings(load_config(values={"embedder": {"precision": "fp16"}}))
    assert half["embedder"] == {**default["embedder"], "precision": "fp16"}
    assert half["detector"] == default["detector"]
