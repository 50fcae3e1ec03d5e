"""Adapting the detector to a show: the teacher, what a window teaches, the signal, the training."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engines.models import resolve
from engines.nets.yolo import Yolo
from engines.runtime.base import EngineError
from engines.train.films import analyse
from engines.train.show.course import AdaptedDetector, ShowRecipe, adapt
from engines.train.show.pseudo import Lesson, PseudoSettings, judged, lesson
from engines.train.show.signal import Judge
from engines.train.show.teacher import (
    Floats,
    Seen,
    found_again,
    fused,
    net_of_file,
    net_of_torch,
    shift,
    view,
)
from engines.train.tune.start import read_detector
from stream.adapt.show_windows import LENGTH_S, parted, places, window
from stream.cartoon.write import render_episode
from stream.evaluate import match_boxes
from stream.labels import Labels
from stream.probe import describe

SIZE = (96, 160)
QUICK = ShowRecipe(batch=8, creatures=6, cartoons=0, episodes=0, looks=2, fewest=4, fewest_held=1)


def default() -> Path:
    return Path(resolve("default", "detector").path)


def net() -> Yolo:
    return read_detector(default())[0]


@pytest.fixture(scope="module")
def lessons(tmp_path_factory: pytest.TempPathFactory) -> list[Lesson]:
    """What nine windows of an episode teach."""
    place = tmp_path_factory.mktemp("show") / "show.mp4"
    made = render_episode(place, seed=5, characters=4, seconds=16, width=320, height=180, fps=8)
    video = describe(str(made.video), "show", 10.0)
    run = net_of_file(default())
    found = [window(video, start) for _, start in places([video], 9, 0)]
    return [lesson(run, frames, (192, 320), measures=True) for frames in found if frames is not None]


def seen(*rows: tuple[float, float, float, float, float]) -> Seen:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Seen(table[:, :4], table[:, 4])


def test_views_that_agree_are_one_box_and_a_view_that_does_not_see_it_counts_as_zero() -> None:
    out = fused(
        [seen((10, 10, 50, 50, 0.9)), seen((12, 10, 52, 50, 0.7), (80, 10, 99, 40, 0.8)), seen()], 0.55
    )
    assert out.scores == pytest.approx([(0.9 + 0.7) / 3, 0.8 / 3], abs=1e-6)
    assert out.boxes[0] == pytest.approx([10.875, 10, 50.875, 50], abs=1e-3)  # averaged by score
    assert len(fused([seen(), seen()], 0.55).scores) == 0


def test_the_mirror_image_and_the_file_give_the_boxes_of_the_picture(lessons: list[Lesson]) -> None:
    picture = next(x for x in lessons if len(x.sure)).picture
    run = net_of_torch(net())
    plain = view(run, picture[None], (192, 320))[0]
    other = view(run, np.ascontiguousarray(picture[None, :, ::-1]), (192, 320), mirror=True)[0]
    back = picture.shape[1] - other.boxes[:, [2, 0]]  # the net saw the same picture
    assert back == pytest.approx(plain.boxes[:, [0, 2]], abs=0.01)
    filed = view(net_of_file(default()), picture[None], (192, 320))[0]
    assert filed.scores == pytest.approx(plain.scores, abs=1e-3)


def test_a_box_is_found_again_where_the_background_went() -> None:
    rng = np.random.default_rng(0)
    wide = np.kron(rng.integers(0, 255, (30, 50, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    moved = shift(wide[:200, :320], wide[:200, 24:344])  # the camera pans right: all goes left
    assert moved.tolist() == [-24, 0]
    boxes = np.array([[100, 50, 120, 90]], np.float32)
    assert found_again(boxes, seen((76, 50, 96, 90, 0.6)), moved, 0.35).tolist() == pytest.approx([0.6])
    assert found_again(boxes, seen((101, 50, 121, 90, 0.5)), moved, 0.35).tolist() == pytest.approx([0.5])
    assert found_again(boxes, seen((10, 50, 30, 90, 0.6)), moved, 0.35).tolist() == [0]


def test_windows_lie_evenly_and_none_learned_from_overlaps_one_held_out(tmp_path: Path) -> None:
    made = render_episode(tmp_path / "a.mp4", seed=1, characters=1, seconds=12, width=64, height=64, fps=4)
    video = describe(str(made.video), "a", 10.0)
    long = replace(video, duration_s=600.0)
    where = places([video, long], 100, 0)
    assert [n for n, _ in where].count(0) == 2  # by its share of the length
    assert all(0 <= start <= (12.0, 600.0)[n] - LENGTH_S for n, start in where)
    gaps = np.diff([start for n, start in where if n == 1])
    assert 2 < gaps.min() < gaps.max() < 12
    short = places([replace(video, duration_s=60.0)], 1000, 0)
    assert 60 <= len(short) <= 80  # their middles are no closer than that, however many are asked for
    for windows in (short, *(places([replace(video, duration_s=s)], 1000, 0) for s in (4.3, 6.0, 8.0))):
        moments = [round(4 * start) / 4 for _, start in windows]  # as they are read
        assert len(moments) > 1
        assert np.diff(moments).min() >= 0.25
        assert np.diff(moments).mean() >= 0.7
    for windows in (where, short):
        learned, held = parted(windows)
        assert 0.1 < len(held) / len(windows) < 0.3
        assert len(learned) > len(windows) / 2
        assert not set(learned) & set(held)
        for i in learned:
            (one, start), others = windows[i], [windows[k] for k in held]
            assert all(one != other or abs(start - at) >= LENGTH_S for other, at in others)
    assert places([replace(video, duration_s=2.0)], 10, 0) == []
    assert [n for n, _ in places([video, replace(video, duration_s=2.0), *[long] * 8], 3, 0)] == [0, 5, 9]
    assert len(places([replace(video, duration_s=3.0)] * 50 + [long], 60, 0)) == 60


def test_a_window_is_of_one_shot(tmp_path: Path) -> None:
    made = render_episode(tmp_path / "a.mp4", seed=5, characters=2, seconds=20, width=160, height=96, fps=8)
    video = describe(str(made.video), "a", 10.0)
    cut = made.script.shots[0].frames / 8
    frames = window(video, cut - 1.0)  # four frames before the cut, seven after it
    assert frames is not None
    assert 5 <= len(frames) <= 8
    assert frames.shape[1:] == (96, 160, 3)


def test_what_is_sure_scenery_and_doubt_is_told_apart() -> None:
    """Someone walks along a still street."""
    rng = np.random.default_rng(0)
    street = np.kron(rng.integers(60, 200, (12, 20, 3)), np.ones((16, 16, 1)))
    walker = np.kron(rng.integers(0, 255, (10, 5, 3)), np.ones((8, 8, 1)))
    frames = [street.astype(np.uint8) for _ in range(11)]
    for k, frame in enumerate(frames):
        frame[80:160, 60 + 12 * k : 100 + 12 * k] = walker
    motion = analyse(frames)
    assert motion.registered
    walks, head = (120, 80, 160, 160), (130, 80, 150, 110)
    shed, poster, ghost = (270, 20, 310, 60), (10, 10, 40, 60), (80, 90, 110, 150)
    bust, crowd = (122, 80, 158, 125), (60, 60, 240, 170)
    found = seen((*walks, 0.8), (*poster, 0.75), (*bust, 0.5), (*shed, 0.32), (*ghost, 0.3), (*head, 0.2))
    sure, unjudged = judged(found, np.full(6, 0.5, np.float32), motion, PseudoSettings())
    # what lies still must be believed in more; a part of the walker is no character of its own
    assert sure.tolist() == [True, True, False, False, False, False]

    def unknown(box: tuple[int, int, int, int]) -> float:
        return float(unjudged[box[1] : box[3], box[0] : box[2]].mean())

    assert unknown(shed) == 0  # scenery, whatever one half believes
    assert unknown(ghost) == 1  # in the way that the walker takes nothing can be said
    assert unknown((140, 80, 160, 160)) == 0
    fleeting, _ = judged(found, np.array([0, 0.5, 0, 0, 0, 0], np.float32), motion, PseudoSettings())
    assert fleeting.tolist() == [False, True, *[False] * 4]  # not found again half a second away
    around = seen((*walks, 0.8), (*crowd, 0.4))
    sure, unjudged = judged(around, np.full(2, 0.5, np.float32), motion, PseudoSettings())
    assert sure.tolist() == [True, False]
    assert unknown((165, 90, 175, 150)) == 1


def test_scores_move_with_the_working_threshold() -> None:
    at = PseudoSettings()
    assert at.at(0.1).sure == pytest.approx(at.sure)
    assert at.at(0.25).still_sure == pytest.approx(0.875)  # odds three times those of 0.7
    assert at.at(0.05).doubt < at.doubt


def test_sure_boxes_are_true_ones(tmp_path: Path) -> None:
    made = render_episode(tmp_path / "a.mp4", seed=8, characters=3, seconds=12, width=320, height=180, fps=8)
    video, labels = describe(str(made.video), "a", 10.0), Labels.read(made.boxes_csv)
    right = count = 0
    for _, start in places([video], 6, 0):
        start = round(start * 4) / 4
        frames = window(video, start)
        if frames is None or len(frames) < 11:  # cut short: its middle is at another time
            continue
        told = lesson(net_of_file(default()), frames, (192, 320))
        true = [b.scaled(320, 180) for b in labels.boxes if abs(b.time_s - start - 1.25) < 0.01]
        taken = match_boxes(told.sure, np.ones(len(told.sure), np.float32), np.array(true, np.float32))
        right, count = right + int((taken >= 0).sum()), count + len(taken)
    assert count >= 2
    assert right / count >= 0.6


def answering(boxes: dict[int, list[tuple[float, float, float, float, float]]]) -> Judge:
    """A judge of two flat pictures, told apart by their first pixel; nothing of the right half is known."""
    unjudged = np.zeros((192, 320), bool)
    unjudged[:, 160:] = True
    rows = []
    for k, sure in boxes.items():
        picture = np.full((192, 320, 3), 10 * k, np.uint8)
        rows.append(
            Lesson(picture, np.array(sure, np.float32).reshape(-1, 5)[:, :4], unjudged, len(sure), 0,
                   ((picture, np.zeros(2, np.float32)),))
        )  # fmt: skip
    return Judge(rows, (192, 320), 0.1)


def says(of: dict[int, list[tuple[float, float, float, float, float]]]):  # type: ignore[no-untyped-def]
    """A net with these boxes and scores for the picture of each grey."""

    def run(images: Floats) -> Floats:
        out = np.zeros((len(images), 6, 4), np.float32)
        for row, image in zip(out, images, strict=True):
            for j, (x1, y1, x2, y2, score) in enumerate(of[round(float(image[0, 0, 0]) * 25.5)]):
                row[:5, j] = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, score
        return out

    return run


def test_the_signal_falls_with_false_boxes_on_known_background_alone() -> None:
    true = {1: [(20.0, 20.0, 60.0, 90.0, 0.8)], 2: [(30.0, 20.0, 70.0, 90.0, 0.7)]}
    judge = answering(true)
    good = judge.measure(says(true))
    assert (good.agreement, good.steady, good.quiet, good.boxes) == (1, 1, 1, 1)
    unknown = {k: [*v, (200.0, 20.0, 240.0, 90.0, 0.9)] for k, v in true.items()}
    assert judge.measure(says(unknown)).agreement == 1
    false = {k: [*v, (90.0, 20.0, 130.0, 90.0, 0.9)] for k, v in true.items()}
    worse = judge.measure(says(false))
    assert worse.agreement == pytest.approx(0.5)
    assert worse.quiet == 0
    assert worse.boxes == 2
    odds = (0.9 / 0.1 * 0.8 / 0.2) ** 0.5  # half way from the last that is kept to the first that is not
    assert judge.threshold_for(says(false), 1.0) == pytest.approx(odds / (1 + odds), abs=1e-4)
    assert judge.measure(says({1: [], 2: []})).score == 0
    assert judge.threshold_for(says(false), 9.0) == 0.1  # there are not so many
    assert judge.threshold_for(says(false), 0.0) == 0.1  # or all would be silenced


def test_as_many_boxes_are_kept_of_all_looks_joined() -> None:
    """A box that every second look sees counts half, so its score must be higher to be kept."""
    box = [(20.0, 20.0, 60.0, 90.0, 0.6)]
    lessons = answering({1: box}).lessons
    half = Judge(lessons, (192, 320), 0.4, [(192, 320), (96, 160)])

    def large_alone(images: Floats) -> Floats:
        return says({1: box if images.shape[2] == 192 else []})(images)

    assert half.measure(large_alone).boxes == 0  # 0.6 and nothing: a mean of 0.3
    at = half.threshold_for(large_alone, 1.0)
    odds = (0.6 / 0.4) * (0.4 / 0.6) / (at / (1 - at))  # of the box once ``at`` is moved to 0.4
    odds /= math.exp(0.5)  # there is no other box, so it is lifted by half a logit more
    assert odds / (1 + odds) == pytest.approx(0.8, abs=1e-3)


def test_boxes_that_flicker_are_not_steady(lessons: list[Lesson]) -> None:
    box = [(20.0, 20.0, 60.0, 90.0, 0.8)]
    judge = answering({1: box})
    here = judge.lessons[0]
    gone = (np.full((192, 320, 3), 20, np.uint8), np.zeros(2, np.float32))
    judge.lessons[0] = replace(here, beside=(*here.beside, gone, gone, gone))
    assert judge.measure(says({1: box, 2: []})).steady == pytest.approx(1 / 4)
    assert max(len(x.beside) for x in lessons) == 4  # a quarter and half a second away, either way
    # more boxes than are likely ones count, too: the best is steady, the one after it flickers
    pair = [*box, (90.0, 20.0, 130.0, 90.0, 0.3)]
    judge.lessons[0] = replace(here, beside=(gone,))
    assert judge.measure(says({1: pair, 2: box})).steady == pytest.approx((1 + 3 * 0.5) / 4)


def course(lessons: list[Lesson], seed: int = 0, **changes: float) -> AdaptedDetector:
    recipe = replace(QUICK, **changes)  # type: ignore[arg-type]
    return adapt(net(), lessons[:-2], lessons[-2:], imgsz=SIZE, steps=2, seed=seed, recipe=recipe)


def test_a_seed_gives_the_same_weights_and_another_one_others(lessons: list[Lesson]) -> None:
    states = [course(lessons, seed, margin=-100.0).net.state_dict() for seed in (0, 0, 1)]
    same = [all(torch.equal(states[0][key], other[key]) for key in other) for other in states[1:]]
    assert same == [True, False]


def test_as_many_boxes_reach_the_threshold_as_before(lessons: list[Lesson]) -> None:
    done = course(lessons, margin=-100.0)
    assert done.kept
    assert done.taken_step == 2  # both looks pass: the later one has learned more
    judge = Judge(lessons[-2:], SIZE, 0.1)  # one look, as the course had
    assert judge.measure(net_of_torch(done.net)).boxes == pytest.approx(done.before.boxes, abs=0.51)


def test_a_detector_that_gets_worse_is_not_taken(lessons: list[Lesson]) -> None:
    done = course(lessons, rate=0.02, average=0.0)  # steps that ruin it
    assert not done.kept
    assert done.after.score < done.before.score
    assert "stays" in done.reason
    old = net().state_dict()
    assert all(torch.equal(old[key], value) for key, value in done.net.state_dict().items())


def test_a_rise_that_is_small_for_so_few_windows_is_not_taken(lessons: list[Lesson]) -> None:
    anything = course(lessons, margin=-100.0)
    rise = anything.after.score - anything.before.score
    assert course(lessons, margin=2 * (rise - 0.01)).kept  # two windows are held out
    assert not course(lessons, margin=2 * (rise + 0.01)).kept


def test_a_training_that_gets_no_better_ends_early(lessons: list[Lesson]) -> None:
    recipe = replace(QUICK, rate=0.02, average=0.0, looks=4, patience=2)
    done = adapt(net(), lessons[:-2], lessons[-2:], imgsz=SIZE, steps=8, recipe=recipe)
    assert [step for step, _ in done.history] == [2, 4]
    assert (done.steps, done.planned_steps, done.ended) == (4, 8, "it got no better")
    late = adapt(net(), lessons[:-2], lessons[-2:], imgsz=SIZE, steps=8, longest=0.0, recipe=recipe)
    assert (late.steps, late.ended) == (1, "the clock ended it")
    assert len(late.history) == 1  # and what was trained until then is looked at


def test_a_loss_that_is_not_finite_names_its_pictures(lessons: list[Lesson]) -> None:
    with pytest.raises(EngineError, match=r"step \d: the (loss|gradient) is .*picture"):
        course(lessons, rate=5.0, average=0.0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fewest": 1000}, "at least 1000 sure boxes to learn from"),
        ({"fewest_held": 1000}, "at least 1000 sure boxes to measure by"),
        ({"batch": 1}, "a budget of 2 steps: expected at least"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(
    lessons: list[Lesson], changes: dict[str, int], told: str
) -> None:
    with pytest.raises(EngineError, match=told):
        course(lessons, **changes)
