"""Segment files: the rows that go in come out, the bytes repeat, and damage is told from data."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import store_samples as sample

from stream.batches import FrameBatch, Segment
from stream.errors import WorkdirError
from stream.rows import FrameTable, SegmentRows
from stream.store import (
    ROW_GROUP,
    fingerprint,
    read_columns,
    read_jpegs,
    read_segment_info,
    write_segment_file,
)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A segment file of a few crops."""
    path = tmp_path / "s.parquet"
    of = sample.segment()
    write_segment_file(path, of, "f1", sample.rows(of), frames=sample.frames(of), notes={"damaged": 2})
    return path


def test_any_parquet_reader_sees_the_columns_of_the_design(written: Path) -> None:
    table = pq.read_table(written)
    types = {field.name: str(field.type) for field in table.schema}
    assert [types[side] for side in ("x1", "y1", "x2", "y2", "score")] == ["float"] * 5
    assert types["jpeg"] == "struct<bytes: binary, path: string>"
    assert types["embedding"] == f"fixed_size_list<element: halffloat>[{sample.SIZE}]"
    assert (types["time_s"], types["frame_index"], types["track"]) == ("double", "int64", "int64")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["jpeg"] == {"_type": "Image"}
    assert table.column("crop_id").to_pylist() == [f"film/0000000000/{n}" for n in range(6)]
    assert table.column("jpeg")[0]["path"].as_py() == "film/0000000000/0.jpg"
    assert set(table.column("source").to_pylist()) == {"/films/film.mp4"}


def test_hugging_face_datasets_shows_pictures(written: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the datasets package is not installed")
    loaded = datasets.load_dataset(
        "parquet", data_files=str(written), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded[0]["jpeg"].size == (24, 24)


def test_rows_come_back_as_they_went_in(written: Path) -> None:
    rows = sample.rows(sample.segment())
    table = read_columns(written, ["time_s", "x2", "class", "track", "held", "embedding"])
    assert np.array_equal(table.column("time_s").to_numpy(), rows.times)
    assert np.array_equal(table.column("x2").to_numpy(), rows.boxes[:, 2])
    assert table.column("class").to_pylist() == list(rows.classes)
    assert table.column("track").to_pylist() == [0, 1] * 3
    assert not any(table.column("held").to_pylist())
    vectors = np.array(table.column("embedding").to_pylist(), np.float32)
    assert np.abs(vectors - rows.embeddings).max() < 1e-3


def test_the_footer_tells_about_the_segment(written: Path) -> None:
    info = read_segment_info(written)
    assert (info.video, info.uri, info.key) == ("film", "/films/film.mp4", "0000000000")
    assert (info.start_s, info.end_s, info.fingerprint) == (0.0, 10.0, "f1")
    assert (info.crops, info.embedding_size, info.notes) == (6, sample.SIZE, {"damaged": 2})
    expected = sample.frames(sample.segment())
    for name in ("times", "indices", "numbers", "shots", "held"):
        assert np.array_equal(getattr(info.frames, name), getattr(expected, name)), name


def test_the_same_rows_give_the_same_bytes(written: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again.parquet", tmp_path / "other.parquet"
    of = sample.segment()
    write_segment_file(again, of, "f1", sample.rows(of), frames=sample.frames(of), notes={"damaged": 2})
    write_segment_file(other, of, "f1", sample.rows(of, seed=1), frames=sample.frames(of))
    assert again.read_bytes() == written.read_bytes()
    assert other.read_bytes() != written.read_bytes()


@pytest.mark.parametrize("size", [0, sample.SIZE])
def test_a_segment_without_crops_is_a_whole_file(tmp_path: Path, size: int) -> None:
    path = tmp_path / "s.parquet"
    of = Segment(sample.video(), 0, 0.0)
    write_segment_file(path, of, "f", SegmentRows.empty(size), frames=sample.frames(of))
    info = read_segment_info(path)
    assert (info.crops, info.embedding_size, len(info.frames)) == (0, size, 10)
    assert info.end_s == math.inf
    assert pq.read_table(path).num_rows == 0
    assert list(read_jpegs(path, [])) == []


def test_pictures_are_fetched_across_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    of = sample.segment()
    rows = sample.rows(of, 2 * ROW_GROUP + 10, side=8)
    write_segment_file(path, of, "f", rows, frames=FrameTable())
    wanted = [2 * ROW_GROUP + 9, 0, ROW_GROUP - 1, ROW_GROUP]
    assert dict(read_jpegs(path, wanted)) == {row: rows.jpegs[row] for row in wanted}
    with pytest.raises(WorkdirError, match="expected rows 0 to 521, got 522"):
        list(read_jpegs(path, [522]))


def test_repeated_pictures_are_stored_once(tmp_path: Path) -> None:
    of = sample.segment()
    held = sample.held_frames([0.1 * n for n in range(1, 100)], [0] * 99)
    rows = SegmentRows.from_batches([sample.crops(of, 2, held=held, side=200)], sample.SIZE)
    path = tmp_path / "s.parquet"
    write_segment_file(path, of, "f", rows, frames=FrameTable())
    assert len(rows) == 200
    assert path.stat().st_size < 2 * len(rows.jpegs[0]) + 20_000


def test_images_carry_the_file_each_came_from(tmp_path: Path) -> None:
    pictures = sample.video("art", kind="images", uri="/art", files=("/art/a.png", "/art/b\udcff.png"))
    of = Segment(pictures, 0, 0.0)
    made = sample.rows(of, 2)
    path = tmp_path / "s.parquet"
    write_segment_file(
        path, of, "f", SegmentRows(**{**vars(made), "indices": np.array([1, 0])}), frames=FrameTable()
    )
    assert pq.read_table(path).column("source").to_pylist() == ["/art/b�.png", "/art/a.png"]


def test_held_frames_repeat_the_rows_of_their_picture_in_time_order() -> None:
    of = sample.segment()
    first = sample.crops(of, 4)  # pictures 0 and 1, two crops each, at 0 s and 1 s
    later = sample.crops(of, 0, held=sample.held_frames([0.5, 1.5, 1.75], [0, 1, 7]))
    rows = SegmentRows.from_batches([first, later], sample.SIZE)
    assert rows.times.tolist() == [0, 0, 0.5, 0.5, 1, 1, 1.5, 1.5]
    assert rows.held.tolist() == [False, False, True, True] * 2
    assert rows.indices.tolist() == [0, 0, 12, 12, 24, 24, 36, 36]
    assert rows.numbers.tolist() == [0] * 4 + [1] * 4
    assert rows.jpegs[2:4] == first.jpegs[0:2]
    assert rows.jpegs[6:8] == first.jpegs[2:4]
    assert np.array_equal(rows.boxes[6:8], first.boxes[2:4])
    assert np.array_equal(rows.embeddings[2:4], first.embeddings[0:2])
    assert set(rows.tracks.tolist()) == {-1}


def test_frames_join_in_time_order_with_held_ones_in_their_pictures_shot() -> None:
    def batch(times: list[float], first: int, shot: int, held: list[float], of: list[int]) -> FrameBatch:
        n = len(times)
        return FrameBatch(
            segment=sample.segment(),
            images=np.zeros((n, 4, 4, 3), np.uint8),
            times=np.array(times, np.float64),
            indices=(np.array(times) * 24).astype(np.int64),
            numbers=np.arange(first, first + n),
            shots=np.full(n, shot, np.int32),
            held=sample.held_frames(held, of),
        )

    batches = [batch([0, 2], 0, 0, [1], [0]), batch([], 2, 0, [3], [1]), batch([5], 2, 1, [6], [2])]
    table = FrameTable.join(FrameTable.of(b) for b in batches)
    assert table.times.tolist() == [0, 1, 2, 3, 5, 6]
    assert table.numbers.tolist() == [0, 0, 1, 1, 2, 2]
    assert table.shots.tolist() == [0, 0, 0, 0, 1, 1]
    assert table.held.tolist() == [False, True] * 3
    assert len(FrameTable.join([])) == 0


def test_rows_check_themselves() -> None:
    made = vars(sample.rows(sample.segment()))
    with pytest.raises(ValueError, match=r"SegmentRows\.tracks: expected int64 \(6\), got float64 \(6,\)"):
        SegmentRows(**{**made, "tracks": np.zeros(6)})
    with pytest.raises(ValueError, match="expected 6 jpegs and classes, got 0 and 6"):
        SegmentRows(**{**made, "jpegs": ()})
    with pytest.raises(ValueError, match="at least one number"):
        SegmentRows(**{**made, "embeddings": np.empty((6, 0), np.float32)})


def test_the_fingerprint_follows_content_and_settings_not_place_or_order() -> None:
    base = fingerprint(sample.video(), {"a": 1, "b": (1, 2)}, {"detector": "d"}, "1")
    assert len(base) == 64
    assert base == fingerprint(sample.video(uri="/moved.mp4"), {"b": [1, 2], "a": 1}, {"detector": "d"}, "1")
    changed = [
        fingerprint(sample.video(fingerprint="other"), {"a": 1, "b": (1, 2)}, {"detector": "d"}, "1"),
        fingerprint(sample.video(stream_index=1), {"a": 1, "b": (1, 2)}, {"detector": "d"}, "1"),
        fingerprint(sample.video(), {"a": 2, "b": (1, 2)}, {"detector": "d"}, "1"),
        fingerprint(sample.video(), {"a": 1, "b": (1, 2)}, {"detector": "e"}, "1"),
        fingerprint(sample.video(), {"a": 1, "b": (1, 2)}, {"detector": "d"}, "2"),
    ]
    assert len({base, *changed}) == 6


def test_every_truncation_is_noticed(written: Path) -> None:
    whole = written.read_bytes()
    for length in [0, 1, 4, 8, len(whole) // 2, len(whole) - 8, len(whole) - 1]:
        written.write_bytes(whole[:length])
        with pytest.raises(WorkdirError, match="not a whole segment file"):
            read_segment_info(written)


def test_flipped_bits_in_rows_are_noticed(written: Path) -> None:
    """A page's checksum catches a bit anywhere in the data; elsewhere reading fails cleanly or is right."""
    whole = written.read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little")
    expected = pq.read_table(written)
    noticed = 0
    chance = random.Random(0)
    for _ in range(300):
        position = chance.randrange(4, len(whole) - 8 - footer)
        changed = bytearray(whole)
        changed[position] ^= 1 << chance.randrange(8)
        written.write_bytes(changed)
        try:
            table = read_columns(written, expected.column_names)
        except WorkdirError:
            noticed += 1
        else:
            assert table.column("embedding").equals(expected.column("embedding"))
            assert table.column("jpeg").equals(expected.column("jpeg"))
            assert table.column("x1").equals(expected.column("x1"))
    assert noticed > 250


def test_a_foreign_parquet_file_is_not_taken_for_a_segment(tmp_path: Path, written: Path) -> None:
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(pq.read_table(written), foreign)
    with pytest.raises(WorkdirError, match="not a whole segment file"):
        read_segment_info(foreign)
    foreign.write_text("no parquet at all")
    with pytest.raises(WorkdirError, match="not a whole segment file"):
        list(read_jpegs(foreign, [0]))
