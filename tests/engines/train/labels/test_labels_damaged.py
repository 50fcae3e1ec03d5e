"""Damaged label files are refused or listed with their file, whatever is wrong with them: never a crash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engines.train.labels import Problems, ReadOptions, read_labels
from stream.errors import ConfigError

XML = (
    '<?xml version="1.0" encoding="utf-8"?>\n<annotation><filename>a.png</filename>'
    "<size><width>100</width><height>50</height></size>\n<object><name>bunny</name><difficult>1</difficult>"
    "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>"
)
JSON = json.dumps(
    {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 100, "height": 50, "video_file": "v", "time_s": 1}
        ],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4.5], "flags": ["x"]}],
        "categories": [{"id": 2, "name": "bunny"}],
    }
)
CSV = (
    "video_file,time_s,frame_width,frame_height,x1,y1,x2,y2,identity,flags\n"
    "a.png,0,100,50,1,2,30,40,bunny,tiny\n"
)
FILES = {
    "a.txt": b"0 .5 .5 .5 .5\n0 .25 .25 .1 .1\n",
    "data.yaml": b"train: images\nval: other\nnames:\n  0: bunny\n  1: frank\nnc: 2\n",
    "a.xml": XML.encode(),
    "a.json": JSON.encode(),
    "a_boxes.csv": CSV.encode(),
}
ALONE = {"a.txt": ("obj.names", b"bunny\n"), "data.yaml": ("a.txt", FILES["a.txt"])}
PIECES = st.one_of(
    st.binary(max_size=4),
    st.sampled_from(
        [b"null", b"-1", b"1e999", b"9" * 400, b"{", b"[", b"]", b'"', b"<", b"&x;", b"NaN", b"\n"]
    ),
    st.sampled_from(
        [b"true", b"\xff\xfe", b"\0", b"../", b",", b": ", b"- ", b"*a", b"&a", b"!!python/none"]
    ),
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with some stretches replaced, doubled or taken out."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 30)))
        piece = draw(st.one_of(PIECES, st.just(content[start:end] * 2)))
        content = content[:start] + piece + content[end:]
    return content


@pytest.mark.parametrize("name", list(FILES))
def test_damaged_files_are_refused_or_listed(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    Image.new("RGB", (100, 50)).save(folder / "a.png")
    if name in ALONE:
        other, content = ALONE[name]
        (folder / other).write_bytes(content)
    file = folder / name
    source = folder if name == "a.txt" else file
    seen: set[str] = set()

    @given(content=damaged(FILES[name]), only=st.booleans())
    @settings(max_examples=150, deadline=None)
    def check(content: bytes, only: bool) -> None:
        file.write_bytes(content)
        problems = Problems()
        options = ReadOptions(
            labels_only=only and name not in ("a.txt", "data.yaml"), unlabelled="background"
        )
        try:
            dataset = read_labels(source, problems, options=options)
        except ConfigError as error:
            refusal = str(error)
            seen.add("refused")
        else:
            refusal = ""
        if refusal:
            assert str(folder) in refusal or "no image with usable labels" in refusal
            return
        seen.add("listed" if len(problems) else "clean")
        for problem in problems:
            assert problem.file
            assert Path(problem.file).exists()
            str(problem).encode()  # can be printed and written
        assert {image.name for image in dataset} <= {"a.png"} or only

    check()
    assert len(seen) > 1
