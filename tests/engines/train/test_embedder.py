"""The default embedder: its names, its views, its training, and what the packaged weights can do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import onnxruntime
import pytest
import torch

from engines.models import resolve
from engines.nets.densenet import DenseNet, current_names, densenet121, densenet161, densenet_small
from engines.runtime.base import EngineError
from engines.train import figures, film_crops, identities
from engines.train.adapt_start import read_embedder
from engines.train.batches import BatchSize, Sampler, contrast
from engines.train.embedder import Embedder, Recipe, Training, by_cast, embed, main, validation_views
from engines.train.views import GREY, MEAN, SIDE, STD, Augmentation, Bank, Views

SMALL = identities.BankSize(casts=8, members=6, pictures=4, backgrounds=24)
RECIPE = Recipe(
    steps=40,
    warmup=5,
    average=0.9,
    batch=BatchSize(casts=4, members=4, views=2, art=0, tracks=8),
    bank=SMALL,
)


@pytest.fixture(scope="module")
def bank() -> Bank:
    return identities.training_bank(SMALL, 5, None, None)


@pytest.fixture(scope="module")
def validation() -> Bank:
    return identities.validation_bank(5, casts=1, pictures=8)


def pixels(views: torch.Tensor) -> np.ndarray:
    return (views * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]).numpy()


@pytest.mark.parametrize(
    ("build", "parameters", "keys", "last"),
    [(densenet121, 7_978_856, 727, (1000, 1024)), (densenet161, 28_681_000, 967, (1000, 2208))],
)
def test_published_densenets_have_their_published_names(build, parameters, keys, last) -> None:  # type: ignore[no-untyped-def]
    with torch.device("meta"):
        state = build().state_dict()
        count = sum(p.numel() for p in build().parameters())
    assert count == parameters
    assert len(state) == keys
    assert next(iter(state)) == "features.conv0.weight"
    assert list(state)[-1] == "classifier.bias"
    assert tuple(state["classifier.weight"].shape) == last
    for name in (
        "features.norm0.num_batches_tracked",
        "features.denseblock3.denselayer24.conv2.weight",
        "features.transition3.norm.running_var",
        "features.transition3.conv.weight",
        "features.norm5.bias",
    ):
        assert name in state


def test_checkpoints_with_the_old_names_load() -> None:
    net = DenseNet(8, (2, 2), stem=16, classes=3)
    old = {
        name.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): value
        for name, value in net.state_dict().items()
    }
    assert set(old) != set(net.state_dict())
    assert not any(net.load_state_dict(current_names(old)))


def test_layers_see_all_earlier_layers() -> None:
    net = densenet_small()
    assert net.dimensions == 96 + 5 * 32
    assert net(torch.zeros(2, 3, 64, 64)).shape == (2, 256)
    assert net.features.denseblock3.denselayer5.conv1.in_channels == 96 + 4 * 32
    with pytest.raises(ValueError, match="expected a growth per block, 2, got 3"):
        DenseNet((8, 8, 8), (2, 2))


def test_views_pad_with_grey_and_keep_the_character(bank: Bank) -> None:
    width, height = (bank.boxes[:, 2:] - bank.boxes[:, :2]).T
    row = int(np.argmin(width / height))
    views = Views(bank, augmentation=Augmentation.none())
    made = pixels(views.make(np.array([row]), torch.Generator().manual_seed(0)))[0]
    side = int((1 - (width[row] / height[row])) * 32) - 1
    assert side > 8
    assert np.allclose(made[:, :, :side], GREY, atol=1e-4)
    assert np.allclose(made[:, :, -side:], GREY, atol=1e-4)
    # the box's centre, where this body is, comes out at the view's centre
    x, y = ((bank.boxes[row, :2] + bank.boxes[row, 2:]) / 2).astype(int)
    stored = bank.pictures[row]
    body = stored[y - 2 : y + 2, x - 2 : x + 2]
    if body[..., 3].min() == 255:
        assert np.allclose(made[:, 31:33, 31:33].mean((1, 2)), body[..., :3].mean((0, 1)) / 255, atol=0.15)


def test_views_change_background_but_not_without_a_seed(bank: Bank) -> None:
    views = Views(bank)
    rows = np.array([0, 0, 0, 0])
    one = views.make(rows, torch.Generator().manual_seed(1))
    same = views.make(rows, torch.Generator().manual_seed(1))
    other = views.make(rows, torch.Generator().manual_seed(2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one[0], one[1])


def test_batches_hold_casts_and_views_of_each_member(bank: Bank) -> None:
    batch = Sampler(bank, RECIPE.batch, SMALL.members).batch(np.random.default_rng(0))
    names = bank.identities[batch.rows]
    assert batch.named == len(batch.rows) == 4 * 4 * 2
    assert (np.unique(names, return_counts=True)[1] == 2).all()
    assert (np.unique(np.unique(names) // SMALL.members, return_counts=True)[1] == 4).all()


def test_contrast_is_small_when_identities_are_apart() -> None:
    names = torch.tensor([0, 0, 1, 1])
    right = torch.eye(4)[[0, 0, 1, 1]]
    wrong = torch.eye(4)[[0, 1, 0, 1]]
    assert float(contrast(right, names, 0.1)) < 1e-3 < 9 < float(contrast(wrong, names, 0.1))


def test_training_raises_retrieval_of_unseen_characters(bank: Bank, validation: Bank) -> None:
    training = Training(RECIPE, bank, validation, seed=0)
    x = validation_views(validation)
    names = np.asarray(validation.identities)
    before = by_cast(embed(training.learner.embedder.eval(), x), names)
    training.learner.train()
    trained = training.run(every=40)
    after = by_cast(embed(trained, x), names)
    assert after > before + 0.08


def test_same_seed_same_weights_and_resume_goes_on_exactly(bank: Bank, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=4)
    whole = Training(recipe, bank, seed=3, folder=None).run(every=4).state_dict()
    again = Training(recipe, bank, seed=3).run(every=4).state_dict()
    other = Training(recipe, bank, seed=4).run(every=4).state_dict()
    half = Training(recipe, bank, seed=3)
    for _ in range(2):
        half._learn()
    half.save(tmp_path / "checkpoint.pt")
    rest = Training(recipe, bank, seed=3)
    rest.resume(tmp_path / "checkpoint.pt")
    assert rest.step == 2
    resumed = rest.run(every=4).state_dict()
    for name, value in whole.items():
        assert torch.equal(value, again[name]), name
        assert torch.equal(value, resumed[name]), name
    assert not torch.equal(whole["net.features.conv0.weight"], other["net.features.conv0.weight"])
    with pytest.raises(EngineError, match="expected a checkpoint of seed 9, found seed 3"):
        Training(recipe, bank, seed=9).resume(tmp_path / "checkpoint.pt")


def test_going_on_from_an_embedder_takes_a_part_of_the_way(bank: Bank) -> None:
    start = resolve("default", "embedder").path

    def learned(way: float) -> Embedder:
        return Training(replace(RECIPE, steps=2, way=way), bank, seed=1, start=start).run(every=2)

    none, half, whole = (learned(way).state_dict() for way in (0.0, 0.5, 1.0))
    names = [name for name, value in none.items() if value.is_floating_point()]
    assert max(float((none[n] - whole[n]).abs().max()) for n in names) > 1e-4
    assert all(torch.allclose(half[n], (none[n] + whole[n]) / 2, atol=1e-5) for n in names)
    # none of the way is the file itself, in the statistics of the bank
    x = torch.rand(8, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) - 0.5
    assert np.allclose(embed(learned(0.0), x), embed(read_embedder(start), x), atol=1e-3)


def test_the_command_trains_and_exports_what_torch_computes_for_any_batch(tmp_path: Path) -> None:
    arguments = ["--recipe", "quick", "--out", str(tmp_path), "--steps", "2"]
    assert main(arguments) == 0
    assert not list(tmp_path.glob("*.part"))
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert [entry["step"] for entry in state["log"]] == [2]
    embedder = Embedder(densenet_small()).eval()
    embedder.load_state_dict(state["averaged"])
    assert embedder.mean.abs().max() > 0

    session = onnxruntime.InferenceSession(tmp_path / "embedder.onnx", providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["mean"]) == list(MEAN)
    assert json.loads(metadata["imgsz"]) == [64, 64]
    assert [i.name for i in session.get_inputs()] == ["images"]
    for n in (1, 2, 7):
        x = torch.rand(n, 3, 64, 64)
        (got,) = session.run(["embedding"], {"images": x.numpy()})
        with torch.inference_mode():
            want = embedder(x).numpy()
        assert got.shape == (n, 256)
        np.testing.assert_allclose(got, want, atol=1e-4)

    written = (tmp_path / "embedder.onnx").stat().st_mtime_ns
    assert main([*arguments, "--resume"]) == 0  # nothing is left to do
    assert (tmp_path / "embedder.onnx").stat().st_mtime_ns == written


def test_a_recipe_that_goes_on_asks_from_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--recipe", "more", "--out", str(tmp_path)])
    assert "give its ONNX file by --start" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_packaged_weights_beat_the_handmade_feature_on_unseen_casts() -> None:
    model = resolve("default", "embedder")
    assert model.path.stat().st_size <= 12e6
    bank = identities.validation_bank(77, casts=2, pictures=10)
    views = validation_views(bank)
    names = np.asarray(bank.identities)
    session = onnxruntime.InferenceSession(model.path, providers=["CPUExecutionProvider"])

    def run(x: torch.Tensor) -> np.ndarray:
        return session.run(None, {"images": x.numpy()})[0]

    learned = figures.unit(run(views) + run(views.flip(3)))
    pictures = (pixels(views).clip(0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    assert by_cast(learned, names) > by_cast(figures.handmade(pictures), names) + 0.2
    first = names < 6  # a cast as episodes have it
    assert figures.clustering(learned[first], names[first], 12)["purity"] >= 0.95


def test_figures_by_hand() -> None:
    corners = np.eye(3)[[0, 0, 1, 1, 2, 2]]
    names = np.array([0, 0, 1, 1, 2, 2])
    assert figures.retrieval(corners, names) == 1
    assert figures.retrieval(corners, np.array([0, 1, 2, 0, 1, 2])) == 0
    assert figures.purity(np.array([0, 0, 0, 1]), np.array([5, 5, 6, 6])) == 0.75
    found = figures.clustering(figures.unit(corners + 0.01 * np.arange(18).reshape(6, 3)), names, 3)
    assert (found["clusters"], found["purity"], found["ami"]) == (3, 1, 1)


def test_a_moving_body_is_cut_out_of_a_still_shot(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ground = np.kron(rng.integers(60, 180, (18, 32, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 320, 180, "yuv420p", 4_000_000
        for i in range(12):
            frame = ground.copy()
            frame[60:120, 10 + 22 * i : 50 + 22 * i] = (230, 40, 30)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    places: list[np.ndarray] = []
    found = film_crops.pictures(path, rng, 7, 100, places)
    bodies = [p for p in found if p.frame >= 100]
    assert places
    assert {p.track for p in bodies} == {7}
    assert len(bodies) >= 4
    for p in bodies:
        width, height = p.box[2:] - p.box[:2]
        assert height == pytest.approx(76, abs=4)
        assert width == pytest.approx(76 * 40 / 60, abs=10)
        inside = p.rgba[44:52, 44:52].mean((0, 1))
        assert np.allclose(inside, (230, 40, 30, 255), atol=25)
        assert p.rgba[..., 3][:, :4].max() == 0


def test_folders_without_what_is_needed_are_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="expected films"):
        identities.film_files(tmp_path)
    with pytest.raises(EngineError, match="expected sprites"):
        identities.sprites(tmp_path)


@pytest.mark.shared
def test_sprites_are_the_five_characters_without_smoke(shared: Path) -> None:
    columns = identities.sprites(shared / "art/pepper_carrot/sprites")
    assert len(np.unique(columns["identities"])) == 5
    assert len(columns["pictures"]) == 75 - 12
    grounds = identities.paintings(shared / "art/pepper_carrot/backgrounds", 8, 0)
    assert grounds.shape == (8, 96, 96, 3)
