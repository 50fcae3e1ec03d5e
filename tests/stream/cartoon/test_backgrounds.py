"""Backgrounds and props: every style at odd sizes, deterministic, black and white where asked for."""

from __future__ import annotations

import numpy as np
import pytest

from stream.cartoon.backgrounds import STYLES, foreground_prop, paint_background
from stream.cartoon.characters import Look
from stream.cartoon.props import HEIGHTS, PROPS, draw_prop


@pytest.mark.parametrize("style", STYLES)
def test_every_style_paints_at_odd_sizes(style: str) -> None:
    for seed, (width, height) in enumerate([(1, 1), (3, 50), (33, 7), (111, 63), (257, 191)]):
        picture = paint_background(np.random.default_rng(seed), width, height, style)
        assert picture.shape == (height, width, 3)
        assert picture.dtype == np.uint8
        again = paint_background(np.random.default_rng(seed), width, height, style)
        assert np.array_equal(picture, again)


def test_seeds_give_different_pictures_and_random_styles() -> None:
    pictures = [paint_background(np.random.default_rng(seed), 64, 36) for seed in range(20)]
    assert len({picture.tobytes() for picture in pictures}) == 20
    means = np.array([picture.mean(axis=(0, 1)) for picture in pictures])
    assert means.std(axis=0).min() > 15


def test_grey_look_paints_without_colour() -> None:
    for style in STYLES:
        picture = paint_background(np.random.default_rng(1), 80, 45, style, Look(grey=True)).astype(int)
        assert np.ptp(picture, axis=2).max() == 0


@pytest.mark.parametrize("kind", PROPS)
def test_every_prop_draws_tight_in_every_shading(kind: str) -> None:
    assert kind in HEIGHTS
    for seed, shading in enumerate(("flat", "cel", "soft")):
        for height in (4, 77):
            rgba = draw_prop(
                kind, np.random.default_rng(seed), height, Look(shading=shading, fur=0.01 * seed)
            )
            assert rgba.dtype == np.uint8
            assert rgba.shape[2] == 4
            alpha = rgba[..., 3]
            assert alpha[0].any()
            assert alpha[-1].any()
            assert alpha[:, 0].any()
            assert alpha[:, -1].any()


def test_foreground_prop_has_about_the_height_asked_for() -> None:
    heights = [foreground_prop(np.random.default_rng(seed), 100).shape[0] for seed in range(30)]
    assert min(heights) > 60
    assert max(heights) < 180


def test_unknown_names_and_sizes_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="style: expected one of hills"):
        paint_background(rng, 10, 10, "moon")
    with pytest.raises(ValueError, match="at least 1x1"):
        paint_background(rng, 0, 10)
    with pytest.raises(ValueError, match="kind: expected one of tree"):
        draw_prop("dragon", rng, 10)
