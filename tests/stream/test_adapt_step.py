"""Show adaptation as a step of a run: when it is done, what it leaves, what goes wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tiny_nets

import stream.packages
from stream import Summary, cluster, load_config, run
from stream.adapt.embedding import is_adapted
from stream.cartoon.write import Episode, render_episode
from stream.embeddings import ADAPTED, matching
from stream.errors import DependencyError
from stream.progress import Quiet
from stream.workdir import WorkFolder

QUICK: dict[str, Any] = {"min_crops": 20, "minutes": 15.0, "steps": 3}


@pytest.fixture(scope="module")
def episode(tmp_path_factory: pytest.TempPathFactory) -> Episode:
    """Few frames a second, and enough tracks to measure by."""
    place = tmp_path_factory.mktemp("episode") / "show.mp4"
    return render_episode(place, seed=3, characters=5, seconds=60, width=320, height=180, fps=2, gop=2)


@pytest.fixture(scope="module")
def poor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedder that tells colours only: any adaptation is better."""
    return tiny_nets.export(tiny_nets.Mean(), tmp_path_factory.mktemp("poor") / "poor.onnx", size=(64, 64))


def job(episode: Episode, work: Path, adapt: Any, embedder: Path | None = None, **more: Any) -> Summary:
    settings: dict[str, Any] = {"boxes": str(episode.boxes_csv), "cluster": {"clusters": "3:5"}}
    if embedder is not None:
        settings["embedder"] = {"model": str(embedder)}
    report = {"report": False} | more
    return run(episode.video, work, load_config(values=settings | {"adapt": adapt}), **report)


class StopsWhenTold(Quiet):
    """Asks the run to stop when it says that it adapts."""

    def __init__(self) -> None:
        self.stop: Any = None

    def note(self, message: str) -> None:
        if message.startswith("adapting to"):
            self.stop()


@pytest.fixture(scope="module")
def stopped(episode: Episode, poor: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    """Stopped while it adapted."""
    work, stops = tmp_path_factory.mktemp("stopped") / "work", StopsWhenTold()
    more = {"progress": stops, "on_start": lambda stop: setattr(stops, "stop", stop)}
    return work, job(episode, work, {"mode": "on", **QUICK}, poor, report=True, **more)


@pytest.fixture(scope="module")
def done(episode: Episode, poor: Path, stopped: tuple[Path, Summary]) -> tuple[Path, Summary]:
    """The same, run again to its end."""
    work = stopped[0].with_name("done")
    shutil.copytree(stopped[0], work)
    began = time.perf_counter()
    summary = job(episode, work, {"mode": "on", **QUICK}, poor, report=True)
    assert summary.seconds + summary.adapt_seconds < time.perf_counter() - began
    return work, summary


@pytest.fixture
def adapted(done: tuple[Path, Summary], tmp_path: Path) -> Path:
    shutil.copytree(done[0], tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def plain(stopped: tuple[Path, Summary], tmp_path: Path) -> Path:
    """Clustered, not adapted."""
    shutil.copytree(stopped[0], tmp_path / "plain")
    return tmp_path / "plain"


def state(work: Path) -> tuple[str, bool]:
    """What is clustered, and whether the folder counts as adapted."""
    with WorkFolder.open(work, create=False, write=False) as folder:
        return str(folder.read_clusters().meta["embeddings"]), is_adapted(folder)


def test_adapted_embeddings_are_clustered_once_and_told(done: tuple[Path, Summary]) -> None:
    work, summary = done
    assert summary.exit_code == 0
    assert summary.adapted
    assert summary.adaptation is not None
    assert (summary.adaptation["kept"], summary.adaptation["steps"]) == (True, 3)
    assert 0 < summary.peak_rss_bytes <= summary.adapt_peak_rss_bytes
    assert summary.segments_done_before == 1
    assert "Adapted to the show in" in summary.as_text()
    with WorkFolder.open(work, create=False, write=False) as folder:
        used = matching(folder.path, folder.segments())
        record = folder.read_run()
    assert used is not None
    assert state(work) == (used.about["model"], True)
    assert len(list(work.glob("clusters/*.parquet"))) == 2  # one more than without
    assert record["adaptation"]["after"]["score"] > record["adaptation"]["before"]["score"]
    assert record["adapt_seconds"] == summary.adapt_seconds > 0
    page = (work / "report.html").read_text()
    assert 'id="adaptation"' in page
    assert "Adapted embeddings are in use" in page


def test_the_same_segments_are_adapted_to_once_and_off_leaves_that_in_use(
    adapted: Path, episode: Episode, poor: Path
) -> None:
    before = state(adapted)
    for adapt in ({"mode": "on", **QUICK}, "auto", "off"):
        again = job(episode, adapted, adapt, poor)
        assert again.adaptation is None
        assert again.adapt_seconds == 0
        assert again.adapted
        assert state(adapted) == before


def test_auto_adapts_the_default_embedder_where_there_are_enough_crops(
    episode: Episode, tmp_path: Path
) -> None:
    few = job(episode, tmp_path / "work", "auto")
    assert 20 < few.crops < 300
    assert few.adaptation is None
    assert not few.notes
    enough = job(episode, tmp_path / "work", QUICK)
    assert enough.adaptation is not None
    assert (enough.adaptation["steps"], enough.adaptation["crops"]) == (3, few.crops)
    assert enough.adapted == enough.adaptation["kept"]
    assert enough.clusters > 0
    assert state(tmp_path / "work")[1]
    again = job(episode, tmp_path / "work", QUICK)
    assert again.adaptation is None


def test_auto_leaves_an_embedder_that_was_brought(plain: Path, episode: Episode, poor: Path) -> None:
    assert job(episode, plain, QUICK, poor).adaptation is None
    assert state(plain) == ("segments", False)


def test_without_torch_auto_says_so_and_on_does_nothing(
    episode: Episode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream.packages, "find_spec", lambda name: None if name == "torch" else name)
    summary = job(episode, tmp_path / "work", QUICK)
    assert summary.exit_code == 0
    assert summary.clusters > 0
    (note,) = summary.notes
    assert "needs torch, not installed here: pip install 'celstream[train]'" in note
    assert not job(episode, tmp_path / "work", "auto").notes  # too few crops: nothing is missing
    with pytest.raises(DependencyError, match=r"celstream\[train\]"):
        job(episode, tmp_path / "other", {"mode": "on", **QUICK})
    assert not (tmp_path / "other").exists()


def test_too_few_crops_for_on_are_told_after_the_work_is_done(
    plain: Path, episode: Episode, poor: Path
) -> None:
    summary = job(episode, plain, "on", poor, report=True)
    assert summary.exit_code == 2
    assert summary.clusters >= 3
    assert summary.report is not None
    assert any("at least 300 different crops" in note for note in summary.notes)
    assert "Not adapted to the show" in summary.as_text()
    assert state(plain) == ("segments", False)


def test_a_stop_on_the_way_clusters_without(stopped: tuple[Path, Summary]) -> None:
    work, summary = stopped
    assert summary.exit_code == 130
    assert summary.report is not None
    assert 3 <= summary.clusters <= 5
    assert summary.times_real_time == pytest.approx(60 / summary.seconds, rel=0.05)
    assert "clustered with the embedding as it comes" in summary.as_text()
    assert state(work) == ("segments", False)
    assert "Not finished" in (work / "report.html").read_text()


def test_damaged_embeddings_are_put_out_of_use(adapted: Path, episode: Episode, poor: Path) -> None:
    cluster(adapted, clusters=(2, 2), report=False)
    path = next((adapted / "embeddings" / ADAPTED).glob("*/*.parquet"))
    path.write_bytes(path.read_bytes()[:-40])
    summary = job(episode, adapted, "off", poor)
    assert summary.clusters == 2  # what a person asked for stays asked for
    with WorkFolder.open(adapted, create=False, write=False) as folder:
        assert folder.read_run()["clustering"]["clusters"] == [2, 2]
    assert any(str(path) in note for note in summary.notes)
    assert state(adapted) == ("segments", False)  # the next run adapts again


def test_a_defect_costs_the_adaptation_alone(
    plain: Path, episode: Episode, poor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(plain / "clusters")
    monkeypatch.setattr(stream.adapt.embedding, "different", None)  # on purpose
    summary = job(episode, plain, {"mode": "on", **QUICK}, poor)
    assert summary.clusters >= 3
    assert summary.exit_code == 1
    assert summary.adaptation is not None
    assert not summary.adaptation["kept"]
    (note,) = summary.notes
    assert note.startswith("not adapted: internal error (TypeError")
    assert note.endswith("report it")
    assert state(plain) == ("segments", False)


def test_the_option(episode: Episode, plain: Path, poor: Path) -> None:
    command = [sys.executable, "-m", "stream.cli", "run", str(episode.video), "-o", str(plain)]
    sets = ["--set", "cluster.clusters=3:5", "--embedder", str(poor), "--boxes", str(episode.boxes_csv)]
    place = os.environ | {"OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        [*command, *sets, "--adapt", "on"], capture_output=True, text=True, timeout=120, env=place
    )
    assert answer.returncode == 2
    assert "expected at least 300 different crops" in answer.stderr
    assert answer.stdout.startswith(("3 clusters", "4 clusters", "5 clusters"))


def test_off_says_that_an_earlier_adaptation_is_in_use(episode: Episode, poor: Path, adapted: Path) -> None:
    summary = job(episode, adapted, "off", poor)
    assert summary.adapt_seconds == 0
    assert any("adapted before; to go back, delete" in note for note in summary.notes)


def test_what_was_turned_down_is_told_and_tried_again_with_more_minutes(
    episode: Episode, poor: Path, adapted: Path
) -> None:
    with WorkFolder.open(adapted, create=False) as folder:
        record = folder.read_run()
        record["adaptation"] |= {"kept": False, "reason": "no better by chance", "minutes": 10.0}
        folder.write_run(record)
    told = job(episode, adapted, {"mode": "on"} | QUICK | {"minutes": 9.0}, poor)
    assert told.adapt_seconds == 0
    assert any("as 10 minutes showed before: no better by chance" in note for note in told.notes)
    assert job(episode, adapted, {"mode": "on"} | QUICK, poor).adapt_seconds > 0
