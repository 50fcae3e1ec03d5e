"""The whole job at its limits: memory, Ctrl-C, a folder in use, a full disk; and bytes that crossed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from run_settings import COMMAND, SETTINGS

from stream import Config, load_config, run
from stream.batches import FrameBatch
from stream.cartoon.write import Episode
from stream.config import AdaptConfig
from stream.errors import WorkdirError
from stream.workdir import WorkFolder


def test_memory_is_bounded_by_the_queues(episode: Episode, tmp_path: Path) -> None:
    """However slow the network, no more than a few batches are decoded ahead."""
    from stream import detect

    alive: list[int] = []
    decoded = 0
    from stream.decode import decode_segment

    def counted(*args: Any, **kwargs: Any) -> Iterator[FrameBatch]:
        nonlocal decoded
        for batch in decode_segment(*args, **kwargs):
            decoded += 1
            yield batch

    real = detect.Detector.__call__
    seen = 0

    def slow(self: detect.Detector, batch: FrameBatch) -> Any:
        nonlocal seen
        time.sleep(0.02)
        alive.append(decoded - seen)
        seen += 1
        return real(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stream.decode.lanes.decode_segment", counted)
        patch.setattr(detect.Detector, "__call__", slow)
        config = Config(
            interval=0.1, batch_size=2, queue_size=2, segment_seconds=30, adapt=AdaptConfig(mode="off")
        )
        run(episode.video, tmp_path / "work", config, report=False)
    assert decoded > 20  # held frames travel without pixels, so a batch may span many
    assert max(alive) <= 6


def test_ctrl_c_keeps_whole_segments_and_a_second_run_goes_on(episode: Episode, tmp_path: Path) -> None:
    work = tmp_path / "work"
    process = subprocess.Popen(
        [*COMMAND, "--set", "interval=0.05", str(episode.video), "-o", str(work), "--json"],
        stdout=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while not list(work.glob("segments/*/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    kept = len(list(work.glob("segments/*/*.parquet")))
    if process.returncode == 0:
        pytest.skip("the run was over before the signal came")
    assert process.returncode == 130
    assert json.loads(output)["interrupted"] is True
    assert 1 <= kept < 4
    assert not list(work.rglob("*.tmp*"))


def test_a_second_run_in_the_same_folder_is_refused(episode: Episode, tmp_path: Path) -> None:
    with (
        WorkFolder.open(tmp_path / "work", create=True),
        pytest.raises(WorkdirError, match=r"in use|another run"),
    ):
        run(episode.video, tmp_path / "work")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_ends_the_run_and_leaves_nothing_half_written(episode: Episode, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.decode().strip()}")
    try:
        answer = subprocess.run(
            [*COMMAND, str(episode.video), "-o", str(disk / "work")],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert answer.returncode == 2
        assert "full" in answer.stderr
        assert answer.stderr.count("\n") == 1
        for path in disk.glob("work/segments/*/*.parquet"):
            pq.read_table(path)
        assert not [p for p in disk.rglob("*") if p.is_file() and "tmp" in p.name]
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_what_crossed_to_the_host_is_recorded_run_by_run(episode: Episode, tmp_path: Path) -> None:
    from kernels.device import traffic
    from stream import detect

    real = detect.Detector.__call__

    def counted(self: detect.Detector, batch: FrameBatch) -> Any:
        traffic.add("boxes", 16)  # as on a GPU, of which there is none in the ordinary tests
        return real(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detect.Detector, "__call__", counted)
        for name in ("one", "two"):
            run(episode.video, tmp_path / name, load_config(values=SETTINGS), report=False)
    records = [yaml.safe_load((tmp_path / name / "run.yaml").read_text()) for name in ("one", "two")]
    assert records[0]["copied_to_host_bytes"] == records[1]["copied_to_host_bytes"]
    assert records[0]["copied_to_host_bytes"]["boxes"] >= 16
    run(episode.video, tmp_path / "three", load_config(values=SETTINGS), report=False)
    assert "copied_to_host_bytes" not in yaml.safe_load((tmp_path / "three" / "run.yaml").read_text())
