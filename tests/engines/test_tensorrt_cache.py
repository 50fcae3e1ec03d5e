"""Engines are built once: by one of several processes, anew when anything changes, never half."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from needs import needs

from engines.models import resolve
from engines.runtime import EngineError
from engines.runtime.cache import Cache, cache_folder, locked
from engines.runtime.precision import calibrate, outdated, prepare
from engines.runtime.tensorrt import PlanError, get_plan, stale
from engines.runtime.tensorrt.build import Messages
from engines.runtime.tensorrt.plans import load_plan

needs("tensorrt_rtx", "pip install tensorrt-rtx-cu13 (wheels for Linux on x86-64 only)")

EMBEDDER = resolve("default", "embedder").path

BUILD = """
import sys, time
from pathlib import Path
from engines.runtime.tensorrt import get_plan

def tell(state):
    if state.done:
        print("built", flush=True)
    elif "hang" in sys.argv:
        print("building", flush=True)
        time.sleep(100)

def say(message):
    print(message, flush=True)

plan = get_plan(sys.argv[1], "fp32", cache=Path(sys.argv[2]), on_progress=tell, say=say)
print("have", plan.path, flush=True)
"""


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILD, str(EMBEDDER), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def left_over(cache: Path) -> list[str]:
    return [p.name for p in (cache / "engines").iterdir() if p.name.startswith(".")]


def test_two_processes_build_once(tmp_path: Path) -> None:
    both = [start(tmp_path), start(tmp_path)]
    told = [process.communicate(timeout=120)[0].splitlines() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("built" in lines for lines in told) == 1
    assert told[0][-1] == told[1][-1]
    assert told[0][-1].startswith("have ")
    assert left_over(tmp_path) == []


def test_a_process_killed_in_the_middle_leaves_nothing_broken(tmp_path: Path) -> None:
    """Another process waits for it meanwhile, and builds when it is dead."""
    first = start(tmp_path, "hang")
    assert first.stdout is not None
    assert first.stdout.readline() == "building\n"
    second = start(tmp_path)
    assert second.stdout is not None
    assert second.stdout.readline() == (
        f"waiting for another process that is making the engine of {EMBEDDER.name} in fp32 for TensorRT-RTX\n"
    )
    assert len(left_over(tmp_path)) == 1
    assert Cache("engines", tmp_path).entries() == []
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    told = second.communicate(timeout=120)[0].splitlines()
    assert second.returncode == 0
    assert "built" in told
    assert left_over(tmp_path) == []
    assert len(Cache("engines", tmp_path).entries()) == 1


def test_a_changed_network_or_precision_is_another_engine(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    shutil.copy(EMBEDDER, path)
    first = get_plan(path, "fp32", cache=tmp_path)
    assert get_plan(path, "fp32", cache=tmp_path).path == first.path
    half = get_plan(path, "fp16", cache=tmp_path)
    noise = np.random.default_rng(0).random((2, 3, 64, 64), np.float32)
    calibrate(path, [{"images": noise}], "noise", cache=Cache("networks", tmp_path))
    int8 = get_plan(path, "int8", cache=tmp_path)
    assert len({first.path, half.path, int8.path}) == 3
    before = prepare(path, "int8", rest="fp16", cache=Cache("networks", tmp_path))
    networks = Cache("networks", tmp_path)
    assert stale(int8.about, cache=tmp_path) == ""
    assert [outdated(entry.about, cache=networks) for entry in networks.entries()] == [""] * 3
    calibrate(path, [{"images": noise * 0.5}], "darker noise", cache=networks)
    assert stale(int8.about, cache=tmp_path) == "it was calibrated anew since"
    assert stale(half.about, cache=tmp_path) == ""
    assert sorted(outdated(entry.about, cache=networks) for entry in networks.entries()) == [
        "", "", "it was calibrated anew since",
    ]  # fmt: skip
    after = prepare(path, "int8", rest="fp16", cache=Cache("networks", tmp_path))
    assert before.recipe != after.recipe  # which is in the engine's key
    assert stale(first.about) == ""
    model = onnx.load(path)
    model.metadata_props[0].value += " "
    onnx.save(model, path)
    assert stale(first.about) == "its network has changed"
    assert get_plan(path, "fp32", cache=tmp_path).path != first.path
    path.unlink()
    assert stale(first.about) == "its network is gone"


def test_what_is_stale_and_why(tmp_path: Path) -> None:
    about = get_plan(EMBEDDER, "fp32", cache=tmp_path).about
    for change, why in (
        ({"version": "1.0"}, "TensorRT-RTX is"),
        ({"flavour": "TensorRT-XL"}, "TensorRT-XL is not installed"),
        ({"maker": 0}, "another version of celstream"),
    ):
        assert why in stale({**about, "key": {**about["key"], **change}})


def test_a_damaged_entry_is_built_again(tmp_path: Path) -> None:
    plan = get_plan(EMBEDDER, "fp32", cache=tmp_path)
    whole = plan.path.read_bytes()
    plan.path.write_bytes(whole[:1000])
    cache = Cache("engines", tmp_path)
    assert cache.entries() == []
    (broken,) = cache.damaged()
    assert (broken.path, broken.about["name"]) == (plan.entry.path, EMBEDDER.stem)
    assert broken.why == f"engine.plan has 1000 bytes in place of {len(whole)}"
    assert get_plan(EMBEDDER, "fp32", cache=tmp_path).path.stat().st_size == len(whole)
    assert cache.damaged() == []
    plan.path.unlink()
    assert [entry.why for entry in cache.damaged()] == ["engine.plan is missing"]
    (plan.entry.path / "about.json").write_text("{")
    assert [entry.why for entry in cache.damaged()] == ["about.json is not as it was written"]
    assert get_plan(EMBEDDER, "fp32", cache=tmp_path).path.stat().st_size == len(whole)
    assert left_over(tmp_path) == []


def test_a_plan_that_does_not_fit_says_what_it_is_for(tmp_path: Path) -> None:
    """TensorRT's own refusal, here because there is no driver, or because the content is none."""
    plan = get_plan(EMBEDDER, "fp32", cache=tmp_path)
    plan.path.write_bytes(b"no plan at all" * 100)
    trt = plan.flavour.module
    messages = Messages(trt)
    with pytest.raises(
        PlanError, match=r"celstream-embedder does not fit: it was built with TensorRT-RTX .* for any"
    ):
        load_plan(plan, trt.Runtime(messages.logger), messages)


def test_a_failing_maker_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache("things", tmp_path)

    def fail(folder: Path) -> dict[str, str]:
        (folder / "part").write_bytes(b"x")
        raise EngineError("no")

    with pytest.raises(EngineError, match=r"^no$"):
        cache.get({"a": 1}, fail)
    assert [p.name for p in cache.folder.iterdir() if p.suffix != ".lock"] == []
    entry = cache.get({"a": 1}, lambda folder: {"n": (folder / "file").write_bytes(b"abc")})
    assert entry.about["n"] == 3
    assert entry.size > 3
    assert cache.get({"a": 1}, fail).path == entry.path
    cache.remove(entry)
    assert cache.entries() == []


def test_threads_take_turns(tmp_path: Path) -> None:
    cache, made = Cache("things", tmp_path), []

    def make(folder: Path) -> dict[str, str]:
        made.append(folder)
        return {}

    threads = [threading.Thread(target=cache.get, args=({"b": 2}, make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_an_entry_is_of_its_whole_key(tmp_path: Path) -> None:
    """Two keys with one folder name (a chance of 2^-64, or tampering) are not taken for each other."""
    cache = Cache("things", tmp_path)
    entry = cache.get({"a": 1}, lambda folder: {})
    about = json.loads((entry.path / "about.json").read_text())
    about["key"] = {"a": 2}
    (entry.path / "about.json").write_text(json.dumps(about))
    assert cache.find({"a": 1}) is None


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(EngineError, match=r"cannot be written .*CELSTREAM_CACHE"):
        Cache("things", blocked).get({}, lambda folder: {})


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CELSTREAM_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("CELSTREAM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "celstream"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "celstream"


def test_a_lock_is_held_until_it_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    said: list[str] = []
    with locked(path, None):
        waiting = threading.Thread(target=lambda: locked(path, said.append).__enter__())
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()
    assert said == ["waiting for another process that is making x"]
