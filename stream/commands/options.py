"""Options that several commands have, the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Workdir = Annotated[Path, typer.Argument(metavar="WORKDIR", help="Work folder that `celstream run` made.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, for programs.")]
Log = Annotated[
    Literal["auto", "rich", "json", "quiet"],
    typer.Option(help="How progress is told on stderr: a bar, JSON lines for a server, or nothing."),
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same weights on the same machine.")]
