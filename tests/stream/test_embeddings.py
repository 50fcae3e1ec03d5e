"""Sets of embeddings beside the segments: whole or none, of these segments or not used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import store_samples as sample

from stream import embeddings
from stream.errors import WorkdirError
from stream.workdir import WorkFolder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[WorkFolder]:
    """An open work folder with two segments of six crops and one without any."""
    with WorkFolder.open(tmp_path / "work", create=True) as opened:
        for index, count in ((0, 6), (1, 6), (2, 0)):
            of = sample.segment(index)
            opened.write_segment(of, f"f{index}", sample.rows(of, count), frames=sample.frames(of))
        yield opened


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"a network")
    return path


def fill(folder: WorkFolder, model: Path, size: int = 8) -> np.ndarray:
    """Write a set of random vectors for every crop, and return them, of length 1."""
    vectors = np.random.default_rng(0).normal(size=(12, size)).astype(np.float32)
    crops = folder.crops(embeddings=False)
    infos = [info for info in folder.segments() if info.crops]
    parts = [
        (info, crops.crop_id[crops.segment == n], vectors[crops.segment == n]) for n, info in enumerate(infos)
    ]
    embeddings.write(folder.path, parts, model, {"model": "abc"})
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_crops_come_with_them_whole_or_by_video(folder: WorkFolder, model: Path) -> None:
    own = folder.crops().embeddings
    assert own is not None
    vectors = fill(folder, model)
    found = folder.crops()
    assert found.embeddings is not None
    assert np.allclose(found.embeddings, vectors, atol=2e-3)
    again = folder.crops(videos={"film"}).embeddings
    assert again is not None
    assert (again == found.embeddings).all()
    assert (folder.path / "embeddings" / "adapted" / "embedder.onnx").read_bytes() == b"a network"
    embeddings.drop(folder.path)
    back = folder.crops().embeddings
    assert back is not None
    assert (back == own).all()


def test_they_are_used_while_every_segment_is_one_they_are_of(folder: WorkFolder, model: Path) -> None:
    fill(folder, model)
    found = embeddings.find(folder.path)
    assert found is not None
    assert embeddings.mismatch(found, folder.segments()) == 0
    gone = folder.segments()[1].path
    content = gone.read_bytes()
    gone.unlink()  # of a video that was forgotten: those of the others still stand
    assert folder.crops().embeddings is not None
    assert folder.crops().embeddings.shape == (6, 8)  # type: ignore[union-attr]
    gone.write_bytes(content)
    of = sample.segment(1)
    folder.write_segment(of, "another", sample.rows(of, 6, seed=5), frames=sample.frames(of))
    assert embeddings.mismatch(found, folder.segments()) == 1
    assert folder.crops().embeddings.shape == (12, sample.SIZE)  # type: ignore[union-attr]


def test_a_kill_while_they_are_written_leaves_none(folder: WorkFolder, model: Path) -> None:
    fill(folder, model)

    def parts() -> Iterator[tuple[object, np.ndarray, np.ndarray]]:
        info = folder.segments()[0]
        yield info, folder.crops(embeddings=False).crop_id[:6], np.ones((6, 4), np.float32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embeddings.write(folder.path, parts(), model, {})  # type: ignore[arg-type]
    assert embeddings.find(folder.path) is None
    assert folder.crops().embeddings.shape == (12, sample.SIZE)  # type: ignore[union-attr]
    torn = folder.path / "embeddings" / "adapted" / "film" / ".x.parquet.1234.tmp"
    torn.touch()
    assert torn in folder.clean()
    fill(folder, model)
    assert folder.crops().embeddings.shape == (12, 8)  # type: ignore[union-attr]


def test_files_of_segments_that_are_gone_go_with_the_next_set(folder: WorkFolder, model: Path) -> None:
    fill(folder, model)
    old = folder.path / "embeddings" / "adapted" / "film" / "old.parquet"
    old.write_bytes(b"x")
    fill(folder, model)
    assert not old.exists()


def test_rows_of_another_segment_are_refused(folder: WorkFolder, model: Path) -> None:
    fill(folder, model)
    first, second = sorted((folder.path / "embeddings" / "adapted" / "film").glob("*.parquet"))
    first.write_bytes(second.read_bytes())
    with pytest.raises(WorkdirError, match="of other crops"):
        folder.crops()


def test_a_mark_of_another_format_or_a_torn_one_is_no_set(folder: WorkFolder, model: Path) -> None:
    fill(folder, model)
    mark = folder.path / "embeddings" / "adapted" / "about.json"
    mark.write_text(mark.read_text()[:-20])
    assert embeddings.find(folder.path) is None
    mark.write_text('{"format": 99, "segments": {}, "about": {}}')
    assert embeddings.find(folder.path) is None


def test_the_record_keeps_what_is_known_of_adaptation(folder: WorkFolder) -> None:
    folder.write_run({"adaptation": {"kept": True}, "seconds": 1})
    folder.write_run({"seconds": 2})
    assert folder.read_run()["adaptation"] == {"kept": True}
    assert folder.read_run()["seconds"] == 2
    folder.write_run({"adaptation": {"kept": False}})
    assert folder.read_run()["adaptation"] == {"kept": False}
