"""Adapting the detector to the show of a work folder: self-training on its own frames, without labels.

Short windows of frames are read again out of the sources, what the default detector is sure of in them is
learned (see :mod:`engines.train.show`), and the network goes to ``detector/adapted.onnx`` in the folder,
``detector/about.json`` beside it. Where the label-free signal on windows held out says that it is no better
than the detector in use, nothing is written, and the reason is told.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.models import file_sha256
from engines.runtime import EngineError
from stream.adapt.detector_again import StoppedAfterwards, command, process_again, with_model
from stream.adapt.detector_lessons import lessons
from stream.adapt.detector_start import DetectorStart, detector_start
from stream.adapt.embedding import needs_torch
from stream.adapt.own_detector import RECORD, REPLACES, own_detector, replaced
from stream.adapt.show_sources import show_sources
from stream.config import Config, load_config
from stream.errors import ConfigError
from stream.files import atomic_file, plain, write_error
from stream.progress import Progress, Quiet
from stream.report.words import count as counted
from stream.workdir import WorkFolder

if TYPE_CHECKING:
    from engines.train.show.course import AdaptedDetector, ShowRecipe, Watch
    from engines.train.show.pseudo import Lesson

_WINDOWS_PER_MINUTE = 40  # of the budget: reading and judging them takes about a quarter of it
_TRAINED = 0.6  # share of the budget that is training


@dataclass(frozen=True)
class DetectorSummary:
    """What an adaptation of the detector did; see :class:`engines.train.show.signal.Signal`."""

    out: str
    kept: bool  # whether this adaptation made a detector that is better than the one in use
    reason: str
    start: str  # the detector that was adapted, as settings name it
    detector: str  # the file in use from now on: the new one, or the one before
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
    missing: tuple[str, ...]  # sources that could not be learned from, with the reason
    command: str  # what processes the sources with the adapted detector; empty where nothing is to do
    ended: str = ""  # why the training ended before its planned steps
    unreached: tuple[str, ...] = ()  # sources that cannot be processed with it, with the reason
    processed: bool = False  # whether the others were
    clusters: int = 0

    def as_json(self) -> dict[str, Any]:
        """For programs, and for the folder's record."""
        return asdict(self)

    def as_text(self) -> str:
        """A few lines for people."""
        head = "Detector adapted" if self.kept else "Detector not adapted"
        of = f" of {self.planned_steps} planned" if self.steps < self.planned_steps else ""
        trained = (
            f"{counted(self.steps, 'step')}{of} over {counted(self.sure_boxes, 'sure box', 'sure boxes')} in"
            f" {counted(self.windows, 'window')}, {self.held_out} held out, in {self.seconds:.0f} s"
        )
        if self.ended:
            trained += f"; {self.ended}"
        lines = [f"{head}: {self.reason}", trained, *(f"not learned from: {why}" for why in self.missing)]
        if self.kept:
            lines += [
                f"cannot be processed again, so its boxes stay those of the detector before: {why}"
                for why in self.unreached
            ]
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
        ConfigError: no source is there any more, too short a show, too few sure boxes, too short a budget,
            or a detector that cannot be adapted. What was there stays.
        DependencyError: torch or onnx is not installed.
        WorkdirError: no such work folder, in use, or damaged.
        StoppedAfterwards: Ctrl-C once the adapted detector was written. Before that it is a KeyboardInterrupt
            as any other, and what was there stays.
    """
    needs_torch()
    from engines.train.show.course import ShowRecipe, planned_steps

    if not (np.isfinite(minutes) and minutes > 0):
        raise ConfigError(f"minutes: expected more than 0, got {minutes}; 4 is usual")
    progress = progress or Quiet()
    began = time.perf_counter()
    with WorkFolder.open(out, create=False) as folder:
        config = _config(folder)
        source = detector_start(folder, config)
        sources = show_sources(folder)
        for why in sources.unlearned:
            progress.note(why)
        found = counted(len(sources.videos), "source")
        progress.note(f"adapting the detector to {found} in about {minutes:g} min ...")
        count = round(_WINDOWS_PER_MINUTE * minutes)
        recipe = recipe or ShowRecipe()
        learned, held = lessons(sources.videos, source, count, seed, recipe, progress)
        steps = planned_steps(_TRAINED * 60 * minutes) if steps is None else steps
        longest = 2 * _TRAINED * 60 * minutes if clock else np.inf
        adapted = _train(source, learned, held, steps, longest, seed, recipe, progress, watch)
        path = own_detector(folder)
        again = with_model(config, path)
        summary = DetectorSummary(
            out=str(folder.path),
            kept=adapted.kept,
            reason=adapted.reason if adapted.kept else f"{adapted.reason}: {source.named}",
            start=source.model,
            detector=str(path if adapted.kept else source.used),
            before=adapted.before.as_dict(),
            after=adapted.after.as_dict(),
            seed=seed,
            minutes=minutes,
            steps=adapted.steps,
            planned_steps=adapted.planned_steps,
            ended=adapted.ended,
            seconds=round(time.perf_counter() - began, 2),
            windows=len(learned),
            held_out=len(held),
            sure_boxes=sum(len(lesson.sure) for lesson in learned),
            missing=sources.unlearned,
            command=command(sources.inputs, folder.path, again) if adapted.kept else "",
            unreached=sources.unreached,
            clusters=int(folder.read_run().get("clusters") or 0),
        )
        if not adapted.kept:
            _note(folder, summary)
            _report(folder, report)
            return summary
        former = replaced(folder)
        try:
            _write(path, adapted, source, summary, former)
            _note(folder, summary)
            if not rerun:
                _report(folder, report)
        except KeyboardInterrupt as error:
            if path.is_file() and file_sha256(path) not in former[:1]:
                raise _stopped(summary) from error
            raise
    if not rerun:
        return summary
    try:
        done = process_again(sources.inputs, summary.out, again, progress)
        summary = replace(summary, processed=not done.interrupted, clusters=done.clusters)
        _finish(summary, report)
    except KeyboardInterrupt as error:
        raise _stopped(summary) from error
    return summary


def _stopped(summary: DetectorSummary) -> StoppedAfterwards:
    return StoppedAfterwards(
        f"stopped; the adapted detector is written, {summary.detector}, and this goes on with it:"
        f" {summary.command}"
    )


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


def _train(
    source: DetectorStart,
    learned: list[Lesson],
    held: list[Lesson],
    steps: int,
    longest: float,
    seed: int,
    recipe: ShowRecipe,
    progress: Progress,
    watch: Watch | None,
) -> AdaptedDetector:
    from engines.train.calibrate import maps_of, with_platt
    from engines.train.show.course import adapt as train
    from engines.train.show.teacher import net_of_file
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
            scales=source.looks,
            mirror=source.mirrored,
            iou=source.iou,
            threshold=source.score,
            maps=maps,
            incumbent=net_of_file(source.used) if source.used != source.path else None,
            steps=steps,
            longest=longest,
            seed=seed,
            recipe=recipe,
            progress=told,
            watch=watch,
        )
    except EngineError as error:
        raise ConfigError(str(error)) from error


def _write(
    path: Path, adapted: AdaptedDetector, source: DetectorStart, summary: DetectorSummary, former: list[str]
) -> None:
    """The network, then what is to be said of it. ``former``: hashes of those that it replaces."""
    from engines.train.export import export_detector

    for torn in path.parent.glob("adapted.part*"):  # of a process that was killed while it wrote
        torn.unlink()
    facts = {"taken_step": adapted.taken_step, "seed": summary.seed, "shift": round(adapted.shift, 5)}
    told = {
        "description": "celstream detector adapted to one show, without labels",
        "adapted": json.dumps(facts),
        "names": str(dict(enumerate(source.names))),
        "imgsz": str(list(source.imgsz)),
        # what the file before recommends, also where the run's settings ask for something else
        "scales": str(list(source.scales)),
        "mirror": str(source.mirror),
        "score": f"{source.threshold:.4f}",
    }
    try:
        export_detector(adapted.net, path, "adapted", told, source.path)
    except OSError as error:
        raise write_error(path, error, source.path.stat().st_size) from error
    history = [{"step": step} | found.as_dict() for step, found in adapted.history]
    about = summary.as_json() | facts | {"sha256": file_sha256(path), REPLACES: former, "history": history}
    document = json.dumps(plain(about), indent=1).encode()
    with atomic_file(path.with_name("about.json"), size=len(document)) as file:
        file.write(document)


def _note(folder: WorkFolder, summary: DetectorSummary) -> None:
    about = {key: value for key, value in summary.as_json().items() if key not in ("out", "clusters")}
    folder.write_run(folder.read_run() | {RECORD: plain(about)})


def _finish(summary: DetectorSummary, report: bool) -> None:
    """Note that the sources were processed again, and write the report."""
    with WorkFolder.open(summary.out, create=False) as folder:
        _note(folder, summary)
        _report(folder, report)


def _report(folder: WorkFolder, wanted: bool) -> None:
    if wanted:
        from stream.report import write_report

        write_report(folder)
