"""bench/gpu.py is sent to a machine that is seldom at hand: its rehearsal has to run whole on this one."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.on_gpu.place import PARTS
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
