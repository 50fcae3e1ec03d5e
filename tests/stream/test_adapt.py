"""Adapting a work folder: what is written, what is read back, what a changed folder does to it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_nets

from stream import cluster, load_config, run
from stream.adapt.embedding import AdaptSummary, adapt, is_adapted
from stream.adapt.show_crops import different, distinct
from stream.cartoon.write import Episode, render_episode
from stream.embeddings import ADAPTED, find, matching
from stream.errors import ConfigError, WorkdirError
from stream.names import cluster_names, name_characters
from stream.workdir import WorkFolder

QUICK: dict[str, Any] = {"minutes": 15.0, "steps": 3, "min_crops": 20}


@pytest.fixture(scope="module")
def episode(tmp_path_factory: pytest.TempPathFactory) -> Episode:
    """Longer than that of other tests, at few frames a second: there have to be tracks to measure by."""
    place = tmp_path_factory.mktemp("episode") / "show.mp4"
    return render_episode(place, seed=3, characters=5, seconds=60, width=320, height=180, fps=2, gop=2)


@pytest.fixture(scope="module")
def made(episode: Episode, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder of two segments whose embedder tells colours only, in ``work``, not adapted."""
    top = tmp_path_factory.mktemp("made")
    poor = tiny_nets.export(tiny_nets.Mean(), top / "poor.onnx", size=(64, 64))
    settings = {
        "interval": 1.0,
        "segment_seconds": 30.0,
        "boxes": str(episode.boxes_csv),
        "embedder": {"model": str(poor)},
        "cluster": {"clusters": "3:5"},
    }
    (top / "settings.json").write_text(json.dumps(settings))
    run(episode.video, top / "work", load_config(values=settings), report=False)
    return top


@pytest.fixture(scope="module")
def done(made: Path) -> tuple[Path, AdaptSummary]:
    """The same, adapted, names given before: its folder and what was told."""
    shutil.copytree(made / "work", made / "adapted")
    name_characters(made / "adapted", {1: "Ada"})
    return made / "adapted", adapt(made / "adapted", report=False, **QUICK)


@pytest.fixture
def adapted(done: tuple[Path, AdaptSummary], tmp_path: Path) -> Path:
    shutil.copytree(done[0], tmp_path / "work")
    return tmp_path / "work"


def vectors(work: Path) -> np.ndarray:
    with WorkFolder.open(work, create=False, write=False) as folder:
        found = folder.crops().embeddings
    assert found is not None
    return found


def test_embeddings_are_written_beside_segments_that_stay_as_they_are(
    made: Path, done: tuple[Path, AdaptSummary]
) -> None:
    work, summary = done
    assert summary.kept, summary.reason
    assert summary.after["score"] > summary.before["score"]
    for path in sorted((made / "work").glob("segments/*/*.parquet")):
        same = work / path.relative_to(made / "work")
        assert same.read_bytes() == path.read_bytes()
        own = work / "embeddings" / ADAPTED / path.parent.name / path.name
        assert pq.read_table(own)["crop_id"].to_pylist() == pq.read_table(path)["crop_id"].to_pylist()
    old, new = vectors(made / "work"), vectors(work)
    assert (old.shape[1], new.shape[1]) == (6, 256)
    assert len(old) == len(new) > 40
    assert np.allclose(np.linalg.norm(new, axis=1), 1, atol=1e-3)


def test_held_frames_have_the_embedding_of_the_picture_they_repeat(made: Path, adapted: Path) -> None:
    with WorkFolder.open(adapted, create=False, write=False) as folder:
        crops = folder.crops()
    pictures = distinct(crops)
    assert crops.embeddings is not None
    assert (pictures.rows[pictures.of_row[pictures.rows]] == pictures.rows).all()
    assert (crops.embeddings == crops.embeddings[pictures.rows[pictures.of_row]]).all()


def test_the_folder_is_clustered_with_them_and_keeps_its_names_and_record(
    done: tuple[Path, AdaptSummary],
) -> None:
    work, summary = done
    with WorkFolder.open(work, create=False, write=False) as folder:
        record, table = folder.read_run(), folder.read_clusters()
        names = cluster_names(folder)
    told = find(work)
    assert told is not None
    assert table.meta["embeddings"] == told.about["model"]
    assert 3 <= table.meta["clusters"] == summary.clusters <= 5
    assert list(names.values()) == ["Ada"]
    about = record["adaptation"]
    assert (about["kept"], about["steps"], about["seed"]) == (True, 3, 0)
    assert about["before"]["score"] < about["after"]["score"]
    assert about["seconds"] > 0


def test_its_network_is_an_embedder_for_other_runs(episode: Episode, adapted: Path, tmp_path: Path) -> None:
    model = adapted / "embeddings" / ADAPTED / "embedder.onnx"
    boxes = str(episode.boxes_csv)
    run(episode.video, tmp_path / "again", embedder=model, boxes=boxes, interval=1.0, report=False)
    with WorkFolder.open(tmp_path / "again", create=False, write=False) as folder:
        again = folder.crops()
    with WorkFolder.open(adapted, create=False, write=False) as folder:
        own = folder.crops()
    assert again.embeddings is not None
    assert own.embeddings is not None
    place = {(t, *b): i for i, (t, b) in enumerate(zip(own.time_s, own.boxes.tolist(), strict=True))}
    rows = [place[(t, *b)] for t, b in zip(again.time_s, again.boxes.tolist(), strict=True)]
    # through a JPEG in between
    assert np.median(np.einsum("md,md->m", again.embeddings, own.embeddings[rows])) > 0.97


def test_a_seed_gives_the_same_embeddings_again(made: Path, adapted: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "work", tmp_path / "twin")
    adapt(tmp_path / "twin", report=False, **QUICK)
    assert (vectors(tmp_path / "twin") == vectors(adapted)).all()


def test_adapting_again_has_to_be_better_than_the_adapted_ones(adapted: Path) -> None:
    before = vectors(adapted)
    again = adapt(adapted, report=False, **QUICK)
    assert not again.kept  # it comes to the same weights
    assert "old embeddings stay" in again.reason
    assert (vectors(adapted) == before).all()
    with WorkFolder.open(adapted, create=False, write=False) as folder:
        assert folder.read_run()["adaptation"]["kept"] is False


def test_segments_that_come_in_later_put_it_out_of_use_with_a_word(made: Path, adapted: Path) -> None:
    more = made / "more.mp4"
    render_episode(more, seed=5, characters=2, seconds=4, width=320, height=180, fps=2)
    settings = json.loads((made / "settings.json").read_text()) | {"boxes": str(made / "more_boxes.csv")}
    run(more, adapted, load_config(values=settings), report=False)
    table = cluster(adapted, clusters=(3, 5), report=False)
    with WorkFolder.open(adapted, create=False, write=False) as folder:
        assert not is_adapted(folder)
    assert any("without adaptation" in message for message in table.meta["messages"])
    assert table.meta["embeddings"] == "segments"
    assert vectors(adapted).shape[1] == 6
    again = adapt(adapted, report=False, **QUICK)
    assert again.kept, again.reason
    assert vectors(adapted).shape[1] == 256


def test_a_run_that_changes_nothing_keeps_what_is_known_of_adaptation(made: Path, adapted: Path) -> None:
    settings = json.loads((made / "settings.json").read_text())
    with WorkFolder.open(adapted, create=False, write=False) as folder:
        uri = folder.segments()[0].uri
    run(uri, adapted, load_config(values=settings), report=False)
    with WorkFolder.open(adapted, create=False, write=False) as folder:
        assert folder.read_run()["adaptation"]["kept"] is True
        assert matching(folder.path, folder.segments()) is not None
        assert is_adapted(folder)


def test_a_damaged_file_is_told_and_a_missing_mark_is_no_set(adapted: Path) -> None:
    path = next((adapted / "embeddings" / ADAPTED).glob("*/*.parquet"))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(WorkdirError, match="run `celstream adapt` again"):
        vectors(adapted)
    (adapted / "embeddings" / ADAPTED / "about.json").unlink()
    assert vectors(adapted).shape[1] == 6


def test_too_few_crops_are_refused_with_what_to_do(made: Path) -> None:
    with pytest.raises(ConfigError, match=r"at least 300 different crops.*--interval.*--min-crops"):
        adapt(made / "work")
    with pytest.raises(ConfigError, match="minutes: expected more than 0"):
        adapt(made / "work", minutes=0, min_crops=20)
    with pytest.raises(ConfigError, match="give more minutes"):
        adapt(made / "work", minutes=1e-6, min_crops=20, steps=0)


def test_boxes_of_a_frame_are_different_but_not_those_on_each_other() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [1, 1, 9, 9], [0, 0, 10, 10]], np.float32)
    found = different(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 0]), boxes)
    assert sorted(map(tuple, found.tolist())) == [(0, 1), (1, 2)]
    assert len(different(np.array([0, 1]), np.array([0, 1]), boxes[:2])) == 0


def test_the_command(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "work", tmp_path / "work")
    command = [sys.executable, "-m", "stream.cli", "adapt", str(tmp_path / "work"), "--json"]
    few = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert few.returncode == 2
    assert "expected at least 300 different crops" in few.stderr
    assert not few.stdout
    # three steps: a budget of a second
    made_so = subprocess.run(
        [*command, "--min-crops", "20", "--minutes", "0.017"], capture_output=True, text=True, timeout=300
    )
    assert made_so.returncode == 0, made_so.stderr
    told = json.loads(made_so.stdout)
    assert told["planned_steps"] == 3
    assert {"kept", "reason", "before", "after", "steps", "seed", "seconds"} <= set(told)
    assert "adapting to" in made_so.stderr


def test_without_torch_it_says_what_is_missing(made: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'torch' else find(name, *a)\n"
    )
    place = {"PYTHONPATH": f"{tmp_path}:{Path.cwd()}", "PATH": ""}
    answer = subprocess.run(
        [sys.executable, "-m", "stream.cli", "adapt", str(made / "work"), "--min-crops", "20"],
        capture_output=True, text=True, timeout=120, env=place,
    )  # fmt: skip
    assert answer.returncode == 2
    assert "needs torch" in answer.stderr
    assert "pip install 'celstream[train]'" in answer.stderr
