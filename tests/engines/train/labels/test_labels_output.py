"""The output folder: whole or not at all, never over what somebody put there, never into the source."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engines.train.labels import convert
from engines.train.labels.output import MARK, output_folder
from stream.errors import ConfigError, WorkdirError

Make = Callable[..., Path]


@pytest.fixture
def source(picture: Make, text: Make, tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        picture(f"set/images/{name}.png")
        text(f"set/labels/{name}.txt", "0 .5 .5 .5 .5\n")
    text("set/obj.names", "bunny\n")
    return tmp_path / "set"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_source_stays_and_a_former_conversion_is_replaced(source: Path, tmp_path: Path) -> None:
    before, out = contents(source), tmp_path / "out"
    convert(source, "voc", out)
    first = contents(out)
    convert(source, "voc", out)
    assert contents(out) == first  # the same again, to the last byte
    convert(source, "coco", out)
    assert sorted(p.name for p in out.iterdir()) == ["annotations", MARK, "images"]
    assert contents(source) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "set"]  # nothing is left beside it


def test_folder_of_others_is_refused_and_untouched(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(WorkdirError, match=r"thesis\.txt"):
        convert(source, "voc", tmp_path / "out")
    assert contents(tmp_path / "out") == {"thesis.txt": b"years of work"}


def test_work_done_in_a_former_conversion_is_not_overwritten(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(source, "darknet", out)
    label = out / "labels" / "images" / "a.txt"
    label = next(out.rglob("a.txt"))
    written = label.read_text()
    label.write_text("0 0.5 0.5 0.4 0.4\n")  # corrected by hand
    with pytest.raises(WorkdirError, match=r"a\.txt was changed since"):
        convert(source, "darknet", out)
    label.write_text(written)
    convert(source, "darknet", out)
    (out / "labels" / "new.txt").write_text("")
    with pytest.raises(WorkdirError, match=r"new\.txt is not of the former conversion"):
        convert(source, "darknet", out)


def test_file_in_the_folders_place_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(WorkdirError, match="found a file"):
        convert(source, "voc", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("out", ["set", "set/converted", ".", "set/images/x"])
def test_output_apart_from_the_source(source: Path, tmp_path: Path, out: str) -> None:
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match="overlaps"):
        convert(source, "voc", tmp_path / out)
    assert contents(tmp_path) == before


def test_failure_leaves_the_former_conversion_and_nothing_else(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(source, "voc", out)
    before = contents(out)

    def fail() -> None:
        with output_folder(out, [source], {}) as folder:
            (folder / "half.txt").write_text("half")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        fail()
    assert contents(out) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "set"]


def test_killed_conversion_leaves_no_output_and_the_next_one_cleans_up(source: Path, tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path\n"
        "from engines.train.labels.output import output_folder\n"
        "with output_folder(Path(sys.argv[1]), [], {}) as folder:\n"
        "    (folder / 'half.txt').write_text('half'); print('at work', flush=True); time.sleep(60)\n"
    )
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(out)], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": "."}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"at work\n"
        left = [p for p in tmp_path.iterdir() if p.name.startswith(".out.")]
        assert len(left) == 1
        convert(source, "voc", out)  # the other one is alive: its folder stays
        assert left[0].exists()
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while left[0].exists() and time.monotonic() < deadline:
        convert(source, "voc", out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "set"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_is_one_clear_error(source: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(WorkdirError, match="cannot be written"):
        convert(source, "voc", tmp_path / "locked" / "out")


@pytest.mark.parametrize("copy", ["copy", "hardlink", "symlink"])
def test_images_are_copied_or_linked(source: Path, tmp_path: Path, copy: str) -> None:
    convert(source, "coco", tmp_path / "out", copy=copy)  # type: ignore[arg-type]
    (made,) = (tmp_path / "out").rglob("a.png")
    assert made.read_bytes() == (source / "images" / "a.png").read_bytes()
    assert made.is_symlink() == (copy == "symlink")
    assert (made.stat().st_nlink == 2) == (copy == "hardlink")
