"""Adapting the detector to the show of a work folder: self-training on its own frames, without labels.

Short windows of frames are read again out of the sources, what the default detector is sure of in them is
learned (see :mod:`engines.train.show`), and the network goes to ``detector/adapted.onnx`` in the folder,
``detector/about.json`` beside it. Where the label-free signal on windows held out says that it is no better,
nothing is written, and the reason is told.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.models import file_sha256
from engines.runtime import EngineError
from stream.adapt.detector_start import DetectorStart, detector_start
from stream.adapt.embedding import needs_torch
from stream.adapt.own_detector import RECORD, own_detector
from stream.config import Config, load_config
from stream.errors import ConfigError, SourceError
from stream.files import atomic_file, plain
from stream.probe import describe, is_url
from stream.progress import Progress, Quiet
from stream.workdir import WorkFolder

if TYPE_CHECKING:
    from engines.train.show.course import AdaptedDetector, ShowRecipe, Watch
    from engines.train.show.pseudo import Lesson
    from stream.batches import Video

_WINDOWS_PER_MINUTE = 40  # of the budget: reading and judging them takes about a quarter of it
_TRAINED = 0.6  # share of the budget that is training
_MOST_WINDOWS = 600


@dataclass(frozen=True)
class DetectorSummary:
    """What an adaptation of the detector did; see :class:`engines.train.show.signal.Signal`."""

    out: str
    kept: bool  # whether there is an adapted detector now that is better
    reason: str
    start: str  # the detector that was adapted, as settings name it
    detector: str  # the file to use: the adapted one, or the one before
    before: dict[str, float]
    after: dict[str, float]
    seed: int
    minutes: float
    steps: int
    planned_steps: int
    seconds: float
    windows: int  # that were learned from
    held_out: int
    sure_boxes: int
    missing: tuple[str, ...]  # sources that could not be read again, with the reason
    command: str  # what processes the sources with the adapted detector; empty where nothing is to do
    processed: bool = False  # whether that was done
    clusters: int = 0

    def as_json(self) -> dict[str, Any]:
        """For programs, and for the folder's record."""
        return asdict(self)

    def as_text(self) -> str:
        """A few lines for people."""
        head = "Detector adapted" if self.kept else "Detector not adapted"
        trained = (
            f"{self.steps} steps over {self.sure_boxes} sure boxes in {self.windows} windows, {self.held_out}"
            f" held out, in {self.seconds:.0f} s"
        )
        lines = [f"{head}: {self.reason}", trained, *(f"left out: {why}" for why in self.missing)]
        if self.processed:
            lines.append(f"processed again: {self.clusters} clusters. See {Path(self.out) / 'report.html'}")
        elif self.command:
            lines.append(f"use it: {self.command}")
        return "\n".join(lines)


def adapt_detector(
    out: str | Path,
    *,
    minutes: float = 4.0,
    steps: int | None = None,
    seed: int = 0,
    rerun: bool = True,
    progress: Progress | None = None,
    report: bool = True,
    recipe: ShowRecipe | None = None,
    watch: Watch | None = None,
    clock: bool = True,
) -> DetectorSummary:
    """Adapt the detector to the show of a work folder, and process its sources again with it.

    Args:
        out: the work folder.
        minutes: budget, about; how many windows are read and how many steps are trained follow from it, so
            that a seed gives the same weights. Processing again comes on top.
        steps: in place of those that ``minutes`` stand for.
        seed: another seed is other windows and another order of pictures.
        rerun: process the sources again where there is a better detector; names are taken over.
        progress: told how far it is; nothing by default.
        report: also write ``report.html`` again.
        recipe: how it is trained; as measured in bench/adapt_detector.py by default.
        watch: given the network at every look, see :func:`engines.train.show.course.adapt`.
        clock: end a training that takes twice its share of the budget, whatever steps are left.

    Raises:
        ConfigError: no source is there any more, too few sure boxes, too short a budget, or a detector that
            cannot be adapted. What was there stays.
        DependencyError: torch or onnx is not installed.
        WorkdirError: no such work folder, in use, or damaged.
    """
    needs_torch()
    from engines.train.show.course import planned_steps

    if not (np.isfinite(minutes) and minutes > 0):
        raise ConfigError(f"minutes: expected more than 0, got {minutes}; 4 is usual")
    progress = progress or Quiet()
    began = time.perf_counter()
    with WorkFolder.open(out, create=False) as folder:
        config = _config(folder)
        source = detector_start(folder, config)
        videos, missing = _videos(folder)
        for why in missing:
            progress.note(why)
        progress.note(f"adapting the detector to {len(videos)} sources in about {minutes:g} minutes ...")
        count = round(_WINDOWS_PER_MINUTE * minutes)
        learned, held = _lessons(videos, source, count, seed, progress)
        steps = planned_steps(_TRAINED * 60 * minutes) if steps is None else steps
        longest = 2 * _TRAINED * 60 * minutes if clock else np.inf
        adapted = _train(source, learned, held, steps, longest, seed, recipe, progress, watch)
        path = own_detector(folder)
        summary = DetectorSummary(
            out=str(folder.path),
            kept=adapted.kept,
            reason=adapted.reason,
            start=source.model,
            detector=str(path if adapted.kept else source.path),
            before=adapted.before.as_dict(),
            after=adapted.after.as_dict(),
            seed=seed,
            minutes=minutes,
            steps=adapted.steps,
            planned_steps=adapted.planned_steps,
            seconds=round(time.perf_counter() - began, 2),
            windows=len(learned),
            held_out=len(held),
            sure_boxes=sum(len(lesson.sure) for lesson in learned),
            missing=missing,
            command=_command(videos, folder.path, path) if adapted.kept else "",
            clusters=int(folder.read_run().get("clusters") or 0),
        )
        if adapted.kept:
            _write(path, adapted, source, summary)
        _note(folder, summary)
    if adapted.kept and rerun:
        summary = _process_again(summary, videos, config, path, progress, report)
    return summary


def _config(folder: WorkFolder) -> Config:
    """The settings of the last run. ConfigError where there is no detector in it."""
    asked = folder.read_run().get("config")
    if not isinstance(asked, dict):
        raise ConfigError(
            f"{folder.path}: nothing was processed here yet;"
            f" `celstream run VIDEO -o {folder.path}` comes first"
        )
    config = load_config(values=asked)
    if config.boxes is not None:
        raise ConfigError(
            f"{folder.path}: its boxes were given ({config.boxes}), so no detector works here; run it without"
            " --boxes first"
        )
    return config


def _videos(folder: WorkFolder) -> tuple[list[Video], tuple[str, ...]]:
    """The sources that can be read again, and of the others why not."""
    known = {str(video["name"]): str(video["uri"]) for video in folder.read_run().get("videos", [])}
    known |= {info.video: info.uri for info in folder.segments() if info.video not in known}
    videos, missing = [], []
    for name, uri in sorted(known.items()):
        if not is_url(uri) and Path(uri).is_dir():
            missing.append(f"{uri}: still images have no windows of frames to learn from")
            continue
        try:
            video = describe(uri, name, 20.0)
        except SourceError as error:
            missing.append(str(error))
            continue
        if video.duration_s is None:
            missing.append(f"{uri}: a stream without a known length cannot be gone back to")
        else:
            videos.append(video)
    if not videos:
        told = "; ".join(missing) or "none is recorded"
        raise ConfigError(
            f"{folder.path}: expected the sources of its videos to learn from, found none that can be read"
            f" ({told}); put them back, or run them from where they are now"
        )
    return videos, tuple(missing)


def _lessons(
    videos: list[Video], source: DetectorStart, count: int, seed: int, progress: Progress
) -> tuple[list[Lesson], list[Lesson]]:
    """What windows of the videos teach: those to learn from, and those held out."""
    from engines.train.show.pseudo import PseudoSettings, lesson
    from engines.train.show.teacher import net_of_file
    from stream.adapt.show_windows import parted, places, window

    where = places(videos, min(max(1, count), _MOST_WINDOWS), seed)
    learned, held = parted(where)
    net, settings = net_of_file(source.path), PseudoSettings()
    if not source.calibrated:
        settings = settings.at(source.threshold)

    def each(positions: list[int], measures: bool) -> Iterator[Lesson]:
        for i in positions:
            number, start_s = where[i]
            try:
                frames = window(videos[number], start_s)
            except SourceError as error:
                progress.note(str(error))
                continue
            if frames is not None:
                yield lesson(net, frames, source.imgsz, number, settings, measures=measures)

    lessons = list(each(learned, False)), list(each(held, True))
    if not lessons[0]:
        raise ConfigError(
            f"expected windows of frames to learn from in {len(videos)} sources, found none; they may be"
            " too short (under 3 s)"
        )
    progress.note(
        f"adapting: {sum(len(x.sure) for x in lessons[0])} sure boxes in {len(lessons[0])} windows,"
        f" {len(lessons[1])} held out"
    )
    return lessons


def _train(
    source: DetectorStart,
    learned: list[Lesson],
    held: list[Lesson],
    steps: int,
    longest: float,
    seed: int,
    recipe: ShowRecipe | None,
    progress: Progress,
    watch: Watch | None,
) -> AdaptedDetector:
    from engines.train.calibrate import maps_of, with_platt
    from engines.train.show.course import adapt as train
    from engines.train.tune.start import read_detector

    maps = maps_of(source.path)
    net = with_platt(read_detector(source.path)[0], [score_map.inverse for score_map in maps])

    def told(step: int, steps: int, score: float | None) -> None:
        if score is not None or step % 25 == 0:
            tail = "" if score is None else f", signal {score:.4f}"
            progress.note(f"adapting the detector: step {step} of {steps}{tail}")

    try:
        return train(
            net,
            learned,
            held,
            imgsz=source.imgsz,
            scales=source.scales,
            threshold=source.threshold,
            maps=maps,
            steps=steps,
            longest=longest,
            seed=seed,
            recipe=recipe,
            progress=told,
            watch=watch,
        )
    except EngineError as error:
        raise ConfigError(str(error)) from error


def _write(path: Path, adapted: AdaptedDetector, source: DetectorStart, summary: DetectorSummary) -> None:
    """The network, then what is to be said of it."""
    from engines.train.export import export_detector

    for torn in path.parent.glob("adapted.part*"):  # of a process that was killed while it wrote
        torn.unlink()
    facts = {"taken_step": adapted.taken_step, "seed": summary.seed, "shift": round(adapted.shift, 5)}
    told = {
        "description": "celstream detector adapted to one show, without labels",
        "adapted": json.dumps(facts),
        "names": str(dict(enumerate(source.names))),
        "imgsz": str(list(source.imgsz)),
        "scales": str(list(source.scales)),
        "score": f"{source.threshold:.4f}",  # as many boxes reach it as reached the former one's
    }
    export_detector(adapted.net, path, "adapted", told, source.path)
    history = [{"step": step} | found.as_dict() for step, found in adapted.history]
    about = summary.as_json() | facts | {"sha256": file_sha256(path), "history": history}
    document = json.dumps(plain(about), indent=1).encode()
    with atomic_file(path.with_name("about.json"), size=len(document)) as file:
        file.write(document)


def _note(folder: WorkFolder, summary: DetectorSummary) -> None:
    about = {key: value for key, value in summary.as_json().items() if key not in ("out", "clusters")}
    folder.write_run(folder.read_run() | {RECORD: plain(about)})


def _command(videos: list[Video], out: Path, model: Path) -> str:
    import shlex

    return shlex.join(
        ["celstream", "run", *(video.uri for video in videos), "-o", str(out), "--detector", str(model)]
    )


def _process_again(
    summary: DetectorSummary,
    videos: list[Video],
    config: Config,
    model: Path,
    progress: Progress,
    report: bool,
) -> DetectorSummary:
    """Run over the sources with the adapted detector, as the last run was set."""
    from stream.run_job import run

    progress.note("processing the sources again with it, and what the run does after that")
    again = config.model_copy(update={"detector": config.detector.model_copy(update={"model": str(model)})})
    with WorkFolder.open(summary.out, create=False) as folder:
        # a run after one that was killed goes on with this detector
        folder.write_run(folder.read_run() | {"config": again.model_dump(mode="json")})
    done = run([video.uri for video in videos], summary.out, again, progress=progress, report=False)
    summary = replace(summary, processed=not done.interrupted, clusters=done.clusters)
    with WorkFolder.open(summary.out, create=False) as folder:
        _note(folder, summary)
        if report:
            from stream.report import write_report

            write_report(folder)
    return summary
