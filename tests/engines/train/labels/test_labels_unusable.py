"""An image that lost all of its boxes holds somebody: it is left out and listed, never an empty picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import GifImagePlugin, Image, JpegImagePlugin, WebPImagePlugin

from engines.train.labels import LabelledDataset, Problems, ReadOptions, convert, read_labels
from engines.train.labels.images import image_size
from stream.errors import ConfigError

Make = Callable[..., Path]
GOOD, EMPTY, SPOILT = "good.png", "empty.png", "spoilt.png"
HEAD = "video_file,time_s,frame_width,frame_height,x1,y1,x2,y2,identity,flags\n"


def darknet(where: str, line: str, picture: Make, text: Make) -> Path:
    for name, content in ((GOOD, "0 .5 .5 .5 .5\n"), (EMPTY, ""), (SPOILT, line + "\n")):
        picture(f"{where}/{name}")
        text(f"{where}/{Path(name).stem}.txt", content)
    return text(f"{where}/classes.txt", "bunny\n").parent


def voc(objects: str) -> str:
    return f"<annotation>{objects}</annotation>"


def thing(name: str, *edges: object) -> str:
    tags = ("xmin", "ymin", "xmax", "ymax")
    inner = "".join(f"<{tag}>{edge}</{tag}>" for tag, edge in zip(tags, edges, strict=True))
    return f"<object><name>{name}</name><bndbox>{inner}</bndbox></object>"


def left(dataset: LabelledDataset, problems: Problems) -> None:
    """The good and the empty image are there; the spoilt one is not, and is listed."""
    assert {image.name: len(image) for image in dataset} == {GOOD: 1, EMPTY: 0}
    (found,) = problems.of("only_unusable")
    assert SPOILT in found.detail
    assert found.action == "left out"
    assert len(problems.serious()) > 1  # what was wrong with its boxes, besides
    assert problems.left_out() == len(problems)


@pytest.mark.parametrize(
    "line",
    [
        "0 160 90 60 80",
        "bunny .5 .5 .5 .5",
        "7 .5 .5 .5 .5",
        "0 1.5 .5 .5 .5",
        "0 nan .5 .5 .5",
        "0 .5 .5 0 .5",
        "0 .5 .5 .5\n3 .5 .5 .5 .5",
    ],
)
def test_darknet(picture: Make, text: Make, line: str) -> None:
    problems = Problems()
    left(read_labels(darknet("set", line, picture, text), problems), problems)


def test_pixels_in_darknet_are_called_so(picture: Make, text: Make, tmp_path: Path) -> None:
    source = darknet("set", "0 160 90 60 80", picture, text)
    problems = Problems()
    read_labels(source, problems)
    (found,) = problems.of("malformed")
    assert found.detail == "160 90 60 80: values look like pixels; DarkNet wants shares of the image, 0 to 1"
    for name in (GOOD, EMPTY):
        text(f"set/{Path(name).stem}.txt", "0 160 90 60 80\n0 10 9.5 3 80\n")
    with pytest.raises(ConfigError, match="no image with usable labels") as caught:
        convert(source, "coco", tmp_path / "out")
    assert "look like pixels" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "objects",
    [
        thing("bunny", 1, 1, "wide", 20),
        thing("frank", 1, 1, 20, 20),
        thing("bunny", 30, 1, 20, 20),
        thing("bunny", "nan", 1, 20, 20),
        "<object><name>bunny</name></object>",
    ],
)
def test_voc(picture: Make, text: Make, tmp_path: Path, objects: str) -> None:
    text("classes.txt", "bunny\n")
    for name, content in ((GOOD, thing("bunny", 1, 1, 20, 20)), (EMPTY, ""), (SPOILT, objects)):
        picture(name)
        text(f"{Path(name).stem}.xml", voc(content))
    problems = Problems()
    left(read_labels(tmp_path, problems), problems)


@pytest.mark.parametrize(
    "change", [{"bbox": [1, 2, "3", 4]}, {"bbox": [500, 2, 3, 4]}, {"category_id": 9}, {"category_id": None}]
)
def test_coco(picture: Make, text: Make, change: dict[str, object]) -> None:
    images = [
        {"id": i, "file_name": name, "width": 100, "height": 50}
        for i, name in enumerate((GOOD, EMPTY, SPOILT))
    ]
    for name in (GOOD, EMPTY, SPOILT):
        picture(name)
    boxes = [{"id": i, "image_id": i, "category_id": 5, "bbox": [1, 2, 3, 4]} for i in (0, 2)]
    boxes[1] |= change
    content = {"annotations": boxes, "images": images, "categories": [{"id": 5, "name": "bunny"}]}
    problems = Problems()
    left(read_labels(text("labels.json", json.dumps(content)), problems), problems)


@pytest.mark.parametrize("row", ["1,two,30,40,bunny", "9,9,9,9,bunny", "900,2,930,40,bunny"])
def test_csv(picture: Make, text: Make, row: str) -> None:
    for name in (GOOD, EMPTY, SPOILT):
        picture(name)
    file = text("x_boxes.csv", f"{HEAD}{GOOD},0,100,50,1,2,30,40,bunny,\n{SPOILT},0,100,50,{row},\n")
    text("x_frames.csv", f"video_file,time_s,status\n{EMPTY},0,empty\n")
    problems = Problems()
    left(read_labels(file, problems), problems)


def test_one_usable_box_keeps_the_image_wherever_it_is_told(
    picture: Make, text: Make, tmp_path: Path
) -> None:
    picture("a.png")
    text("classes.txt", "bunny\n")
    text("a.txt", "0 .5 .5 .5 .5\n0 160 90 60 80\n")
    problems = Problems()
    assert [len(image) for image in read_labels(tmp_path, problems)] == [1]
    assert not problems.of("only_unusable")
    # two files label one image: usable in one of them, unusable in the other
    for stem, edges in (("first", (30, 1, 20, 20)), ("second", (1, 1, 20, 20))):
        text(f"voc/{stem}.xml", voc("<filename>b.png</filename>" + thing("bunny", *edges)))
    picture("voc/b.png")
    problems = Problems()
    assert [len(image) for image in read_labels(tmp_path / "voc", problems)] == [1]
    assert problems.counts() == {"degenerate": 1, "same_image_twice": 1}
    text("voc/second.xml", voc("<filename>b.png</filename>"))  # empty there does not make it empty
    picture("voc/c.png")
    text("voc/c.xml", voc(""))
    options = ReadOptions(unlabelled="background")
    assert [image.name for image in read_labels(tmp_path / "voc", Problems(), options=options)] == ["c.png"]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tif"])
def test_an_image_that_breaks_off_is_listed(text: Make, tmp_path: Path, suffix: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    (tmp_path / "set").mkdir()
    for stem in "abcd":
        noise.save(tmp_path / "set" / f"{stem}.{suffix}")
        text(f"set/{stem}.txt", "0 .5 .5 .5 .5\n")
    text("set/classes.txt", "bunny\n")
    whole = (tmp_path / "set" / f"a.{suffix}").read_bytes()
    (tmp_path / "set" / f"b.{suffix}").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "set" / f"c.{suffix}").write_bytes(whole + b"\0" * 40 + b"a video of the moment")
    (tmp_path / "set" / f"d.{suffix}").write_bytes(whole[: len(whole) * 3 // 4])
    done = convert(tmp_path / "set", "coco", tmp_path / "out")
    listed = done.problems.of("unreadable_image")
    assert [Path(problem.file).name for problem in listed] == [f"b.{suffix}", f"d.{suffix}"]
    assert all("cannot be read as an image" in problem.detail for problem in listed)
    assert (done.images, done.problems.left_out()) == (2, 2)


def test_whole_images_are_not_decoded(picture: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [
        picture(f"a.{suffix}") for suffix in ("jpg", "webp", "gif")
    ]  # PNG may tell how it lies at its end

    def decoded(self: object) -> None:
        raise AssertionError("decoded")

    for kind in (JpegImagePlugin.JpegImageFile, WebPImagePlugin.WebPImageFile, GifImagePlugin.GifImageFile):
        monkeypatch.setattr(kind, "load", decoded)
    assert [image_size(file) for file in files] == [(100, 50)] * 3
