"""Names on real work folders: given, listed, taken over to other clusterings, and found again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_settings import SETTINGS

from kernels.boxes import iou
from stream import cluster, load_config, run
from stream.cartoon.write import Episode
from stream.errors import ConfigError, WorkdirError
from stream.names import (
    NameStore,
    carry_names,
    clean_name,
    cluster_names,
    list_characters,
    matched_clusters,
    name_characters,
)
from stream.names_again import WAITING, NamedPlaces
from stream.progress import Quiet
from stream.tables import ClusterTable
from stream.workdir import WorkFolder


@pytest.fixture(scope="module")
def made(episode: Episode, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("named") / "work"
    run(episode.video, work, load_config(values=SETTINGS), cluster={"clusters": (4, 4)}, report=False)
    return work


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "work")
    return tmp_path / "work"


def celstream(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stream.cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def latest(work: Path) -> ClusterTable:
    with WorkFolder.open(work, create=False, write=False) as folder:
        return folder.read_clusters()


def test_a_name_is_in_the_report_and_the_list_and_can_be_removed(work: Path) -> None:
    answer = celstream("name", work, "1=Bunny", "3=Frank  the squirrel")
    assert answer.returncode == 0, answer.stderr
    assert [line.split()[:2] for line in answer.stdout.splitlines()[:3]] == [
        ["1", "Bunny"],
        ["2", "-"],
        ["3", "Frank"],
    ]
    page = (work / "report.html").read_text()
    assert "Frank the squirrel" in page
    assert "Character 2" in page
    assert "Character 3<" not in page
    listed = json.loads(celstream("name", work, "--json").stdout)
    assert [c["name"] for c in listed] == ["Bunny", "", "Frank the squirrel", ""]
    assert [c["crops"] for c in listed] == np.bincount(latest(work).cluster).tolist()
    assert celstream("name", work, "3=").returncode == 0
    assert cluster_names(work) == {0: "Bunny"}
    assert "Character 3<" in (work / "report.html").read_text()


def test_what_cannot_be_named_is_one_line(work: Path) -> None:
    for wrong, says in (("9=X", "from 1 to 4"), ("0=X", "from 1 to 4"), ("Bunny", "NUMBER=NAME")):
        answer = celstream("name", work, wrong)
        assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
        assert says in answer.stderr
    assert not (work / "review.sqlite").exists()
    with pytest.raises(ConfigError, match="at most 200"):
        name_characters(work, {1: "x" * 201})
    with pytest.raises(ConfigError, match="control"):
        clean_name("a\x07b")
    for broken in ("Frank\nthe squirrel", "a\r\nb", "a\u2028b"):
        with pytest.raises(ConfigError, match="expected one line"):
            name_characters(work, {1: broken})
    assert clean_name("  Frank the\tsquirrel \n") == "Frank the squirrel"


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_may_not_be_written_to_is_not_called_damaged(work: Path, there: bool) -> None:
    if there:
        name_characters(work, {1: "Bunny"}, report=False)
    top = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    try:
        top.chmod(0o755)
        shutil.copytree(work, top / "work")
        with as_nobody(top / "work"), pytest.raises(WorkdirError, match="may not be written to") as caught:
            name_characters(top / "work", {1: "Frank"}, report=False)
        assert "damaged" not in str(caught.value)
    finally:
        shutil.rmtree(top)


@contextlib.contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Root writes everywhere, so it steps down for a while; others take their own right away."""
    if os.geteuid() != 0:
        for path in (folder, *folder.glob("*.sqlite")):
            path.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(0o755)
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_two_clusters_of_one_name_are_one_character_in_the_report(work: Path) -> None:
    from stream.report.collect import collect

    sizes = np.bincount(latest(work).cluster)
    name_characters(work, {2: "Bunny", 4: "Bunny", 1: "Frank"})
    with WorkFolder.open(work, create=False, write=False) as folder:
        data = collect(folder, cluster_names(folder))
    (bunny,) = [c for c in data.cast if c.name == "Bunny"]
    assert (bunny.number, bunny.numbers, bunny.size) == (2, (2, 4), sizes[1] + sizes[3])
    assert data.clusters == 4
    page = (work / "report.html").read_text()
    assert "<h1>2 characters</h1>" in page
    assert "1 cluster without a name." in page
    assert "clusters 2 and 4" in page


def test_names_survive_clustering_again_and_going_back(work: Path) -> None:
    first = latest(work)
    name_characters(work, {1: "Bunny", 2: "Frank"})
    members = {crop for crop, label in zip(first.crop_id, first.cluster, strict=True) if label == 0}
    before = {p: p.stat().st_mtime_ns for p in work.glob("segments/*/*.parquet")}

    finer = cluster(work, clusters=(7, 9))
    names = cluster_names(work)
    assert set(names.values()) == {"Bunny", "Frank"}
    (bunny,) = [label for label, name in names.items() if name == "Bunny"]
    inside = {c for c, label in zip(finer.crop_id, finer.cluster, strict=True) if label == bunny}
    assert len(inside & members) > len(inside) / 2
    assert "Bunny" in (work / "report.html").read_text()
    assert {p: p.stat().st_mtime_ns for p in work.glob("segments/*/*.parquet")} == before

    coarse = cluster(work, strength=0.0)  # one cluster can keep one name at most
    assert len(cluster_names(work)) == 1
    assert any("no cluster takes over the name" in message for message in coarse.meta["messages"])
    third = cluster(work, clusters=(7, 9))
    assert third.id == finer.id
    assert cluster_names(work) == names  # the coarse one in between took nothing away

    assert cluster(work, clusters=(4, 4)).id == first.id
    assert cluster_names(work) == {0: "Bunny", 1: "Frank"}


def test_the_latest_word_of_a_person_counts(work: Path) -> None:
    name_characters(work, {1: "Bunny", 2: "Frank"})
    cluster(work, clusters=(7, 9))
    number = {c.name: c.number for c in list_characters(work)}
    name_characters(work, {number["Bunny"]: "Rabbit", number["Frank"]: None})
    cluster(work, clusters=(6, 6))
    assert "Rabbit" in cluster_names(work).values()
    assert not {"Bunny", "Frank"} & set(cluster_names(work).values())
    cluster(work, clusters=(4, 4))
    assert cluster_names(work) == {0: "Bunny", 1: "Frank"}  # what was said of these very clusters


def test_names_survive_more_videos(work: Path, tmp_path: Path, episode: Episode) -> None:
    from stream.cartoon.write import render_episode

    name_characters(work, {1: "Bunny", 2: "Frank"})
    old = latest(work)
    more = render_episode(
        tmp_path / "more.mp4", seed=4, characters=2, seconds=6, width=320, height=180, gop=24
    )
    summary = run([episode.video, more.video], work, load_config(values=SETTINGS), report=False)
    assert summary.videos == 2
    assert latest(work).id != old.id
    assert set(cluster_names(work).values()) == {"Bunny", "Frank"}


class StopAfterOne(Quiet):
    """Stops a run when its first segment is written."""

    def __init__(self) -> None:
        self.stop = lambda: None

    def begin(self, segments: int, video_seconds: float) -> None:
        assert segments > 1

    def segment_done(self, name: str, crops: int) -> None:
        self.stop()


def at_once(stop_by: StopAfterOne, stop: Any) -> None:
    stop_by.stop = stop


@pytest.mark.parametrize("stopped", [False, True])
def test_segments_done_again_carry_names_by_where_they_were(
    work: Path, episode: Episode, stopped: bool
) -> None:
    name_characters(work, {1: "Bunny", 2: "Frank"})
    with WorkFolder.open(work, create=False, write=False) as folder:
        before = NamedPlaces.of(folder).seen
    # ids are counted anew: the same id is another crop now, and a name that went by it would land anywhere
    settings = {"detector": {"score": 0.25}, "report": False}
    if stopped:
        stop_by = StopAfterOne()
        summary = run(
            episode.video,
            work,
            load_config(values=SETTINGS),
            progress=stop_by,
            on_start=lambda stop: at_once(stop_by, stop),
            **settings,
        )
        assert summary.interrupted
        assert (work / WAITING).exists()
    run(episode.video, work, load_config(values=SETTINGS), **settings)
    assert not (work / WAITING).exists()
    assert set(cluster_names(work).values()) == {"Bunny", "Frank"}
    with WorkFolder.open(work, create=False, write=False) as folder:
        now = NamedPlaces.of(folder).seen
    same = wrong = 0
    for frame, (boxes, names) in now.items():
        for box, name in zip(boxes, names, strict=True):
            old_boxes, old_names = before.get(frame, (np.empty((0, 4), np.float32), []))
            overlap = iou(box[None], old_boxes)[0]
            if name and len(overlap) and overlap.max() >= 0.5:
                same += old_names[int(overlap.argmax())] == name
                wrong += old_names[int(overlap.argmax())] not in (name, "")
    assert same >= 10
    assert wrong <= same / 10


def test_a_torn_file_of_places_gives_no_names(work: Path) -> None:
    (work / WAITING).write_bytes(b"PAR1 and no more")
    assert NamedPlaces.read(work / WAITING).seen == {}


def table(labels: list[int], segment: str = "a/0", mark: str | None = None) -> ClusterTable:
    ids = np.array([f"{segment}/{n}" for n in range(len(labels))], object)
    meta = {} if mark is None else {"segments": {segment: mark}}
    size = len(labels)
    return ClusterTable(
        ids, np.array(labels, np.int32), np.zeros(size, np.bool_), np.zeros(size, np.float32), meta
    )


def test_a_few_strays_carry_no_name() -> None:
    old = table([0] * 60 + [1] * 40 + [2] * 100)
    # both named clusters become one, but for one crop that lands among a hundred others
    new = table([0] * 99 + [1] * 101)
    assert matched_clusters(old, new, [0, 1]) == {0: 0}
    assert matched_clusters(old, old, [0, 1]) == {0: 0, 1: 1}


def test_redone_segments_are_told_by_their_fingerprint() -> None:
    old, redone = table([0, 0, 1, 1], mark="x"), table([0, 0, 1, 1], mark="y")
    assert matched_clusters(old, old, [1]) == {1: 1}
    assert matched_clusters(old, redone, [1]) == {}
    assert matched_clusters(table([0, 0, 1, 1]), redone, [1]) == {1: 1}  # older files do not tell


def test_a_change_is_whole_or_not_at_all(tmp_path: Path) -> None:
    with NameStore(tmp_path, write=True) as store:
        store.give("a", {0: "Bunny"})
        with pytest.raises(WorkdirError):
            store.give("a", {0: "Frank", 1: None})  # type: ignore[dict-item]  # NULL is refused
        assert store.names("a") == {0: "Bunny"}
        store.give("b", {0: "x", 1: "z"})
        assert list(store.sources()) == ["b", "a"]
        store.give("a", {3: "y"})
        assert list(store.sources()) == ["a", "b"]
        edits = store.sources()["b"]
        store.take_over("a", {0: edits[0], 5: edits[1]})
        assert store.names("a") == {0: "Bunny", 3: "y", 5: "z"}
        store.take_over("a", {6: edits[0]})
        assert store.names("a") == {0: "Bunny", 3: "y", 6: "x"}
        store.give("a", {6: "renamed"})
        assert set(store.sources()["b"]) == {1}
        assert store.names("b") == {0: "x", 1: "z"}


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    def give(start: int) -> None:
        with NameStore(tmp_path, write=True) as store:
            for n in range(10):
                store.give("a", {start + n: f"name {start + n}"})

    threads = [threading.Thread(target=give, args=(10 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with NameStore(tmp_path, write=False) as store:
        assert len(store.names("a")) == 40


def test_a_database_of_others_or_of_tomorrow_is_refused(tmp_path: Path, work: Path) -> None:
    path = tmp_path / "review.sqlite"
    base = sqlite3.connect(path)
    base.execute("CREATE TABLE diary (day TEXT)")
    base.close()
    with pytest.raises(WorkdirError, match="another database"):
        NameStore(tmp_path, write=True)
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(WorkdirError, match="move it away"):
        NameStore(tmp_path, write=False)
    path.unlink()
    NameStore(tmp_path, write=True).close()
    base = sqlite3.connect(path)
    base.execute("PRAGMA user_version = 2")
    base.close()
    with pytest.raises(WorkdirError, match="newer celstream"):
        NameStore(tmp_path, write=True)
    path.write_bytes(b"")  # killed while it was made
    with NameStore(tmp_path, write=False) as store:
        assert store.names("a") == {}
    with WorkFolder.open(work, create=False) as folder:
        assert carry_names(folder, folder.read_clusters()) == {}
        assert not (work / "review.sqlite").exists()  # nobody named anything
