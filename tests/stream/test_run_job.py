"""The whole job on a real file: what it leaves, what it does again, what it survives."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from run_settings import COMMAND, SETTINGS, with_detector

from stream import cluster, load_config, run
from stream.cartoon.write import Episode
from stream.cluster_job import segment_marks
from stream.errors import ConfigError, ModelError
from stream.names import list_characters, name_characters
from stream.progress import Quiet
from stream.report.collect import collect
from stream.workdir import WorkFolder


def rows(work: Path) -> dict[str, Any]:
    """Every segment's table by its place: what has to be the same."""
    return {str(p.relative_to(work)): pq.read_table(p) for p in sorted(work.glob("segments/*/*.parquet"))}


def times(work: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in sorted(work.glob("segments/*/*.parquet"))}


@pytest.fixture(scope="module")
def done(episode: Episode, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("done") / "work"
    summary = run(episode.video, work, load_config(values=SETTINGS))
    assert summary.exit_code == 0
    return work


def test_a_run_leaves_segments_clusters_a_record_and_a_report(done: Path, episode: Episode) -> None:
    assert len(rows(done)) == 4
    with WorkFolder.open(done, create=False, write=False) as folder:
        crops, record, clusters = folder.crops(), folder.read_run(), folder.read_clusters()
        frames = folder.frames()
    assert len(frames["show"]) == 24
    assert np.allclose(frames["show"].times, np.arange(24) * 0.5, atol=1e-3)
    assert record["crops"] == len(crops) > 10
    assert record["clusters"] == len(set(clusters.cluster)) > 0
    assert record["stations"]["detect"]["items"] > 10
    assert record["config"]["interval"] == 0.5
    assert (done / "report.html").stat().st_size > 10_000
    norms = np.linalg.norm(crops.embeddings, axis=1)
    assert np.allclose(norms, 1, atol=1e-3)


def test_a_second_run_does_nothing_again(done: Path, episode: Episode) -> None:
    before = times(done)
    summary = run(episode.video, done, load_config(values=SETTINGS))
    assert (summary.segments, summary.segments_done_before) == (4, 4)
    assert times(done) == before
    assert summary.crops > 10


def test_only_a_missing_segment_is_done(done: Path, episode: Episode, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(done, work)
    whole = rows(work)
    victim = sorted(work.glob("segments/*/*.parquet"))[2]
    victim.write_bytes(victim.read_bytes()[:-100])  # torn by a disk error
    summary = run(episode.video, work, load_config(values=SETTINGS))
    assert (summary.segments, summary.segments_done_before) == (4, 3)
    assert rows(work) == whole


@pytest.mark.parametrize("change", [{"crops": {"margin": 0.2}}, {"interval": 1.0}, with_detector(score=0.3)])
def test_a_changed_setting_is_noticed(
    done: Path, episode: Episode, tmp_path: Path, change: dict[str, Any]
) -> None:
    shutil.copytree(done, tmp_path / "work")
    summary = run(episode.video, tmp_path / "work", load_config(values={**SETTINGS, **change}), report=False)
    assert summary.segments_done_before == 0


def test_a_changed_file_is_noticed(done: Path, episode: Episode, tmp_path: Path) -> None:
    video = tmp_path / "show.mp4"
    data = bytearray(episode.video.read_bytes())
    data[-2000:] = bytes(2000)  # damaged since
    video.write_bytes(data)
    shutil.copytree(done, tmp_path / "work")
    summary = run(video, tmp_path / "work", load_config(values=SETTINGS), report=False)
    assert summary.segments_done_before == 0


def test_clustering_again_leaves_segments_alone(done: Path) -> None:
    before = times(done)
    table = cluster(done, clusters="2:3")
    assert 2 <= len(set(table.cluster)) <= 3
    assert times(done) == before
    assert len(set(cluster(done, strength=0.0).cluster)) == 1


def test_single_settings_go_over_those_of_the_run(done: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(done, work)
    record = yaml.safe_load((work / "run.yaml").read_text())
    record["config"]["cluster"] |= {"clusters": [3, 4], "damping": 0.7}
    (work / "run.yaml").write_text(yaml.safe_dump(record))

    def asked() -> dict[str, object]:
        return dict(yaml.safe_load((work / "run.yaml").read_text())["clustering"])

    cluster(work, settings={"damping": 0.8})
    assert (asked()["clusters"], asked()["damping"]) == ([3, 4], 0.8)
    page = (work / "report.html").read_text()
    assert "all pairs of tracks, converged" in page
    assert "damping: 0.8" in page
    cluster(work, settings={"strength": 0.3}, report=False)
    assert (asked()["clusters"], asked()["strength"], asked()["damping"]) == (None, 0.3, 0.7)
    with pytest.raises(ConfigError, match="give one of them"):
        cluster(work, clusters=(2, 3), settings={"strength": 0.3})


def test_run_takes_what_the_command_line_and_cluster_take(
    done: Path, episode: Episode, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(done, work)
    config = load_config(values=SETTINGS)
    assert run(episode.video, work, config, clusters=(2, 2), report=False).clusters == 2
    assert run(episode.video, work, config, clusters="3:3", report=False).clusters == 3
    ranged = load_config(values={**SETTINGS, "cluster": {"clusters": "3:3"}})
    assert run(episode.video, work, ranged, strength=0.0, report=False).clusters == 1
    with pytest.raises(ConfigError, match="give one of them"):
        run(episode.video, work, config, clusters=(2, 3), strength=0.5)
    with pytest.raises(ConfigError, match=r"clusters: expected MIN:MAX"):
        run(episode.video, work, config, clusters="many")
    with pytest.raises(ConfigError, match=r"detector\.score"):
        run(episode.video, work, config, detector={"score": 2})
    for network in ("detector", "embedder"):
        missing = tmp_path / f"no_{network}.onnx"
        for given in (missing, str(missing)):
            with pytest.raises(ModelError, match=missing.name):
                run(episode.video, work, config, **{network: given})  # type: ignore[arg-type]
    kept = run(episode.video, work, config, detector={"iou": 0.45}, report=False)
    assert kept.crops > 10  # and the score stays that of the config
    with WorkFolder.open(work, create=False, write=False) as folder:
        assert folder.read_run()["config"]["detector"]["score"] == 0.1


def test_clusters_a_person_asked_for_outlive_a_run_that_adds_nothing(
    done: Path, episode: Episode, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(done, work)
    run(episode.video, work, load_config(values=SETTINGS), report=False)
    kept = cluster(work, clusters="6:8").id
    run(episode.video, work, load_config(values=SETTINGS), report=False)
    with WorkFolder.open(work, create=False, write=False) as folder:
        assert folder.latest_clusters() == kept
    assert cluster(work, report=False).id != kept  # and the next call starts from the run's own settings


def test_a_range_that_cannot_be_reached_is_said(done: Path, episode: Episode, tmp_path: Path) -> None:
    summary = run(
        episode.video, tmp_path / "work", load_config(values=SETTINGS), cluster={"clusters": "900:1000"}
    )
    assert any("900:1000" in note for note in summary.notes)


def test_segments_of_unlike_settings_are_told_of(episode: Episode, tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    shutil.copy(episode.video, other)
    run(episode.video, tmp_path / "work", load_config(values=SETTINGS), report=False)
    summary = run(other, tmp_path / "work", load_config(values=SETTINGS), interval=1.0, report=False)
    assert any("different detectors or settings" in note for note in summary.notes)


def test_bad_files_are_quarantined_and_the_good_one_is_done(
    bad_inputs: Path, episode: Episode, tmp_path: Path
) -> None:
    shutil.copy(episode.video, bad_inputs / "good.mp4")
    summary = run(bad_inputs, tmp_path / "work", load_config(values=SETTINGS))
    assert summary.exit_code == 3
    assert summary.videos == 1
    assert {Path(q["uri"]).name for q in summary.quarantined} == {"notes.mp4", "empty.mkv"}
    (bad_inputs / "notes.mp4").unlink()
    (bad_inputs / "empty.mkv").unlink()
    assert run(bad_inputs, tmp_path / "work", load_config(values=SETTINGS), report=False).exit_code == 0


def test_a_defect_in_a_station_ends_the_segment_and_is_told(
    episode: Episode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stream import crops

    real = crops.Cropper.__call__

    def breaks(self: crops.Cropper, detections: Any) -> Any:
        if detections.frames.segment.index == 1:
            raise ZeroDivisionError("on purpose")
        return real(self, detections)

    monkeypatch.setattr(crops.Cropper, "__call__", breaks)
    summary = run(episode.video, tmp_path / "work", load_config(values=SETTINGS), report=False)
    assert summary.exit_code == 1
    assert "ZeroDivisionError: on purpose" in summary.quarantined[0]["reason"]
    assert len(rows(tmp_path / "work")) == 3


def test_still_images_go_the_same_way(episode: Episode, tmp_path: Path) -> None:
    import av

    folder = tmp_path / "pictures"
    folder.mkdir()
    with av.open(str(episode.video)) as film:
        for n, frame in enumerate(film.decode(video=0)):
            if n % 48 == 0:
                frame.to_image().save(folder / f"{n:03d}.{('png', 'jpg', 'webp')[n // 48 % 3]}")
    summary = run(folder, tmp_path / "work", load_config(values=SETTINGS), report=False)
    assert (summary.videos, summary.frames, summary.exit_code) == (1, 6, 0)


def kill_and_resume(episode: Episode, work: Path, whole: dict[str, Any], delays: list[float]) -> int:
    """Kill -9 at each delay, then run to the end; returns how many kills hit a run."""
    hits = 0
    for delay in delays:
        process = subprocess.Popen([*COMMAND, str(episode.video), "-o", str(work)], stdout=subprocess.DEVNULL)
        time.sleep(delay)
        process.kill()
        hits += process.wait() == -signal.SIGKILL
    subprocess.run([*COMMAND, str(episode.video), "-o", str(work)], check=True, stdout=subprocess.DEVNULL)
    assert rows(work) == whole
    strange = [p for p in work.rglob("*") if p.is_file() and ("tmp" in p.name or p.name.endswith("~"))]
    assert strange == []
    return hits


def test_killed_twice_the_rows_are_those_of_an_uninterrupted_run(
    done: Path, episode: Episode, tmp_path: Path
) -> None:
    run(episode.video, done, load_config(values=SETTINGS), report=False)
    assert kill_and_resume(episode, tmp_path / "work", rows(done), [1.2, 1.9]) >= 1


@pytest.mark.slow
def test_killed_at_twenty_random_moments(done: Path, episode: Episode, tmp_path: Path) -> None:
    run(episode.video, done, load_config(values=SETTINGS), report=False)
    moments = random.Random(0)
    for n in range(5):
        delays = [moments.uniform(0.5, 3.0) for _ in range(4)]
        kill_and_resume(episode, tmp_path / f"work{n}", rows(done), delays)


class _AtTheLastSegment(Quiet):
    """Acts when the last segment is written: after all of the work, and before clustering."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act

    def begin(self, segments: int, video_seconds: float) -> None:
        self._left = segments

    def segment_done(self, name: str, crops: int) -> None:
        self._left -= 1
        if self._left == 0:
            self._act()


def _die() -> None:
    raise KeyboardInterrupt  # the record is not written, as after a kill


@pytest.mark.parametrize("way", ["stopped", "killed"])
@pytest.mark.parametrize("change", [{}, {"crops": {"margin": 0.2}}], ids=["more", "redone"])
def test_what_ended_before_clustering_is_clustered_by_the_next_run(
    done: Path, episode: Episode, tmp_path: Path, way: str, change: dict[str, Any]
) -> None:
    work = tmp_path / "work"
    shutil.copytree(done, work)
    videos = [episode.video]
    if not change:
        videos.append(tmp_path / "other.mp4")
        data = episode.video.read_bytes()
        videos[1].write_bytes(data + bytes(8))  # a video of its own
    config = load_config(values={**SETTINGS, **change})
    stops: list[Callable[[], None]] = []
    with contextlib.suppress(KeyboardInterrupt):
        act = _die if way == "killed" else lambda: stops[0]()
        run(videos, work, config, progress=_AtTheLastSegment(act), on_start=stops.append, report=False)
    with WorkFolder.open(work, create=False, write=False) as folder:
        assert folder.read_clusters().meta["segments"] != segment_marks(folder.segments())
    summary = run(videos, work, config, report=False)
    assert summary.segments == summary.segments_done_before == 4 * len(videos)
    with WorkFolder.open(work, create=False, write=False) as folder:
        assert set(folder.read_clusters().crop_id) == set(folder.crops(embeddings=False).crop_id)
        assert folder.read_clusters().meta["segments"] == segment_marks(folder.segments())


def test_cluster_settings_of_a_stopped_run_are_not_forgotten(
    done: Path, episode: Episode, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(done, work)
    run(episode.video, work, load_config(values=SETTINGS), report=False)
    config = load_config(values={**SETTINGS, "cluster": {"clusters": "2:2"}})
    assert run(episode.video, work, config, on_start=lambda stop: stop(), report=False).interrupted
    assert run(episode.video, work, config, report=False).clusters == 2


def test_a_run_that_finds_nothing_keeps_no_clusters_of_before(
    done: Path, episode: Episode, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(done, work)
    summary = run(episode.video, work, load_config(values=with_detector(score=1.0)))
    assert (summary.crops, summary.tracks, summary.clusters, summary.exit_code) == (0, 0, 0, 0)
    assert list_characters(work) == []
    with pytest.raises(ConfigError, match="there is none"):
        name_characters(work, {1: "Bunny"})
    with WorkFolder.open(work, create=False, write=False) as folder:
        assert folder.latest_clusters() is None
        assert collect(folder).cast == ()
    assert run(episode.video, work, load_config(values=SETTINGS), report=False).clusters > 0
