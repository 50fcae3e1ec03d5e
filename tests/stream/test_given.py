"""Given boxes in the detector's place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stream.batches import FrameBatch, HeldFrames, Segment, Video
from stream.detect import GivenBoxes
from stream.errors import ConfigError
from stream.labels import LabelBox, Labels


def write(path: Path, *rows: tuple) -> Path:
    """Rows of (video, time, box); frames of 100x50."""
    Labels(tuple(LabelBox(v, t, 100, 50, box, "who") for v, t, box in rows), ()).write(path)
    return path


def batch(
    times: list[float],
    *,
    start: float = 0.0,
    end: float = np.inf,
    first: int = 0,
    rate: float | None = 25.0,
    held: HeldFrames | None = None,
    uri: str = "/films/cartoon.mp4",
    index: int = 0,
) -> FrameBatch:
    n = len(times)
    return FrameBatch(
        segment=Segment(Video("cartoon", uri, "video", 200, 100, "f", frame_rate=rate), index, start, end),
        images=np.zeros((n, 100, 200, 3), np.uint8),
        times=np.array(times, np.float64),
        indices=np.round(np.array(times) * 25).astype(np.int64),
        numbers=np.arange(first, first + n),
        shots=np.zeros(n, np.int32),
        held=held or HeldFrames(),
    )


def test_boxes_go_to_their_frames_scaled(tmp_path: Path) -> None:
    csv = write(
        tmp_path / "a_boxes.csv",
        ("cartoon.mp4", 1.0, (10, 5, 30, 45)),
        ("cartoon.mp4", 2.0, (0, 0, 20, 20)),
        ("cartoon.mp4", 2.0, (50, 20, 130, 60)),  # reaches out of its frame
        ("other.mp4", 1.0, (0, 0, 9, 9)),
    )
    station = GivenBoxes(csv)
    found = station(batch([0.0, 1.0, 2.0, 3.0]))
    assert found.frame.tolist() == [1, 2, 2]
    assert found.boxes.tolist() == [[20, 10, 60, 90], [0, 0, 40, 40], [100, 40, 200, 100]]
    assert found.scores.tolist() == [1, 1, 1]
    assert found.class_names == ("character",)
    assert station.name == "detect"
    assert len(station.model_hash) == 64
    assert "4 given boxes of a_boxes.csv" in station.description
    assert len(station(batch([0.0, 1.0], uri="/films/unknown.mkv"))) == 0


@pytest.mark.parametrize(
    ("pts", "frame"),
    [
        ([0.96, 1.0, 1.04], [1]),
        ([0.985, 1.025, 1.065], [1]),  # the first at or after, although one before is nearer
        ([0.9996, 1.0396], [0]),  # the time was written rounded
        ([0.985, 1.5], [0]),  # sampled half a frame early
        ([0.95, 1.03, 1.07], [1]),
        ([0.5, 1.5], []),  # its frame was not sampled
    ],
)
def test_which_frame_is_meant(tmp_path: Path, pts: list[float], frame: list[int]) -> None:
    csv = write(tmp_path / "a_boxes.csv", ("cartoon.mp4", 1.0, (0, 0, 9, 9)))
    assert GivenBoxes(csv)(batch(pts)).frame.tolist() == frame


def test_every_row_is_used_once_wherever_batches_and_segments_are_cut(tmp_path: Path) -> None:
    times = np.arange(0, 4, 0.04)
    csv = write(tmp_path / "a_boxes.csv", *[("cartoon.mp4", float(t), (0, 0, 9, 9)) for t in times])
    for cut in (1, 5, 11):
        station = GivenBoxes(csv)
        counts = np.zeros(len(times), int)
        for first in range(0, len(times), cut):
            part = times[first : first + cut]
            segment = 0 if first < 55 else 1
            found = station(
                batch(
                    part.tolist(),
                    first=first,
                    start=2.2 * segment,
                    end=4.0 if segment else 2.2,
                    index=segment,
                )
            )
            np.add.at(counts, first + found.frame, 1)
        assert counts.tolist() == [1] * len(times), cut


def test_a_segment_done_again_finds_its_boxes_again(tmp_path: Path) -> None:
    csv = write(tmp_path / "a_boxes.csv", ("cartoon.mp4", 1.0, (0, 0, 9, 9)))
    station = GivenBoxes(csv)
    assert [len(station(batch([0.0, 1.0]))) for _ in range(2)] == [1, 1]


def test_held_frames_lend_their_boxes_to_the_picture_they_show(tmp_path: Path) -> None:
    csv = write(
        tmp_path / "a_boxes.csv",
        ("cartoon.mp4", 1.0, (0, 0, 10, 10)),  # held, shows frame 0
        ("cartoon.mp4", 3.0, (0, 0, 20, 20)),  # held, shows frame 1, which has its own
        ("cartoon.mp4", 2.0, (0, 0, 30, 30)),
    )
    held = HeldFrames(np.array([1.0, 3.0]), np.array([25, 75]), np.array([0, 1]))
    found = GivenBoxes(csv)(batch([0.0, 2.0], held=held))
    assert found.frame.tolist() == [0, 1]
    assert found.boxes[:, 2].tolist() == [20, 60]


def test_still_images_go_by_file_name(tmp_path: Path) -> None:
    csv = write(tmp_path / "a_boxes.csv", ("b.png", 0.0, (0, 0, 10, 10)), ("c.png", 7.0, (0, 0, 20, 20)))
    video = Video("pictures", "/p", "images", 100, 50, "f", files=("/p/a.png", "/p/b.png", "/p/c.png"))
    frames = FrameBatch(
        Segment(video, 0, 0.0),
        np.zeros((2, 50, 100, 3), np.uint8),
        np.array([1.0, 2.0]),
        np.array([1, 2]),
        np.array([0, 1]),
        np.zeros(2, np.int32),
    )
    found = GivenBoxes(csv)(frames)
    assert found.frame.tolist() == [0, 1]
    assert found.boxes[:, 2].tolist() == [10, 20]


def test_no_frames(tmp_path: Path) -> None:
    csv = write(tmp_path / "a_boxes.csv", ("cartoon.mp4", 1.0, (0, 0, 9, 9)))
    assert len(GivenBoxes(csv)(batch([]))) == 0


def test_no_labels(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.csv"):
        GivenBoxes(tmp_path / "gone.csv")


@pytest.mark.shared
def test_the_labels_of_the_real_films_find_their_frames(shared: Path) -> None:
    """At one frame per second every labelled second has its boxes, each once."""
    station = GivenBoxes(shared / "labels" / "bbb_boxes.csv")
    uri = str(shared / "media" / "big_buck_bunny_360p.mp4")
    total = sum(
        len(station(batch(np.arange(t, t + 16.0).tolist(), first=t, rate=24.0, uri=uri)))
        for t in range(0, 600, 16)
    )
    assert total == 184
