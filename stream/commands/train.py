"""``celstream train``: networks trained on a user's own labels. The work is in ``engines/train``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from stream.commands.labels import FormName, Images, Names, Unlabelled, VocOrigin
from stream.commands.options import AsJson, Log, Seed
from stream.errors import EXIT_DONE, EXIT_QUARANTINED, ConfigError
from stream.packages import need

if TYPE_CHECKING:
    from engines.train.tune import Tuned

train_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Train networks on labels of your own.",
)


@train_app.callback()
def _options() -> None:
    """A command of its own even while there is only one."""


@train_app.command()
def detector(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Labels (DarkNet, VOC, COCO, CSV): their folder or file."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="MODEL", help="ONNX file to write.")],
    size: Annotated[
        Literal["n", "s", "m"],
        typer.Option(help="Of the network: n is the default detector's, s twice, m five times the work."),
    ] = "n",
    from_: Annotated[
        Literal["default", "scratch"] | None,
        typer.Option("--from", help="Weights to start with. (default: the default detector's for size n)"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Times over the images. (default: 12 to 120, by their number)")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Longest time; plans fewer epochs where they would take longer.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Pictures a step. Raising it takes memory.")] = 8,
    imgsz: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            help="Input size, as 256x416, or a longer side. Raising it finds smaller characters, slower.",
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Peak learning rate. (default: 0.0005, from scratch 0.002)")
    ] = None,
    val: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Images to measure with. (default: as the labels say, else 0.2)"),
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="End after so many epochs without a better AP50:95.")
    ] = None,
    localization_loss: Annotated[
        Literal["iou", "sum", "weighted", "exp", "exp_squared"],
        typer.Option(
            help="'iou' learns how well boxes fit; 'sum' classes and corners apart; the others corners as far"
            " as the class is right."
        ),
    ] = "iou",
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start anew although there is a checkpoint.")
    ] = False,
    one_class: Annotated[
        str | None, typer.Option(metavar="NAME", help="Put all boxes into one class of this name.")
    ] = None,
    form: Annotated[
        FormName, typer.Option("--format", help="Format of DATA, where it cannot be told.")
    ] = "auto",
    images: Images = None,
    names: Names = None,
    unlabelled: Unlabelled = "leave-out",
    voc_origin: VocOrigin = "1",
    workers: Annotated[int, typer.Option(help="Processes that read images beside the trainer.")] = 1,
    threads: Annotated[int | None, typer.Option(help="Of the trainer. (default: all cores)")] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="'cuda' is an error where there is none.")
    ] = "auto",
    json_: AsJson = False,
    log: Log = "auto",
) -> None:
    """Train a detector on labelled images, and write it as an ONNX file for `celstream run --detector`.

    Beside MODEL, a folder gets checkpoints, history.jsonl, result.json, and pictures of hits and misses.
    Exit code 3 when images or labels were left out; all are listed.
    """
    need(("torch", "onnx", "onnxscript", "onnxruntime"), "training", "pip install 'celstream[cpu,train]'")
    from engines.train.labels import ReadOptions
    from engines.train.tune import TuneSettings, tune
    from stream.progress import make_progress

    settings = TuneSettings(
        size=size,
        start=from_,
        epochs=epochs,
        minutes=minutes,
        batch=batch,
        imgsz=_sides(imgsz),
        rate=rate,
        val=val,
        patience=patience,
        localization_loss=localization_loss,
        seed=seed,
        workers=workers,
        threads=threads,
        device=_device(device),
    )
    options = ReadOptions(images, names, unlabelled, False, cast(Literal[0, 1], int(voc_origin)))
    done = tune(
        data,
        out,
        settings,
        form=None if form == "auto" else form,
        options=options,
        one_class=one_class,
        resume=resume,
        overwrite=overwrite,
        say=make_progress(log).note,
    )
    print(json.dumps(done.as_json()) if json_ else _told(done))
    raise typer.Exit(EXIT_QUARANTINED if done.facts["left_out"] else EXIT_DONE)


def _sides(imgsz: str | None) -> tuple[int, int] | None:
    """Height and width of '256x416', or of '640', which is square."""
    if imgsz is None:
        return None
    found = re.fullmatch(r"(\d{1,5})(?:[xX,](\d{1,5}))?", imgsz.strip())
    if found is None:
        raise ConfigError(f"--imgsz: expected HEIGHTxWIDTH as 256x416, or a longer side, got {imgsz!r}")
    return int(found[1]), int(found[2] or found[1])


def _device(wanted: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    import torch

    from engines.runtime.devices import cuda_missing

    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        own = "sees no CUDA device" if torch.version.cuda else "is built without CUDA"
        lacking = [why for why in (cuda_missing(), f"torch {torch.__version__} {own}") if why]
        raise ConfigError(
            f"--device cuda: {'; '.join(lacking)}; it needs a driver and torch for CUDA, pip install"
            " --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130; or use auto"
        )
    return "cuda" if there and wanted != "cpu" else "cpu"


def _told(done: Tuned) -> str:
    facts, found = done.facts, done.figures
    taken = f"epoch {facts['taken_epoch']} of {facts['epochs']}"
    if not facts["taken_epoch"]:
        taken = "no epoch was better than before training; more labels or more epochs may help"
    return (
        f"{done.model}: AP50 {found.ap50:.3f}, AP50:95 {found.ap50_95:.3f} on {facts['val_images']} images"
        f" ({taken}). Hits, misses and history are in {done.folder}"
    )
