"""The command as a person types it: output, exit code, and one clear line when the input is bad."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stream import cluster, load_config, run
from stream.cartoon.write import Episode
from stream.cli import app
from stream.errors import ConfigError


def celstream(
    *args: object, timeout: float = 120, start: Sequence[str] = ("-m", "stream.cli")
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *start, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


COMMANDS = (
    *("run", "cluster", "name", "forget", "report", "evaluate", "demo", "doctor", "models"),
    *("labels", "adapt", "train", "engines"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    answer = celstream(command, "--help")
    assert answer.returncode == 0
    assert f"celstream {command}" in answer.stdout or f"{command} [OPTIONS]" in answer.stdout


def test_run_prints_one_json_object_and_evaluate_scores_it(episode: Episode, tmp_path: Path) -> None:
    work = tmp_path / "work"
    answer = celstream("run", episode.video, "-o", work, "--json", "--log", "json", "--interval", 1)
    assert answer.returncode == 0, answer.stderr
    result = json.loads(answer.stdout)
    wanted = (
        "videos frames detections crops clusters seconds times_real_time peak_rss_bytes quarantined fallbacks"
    )
    assert set(wanted.split()) <= set(result)
    assert (result["videos"], result["frames"]) == (1, 12)
    assert result["peak_rss_bytes"] > 50e6
    events = [json.loads(line)["event"] for line in answer.stderr.splitlines()]
    assert events[0] == "begin" or "note" in events
    assert events[-1] in ("end", "segment", "note")
    scores = celstream("evaluate", work, "--labels", episode.boxes_csv, "--json")
    assert scores.returncode == 0, scores.stderr
    figures = json.loads(scores.stdout)
    names = "n recall50 precision50 ap50 purity compactness clusters_per_identity ami"
    assert set(names.split()) <= set(figures)
    again = celstream("cluster", work, "--clusters", "2:4", "--device", "cpu", "--json")
    assert 2 <= json.loads(again.stdout)["clusters"] <= 4
    assert json.loads(again.stdout)["device"] == "cpu"


def test_given_boxes_take_the_detectors_place(episode: Episode, tmp_path: Path) -> None:
    answer = celstream(
        "run",
        episode.video,
        "-o",
        tmp_path / "w",
        "--boxes",
        episode.boxes_csv,
        "--json",
        "--set",
        "crops.min_size=1",
    )
    assert answer.returncode == 0, answer.stderr
    scores = celstream("evaluate", tmp_path / "w", "--labels", episode.boxes_csv, "--json")
    figures = json.loads(scores.stdout)
    assert figures["recall50"] > 0.99
    assert figures["precision50"] > 0.99
    both = celstream(
        "run", episode.video, "-o", tmp_path / "w", "--boxes", episode.boxes_csv, "--detector", "mine.onnx",
        "--set", "crops.min_size=1",
    )  # fmt: skip
    assert both.returncode == 0, both.stderr
    assert f"boxes of {episode.boxes_csv} are used, and not the detector mine.onnx" in both.stderr


def refused(code: int, says: str, *args: object, **how: Any) -> None:
    answer = celstream(*args, **how)
    assert answer.returncode == code, answer.stderr
    assert says.lower() in answer.stderr.lower(), answer.stderr
    assert "Traceback" not in answer.stderr


def test_more_clusters_than_tracks_are_refused_by_cluster_and_noted_by_run(
    episode: Episode, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    answer = celstream("run", episode.video, "-o", work, "--clusters", "500:600", "--json")
    assert answer.returncode == 0, answer.stderr
    tracks = json.loads(answer.stdout)["tracks"]
    assert "500:600 clusters were asked for" in answer.stderr
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.name != ".lock"}
    says = f"at least 500 tracks to cluster, and there are only {tracks} tracks"
    refused(2, says, "cluster", work, "--clusters", "500:600")
    refused(2, says, "cluster", work, "--set", "cluster.clusters=500:600")
    with pytest.raises(ConfigError, match=says):
        cluster(work, clusters=(500, 600))
    assert before == {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.name != ".lock"}
    assert cluster(work, clusters=(tracks, 600), report=False).meta["clusters"] == tracks
    cluster(work, report=False)  # what the run was asked for is no error now


def test_bad_files_each_have_their_reason(bad_inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "w"
    refused(3, "text file", "run", bad_inputs / "notes.mp4", "-o", out)
    refused(3, "empty", "run", bad_inputs / "empty.mkv", "-o", out)
    refused(3, "no such", "run", tmp_path / "nowhere.mp4", "-o", out)


def test_a_mistyped_path_leaves_no_folder_behind(bad_inputs: Path, episode: Episode, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "w"
    for wrong in ("nowhere.mp4", "nothing-*.mp4"):
        answer = celstream("run", tmp_path / wrong, "-o", out)
        assert (answer.returncode, answer.stdout) == (3, "No input could be used.\n")
        assert "no such file" in answer.stderr or "no file matches" in answer.stderr
        assert not out.parent.exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    refused(2, "found neither", "run", episode.video, "-o", mine, "--detector", tmp_path / "none.onnx")
    assert list(mine.iterdir()) == []  # an empty folder of the user's own stays
    # what is there and bad is on record, and an older work folder stays whatever is asked of it
    celstream("run", bad_inputs, "-o", out)
    assert (out / "quarantine.jsonl").exists()
    refused(3, "no such", "run", tmp_path / "nowhere.mp4", "-o", out)
    assert (out / "run.yaml").exists()


def test_bad_settings_are_usage_errors(episode: Episode, tmp_path: Path) -> None:
    base = ("run", episode.video, "-o", tmp_path / "w")
    refused(2, "greater than 0", *base, "--interval", 0)
    refused(2, "greater than 0", *base, "--interval", -1)
    refused(2, "min <= max", *base, "--clusters", "9:3")
    refused(2, "did you mean 'interval'", *base, "--set", "intervall=3")
    refused(2, "cannot be read", *base, "--boxes", tmp_path / "none.csv")
    refused(2, "5:40", *base, "--clusters", "many")
    refused(2, "give one of them", *base, "--clusters", "2:3", "--strength", 0.5)
    refused(2, "finite", *base, "--interval", "inf")
    assert not (tmp_path / "w" / "segments").exists()


def test_boxes_of_another_video_are_refused(episode: Episode, tmp_path: Path) -> None:
    other = tmp_path / "boxes.csv"
    other.write_text(episode.boxes_csv.read_text().replace("show.mp4", "another.mp4"))
    refused(
        2,
        "are of another.mp4, the run is of show.mp4",
        "run",
        episode.video,
        "-o",
        tmp_path / "w",
        "--boxes",
        other,
    )


def test_an_onnx_file_that_is_no_detector_is_refused(episode: Episode, tmp_path: Path) -> None:
    from engines.models import resolve

    embedder = resolve("default", "embedder").path
    refused(2, "detector", "run", episode.video, "-o", tmp_path / "w", "--detector", embedder)
    text = tmp_path / "x.onnx"
    text.write_text("not a network")
    refused(2, str(text), "run", episode.video, "-o", tmp_path / "w", "--detector", text)


def test_cuda_without_a_gpu_is_one_line(episode: Episode, tmp_path: Path) -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("there is a GPU here")
    work = tmp_path / "w"
    refused(2, "pip install", "run", episode.video, "-o", work, "--device", "cuda")
    run(episode.video, work, load_config(values={"interval": 3.0}), report=False, adapt="off")
    says = "it needs a driver and pip install 'celstream[gpu]'; or use 'auto'"
    done = CliRunner().invoke(app, ["cluster", str(work), "--device", "cuda"])
    assert isinstance(done.exception, ConfigError)
    assert says in str(done.exception)
    # a folder that was made on a GPU
    record = (work / "run.yaml").read_text()
    (work / "run.yaml").write_text(record.replace("\n  device: auto\n", "\n  device: cuda\n"))
    with pytest.raises(ConfigError, match=re.escape(says)):
        cluster(work, report=False)
    assert cluster(work, device="auto", report=False).meta["device"] == "cpu"
    with pytest.raises(ConfigError, match=r"device: .*'gpu'"):
        cluster(work, device="gpu")


def test_another_projects_folder_is_left_alone(episode: Episode, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    refused(2, "another", "run", episode.video, "-o", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_url_that_does_not_answer_times_out(tmp_path: Path) -> None:
    from stream.sources import find_videos

    assert find_videos.__kwdefaults__["timeout_s"] == 10
    hasty = "from stream import cli, sources; sources.find_videos.__kwdefaults__['timeout_s'] = 1; cli.main()"
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()  # accepts, and never says a word
        url = f"http://127.0.0.1:{server.getsockname()[1]}/film.mp4"
        refused(3, "did not answer within 1 s", "run", url, "-o", tmp_path / "w", start=["-c", hasty])


def test_models_and_doctor_speak_json() -> None:
    kinds = {model["kind"] for model in json.loads(celstream("models", "--json").stdout)}
    assert kinds == {"detector", "embedder"}
    checks = {check["name"]: check["ok"] for check in json.loads(celstream("doctor", "--json").stdout)}
    assert checks["default detector"]
    assert checks["decode h264"]


@pytest.mark.parametrize(
    ("args", "says", "command"),
    [
        (["--nope"], "--nope", "celstream"),
        (["frobnicate"], "frobnicate", "celstream"),
        (["run"], "INPUT", "celstream run"),
        (["run", "x"], "--out", "celstream run"),
        (["run", "x", "-o", "y", "--interval", "often"], "--interval", "celstream run"),
        (["run", "x", "-o", "y", "--sampling", "all"], "'interval', 'keyframes', 'scene'", "celstream run"),
        (["cluster"], "WORKDIR", "celstream cluster"),
    ],
)
def test_a_usage_error_is_one_line_and_where_help_is(args: list[str], says: str, command: str) -> None:
    answer = celstream(*args)
    first, hint = answer.stderr.splitlines()
    assert answer.returncode == 2
    assert first.startswith("celstream: ")
    assert says in first
    assert hint == f"Try `{command} --help`."
    assert answer.stdout == ""


def test_every_quarantined_input_is_an_event_of_its_own(bad_inputs: Path, tmp_path: Path) -> None:
    inputs = [bad_inputs, tmp_path / "nowhere.mp4"]
    answer = celstream("run", *inputs, "-o", tmp_path / "w", "--log", "json", "--json")
    events = [json.loads(line) for line in answer.stderr.splitlines()]
    told = [e for e in events if e["event"] == "quarantined"]
    assert {Path(e["uri"]).name for e in told} == {"notes.mp4", "empty.mkv", "nowhere.mp4"}
    wanted = json.loads(answer.stdout)["quarantined"]
    assert [{k: e[k] for k in ("uri", "stage", "reason")} for e in told] == wanted
    plain = celstream("run", *inputs, "-o", tmp_path / "w")
    assert plain.stderr.count("quarantined: ") == 3


def test_the_console_and_the_report_tell_the_same_speed(episode: Episode, tmp_path: Path) -> None:
    answer = celstream("run", episode.video, "-o", tmp_path / "w", "--set", "segment_seconds=60")
    found = re.search(r"(\d+ clusters?) from .*, ([\d.]+ m?i?n? ?s) \(([\d.]+)x real time\)", answer.stdout)
    assert found, answer.stdout
    page = (tmp_path / "w" / "report.html").read_text()
    assert f"{found[3]}×<small>real time" in page
    assert f"<dt>Took</dt><dd>{found[2]}</dd>" in page
    again = celstream("run", episode.video, "-o", tmp_path / "w", "--set", "segment_seconds=60")
    assert "1 of 1 segment was done before" in again.stdout
    assert "real time" not in again.stdout  # nothing was decoded, so there is no speed


def test_ctrl_c_twice_says_so_in_one_line(episode: Episode, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stream.cli", "run", str(episode.video), "-o", str(tmp_path / "w")]
    options = ["--json", "--log", "json", "--interval", "0.02", "--set", "held=0"]
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if '"begin"' in line:
            process.send_signal(signal.SIGINT)
        if "stopping after" in line:
            process.send_signal(signal.SIGINT)
    if process.wait() == 130 and len(said) > 3 and '"end"' in said[-1]:
        pytest.skip("the batch was over before the second signal came")
    assert process.returncode == 130
    assert said[-1] == "celstream: stopped at once; the segment in work is lost, whole ones are kept\n"


def test_a_decoder_that_is_not_there_is_refused_before_any_video(episode: Episode, tmp_path: Path) -> None:
    from stream.decode import nvdec

    if nvdec.missing() is None:
        pytest.skip("this machine has NVDEC")
    answer = celstream("run", episode.video, "-o", tmp_path / "work", "--set", "decode.decoder=nvdec")
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1
    assert answer.stderr.startswith("celstream: decode.decoder nvdec: ")
    assert "pip install" in answer.stderr
    assert not (tmp_path / "work").exists()
