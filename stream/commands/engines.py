"""``celstream engines``: networks built for this machine, what is kept of them, and how well they agree."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stream.commands.options import AsJson
from stream.errors import ConfigError

if TYPE_CHECKING:
    from engines.runtime.precision import Precision
    from stream.engine_tools.check import Kind, Row
    from stream.engine_tools.samples import Samples

engines_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Build, list and compare what runs the networks: TensorRT, ONNX Runtime, torch.",
)

_Detector = Annotated[
    str | None, typer.Option(metavar="ONNX", help="This detector. (default: the default one)")
]
_Embedder = Annotated[
    str | None, typer.Option(metavar="ONNX", help="This embedder. (default: the default one)")
]


@engines_app.command()
def build(
    detector: _Detector = None,
    embedder: _Embedder = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"],
        typer.Option(help="Lower is faster and less exact; `engines check` says by how much."),
    ] = "fp16",
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="WORKDIR",
            help="int8: learn its scales from the crops and frames of this work folder. (default: those"
            " kept, else a drawn episode)",
        ),
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=2, help="int8: so many of them. Raising it takes longer.")
    ] = 128,
    anew: Annotated[bool, typer.Option("--anew", help="Build although it is there.")] = False,
    json_: AsJson = False,
) -> None:
    """Build the networks' engines now, in place of at their first use.

    Without a GPU, TensorRT-RTX builds engines for any GPU from Ampere on, and ONNX Runtime's networks are
    converted. With neither --detector nor --embedder, both defaults are built.
    """
    if calibration is not None and precision != "int8":
        raise ConfigError(f"--calibration: only int8 learns scales, --precision is {precision}")
    done = [
        _build(kind, model, precision, calibration, pictures, anew, tell=not json_)
        for kind, model in _chosen(detector, embedder)
    ]
    if json_:
        print(json.dumps(done))


def _check_kind(kind: Kind, model: str) -> None:
    """Raise ModelError where the network is none of this kind, as a run would."""
    from stream.config import DetectorConfig, EmbedderConfig
    from stream.detect import Detector
    from stream.embed import Embedder

    station: Detector | Embedder
    if kind == "detector":
        station = Detector(DetectorConfig(model=model), device="cpu")
    else:
        station = Embedder(EmbedderConfig(model=model), device="cpu")
    station.close()


def _chosen(detector: str | None, embedder: str | None) -> list[tuple[Kind, str]]:
    if detector is None and embedder is None:
        return [("detector", "default"), ("embedder", "default")]
    found: list[tuple[Kind, str]] = [] if detector is None else [("detector", detector)]
    return found if embedder is None else [*found, ("embedder", embedder)]


def _build(
    kind: Kind,
    model: str,
    precision: Precision,
    workdir: Path | None,
    pictures: int,
    anew: bool,
    tell: bool,
) -> dict[str, Any]:
    from engines.models import resolve
    from engines.runtime import EngineError, MissingRuntimeError
    from engines.runtime.precision import prepare
    from engines.runtime.progress import BuildLine, lasting
    from engines.runtime.tensorrt import get_plan
    from stream.networks import translated

    def say(message: str) -> None:
        if tell:
            print(message)

    def note(message: str) -> None:
        print(message, file=sys.stderr)

    try:
        file = resolve(model, kind)
        _check_kind(kind, model)
        result: dict[str, Any] = {"network": file.name, "kind": kind, "precision": precision}
        if precision == "int8":
            result["calibration"] = _calibrate(kind, model, file.path, workdir, pictures, anew, note)
            say(f"{file.name}: int8, calibrated on {result['calibration']}")
        result["file"] = str(prepare(file.path, precision).path)
        try:
            plan = get_plan(
                file.path,
                precision,
                anew=anew,
                on_progress=BuildLine(),
                say=note,
            )
        except MissingRuntimeError as error:
            result["no_engine"] = str(error)
            say(f"{file.name}: {precision} for ONNX Runtime and torch is {result['file']}; {error}")
            return result
    except EngineError as error:
        raise translated(error) from error
    about = plan.about
    result |= {
        "engine": about["engine"],
        "device": about["device"],
        "shapes": about["shapes"],
        "seconds": about["seconds"],
        "bytes": plan.entry.size,
        "found": not plan.entry.fresh,
        "path": str(plan.path),
    }
    made = f"built in {lasting(about['seconds'])}"
    if not plan.entry.fresh:
        made = f"found in the cache ({made} on {about['made']}; --anew builds it again)"
    say(
        f"{file.name}: {about['precision']} for {about['engine']}, {about['device']},"
        f" {'; '.join(about['shapes'])}: {plan.entry.size / 1e6:.1f} MB, {made}"
    )
    return result


def _calibrate(
    kind: Kind,
    model: str,
    path: Path,
    workdir: Path | None,
    pictures: int,
    anew: bool,
    note: Callable[[str], None],
) -> str:
    """Calibrate where that is asked for or was never done; what it was done on."""
    from engines.runtime.onnxfile import describe
    from engines.runtime.precision import calibrate, calibration
    from stream.config import DetectorConfig, EmbedderConfig
    from stream.engine_tools.samples import detector_inputs, embedder_inputs

    kept = calibration(path)
    if kept is not None and workdir is None and not anew:
        return f"{kept.about['pictures']} pictures of {kept.about['origin']}"
    samples = _samples(workdir, pictures, held_out=False)
    if kind == "embedder":
        inputs = embedder_inputs(EmbedderConfig(model=model, mirror=False), samples.crops)
    else:
        inputs = detector_inputs(DetectorConfig(model=model), samples.frames)
    if not inputs:
        raise ConfigError(
            f"{workdir}: expected videos that are still where they were, to calibrate the {kind}, found none"
        )
    name = describe(path).inputs[0].name
    note(f"{path.name}: calibrating on {len(inputs)} pictures of {samples.origin}")
    calibrate(path, [{name: array} for array in inputs], samples.origin, say=note)
    return f"{len(inputs)} pictures of {samples.origin}"


def _samples(workdir: Path | None, count: int, held_out: bool) -> Samples:
    """Pictures to calibrate with or, ``held_out``, to compare on: none is among both."""
    from stream.engine_tools.samples import of_folder, rendered

    if workdir is None:
        return rendered(count, seed=1 if held_out else 0)
    return of_folder(workdir, count, held_out=held_out)


@engines_app.command(name="list")
def list_(
    prune: Annotated[bool, typer.Option("--prune", help="Delete what is not used here any more.")] = False,
    json_: AsJson = False,
) -> None:
    """List the engines that are kept: size, precision, version, device, and whether they are still used.

    What is damaged, or is not used here any more, is told with the reason.
    """
    from stream.engine_tools.list import kept, told

    found = kept(prune=prune)
    print(json.dumps(found) if json_ else "\n".join(told(found)))


@engines_app.command()
def check(
    workdir: Annotated[
        Path | None,
        typer.Argument(
            metavar="[WORKDIR]", help="Whose crops and frames to take. (default: a drawn episode's)"
        ),
    ] = None,
    detector: _Detector = None,
    embedder: _Embedder = None,
    engine: Annotated[
        Literal["tensorrt", "onnx", "torch"] | None, typer.Option(help="Only this one. (default: all)")
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"] | None, typer.Option(help="Only this one. (default: all)")
    ] = None,
    pictures: Annotated[int, typer.Option(min=4, help="Raising it is surer and takes longer.")] = 48,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads per engine; 0 takes all cores.")] = 1,
    json_: AsJson = False,
) -> None:
    """Compare every engine and precision there is with ONNX Runtime on the CPU in float32: error and speed.

    Errors are shares of the largest output; cosines are of an embedder's vectors; boxes are the share of a
    detector's boxes that are the same. What is not calibrated for int8 is calibrated on half of the pictures
    and compared on the other half; what is, is compared on pictures that `engines build` leaves out.
    """
    from stream.engine_tools.check import compare

    samples = _samples(workdir, pictures, held_out=True)
    rows: list[Row] = []
    for kind, model in _chosen(detector, embedder):
        if not json_:
            print(f"{kind} {model}, on pictures of {samples.origin}\n{_HEADING}")
        found = compare(
            kind,
            model,
            samples,
            engines=[engine] if engine else (),
            precisions=[precision] if precision else (),
            threads=threads,
            on_row=None if json_ else _tell,
        )
        if not json_:
            _tell_skipped(found)
        rows += found
    if json_:
        print(json.dumps([asdict(row) for row in rows]))


_HEADING = (
    f"  {'engine':20} {'precision':9} {'error max':>10} {'mean':>9} {'cosine min':>10} {'mean':>8}"
    f" {'boxes':>6} {'pictures/s':>11}"
)


def _tell(row: Row) -> None:
    if not row.skipped:
        print(_line(row), flush=True)


def _tell_skipped(rows: list[Row]) -> None:
    """What has no figures, each reason once."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.skipped:
            reasons.setdefault(row.skipped, []).append(f"{row.engine} {row.device} {row.precision}")
    for reason, names in reasons.items():
        print(f"  left out: {', '.join(names)}: {reason}")


def _line(row: Row) -> str:
    """A row of the table."""
    name = f"  {f'{row.engine} {row.device}':20} {row.precision:9}"

    def cell(value: float | None, form: str, width: int) -> str:
        return f"{'' if value is None else format(value, form):>{width}}"

    return (
        f"{name} {cell(row.error_max, '.2e', 10)} {cell(row.error_mean, '.1e', 9)}"
        f" {cell(row.cosine_min, '.5f', 10)} {cell(row.cosine_mean, '.5f', 8)} {cell(row.boxes, '.3f', 6)}"
        f" {cell(row.per_second, ',.0f', 11)}" + (f"  {row.note}" if row.note else "")
    )
