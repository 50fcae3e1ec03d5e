"""Characters: same pixels for a seed, tight sprites, every family in every pose, casts told apart."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from stream.cartoon.casting import random_character
from stream.cartoon.characters import FAMILIES, LOOKS, Look, Pose, draw_character, make_cast, signature
from stream.errors import ConfigError


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", LOOKS)
def test_every_family_draws_in_every_look_and_pose(family: str, kind: str) -> None:
    rng = np.random.default_rng([FAMILIES.index(family), LOOKS.index(kind)])
    character = random_character(rng, Look.named(kind, 1), family)
    for height in (9, 64, 151):
        for pose in (Pose(), Pose(back=True), Pose.walk(0.3, -1.0), Pose.random(rng)):
            sprite = draw_character(character, pose, height)
            alpha = sprite.rgba[..., 3]
            assert sprite.rgba.dtype == np.uint8
            # Tight: the outermost rows and columns are not empty.
            assert alpha[0].any()
            assert alpha[-1].any()
            assert alpha[:, 0].any()
            assert alpha[:, -1].any()
            assert (sprite.face is None) == pose.back
            if sprite.face is not None:
                x1, y1, x2, y2 = sprite.face
                assert 0 <= x1 < x2 <= sprite.rgba.shape[1]
                assert 0 <= y1 < y2 <= sprite.rgba.shape[0]


def test_standing_height_is_what_was_asked_for() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        character = random_character(rng)
        assert abs(draw_character(character, Pose(), 150).rgba.shape[0] - 150) <= 4
    with pytest.raises(ValueError, match="height_px"):
        draw_character(character, Pose(), 0)


def test_the_face_is_in_the_upper_part_and_turns_with_the_pose() -> None:
    rng = np.random.default_rng(3)
    character = random_character(rng, Look.named("cel"), "quadruped")
    left, right = (draw_character(character, Pose(facing=f), 120) for f in (-1.0, 1.0))
    assert left.face is not None
    assert right.face is not None
    assert left.face[0] - left.anchor[0] < 0 < right.face[2] - right.anchor[0]


def test_same_seed_same_pixels_other_seed_other_pixels() -> None:
    def draw(seed: int) -> list[bytes]:
        rng = np.random.default_rng(seed)
        return [draw_character(random_character(rng), Pose.random(rng), 90).rgba.tobytes() for _ in range(12)]

    assert draw(7) == draw(7)
    assert not set(draw(7)) & set(draw(8))


def test_grey_looks_have_no_colour() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        character = random_character(rng, Look(grey=True, hose=True))
        rgb = draw_character(character, Pose.random(rng), 80).rgba[..., :3].astype(int)
        assert np.ptp(rgb, axis=2).max() <= 1


@pytest.mark.parametrize("seed", range(6))
def test_a_cast_can_be_told_apart(seed: int) -> None:
    look = Look.named(("cel", "flat")[seed % 2], seed)
    cast = make_cast(6, seed, look)
    assert [member.name for member in cast] == [f"Character {letter}" for letter in "ABCDEF"]
    assert {member.look for member in cast} == {look}
    assert len({member.family for member in cast}) >= 3
    signs = [signature(member) for member in cast]
    gaps = [np.abs(a - b).mean() for i, a in enumerate(signs) for b in signs[:i]]
    # Among 60 characters drawn by lot one pair in twenty is closer than 0.041, the closest 0.027.
    assert min(gaps) > 0.041
    assert make_cast(6, seed, look) == cast
    assert make_cast(6, seed + 100, look) != cast


def test_large_and_empty_casts() -> None:
    names = [member.name for member in make_cast(28, 0, Look())]
    assert len(set(names)) == 28
    assert names[26] == "Character AA"
    assert make_cast(0, 0) == ()
    with pytest.raises(ValueError, match="count"):
        make_cast(-1, 0)


def test_a_walk_cycle_moves_the_legs() -> None:
    character = random_character(np.random.default_rng(4), Look.named("flat"), "human")
    drawings = [draw_character(character, Pose.walk(k / 8), 100).rgba.tobytes() for k in range(8)]
    assert all(a != b for a, b in pairwise(drawings))
    assert draw_character(character, Pose.walk(1.25), 100).rgba.tobytes() == drawings[2]


def test_unknown_style_names_the_right_ones() -> None:
    with pytest.raises(ConfigError, match=r"flat, cel, hose.*'clay'"):
        Look.named("clay")
