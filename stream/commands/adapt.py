"""The command ``celstream adapt``: its options, and what it says."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stream.commands.options import AsJson, Log, Seed, Workdir
from stream.errors import ConfigError

if TYPE_CHECKING:
    from stream.adapt.embedding import AdaptSummary


def adapt(
    workdir: Workdir,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Longest time to train. Raising it learns more of a large show. (default: 3, the detector 4)"
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
        int, typer.Option(min=2, help="Refuse with fewer different crops: too few to learn from.")
    ] = 300,
    json_: AsJson = False,
    log: Log = "auto",
) -> None:
    """Adapt the embedding to the show at hand, without labels, and cluster again with it.

    Takes minutes on a CPU. What was there is kept where the adapted embedding is no better by what tracks and
    frames say; names are taken over. With --detector it is the detector that learns the show, from windows of
    the sources, and is kept where it is better on windows held out.
    """
    from stream.adapt.detector import DetectorSummary, adapt_detector
    from stream.adapt.embedding import adapt as adapt_show
    from stream.progress import make_progress

    progress = make_progress(log)
    if detector and from_ != "default":
        raise ConfigError("--from scratch: the detector has too little of one show to start from nothing")
    result: AdaptSummary | DetectorSummary
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
                min_crops=min_crops,
                progress=progress,
            )
    except KeyboardInterrupt:
        print("celstream: stopped; nothing is lost, and the same command goes on", file=sys.stderr)
        raise
    print(json.dumps(result.as_json()) if json_ else result.as_text())
