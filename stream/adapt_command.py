"""The command ``celstream adapt``: its options, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer


def adapt(
    workdir: Annotated[
        Path, typer.Argument(metavar="WORKDIR", help="Work folder that `celstream run` made.")
    ],
    minutes: Annotated[
        float, typer.Option(help="Longest time to train. Raising it learns more of a large show.")
    ] = 3.0,
    from_: Annotated[
        Literal["default", "scratch"],
        typer.Option("--from", help="Start with the weights that come with celstream, or with none."),
    ] = "default",
    seed: Annotated[int, typer.Option(help="The same seed gives the same weights on the same machine.")] = 0,
    min_crops: Annotated[
        int, typer.Option(help="Refuse with fewer different crops: too few to learn from.")
    ] = 300,
    json_: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on stdout, for programs.")
    ] = False,
    log: Annotated[
        Literal["auto", "rich", "json", "quiet"],
        typer.Option(help="How progress is told on stderr: a bar, JSON lines for a server, or nothing."),
    ] = "auto",
) -> None:
    """Adapt the embedding to the show at hand, without labels, and cluster again with it.

    Takes minutes on a CPU. What was there is kept where the adapted embedding is no better by what tracks and
    frames say; names are taken over.
    """
    from stream.adapt import adapt as adapt_show
    from stream.progress import make_progress

    result = adapt_show(
        workdir, minutes=minutes, start=from_, seed=seed, min_crops=min_crops, progress=make_progress(log)
    )
    print(json.dumps(result.as_json()) if json_ else result.as_text())
