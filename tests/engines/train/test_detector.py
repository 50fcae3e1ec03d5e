"""Training learns, stops, goes on exactly where it was, and exports what torch computes."""

import ast
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from engines.nets.yolo import Yolo, deepened, parameter_count
from engines.train.calibrate import Platt, with_platt
from engines.train.detector import Trainer, batch_of, main, prepare, spread_ignore, train
from engines.train.export import calibrated, compare
from engines.train.material import FILM_NOTES, Bank, Shelf, film_note
from engines.train.measure import average_precision, decode
from engines.train.recipe import RECIPES, Part
from engines.train.scenes import SceneMaker, SceneSettings
from stream.errors import ConfigError

TINY = replace(
    RECIPES["tiny"],
    creatures=12,
    batch=4,
    sizes=((96, 160, 1.0),),
    warmup=10,
    average=0.9,
    rate=4e-3,
    scenes=SceneSettings(film=0, broken_film=0, most=2, smallest=0.35, largest=0.9, empty=0),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(TINY, 0, tmp_path_factory.mktemp("scratch"), None, None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(scratch folder, ONNX file) of a run of two steps."""
    where = tmp_path_factory.mktemp("run")
    train(replace(TINY, steps=2), where / "s", where / "d.onnx", checkpoint_minutes=9)
    return where / "s", where / "d.onnx"


def test_the_default_net_is_small():
    assert 1.0e6 < parameter_count(Yolo()) < 2.0e6


def test_training_learns_four_pictures_by_heart(folder: Path):
    maker = SceneMaker(Bank.load(folder), 0, TINY.scenes)
    images, truth, ignore = batch_of(maker, TINY, 0, 0)
    trainer = Trainer(TINY, 0)
    losses = [trainer.step(images, truth, ignore, i / 300)["loss"] for i in range(300)]
    assert np.mean(losses[-10:]) < 0.35 * np.mean(losses[:10])
    with torch.no_grad():
        out = trainer.mean(images.float() / 255).numpy()
    found = [decode(o, 0) for o in out]
    true = [t[t[:, 0] == 0][:, 1:5].numpy() for t in truth]
    ap, recall, _ = average_precision(found, true)
    assert ap > 0.9, (ap, recall)


def test_resuming_is_the_same_as_not_stopping(folder: Path, tmp_path: Path):
    maker = SceneMaker(Bank.load(folder), 0, TINY.scenes)
    whole, first, second = Trainer(TINY, 0), Trainer(TINY, 0), Trainer(TINY, 0)
    for step in range(6):
        whole.step(*batch_of(maker, TINY, 0, step), step / 6)
    for step in range(3):
        first.step(*batch_of(maker, TINY, 0, step), step / 6)
    first.save(tmp_path / "c.pt")
    second.load(tmp_path / "c.pt")
    assert second.steps_done == 3
    for step in range(3, 6):
        second.step(*batch_of(maker, TINY, 0, step), step / 6)
    for a, b in zip(whole.mean.state_dict().values(), second.mean.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(next(whole.net.parameters()), next(first.net.parameters()))


def test_the_command_trains_exports_and_goes_on(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    scratch, out = trained
    assert {p.key: p.value for p in onnx.load(out).metadata_props}["steps"] == "2"
    recipe = replace(TINY, steps=3)
    copy = tmp_path / "s"
    shutil.copytree(scratch, copy)
    train(recipe, copy, None, resume=True)
    lines = (copy / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 3]
    with pytest.raises(ConfigError, match="expected a checkpoint of net"):
        train(replace(recipe, neck=16), copy, None, resume=True)
    assert main(["--recipe", "tiny", "--resume", "--scratch", str(tmp_path / "no"), "--art", str(out)]) == 2
    assert "--art" in capsys.readouterr().err


def test_export_computes_what_torch_does_at_any_size(trained: tuple[Path, Path]):
    scratch, path = trained
    trainer = Trainer(TINY, 0)
    trainer.load(scratch / "checkpoint.pt")
    maps = json.loads({p.key: p.value for p in onnx.load(path).metadata_props}["score_maps"])
    net = with_platt(trainer.mean, [Platt(*numbers) for numbers in maps])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["images"]
    assert [o.name for o in session.get_outputs()] == ["output0"]
    meta = session.get_modelmeta().custom_metadata_map
    assert ast.literal_eval(meta["names"]) == {0: "character", 1: "face"}
    assert meta["stride"] == "32"
    assert ast.literal_eval(meta["imgsz"]) == [192, 320]
    for shape in ((1, 3, 32, 32), (5, 3, 160, 96)):
        images = torch.rand(*shape)
        got = session.run(None, {"images": images.numpy()})[0]
        with torch.no_grad():
            want = net(images).numpy()
        assert got.shape == (shape[0], 6, shape[2] * shape[3] * 21 // 1024)
        assert np.abs(got[:, 4:] - want[:, 4:]).max() <= 1e-4
        assert np.allclose(got, want, rtol=1e-4, atol=1e-3)
    assert compare(net, path) <= 1e-4
    assert compare(Trainer(TINY, 1).mean, path) > 1e-3  # the check can fail


PARTS = replace(TINY, steps=9, later=(Part(3, 1e-3, 4, 8, 1), Part(6, 5e-4, effects=7, props=3)))


def test_every_part_starts_the_rate_over_and_trains_on_more(tmp_path: Path):
    rates = [PARTS.rate_at(step) for step in range(9)]
    assert [rates[k] * PARTS.warmup for k in (0, 3, 6)] == pytest.approx([PARTS.rate, 1e-3, 5e-4])
    assert [PARTS.part_at(step) for step in range(9)] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert replace(PARTS, steps=3).rate_at(2) == rates[2]  # a run that ends there is the first part
    train(PARTS, tmp_path, None)
    banks = [Bank.load(tmp_path / name) for name in ("bank", "bank-part1", "bank-part2")]
    assert [len(b.films) for b in banks] == [0, 16, 16]
    assert len(banks[2].sprites) == len(banks[1].sprites) + 10
    assert len(banks[1].sprites) > len(banks[0].sprites) + 8


def test_a_part_may_go_on_with_a_deeper_net_that_computes_the_same(folder: Path, tmp_path: Path):
    recipe = replace(TINY, steps=6, later=(Part(2, 1e-3, depth=2), Part(4, 1e-3)))
    assert [recipe.depth_at(step) for step in range(6)] == [1, 1, 2, 2, 2, 2]
    maker = SceneMaker(Bank.load(folder), 0, TINY.scenes)
    whole, early, late = Trainer(recipe, 0), Trainer(recipe, 0), Trainer(recipe, 0)
    for step in range(2):
        whole.step(*batch_of(maker, recipe, 0, step))
    whole.save(tmp_path / "2.pt")  # still of the shallow net
    images = torch.rand(1, 3, 96, 160)
    torch.manual_seed(1)
    grown = deepened(whole.mean, 2).eval()
    assert parameter_count(grown) > parameter_count(whole.net)
    with torch.no_grad():
        torch.testing.assert_close(grown.features(images), whole.mean.features(images), rtol=1e-4, atol=1e-5)
    whole.step(*batch_of(maker, recipe, 0, 2))
    whole.save(tmp_path / "3.pt")
    assert whole.net.depth == whole.mean.depth == 2
    whole.step(*batch_of(maker, recipe, 0, 3))
    early.load(tmp_path / "2.pt")
    for step in (2, 3):
        early.step(*batch_of(maker, recipe, 0, step))
    late.load(tmp_path / "3.pt")
    late.step(*batch_of(maker, recipe, 0, 3))
    for other in (early, late):
        for a, b in zip(whole.mean.state_dict().values(), other.mean.state_dict().values(), strict=True):
            assert torch.equal(a, b)


def test_calibration_moves_the_working_point_to_a_quarter():
    torch.manual_seed(0)
    net = Yolo(2, (8, 8, 16, 16, 16), 1, 16).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = net(images)
        middle = float(before[0, 4].median())
        moved, shift = calibrated(net, middle)
        after = moved(images)
    assert float(after[0, 4].median()) == pytest.approx(0.25, abs=1e-4)
    assert torch.equal(before[:, :4], after[:, :4])
    assert torch.allclose(after[0, 4].logit() - before[0, 4].logit(), torch.tensor(shift), atol=1e-3)
    assert shift > 0  # a fresh net scores 0.01
    assert calibrated(net, 0.0)[1] == 0


def test_cells_and_boxes_agree_with_the_grid():
    net = Yolo(2, (8, 8, 16, 16, 16), 1, 16).train()
    boxes, logits, points = net(torch.rand(2, 3, 64, 96))
    assert points.shape == (8 * 12 + 4 * 6 + 2 * 3, 3)
    assert boxes.shape == (2, len(points), 4)
    assert logits.shape == (2, len(points), 2)
    assert points[0].tolist() == [4, 4, 8]
    assert points[13].tolist() == [12, 12, 8]
    assert points[96].tolist() == [8, 8, 16]
    assert points[-1].tolist() == [80, 48, 32]
    inside = (boxes[..., :2] < points[:, :2]) & (boxes[..., 2:] > points[:, :2])
    assert inside.all()


def test_what_is_not_judged_reaches_every_stride():
    veil = torch.zeros(1, 8, 12, 2, dtype=torch.bool)
    veil[0, :4, :4, 0] = True  # 32x32 pixels of the first class
    cells = spread_ignore(veil, 64, 96)
    assert cells.shape == (1, 8 * 12 + 4 * 6 + 2 * 3, 2)
    assert cells[0, :96, 0].sum() == 16
    assert cells[0, 96:120, 0].sum() == 4
    assert cells[0, 120:, 0].tolist() == [True, False, False, False, False, False]
    assert not cells[..., 1].any()


def test_average_precision_by_hand():
    true = [np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)]
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 30], [0, 0, 10, 9]], np.float32)
    found = [(boxes, np.array([0.9, 0.8, 0.7, 0.6], np.float32))]
    ap, recall, score = average_precision(found, true)
    # hit, miss, hit, and a second answer for a taken box: 0.5 * 1 + 0.5 * 2/3
    assert ap == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert recall == 1
    assert score == pytest.approx(0.7)
    assert average_precision([], []) == (0, 0, 0)


def test_films_are_labelled_anew_once_at_each_of_their_steps(folder: Path, tmp_path: Path):
    bank = Bank.load(folder)
    frame = np.full((96, 160, 4), 60, np.uint8)
    films = Shelf.of([(frame, film_note(np.zeros((0, 4), np.float32), True, 0.5))], FILM_NOTES)
    Bank(bank.sprites, bank.backdrops, films).save(
        tmp_path / "bank", json.loads((folder / "recipe.json").read_text())
    )
    recipe = replace(TINY, steps=5, self_steps=(2, 4))
    train(recipe, tmp_path, None)
    folders = [tmp_path / "bank-self1", tmp_path / "bank-self2"]
    made = [(folder / "recipe.json").stat().st_mtime_ns for folder in folders]
    with np.load(folders[1] / "films.index.npz") as index:
        assert index["notes"].shape == (1, FILM_NOTES)
    train(replace(recipe, steps=6), tmp_path, None, resume=True)
    assert [(folder / "recipe.json").stat().st_mtime_ns for folder in folders] == made
