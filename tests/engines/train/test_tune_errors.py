"""What is wrong with a training of a user's own is one clear error, before anything is done if it can be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from engines.runtime.devices import cuda_missing
from engines.train.labels import LabelledDataset, LabelledImage
from engines.train.tune import Tuned, TuneSettings, tune
from engines.train.tune.measure import Figures
from engines.train.tune.settings import parts_of
from stream.cli import app
from stream.commands.train import _told
from stream.errors import ConfigError, WorkdirError

QUICK = TuneSettings(start="scratch", epochs=3, batch=4, imgsz=(64, 96), workers=0, threads=1, val=0.25)


@pytest.fixture(scope="module")
def folder(episode_labels: Path) -> Path:
    return episode_labels


def labelled(where: Path, boxes: bool, count: int = 6) -> Path:
    where.mkdir()
    for n in range(count):
        noise = np.random.default_rng(n).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(where / f"{n}.png")
        (where / f"{n}.txt").write_text("0 .5 .5 .4 .4\n" if boxes else "")
    (where / "classes.txt").write_text("fox\n")
    return where


def test_one_class_without_a_box(tmp_path: Path) -> None:
    data = labelled(tmp_path / "data", boxes=False)
    with pytest.raises(ConfigError, match=r"found none in 6 images \(classes: fox\)"):
        tune(data, tmp_path / "m.onnx", QUICK)


def test_what_has_no_partner_is_listed_and_the_rest_is_used(tmp_path: Path) -> None:
    data = labelled(tmp_path / "data", boxes=True)
    (data / "0.txt").unlink()
    (data / "1.png").unlink()
    (data / "2.png").write_bytes((data / "2.png").read_bytes()[:3000])
    said: list[str] = []

    def stop(text: str) -> None:
        said.append(text)
        if text.startswith("epoch 1 "):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        tune(data, tmp_path / "m.onnx", replace(QUICK, epochs=9), say=stop)
    text = "\n".join(said)
    assert "image without labels" in text
    assert "0.png" in text
    assert "labels whose image is not there" in text
    assert "1.txt" in text
    assert "2.png: cannot be read" in text
    listed = (tmp_path / "m-training" / "problems.jsonl").read_text().splitlines()
    assert {json.loads(line)["kind"] for line in listed} >= {"unlabelled_image", "missing_image"}


def test_nothing_left_is_refused(tmp_path: Path) -> None:
    data = labelled(tmp_path / "data", boxes=True)
    for path in data.glob("*.png"):
        path.unlink()
    with pytest.raises(ConfigError, match="no image with usable labels"):
        tune(data, tmp_path / "m.onnx", QUICK, form="darknet")
    with pytest.raises(
        ConfigError, match=r"found 6 \.txt files but no images; if they are DarkNet labels, give --images"
    ):
        tune(data, tmp_path / "m.onnx", QUICK)
    data = labelled(tmp_path / "again", boxes=True)
    for path in data.glob("*.png"):
        path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ConfigError, match=r"(expected images to train with, but none|no image with usable)"):
        tune(data, tmp_path / "n.onnx", QUICK)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epochs": 0}, "epochs: expected 1 or more, got 0"),
        ({"rate": float("nan")}, "rate: expected more than 0"),
        ({"imgsz": (100, 96)}, "imgsz: expected multiples of 32, got 100x96"),
        ({"size": "m", "start": "default"}, "weights for size n only"),
        ({"val": 1.5}, "val: expected a share"),
    ],
)
def test_settings_out_of_range(folder: Path, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        tune(folder, tmp_path / "m.onnx", replace(QUICK, **changes))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--imgsz wide", "--imgsz: expected HEIGHTxWIDTH as 256x416, or a longer side, got 'wide'"),
        ("--imgsz 100", "imgsz: expected multiples of 32, got 100x100"),
        ("--device cuda", "; it needs a driver and torch for CUDA, pip install "),
        ("--resume --overwrite", "expected one of them, got both"),
        ("--resume", "found none; leave --resume out to start anew"),
    ],
)
def test_options_that_cannot_be(folder: Path, tmp_path: Path, flags: str, says: str) -> None:
    if "cuda" in flags and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    command = ["train", "detector", str(folder), "-o", str(tmp_path / "m.onnx"), *flags.split()]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, ConfigError)
    assert says in str(done.exception)
    if "cuda" in flags:
        assert (cuda_missing() or "torch") in str(done.exception)
    assert not (tmp_path / "m.onnx").exists()


def test_splits_of_the_labels_are_kept_and_test_images_left_alone(tmp_path: Path) -> None:
    box = np.array([[1, 1, 9, 9]], np.float32)
    images = tuple(
        LabelledImage(f"{part}{n}.png", None, 10, 10, box, np.zeros(1, np.int32), split=part)
        for part in ("train", "val", "test")
        for n in range(3)
    )
    train, held = parts_of(LabelledDataset(images, ("fox",)), None, 0)
    assert [image.name[:-5] for image in (*train, *held)] == ["train"] * 3 + ["val"] * 3
    train, held = parts_of(LabelledDataset(images, ("fox",)), 0.34, 0)
    assert (len(train) + len(held), len(held) > 0) == (6, True)
    assert not any("test" in image.name for image in (*train, *held))


@pytest.mark.parametrize("place", ["/proc/m.onnx", "file/m.onnx", "m-training"])
def test_a_place_that_cannot_be_written_is_told_before_anything_is_done(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    if place == "m-training":  # where checkpoints would go
        (tmp_path / place).write_text("")
        place = "m.onnx"
    with pytest.raises(WorkdirError, match="cannot be written"):
        tune(tmp_path / "no labels", tmp_path / place, QUICK)
    assert len(list(tmp_path.iterdir())) <= 2


def test_a_training_that_did_not_help_says_so(tmp_path: Path) -> None:
    said = []
    for taken in (0, 2):
        facts = {"taken_epoch": taken, "epochs": 3, "val_images": 4}
        said.append(_told(Tuned(tmp_path / "m.onnx", tmp_path, Figures(0.1, 0.05, 0.2, 0.3, {}), facts)))
    assert "(no epoch was better than before training; more labels or more epochs may help)" in said[0]
    assert "(epoch 2 of 3)" in said[1]


def test_torch_that_does_not_load_is_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libcudart.so.12: gone')")
    torn = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from stream.cli import main; main()"
    command = [sys.executable, "-c", torn, "train", "detector", str(folder), "-o", str(tmp_path / "m.onnx")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "training needs torch, which is installed and does not load (ImportError: libcudart" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_torch_the_command_says_how_to_get_it(folder: Path, tmp_path: Path) -> None:
    blind = "import sys; sys.modules['torch'] = None; from stream.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", blind, "train", "detector", str(folder), "-o", str(tmp_path / "m.onnx")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert not list(tmp_path.iterdir())
    assert "training needs torch, not installed here: pip install 'celstream[cpu,train]'" in done.stderr
    assert done.stdout == ""
