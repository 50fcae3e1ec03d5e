"""GIST: what its filters answer to, what it does not see, and the pipeline that runs on it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from engines.classical.gist import Gist, GistEngine, GistSettings, gabor_bank
from engines.runtime import Engine, EngineError
from stream import run
from stream.cartoon.write import render_episode
from stream.config import EmbedderConfig
from stream.embed import Embedder
from stream.workdir import WorkFolder

GREY = GistSettings()


def grating(frequency: float, angle: float, side: int = 64, phase: float = 0.3) -> np.ndarray:
    """(1, 3, side, side): a wave of ``frequency`` cycles a pixel that runs along ``angle`` from x, y down."""
    y, x = np.mgrid[:side, :side]
    wave = np.sin(2 * math.pi * frequency * (x * math.cos(angle) + y * math.sin(angle)) + phase)
    return np.repeat((0.5 + 0.3 * wave)[None, None], 3, axis=1).astype(np.float32)


def pictures(count: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).random((count, 3, 16, 16)).astype(np.float32)
    return np.kron(coarse, np.ones((1, 1, 4, 4), np.float32))


@pytest.mark.parametrize("scale", range(4))
@pytest.mark.parametrize("turn", range(8))
def test_a_grating_excites_the_filter_of_its_scale_and_orientation(scale: int, turn: int) -> None:
    frequency = GREY.finest / GREY.ratio**scale
    found = Gist(GREY)(grating(frequency, math.pi * turn / 8))[0].reshape(4, 8, 16).mean(2)
    assert np.unravel_index(found.argmax(), found.shape) == (scale, turn)
    assert found[scale, turn] > 2 * found[scale, (turn + 4) % 8]  # waves across it hardly pass


def test_orientations_may_differ_between_scales() -> None:
    settings = GistSettings(orientations=(8, 8, 4))
    assert settings.dimensions == 20 * 16
    found = Gist(settings)(grating(0.3 / 1.85**2, math.pi / 4))[0].reshape(20, 16).mean(1)
    assert found.argmax() == 8 + 8 + 1


def test_neighbouring_filters_meet_where_each_passes_half() -> None:
    bank = gabor_bank(GistSettings(side=128, border=64))  # 256 wide: fine steps of frequency
    assert bank.shape == (32, 256, 256)
    axis = np.fft.fftfreq(256)
    for scale in range(3):
        centre = 0.3 / 1.85**scale
        meet = int(np.argmin(np.abs(axis - 2 * centre / (1 + 1 / 1.85) / 1.85)))
        assert bank[8 * scale, 0, meet] == pytest.approx(0.5, abs=0.06)
        assert bank[8 * scale].max() == pytest.approx(1, abs=0.03)
    assert bank[:, 0, 0].max() == 0
    assert (bank[:, :, 128:] <= 1).all()


def test_every_channel_has_its_own_part() -> None:
    image = np.full((1, 3, 64, 64), 0.5, np.float32)
    image[:, 1] = grating(0.1, 0.0)[:, 0]
    found = Gist(GistSettings(colour=True))(image)[0].reshape(3, -1).sum(1)
    assert found[1] > 100 * found[[0, 2]].max()
    assert GistSettings(colour=True).dimensions == 3 * Gist().settings.dimensions == 1536


def test_a_square_says_what_lies_in_it() -> None:
    image = np.full((1, 3, 64, 64), 0.5, np.float32)
    image[:, :, 48:, 16:32] = grating(0.3, 0.0)[:, :, 48:, 16:32]
    found = Gist(GREY)(image)[0].reshape(4, 8, 4, 4)[0, 0]
    assert np.unravel_index(found.argmax(), found.shape) == (3, 1)
    assert found[3, 1] > 10 * found[:2].max()


def test_a_shift_within_a_square_changes_little_and_another_picture_much() -> None:
    one, other = pictures(2)

    def likeness(a: np.ndarray, b: np.ndarray) -> float:
        x, y = Gist()(np.stack([a, b]))
        x, y = x - x.mean(), y - y.mean()
        return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))

    near = likeness(one, np.roll(one, 2, axis=2))
    far = likeness(one, np.roll(one, 16, axis=2))  # a whole square
    assert near > 0.9
    assert near > far + 0.2
    assert near > likeness(one, other) + 0.2


def test_a_square_on_goes_to_the_next_square() -> None:
    """What repeats from edge to edge has no borders, so that nothing else changes."""
    settings = GistSettings(colour=False, border=0)
    image = pictures(1)
    before = Gist(settings)(image).reshape(32, 4, 4)
    after = Gist(settings)(np.roll(image, 16, axis=3)).reshape(32, 4, 4)
    np.testing.assert_allclose(after, np.roll(before, 1, axis=2), rtol=1e-3, atol=1e-4)


def test_light_and_contrast_hardly_count() -> None:
    image = 0.2 + 0.6 * pictures(1)
    plain, dim = Gist()(image)[0], Gist()(0.5 * image)[0]
    assert float(np.abs(plain - dim).mean() / plain.mean()) < 0.05
    empty = Gist()(np.full((1, 3, 64, 64), 0.7, np.float32))
    assert np.abs(empty).max() < 1e-2


def test_the_same_numbers_in_any_batch_and_every_time() -> None:
    images = pictures(5)
    whole = Gist()(images)
    assert whole.dtype == np.float32
    assert (whole >= 0).all()
    np.testing.assert_array_equal(whole, Gist()(images))
    np.testing.assert_array_equal(whole[3:4], Gist()(images[3:4]))
    assert Gist()(images[:0]).shape == (0, 512)


def test_the_engine_is_one_and_its_hash_follows_the_settings() -> None:
    engine = GistEngine()
    assert isinstance(engine, Engine)
    np.testing.assert_array_equal(engine.run(images=pictures(2))["embedding"], Gist()(pictures(2)))
    with pytest.raises(EngineError, match="expected the input 'images', got pixels"):
        engine.run(pixels=pictures(1))
    with pytest.raises(ValueError, match=r"expected \(N, 3, 64, 64\), got \(2, 3, 32, 32\)"):
        engine.run(images=pictures(2)[:, :, :32, :32])
    assert engine.sha256 == GistEngine().sha256 != GistEngine(GistSettings(side=128)).sha256
    assert engine.fallbacks == ()
    assert GistEngine(device="cuda").fallbacks[0].reason == "GIST has no GPU version"


@pytest.mark.parametrize(
    "wrong",
    [{"side": 30}, {"side": 8}, {"finest": 0.5}, {"ratio": 1.0}, {"orientations": ()}, {"border": 64}],
)
def test_settings_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="GistSettings: expected"):
        GistSettings(**wrong)  # type: ignore[arg-type]


def test_as_the_embedder_of_crops() -> None:
    embedder = Embedder(EmbedderConfig(model="gist"), device="cpu", threads=1)
    assert (embedder.input_size, embedder.dim) == (64, 512)
    assert "gist (64x64 -> 512, with mirror) on NumPy" in embedder.description
    assert embedder.model_hash == GistEngine().sha256


def test_the_pipeline_runs_on_it(tmp_path: Path) -> None:
    episode = render_episode(
        tmp_path / "in", seed=3, characters=2, seconds=5, width=320, height=192, fps=8, label_interval_s=1.0
    )
    summary = run(
        episode.video,
        tmp_path / "work",
        embedder="gist",
        boxes=str(episode.boxes_csv),
        device="cpu",
        threads=1,
    )
    assert summary.clusters >= 1
    with WorkFolder.open(tmp_path / "work", create=False, write=False) as folder:
        vectors = np.asarray(folder.crops().embeddings)
    assert vectors.shape[1] == 512
    assert len(vectors) >= 4
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)
