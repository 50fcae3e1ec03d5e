from __future__ import annotations

from pathlib import Path

import pytest

from stream.errors import ConfigError
from stream.labels import FrameStatus, LabelBox, Labels

BOX = LabelBox("a, b.mp4", 1.25, 640, 360, (10.0, 20.5, 100.0, 200.0), "bunny", ("truncated", "tiny"))
HEADER = "video_file,time_s,frame_width,frame_height,x1,y1,x2,y2,identity,flags\n"


def test_written_labels_read_back_the_same(tmp_path: Path) -> None:
    labels = Labels((BOX,), (FrameStatus("a, b.mp4", 1.25, "ok"), FrameStatus("a, b.mp4", 3, "empty")))
    boxes, frames = labels.write(tmp_path / "show_boxes.csv")
    assert frames == tmp_path / "show_frames.csv"
    assert Labels.read(boxes) == labels


def test_without_a_frames_file_only_boxed_frames_count(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(HEADER + "v.mp4,2,640,360,1,2,30,40,,\n")
    assert Labels.read(path).frames == (FrameStatus("v.mp4", 2.0, "ok"),)


def test_scaled_box_follows_the_frame_size() -> None:
    assert BOX.scaled(1280, 360) == (20.0, 20.5, 200.0, 200.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("time_s,x1\n", "video_file"),
        (HEADER + "v.mp4,zero,640,360,1,2,30,40,,\n", "time_s: expected a number, got 'zero'"),
        (
            HEADER + "v.mp4,1,640,360,1,2,30,40,,\nv.mp4,nan,640,360,1,2,30,40,,\n",
            "csv:3: time_s: expected a n",
        ),
        (HEADER + "v.mp4,0,640,360,1,2,inf,40,,\n", "csv:2: x2: expected a number, got 'inf'"),
        (HEADER + "v.mp4,0,640,360,30,2,1,40,,\n", "x1 < x2"),
        (HEADER + "v.mp4,0,0,360,1,2,30,40,,\n", "frame size"),
    ],
)
def test_bad_labels_name_the_line_and_the_value(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=str(path)) as caught:
        Labels.read(path)
    assert says in str(caught.value)


def test_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Labels.read(tmp_path / "none.csv")


@pytest.mark.shared
def test_the_real_labels_read(shared: Path) -> None:
    labels = Labels.read(shared / "labels" / "bbb_boxes.csv")
    assert len(labels.boxes) == 184
    assert len(labels.frames) == 140
    assert {frame.status for frame in labels.frames} >= {"ok", "empty"}
