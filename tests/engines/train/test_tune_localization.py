"""``--localization-loss``: each variant learns, resumes as itself, exports scores that are probabilities."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from engines.models import resolve
from engines.nets.yolo import Yolo
from engines.train.labels import LabelledDataset, Problems, read_labels
from engines.train.localization import VARIANTS
from engines.train.tune import LossError, TuneSettings
from engines.train.tune.course import Course
from engines.train.tune.data import Batches, BatchSettings, picture_of
from engines.train.tune.measure import detect
from engines.train.tune.settings import parts_of
from engines.train.tune.start import at_working_point, new_detector, read_detector, with_classes
from engines.train.tune.views import ViewSettings
from stream.batches import FrameBatch, Segment, Video
from stream.cli import app
from stream.config import DetectorConfig
from stream.detect import Detector
from stream.errors import ConfigError

QUICK = TuneSettings(start="scratch", epochs=2, batch=4, imgsz=(64, 96), workers=0, threads=1, val=0.25)
PLAIN = ViewSettings(mosaic=0, mirror=0, shrink=1, grow=1, stretch=0, hue=0, gain=0, flatten=0, worn=0)


@pytest.fixture(scope="module")
def folder(episode_labels: Path) -> Path:
    return episode_labels


@pytest.fixture(scope="module")
def parts(folder: Path) -> tuple[LabelledDataset, LabelledDataset]:
    return parts_of(read_labels(folder, Problems()), 0.25, 0)


def course(
    parts: tuple[LabelledDataset, LabelledDataset], where: Path, variant: str, **changes: Any
) -> Course:
    torch.manual_seed(0)
    background = variant != "iou"
    net = Yolo(len(parts[0].class_names), (8, 8, 8, 16, 16), 1, 8, background=background)
    settings = replace(QUICK, localization_loss=variant, **changes).checked()  # type: ignore[arg-type]
    where.mkdir(exist_ok=True)
    return Course(net, *parts, settings, (64, 96), where, say=lambda _: None)


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_learns_class_and_place(variant: str, parts: Any, tmp_path: Path) -> None:
    frames = LabelledDataset(parts[0].images[:2], parts[0].class_names)
    tuner = course((frames, frames), tmp_path / "a", variant, rate=6e-3, views=PLAIN).tuner
    batches = Batches(frames, BatchSettings(2, (64, 96), 0, PLAIN), 0)
    losses = [tuner.step(batches[step], step / 60) for step in range(60)]

    def share(key: str) -> float:
        values = [step[key] for step in losses]
        return float(np.mean(values[-5:]) / np.mean(values[:5]))

    assert share("score_loss") < 0.7
    assert share("box_loss") < 0.8


# The file is the same whatever the loss was, so one of them goes through the command by default.
_BY_COMMAND = [v if v == "exp" else pytest.param(v, marks=pytest.mark.slow) for v in VARIANTS]


@pytest.mark.parametrize("variant", _BY_COMMAND)
def test_the_command_trains_and_the_pipeline_finds_what_torch_finds(
    variant: str, folder: Path, parts: Any, tmp_path: Path
) -> None:
    model = tmp_path / "cast.onnx"
    flags = (
        f"--epochs 2 --batch 4 --imgsz 64x96 --val 0.25 --threads 1 --workers 0 --localization-loss {variant}"
    )
    command = ["train", "detector", str(folder), "-o", str(model), *flags.split(), "--json", "--log", "quiet"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    rows = [json.loads(r) for r in (tmp_path / "cast-training/history.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < rows[1]["loss"]
    assert told["localization_loss"] == variant
    meta = {p.key: p.value for p in onnx.load(model).metadata_props}
    assert (meta["localization_loss"], "softmax" in meta["scores"]) == (variant, True)

    state = torch.load(tmp_path / "cast-training" / "checkpoint.pt", weights_only=True)
    net = new_detector("n", 2, background=True)
    net.load_state_dict(state["best"]["weights"])
    taken = next(row for row in json.loads(state["history"]) if row["epoch"] == told["taken_epoch"])
    net, _ = at_working_point(net.eval(), taken["best_score"], 0.25)
    detector = Detector(DetectorConfig(model=str(model), score=0.05, iou=0.5), device="cpu", threads=1)
    assert detector.class_names == parts[0].class_names
    total = 0
    for image in parts[1]:
        want = detect(net, picture_of(image), (64, 96))
        keep = want.scores >= 0.05
        got = detector(frame(image.read()))
        np.testing.assert_allclose(got.scores, want.scores[keep], atol=1e-3)
        np.testing.assert_allclose(got.boxes, want.boxes[keep], atol=0.1)
        assert ((got.scores >= 0) & (got.scores <= 1)).all()
        total += len(got)
    assert total >= 3


def frame(image: np.ndarray) -> FrameBatch:
    video = Video("v", "/v.mp4", "video", image.shape[1], image.shape[0], "f", frame_rate=25.0)
    one = np.zeros(1, np.int64)
    return FrameBatch(Segment(video, 0, 0.0), image[None], one / 1.0, one, one, np.zeros(1, np.int32))


def outputs(net: Yolo) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(4, 3, 8, 12, generator=generator)
    with torch.no_grad():
        out = net.eval()(torch.nn.functional.interpolate(coarse, (96, 160), mode="bilinear"))
    assert isinstance(out, torch.Tensor)
    return out


def test_scores_with_a_background_are_what_they_were_shared_among_names_that_begin_alike() -> None:
    net, known = read_detector(resolve("default", "detector").path)
    before = outputs(with_classes(net, known, ("bunny",)))
    one = outputs(with_classes(net, known, ("bunny",), background=True))
    torch.testing.assert_close(one, before)
    two = outputs(with_classes(net, known, ("bunny", "frank"), background=True))
    torch.testing.assert_close(two[:, 4], before[:, 4] / 2)
    torch.testing.assert_close(two[:, 5], before[:, 4] / 2)
    assert before[:, 4].max() > 0.05


def test_the_working_point_moves_to_where_the_pipeline_begins() -> None:
    torch.manual_seed(0)
    net = Yolo(2, (8, 8, 8, 16, 16), 1, 8, background=True).eval()
    for layer in net.class_out:
        layer.bias.data = torch.tensor([0.0, 1.5, -9.0])
    before = outputs(net)[:, 4]
    score = float(before.max())
    moved, shift = at_working_point(net, score, 0.25)
    after = outputs(moved)
    assert float(after[:, 4].max()) == pytest.approx(0.25, abs=1e-3)
    assert shift == pytest.approx(math.log(0.25 / 0.75) - math.log(score / (1 - score)))
    assert (after[:, 4:].sum(1) <= 1).all()
    assert torch.equal(outputs(net)[:, 4], before)  # a copy


def test_a_checkpoint_of_another_loss_is_refused_and_an_old_one_is_iou(parts: Any, tmp_path: Path) -> None:
    course(parts, tmp_path / "a", "weighted", epochs=1).run()
    with pytest.raises(ConfigError, match=r"found localization_loss weighted \(now exp\)"):
        course(parts, tmp_path / "a", "exp").resume()
    old = course(parts, tmp_path / "b", "iou", epochs=1)
    del old.fingerprint["localization_loss"]
    old.run()
    course(parts, tmp_path / "b", "iou").resume()
    with pytest.raises(ConfigError, match=r"found localization_loss iou \(now sum\)"):
        course(parts, tmp_path / "b", "sum").resume()


def test_a_loss_that_is_not_finite_names_the_image(parts: Any, tmp_path: Path) -> None:
    wild = course(parts, tmp_path / "a", "weighted", epochs=50, rate=1e30)
    with pytest.raises(LossError, match="stopped in epoch") as caught:
        wild.run()
    assert any(image.name in str(caught.value) for image in parts[0])
    state = torch.load(wild.checkpoint, weights_only=True)
    assert all(v.isfinite().all() for v in state["tuner"]["net"].values())


def test_a_wrong_name_is_refused(folder: Path, tmp_path: Path) -> None:
    command = [
        "train",
        "detector",
        str(folder),
        "-o",
        str(tmp_path / "m.onnx"),
        "--localization-loss",
        "best",
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert "'best' is not one of 'iou', 'sum', 'weighted', 'exp', 'exp_squared'" in done.output
    with pytest.raises(ConfigError, match="expected one of iou, sum, weighted, exp, exp_squared, got 'best'"):
        replace(QUICK, localization_loss="best").checked()  # type: ignore[arg-type]


def test_what_is_not_judged_is_no_background(parts: Any, tmp_path: Path) -> None:
    tuner = course(parts, tmp_path / "a", "weighted").tuner
    batch = Batches(parts[0], BatchSettings(2, (64, 96), 0, PLAIN), 0)[0]
    boxes, logits, points = tuner.net(batch.images.float() / 255)
    judged, veiled = (
        tuner._loss(boxes, logits, points, batch.truth, torch.full((2, points.shape[0], 1), unclear))
        for unclear in (False, True)
    )
    assert float(veiled.total.detach()) < float(judged.total.detach())
    assert float(veiled.score) == pytest.approx(float(judged.score), rel=1e-5)
