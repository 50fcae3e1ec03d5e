"""Label files of strangers: no entity grows, nothing is read or written outside, memory stays small."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from engines.train.labels import Problems, ReadOptions, convert, read_labels
from engines.train.labels.images import ImageIndex, safe_name
from stream.errors import ConfigError

Make = Callable[..., Path]

LAUGHS = """<!DOCTYPE annotation [<!ENTITY a "ha">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotation><filename>&b;</filename></annotation>"""
READS = '<!DOCTYPE annotation [<!ENTITY a SYSTEM "file:///etc/passwd">]>\n<annotation>&a;</annotation>'


@pytest.mark.parametrize("content", [LAUGHS, READS])
def test_xml_entities_are_refused(picture: Make, text: Make, tmp_path: Path, content: str) -> None:
    picture("a.png")
    text("a.xml", content)
    problems = Problems()
    with pytest.raises(ConfigError, match="document type declaration"):
        read_labels(tmp_path, problems)
    assert [p.kind for p in problems] == ["malformed"]


def test_xml_without_end_of_depth_is_refused(picture: Make, text: Make, tmp_path: Path) -> None:
    picture("a.png")
    text("a.xml", "<annotation>" + "<object>" * 100_000)
    with pytest.raises(ConfigError, match="levels deep"):
        read_labels(tmp_path, Problems())


def test_yaml_that_grows_is_refused_at_once(picture: Make, text: Make, tmp_path: Path) -> None:
    picture("a.png")
    text("a.txt", "0 .5 .5 .5 .5\n")
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    text("data.yaml", "\n".join([*lines, "names: *a11\n"]))
    with pytest.raises(ConfigError, match="expected a class name, got list"):
        read_labels(tmp_path / "data.yaml", Problems())


def test_yaml_makes_no_objects(picture: Make, text: Make, tmp_path: Path) -> None:
    picture("a.png")
    file = text("data.yaml", f"names: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    with pytest.raises(ConfigError, match="not YAML"):
        read_labels(file, Problems())
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "name",
    [
        *("../x.png", "a/../../x.png", "/etc/x.png", "C:\\x.png", "..\\x.png", "\\\\host\\x.png", "", ".."),
        *("a\nb.png", "a\0.png", "\udcff.png", "x" * 300),
    ],
)
def test_names_that_lead_out_are_unsafe(name: str) -> None:
    assert safe_name(name) is None


def test_names_below_the_folder_are_kept() -> None:
    assert safe_name("./a//b\\c d.png") == "a/b/c d.png"


@pytest.mark.parametrize("to", ["darknet", "voc", "coco", "csv"])
@pytest.mark.parametrize("name", ["../../evil.png", "/tmp/evil.png", "..\\..\\evil.png"])
def test_nothing_is_written_outside_the_output_folder(
    picture: Make, text: Make, tmp_path: Path, to: str, name: str
) -> None:
    outside = picture("evil.png").read_bytes()
    picture("deep/set/good.png")
    images = [{"id": 1, "file_name": name, "width": 100, "height": 50}]
    images += [{"id": 2, "file_name": "good.png", "width": 100, "height": 50}]
    file = text(
        "deep/set/l.json",
        json.dumps({"images": images, "annotations": [], "categories": [{"id": 1, "name": "../x"}]}),
    )
    before = set(tmp_path.rglob("*"))
    for labels_only in (False, True):
        options = ReadOptions(labels_only=labels_only)
        done = convert(file, to, tmp_path / "out" / "inner", options=options)  # type: ignore[arg-type]
        assert done.images == 1
        assert [p.kind for p in done.problems.serious()] == ["unsafe_name"]
    made = set(tmp_path.rglob("*")) - before
    assert made
    assert all(tmp_path / "out" in (path, *path.parents) for path in made)
    assert (tmp_path / "evil.png").read_bytes() == outside


def test_specification_does_not_lead_to_images_elsewhere(picture: Make, text: Make, tmp_path: Path) -> None:
    picture("private/p.png")
    picture("set/images/a.png")
    text("set/labels/a.txt", "0 .5 .5 .5 .5\n")
    spec = f"path: {tmp_path}/private\ntrain: {tmp_path}/private\nval: ../private\nnames: [a]\n"
    dataset = read_labels(text("set/data.yaml", spec), Problems())
    assert [image.name for image in dataset] == ["images/a.png"]


def test_csv_does_not_lead_to_files_elsewhere(picture: Make, text: Make, tmp_path: Path) -> None:
    picture("private/p.png")
    picture("set/a.png")
    head = "video_file,time_s,frame_width,frame_height,x1,y1,x2,y2\n"
    names = ("../private/p.png", f"{tmp_path}/private/p.png", "a.png")
    rows = "".join(f"{name},0,100,50,1,1,9,9\n" for name in names)
    problems = Problems()
    dataset = read_labels(text("set/x_boxes.csv", head + rows), problems)
    assert [image.name for image in dataset] == ["a.png"]
    assert len(problems.of("unsafe_name")) == 2


def test_images_are_found_by_folder_case_and_composition(picture: Make, tmp_path: Path) -> None:
    for name in ("one/A.PNG", "two/A.png", "two/u\u0308.png", "two/only.png"):
        picture(name)
    index = ImageIndex([tmp_path])

    def found(name: str, near: Path | None = None) -> list[str]:
        return [file.name for file in index.find(name, near)]

    assert found("one/a.png") == ["one/A.PNG"]
    assert found("two/A.png") == ["two/A.png"]
    assert found("a.png") == ["one/A.PNG", "two/A.png"]  # cannot be told
    assert found("A.png", tmp_path / "two") == ["two/A.png"]
    assert found("ü.png") == ["two/u\u0308.png"]
    assert found("C:\\users\\me\\only.png") == ["two/only.png"]
    assert found("none.png") == []


def test_a_large_json_takes_the_memory_of_its_boxes(text: Make) -> None:
    outline = [[float(i) + 0.25 for i in range(1000)]]
    rows = [
        {"id": i, "image_id": i % 50, "category_id": 1, "bbox": [i % 90, 1, 5, 5], "segmentation": outline}
        for i in range(900)
    ]
    images = [{"id": i, "file_name": f"{i}.png", "width": 100, "height": 50} for i in range(50)]
    # annotations before the images they are of, as some tools write them
    file = text(
        "l.json",
        json.dumps({"annotations": rows, "images": images, "categories": [{"id": 1, "name": "x"}]}, indent=1),
    )
    size = file.stat().st_size
    assert size > 10e6
    del rows
    tracemalloc.start()
    dataset = read_labels(file, Problems(), options=ReadOptions(labels_only=True))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert dataset.boxes == 450  # the rest are the same again
    assert peak < size / 2, peak  # as Python objects it is three times the file
