"""What the detector believes of the films becomes boxes where mirror image and motion agree."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engines.train.backdrops import plain_backdrops
from engines.train.material import FILM_BOXES, FILM_NOTES, Bank, Shelf, creature_sprites, film_note
from engines.train.selftrain import agreed, relabel, self_label
from engines.train.sprites.creatures import draw_creature

BOX = np.array([40.0, 30, 120, 110], np.float32)


class Red(nn.Module):
    """Finds the one red rectangle of a picture; with ``blind_mirror`` it always answers on the left."""

    def __init__(self, sure: float = 0.9, left_only: bool = False) -> None:
        super().__init__()
        self.sure, self.left_only = sure, left_only

    def forward(self, images: Tensor) -> Tensor:
        out = torch.zeros(len(images), 6, 4)
        for row, image in zip(out, images, strict=True):
            ys, xs = torch.nonzero((image[0] > 0.9) & (image[1] < 0.1), as_tuple=True)
            if len(ys):
                x1, x2, y1, y2 = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
                if self.left_only:
                    x1, x2 = torch.tensor(0), torch.tensor(40)
                row[:, 0] = torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, self.sure, 0.0])
        return out


def picture(moving: bool) -> np.ndarray:
    out = np.full((180, 320, 4), 90, np.uint8)
    out[30:110, 40:120, :3] = (255, 0, 0)
    out[..., 3] = 0
    if moving:
        out[20:120, 30:130, 3] = 255
    return out


def bank_of(frames: list[tuple[np.ndarray, list[float]]]) -> Bank:
    return Bank(creature_sprites(2, 1, 0), plain_backdrops(1, 0), Shelf.of(frames, FILM_NOTES))


def boxes_of(bank: Bank, i: int) -> np.ndarray:
    rows = bank.films.notes[i, : 4 * FILM_BOXES].reshape(-1, 4)
    return rows[~np.isnan(rows[:, 0])]


NOTHING = np.zeros((0, 4), np.float32)


def test_an_answer_must_hold_in_the_mirror():
    image = np.ascontiguousarray(picture(True)[..., :3])
    boxes, scores = agreed(Red(), image)
    assert boxes == pytest.approx(BOX[None])
    assert scores == pytest.approx([0.9])
    assert len(agreed(Red(left_only=True), image)[0]) == 0
    assert len(agreed(Red(), np.full_like(image, 10))[0]) == 0


def test_most_views_have_to_agree_and_the_score_is_their_mean():
    class Coarse(Red):
        """Sees nothing in pictures under 200 pixels wide."""

        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) * (images.shape[3] >= 200)

    image = np.ascontiguousarray(picture(True)[..., :3])
    boxes, scores = agreed(Coarse(), image, (160, 320, 640))
    assert boxes == pytest.approx(BOX[None], abs=2)
    assert scores == pytest.approx([0.6])  # four views of six
    assert len(agreed(Coarse(), image, (96, 160, 320))[0]) == 0


def test_inside_a_box_that_is_taken_the_rest_is_judged_if_asked():
    bank = bank_of([(picture(True), film_note(NOTHING, True, 0.5))])
    for asked in (False, True):
        new, _ = self_label(Red(), bank, boxes_per_frame=1.0, judge_inside=asked)
        veil = new.films[0][..., 3]
        assert (veil[35:105, 45:115] == 0).all() == asked
        assert (veil[112:118, 32:38] == 255).all()  # what moves outside of it stays unknown


def test_moving_answers_become_boxes_and_still_ones_are_not_judged():
    part = np.array([[60.0, 50, 90, 80], [200, 100, 240, 160]], np.float32)
    bank = bank_of(
        [
            (picture(True), film_note(part, True, 0.5)),
            (picture(False), film_note(NOTHING, True, 0.5)),
            (picture(False), film_note(NOTHING, False, 0.5)),
            (picture(True), film_note(BOX[None], True, 1.0)),  # drawn: its truth stays
        ]
    )
    new, count = self_label(Red(), bank, boxes_per_frame=0.5)
    assert count == 2
    # the blob inside the answer goes, the one elsewhere stays
    assert boxes_of(new, 0) == pytest.approx(np.stack([BOX, part[1]]))
    assert len(boxes_of(new, 1)) == 0
    assert (new.films[1][30:110, 40:120, 3] == 255).all()
    assert new.films[1][150:, 200:, 3].max() == 0
    assert boxes_of(new, 2) == pytest.approx(BOX[None])
    assert np.array_equal(new.films.notes[3], bank.films.notes[3], equal_nan=True)


def test_every_film_has_its_own_budget():
    """A film the detector is less sure of gets its boxes too."""

    class Shy(Red):
        def forward(self, images: Tensor) -> Tensor:
            out = super().forward(images)
            out[:, 4] *= 1.0 if images[0, 0, 0, 0] < 0.4 else 0.3
            return out

    bright = picture(True)
    bright[:20, :, :3] = 120
    frames = [(picture(True), film_note(NOTHING, True, 0.5, 0))] * 6
    frames += [(bright, film_note(NOTHING, True, 0.5, 1))] * 2
    new, count = self_label(Shy(), bank_of(frames), boxes_per_frame=0.5)
    assert count == 8
    assert [len(boxes_of(new, i)) for i in range(8)] == [1] * 8


def test_without_a_budget_the_films_are_as_their_motion_has_them():
    blob = np.array([[60.0, 50, 90, 80]], np.float32)
    bank = bank_of([(picture(True), film_note(blob, True, 0.5))])
    new, count = self_label(Red(), bank, boxes_per_frame=0.0, judge_inside=True)
    assert count == 0
    assert boxes_of(new, 0) == pytest.approx(blob)
    assert np.array_equal(new.films[0], bank.films[0])


def test_a_relabelled_bank_can_be_loaded(tmp_path: Path):
    bank_of([(picture(True), film_note(NOTHING, True, 0.5))]).save(tmp_path / "a", {})
    assert relabel(Red(), tmp_path / "a", tmp_path / "b", 1.0) == 1
    assert len(boxes_of(Bank.load(tmp_path / "b"), 0)) == 1
    assert boxes_of(Bank.load(tmp_path / "a"), 0).size == 0
    # Gigabytes of sprites are the same file by two names; the films are not.
    for name, same in (("sprites", True), ("backdrops", True), ("films", False)):
        files = [tmp_path / folder / f"{name}.pixels.npy" for folder in "ab"]
        assert files[0].samefile(files[1]) == same


def test_where_nothing_can_be_linked_a_bank_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    bank_of([(picture(True), film_note(NOTHING, True, 0.5))]).save(tmp_path / "a", {})
    relabel(Red(), tmp_path / "a", tmp_path / "b", 1.0)
    assert np.array_equal(Bank.load(tmp_path / "b").sprites.flat, Bank.load(tmp_path / "a").sprites.flat)


def test_creatures_differ() -> None:
    def some() -> Iterator[bytes]:
        for seed in range(4):
            yield draw_creature(np.random.default_rng(seed), 64)[0].tobytes()

    assert len(set(some())) == 4
