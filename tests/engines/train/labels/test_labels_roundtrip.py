"""What goes out comes in again: bit for bit where the format can hold it, to its last digit where not."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engines.train.labels import LabelledDataset, LabelledImage, Problems, ReadOptions, read_labels
from engines.train.labels.check import snapped
from engines.train.labels.coco import coco_box, write_coco, write_coco_file
from engines.train.labels.darknet import corners_of, darknet_lines, write_darknet
from engines.train.labels.table import write_table
from engines.train.labels.voc import voc_xml, write_voc

NAMES = ("bunny", "frank & co", 'a "quoted" <name>', "白兎", "never seen")
FLAGS = ("truncated", "difficult", "occluded")
EVERY = settings(max_examples=60, deadline=None)
WITHOUT_IMAGES = ReadOptions(labels_only=True)


@st.composite
def boxes(draw: st.DrawFn, width: int, height: int, step: float | None) -> np.ndarray:
    """One float32 box inside the image, of multiples of ``step`` or of any floats."""

    def pair(length: int) -> tuple[float, float]:
        if step is None:
            low = draw(st.floats(0, np.nextafter(np.float32(length), np.float32(0)), width=32))
            return low, draw(st.floats(low, length, exclude_min=True, width=32))
        steps = round(length / step)
        first = draw(st.integers(0, steps - 1))
        return first * step, draw(st.integers(first + 1, steps)) * step

    (x1, x2), (y1, y2) = pair(width), pair(height)
    return np.array([x1, y1, x2, y2], np.float32)


@st.composite
def datasets(draw: st.DrawFn, step: float | None, largest: int = 5000) -> LabelledDataset:
    images = []
    for number in range(draw(st.integers(1, 3))):
        width, height = draw(st.integers(1, largest)), draw(st.integers(1, largest))
        rows = [draw(boxes(width, height, step)) for _ in range(draw(st.integers(0, 4)))]
        labels = [draw(st.integers(0, len(NAMES) - 1)) for _ in rows]
        one_of_each = {(label, *row.tolist()): (label, row) for label, row in zip(labels, rows, strict=True)}
        labels = [label for label, _ in one_of_each.values()]
        rows = [row for _, row in one_of_each.values()]
        flags = tuple(tuple(draw(st.lists(st.sampled_from(FLAGS), unique=True))) for _ in rows)
        images.append(
            LabelledImage(
                f"{draw(st.sampled_from(['a', 'b/ü', 'c c']))}{number}.png",
                None,
                width,
                height,
                np.array(rows, np.float32).reshape(-1, 4),
                np.array(labels, np.int32),
                flags,
                split=draw(st.sampled_from(["train", "val"])),
            )
        )
    return LabelledDataset(tuple(images), NAMES)


def assert_same(found: LabelledDataset, wanted: LabelledDataset, *, flags: bool, atol: float = 0) -> None:
    assert found.class_names == wanted.class_names
    assert sorted(image.name for image in found) == sorted(image.name for image in wanted)
    by_name = {image.name: image for image in found}
    for image in wanted:
        other = by_name[image.name]
        assert (other.width, other.height, other.split) == (image.width, image.height, image.split)
        np.testing.assert_array_equal(other.classes, image.classes)
        if atol:
            np.testing.assert_allclose(other.boxes, image.boxes, rtol=0, atol=atol)
        else:
            np.testing.assert_array_equal(other.boxes, image.boxes)
        if flags:
            assert [set(f) for f in other.flags] == [set(f) for f in image.flags]


@given(dataset=datasets(None))
@EVERY
def test_coco_gives_the_same_float32_again(
    dataset: LabelledDataset, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, problems = tmp_path_factory.mktemp("coco"), Problems()
    write_coco(dataset, folder, problems)
    found = read_labels(folder, problems, options=WITHOUT_IMAGES)
    assert not len(problems), problems.as_text()
    if len({image.split for image in dataset}) == 1:  # a lone file may be anything's
        found = LabelledDataset(
            tuple(
                LabelledImage(i.name, i.path, i.width, i.height, i.boxes, i.classes, i.flags, split=w.split)
                for i, w in zip(found, dataset, strict=True)
            ),
            found.class_names,
        )
    assert_same(found, dataset, flags=True)


@given(data=st.data(), digits=st.integers(0, 3))
@EVERY
def test_coco_gives_the_same_decimals_again(
    data: st.DataObject, digits: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Up to a thousandth of a pixel in images up to 8192 pixels wide."""
    unit = 10**digits
    x = data.draw(st.integers(0, 8000 * unit - 1))
    width = data.draw(st.integers(1, 8000 * unit - x))
    box = [x / unit, x / unit, width / unit, width / unit]
    path = tmp_path_factory.mktemp("coco") / "a.json"
    path.write_text(
        json.dumps(
            {
                "images": [{"id": 7, "file_name": "a.png", "width": 8192, "height": 8192}],
                "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": box}],
                "categories": [{"id": 3, "name": "x"}],
            }
        )
    )
    dataset = read_labels(path, Problems(), options=WITHOUT_IMAGES)
    out = io.StringIO()
    write_coco_file(dataset, out)
    assert json.loads(out.getvalue())["annotations"][0]["bbox"] == box


@given(dataset=datasets(2**-12, largest=4000))
@EVERY
def test_voc_with_fractions_gives_the_same_float32_again(
    dataset: LabelledDataset, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of a 4096th pixel; counting from 1, VOC cannot tell float32's smallest numbers from 0."""
    folder, problems = tmp_path_factory.mktemp("voc"), Problems()
    write_voc(dataset, folder, problems, fractions=True)
    found = read_labels(folder, problems, options=WITHOUT_IMAGES)
    assert not len(problems.serious()), problems.as_text()
    assert_same(found, dataset, flags=True)


@given(dataset=datasets(1.0))
@EVERY
def test_voc_gives_the_same_whole_pixels_again(
    dataset: LabelledDataset, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, problems = tmp_path_factory.mktemp("voc"), Problems()
    write_voc(dataset, folder, problems)
    assert not problems.of("rounded")
    assert_same(read_labels(folder, problems, options=WITHOUT_IMAGES), dataset, flags=True)


@given(dataset=datasets(None))
@EVERY
def test_voc_rounds_to_half_a_pixel_and_keeps_every_box(
    dataset: LabelledDataset, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, problems = tmp_path_factory.mktemp("voc"), Problems()
    write_voc(dataset, folder, problems)
    found = {i.name: i for i in read_labels(folder, problems, options=WITHOUT_IMAGES)}
    lost = problems.of("duplicate")  # two thin boxes may become one, which is listed
    assert dataset.boxes == sum(map(len, found.values())) + len(lost)
    for image in dataset:
        if len(found[image.name]) == len(image):
            np.testing.assert_allclose(found[image.name].boxes, image.boxes, rtol=0, atol=1.0)
            thick = (image.boxes[:, 2:] - image.boxes[:, :2] >= 1).all(1)
            np.testing.assert_allclose(
                found[image.name].boxes[thick], image.boxes[thick], rtol=0, atol=0.5 + 1e-6
            )


def test_voc_counts_from_one_and_the_last_pixel_is_inside() -> None:
    image = LabelledImage(
        "a.png", None, 640, 360, np.array([[0, 0, 640, 360]], np.float32), np.zeros(1, np.int32)
    )
    xml, rounded = voc_xml(image, ["x"])
    assert "<xmin>1</xmin><ymin>1</ymin><xmax>640</xmax><ymax>360</ymax>" in xml
    assert rounded == 0


@given(data=st.data(), width=st.integers(1, 9000))
@settings(max_examples=300, deadline=None)
def test_darknet_lines_give_the_same_float32_again(data: st.DataObject, width: int) -> None:
    box = data.draw(boxes(width, width, data.draw(st.sampled_from([None, 1.0, 0.1]))))
    image = LabelledImage("a.png", None, width, width, box[None], np.zeros(1, np.int32))
    (line,) = darknet_lines(image)
    numbers = line.split()[1:]
    assert all(len(number.split(".")[1]) >= 6 for number in numbers)
    back = np.array([snapped(share, width) for share in corners_of(*map(float, numbers))], np.float32)
    # beside an edge float32 is finer than any share of the image
    edge = (np.minimum(box, width - box) < 2e-6 * width) & (box != 0) & (box != width)
    small = box < 1e-3 * width
    np.testing.assert_array_equal(back[~edge & ~small], box[~edge & ~small])
    np.testing.assert_allclose(back[~edge], box[~edge], rtol=0, atol=1e-9 * width)
    np.testing.assert_allclose(back, box, rtol=0, atol=3e-6 * width)


@given(data=st.data(), width=st.integers(1, 9000))
@settings(max_examples=300, deadline=None)
def test_darknet_gives_the_same_six_decimals_again(data: st.DataObject, width: int) -> None:
    size = data.draw(st.integers(4, 10**6))
    centre = (
        data.draw(st.integers((size + 1) // 2 + 2, 10**6 - (size + 1) // 2 - 2)) if size < 10**6 - 8 else 0
    )
    if not centre:
        size, centre = 10**6, 500_000
    line = f"{centre / 1e6:.6f} {centre / 1e6:.6f} {size / 1e6:.6f} {size / 1e6:.6f}"
    corners = [snapped(share, width) for share in corners_of(*map(float, line.split()))]
    image = LabelledImage("a.png", None, width, width, np.array([corners], np.float32), np.zeros(1, np.int32))
    assert list(darknet_lines(image)) == [f"0 {line}"]


@given(dataset=datasets(0.5, largest=300))
@settings(max_examples=25, deadline=None)
def test_darknet_folders_come_back_with_classes_and_splits(
    dataset: LabelledDataset, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, problems = tmp_path_factory.mktemp("darknet"), Problems()
    write_darknet(dataset, folder, problems)
    for image in dataset:
        path = folder / "images" / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("1", (image.width, image.height)).save(path)
    found = read_labels(folder / "data.yaml", problems)
    assert not problems.serious(), problems.as_text()
    assert {name.removeprefix("images/") for name in (i.name for i in found)} == {i.name for i in dataset}
    renamed = tuple(
        LabelledImage(
            i.name.removeprefix("images/"),
            i.path,
            i.width,
            i.height,
            i.boxes,
            i.classes,
            i.flags,
            split=i.split,
        )
        for i in found
    )
    assert_same(LabelledDataset(renamed, found.class_names), dataset, flags=False)


@given(dataset=datasets(0.1))
@settings(max_examples=25, deadline=None)
def test_our_csv_gives_the_same_tenths_again(
    dataset: LabelledDataset, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, problems = tmp_path_factory.mktemp("csv"), Problems()
    write_table(dataset, folder, problems)
    assert not len(problems), problems.as_text()
    if dataset.boxes == 0:
        return
    with_boxes = {image.name: image for image in dataset if len(image)}
    found = read_labels(folder, problems, options=WITHOUT_IMAGES)
    assert {image.name for image in found} >= set(with_boxes)
    for image in found:
        if image.name in with_boxes:
            wanted = with_boxes[image.name]
            np.testing.assert_array_equal(image.boxes, wanted.boxes)
            assert [found.class_names[c] for c in image.classes] == [NAMES[c] for c in wanted.classes]
            assert image.flags == wanted.flags


def test_coco_box_of_a_tenth_has_a_tenth() -> None:
    assert coco_box(np.array([227.2, 162.0, 454.4, 325.8], np.float32)) == [227.2, 162.0, 227.2, 163.8]


@pytest.mark.shared
def test_bunny_coco_comes_back_number_for_number(shared: Path, tmp_path: Path) -> None:
    source = shared / "labels" / "bbb_coco.json"
    dataset = read_labels(source, Problems(), options=WITHOUT_IMAGES)
    write_coco(dataset, tmp_path, Problems())
    written = json.loads((tmp_path / "annotations" / "instances.json").read_text())
    given_ = json.loads(source.read_text())
    skipped = {i["id"] for i in given_["images"] if i["status"] in ("credits", "uncertain")}
    names = {i["id"]: i["file_name"] for i in given_["images"]}
    wanted = [
        (names[a["image_id"]], a["bbox"]) for a in given_["annotations"] if a["image_id"] not in skipped
    ]
    names = {i["id"]: i["file_name"] for i in written["images"]}
    assert sorted((names[a["image_id"]], a["bbox"]) for a in written["annotations"]) == sorted(wanted)
    assert [c["name"] for c in written["categories"]] == [c["name"] for c in given_["categories"]]
