"""Videos that move, are renamed, or are taken out of a work folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from run_settings import SETTINGS

from stream import cluster, load_config, run
from stream.cartoon.write import Episode, render_episode
from stream.errors import ConfigError
from stream.forget import forget
from stream.names import cluster_names, name_characters
from stream.workdir import WorkFolder


@pytest.fixture(scope="module")
def kept(episode: Episode, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos and a file that is none in ``films``, and the work folder ``work`` of their run in ``top``
    beside it."""
    top = tmp_path_factory.mktemp("forget") / "top"
    (top / "films").mkdir(parents=True)
    shutil.copy(episode.video, top / "films" / "show.mp4")
    render_episode(top / "films" / "more.mp4", seed=4, characters=2, seconds=4, width=320, height=180, gop=24)
    (top / "films" / "bad.mp4").write_text("this is text")
    run(top / "films", top / "work", load_config(values=SETTINGS), report=False)
    return top.rename(top.with_name("kept"))


@pytest.fixture
def top(kept: Path) -> Iterator[Path]:
    """The same for each test, at the place where it was run: anywhere else its videos have moved."""
    top = kept.with_name("top")
    shutil.copytree(kept, top)
    yield top
    shutil.rmtree(top)


def videos(work: Path) -> dict[str, str]:
    with WorkFolder.open(work, create=False, write=False) as folder:
        return {v["name"]: Path(v["uri"]).name for v in folder.read_run()["videos"]}


def stamps(work: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in work.glob("segments/*/*.parquet")}


def test_a_renamed_video_is_the_same_one(top: Path) -> None:
    work, films = top / "work", top / "films"
    before = stamps(work)
    (films / "show.mp4").rename(films / "show (1936).mp4")
    summary = run(films, work, load_config(values=SETTINGS))
    assert summary.videos == 2
    assert summary.segments_done_before == summary.segments
    assert stamps(work) == before
    assert any("known as show, moved from" in note for note in summary.notes)
    assert videos(work) == {"more": "more.mp4", "show": "show (1936).mp4"}
    (films / "show (1936).mp4").rename(films / "again.mp4")  # a second time
    summary = run(films / "again.mp4", work, load_config(values=SETTINGS), report=False)
    assert (summary.videos, summary.segments_done_before) == (2, summary.segments)


def test_a_copy_is_counted_twice_and_told(top: Path) -> None:
    shutil.copy(top / "films" / "more.mp4", top / "films" / "copy.mp4")
    summary = run(top / "films", top / "work", load_config(values=SETTINGS), report=False)
    assert summary.videos == 3
    assert any("the same content as" in note and "counted twice" in note for note in summary.notes)


def test_another_spelling_of_its_path_is_the_same_video(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = top / "work"
    before = stamps(work)
    (top / "link").symlink_to(top / "films")
    monkeypatch.chdir(top)
    for films in (Path("films"), Path("work") / ".." / "films", top / "link"):
        summary = run(films, work, load_config(values=SETTINGS), report=False)
        assert (summary.videos, summary.segments_done_before) == (2, summary.segments)
        assert not [note for note in summary.notes if "moved" in note or "twice" in note]
    assert stamps(work) == before


def test_another_video_under_the_old_name_is_not_taken_for_it(top: Path) -> None:
    work, films = top / "work", top / "films"
    (films / "show.mp4").rename(films / "old show.mp4")
    (films / "more.mp4").rename(films / "show.mp4")
    summary = run(films, work, load_config(values=SETTINGS), report=False)
    assert summary.exit_code == 3  # bad.mp4
    with WorkFolder.open(work, create=False, write=False) as folder:
        frames = {name: len(table) for name, table in folder.frames().items()}
    assert sorted(frames.values()) == [8, 24]  # each video once, whichever name it has


def test_a_forgotten_video_is_gone_from_everything(top: Path) -> None:
    work = top / "work"
    cluster(work, clusters=(3, 3), report=False)
    name_characters(work, {1: "Bunny"}, report=False)
    answer = subprocess.run(
        [sys.executable, "-m", "stream.cli", "forget", str(work), "more.mp4", "--json"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    (gone,) = json.loads(answer.stdout)
    assert gone["name"] == "more"
    assert gone["crops"] > 0
    assert not (work / "segments" / "more").exists()
    assert videos(work) == {"show": "show.mp4"}
    with WorkFolder.open(work, create=False, write=False) as folder:
        record, table = folder.read_run(), folder.read_clusters()
        assert all(crop_id.startswith("show/") for crop_id in table.crop_id)
        assert record["crops"] == len(folder.crops()) == len(table)
        assert (record["videos"][0]["name"], record["frames"]) == ("show", 24)
    assert table.meta["clusters"] == 3  # as a person asked for
    assert set(cluster_names(work).values()) == {"Bunny"}
    assert "more" not in (work / "report.html").read_text().split('id="videos"')[1].split("</section>")[0]
    assert (top / "films" / "more.mp4").exists()
    forget(work, [str(top / "films" / "bad.mp4"), "show"])
    with WorkFolder.open(work, create=False, write=False) as folder:
        assert folder.quarantined() == []
        assert folder.latest_clusters() is None
    assert "No characters found" in (work / "report.html").read_text()


def test_what_is_left_is_clustered_also_where_it_is_less_than_was_asked_for(top: Path) -> None:
    work = top / "work"
    tracks = cluster(work, report=False).meta["tracks"]
    cluster(work, clusters=(tracks, tracks), report=False)
    forget(work, ["more"], report=False)
    with WorkFolder.open(work, create=False, write=False) as folder:
        meta = folder.read_clusters().meta
    assert meta["clusters"] == meta["tracks"] < tracks
    assert any("were asked for" in message for message in meta["messages"])


def test_prune_forgets_what_is_not_there_any_more(top: Path) -> None:
    work = top / "work"
    assert forget(work, prune=True) == []
    (top / "films" / "more.mp4").unlink()
    (top / "films" / "bad.mp4").unlink()
    assert {Path(v.uri).name for v in forget(work, prune=True)} == {"more.mp4", "bad.mp4"}
    assert videos(work) == {"show": "show.mp4"}


def test_an_unknown_video_is_told_with_the_nearest(top: Path) -> None:
    before = stamps(top / "work")
    with pytest.raises(ConfigError, match="did you mean show"):
        forget(top / "work", ["more", "shwo.mp4"])
    assert stamps(top / "work") == before
