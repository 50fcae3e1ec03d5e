"""A detector of a user's own: from labels to an ONNX file that ``celstream run --detector`` takes."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from engines.models import resolve
from engines.nets.yolo import Yolo
from engines.train.calibrate import maps_of, with_platt
from engines.train.export import export_detector
from engines.train.labels import LabelledDataset, Problems, ReadOptions, form_of, read_labels
from engines.train.labels.convert import Form
from engines.train.tune.course import Course, Say, settled
from engines.train.tune.data import Batches, BatchSettings
from engines.train.tune.measure import Figures, evaluate, look_through
from engines.train.tune.settings import TuneSettings, parts_of
from engines.train.tune.sheets import Sheets
from engines.train.tune.start import (
    at_working_point,
    new_detector,
    read_detector,
    recalibrate,
    with_classes,
)
from engines.train.tune.state import half_type
from stream.errors import ConfigError, ModelError
from stream.files import atomic_file, write_error

_KEPT_SCORE = 0.25  # the pipeline's smallest score kept, which the best working point is moved to
_TOLD_BY_THE_MODEL = ("size", "from", "localization_loss", "steps", "seed", "score_shift")
_SHARE = "probability of the class among the others and nobody, a softmax"
_TOLD = 20  # problems of the labels that are said; all are in problems.jsonl
_SAMPLE = 64  # pictures whose statistics the default's normalizations get


@dataclass(frozen=True)
class Tuned:
    """What came of a training; ``as_json`` is what ``result.json`` holds."""

    model: Path
    folder: Path
    figures: Figures
    facts: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """One object for a program."""
        found = asdict(self.figures)
        found["ap50_by_class"] = found.pop("by_class")
        return {"model": str(self.model), "folder": str(self.folder), **found, **self.facts}


def training_folder(out: Path) -> Path:
    """Where checkpoints, history and sheets of the model ``out`` lie: ``fox.onnx`` has ``fox-training``."""
    return out.with_name(f"{out.stem}-training")


def tune(
    data: str | Path,
    out: str | Path,
    settings: TuneSettings | None = None,
    *,
    form: Form | None = None,
    options: ReadOptions | None = None,
    one_class: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    say: Say = lambda _: None,
) -> Tuned:
    """Train a detector on labelled images and write it to ``out``.

    Beside ``out`` a folder (:func:`training_folder`) gets ``checkpoint.pt``, ``history.jsonl`` (a line per
    epoch), ``misses.jpg`` and ``hits.jpg``, ``problems.jsonl`` and ``result.json``.

    The scores of the model are moved so that the best working point on the validation images (by F1) is at
    .25, the pipeline's smallest score kept.

    Args:
        data: labels of any format, see ``read_labels``.
        out: the ONNX file to write.
        settings: see ``TuneSettings``.
        form: format of the labels, where it is not told by the files.
        options: how labels are read.
        one_class: put all boxes into one class of this name.
        resume: go on from the checkpoint.
        overwrite: start anew where there is a checkpoint, which is lost.
        say: takes a line at a time: what was left out, how each epoch went.

    Raises:
        ConfigError: nothing to train with, a setting out of its range, a checkpoint in the way or of another
            training, a budget too short for one epoch.
        LossError: a loss that is not finite; the last good checkpoint is kept.
        ModelError: the exported file computes something else than torch.
        WorkdirError: a file cannot be written.
    """
    out, settings = Path(out), (settings or TuneSettings()).checked()
    folder = training_folder(out)
    _check_place(out, folder, resume, overwrite)
    began = time.monotonic()
    problems = Problems()
    dataset = read_labels(data, problems, form=form or _form(Path(data), options), options=options)
    if one_class is not None:
        dataset = dataset.in_one_class(one_class)
    _tell(problems, dataset, folder, say)
    train, held = parts_of(dataset, settings.val, settings.seed)
    imgsz = settings.image_size(train)
    say(
        f"{len(train)} images to train with, {len(held)} to measure with, {len(dataset.class_names)} classes,"
        f" input {imgsz[0]}x{imgsz[1]} (height x width)"
    )
    with settled(settings):
        course = Course(_first_net(settings, train, imgsz), train, held, settings, imgsz, folder, say)
        if resume:
            course.resume()
        course.run()
        net, shift = at_working_point(course.best_net(), course.taken["best_score"], _KEPT_SCORE)
        facts = _facts(course, dataset, problems, shift)
        say(f"writing {out}, and the pictures of hits and misses")
        _export(net, out, course, facts)
        found, _ = evaluate(net, held, imgsz)
        sheets = _draw(net, course)
    facts |= {"sheets": [str(path) for path in sheets], "total_seconds": round(time.monotonic() - began, 1)}
    tuned = Tuned(out, folder, found, facts)
    with atomic_file(folder / "result.json") as file:
        file.write((json.dumps(tuned.as_json(), indent=1) + "\n").encode())
    return tuned


def _form(data: Path, options: ReadOptions | None) -> Form:
    try:
        return form_of(data, options)
    except ConfigError as error:  # it says how `celstream labels` is told; here --from is another thing
        raise ConfigError(str(error).replace("--from", "--format")) from error


def _check_place(out: Path, folder: Path, resume: bool, overwrite: bool) -> None:
    if out.suffix.lower() != ".onnx":
        raise ConfigError(f"--out {out}: expected a file name that ends in .onnx, as in {out.name}.onnx")
    if out.is_dir():
        raise ConfigError(f"--out {out}: expected a file to write, found a folder")
    if resume and overwrite:
        raise ConfigError("--resume and --overwrite: expected one of them, got both")
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists() and not resume and not overwrite:
        raise ConfigError(
            f"{checkpoint} is of a former training; give --resume to go on with it, --overwrite to start"
            " anew, or another --out"
        )
    if resume and not checkpoint.exists():
        raise ConfigError(f"--resume: expected {checkpoint}, found none; leave --resume out to start anew")
    _check_writable(out)
    _check_writable(checkpoint)


def _check_writable(path: Path) -> None:
    """Raise now what would be raised after hours of training; nothing stays behind."""
    try:
        folder = next(folder for folder in path.absolute().parents if folder.exists())
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise write_error(path, error) from error


def _tell(problems: Problems, dataset: LabelledDataset, folder: Path, say: Say) -> None:
    """Say what was wrong with the labels, and write all of it down."""
    if len(problems):
        say(problems.as_text(_TOLD))
        with atomic_file(folder / "problems.jsonl") as file:
            file.write("".join(json.dumps(p) + "\n" for p in problems.as_json()).encode())
    empty = [name for name, count in dataset.counts().items() if not count]
    if empty and dataset.boxes:
        say(f"classes without a box, which the detector will not learn: {', '.join(empty)}")


def _first_net(settings: TuneSettings, train: LabelledDataset, imgsz: tuple[int, int]) -> Yolo:
    """Random weights, or the default detector's with these classes."""
    background = settings.localization is not None
    if settings.start == "scratch":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            return new_detector(settings.size, len(train.class_names), background=background)
    path = resolve("default", "detector").path
    net, known = read_detector(path)
    net = with_platt(net, [score_map.inverse for score_map in maps_of(path)])
    net = with_classes(net, known, train.class_names, background=background)
    made = Batches(train, BatchSettings(settings.batch, imgsz, 1 << 62, settings.views), settings.seed)
    count = -(-_SAMPLE // settings.batch)
    batches = (made[step].images.float() / 255 for step in range(count))
    recalibrate(net, (batch for batch in batches if len(batch)))
    return net


def _facts(course: Course, dataset: LabelledDataset, problems: Problems, shift: float) -> dict[str, Any]:
    s = course.settings
    half = half_type(s.device)
    return {
        "classes": dataset.counts(),
        "images": len(dataset),
        "boxes": dataset.boxes,
        "train_images": len(course.train_part),
        "val_images": len(course.held),
        "problems": problems.counts(),
        "left_out": problems.left_out() + len(course.unreadable),
        "unreadable": course.unreadable,
        "size": s.size,
        "from": s.start,
        "localization_loss": s.localization_loss,
        "imgsz": list(course.imgsz),
        "epochs": course.history[-1]["epoch"],
        "planned_epochs": course.epochs,
        "taken_epoch": course.best["epoch"],
        "steps": course.tuner.steps_done,
        "ended": course.ended,
        "before": course.history[0] if course.history[0]["epoch"] == 0 else None,
        "score_shift": round(shift, 4),
        "rate": s.peak_rate,
        "batch": s.batch,
        "seed": s.seed,
        "device": s.device,
        "precision": "float32" if half is None else str(half).removeprefix("torch."),
        "threads": s.threads or torch.get_num_threads(),
        "seconds": round(course.seconds, 1),
    }


def _export(net: Yolo, out: Path, course: Course, facts: dict[str, Any]) -> None:
    extra = {
        "names": str(dict(enumerate(course.held.class_names))),
        "imgsz": str(facts["imgsz"]),
        "author": "",
        "license": "as the labelled images allow",
        "description": f"celstream detector trained on {facts['train_images']} labelled images",
        **{key: str(facts[key]) for key in _TOLD_BY_THE_MODEL},
        "scores": "fit of the box, a sigmoid" if facts["localization_loss"] == "iou" else _SHARE,
        "ap50": f"{course.taken['ap50']:.4f}",
    }
    try:
        export_detector(net, out, "1", extra, _graph_of(net, course))
    except RuntimeError as error:
        raise ModelError(f"{error}; the training is kept in {course.folder}") from error


def _graph_of(net: Yolo, course: Course) -> Path | None:
    """The file that training began with, where it has as many classes: its graph is the one to write."""
    if course.settings.start == "scratch" or net.background:
        return None
    path = resolve("default", "detector").path
    _, known = read_detector(path)
    return path if len(known) == len(course.held.class_names) else None


def _draw(net: Yolo, course: Course) -> list[Path]:
    sheets = Sheets(course.held.class_names, _KEPT_SCORE)
    for place, picture, found in look_through(net, course.held, course.imgsz, "cpu", {}):
        sheets.add(course.held.images[place].name, picture, found)
    return sheets.write(course.folder)
