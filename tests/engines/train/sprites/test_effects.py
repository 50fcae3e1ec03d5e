"""Things that move and are no characters: every kind can be drawn, cropped, and drawn again the same."""

import numpy as np
import pytest
from PIL import Image

from engines.train.material import SPRITE_NOTES, THING, effect_sprites
from engines.train.sprites.effects import EFFECTS, draw_effect


@pytest.mark.parametrize("kind", sorted(EFFECTS))
def test_every_kind_shows_something_with_a_shape_of_its_own(kind: str) -> None:
    alphas = []
    for seed in range(6):
        image = Image.new("RGBA", (160, 160))
        EFFECTS[kind](np.random.default_rng(seed), image)
        alphas.append(np.asarray(image)[..., 3] > 20)
    shares = [float(a.mean()) for a in alphas]
    assert min(shares) > 0.002
    assert max(shares) < 0.8  # no full square
    assert not all(np.array_equal(alphas[0], a) for a in alphas[1:])


def test_a_drawing_is_cropped_and_depends_on_the_seed_alone() -> None:
    for seed in range(20):
        rgba = draw_effect(np.random.default_rng(seed), 64)
        seen = rgba[..., 3] > 20
        assert max(rgba.shape[:2]) <= 64
        assert seen[0].any()
        assert seen[-1].any()
        assert seen[:, 0].any()
        assert seen[:, -1].any()
        assert np.array_equal(rgba, draw_effect(np.random.default_rng(seed), 64))


def test_they_are_things_in_the_bank() -> None:
    shelf = effect_sprites(5, 0)
    assert len(shelf) == 5
    assert shelf.notes.shape == (5, SPRITE_NOTES)
    assert (shelf.notes[:, 0] == THING).all()
