"""Training pictures of a user's images: boxes lie exactly where their figures went."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines.train.labels import LabelledDataset, LabelledImage
from engines.train.tune.data import Batches, BatchSettings, Pictures, canvas_of, picture_of
from engines.train.tune.views import (
    Picture,
    View,
    ViewSettings,
    alone,
    fitted,
    mosaic,
    recolour,
)

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], np.uint8)
GRAIN = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)


def picture(kind: int, height: int = 90, width: int = 160, judged: bool = True) -> Picture:
    """Black, with one rectangle of a colour that nothing else has."""
    rng = np.random.default_rng((kind, height, width))
    image = np.zeros((height, width, 3), np.uint8)
    x, y = int(rng.integers(5, width // 2)), int(rng.integers(5, height // 2))
    w, h = int(rng.integers(20, width // 2 - 5)), int(rng.integers(20, height // 2 - 5))
    image[y : y + h, x : x + w] = COLOURS[kind]
    box = np.array([[x, y, x + w, y + h]], np.float32)
    return Picture(image, box, np.array([kind], np.int32), np.array([judged]))


def extent(image: np.ndarray, kind: int) -> np.ndarray | None:
    """Box of the pixels that are at least half of a kind's colour."""
    near = (np.abs(image.astype(int) - COLOURS[kind]) <= 127).all(2)
    if not near.any():
        return None
    ys, xs = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
    return np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], np.float32)


def check(view: View, kinds: set[int]) -> int:
    """Every box is where its colour is, within a pixel; every colour well in sight has one."""
    boxes = {int(row[0]): row[1:5] for row in view.truth}
    for kind in kinds:
        seen = extent(view.image, kind)
        if kind in boxes:
            assert seen is not None, (kind, boxes)
            np.testing.assert_allclose(boxes[kind], seen, atol=1.0)
        elif seen is not None:  # too little of it is left, so nobody is asked there
            x1, y1, x2, y2 = (int(v) // 8 for v in seen - [0, 0, 1, 1])
            assert view.ignore[y1 : y2 + 1, x1 : x2 + 1].all()
    return len(boxes)


@pytest.mark.parametrize("seed", range(30))
def test_boxes_follow_alone_and_in_fours(seed: int) -> None:
    rng = np.random.default_rng(seed)
    settings = ViewSettings()
    one = alone(rng, picture(seed % 4), 128, 224, settings)
    check(one.finish(one.image), {seed % 4})
    four = mosaic(rng, [picture(k, 90 + 30 * k, 200 - 30 * k) for k in range(4)], 128, 224, settings)
    check(four.finish(four.image), {0, 1, 2, 3})


def test_most_figures_stay_in_sight() -> None:
    rng = np.random.default_rng(1)
    kept = 0
    for _ in range(50):
        canvas = mosaic(rng, [picture(k) for k in range(4)], 128, 224, ViewSettings())
        kept += check(canvas.finish(canvas.image), {0, 1, 2, 3})
    assert 110 < kept < 200


def test_mirrored_pictures_have_mirrored_boxes() -> None:
    settings = ViewSettings(mirror=1, shrink=1, grow=1, stretch=0)
    source = picture(0, 96, 160)
    canvas = alone(np.random.default_rng(0), source, 96, 160, settings)
    view = canvas.finish(canvas.image)
    x1, y1, x2, y2 = source.boxes[0]
    np.testing.assert_allclose(view.truth[0, 1:5], [160 - x2, y1, 160 - x1, y2])
    np.testing.assert_array_equal(view.image, source.image[:, ::-1])


def test_fitted_is_how_the_pipeline_shows_it() -> None:
    from kernels.image import fit_letterbox, letterbox

    source = picture(2, 90, 200)
    view = fitted(source, 128, 160, ViewSettings())
    shown = letterbox(source.image[None], fit_letterbox(90, 200, 128, 160), mul=1)[0].transpose(1, 2, 0)
    assert np.abs(shown - view.image).max() <= 2
    check(view, {2})


def test_a_crowd_is_neither_asked_for_nor_denied() -> None:
    view = fitted(picture(0, 96, 160, judged=False), 96, 160, ViewSettings())
    assert len(view.truth) == 0
    seen = extent(view.image, 0)
    assert seen is not None
    x1, y1, x2, y2 = (int(v) // 8 for v in seen - [0, 0, 1, 1])
    assert view.ignore[y1 : y2 + 1, x1 : x2 + 1].all()
    assert not view.ignore.all()


def test_of_too_many_boxes_the_largest_are_kept() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    boxes = np.array([[0, 0, 4 + k, 8] for k in range(20)], np.float32)
    many = Picture(image, boxes, np.zeros(20, np.int32), np.ones(20, bool))
    view = fitted(many, 64, 64, ViewSettings(boxes=5))
    assert sorted(view.truth[:, 3].tolist()) == [19, 20, 21, 22, 23]


def test_paints_change_and_nothing_moves() -> None:
    canvas = fitted(picture(0, 96, 160), 96, 160, ViewSettings())
    settings = ViewSettings(flatten=0, worn=0)
    changed = [recolour(np.random.default_rng(s), canvas.image // 2, GRAIN, settings) for s in range(8)]
    assert len({image.tobytes() for image in changed}) == 8
    for image in changed:
        seen = extent(np.where(image.max(2, keepdims=True) > 60, COLOURS[0], 0), 0)
        np.testing.assert_array_equal(seen, canvas.truth[0, 1:5])
    grey = np.full((8, 8, 3), 100, np.uint8)
    turned = recolour(np.random.default_rng(0), grey, GRAIN, ViewSettings(gain=0, flatten=0, worn=0))
    assert np.abs(turned.astype(int) - 100).max() <= 1
    ramp = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (8, 1, 3))
    flat = recolour(np.random.default_rng(0), ramp, GRAIN, ViewSettings(gain=0, hue=0, flatten=1, worn=0))
    assert len(np.unique(flat)) < 20


@pytest.fixture
def folder(tmp_path: Path) -> LabelledDataset:
    images = []
    for k in range(4):
        made = picture(k, 90, 160)
        path = tmp_path / f"{k}.png"
        Image.fromarray(made.image).save(path)
        images.append(LabelledImage(f"{k}.png", path, 160, 90, made.boxes, made.classes))
    return LabelledDataset(tuple(images), ("a", "b", "c", "d"))


def settings(batch: int = 4) -> BatchSettings:
    return BatchSettings(batch, (96, 160), 10, ViewSettings())


def test_a_batch_depends_on_its_number_alone(folder: LabelledDataset) -> None:
    def same(a, b) -> bool:
        return bool((a.images == b.images).all() and a.truth.equal(b.truth) and a.names == b.names)

    first, second = Batches(folder, settings(), 0), Batches(folder, settings(), 0)
    for step in (0, 1, 7, 12):
        a = first[step]
        assert (a.images.shape, a.ignore.shape) == ((4, 3, 96, 160), (4, 12, 20, 1))
        assert a.truth.shape[::2] == (4, 6)
    assert same(first[3], second[3])
    assert not same(first[3], first[4])
    assert not same(first[3], Batches(folder, settings(), 1)[3])
    from_worker = list(first.from_step(2, 5, workers=1))
    assert all(same(batch, second[step]) for step, batch in zip((2, 3, 4), from_worker, strict=True))


def test_each_image_leads_once_an_epoch(folder: LabelledDataset) -> None:
    made = Batches(folder, BatchSettings(2, (96, 160), 0, ViewSettings(mosaic=0)), 0)
    assert made.per_epoch == 2
    for epoch in range(3):
        names = [name for step in range(2) for name in made[2 * epoch + step].names]
        assert sorted(names) == ["0.png", "1.png", "2.png", "3.png"]


def test_few_pictures_are_kept_and_damaged_ones_are_named(folder: LabelledDataset) -> None:
    pictures = Pictures(folder, 64, kept_bytes=2 * 64 * 36 * 3)
    for n in (0, 1, 2, 3, 0):
        got = pictures.get(n)
        assert got is not None
        assert got[0] == n
        assert got[1].image.shape == (36, 64, 3)
        np.testing.assert_allclose(got[1].boxes, folder.images[n].boxes * 0.4, rtol=1e-6)
    assert len(pictures._kept) == 2
    path = folder.images[2].path
    assert path is not None
    path.write_bytes(path.read_bytes()[:90])
    Image.new("RGB", (10, 10)).save(str(folder.images[3].path))
    batch = Batches(folder, settings(), 0)[0]
    assert len(batch.images) == 4
    assert set(batch.bad) <= {"2.png", "3.png"}
    fresh = Pictures(folder, 64)
    got = fresh.get(2)
    assert got is not None
    assert got[0] == 0  # the next one that can be read
    assert "2.png: cannot be read" in fresh.bad[2]
    assert "expected 160x90 pixels, found 10x10" in fresh.bad[3]
    for image in folder:
        assert image.path is not None
        image.path.unlink()
    assert Pictures(folder, 64).get(0) is None
    assert len(Batches(folder, settings(), 0)[0].images) == 0


def test_crowds_and_difficult_ones_are_not_judged(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    boxes = np.array([[0, 0, 9, 9], [9, 9, 20, 20], [20, 20, 40, 40]], np.float32)
    flags = (("truncated",), ("crowd",), ("difficult", "occluded"))
    image = LabelledImage("a.png", tmp_path / "a.png", 40, 40, boxes, np.zeros(3, np.int32), flags)
    assert picture_of(image).judged.tolist() == [True, False, False]


@pytest.mark.parametrize("imgsz", [(256, 416), (320, 320), (192, 320)])
def test_the_canvas_is_the_pipelines(imgsz: tuple[int, int]) -> None:
    from stream.config import DetectorConfig
    from stream.detect import Detector

    detector = Detector(DetectorConfig(), device="cpu", threads=1)
    detector._trained = imgsz
    for height, width in ((360, 640), (1080, 1920), (480, 640), (640, 360), (97, 131), (1, 5000), (500, 500)):
        assert canvas_of(height, width, imgsz) == detector.canvas(height, width), (height, width)
    assert max(canvas_of(1, 5000, imgsz, longest=4)) <= 2.2 * max(imgsz)
