"""``celstream engines`` and ``celstream models`` as a person types them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from needs import needs
from tiny_nets import Mean, export

from engines.models import list_downloads, resolve
from engines.nets.densenet import densenet161
from engines.runtime.devices import cuda_missing
from engines.runtime.precision import calibration
from stream import run
from stream.cartoon.write import Episode
from stream.cli import main
from stream.config import Config, EmbedderConfig, load_config
from stream.embed import Embedder
from stream.engine_tools.check import compare
from stream.engine_tools.samples import Samples, of_folder, rendered
from stream.stations import row_settings

needs("tensorrt_rtx", "pip install tensorrt-rtx-cu13 (wheels for Linux on x86-64 only)")

without_gpu = pytest.mark.skipif(cuda_missing() is None, reason="this machine has a GPU")


@pytest.fixture(autouse=True)
def timed_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speeds are not what is tested here."""
    monkeypatch.setattr("stream.engine_tools.check._TIMED_S", 0.01)


@dataclass(frozen=True)
class Answer:
    returncode: int
    stdout: str
    stderr: str


Celstream = Callable[..., Answer]


@pytest.fixture
def celstream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Celstream:
    """The command in this process, with a cache of its own in an empty folder."""
    monkeypatch.setenv("CELSTREAM_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["celstream", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return Answer(int(left.value.code or 0), said.out, said.err)

    return call


@without_gpu
def test_build_list_and_prune(celstream: Celstream, tmp_path: Path) -> None:
    net = export(Mean(), tmp_path / "mine.onnx", size=(64, 64))
    done = celstream("engines", "build", "--embedder", net)
    assert done.returncode == 0, done.stderr
    assert "mine: fp16 for TensorRT-RTX" in done.stdout
    assert "64x64, up to 64 a call" in done.stdout
    assert "found" not in done.stdout
    again = celstream("engines", "build", "--embedder", net)
    assert "MB, found in the cache (built in " in again.stdout
    assert json.loads(celstream("engines", "build", "--embedder", net, "--json").stdout)[0]["found"]
    listed = json.loads(celstream("engines", "list", "--json").stdout)
    (engine,) = listed["engines"]
    assert (engine["name"], engine["precision"], engine["stale"]) == ("mine", "fp16", "")
    assert [network["precision"] for network in listed["networks"]] == ["fp16"]
    assert Path(engine["path"], "engine.plan").stat().st_size < engine["bytes"]
    lines = celstream("engines", "list").stdout.splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["mine", "mine.onnx in fp16"]
    net.unlink()
    assert "not used: its network is gone" in celstream("engines", "list").stdout
    Path(listed["networks"][0]["paths"][0], "network.onnx").write_bytes(b"cut")
    damaged = celstream("engines", "list").stdout.splitlines()
    assert damaged[0].endswith(": 1 engine, 0 converted networks, 1 damaged")
    assert "mine, fp16: network, damaged: network.onnx has 3 bytes in place of" in damaged[-1]
    assert "list --prune deletes it" in damaged[-1]
    assert "0 engines, 0 converted networks; 2 deleted" in celstream("engines", "list", "--prune").stdout
    assert list(tmp_path.glob("*/*/about.json")) == []


@without_gpu
def test_int8_on_the_users_own_crops(
    celstream: Celstream, episode: Episode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's folder calibrates the embedder; then `check` and `run` use it."""
    asked: list[bool] = []

    def spied(path: Path, count: int, *, held_out: bool = False) -> Samples:
        asked.append(held_out)
        return of_folder(path, count, held_out=held_out)

    monkeypatch.setattr("stream.engine_tools.samples.of_folder", spied)
    work = tmp_path / "work"
    run(episode.video, work, report=False, adapt="off", interval=1.0)
    own = ("--embedder", "default", "--pictures", 6)
    done = celstream("engines", "build", "--precision", "int8", "--calibration", work, *own, "--json")
    assert done.returncode == 0, done.stderr
    built_on, asked[:] = list(asked), []
    (built,) = json.loads(done.stdout)
    assert built["calibration"] == f"6 pictures of {work}"
    assert Path(built["path"]).is_file()
    networks = json.loads(celstream("engines", "list", "--json").stdout)["networks"]
    assert [row["precision"] for row in networks] == ["int8"]  # two files of it, for the CPU and the GPU
    assert len(networks[0]["paths"]) == 2
    assert networks[0]["origin"] == str(work)
    checked = celstream("engines", "check", work, *own, "--engine", "onnx", "--json")
    assert checked.returncode == 0, checked.stderr
    compared_on = list(asked)
    rows = json.loads(checked.stdout)
    measured = {row["precision"]: row for row in rows if not row["skipped"]}
    assert set(measured) == {"fp32", "fp16", "int8"}
    assert measured["fp32"]["error_max"] == 0 < measured["fp16"]["error_max"] < measured["int8"]["error_max"]
    assert measured["fp16"]["cosine_min"] > 0.9999
    assert measured["int8"]["cosine_mean"] > 0.99
    assert measured["int8"]["note"] == f"calibrated on 6 other pictures of {work}"
    assert built_on == [False]
    assert compared_on == [True]
    assert all(row["per_second"] > 0 for row in measured.values())
    skipped = [row for row in rows if row["skipped"]]
    assert {row["device"] for row in skipped} == {"cuda"}
    assert all("NVIDIA driver" in row["skipped"] for row in skipped)
    command = ["run", episode.video, "-o", "second", "--set", "embedder.precision=int8", "--adapt", "off"]
    again = subprocess.run(  # which catches Ctrl-C, and so has a process of its own
        [sys.executable, "-m", "stream.cli", *map(str, command), "--interval", "3", "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["crops"] > 0
    assert (tmp_path / "second" / "run.yaml").read_text().count(", int8") == 1
    samples = of_folder(work, 5)
    assert len(samples.crops) == len(samples.frames) == 5
    assert {frame.shape for frame in samples.frames} == {(180, 320, 3)}
    assert len({frame.tobytes() for frame in samples.frames}) == 5
    every, others = of_folder(work, 500), of_folder(work, 500, held_out=True)
    for of in ("frames", "crops"):
        seen, unseen = ({picture.tobytes() for picture in getattr(s, of)} for s in (every, others))
        assert len(seen) > 5 < len(unseen)
        assert seen.isdisjoint(unseen)


def test_detectors_are_compared_by_their_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibrated for the comparison on every other frame; float16 finds the same boxes, int8 most of them."""
    monkeypatch.setenv("CELSTREAM_CACHE", str(tmp_path))
    rows = {row.precision: row for row in compare("detector", "default", rendered(12), engines=["onnx"])
            if row.device == "cpu"}  # fmt: skip
    assert (rows["fp32"].boxes, rows["fp32"].error_max) == (1.0, 0.0)
    assert rows["fp16"].boxes is not None
    assert rows["fp16"].boxes > 0.95
    assert rows["int8"].boxes is not None
    assert 0.5 < rows["int8"].boxes <= 1
    assert rows["int8"].note == "calibrated for now on 6 pictures of a drawn episode (seed 0)"
    assert rows["int8"].pictures == 6
    assert calibration(resolve("default", "detector").path) is None  # nothing of it is kept


@without_gpu
def test_check_prints_a_table_and_each_reason_once(celstream: Celstream) -> None:
    done = celstream("engines", "check", "--embedder", "default", "--pictures", 4, "--precision", "fp16")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "embedder default, on pictures of a drawn episode (seed 1)"
    assert [line.split()[:3] for line in lines[2:4]] == [["onnx", "cpu", "fp32"], ["onnx", "cpu", "fp16"]]
    left_out = [line for line in lines if line.startswith("  left out: ")]
    assert len(left_out) == 3
    assert any("tensorrt cuda fp16: TensorRT: no NVIDIA driver" in line for line in left_out)


class Colours(torch.nn.Module):
    """(N, 3, H, W) -> (N, 6): two convolutions and a mean, for what needs layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 4), torch.nn.Conv2d(8, 6, 3, 4))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images).mean((2, 3))


def test_a_network_with_a_fixed_batch_is_compared_picture_by_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last batch is filled up, and what filled it is not among the results."""
    monkeypatch.setenv("CELSTREAM_CACHE", str(tmp_path))
    samples = rendered(10)
    rows = {}
    for name, batch in (("free", None), ("four", 4)):
        path = export(Colours(), tmp_path / f"{name}.onnx", size=(64, 64), batch=batch)
        found = compare("embedder", str(path), samples, engines=["onnx"])
        rows[name] = {row.precision: row for row in found if row.device == "cpu"}
    for precision in ("fp32", "fp16", "int8"):
        free, four = rows["free"][precision], rows["four"][precision]
        assert (free.pictures, four.pictures, four.batch, four.skipped) == (5, 5, 4, "")
        assert four.error_mean == pytest.approx(free.error_mean, rel=0.05, abs=1e-6)


DETECTOR = str(resolve("default", "detector").path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("engines", "build", "--calibration", "work"), "only int8 learns scales, --precision is fp16"),
        (("engines", "build", "--embedder", "gone.onnx"), "embedder 'gone.onnx': expected the path"),
        (("engines", "build", "--embedder", "gist"), "'gist' is computed: it has no network"),
        (("engines", "build", "--embedder", DETECTOR), "expected an embedder"),
        (("engines", "check", "gone"), "gone"),
        (("models", "pull", "resnet"), "models pull resnet: expected one of densenet161"),
        (("run", "x.mp4", "-o", "w", "--embedder", "densenet161"), "celstream models pull densenet161"),
        (("run", "x.mp4", "-o", "w", "--engine", "fast"), "'fast' is not one of"),
    ],
)
def test_errors_are_one_line(celstream: Celstream, arguments: tuple[str, ...], message: str) -> None:
    done = celstream(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_models_lists_what_can_be_pulled(celstream: Celstream, tmp_path: Path) -> None:
    done = celstream("models")
    assert done.returncode == 0
    assert "celstream models pull densenet161" in done.stdout
    assert "celstream-detector (detector)" in done.stdout
    rows = {row["name"]: row for row in json.loads(celstream("models", "--json").stdout)}
    assert rows["celstream-detector"]["state"] == "packaged"
    weights = tmp_path / "models" / "densenet161.pth"
    assert rows["densenet161"]["state"] == "not here"
    assert rows["densenet161"]["path"] == str(weights.with_suffix(".onnx"))
    weights.parent.mkdir()
    for name, state in (("densenet161.pth.part", "cut off"), (weights.name, "fetched")):
        weights.with_name(name).write_bytes(b"weights")
        assert json.loads(celstream("models", "--json").stdout)[-1]["state"] == state
    assert "its weights are here; celstream models pull densenet161 makes" in celstream("models").stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_weights_become_an_embedder(
    celstream: Celstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random ones here, in the place of torchvision's, brought in a file."""
    torch.manual_seed(0)
    torch.save(densenet161().state_dict(), tmp_path / "weights.pth")
    sha256 = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    known = [replace(download, sha256=sha256[:8]) for download in list_downloads()]
    monkeypatch.setattr("engines.models.list_downloads", lambda *_: known)
    done = celstream("models", "pull", "densenet161", "--file", "weights.pth")
    assert done.returncode == 0, done.stderr
    network = Path(done.stdout.strip())
    assert network == tmp_path / "models" / "densenet161.onnx"
    made = network.stat().st_mtime_ns
    assert celstream("models", "pull", "densenet161", "--file", "weights.pth").returncode == 0
    assert network.stat().st_mtime_ns == made
    embedder = Embedder(EmbedderConfig(model="densenet161"), device="cpu")
    assert (embedder.dim, embedder.input_size) == (2208, 224)


def test_precision_changes_the_rows_and_the_engine_does_not() -> None:
    """Segments are done again for another precision that was asked for, and kept where it is the default."""
    default = row_settings(Config())
    assert "precision" not in default["detector"]
    assert row_settings(load_config(values={"engine": "torch"})) == default
    half = row_settings(load_config(values={"embedder": {"precision": "fp16"}}))
    assert half["embedder"] == {**default["embedder"], "precision": "fp16"}
    assert half["detector"] == default["detector"]
