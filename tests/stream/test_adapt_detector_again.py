"""What ``adapt --detector`` takes in, how it looks, and what it tells to do: sources, settings, Ctrl-C."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from adapting import QUICK, RECIPE, record
from PIL import Image

import stream.run_job
from engines.train.show.signal import Judge
from engines.train.show.teacher import net_of_file, scaled
from stream import load_config, run
from stream.adapt.detector import DetectorSummary, adapt_detector
from stream.adapt.detector_again import command
from stream.adapt.detector_lessons import lessons
from stream.adapt.detector_start import detector_start
from stream.adapt.show_sources import show_sources
from stream.cartoon.write import Episode, render_episode
from stream.cli import app
from stream.commands.adapt import stopped
from stream.config import Config, DetectorConfig
from stream.detect import Detector
from stream.embeddings import EmbeddingSet
from stream.errors import ConfigError
from stream.progress import Quiet
from stream.workdir import WorkFolder

#: celstream's own command line, with the quick recipe in place of the usual one.
QUICK_COMMAND = (
    "import functools, signal\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it\n"
    "import stream.adapt.detector as detector\n"
    "from engines.train.show.course import ShowRecipe\n"
    "recipe = ShowRecipe(batch=8, creatures=6, cartoons=0, episodes=0, looks=1, fewest=4, fewest_held=1,"
    " margin=-100.0)\n"
    "detector.adapt_detector = functools.partial(detector.adapt_detector, steps=2, recipe=recipe)\n"
    "from stream.cli import main; main()"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("show")


@pytest.fixture(scope="module")
def episode(place: Path) -> Episode:
    return render_episode(place / "show.mp4", seed=5, characters=4, seconds=24, width=320, height=180, fps=8)


@pytest.fixture(scope="module")
def clip(place: Path) -> Episode:
    """Long enough for windows, and too short for some of them to be held out."""
    return render_episode(place / "clip.mp4", seed=5, characters=3, seconds=8, width=320, height=180, fps=8)


@pytest.fixture(scope="module")
def made(place: Path, episode: Episode) -> Path:
    """A work folder of a video, one under 3 s, still images beside a film that is not in it, and one gone."""
    short = render_episode(place / "short.mp4", seed=6, seconds=2, width=320, height=180, fps=8).video
    stills = place / "stills"
    stills.mkdir()
    for number in range(3):
        Image.new("RGB", (96, 64), (80 * number, 40, 90)).save(stills / f"{number}.png")
    gone = place / "gone.mp4"
    shutil.copy(short, gone)
    with gone.open("ab") as file:
        file.write(b"\0" * 64)  # another content, or it would be the same video
    settings = {
        "interval": 2.0,
        "adapt": "off",
        "cluster": {"clusters": "2:4"},
        "detector": {"scales": [2], "score": 0.1},
    }
    run([episode.video, short, stills, gone], place / "work", load_config(values=settings), report=False)
    gone.unlink()
    shutil.copy(short, stills / "another.mp4")
    return place / "work"


@pytest.fixture(scope="module")
def done(made: Path) -> tuple[Path, DetectorSummary]:
    """A copy of it, its detector adapted and its sources processed again."""
    work = made.with_name("adapted")
    shutil.copytree(made, work)
    return work, adapt_detector(work, recipe=RECIPE, **QUICK)


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "work")
    return tmp_path / "work"


def marks(work: Path) -> dict[str, str]:
    """What the rows of each video follow from."""
    with WorkFolder.open(work, create=False, write=False) as folder:
        return {info.video: info.fingerprint for info in folder.segments()}


def test_every_source_that_is_there_is_processed_again_and_what_is_not_is_told(
    made: Path, done: tuple[Path, DetectorSummary]
) -> None:
    work, summary = done
    before, after = marks(made), marks(work)
    assert {name for name in after if after[name] != before[name]} == {"show", "short", "stills"}
    assert set(after) - {"show", "short", "stills"} == {"gone"}  # and the film beside the stills is not in it
    assert [Path(why.split(": ")[0]).name for why in summary.missing] == ["gone.mp4", "short.mp4", "stills"]
    text = summary.as_text()
    assert f"not learned from: {made.parent / 'short.mp4'}: shorter than 2.75 s" in text
    assert f"not learned from: {made.parent / 'stills'}: still images have no windows" in text
    assert (
        f"its boxes stay those of the detector before: {made.parent / 'gone.mp4'}: there is no such" in text
    )
    assert text.count("its boxes stay") == 1


def test_the_told_command_does_what_processing_again_did(done: tuple[Path, DetectorSummary]) -> None:
    work, summary = done
    config = record(work)["config"]
    words = shlex.split(summary.command)
    assert words[0] == "celstream"
    answer = subprocess.run(
        [sys.executable, "-m", "stream.cli", *words[1:]], capture_output=True, text=True, check=True
    )
    assert "3 of 3 segments were done before" in answer.stdout, answer.stderr
    assert record(work)["config"] == config
    assert (config["interval"], config["adapt"]["mode"]) == (2.0, "off")
    assert config["detector"]["scales"] == [2.0]


def test_images_that_are_others_by_now_are_not_processed_again(
    made: Path, place: Path, tmp_path: Path
) -> None:
    shutil.copytree(made, tmp_path / "work")
    Image.new("RGB", (96, 64)).save(place / "stills" / "9.png")
    try:
        with WorkFolder.open(tmp_path / "work", create=False, write=False) as folder:
            sources = show_sources(folder)
    finally:
        (place / "stills" / "9.png").unlink()
    assert [Path(uri).name for uri in sources.inputs] == ["short.mp4", "show.mp4"]
    assert "holds other images than were processed" in "".join(sources.unreached)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"interval": 0.04, "sampling": "scene", "device": "cpu", "engine": "onnx", "adapt": "on"},
        {"cluster": {"clusters": (5, 40), "min_size": 2}, "embedder": {"model": "my nets/e.onnx"}},
        {"cluster": {"strength": 0.25, "memory_mb": 12.5}, "held": 0.0, "trace": "a 'trace' of: mine.json"},
        {"trace": "5:40", "threads": 2, "adapt": {"mode": "off", "minutes": 1e-5, "steps": 3}},
        {"detector": {"scales": (0.5, 1), "score": 1e-07, "classes": ("character", "no"), "size": 640}},
        {"embedder": {"model": "on", "mirror": False, "precision": "fp16"}, "trace": "null"},
        {"detector": {"model": "mine.onnx", "precision": "int8"}, "decode": {"decoder": "cpu", "lanes": 3}},
    ],
)
def test_a_told_command_is_read_as_the_settings_that_it_was_told_of(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []

    def stop(inputs: list[str], out: Path, config: Config, **_: Any) -> None:
        read.extend((inputs, out, config))
        raise ConfigError("read")

    monkeypatch.setattr(stream.run_job, "run", stop)
    config = load_config(values=settings)
    words = shlex.split(command(["a b.mp4", "*.mkv"], Path("my work"), config))
    with pytest.raises(ConfigError, match="read"):
        app(words[1:], standalone_mode=False)
    assert read[:2] == [["a b.mp4", "*.mkv"], Path("my work")]
    assert read[2].model_dump() == config.model_dump()


def test_the_boxes_are_counted_as_the_run_looks_and_the_file_recommends_what_it_did(
    made: Path, done: tuple[Path, DetectorSummary]
) -> None:
    """One look at twice the size in place of three, from half the recommended score."""
    work, summary = done
    default, adapted = (
        Detector(DetectorConfig(model=name)) for name in ("default", str(work / "detector" / "adapted.onnx"))
    )
    with WorkFolder.open(made, create=False, write=False) as folder:
        config = load_config(values=folder.read_run()["config"])
        start, sources = detector_start(folder, config), show_sources(folder)
        assert (start.scales, start.threshold) == (default.scales, default.score)
        assert (adapted.scales, adapted.score) == (default.scales, default.score)
        held = lessons(sources.videos, start, 12, 0, RECIPE, Quiet())[1]
        net, twice = net_of_file(start.path), [scaled(start.imgsz, 2)]
        every = [scaled(start.imgsz, scale) for scale in default.scales]
        kept, *others = (
            round(Judge(held, start.imgsz, score, looks).boxes(net), 5)
            for score, looks in ((0.1, twice), (0.1, every), (0.2, twice))
        )
        assert summary.before["boxes"] == kept
        assert kept not in others
        wide = config.detector.model_copy(update={"size": 2 * max(start.imgsz), "scales": None, "score": 0.0})
        start = detector_start(folder, config.model_copy(update={"detector": wide}))
        assert start.looks == tuple(2 * scale for scale in default.scales)
        assert 0 < start.score < 0.1  # as low as boxes are looked at
    for detector in (default, adapted):
        detector.close()


def test_a_show_that_is_too_short_to_measure_by_is_told_how_long_is_needed(
    clip: Episode, tmp_path: Path
) -> None:
    run(clip.video, tmp_path / "work", load_config(values={"interval": 4.0}), report=False)
    with pytest.raises(ConfigError, match=r"all that 8 s of video have.* (\d+) s in one video") as told:
        adapt_detector(tmp_path / "work", minutes=4, recipe=RECIPE)
    assert "more minutes" not in str(told.value)
    with pytest.raises(ConfigError, match="give more minutes"):
        adapt_detector(tmp_path / "work", minutes=0.05, recipe=RECIPE)


def test_more_minutes_are_not_asked_for_where_every_window_was_read(work: Path) -> None:
    with pytest.raises(ConfigError, match=r"found .* in .* frames.*more minutes do not help") as told:
        adapt_detector(work, minutes=4, recipe=replace(RECIPE, fewest=1000))
    assert "give more minutes" not in str(told.value)


def test_a_folder_of_still_images_alone_is_told_that_a_video_is_needed(place: Path, tmp_path: Path) -> None:
    stills = shutil.copytree(place / "stills", tmp_path / "stills", ignore=shutil.ignore_patterns("*.mp4"))
    run(stills, tmp_path / "work", report=False)
    with pytest.raises(ConfigError, match=r"still images have no windows.*run a video of the show") as told:
        adapt_detector(tmp_path / "work", recipe=RECIPE)
    assert "put them back" not in str(told.value)


def interrupted(work: Path, at: str, *options: str) -> str:
    """What is said on Ctrl-C, pressed when ``at`` is told."""
    process = subprocess.Popen(
        [sys.executable, "-c", QUICK_COMMAND, "adapt", str(work), *options, "--log", "json"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        if at in line and not any(at in before for before in said):
            process.send_signal(signal.SIGINT)
        said.append(line)
    assert process.wait() == 130, said
    return said[-1]


@pytest.mark.parametrize(
    ("at", "options"),
    [("adapting: ", ["--detector", "--minutes", "0.3"]), ("adapting to ", ["--min-crops", "4"])],
)
def test_ctrl_c_while_it_learns_says_that_the_same_command_begins_anew(
    work: Path, at: str, options: list[str]
) -> None:
    before = record(work)
    assert interrupted(work, at, *options) == (
        "celstream: stopped; what was there stays as it was, and the same command begins anew\n"
    )
    assert record(work) == before
    assert not (work / "detector").exists()
    with WorkFolder.open(work, create=False):  # and the folder is free again
        pass


def test_ctrl_c_while_the_sources_are_processed_again_names_the_command_that_goes_on(work: Path) -> None:
    told = interrupted(work, "processing the sources again", "--detector", "--minutes", "0.3")
    own = work / "detector" / "adapted.onnx"
    assert told.startswith(f"celstream: stopped; the adapted detector is written, {own}, and this goes on")
    assert own.is_file()
    words = shlex.split(told.split("goes on with it: celstream ")[1])
    subprocess.run([sys.executable, "-m", "stream.cli", *words], capture_output=True, check=True)
    assert record(work)["models"]["detector"]["model"] == str(own)


def test_ctrl_c_once_embeddings_were_written_says_what_groups_by_them(tmp_path: Path) -> None:
    place = tmp_path / "embeddings" / "adapted"
    before = EmbeddingSet(place, {}, {})
    assert "are gone" in stopped(KeyboardInterrupt(), tmp_path, before)
    place.mkdir(parents=True)
    (place / "about.json").write_text('{"format": 1, "segments": {}, "about": {"steps": 3}}')
    assert f"`celstream cluster {tmp_path}` groups by them" in stopped(KeyboardInterrupt(), tmp_path, before)
    assert f"`celstream cluster {tmp_path}` groups by them" in stopped(KeyboardInterrupt(), tmp_path, None)


def test_options_of_the_embedding_are_refused_where_they_mean_nothing(tmp_path: Path) -> None:
    for options in (["--min-crops", "300"], ["--from", "scratch"]):
        with pytest.raises(ConfigError, match=f"^{options[0]}.*the detector"):
            app(["adapt", str(tmp_path), "--detector", *options], standalone_mode=False)


def test_a_training_that_the_clock_ended_says_how_much_was_planned(
    done: tuple[Path, DetectorSummary],
) -> None:
    assert "2 steps over" in done[1].as_text()
    late = replace(
        done[1], steps=1, planned_steps=9, ended="the clock ended it", windows=1, sure_boxes=1
    ).as_text()
    assert "1 step of 9 planned over 1 sure box in 1 window, " in late
    assert "the clock ended it" in late
