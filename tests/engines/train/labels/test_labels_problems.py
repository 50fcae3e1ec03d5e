"""Nothing is dropped in silence: each thing that can be wrong is listed with its file and place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engines.train.labels import Problem, Problems, ReadOptions, convert, read_labels
from stream.errors import ConfigError

Make = Callable[..., Path]


def coco(**changes: object) -> str:
    """A COCO file of one 100x50 image, with some of its lists replaced."""
    content: dict[str, object] = {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 50}],
        "annotations": [{"id": 11, "image_id": 1, "category_id": 5, "bbox": [10, 10, 20, 20]}],
        "categories": [{"id": 5, "name": "bunny"}],
    }
    return json.dumps(content | changes)


def box(x: object, y: object, w: object, h: object, **more: object) -> dict[str, object]:
    return {"id": 12, "image_id": 1, "category_id": 5, "bbox": [x, y, w, h]} | more


def voc(objects: str, size: str = "<size><width>100</width><height>50</height></size>") -> str:
    return f"<annotation>\n<filename>a.png</filename>\n{size}\n{objects}\n</annotation>"


def thing(name: str, *edges: object) -> str:
    inner = "".join(
        f"<{tag}>{edge}</{tag}>" for tag, edge in zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True)
    )
    return f"<object><name>{name}</name><bndbox>{inner}</bndbox></object>"


def only(problems: Problems, kind: str) -> Problem:
    """The one problem of this kind, when there is no serious one of another (but what follows from it)."""
    assert {problem.kind for problem in problems.serious()} <= {kind, "only_unusable"}, problems.as_text()
    (found,) = problems.of(kind)
    return found


def test_clean_labels_have_no_problems(picture: Make, text: Make, tmp_path: Path) -> None:
    picture("images/a.png")
    text("obj.names", "bunny\n")
    text("labels/a.txt", "0 0.5 0.5 1 1\r\n\n")
    problems = Problems()
    (image,) = read_labels(tmp_path, problems)
    assert not len(problems), problems.as_text()
    np.testing.assert_array_equal(image.boxes, [[0, 0, 100, 50]])
    assert image.read().shape == (50, 100, 3)


@pytest.mark.parametrize(
    ("line", "kind", "says"),
    [
        ("0 .5 .5 .5", "malformed", "expected `class cx cy width height`"),
        ("bunny .5 .5 .5 .5", "malformed", "bunny"),
        ("0.5 .5 .5 .5 .5", "malformed", "0.5"),
        ("0 nan .5 .5 .5", "malformed", "not finite"),
        ("0 .5 .5 .5 .5 .5 .5 .5", "malformed", "8 numbers"),
        ("1 .5 .5 .5 .5", "unknown_class", "class 1; there are 0 to 0"),
        ("-1 .5 .5 .5 .5", "unknown_class", "class -1"),
        ("0 .5 .5 0 .5", "degenerate", "no area"),
        ("0 .5 .5 -.5 .5", "degenerate", "no area"),
        ("0 1.5 .5 .5 .5", "off_image", "wholly outside"),
        ("0 .5 .5 1.5 .5", "outside", "sticks out"),
        ("0 .25 .25 .1 .1", "duplicate", "again"),
    ],
)
def test_darknet_lines_are_listed(
    picture: Make, text: Make, tmp_path: Path, line: str, kind: str, says: str
) -> None:
    picture("a.png")
    text("classes.txt", "bunny\n")
    file = text("a.txt", f"0 .25 .25 .1 .1\n{line}\n")
    problems = Problems()
    (image,) = read_labels(tmp_path, problems)
    found = only(problems, kind)
    assert (found.file, found.where) == (str(file), "line 2")
    assert says in found.detail
    assert found.action == ("clipped" if kind == "outside" else "left out")
    assert len(image) == (2 if kind == "outside" else 1)


@pytest.mark.parametrize(
    ("annotation", "kind", "says"),
    [
        (box(1, 2, 3, 0), "degenerate", "no area"),
        (box(1, 2, -3, 4), "degenerate", "no area"),
        (box(-5, 2, 30, 4), "outside", "sticks out"),
        (box(500, 2, 30, 4), "off_image", "100x50"),
        (box(1, 2, "3", 4), "malformed", "bbox"),
        (box(1, 2, None, 4), "malformed", "bbox"),
        (box(1, 2, float("nan"), 4), "malformed", "bbox"),
        (box(1, 2, 1e999, 4), "malformed", "bbox"),
        (box(1, 2, 10**400, 4), "malformed", "bbox"),
        (box(1, 2, 3, 4, bbox=[1, 2]), "malformed", "bbox"),
        (box(1, 2, 3, 4, category_id=6), "unknown_class", "category 6"),
        (box(1, 2, 3, 4, category_id=None), "malformed", "category_id"),
        (box(1, 2, 3, 4, image_id=9), "unknown_image", "image 9"),
        (box(10, 10, 20, 20), "duplicate", "again"),
    ],
)
def test_coco_annotations_are_listed(
    picture: Make, text: Make, annotation: dict[str, object], kind: str, says: str
) -> None:
    picture("a.png")
    file = text("labels.json", coco(annotations=[box(10, 10, 20, 20) | {"id": 11}, annotation]))
    problems = Problems()
    (image,) = read_labels(file, problems)
    found = only(problems, kind)
    assert found.file == str(file)
    assert found.where.startswith("annotation 12")
    assert says in found.detail
    assert len(image) == (2 if kind == "outside" else 1)


@pytest.mark.parametrize(
    ("entry", "kind", "says"),
    [
        ({"id": 2, "file_name": "gone.png"}, "missing_image", "gone.png"),
        ({"id": 2, "file_name": "../../etc/x.png"}, "unsafe_name", "leads out"),
        ({"id": 2}, "malformed", "file_name"),
        ({"id": 1, "file_name": "b.png"}, "malformed", "image 1 is a.png already"),
        ("b.png", "malformed", "expected an object"),
    ],
)
def test_coco_images_are_listed(
    picture: Make, text: Make, entry: dict[str, object], kind: str, says: str
) -> None:
    picture("a.png")
    first = {"id": 1, "file_name": "a.png", "width": 100, "height": 50}
    file = text("labels.json", coco(images=[first, entry]))
    problems = Problems()
    assert [image.name for image in read_labels(file, problems)] == ["a.png"]
    found = only(problems, kind)
    assert found.file == str(file)
    assert found.where
    assert says in found.detail


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"images": [{"id": 1,\n"file_name": "a.png"}], "annotations": [', "line 2"),
        ('{"images": [1,]}', "comma"),
        ("[]", "expected '{'"),
        ("", "end of the file"),
        ('{"images": []} {}', "after its end"),
        ('{"images": ' + "[" * 100_000, "nested"),
        ('{"images": [' + "9" * 10_000 + "]}", "not JSON"),
    ],
)
def test_json_that_breaks_off_is_refused_with_its_line(
    picture: Make, text: Make, content: str, says: str
) -> None:
    picture("a.png")
    file = text("labels.json", content)
    with pytest.raises(ConfigError, match=str(file)) as caught:
        read_labels(file, Problems(), form="coco")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("content", "kind", "where", "says"),
    [
        (voc(thing("bunny", 0, 1, 20, 20)), "outside", "line 4", "sticks out"),
        (voc(thing("bunny", 30, 1, 20, 20)), "degenerate", "line 4", "no area"),
        (voc(thing("bunny", 1, 1, "wide", 20)), "malformed", "line 4", "xmax: expected a number, got 'wide'"),
        (voc(thing("", 1, 1, 20, 20)), "malformed", "line 4", "class name"),
        (voc("<object><name>bunny</name></object>"), "malformed", "line 4", "without <bndbox>"),
        (voc(thing("bunny", 1, 1, 9, 9) * 2), "duplicate", "line 4", "again"),
        ("<annotation>\n<object>", "malformed", "line 2", "not XML"),
        ("<html/>", "malformed", "line 1", "expected <annotation>"),
        ("", "malformed", "line 1", "not XML"),
    ],
)
def test_voc_objects_are_listed(
    picture: Make, text: Make, tmp_path: Path, content: str, kind: str, where: str, says: str
) -> None:
    picture("a.png")
    picture("b.png")
    text("b.xml", voc(thing("bunny", 1, 1, 20, 20)).replace("a.png", "b.png"))
    file = text("a.xml", content)
    problems = Problems()
    read_labels(tmp_path, problems)
    found = only(problems, kind)
    assert (found.file, found.where) == (str(file), where)
    assert says in found.detail


def test_image_of_unreadable_labels_is_no_background(picture: Make, text: Make, tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        picture(name)
    text("b.xml", voc(thing("bunny", 1, 1, 20, 20)).replace("a.png", "b.png"))
    text("a.xml", "<annotation>")
    dataset = read_labels(tmp_path, Problems(), options=ReadOptions(unlabelled="background"))
    assert sorted(image.name for image in dataset) == ["b.png", "c.png"]


def test_images_without_labels_and_labels_without_images(picture: Make, text: Make, tmp_path: Path) -> None:
    picture("a.png")
    lone = picture("b.png")
    text("obj.names", "bunny\n")
    text("a.txt", "")
    orphan = text("c.txt", "0 .5 .5 .5 .5\n")
    text("README.txt", "read me\n")
    problems = Problems()
    (image,) = read_labels(tmp_path, problems)
    assert (image.name, len(image)) == ("a.png", 0)  # looked at, nobody there
    assert [p.file for p in problems.of("unlabelled_image")] == [str(lone)]
    assert [p.file for p in problems.of("missing_image")] == [str(orphan)]
    assert [Path(p.file).name for p in problems.of("ignored_file")] == ["README.txt"]
    both = read_labels(tmp_path, Problems(), options=ReadOptions(unlabelled="background"))
    assert [image.name for image in both] == ["a.png", "b.png"]


def test_one_text_for_two_images_is_ambiguous(picture: Make, text: Make, tmp_path: Path) -> None:
    picture("a.png")
    picture("a.jpg")
    picture("b.png")
    text("obj.names", "bunny\n")
    text("a.txt", "0 .5 .5 .5 .5\n")
    text("b.txt", "0 .5 .5 .5 .5\n")
    problems = Problems()
    assert [image.name for image in read_labels(tmp_path, problems)] == ["b.png"]
    assert "a.jpg, a.png" in only(problems, "ambiguous_image").detail


def test_unreadable_image_is_listed(picture: Make, text: Make, tmp_path: Path) -> None:
    picture("a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    text("obj.names", "bunny\n")
    text("a.txt", "0 .5 .5 .5 .5\n")
    text("b.txt", "0 .5 .5 .5 .5\n")
    problems = Problems()
    assert len(read_labels(tmp_path, problems)) == 1
    assert only(problems, "unreadable_image").file == str(tmp_path / "b.png")


def test_resized_image_has_scaled_boxes_and_another_image_is_left_out(picture: Make, text: Make) -> None:
    picture("a.png", 200, 100)
    picture("b.png", 100, 90)
    both = [{"id": i, "file_name": n, "width": 100, "height": 50} for i, n in ((1, "a.png"), (2, "b.png"))]
    problems = Problems()
    (image,) = read_labels(text("l.json", coco(images=both)), problems)
    np.testing.assert_array_equal(image.boxes, [[20, 20, 60, 60]])
    assert [p.action for p in problems.of("size_mismatch")] == ["scaled", "left out"]


def test_classes_of_one_name_are_merged_and_listed(picture: Make, text: Make) -> None:
    picture("a.png")
    names = [{"id": 5, "name": "bunny"}, {"id": 2, "name": "frank"}, {"id": 9, "name": "bunny"}]
    problems = Problems()
    dataset = read_labels(text("l.json", coco(categories=names)), problems)
    assert dataset.class_names == ("frank", "bunny")
    assert dataset.counts() == {"frank": 0, "bunny": 1}
    assert only(problems, "duplicate_class").where == "category 9"


def test_what_boxes_cannot_hold_is_a_note(picture: Make, text: Make) -> None:
    picture("a.png")
    annotation = box(1, 2, 3, 4, segmentation=[[1, 2, 3, 4, 5, 6]], iscrowd=1)
    problems = Problems()
    (image,) = read_labels(text("l.json", coco(annotations=[annotation])), problems)
    assert image.flags == (("crowd",),)
    assert "outlines" in only(problems, "not_carried").detail


def test_polygons_become_their_bounding_boxes(picture: Make, text: Make, tmp_path: Path) -> None:
    picture("a.png")
    text("obj.names", "bunny\n")
    text("a.txt", "0 .1 .2 .3 .2 .2 .8\n")
    problems = Problems()
    (image,) = read_labels(tmp_path, problems)
    np.testing.assert_allclose(image.boxes, [[10, 10, 30, 40]], rtol=1e-6)
    assert only(problems, "outline").where == "line 1"


def test_lists_of_images_that_are_not_there(picture: Make, text: Make, tmp_path: Path) -> None:
    picture("a.png")
    text("a.txt", "0 .5 .5 .5 .5\n")
    text("train.txt", "a.png\n\ngone.png\n")
    problems = Problems()
    (image,) = read_labels(text("data.yaml", "train: train.txt\nval: none\nnames: [bunny]\n"), problems)
    assert image.split == "train"
    assert [(Path(p.file).name, p.where) for p in problems] == [("train.txt", "line 3"), ("data.yaml", "val")]
    text("voc/Annotations/a.xml", voc(thing("bunny", 1, 1, 9, 9)))
    picture("voc/JPEGImages/a.png")
    listed = text("voc/ImageSets/Main/val.txt", "a\nb\n")
    problems = Problems()
    (image,) = read_labels(tmp_path / "voc", problems)
    assert image.split == "val"
    assert only(problems, "missing_image").file == str(listed)


def test_six_decimals_that_pass_the_edge_are_the_edge(picture: Make, text: Make, tmp_path: Path) -> None:
    picture("a.png", 3000, 300)
    text("obj.names", "bunny\n")
    text("a.txt", "0 0.166667 0.5 0.333335 1.000000\n")
    problems = Problems()
    (image,) = read_labels(tmp_path, problems)
    assert not len(problems), problems.as_text()
    assert image.boxes[0, 0] == 0


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("data.yaml", "names: [a, b]\nnc: 3\n", "nc says 3, names has 2"),
        ("data.yaml", "names: {1: a, 2: b}\n", "expected the numbers 0 to 1"),
        ("data.yaml", "names: [yes]\n", "got bool"),
        ("data.yaml", "names: abc\n", "expected a list"),
        ("data.yaml", "names: [a\n", "not YAML"),
        ("obj.names", "a\n\nb\n", "expected a class name"),
    ],
)
def test_class_lists_that_are_none_are_refused(
    picture: Make, text: Make, name: str, content: str, says: str
) -> None:
    picture("a.png")
    text("a.txt", "0 .5 .5 .5 .5\n")
    file = text(name, content)
    with pytest.raises(ConfigError, match=says) as caught:
        read_labels(file, Problems())
    assert str(file) in str(caught.value)


def test_csv_rows_are_listed(picture: Make, text: Make) -> None:
    picture("a.png")
    head = "video_file,time_s,frame_width,frame_height,x1,y1,x2,y2,identity,flags\n"
    rows = [
        "a.png,0,100,50,1,2,30,40,bunny,",
        "a.png,0,100,50,1,two,30,40,bunny,",
        "a.png,0,100,50,9,9,9,9,,",
    ]
    file = text("x_boxes.csv", head + "\n".join(rows) + "\n")
    text("x_frames.csv", "video_file,time_s,status\na.png,0,fine\n")
    problems = Problems()
    (image,) = read_labels(file, problems)
    assert len(image) == 1
    assert [(Path(p.file).name, p.where, p.kind) for p in problems] == [
        ("x_boxes.csv", "line 3", "malformed"),
        ("x_frames.csv", "line 2", "malformed"),
        ("x_boxes.csv", "line 4", "degenerate"),
    ]


def test_strict_refuses_and_writes_nothing(picture: Make, text: Make, tmp_path: Path) -> None:
    picture("set/a.png")
    file = text("set/l.json", coco(annotations=[box(-5, 2, 30, 4)]))
    with pytest.raises(ConfigError, match="refused by strict, 1 problem") as caught:
        convert(file, "voc", tmp_path / "out", strict=True)
    assert "annotation 12" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_dataset_of_nothing_usable_says_what_is_wrong(text: Make) -> None:
    with pytest.raises(ConfigError, match=r"a\.png: no such image"):
        read_labels(text("l.json", coco()), Problems())
