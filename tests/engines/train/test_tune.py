"""Training on frames of a rendered episode: stops, goes on, ends, exports, and says what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from engines.nets.yolo import Yolo
from engines.train.export import calibrated
from engines.train.labels import LabelledDataset, Problems, read_labels
from engines.train.tune import LossError, TuneSettings, tune
from engines.train.tune.course import Course
from engines.train.tune.data import Batches, BatchSettings, picture_of
from engines.train.tune.job import _first_net
from engines.train.tune.measure import detect
from engines.train.tune.settings import parts_of
from engines.train.tune.start import new_detector
from engines.train.tune.state import StepSettings, Tuner
from engines.train.tune.views import ViewSettings
from stream.batches import FrameBatch, Segment, Video
from stream.cli import app
from stream.config import DetectorConfig
from stream.detect import Detector
from stream.errors import ConfigError

QUICK = TuneSettings(start="scratch", epochs=3, batch=4, imgsz=(64, 96), workers=0, threads=1, val=0.25)


@pytest.fixture(scope="module")
def folder(episode_labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The frames of the episode, the characters as classes; one image has no labels."""
    out = tmp_path_factory.mktemp("labels") / "labelled"
    shutil.copytree(episode_labels, out)
    Image.new("RGB", (192, 112)).save(out / "images" / "nobody.png")
    return out


@pytest.fixture
def parts(folder: Path) -> tuple[LabelledDataset, LabelledDataset]:
    return parts_of(read_labels(folder, Problems()), 0.25, 0)


def course(parts: tuple[LabelledDataset, LabelledDataset], where: Path, **changes: Any) -> Course:
    """A course of a net that is tiny, so that an epoch takes no time."""
    torch.manual_seed(0)
    net = Yolo(len(parts[0].class_names), (8, 8, 8, 16, 16), 1, 8)
    settings = replace(QUICK, **changes).checked()
    where.mkdir(exist_ok=True)
    return Course(net, *parts, settings, (64, 96), where, say=changes.pop("say", lambda _: None))


def weights(done: Course) -> dict[str, torch.Tensor]:
    return done.tuner.net.state_dict() | {f"mean {k}": v for k, v in done.tuner.mean.state_dict().items()}


def same(a: Course, b: Course) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


# -- the whole of it, once, by the command


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """(model, the command's JSON) of a short training from the default's weights."""
    model = tmp_path_factory.mktemp("model") / "cast.onnx"
    flags = "--epochs 2 --batch 4 --imgsz 96x160 --val 0.25 --threads 1 --json --log json"
    done = CliRunner().invoke(
        app, ["train", "detector", str(folder), "--out", str(model), *flags.split()], catch_exceptions=False
    )
    assert done.exit_code == 3, done.output  # nobody.png is left out
    assert f"writing {model}" in done.stderr
    return model, json.loads(done.stdout)


def frame(image: np.ndarray) -> FrameBatch:
    video = Video("v", "/v.mp4", "video", image.shape[1], image.shape[0], "f", frame_rate=25.0)
    one = np.zeros(1, np.int64)
    return FrameBatch(Segment(video, 0, 0.0), image[None], one / 1.0, one, one, np.zeros(1, np.int32))


def test_the_pipeline_finds_what_torch_finds(
    trained: tuple[Path, dict[str, Any]], parts: tuple[LabelledDataset, LabelledDataset]
) -> None:
    model, told = trained
    state = torch.load(model.with_name("cast-training") / "checkpoint.pt", weights_only=True)
    net = new_detector("n", 2)
    net.load_state_dict(state["best"]["weights"])
    taken = next(row for row in json.loads(state["history"]) if row["epoch"] == told["taken_epoch"])
    net, _ = calibrated(net.eval(), taken["best_score"])
    score = 0.1
    detector = Detector(DetectorConfig(model=str(model), score=score, iou=0.5), device="cpu", threads=1)
    assert detector.class_names == parts[0].class_names
    total = 0
    for part in parts:
        for image in part:
            want = detect(net, picture_of(image), (96, 160))
            keep = want.scores >= score
            got = detector(frame(image.read()))
            assert len(got) == keep.sum()
            np.testing.assert_allclose(got.scores, want.scores[keep], atol=1e-3)
            np.testing.assert_allclose(got.boxes, want.boxes[keep], atol=0.1)
            np.testing.assert_array_equal(got.classes, want.classes[keep])
            total += len(got)
    assert total >= 5


def test_the_model_says_what_it_is(trained: tuple[Path, dict[str, Any]], folder: Path) -> None:
    model, told = trained
    meta = {p.key: p.value for p in onnx.load(model).metadata_props}
    names = read_labels(folder, Problems()).class_names
    assert meta["names"] == str(dict(enumerate(names)))
    assert (meta["stride"], meta["imgsz"], meta["task"]) == ("32", "[96, 160]", "detect")
    assert told["epochs"] == told["planned_epochs"] == 2
    assert (told["size"], told["from"], told["ended"], told["imgsz"]) == ("n", "default", "epochs", [96, 160])
    assert told["before"]["epoch"] == 0
    assert (told["left_out"], told["problems"]) == (1, {"unlabelled_image": 1})
    assert 0 <= told["ap50_95"] <= told["ap50"] <= 1
    assert set(told["ap50_by_class"]) <= set(names)


def test_a_folder_beside_it_holds_the_rest(trained: tuple[Path, dict[str, Any]]) -> None:
    model, told = trained
    where = model.with_name("cast-training")
    rows = [json.loads(line) for line in (where / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert {"loss", "score_loss", "box_loss", "ap50", "ap50_95", "recall", "step"} <= rows[1].keys()
    assert max(rows, key=lambda row: row["ap50_95"])["ap50_95"] == pytest.approx(told["ap50_95"], abs=2e-3)
    assert json.loads((where / "result.json").read_text()) == told
    assert told["sheets"]
    for sheet in told["sheets"]:
        assert Image.open(sheet).size[0] >= 420
    assert not list(where.glob("*.part*"))


def test_a_former_training_is_not_overwritten(trained: tuple[Path, dict[str, Any]], folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"is of a former training; give --resume .*--overwrite"):
        tune(folder, trained[0], QUICK)
    with pytest.raises(ConfigError, match=r"found size n \(now s\)"):
        tune(folder, trained[0], replace(QUICK, size="s"), resume=True)


# -- the course


def test_the_same_seed_gives_the_same_weights(parts: Any, tmp_path: Path) -> None:
    runs = [course(parts, tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    for one in runs:
        one.run()
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])
    assert runs[0].ended == "epochs"
    assert [row["epoch"] for row in runs[0].history] == [1, 2, 3]


def test_stopped_and_gone_on_is_the_same_as_not_stopped(parts: Any, tmp_path: Path) -> None:
    whole = course(parts, tmp_path / "whole")
    whole.run()
    first = course(parts, tmp_path / "parts")
    first.say = lambda text: os.kill(os.getpid(), signal.SIGTERM) if text.startswith("epoch 1 ") else None
    with pytest.raises(KeyboardInterrupt):
        first.run()
    assert first.tuner.steps_done < whole.tuner.steps_done
    second = course(parts, tmp_path / "parts")
    second.resume()
    assert second.tuner.steps_done == first.tuner.steps_done
    second.run()
    assert same(whole, second)
    timeless = [[{k: v for k, v in r.items() if k != "seconds"} for r in c.history] for c in (whole, second)]
    assert timeless[0] == timeless[1]
    assert whole.best["epoch"] == second.best["epoch"]
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            whole.best_net().state_dict().values(), second.best_net().state_dict().values(), strict=True
        )
    )


def test_it_learns_frames_by_heart(parts: Any, tmp_path: Path) -> None:
    frames = LabelledDataset(parts[0].images[:2], parts[0].class_names)
    plain = ViewSettings(mosaic=0, mirror=0, shrink=1, grow=1, stretch=0, hue=0, gain=0, flatten=0, worn=0)
    tuner = course((frames, frames), tmp_path / "a", rate=6e-3, views=plain).tuner
    batches = Batches(frames, BatchSettings(2, (64, 96), 0, plain), 0)
    losses = [tuner.step(batches[step], step / 70)["loss"] for step in range(70)]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5]), losses


def test_a_checkpoint_of_other_images_is_refused(parts: Any, tmp_path: Path) -> None:
    one = course(parts, tmp_path / "a", epochs=1)
    one.run()
    other = (parts[0].subset(range(4)), parts[1])
    with pytest.raises(ConfigError, match=r"checkpoint of these images and settings, found images "):
        course(other, tmp_path / "a").resume()
    one.checkpoint.write_bytes(one.checkpoint.read_bytes()[:999])
    with pytest.raises(ConfigError, match=r"cannot be read .*--overwrite"):
        course(parts, tmp_path / "a").resume()
    with pytest.raises(ConfigError, match="found none; leave --resume out"):
        course(parts, tmp_path / "b").resume()


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good(parts: Any, tmp_path: Path) -> None:
    one = course(parts, tmp_path / "a", epochs=1)
    one.run()
    kept = one.checkpoint.read_bytes()
    wild = course(parts, tmp_path / "a", epochs=50, rate=1e30)
    wild.resume()
    with pytest.raises(LossError) as caught:
        wild.run()
    said = str(caught.value)
    assert "stopped in epoch" in said
    assert any(image.name in said for image in parts[0])
    assert "--resume and a --rate below 1e+30" in said
    state = torch.load(wild.checkpoint, weights_only=True)
    assert all(v.isfinite().all() for v in state["tuner"]["net"].values())
    assert kept  # and it can be gone on with, at a rate that is right
    calm = course(parts, tmp_path / "a", epochs=state["tuner"]["steps_done"] // one.per_epoch + 1, rate=1e-4)
    calm.resume()
    calm.run()
    assert calm.tuner.steps_done > one.tuner.steps_done - 1


def test_the_image_that_breaks_the_loss_is_named(parts: Any) -> None:
    tuner = Tuner(Yolo(2, (8, 8, 8, 16, 16), 1, 8), StepSettings(1e-3))
    batch = Batches(parts[0], BatchSettings(3, (64, 96), 0, ViewSettings()), 0)[0]
    batch.truth[1, 0] = torch.tensor([0, 10, 10, float("inf"), 40, 1])
    with pytest.raises(LossError) as caught:
        tuner.step(batch, 0.0)
    assert batch.names[1] in str(caught.value)
    assert batch.names[0] not in str(caught.value)


def test_a_net_that_was_good_keeps_its_statistics(parts: Any, tmp_path: Path) -> None:
    moved = {}
    for start in ("default", "scratch"):
        one = course(parts, tmp_path / start, start=start)
        norms = [(k, v.clone()) for k, v in one.tuner.net.named_buffers() if "running" in k]
        made = one._batches(1)
        one.tuner.step(made[0], 0.0)
        after = dict(one.tuner.net.named_buffers())
        moved[start] = any(not torch.equal(after[name], before) for name, before in norms)
    assert moved == {"default": False, "scratch": True}


def test_too_little_time_for_one_epoch(parts: Any, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"expected time for one epoch at least, which is about [\d.e-]+ min"
    ):
        course(parts, tmp_path / "a", minutes=1e-4).run()
    many = course(parts, tmp_path / "b", minutes=5, epochs=10**7)
    many._begin()
    assert 1 <= many.epochs < 10**6
    slow = course(parts, tmp_path / "c", minutes=5)
    slow.seconds = 301.0  # as a machine has it that became busier
    with pytest.raises(ConfigError, match=r"over before the first epoch was \(1 of 3 steps\)"):
        slow.run()


def test_the_time_ends_it_with_what_there_is(parts: Any, tmp_path: Path) -> None:
    one = course((parts[0].subset(range(4)), parts[1]), tmp_path / "a", minutes=5, epochs=50)
    one.seconds = 301.0
    one.run()
    assert (one.ended, one.history[-1]["epoch"], one.best["epoch"]) == ("time", 1, 1)


def test_patience_ends_it(parts: Any, tmp_path: Path) -> None:
    one = course(parts, tmp_path / "a", epochs=40, patience=2, rate=1e-12)
    one.run()
    assert one.ended == "patience"
    assert one.history[-1]["epoch"] == one.best["since"] + 2


@pytest.mark.shared
@pytest.mark.slow
def test_real_photographs_make_it_better(shared: Path, tmp_path: Path) -> None:
    """Raccoons, which the default detector was never shown."""
    train, held = parts_of(read_labels(shared / "voc" / "raccoon", Problems()), 0.2, 0)
    settings = replace(QUICK, start="default", epochs=2, batch=8).checked()
    net = _first_net(settings, train, (224, 288))
    done = Course(net, train, held, settings, (224, 288), tmp_path, say=lambda _: None)
    done.run()
    assert done.taken["ap50_95"] > done.history[0]["ap50_95"] + 0.03, done.history
