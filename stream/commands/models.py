"""``celstream models``: the networks there are, and fetching one."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from stream.errors import ConfigError, DependencyError

models_app = typer.Typer(
    rich_markup_mode=None, help="List the networks that come with celstream; fetch others."
)


@models_app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    json_: Annotated[bool, typer.Option("--json", help="Print a JSON list on stdout, for programs.")] = False,
) -> None:
    """List the networks that come with celstream: licence, input, figures, hash; and what can be fetched."""
    from engines.models import list_downloads, list_models

    if context.invoked_subcommand is not None:
        return
    found = list_models()
    if json_:
        rows = [asdict(model) | {"state": "packaged"} for model in found]
        rows += [asdict(other) | {"path": other.path, "state": other.state} for other in list_downloads()]
        print(json.dumps(rows, default=str))
        return
    for model in found:
        print(f"{model.name} ({model.kind}), {model.path.stat().st_size / 1e6:.1f} MB, {model.licence}")
        print(f"  input {model.input}\n  sha256 {model.sha256}")
        for name, value in model.figures.items():
            print(f"  {name}: {value}")
    for other in list_downloads():
        fetch = f"celstream models pull {other.name}"
        state = {
            "here": f"here: {other.path}",
            "fetched": f"its weights are here; {fetch} makes the network of them",
            "cut off": f"its weights were cut off on the way; {fetch} goes on",
            "not here": fetch,
        }[other.state]
        print(f"{other.name} ({other.kind}), {other.licence}\n  input {other.input}\n  {state}")


@models_app.command()
def pull(
    name: Annotated[str, typer.Argument(help="As `celstream models` lists it.")],
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Weights fetched elsewhere, in place of the network.")
    ] = None,
) -> None:
    """Fetch weights, check them, and make the network that `celstream run --embedder NAME` takes.

    A fetch that was cut off goes on where it was.
    """
    from engines.models import list_downloads
    from engines.models.pull import adopt, download
    from engines.runtime import EngineError
    from stream.networks import translated

    known = {entry.name: entry for entry in list_downloads()}
    if name not in known:
        raise ConfigError(f"models pull {name}: expected one of {', '.join(known)}")
    wanted = known[name]
    weights = wanted.weights
    try:
        if file is not None:
            adopt(file, weights, wanted.sha256)
        else:
            print(f"{wanted.url}\n{wanted.licence}", file=sys.stderr)
            download(wanted.url, weights, wanted.sha256, on_bytes=_Line())
    except EngineError as error:
        raise translated(error) from error
    if wanted.path.is_file() and wanted.path.stat().st_mtime >= weights.stat().st_mtime:
        print(wanted.path)
        return
    missing = [
        package for package in ("torch", "onnx", "onnxscript", "onnxruntime") if not find_spec(package)
    ]
    if missing:
        raise DependencyError(
            f"{weights} is here and whole; making the network of it needs {', '.join(missing)}, not"
            " installed: pip install 'celstream[cpu,train]', and run the same command again"
        )
    from engines.train.densenet import export, load

    export(load(wanted.architecture, weights), wanted.path, facts={"license": wanted.licence})
    print(wanted.path)


class _Line:
    """Bytes so far, on one line of a terminal; nothing elsewhere."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, have: int, total: int | None) -> None:
        now = time.monotonic()
        over = have == total
        if sys.stderr.isatty() and (over or now - self._last > 0.2):
            self._last = now
            of = f" of {total / 1e6:.1f}" if total else ""
            print(f"\r{have / 1e6:.1f}{of} MB", end="\n" if over else "", file=sys.stderr, flush=True)
