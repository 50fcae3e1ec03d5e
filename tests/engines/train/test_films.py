"""What motion says: the mover is found, the scenery is known, a pan is followed, chaos is not trusted."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines.train.films import analyse, enlarged, film_frames, shift_between, shots, shrunk


def scenery(width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (24, width // 8, 3), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, 192), Image.Resampling.BICUBIC))


def walk(pan: int = 0, step: int = 12) -> list[np.ndarray]:
    wide = scenery(560)
    frames = []
    for i in range(11):
        x = 60 + pan * i
        frame = wide[:, x : x + 320].copy()
        left = 40 + step * i
        frame[60:130, left : left + 40] = (250, 240, 20)
        frames.append(frame)
    return frames


@pytest.mark.parametrize("pan", [0, 4])
def test_a_walker_is_boxed_and_the_rest_is_background(pan: int):
    frame = analyse(walk(pan))
    assert frame.registered
    assert len(frame.boxes) == 1
    assert frame.boxes[0] == pytest.approx([100, 60, 140, 130], abs=5)
    assert frame.unknown[60 // 4 : 130 // 4, 100 // 4 : 140 // 4].all()
    assert not frame.unknown[:8, 12:60].any()
    assert frame.unknown.mean() < 0.6


def test_any_frame_of_the_window_may_be_asked_about():
    first, last = analyse(walk(), 0), analyse(walk(), 10)
    assert first.boxes[0] == pytest.approx([40, 60, 80, 130], abs=5)
    assert last.boxes[0] == pytest.approx([160, 60, 200, 130], abs=5)
    assert last.unknown[60 // 4 : 130 // 4, 160 // 4 : 200 // 4].all()


def test_a_cut_that_was_missed_makes_no_background():
    """All pixels change and none stands out: that is not a shot in which nothing moves."""
    frames = walk(step=0)
    frame = analyse(frames[:6] + [f // 4 for f in frames[6:]])
    assert not frame.registered
    assert frame.unknown.all()


def test_nothing_moves_nothing_is_boxed():
    frame = analyse(walk(step=0))
    assert frame.registered
    assert len(frame.boxes) == 0
    assert not frame.unknown.any()


def test_chaos_is_not_trusted():
    rng = np.random.default_rng(1)
    frame = analyse([rng.integers(0, 255, (192, 320, 3), np.uint8) for _ in range(11)])
    assert not frame.registered
    assert frame.unknown.all()
    assert not analyse(walk()[:3]).registered


def test_shift_is_what_rolls_one_picture_onto_the_other():
    a = scenery(320).astype(np.float32).mean(2)
    dy, dx, peak = shift_between(a, np.roll(a, (-3, 7), (0, 1)))
    assert (dy, dx) == (3, -7)
    assert peak > 0.1


def test_what_is_found_in_the_shrunk_picture_is_said_of_the_whole():
    large = [np.asarray(Image.fromarray(f).resize((416, 248), Image.Resampling.BICUBIC)) for f in walk()]
    small = [shrunk(f) for f in large]
    assert small[0].shape == (188, 320, 3)
    frame = enlarged(analyse(small), large[5])
    assert frame.boxes[0] == pytest.approx([130, 77, 182, 168], abs=8)
    assert frame.unknown.shape == (62, 104)
    assert frame.unknown[80 // 4 : 165 // 4, 135 // 4 : 180 // 4].all()
    assert not frame.unknown[:10, 16:78].any()


def test_cuts_split_shots():
    frames = [np.full((64, 96, 3), v, np.uint8) for v in (10, 12, 11, 200, 201, 90)]
    assert [len(s) for s in shots(iter(frames))] == [3, 2, 1]


@pytest.mark.shared
def test_a_real_film_yields_frames(shared: Path):
    frames = list(film_frames(shared / "media" / "sintel_5s_vp9.webm", 4.0, 4))
    assert len(frames) >= 3
    assert all(f.image.shape[1] == 416 for f in frames)
    assert all(f.unknown.shape == (f.image.shape[0] // 4, 104) for f in frames)
    assert all(f.image.shape[0] % 4 == 0 for f in frames)
