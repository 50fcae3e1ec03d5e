"""``adapt_detector``: what is written, what is recorded, and what stays as it was when it cannot be done."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from adapting import QUICK, RECIPE, record

from engines.models import file_sha256, resolve
from stream import load_config, run
from stream.adapt.detector import DetectorSummary, adapt_detector
from stream.adapt.detector_start import detector_start
from stream.adapt.own_detector import RECORD, in_use, own_detector
from stream.cartoon.write import Episode, render_episode
from stream.config import DetectorConfig
from stream.detect import Detector
from stream.errors import ConfigError, WorkdirError
from stream.names import cluster_names, name_characters
from stream.report.adaptation import detector_adaptation_of
from stream.workdir import WorkFolder


@pytest.fixture(scope="module")
def episode(tmp_path_factory: pytest.TempPathFactory) -> Episode:
    place = tmp_path_factory.mktemp("episode") / "show.mp4"
    return render_episode(place, seed=5, characters=4, seconds=24, width=320, height=180, fps=8)


@pytest.fixture(scope="module")
def made(episode: Episode, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with a name in it."""
    work = tmp_path_factory.mktemp("made") / "work"
    run(episode.video, work, load_config(values={"interval": 2.0}), clusters=(2, 4), report=False)
    name_characters(work, {1: "Ada"})
    return work


@pytest.fixture(scope="module")
def done(made: Path) -> tuple[Path, DetectorSummary]:
    """A copy of it, its detector adapted and its video processed again."""
    work = made.with_name("adapted")
    shutil.copytree(made, work)
    return work, adapt_detector(work, recipe=RECIPE, **QUICK)


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "work")
    return tmp_path / "work"


def test_the_adapted_detector_is_one_for_the_pipeline(done: tuple[Path, DetectorSummary]) -> None:
    work, summary = done
    assert summary.kept, summary.reason
    model = work / "detector" / "adapted.onnx"
    assert summary.detector == str(model)
    old, new = (Detector(DetectorConfig(model=name)) for name in ("default", str(model)))
    for frame in ((1080, 1920), (480, 640)):
        assert new.canvas(*frame) == old.canvas(*frame)
    assert (new.class_names, new.score) == (old.class_names, old.score)
    for detector in (old, new):
        detector.close()
    about = json.loads((work / "detector" / "about.json").read_text())
    assert about["sha256"] == file_sha256(model) != resolve("default", "detector").sha256
    assert about["history"][-1]["step"] == about["steps"] == 2
    assert summary.sure_boxes >= RECIPE.fewest
    assert not list((work / "detector").glob("*.part*"))


def test_the_sources_are_processed_again_with_it_and_names_stay(done: tuple[Path, DetectorSummary]) -> None:
    work, summary = done
    told = record(work)
    assert told["config"]["detector"]["model"] == str(work / "detector" / "adapted.onnx")
    assert told["config"]["interval"] == 2.0  # as it was set before
    assert told[RECORD]["kept"]
    assert told[RECORD]["processed"]
    assert told[RECORD]["before"]["score"] > 0
    assert 2 <= summary.clusters <= 4
    with WorkFolder.open(work, create=False, write=False) as folder:
        assert list(cluster_names(folder).values()).count("Ada") >= 1


def test_the_next_run_goes_on_with_it_until_another_is_named(
    episode: Episode, done: tuple[Path, DetectorSummary], tmp_path: Path
) -> None:
    work = tmp_path / "moved"
    shutil.copytree(done[0], work)

    def again(**settings: Any) -> tuple[int, list[str], str]:
        """Segments that were done before, notes on detectors, and the detector of the record."""
        found = run(episode.video, work, interval=2.0, clusters=(2, 4), report=False, **settings)
        told = record(work)
        assert told[RECORD]["kept"]
        notes = [note for note in found.notes if "detector" in note]
        return found.segments_done_before, notes, told["config"]["detector"]["model"]

    with WorkFolder.open(work, create=False, write=False) as folder:
        own = str(own_detector(folder))
    kept, notes, model = again()
    assert (kept, len(notes), model) == (1, 1, own)
    assert "goes on with the detector adapted to this show" in notes[0]
    assert again(detector={"iou": 0.5})[2] == own  # another setting of the detector names none
    back, notes, model = again(detector="default")
    assert (back, model) == (0, "default")
    assert "goes back to the default detector" in notes[0]
    assert again() == (1, [], "default")
    assert again(detector=own) == (0, [], own)
    Path(own).unlink()
    assert again() == (0, [], "default")


def test_a_moved_folder_whose_detector_is_another_file_is_refused_in_a_word(
    episode: Episode, done: tuple[Path, DetectorSummary], tmp_path: Path
) -> None:
    work = tmp_path / "moved"
    shutil.copytree(done[0], work)
    with WorkFolder.open(work, create=False) as folder:
        told = folder.read_run()
        told["config"]["detector"]["model"] = str(tmp_path / "before" / "detector" / "adapted.onnx")
        folder.write_run(told)
        own = own_detector(folder)
    own.write_bytes(b"torn")
    settings: dict[str, Any] = {"interval": 2.0, "clusters": (2, 4), "report": False}
    with pytest.raises(ConfigError, match="damaged or replaced"):
        run(episode.video, work, **settings)
    assert run(episode.video, work, detector="default", **settings).exit_code == 0


def test_a_folder_moved_before_its_sources_were_processed_again_goes_on_with_its_detector(
    episode: Episode, done: tuple[Path, DetectorSummary], tmp_path: Path
) -> None:
    """The boxes that are there are the former detector's, and the report says so."""
    work = tmp_path / "moved"
    shutil.copytree(done[0], work)
    with WorkFolder.open(work, create=False) as folder:
        told = folder.read_run()
        told["config"]["detector"]["model"] = str(tmp_path / "before" / "detector" / "adapted.onnx")
        told["models"]["detector"]["sha256"] = resolve("default", "detector").sha256
        folder.write_run(told)
        assert in_use(folder)
        about = detector_adaptation_of(folder, told)
        assert about is not None
        assert about.kept
        assert not about.in_use
        assert detector_start(folder, load_config(values=told["config"])).model == "default"
    found = run(episode.video, work, interval=2.0, clusters=(2, 4), report=False)
    assert "goes on with the detector adapted to this show" in "".join(found.notes)


def test_a_detector_of_a_fixed_size_is_refused_before_anything_is_read(work: Path, tmp_path: Path) -> None:
    model = onnx.load(str(resolve("default", "detector").path))
    for axis, side in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], (192, 320), strict=True):
        axis.dim_value = side
    onnx.save(model, str(tmp_path / "fixed.onnx"))
    with WorkFolder.open(work, create=False) as folder:
        told = folder.read_run()
        told["config"]["detector"]["model"] = str(tmp_path / "fixed.onnx")
        folder.write_run(told)
    with pytest.raises(
        ConfigError, match=r"fixed\.onnx: expected a detector that takes pictures of any size"
    ):
        adapt_detector(work, recipe=RECIPE, **QUICK)


def test_a_place_that_cannot_be_written_is_told(work: Path) -> None:
    (work / "detector").write_text("in the way")
    with pytest.raises(WorkdirError, match=r"adapted\.onnx: cannot be written \("):
        adapt_detector(work, recipe=RECIPE, **QUICK)
    assert RECORD not in record(work)


def test_an_adapted_detector_is_what_the_next_one_has_to_beat(
    episode: Episode, done: tuple[Path, DetectorSummary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not what it starts from. It is done from another place than the run, whose path holds nowhere."""
    first, work = done[1], tmp_path / "there" / "work"
    shutil.copytree(done[0], work)
    with WorkFolder.open(work, create=False) as folder:
        told = folder.read_run()
        told["config"]["detector"]["model"] = "elsewhere/work/detector/adapted.onnx"
        folder.write_run(told)
    monkeypatch.chdir(tmp_path)
    again = adapt_detector("there/work", rerun=False, recipe=RECIPE, **(QUICK | {"steps": 3}))
    assert again.kept
    assert (again.start, again.detector) == ("default", "there/work/detector/adapted.onnx")
    assert again.windows == first.windows
    # the first one, measured in the same windows, before its scores were moved
    assert again.before["score"] == pytest.approx(first.after["score"], abs=1e-3)
    assert again.before["score"] != pytest.approx(first.before["score"], abs=1e-3)
    assert not again.processed
    assert f"--detector {work / 'detector' / 'adapted.onnx'}" in again.command
    assert again.as_text().endswith(again.command)
    monkeypatch.chdir(tmp_path / "there")
    found = run(episode.video, "work", interval=2.0, clusters=(2, 4), report=False)
    assert "goes on with the detector adapted to this show" in "".join(found.notes)
    assert record(work)["config"]["detector"]["model"] == str(work / "detector" / "adapted.onnx")


def test_one_that_does_not_beat_the_adapted_detector_leaves_it_in_use(
    done: tuple[Path, DetectorSummary], tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(done[0], work)
    own = work / "detector" / "adapted.onnx"
    before = own.read_bytes(), own.with_name("about.json").read_bytes()
    summary = adapt_detector(work, recipe=replace(RECIPE, margin=100.0), **QUICK)
    assert not summary.kept
    assert summary.detector == str(own)
    assert summary.reason.endswith(f"stays: the one adapted before, {own}")
    assert (own.read_bytes(), own.with_name("about.json").read_bytes()) == before
    with WorkFolder.open(work, create=False) as folder:
        assert in_use(folder)
        told = folder.read_run()
        assert (told[RECORD]["kept"], told[RECORD]["detector"]) == (False, str(own))
        # what another detector's adaptation noted since does not count for this file
        told[RECORD]["start"] = "another.onnx"
        folder.write_run(told)
        assert detector_start(folder, load_config(values=told["config"])).model == "default"


def test_what_is_no_better_leaves_the_folder_as_it_was(work: Path) -> None:
    before = record(work)
    summary = adapt_detector(work, recipe=replace(RECIPE, margin=100.0), **QUICK)
    assert not summary.kept
    assert "stays" in summary.reason
    assert summary.detector == str(resolve("default", "detector").path)
    assert not (work / "detector").exists()
    after = record(work)
    assert after.pop(RECORD)["kept"] is False
    assert after == before


def test_a_source_that_is_gone_is_named_and_without_any_it_is_refused(
    episode: Episode, tmp_path: Path
) -> None:
    videos = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for video in videos:
        shutil.copy(episode.video, video)
    with videos[1].open("ab") as file:
        file.write(b"\0" * 64)  # another content, or it would be the same video
    work = tmp_path / "work"
    run(videos, work, load_config(values={"interval": 4.0}), report=False)
    videos[1].unlink()
    summary = adapt_detector(work, recipe=replace(RECIPE, margin=100.0), **QUICK)
    assert len(summary.missing) == 1
    assert "b.mp4: there is no such file" in summary.missing[0]
    assert "not learned from: " in summary.as_text()
    videos[0].rename(tmp_path / "moved.mp4")
    with pytest.raises(ConfigError, match=r"found none that can be read .*a\.mp4.*put them back"):
        adapt_detector(work, recipe=RECIPE, **QUICK)


def test_still_images_and_folders_without_a_run_are_refused(made: Path, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "stills").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "stills" / "a.png")
    run(tmp_path / "stills", tmp_path / "work", report=False)
    with pytest.raises(ConfigError, match="still images have no windows"):
        adapt_detector(tmp_path / "work", recipe=RECIPE, **QUICK)
    with pytest.raises(WorkdirError, match="no work folder here"):
        adapt_detector(tmp_path / "nothing")
    WorkFolder.open(tmp_path / "new", create=True).close()
    with pytest.raises(ConfigError, match="nothing was processed here yet"):
        adapt_detector(tmp_path / "new")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"minutes": 0.0}, "minutes: expected more than 0"),
        ({"minutes": float("nan")}, "minutes: expected more than 0"),
        ({"minutes": 0.4, "steps": 1, "recipe": replace(RECIPE, batch=1)}, "a budget of 1 steps: expected"),
        ({"minutes": 0.3, "recipe": replace(RECIPE, fewest=10_000)}, "at least 10,000 sure boxes"),
    ],
)
def test_a_budget_that_is_too_short_keeps_what_was(work: Path, arguments: dict[str, Any], told: str) -> None:
    before = record(work)
    with pytest.raises(ConfigError, match=told):
        adapt_detector(work, **arguments)
    assert record(work) == before
    assert not (work / "detector").exists()


def test_given_boxes_have_no_detector_to_adapt(episode: Episode, tmp_path: Path) -> None:
    settings = load_config(values={"interval": 8.0, "boxes": str(episode.boxes_csv)})
    run(episode.video, tmp_path / "work", settings, report=False)
    with pytest.raises(ConfigError, match="its boxes were given"):
        adapt_detector(tmp_path / "work")
