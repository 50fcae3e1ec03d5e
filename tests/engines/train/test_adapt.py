"""Adaptation of the embedder: its start, its views and pairs, its promises, and what it learns."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from engines.models import resolve
from engines.nets.densenet import densenet_small
from engines.runtime.base import EngineError
from engines.train import figures
from engines.train.adapt import Adapted, AdaptRecipe, adapt, embed_crops, planned_steps
from engines.train.adapt_signal import Judge
from engines.train.adapt_start import read_embedder, recalibrated
from engines.train.adapt_views import CropAugmentation, CropViews, PairSampler, pixels
from engines.train.embedder import Embedder
from engines.train.embedder_file import export
from engines.train.views import Augmentation, normalize
from kernels.image import crop_square
from stream.cartoon.characters import make_cast
from stream.cartoon.episode import render_frames
from stream.cartoon.script import Script

DEFAULT = resolve("default", "embedder").path
RECIPE = AdaptRecipe(pairs=12, warmup=3, average=0.8, looks=2)


class Show:
    """Crops of a rendered episode at their true boxes, a frame a second."""

    def __init__(self, seed: int, seconds: float, characters: int = 4) -> None:
        cast = make_cast(characters, seed)
        script = Script.random(cast, seed, seconds=seconds, width=320, height=180, fps=1)
        squares, names, frames = [], [], []
        for number, (image, truth) in enumerate(render_frames(script)):
            for t in truth:
                x1, y1, x2, y2 = t.box
                if min(x2 - x1, y2 - y1) >= 16:
                    squares.append(crop_square(image, (x1, y1, x2, y2), 64, "pad")[0])
                    names.append(t.identity)
                    frames.append(number)
        self.crops = np.stack(squares)
        self.names = np.unique(names, return_inverse=True)[1].reshape(-1)
        frame = np.array(frames)
        # a track is one character for up to two frames
        keys = np.stack([self.names, frame // 2], 1)
        self.tracks = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
        first, second = np.nonzero(np.triu(frame[:, None] == frame[None], 1))
        self.couples = np.stack([first, second], 1)
        self.before = embed_crops(read_embedder(DEFAULT), self.crops)

    def adapt(self, steps: int | None = 12, start: Path | None = DEFAULT, seed: int = 0, **kwargs) -> Adapted:  # type: ignore[no-untyped-def]
        before = kwargs.pop("before", self.before)
        recipe = kwargs.pop("recipe", RECIPE)
        return adapt(
            self.crops, self.tracks, self.couples, before,
            start=start, steps=steps, seed=seed, recipe=recipe, **{"seconds": 900.0, **kwargs},
        )  # fmt: skip


@cache
def show() -> Show:
    return Show(11, 80.0, 6)


def test_the_weights_come_back_out_of_the_file_and_keep_their_embeddings() -> None:
    x = normalize(pixels(show().crops[:40]))
    session = onnxruntime.InferenceSession(str(DEFAULT))
    expected = session.run(None, {"images": x.numpy()})[0]
    embedder = read_embedder(DEFAULT)
    fitted = recalibrated(embedder, normalize(pixels(show().crops)), batch=16)
    with torch.inference_mode():
        assert np.allclose(embedder(x).numpy(), expected, atol=1e-4)
        assert np.allclose(fitted(x).numpy(), expected, atol=1e-3)


def test_a_recalibrated_network_begins_training_where_the_file_is() -> None:
    x = normalize(pixels(show().crops))
    plain = read_embedder(DEFAULT)
    fitted = recalibrated(plain, x)

    def way_off(embedder: Embedder) -> float:
        """How far normalizing by the batch, as training does, is from the file's network."""
        with torch.no_grad():
            expected = plain.eval()(x)
            trained = embedder.train()(x)
            embedder.eval()
        return float((trained - expected).abs().mean() / expected.abs().mean())

    assert way_off(fitted) < 0.9 * way_off(plain)


def test_another_networks_file_is_refused(tmp_path: Path) -> None:
    detector = resolve("default", "detector").path
    with pytest.raises(EngineError, match="expected the default embedder's weights"):
        read_embedder(detector)
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(EngineError, match="embedder"):
        read_embedder(tmp_path / "x.onnx")


def test_views_without_change_are_the_crops_and_others_keep_the_grey() -> None:
    still = CropAugmentation(0, 1, 1, 0, 0, colour=Augmentation.none())
    rows = np.arange(6)
    views = CropViews(show().crops, still)
    made = views.make(rows, torch.Generator().manual_seed(0))
    expected = normalize(pixels(show().crops[rows]))
    either = [torch.allclose(m, e, atol=1e-4) or torch.allclose(m, e.flip(2), atol=1e-4)
              for m, e in zip(made, expected, strict=True)]  # fmt: skip
    assert all(either)
    shifted = CropViews(show().crops, replace(still, smallest=0.4, largest=0.4))
    corner = normalize(torch.full((1, 3, 1, 1), 114 / 255))[0, :, 0, 0]
    assert torch.allclose(shifted.make(rows, torch.Generator())[:, :, 0, 0], corner.expand(6, 3), atol=1e-4)


def test_pairs_are_of_one_track_couples_come_first_and_held_crops_stay_alone() -> None:
    s = show()
    held = np.isin(s.tracks, np.unique(s.tracks)[::3])
    sampler = PairSampler(s.tracks, s.couples, held, pairs=20)
    frames = {tuple(c) for c in s.couples.tolist()}
    partners = 0
    for n in range(20):
        rows, couples = sampler.batch(np.random.default_rng(n))
        assert (len(rows), couples) == (40, 5)
        first, second = rows[::2], rows[1::2]
        assert (s.tracks[first] == s.tracks[second]).all()
        assert (first[held[first]] == second[held[first]]).all()
        assert not held[rows[: 4 * couples]].any()
        assert all(tuple(c) in frames for c in first[: 2 * couples].reshape(-1, 2).tolist())
        partners += int((first != second).sum())
    assert partners > 100


def test_a_show_without_frames_of_two_has_no_couples() -> None:
    sampler = PairSampler(np.arange(9), np.empty((0, 2), np.int64), np.zeros(9, bool), pairs=64)
    rows, couples = sampler.batch(np.random.default_rng(0))
    assert couples == 0
    assert (rows[::2] == rows[1::2]).all()
    assert len(np.unique(rows)) == 9


def test_one_seed_gives_the_same_weights_and_another_seed_others() -> None:
    one, again, other = (show().adapt(seed=seed, steps=6) for seed in (0, 0, 1))

    def weights(adapted: Adapted) -> list[torch.Tensor]:
        return list(adapted.embedder.state_dict().values())

    assert one.history == again.history
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(again), strict=True))
    assert one.history != other.history


def test_random_numbers_and_threads_of_the_caller_are_left_alone() -> None:
    s = show()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    adapt(
        s.crops[:24], s.tracks[:24], s.couples[(s.couples < 24).all(1)], s.before[:24],
        start=None, steps=1, threads=2, recipe=replace(RECIPE, looks=1),
    )  # fmt: skip
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == 1


def test_it_is_better_than_a_random_network_and_says_by_how_much() -> None:
    s = show()
    torch.manual_seed(0)
    poor = embed_crops(Embedder(densenet_small()).eval(), s.crops)
    seen: list[tuple[int, int, float | None]] = []
    adapted = s.adapt(before=poor, progress=lambda *told: seen.append(told))
    assert adapted.kept
    assert adapted.after.score > adapted.before.score
    assert f"{adapted.before.score:.4f} to {adapted.after.score:.4f}" in adapted.reason
    assert seen[-1][:2] == (12, 12)
    assert [t[2] for t in seen if t[2] is not None] == [signal.score for _, signal in adapted.history]
    x = adapted.embed(s.crops)
    assert np.allclose(np.linalg.norm(x, axis=1), 1, atol=1e-4)
    assert figures.retrieval(x, s.names) > figures.retrieval(poor, s.names)


def test_what_is_taken_lies_half_the_way_from_trained_weights() -> None:
    s = show()
    poor = np.random.default_rng(0).normal(size=(len(s.crops), 8)).astype(np.float32)

    def learned(way: float) -> dict[str, torch.Tensor]:
        adapted = s.adapt(before=poor, steps=6, recipe=replace(RECIPE, looks=1, way=way))
        assert adapted.taken_step == 6
        return {k: v for k, v in adapted.embedder.state_dict().items() if k.startswith("net.")}

    none, half, whole = learned(0.0), learned(0.5), learned(1.0)
    assert max(float((none[k] - whole[k]).abs().max()) for k in none if none[k].is_floating_point()) > 1e-4
    for k in none:
        assert torch.allclose(half[k].float(), (none[k].float() + whole[k].float()) / 2, atol=1e-6), k


def test_from_no_weights_it_goes_the_whole_way() -> None:
    half, whole = (
        show().adapt(steps=6, start=None, recipe=replace(RECIPE, looks=1, way=way)).history
        for way in (0.5, 1.0)
    )
    assert half == whole
    assert half


def test_perfect_embeddings_are_not_given_up() -> None:
    s = show()
    perfect = np.eye(int(s.names.max()) + 1, dtype=np.float32)[s.names]
    adapted = s.adapt(before=perfect, steps=6)
    assert not adapted.kept
    assert adapted.taken_step == 0
    assert "old embeddings stay" in adapted.reason


def test_nothing_to_measure_by_keeps_the_old_ones() -> None:
    s = show()
    adapted = adapt(
        s.crops, np.arange(len(s.crops)), np.empty((0, 2), np.int64), s.before,
        start=DEFAULT, steps=6, recipe=RECIPE,
    )  # fmt: skip
    assert not adapted.kept
    assert "to measure by" in adapted.reason


def test_the_clock_ends_it_and_only_looks_count() -> None:
    poor = np.random.default_rng(0).normal(size=(len(show().crops), 8))
    adapted = show().adapt(seconds=2.0, steps=10_000, before=poor)
    assert 0 < adapted.steps < adapted.planned_steps == 10_000
    assert adapted.history == ()
    assert not adapted.kept
    assert "time was up" in adapted.reason


def test_steps_follow_from_the_budget_alone() -> None:
    assert planned_steps(180) == 3 * planned_steps(60) > 400
    adapted = show().adapt(steps=None, seconds=4.0)
    assert adapted.planned_steps == planned_steps(4.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": None, "seconds": 0.3}, "once over"),
        ({"before": np.zeros((3, 8), np.float32)}, "before: expected shape"),
        ({"start": resolve("default", "detector").path}, "default embedder's weights"),
    ],
)
def test_bad_input_is_told(change: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(EngineError, match=message):
        show().adapt(**change)


def test_a_loss_that_is_not_finite_stops_it() -> None:
    with pytest.raises(EngineError, match=r"expected a finite loss.*old embeddings stay"):
        show().adapt(recipe=replace(RECIPE, rate=float("inf")))


def test_the_exported_network_is_an_embedder_of_the_pipeline(tmp_path: Path) -> None:
    from stream.config import EmbedderConfig
    from stream.embed import Embedder as Station

    adapted = show().adapt(steps=6)
    adapted.export(tmp_path / "own.onnx")
    export(read_embedder(DEFAULT), tmp_path / "default.onnx", {}, DEFAULT)
    station = Station(EmbedderConfig(model=str(tmp_path / "own.onnx")), device="cpu", threads=1)
    own, theirs = (
        onnxruntime.InferenceSession(str(tmp_path / f"{name}.onnx")).get_modelmeta().custom_metadata_map
        for name in ("own", "default")
    )
    assert set(theirs) < set(own)
    assert json.loads(own["imgsz"]) == [64, 64]
    assert station.dim == 256
    x = normalize(pixels(show().crops[:8])).numpy()
    session = onnxruntime.InferenceSession(str(tmp_path / "own.onnx"))
    both = sum(session.run(None, {"images": part})[0] for part in (x, x[:, :, :, ::-1].copy()))
    assert np.allclose(figures.unit(both), adapted.embed(show().crops[:8]), atol=1e-4)


def test_the_signal_falls_when_characters_mix_and_when_views_fall_apart() -> None:
    s = show()
    judge = Judge(s.tracks, s.couples, 0.0, 0)
    rng = np.random.default_rng(0)
    good = np.eye(int(s.names.max()) + 1)[s.names]
    noise = rng.normal(size=(len(good), 16))
    apart = rng.normal(size=(int(s.tracks.max()) + 1, 16))[s.tracks]

    def score(x: np.ndarray) -> float:
        return judge.measure(x[judge.rows]).score

    one, two = (np.concatenate([good, level * noise], 1) for level in (0.05, 0.5))
    mixed = good @ np.where(np.eye(good.shape[1]) > 0, 1.0, 0.8)
    split = np.concatenate([good, 1.0 * apart], 1)
    assert score(one) > score(two)
    assert score(good) > score(mixed + 0.3 * noise[:, : good.shape[1]])
    assert score(good) > score(split)
    assert judge.measure(good[judge.rows]).verification > 0.99


def test_the_judge_measures_by_tracks_that_training_does_not_use() -> None:
    s = show()
    judge = Judge(s.tracks, s.couples, 0.25, 3)
    rivals = np.unique(s.tracks[s.couples])
    assert len(np.unique(s.tracks[judge.held])) == 18 < len(rivals) // 2
    assert np.isin(s.tracks[judge.held], rivals).all()
    assert judge.measure(s.before[judge.rows]).rivals > 0
    free = PairSampler(s.tracks, s.couples, judge.held).couples
    assert not judge.held[free].any()


@pytest.mark.slow
def test_from_scratch_it_finds_the_characters_of_a_show() -> None:
    s = Show(23, 60.0, 8)
    hand = figures.handmade(s.crops)
    adapted = s.adapt(before=hand, start=None, steps=180, recipe=AdaptRecipe(pairs=48))
    assert adapted.kept
    reached = figures.clustering(adapted.embed(s.crops), s.names, 8)
    assert reached["purity"] > figures.clustering(hand, s.names, 8)["purity"]
