"""Things that stand about and are no characters: every family is drawn, cropped, and drawn again the same."""

import numpy as np
import pytest

from engines.train.material import SPRITE_NOTES, THING, prop_sprites
from engines.train.sprites import props
from engines.train.sprites.cels import Sketch, palette
from engines.train.sprites.props import PROPS, draw_prop


@pytest.mark.parametrize("family", sorted(PROPS))
def test_every_family_shows_something_with_a_shape_of_its_own(family: str) -> None:
    alphas = []
    for seed in range(8):
        rng, sketch = np.random.default_rng(seed), Sketch()
        PROPS[family](sketch, rng, palette(rng))
        rgba, face = sketch.paint(rng, 96, 1.0, toned=True)
        assert face is None  # a face would be learned as a character's
        alphas.append(rgba[..., 3] > 20)
    shares = [float(a.mean()) for a in alphas]
    assert max(shares) > 0.03
    assert np.median(shares) < 0.8  # no full squares
    assert not all(np.array_equal(alphas[0], a) for a in alphas[1:])


def test_a_drawing_is_cropped_and_depends_on_the_seed_alone() -> None:
    for seed in range(40):
        rgba = draw_prop(np.random.default_rng(seed), 64)
        seen = rgba[..., 3] > 20
        assert max(rgba.shape[:2]) <= 64
        assert seen[[0, -1]].any(1).all()
        assert seen[:, [0, -1]].any(0).all()
        assert np.array_equal(rgba, draw_prop(np.random.default_rng(seed), 64))


def test_a_sketch_without_a_stroke_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign may happen to have no letter: another is drawn."""
    calls = []

    def seldom(sketch: Sketch, _rng: object, _palette: object) -> None:
        calls.append(len(calls))
        if len(calls) > 2:
            sketch.fill([[0, 0], [1, 0], [1, 1]], (200, 30, 30))

    monkeypatch.setattr(props, "PROPS", {"seldom": seldom})
    assert draw_prop(np.random.default_rng(0), 32).shape[2] == 4
    assert len(calls) == 3


def test_they_are_things_in_the_bank() -> None:
    shelf = prop_sprites(5, 0)
    assert shelf.notes.shape == (5, SPRITE_NOTES)
    assert (shelf.notes[:, 0] == THING).all()
