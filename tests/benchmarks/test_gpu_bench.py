"""bench/gpu.py is sent to a machine that is seldom at hand: its rehearsal has to run whole on this one."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nvrtc import compile_source

from bench.common import machine
from bench.gpu import draw
from bench.on_gpu.place import HOLD, PARTS, Place
from bench.on_gpu.roofline import plot
from engines.runtime.devices import cuda_missing

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def rehearsed() -> dict:
    command = [sys.executable, "bench/gpu.py", "--rehearse", "--json"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


@pytest.mark.slow
def test_every_part_runs(rehearsed: dict) -> None:
    for key in ("nv12_to_rgb_gb_per_s", "letterbox_320_float16_gb_per_s", "crops_gb_per_s", "nms_ms"):
        assert rehearsed[key] >= 0
    assert rehearsed["detector_onnx_error"] < 1e-4
    assert rehearsed["decode_hevc_10s_frames_per_s"] > 0
    assert rehearsed["whole_frames"] == 15
    assert "failed" not in rehearsed
    # what has no rehearsal is named, and nothing else is
    assert {line.partition(":")[0] for line in rehearsed["skipped"]} == {
        "affinity",
        "detector_tensorrt",
        "embedder_tensorrt",
    }


@pytest.mark.slow
def test_what_was_measured_is_drawn(rehearsed: dict, tmp_path: Path) -> None:
    plot(rehearsed, tmp_path / "roofline.png")
    assert (tmp_path / "roofline.png").stat().st_size > 10_000


def test_without_a_gpu_every_part_is_named_with_what_it_lacks() -> None:
    lacks = cuda_missing()
    if lacks is None:
        pytest.skip("this machine has a GPU")
    answer = subprocess.run(
        [sys.executable, "bench/gpu.py", "--json"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert answer.returncode == 0
    skipped = json.loads(answer.stdout)["skipped"]
    assert [line.split()[0] for line in skipped] == ["limits", *PARTS]
    assert all(lacks in line for line in skipped)
    told = [line.removeprefix("skipped ") for line in answer.stderr.splitlines()]
    assert told == [*skipped, "nothing was measured; --rehearse tries every part on the CPU"]
    if find_spec("cupy") is None:
        assert "not installed: cupy; pip install 'celstream[gpu,train]'" in skipped[0]


class Timeline:
    """A GPU that works off, one after the other, what the host asks for, both by a clock of their own."""

    def __init__(self) -> None:
        self.now = self.free_at = 0.0  # seconds

    def ask(self, host_s: float, device_s: float) -> None:
        self.now += host_s
        self.free_at = max(self.free_at, self.now) + device_s

    def wait(self) -> None:
        self.now = max(self.now, self.free_at)

    def launch(self, kernel: str, blocks: int, threads: Any, shared: int, arguments: tuple[Any, ...]) -> None:
        assert (kernel, blocks, arguments[0].nbytes) == ("hold", 1, 8)
        self.ask(1e-5, float(arguments[0]) / 1e9)

    def event(self) -> Any:
        found = SimpleNamespace(at=0.0, synchronize=self.wait)
        found.record = lambda: setattr(found, "at", max(self.now, self.free_at))
        return found


def test_what_the_host_takes_to_ask_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Timeline()
    cuda = SimpleNamespace(
        Event=line.event, Device=lambda: SimpleNamespace(synchronize=line.wait),
        get_elapsed_time=lambda start, stop: 1e3 * (stop.at - start.at),
    )  # fmt: skip
    place = Place("cpu")
    place.rehearsal, place.xp = False, SimpleNamespace(cuda=cuda)
    monkeypatch.setattr("bench.on_gpu.place.open_device", lambda source: line)
    monkeypatch.setattr("bench.on_gpu.place.time", SimpleNamespace(perf_counter=lambda: line.now))
    for host_s, device_s in ((8e-4, 3e-5), (1e-5, 2e-3)):
        assert place.seconds(lambda: line.ask(host_s, device_s)) == pytest.approx(device_s)  # noqa: B023


@pytest.mark.parametrize("architecture", [80, 90, 120])
def test_nvrtc_compiles_what_holds_the_gpu_up(architecture: int) -> None:
    status, log, _ = compile_source(HOLD, architecture)
    assert (status, log.strip("\0")) == (0, "")


def test_the_record_needs_no_package_that_the_reference_machine_lacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("psutil", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    assert machine()["memory_gib"] > 0.1
    draw({"device": "a GPU", "copy_gb_per_s": 4000.0, "matrix_fp16_tflop_per_s": 700.0})
    assert "skipped the plot: " in capsys.readouterr().err
