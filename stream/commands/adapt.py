"""The command ``celstream adapt``: its options, and what it says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stream.commands.options import AsJson, Log, Seed, Workdir
from stream.errors import ConfigError

if TYPE_CHECKING:
    from stream.adapt.embedding import AdaptSummary
    from stream.embeddings import EmbeddingSet


def adapt(
    workdir: Workdir,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Time for reading the show and training, about. Raising it learns more of a large show."
            " Clustering, or processing again with --detector, comes on top. (default: 3, the detector 4)"
        ),
    ] = None,
    detector: Annotated[
        bool, typer.Option("--detector", help="Adapt the detector, and process the sources again with it.")
    ] = False,
    rerun: Annotated[
        bool, typer.Option(help="With --detector: process again, or only tell the command that does.")
    ] = True,
    from_: Annotated[
        Literal["default", "scratch"],
        typer.Option("--from", help="Start with the weights that come with celstream, or with none."),
    ] = "default",
    seed: Seed = 0,
    min_crops: Annotated[
        int | None,
        typer.Option(min=2, help="Refuse with fewer different crops: too few to learn from. (default: 300)"),
    ] = None,
    json_: AsJson = False,
    log: Log = "auto",
) -> None:
    """Adapt the embedding to the show at hand, without labels, and cluster again with it.

    Takes minutes on a CPU. What was there is kept where the adapted embedding is no better by what tracks and
    frames say; names are taken over. With --detector it is the detector that learns the show, from windows of
    the sources, and is kept where it is better on windows held out.
    """
    from stream.adapt.detector import DetectorSummary, adapt_detector
    from stream.adapt.embedding import MIN_CROPS
    from stream.adapt.embedding import adapt as adapt_show
    from stream.embeddings import find
    from stream.progress import make_progress

    progress = make_progress(log)
    if detector and from_ != "default":
        raise ConfigError("--from scratch: the detector has too little of one show to start from nothing")
    if detector and min_crops is not None:
        raise ConfigError(
            "--min-crops: the detector learns from windows of the sources and not from crops; leave it out"
        )
    result: AdaptSummary | DetectorSummary
    before = find(workdir)
    try:
        if detector:
            result = adapt_detector(
                workdir,
                minutes=4.0 if minutes is None else minutes,
                seed=seed,
                rerun=rerun,
                progress=progress,
            )
        else:
            result = adapt_show(
                workdir,
                minutes=3.0 if minutes is None else minutes,
                start=from_,
                seed=seed,
                min_crops=MIN_CROPS if min_crops is None else min_crops,
                progress=progress,
            )
    except KeyboardInterrupt as error:
        print(f"celstream: {stopped(error, workdir, before)}", file=sys.stderr)
        raise
    print(json.dumps(result.as_json()) if json_ else result.as_text())


def stopped(error: KeyboardInterrupt, workdir: Path, before: EmbeddingSet | None) -> str:
    """What Ctrl-C left, and what goes on from there. ``before``: the adapted embeddings that were there."""
    from stream.adapt.detector_again import StoppedAfterwards
    from stream.embeddings import find

    if isinstance(error, StoppedAfterwards):
        return str(error)
    found = find(workdir)
    if found == before:
        return "stopped; what was there stays as it was, and the same command begins anew"
    if found is None:
        return (
            "stopped; the adapted embeddings of before were being replaced and are gone, and the same command"
            " makes them anew"
        )
    return (
        f"stopped; the adapted embeddings are written, and `celstream cluster {workdir}` groups by them; the"
        " same command begins anew"
    )
