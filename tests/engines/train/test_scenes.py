"""Pictures for training: the boxes lie where the sprite's pixels are, and a seed says it all."""

from pathlib import Path

import numpy as np
import pytest

from engines.train.backdrops import plain_backdrops
from engines.train.looks import broken
from engines.train.material import (
    FILM_BOXES,
    FILM_NOTES,
    SPRITE_NOTES,
    Bank,
    Shelf,
    build_bank,
    creature_sprites,
    episode_shelf,
    film_note,
)
from engines.train.pasting import NO_OWNER, around, extents, paste
from engines.train.scenes import MAX_BOXES, SceneMaker, SceneSettings
from engines.train.sprites.creatures import draw_creature
from stream.errors import ConfigError

ONE, ZERO = np.ones(3, np.float32), np.zeros(3, np.float32)


def solid(height: int, width: int, color: tuple[int, int, int] = (200, 10, 10)) -> np.ndarray:
    return np.full((height, width, 4), (*color, 255), np.uint8)


def film(frames: list[np.ndarray], notes: list[list[float]]) -> Shelf:
    return Shelf.of(zip(frames, notes, strict=True), FILM_NOTES)


@pytest.fixture(scope="module")
def bank() -> Bank:
    frame = np.full((192, 320, 4), 60, np.uint8)
    frame[..., 3] = 0
    frame[40:120, 100:180, 3] = 255
    note = film_note(np.array([[104.0, 44, 176, 116]], np.float32), True, 0.5)
    return Bank(creature_sprites(40, 12, 3), plain_backdrops(6, 3), film([frame], [note]))


def test_a_long_film_is_not_drawn_from_more_often_than_a_short_one(bank: Bank):
    frame = np.zeros((96, 160, 4), np.uint8)
    notes = [
        film_note(np.zeros((0, 4), np.float32), True, 0.5, film) for film in [0] * 600 + [1] * 150 + [2] * 6
    ]
    maker = SceneMaker(Bank(bank.sprites, bank.backdrops, film([frame] * len(notes), notes)))
    assert [len(frames) for frames in maker.real] == [600, 150, 6]
    assert np.diff(maker.film_chance, prepend=0) == pytest.approx([120 / 246, 120 / 246, 6 / 246])


@pytest.mark.parametrize(
    ("scale", "mirror", "at"), [(1.0, 1, (50, 40)), (2.5, -1, (60.5, 50.25)), (0.3, 1, (30, 30))]
)
def test_pasted_pixels_lie_where_the_map_says(scale: float, mirror: int, at: tuple[float, float]):
    canvas, owner = np.zeros((100, 120, 3), np.uint8), np.full((100, 120), NO_OWNER, np.uint8)
    sprite = solid(20, 30)
    inside, whole = paste(
        canvas, owner, sprite, around(15, 10, mirror * scale, scale, 0, at), ONE, ZERO, 1.0, 0
    )
    pixels, *box = extents(owner, 1)[0]
    want = [at[0] - 15 * scale, at[1] - 10 * scale, at[0] + 15 * scale, at[1] + 10 * scale]
    assert box == pytest.approx(want, abs=1.0)
    assert inside == pixels == pytest.approx(600 * scale**2, rel=0.12)
    assert whole == inside
    x, y = int(at[0]), int(at[1])
    assert canvas[y, x] == pytest.approx(np.array([200, 10, 10]), abs=2)


def test_a_quarter_turn_swaps_sides_and_the_outside_is_counted():
    canvas, owner = np.zeros((60, 60, 3), np.uint8), np.full((60, 60), NO_OWNER, np.uint8)
    paste(canvas, owner, solid(10, 30), around(15, 5, 1, 1, np.pi / 2, (30, 30)), ONE, ZERO, 1.0, 3)
    assert extents(owner, 4)[3, 1:] == pytest.approx([25, 15, 35, 45], abs=1)
    inside, whole = paste(canvas, owner, solid(20, 20), around(10, 10, 1, 1, 0, (0, 30)), ONE, ZERO, 1.0, 0)
    assert inside == pytest.approx(200, abs=25)
    assert whole == pytest.approx(400, rel=0.15)


def test_the_upper_sprite_owns_shared_pixels():
    canvas, owner = np.zeros((60, 60, 3), np.uint8), np.full((60, 60), NO_OWNER, np.uint8)
    for n, x in enumerate((20, 30)):
        paste(canvas, owner, solid(20, 20), around(10, 10, 1, 1, 0, (x, 30)), ONE, ZERO, 1.0, n)
    seen = extents(owner, 2)
    assert seen[0, [1, 3]] == pytest.approx([10, 20], abs=1)
    assert seen[1, [1, 3]] == pytest.approx([20, 40], abs=1)


def test_a_picture_depends_on_seed_and_number_alone(bank: Bank):
    first, again = SceneMaker(bank, 5), SceneMaker(bank, 5)
    for number in (40, 7):
        a, b = first.make(number), again.make(number)
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.boxes, b.boxes)
        assert np.array_equal(a.ignore, b.ignore)
    other = SceneMaker(bank, 6).make(7)
    assert not np.array_equal(other.image, first.make(7).image)


def test_boxes_and_maps_are_well_formed(bank: Bank):
    maker = SceneMaker(bank, 1)
    count = 0
    for number in range(60):
        height, width = ((192, 320), (192, 256), (160, 288))[number % 3]
        scene = maker.make(number, height, width)
        assert scene.image.shape == (height, width, 3)
        assert scene.ignore.shape == (height // 8, width // 8, 2)
        assert len(scene.boxes) <= MAX_BOXES
        box = scene.boxes
        assert (box[:, 3] > box[:, 1]).all()
        assert (box[:, 4] > box[:, 2]).all()
        assert (box[:, 1:3] >= 0).all()
        assert (box[:, 3] <= width).all()
        assert (box[:, 4] <= height).all()
        assert set(box[:, 0]) <= {0.0, 1.0}
        count += len(box)
    assert count > 60


def test_a_face_lies_in_a_character(bank: Bank):
    maker = SceneMaker(bank, 2, SceneSettings(film=0, most=1))
    faces = 0
    for number in range(40):
        boxes = maker.make(number).boxes
        for face in boxes[boxes[:, 0] == 1]:
            body = boxes[boxes[:, 0] == 0][0]
            low, high = np.maximum(face[1:3], body[1:3]), np.minimum(face[3:5], body[3:5])
            shared = np.clip(high - low, 0, None).prod()
            assert shared > 0.75 * (face[3] - face[1]) * (face[4] - face[2])
            faces += 1
    assert faces > 8


def test_a_film_frame_brings_its_box_and_what_is_unknown(bank: Bank):
    maker = SceneMaker(bank, 4, SceneSettings(film=1.0, empty=1.0))
    boxes, veiled = 0, 0
    for number in range(12):
        scene = maker.make(number)
        boxes += int((scene.boxes[:, 5] == 0.5).sum())
        veiled += int(scene.ignore.any())
        for box in scene.boxes:
            x, y = int((box[1] + box[3]) / 2) // 8, int((box[2] + box[4]) / 2) // 8
            assert scene.ignore[y, x].all()
    assert boxes >= 4
    assert veiled >= 8


def test_shuffling_leaves_no_large_piece_in_place():
    rng = np.random.default_rng(0)
    source = np.zeros((192, 320, 3), np.uint8)
    source[48:144, 80:240] = 255
    for _ in range(8):
        out = broken(rng, source)
        overlap = float((out[48:144, 80:240] > 200).mean())
        assert overlap < 0.95


def test_a_creature_has_its_face_inside_and_things_have_none():
    rng = np.random.default_rng(1)
    for _ in range(12):
        rgba, face = draw_creature(rng, 96)
        assert max(rgba.shape[:2]) <= 96
        assert rgba[..., 3].any()
        if face is not None:
            assert face[0] < face[2]
            assert face[1] < face[3]
            assert -12 < face[0] < rgba.shape[1]
    assert draw_creature(rng, 96, clutter=True)[1] is None


def test_a_bank_comes_back_as_it_was_saved(bank: Bank, tmp_path: Path):
    bank.save(tmp_path / "bank", {"seed": 3})
    back = Bank.load(tmp_path / "bank")
    assert back.sprites.notes.shape[1] == SPRITE_NOTES
    assert np.array_equal(back.sprites[17], bank.sprites[17])
    a, b = SceneMaker(bank, 5).make(11), SceneMaker(back, 5).make(11)
    assert np.array_equal(a.image, b.image)


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"--art .*nowhere.*expected a folder"):
        build_bank(0, 2, 0, 0, tmp_path / "nowhere", None)


def test_hidden_characters_are_asked_for_or_not_judged():
    """A character is a box where enough of it is seen, and else it is unknown; never background."""
    asked, spared = (episode_shelf(2, 3, 12, ((160, 90),), least) for least in (0.0, 0.9))
    assert len(asked) == len(spared) == 24
    boxes = [(~np.isnan(shelf.notes[:, : 4 * FILM_BOXES : 4])).sum() for shelf in (asked, spared)]
    unknown = [sum(int((shelf[i][..., 3] > 0).sum()) for i in range(24)) for shelf in (asked, spared)]
    assert boxes[0] > boxes[1] > 0
    assert unknown[1] > unknown[0]
