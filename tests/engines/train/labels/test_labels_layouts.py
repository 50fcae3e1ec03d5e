"""The folders that other tools write are read as they mean them, and the other way round."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import pytest
import yaml
from PIL import Image

from engines.train.labels import LabelledImage, Problems, ReadOptions, check, convert, form_of, read_labels
from engines.train.labels.frames import read_frames, without_frame
from stream.cartoon.write import Episode, render_episode
from stream.errors import ConfigError

Make = Callable[..., Path]
BOX = "0 0.5 0.5 0.5 0.5\n"


def by_split(images: object) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for image in images:  # type: ignore[attr-defined]
        found.setdefault(image.split, []).append(image.name)
    return found


def test_ultralytics_folders_with_their_splits(picture: Make, text: Make, tmp_path: Path) -> None:
    for part, name in (("train", "a"), ("val", "b")):
        picture(f"images/{part}/{name}.jpg")
        text(f"labels/{part}/{name}.txt", BOX)
    text(
        "data.yaml", "path: ../datasets/mine\ntrain: images/train\nval: images/val\nnames: {0: bunny, 1: x}\n"
    )
    problems = Problems()
    dataset = read_labels(tmp_path, problems)
    assert not len(problems), problems.as_text()
    assert dataset.class_names == ("bunny", "x")
    assert by_split(dataset) == {"train": ["images/train/a.jpg"], "val": ["images/val/b.jpg"]}


def test_roboflow_folders_with_their_wrong_paths(picture: Make, text: Make, tmp_path: Path) -> None:
    for part, name in (("train", "a"), ("valid", "b"), ("test", "c")):
        picture(f"{part}/images/{name}.jpg")
        text(f"{part}/labels/{name}.txt", BOX)
    spec = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 1\nnames: ['bunny']\n"
    file = text("data.yaml", spec)
    problems = Problems()
    found = by_split(read_labels(file, problems))
    assert not len(problems), problems.as_text()
    assert {split: len(names) for split, names in found.items()} == {"train": 1, "val": 1, "test": 1}


def test_darknet_data_file_with_lists(picture: Make, text: Make, tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(f"obj/{name}.jpg")
        text(f"obj/{name}.txt", BOX)
    text("train.txt", "data/obj/a.jpg\n")
    text("test.txt", "data/obj/b.jpg\n")
    text("obj.names", "bunny\n")
    file = text(
        "obj.data", "classes = 1\ntrain = data/train.txt\nvalid = data/test.txt\nnames = data/obj.names\n"
    )
    problems = Problems()
    dataset = read_labels(file, problems)
    assert not len(problems), problems.as_text()
    assert by_split(dataset) == {"train": ["obj/a.jpg"], "val": ["obj/b.jpg"]}


def test_labelimg_writes_classes_beside_the_labels(picture: Make, text: Make, tmp_path: Path) -> None:
    picture("a.jpg")
    text("a.txt", BOX)
    text("classes.txt", "bunny\nfrank\n")
    problems = Problems()
    assert read_labels(tmp_path, problems).class_names == ("bunny", "frank")
    assert not len(problems), problems.as_text()


def test_coco_files_of_a_folder_are_one_dataset(picture: Make, text: Make, tmp_path: Path) -> None:
    for part, category in (("train", 1), ("val", 7)):
        picture(f"{part}2017/same.jpg")
        content = {
            "images": [{"id": 1, "file_name": "same.jpg", "width": 100, "height": 50}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": category, "bbox": [1, 2, 3, 4]}],
            "categories": [{"id": category, "name": "bunny"}],
        }
        text(f"{part}2017/_annotations.coco.json", json.dumps(content))
    text("package.json", '{"name": "not coco"}')
    problems = Problems()
    dataset = read_labels(tmp_path, problems)
    assert not len(problems), problems.as_text()
    assert by_split(dataset) == {"train": ["train2017/same.jpg"], "val": ["val2017/same.jpg"]}
    assert dataset.counts() == {"bunny": 2}


def test_voc_pixels_from_zero(picture: Make, text: Make, tmp_path: Path) -> None:
    picture("a.png")
    text(
        "a.xml",
        "<annotation><filename>a.png</filename><object><name>x</name><bndbox><xmin>0</xmin><ymin>0</ymin>"
        "<xmax>100</xmax><ymax>50</ymax></bndbox></object></annotation>",
    )
    problems = Problems()
    (image,) = read_labels(tmp_path, problems)
    assert [p.kind for p in problems] == ["counted_from_0", "outside"]
    (other,) = read_labels(tmp_path, none := Problems(), options=ReadOptions(voc_origin=0))
    assert not len(none)
    np.testing.assert_array_equal(image.boxes, other.boxes)


def test_picture_on_its_side_has_the_size_people_saw(picture: Make, text: Make, tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    picture("a.jpg", 100, 50, exif=turned)
    text("obj.names", "bunny\n")
    text("a.txt", "0 .5 .5 1 1\n")
    (image,) = read_labels(tmp_path, Problems())
    np.testing.assert_array_equal(image.boxes, [[0, 0, 50, 100]])
    assert image.read().shape == (100, 50, 3) == (image.height, image.width, 3)


@pytest.mark.parametrize("to", ["darknet", "voc", "coco", "csv"])
def test_what_is_written_is_read_again_without_a_word(
    picture: Make, text: Make, tmp_path: Path, to: str
) -> None:
    names = ("a b.jpg", "deep/ü.png", "x&y<z.webp", "t_0012.bmp")
    for i, name in enumerate(names):
        picture(f"set/images/{name}", 64 + i, 48)
        text(f"set/labels/{Path(name).with_suffix('.txt')}", f"{i % 2} .5 .5 .5 .25\n" if i else "")
    text("set/obj.names", "bunny & co\nfrank\n")
    first = convert(tmp_path / "set", to, tmp_path / "out", val=0.5, voc_fractions=True)  # type: ignore[arg-type]
    assert not first.problems.serious(), first.problems.as_text()
    problems = Problems()
    assert form_of(tmp_path / "out") == to
    again = read_labels(tmp_path / "out", problems)
    assert not len(problems), problems.as_text()
    source = read_labels(tmp_path / "set", Problems())

    def key(image: LabelledImage) -> str:
        return image.name.rpartition("images/")[2]

    assert sorted(map(key, again)) == sorted(names)
    for one, other in zip(sorted(source, key=key), sorted(again, key=key), strict=True):
        np.testing.assert_allclose(other.boxes, one.boxes, rtol=0, atol=0.05 if to == "csv" else 0)
        labels = [again.class_names[c] for c in other.classes]
        assert labels == [source.class_names[c] for c in one.classes]
        np.testing.assert_array_equal(other.read(), one.read())


def test_written_darknet_is_what_ultralytics_expects(picture: Make, text: Make, tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(f"set/{name}.jpg")
        text(f"set/{name}.txt", BOX)
    text("set/obj.names", "bunny\n")
    convert(tmp_path / "set", "darknet", tmp_path / "out", val=0.5)
    spec = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert spec["names"] == {0: "bunny"}
    listed = []
    for part in ("train", "val"):
        for line in (tmp_path / "out" / spec[part]).read_text().splitlines():
            path = tmp_path / "out" / line.removeprefix("./")  # Ultralytics: "./" is the list's folder
            before, _, after = str(path).rpartition("/images/")
            assert path.is_file()
            assert (
                Path(f"{before}/labels/{after}").with_suffix(".txt").read_text()
                == "0 0.500000 0.500000 0.500000 0.500000\n"
            )
            listed.append(path.name)
    assert sorted(listed) == ["a.jpg", "b.jpg"]


def test_written_voc_is_xml_for_everybody(picture: Make, text: Make, tmp_path: Path) -> None:
    picture("set/a&b.jpg")
    text("set/a&b.txt", BOX)
    text("set/obj.names", "<b>\n")
    convert(tmp_path / "set", "voc", tmp_path / "out")
    top = ElementTree.parse(tmp_path / "out" / "Annotations" / "a&b.xml").getroot()
    assert top.findtext("filename") == "a&b.jpg"
    assert top.findtext("object/name") == "<b>"
    edges = [top.findtext(f"object/bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")]
    assert edges == ["26", "13", "75", "38"]  # 25.0 to 75.0, 12.5 to 37.5


def test_images_of_one_stem_get_labels_of_their_own(picture: Make, text: Make, tmp_path: Path) -> None:
    content: dict[str, list[object]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "x"}],
    }
    for i, name in enumerate(("a.jpg", "a.png", "A.jpg")):
        picture(f"set/{name}")
        content["images"].append({"id": i, "file_name": name, "width": 100, "height": 50})
        content["annotations"].append({"id": i, "image_id": i, "category_id": 1, "bbox": [i, 0, 10, 10]})
    done = convert(text("set/l.json", json.dumps(content)), "darknet", tmp_path / "out")
    assert len(done.problems.of("renamed")) == 2
    found = read_labels(tmp_path / "out", Problems())
    assert sorted(image.boxes[0, 0] for image in found) == [0, 1, 2]


def test_one_class_for_all(picture: Make, text: Make, tmp_path: Path) -> None:
    picture("set/a.jpg")
    text("set/a.txt", "0 .5 .5 .5 .5\n1 .5 .5 .5 .5\n1 .5 .5 1 1\n")
    text("set/obj.names", "bunny\nfrank\n")
    done = convert(tmp_path / "set", "coco", tmp_path / "out", one_class="character")
    assert done.classes == {"character": 2}
    assert len(done.problems.of("duplicate")) == 1


CSV = "video_file,time_s,frame_width,frame_height,x1,y1,x2,y2,identity,flags\n"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ((), "found no labels; name the file, or say which with --from"),
        (("a.png", "b.jpg", "notes.txt"), "found 2 images and no labels; to take them as pictures"),
        (("b.txt", "c.txt"), "found 2 .txt files but no images and class names; if they are DarkNet labels"),
        (("b.txt", "classes.txt"), "found 1 .txt file but no images; .* give --images FOLDER$"),
        (("a.xml", "l.json"), "several formats .voc: a.xml; coco: l.json.; name the file"),
        (("l.json", "deep/mine.csv"), "several formats .coco: l.json; csv: deep/mine.csv.; name the file"),
        (
            ("a.xml", "b.xml", "c.xml", "d.xml", "data.yaml"),
            "voc: a.xml, b.xml, c.xml and 1 more; darknet: d",
        ),
    ],
)
def test_format_that_cannot_be_told_is_asked_for(
    picture: Make, text: Make, tmp_path: Path, files: tuple[str, ...], says: str
) -> None:
    content = {
        ".xml": "<annotation/>",
        ".json": '{"images": [{}]}',
        ".csv": CSV,
        ".txt": BOX,
        ".yaml": "a: 1",
    }
    for file in files:
        if Path(file).suffix in content:
            text(f"set/{file}", content[Path(file).suffix])
        else:
            picture(f"set/{file}")
    (tmp_path / "set").mkdir(exist_ok=True)
    text("set/other.csv", "a,b\n1,2\n")
    with pytest.raises(ConfigError, match=says):
        form_of(tmp_path / "set")


def test_images_and_names_that_are_given_tell_darknet(picture: Make, text: Make, tmp_path: Path) -> None:
    picture("pictures/a.png")
    names = text("names.txt", "bunny\n")
    source = text("set/a.txt", BOX).parent
    assert read_labels(source, Problems(), options=ReadOptions(tmp_path / "pictures", names)).boxes == 1
    options = ReadOptions(names=names, unlabelled="background")
    assert len(read_labels(tmp_path / "pictures", Problems(), options=options)) == 1
    with pytest.raises(ConfigError, match="gone: no such folder"):
        check(source, options=ReadOptions(tmp_path / "gone"))


@pytest.fixture(scope="module")
def episode(tmp_path_factory: pytest.TempPathFactory) -> Episode:
    folder = tmp_path_factory.mktemp("episode")
    return render_episode(folder, seed=3, characters=2, seconds=3, width=160, height=96, label_interval_s=0.7)


def test_our_csv_brings_frames_of_its_video(episode: Episode, tmp_path: Path) -> None:
    done = convert(episode.boxes_csv, "coco", tmp_path / "out")
    assert not done.problems.serious(), done.problems.as_text()
    assert done.images == 5
    with av.open(str(episode.video)) as container:
        frames = [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    dataset = read_labels(tmp_path / "out", Problems())
    lazy = {image.name: image for image in read_labels(episode.boxes_csv, Problems())}
    for image in dataset:
        assert image.video == episode.video.name
        assert image.time_s is not None
        wanted = next(i for i, (time, _) in enumerate(frames) if time >= image.time_s - 1e-6)
        found = image.read()
        # the product's own conversion to RGB, near to FFmpeg's: nearer to this frame than to any other
        apart = [float(np.abs(found.astype(int) - picture).mean()) for _, picture in frames]
        assert apart[wanted] < 3
        assert apart[wanted] == min(apart)
        np.testing.assert_array_equal(lazy[image.name].read(), found)
        np.testing.assert_array_equal(lazy[image.name].boxes, image.boxes)
    # and back into the CSV, by the images that were cut
    again = convert(tmp_path / "out", "csv", tmp_path / "csv")
    rows = (tmp_path / "csv" / "labels_boxes.csv").read_text().splitlines()
    assert sorted(rows) == sorted(episode.boxes_csv.read_text().splitlines())
    assert again.images == 5


def test_frames_are_the_same_whether_jumped_to_or_played_to(episode: Episode) -> None:
    together = dict(read_frames(episode.video, [0.0, 1.0, 2.5]))
    for time, picture in together.items():
        ((_, alone),) = read_frames(episode.video, [time])
        np.testing.assert_array_equal(alone, picture)
    assert list(read_frames(episode.video, [99.0])) == []


def late(episode: Episode, *times: str) -> Path:
    """The episode's labels, and its first row again at other times."""
    lines = episode.boxes_csv.read_text().splitlines()
    cells = lines[1].split(",")
    extra = [",".join([cells[0], time, *cells[2:]]) for time in times]
    path = episode.boxes_csv.with_name("late_boxes.csv")
    path.write_text("\n".join([*lines, *extra]) + "\n")
    return path


def test_labels_after_the_end_of_their_video_are_listed_and_the_rest_is_written(
    episode: Episode, tmp_path: Path
) -> None:
    path = late(episode, "99", "98.5")
    done = convert(path, "coco", tmp_path / "out")
    assert [(p.detail.split(" has ")[1], p.action) for p in done.problems.of("late_time")] == [
        ("no frame at 99 s or after it (1 box)", "left out"),
        ("no frame at 98.5 s or after it (1 box)", "left out"),
    ]
    assert [p.where for p in done.problems.serious()] == [
        f"line {len(path.read_text().splitlines()) - i}" for i in (1, 0)
    ]
    assert (done.images, done.problems.left_out()) == (5, 2)
    assert len(list((tmp_path / "out" / "images").iterdir())) == 5
    assert check(path).problems.counts() == {"late_time": 2}
    with pytest.raises(ConfigError, match="refused by strict, 2 problems"):
        convert(path, "coco", tmp_path / "strict", strict=True)


def test_labels_that_are_all_after_the_end_are_refused(episode: Episode, tmp_path: Path) -> None:
    path = late(episode, "99")
    lines = path.read_text().splitlines()
    path.write_text(f"{lines[0]}\n{lines[-1]}\n")
    with pytest.raises(ConfigError, match="no frame at 99 s or after it") as caught:
        convert(path, "coco", tmp_path / "out")
    assert "see what is wrong with each" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_times_without_a_frame(episode: Episode) -> None:
    with av.open(str(episode.video)) as container:
        last = max(float(frame.time) for frame in container.decode(video=0))
    assert without_frame(episode.video, [0.5, last, last - 1]) == []
    assert without_frame(episode.video, [last + 0.01, 70.0, 0.0, last, 8.0]) == [last + 0.01, 8.0, 70.0]
    assert without_frame(episode.video, []) == []


def test_frames_of_one_video_in_both_parts_are_told(episode: Episode, tmp_path: Path) -> None:
    done = convert(episode.boxes_csv, "coco", tmp_path / "out", val=0.4)
    assert done.splits == {"train": 3, "val": 2}
    (problem,) = done.problems.of("leaking_split")
    assert problem.file == episode.video.name
    assert "drawn in runs of frames since there are few videos" in problem.detail
    (problem,) = check(tmp_path / "out").problems.of("leaking_split")
    assert problem.detail == "has frames in train and val, as the labels say"
    for to in ("voc", "csv"):
        lost = convert(tmp_path / "out", to, tmp_path / to).problems.of("not_carried")  # type: ignore[arg-type]
        assert [p.file for p in lost if p.file == to] == [to]


@pytest.mark.shared
def test_raccoons_go_through_every_format(shared: Path, tmp_path: Path) -> None:
    source = shared / "voc" / "raccoon"
    wanted = read_labels(source, Problems())
    assert (len(wanted), wanted.boxes) == (60, 64)
    convert(source, "coco", tmp_path / "coco")
    convert(tmp_path / "coco", "darknet", tmp_path / "darknet")
    convert(tmp_path / "darknet", "csv", tmp_path / "csv")
    convert(tmp_path / "csv", "voc", tmp_path / "voc")
    found = {Path(image.name).name: image for image in read_labels(tmp_path / "voc", Problems())}
    for image in wanted:
        np.testing.assert_array_equal(found[Path(image.name).name].boxes, image.boxes)
