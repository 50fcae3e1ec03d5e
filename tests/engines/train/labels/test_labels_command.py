"""``celstream labels`` as a person types it: what it prints, what it writes, and its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Make = Callable[..., Path]


def celstream(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stream.cli", "labels", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture
def source(picture: Make, text: Make, tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        picture(f"set/{name}.png")
        text(f"set/{name}.txt", "0 .5 .5 .5 .5\n")
    text("set/obj.names", "bunny\nfrank\n")
    return tmp_path / "set"


def test_convert_says_what_it_did(source: Path, tmp_path: Path) -> None:
    answer = celstream("convert", source, "--to", "coco", "--out", tmp_path / "out", "--val", 0.4)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == f"darknet: 3 images (2 train, 1 val), 3 boxes, 2 classes -> {tmp_path / 'out'}\n"
    assert answer.stderr == ""
    assert (tmp_path / "out" / "annotations" / "instances_val.json").is_file()


def test_what_is_left_out_is_told_counted_and_kept(source: Path, tmp_path: Path) -> None:
    (source / "b.txt").write_text("0 .5 .5 .5 .5\n7 .5 .5 .5 .5\n0 1 .5 .5 .5\n")
    answer = celstream("convert", source, "--to", "voc", "--out", tmp_path / "out", "--json")
    assert answer.returncode == 3
    result = json.loads(answer.stdout)
    assert result["counts"] == {"unknown_class": 1, "outside": 1, "rounded": 1}
    assert f"{source / 'b.txt'}, line 2: class 7" in answer.stderr
    lines = (tmp_path / "out" / "problems.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result["problems"]
    strict = celstream("convert", source, "--to", "voc", "--out", tmp_path / "strict", "--strict")
    assert strict.returncode == 2
    assert "refused by strict, 2 problems" in strict.stderr
    assert not (tmp_path / "strict").exists()


def test_only_clipping_is_done_without_quarantine(source: Path, tmp_path: Path) -> None:
    (source / "b.txt").write_text("0 1 .5 .5 .5\n")
    assert celstream("convert", source, "--to", "coco", "-o", tmp_path / "out").returncode == 0


def test_frames_that_are_marked_are_left_out_as_asked(picture: Make, text: Make, tmp_path: Path) -> None:
    head = "video_file,time_s,frame_width,frame_height,x1,y1,x2,y2,identity,flags\n"
    for name in ("a.png", "b.png"):
        picture(f"csv/{name}")
    text("csv/x_boxes.csv", f"{head}a.png,0,100,50,1,2,30,40,bunny,\nb.png,0,100,50,1,2,30,40,bunny,\n")
    text("csv/x_frames.csv", "video_file,time_s,status\nb.png,0,credits\n")
    answer = celstream("convert", tmp_path / "csv", "--to", "coco", "--out", tmp_path / "out")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("csv: 1 images, 1 boxes")
    assert "not_judged: frame marked as credits or uncertain (left out as marked)" in answer.stderr


def test_check_lists_and_writes_nothing(source: Path, tmp_path: Path) -> None:
    assert celstream("check", source).stdout == "darknet: 3 images, 3 boxes, 2 classes\n"
    (source / "a.png").unlink()
    answer = celstream("check", source)
    assert answer.returncode == 3
    assert f"missing_image: {source / 'a.txt'}: no image called a (left out)" in answer.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["convert", "none", "--to", "voc", "--out", "x"], "none: no such file or folder"),
        (["check", "none", "--from", "coco"], "none: no such file or folder"),
        (["check", "SET", "--images", "none"], "none: no such folder"),
        (["check", "SET", "--names", "none"], "none: no such file"),
        (["check", "SET", "--labels-only"], "its size is in the image alone"),
        (["check", "SET", "--from", "voc"], "found no .xml"),
        (["convert", "SET", "--to", "voc", "--out", "SET/x"], "overlaps"),
        (["convert", "SET", "--to", "yolo", "--out", "x"], "yolo"),
        (["convert", "SET", "--to", "voc", "--out", "x", "--val", "2"], "over 0 and below 1"),
    ],
)
def test_bad_use_is_one_clear_message(source: Path, tmp_path: Path, args: list[str], says: str) -> None:
    given = [str(source / arg[4:]) if arg.startswith("SET") else arg for arg in args]
    answer = celstream(*given)
    assert answer.returncode == 2, answer.stderr
    assert says in answer.stderr
    assert "Traceback" not in answer.stderr


def test_other_commands_do_not_pay_for_it() -> None:
    script = (
        "import sys, stream.cli; print([m for m in ('engines.train', 'PIL', 'numpy') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert answer.stdout == "[]\n"
