"""The command line. Results go to stdout, everything said on the way to stderr.

Exit codes: 0 done, 1 a defect of ours, 2 usage or config, 3 done with quarantined inputs, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from stream.commands.adapt import adapt as adapt_command
from stream.commands.engines import engines_app
from stream.commands.labels import labels_app
from stream.commands.models import models_app
from stream.commands.options import AsJson, Log, Workdir
from stream.commands.train import train_app
from stream.errors import EXIT_DEFECT, EXIT_INTERRUPTED, EXIT_USAGE, CelstreamError, ConfigError

app = typer.Typer(
    name="celstream",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Turn animation and broadcast archives into clusters of characters.\n\n"
    "Start with `celstream demo`, or `celstream run VIDEO -o WORK` and open WORK/report.html.",
    rich_markup_mode=None,
)
app.add_typer(labels_app, name="labels")
app.add_typer(train_app, name="train")
app.add_typer(engines_app, name="engines")
app.add_typer(models_app, name="models")

Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Any config key, as in --set detector.score=0.4. Repeatable."
    ),
]
Clusters = Annotated[
    str | None,
    typer.Option(
        metavar="MIN:MAX", help="Wanted number of clusters; the strength is searched until it fits."
    ),
]
Strength = Annotated[
    float | None,
    typer.Option(help="Fixed cluster determination strength, 0..1: higher gives more, purer clusters."),
]


def _config(file: str | None, assignments: list[str] | None, values: dict[str, Any]) -> Any:
    from stream.config import load_config

    return load_config(file, assignments or (), {k: v for k, v in values.items() if v not in (None, {})})


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


@app.command()
def run(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Videos, images, folders, patterns, playlists or URLs."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="WORKDIR", help="Where results go; resumed if it exists.")
    ],
    config: Annotated[
        str | None, typer.Option(metavar="FILE", help="YAML file, or a name in configs/.")
    ] = None,
    set_: Assignments = None,
    interval: Annotated[
        float | None, typer.Option(help="Seconds between frames. Higher is faster, sees less. (default: 1)")
    ] = None,
    sampling: Annotated[
        Literal["interval", "keyframes", "scene"] | None,
        typer.Option(help="Which frames are looked at. (default: interval)"),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(metavar="ONNX", help="Your detector: YOLOv5/v8/v11, YOLOX, SSD, Faster R-CNN."),
    ] = None,
    embedder: Annotated[
        str | None, typer.Option(metavar="ONNX", help="Your embedder: any (N,3,H,W) to (N,D); or gist.")
    ] = None,
    boxes: Annotated[
        str | None, typer.Option(metavar="CSV", help="Use these boxes in place of a detector.")
    ] = None,
    clusters: Clusters = None,
    strength: Strength = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"] | None,
        typer.Option(help="A GPU where there is one; 'cuda' makes its absence an error. (default: auto)"),
    ] = None,
    engine: Annotated[
        Literal["auto", "tensorrt", "onnx", "torch"] | None,
        typer.Option(help="What runs the networks; auto: the fastest that works here. (default: auto)"),
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "fp16", "int8"] | None,
        typer.Option(
            help="Of both networks. Lower is faster on a GPU and less exact; auto: fp16 on a GPU, fp32 on a"
            " CPU. int8 needs `celstream engines build --precision int8` once. (default: auto)"
        ),
    ] = None,
    adapt: Annotated[
        Literal["auto", "on", "off"] | None,
        typer.Option(
            help="Adapt the embedding to the show before clustering, in minutes, without labels; auto:"
            " where there are 300 different crops and torch is installed. (default: auto)"
        ),
    ] = None,
    json_: AsJson = False,
    log: Log = "auto",
) -> None:
    """Find the characters in videos and images: decode, detect, crop, embed, cluster, report.

    Run it again to do only what is missing. Ctrl-C once finishes the batch in work and keeps every whole
    segment; twice stops at once.
    """
    from stream.progress import make_progress
    from stream.run_job import run as run_job

    settings = _config(
        config,
        set_,
        _given(interval=interval, sampling=sampling, boxes=boxes, device=device, engine=engine)
        | {
            "detector": _given(model=detector, precision=precision),
            "embedder": _given(model=embedder, precision=precision),
            "cluster": _given(clusters=clusters, strength=strength),
            "adapt": _given(mode=adapt),
        },
    )
    progress = make_progress(log)
    summary = run_job(
        inputs,
        out,
        settings,
        progress=progress,
        on_start=lambda stop: _stop_on_interrupt(stop, progress.note),
    )
    if json_:
        print(json.dumps(asdict(summary)))
    else:
        print(summary.as_text())
    raise typer.Exit(summary.exit_code)


def _stop_on_interrupt(stop: Callable[[], None], say: Callable[[str], None]) -> None:
    """Ctrl-C (or a server's SIGTERM) once stops softly, twice at once; files are whole either way."""
    asked = False

    def handle(_signal: int, _frame: Any) -> None:
        nonlocal asked
        if asked:
            # not through sys.stderr: the line may be half-written that the signal came upon
            os.write(2, b"celstream: stopped at once; the segment in work is lost, whole ones are kept\n")
            os._exit(EXIT_INTERRUPTED)
        asked = True
        stop()
        say("stopping after the batch in work; whole segments are kept (again to stop at once)")

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@app.command()
def cluster(
    workdir: Workdir,
    clusters: Clusters = None,
    strength: Strength = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"] | None,
        typer.Option(help="As for `run`, for this time alone. (default: the last run's)"),
    ] = None,
    set_: Assignments = None,
    json_: AsJson = False,
) -> None:
    """Cluster again with another range or strength. Segments are not touched, names are taken over."""
    from stream.cluster_job import cluster as cluster_job
    from stream.config import assigned

    others = [a for a in set_ or [] if not a.startswith("cluster.")]
    if others:
        raise ConfigError(
            f"--set {others[0]}: only cluster.* keys matter here; `celstream run` takes the others"
        )
    settings = assigned(set_ or ()).get("cluster")
    table = cluster_job(workdir, clusters=clusters, strength=strength, settings=settings, device=device)
    for message in table.meta["messages"]:
        print(message, file=sys.stderr)
    if json_:
        about = {key: value for key, value in table.meta.items() if key != "segments"}
        print(json.dumps(about | {"id": table.id}))
    else:
        meta = table.meta
        counted = _count(meta["clusters"], "cluster")
        print(f"{counted}, strength {meta['strength']:.3f}. See {workdir / 'report.html'}")


app.command()(adapt_command)


@app.command()
def name(
    workdir: Workdir,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NUMBER=NAME]...",
            help='As in 3=Bunny 5="Frank the squirrel"; 3= removes a name. Without any, names are listed.',
        ),
    ] = None,
    json_: AsJson = False,
) -> None:
    """Name characters by their numbers in the report, or list them.

    Two numbers may have one name: they are the same character. Names outlive clustering again.
    """
    from stream.names import list_characters, name_characters

    given = dict(_numbered(assignment) for assignment in names or [])
    found = name_characters(workdir, given) if given else list_characters(workdir)
    if json_:
        print(json.dumps([asdict(character) for character in found]))
        return
    width = max([len(c.name) for c in found], default=0)
    for c in found:
        print(f"{c.number:4}  {c.name or '-':{max(width, 1)}}  {_count(c.crops, 'crop')}")


@app.command()
def forget(
    workdir: Workdir,
    videos: Annotated[
        list[str] | None,
        typer.Argument(metavar="[VIDEO]...", help="Names as in the report, paths, URLs or file names."),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Also every video whose file is not there any more.")
    ] = False,
    json_: AsJson = False,
) -> None:
    """Take videos out of a work folder and cluster the rest again. The videos themselves stay."""
    from stream.forget import forget as forget_videos

    if not videos and not prune:
        raise ConfigError("forget: name the videos to take out, or give --prune for those that are gone")
    gone = forget_videos(workdir, videos or [], prune=prune)
    if json_:
        print(json.dumps([asdict(video) for video in gone]))
        return
    for video in gone:
        print(f"forgot {video.name or video.uri} ({_count(video.crops, 'crop')})")
    if not gone:
        print("Every video is where it was; nothing to forget.")


def _numbered(assignment: str) -> tuple[int, str]:
    number, equals, name = assignment.partition("=")
    if not equals or not number.strip().isdecimal():
        raise ConfigError(f"{assignment}: expected NUMBER=NAME, for example 3=Bunny")
    return int(number), name


@app.command()
def report(workdir: Workdir) -> None:
    """Write report.html again from what is in the work folder."""
    from stream.report import write_report

    print(write_report(workdir))


@app.command()
def evaluate(
    workdir: Workdir,
    labels: Annotated[
        Path, typer.Option(metavar="CSV", help="Boxes with identities; the format is in stream/labels.py.")
    ],
    json_: AsJson = False,
) -> None:
    """Score detections and clusters against labelled boxes."""
    from stream.evaluate_job import evaluate_folder

    scores = evaluate_folder(workdir, labels)
    if json_:
        print(json.dumps(scores.as_json()))
    else:
        print(scores.as_text())


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the episode and results go.")
    ] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Another seed is another episode with another cast.")] = 0,
    seconds: Annotated[float, typer.Option(help="Length of the episode.")] = 60.0,
    characters: Annotated[int, typer.Option(help="Size of the cast.")] = 5,
    json_: AsJson = False,
    log: Log = "auto",
) -> None:
    """Render a cartoon episode, find its characters, and score them against the truth.

    Without show adaptation, which takes minutes.
    """
    from stream.demo import run_demo
    from stream.progress import make_progress

    result = run_demo(out, seed=seed, seconds=seconds, characters=characters, progress=make_progress(log))
    print(json.dumps(result.as_json()) if json_ else result.as_text())
    raise typer.Exit(result.exit_code)


@app.command()
def doctor(json_: AsJson = False) -> None:
    """Show what this machine has, what will be used, and how to get what is missing."""
    from stream.doctor import examine

    checks = examine()
    if json_:
        print(json.dumps([asdict(check) for check in checks]))
        return
    for check in checks:
        mark = "ok     " if check.ok else "missing"
        print(
            f"{mark}  {check.name}: {check.found}" + (f"\n         -> {check.advice}" if check.advice else "")
        )


def _version(wanted: bool) -> None:
    if wanted:
        from stream.version import VERSION

        print(f"celstream {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


# the parser's own errors, wherever this version of typer has them from
_ParserError: Any = typer.BadParameter.__mro__[2]


def _usage(error: Any) -> str:
    """A usage error in one line, and where help is."""
    command = error.ctx.command_path if getattr(error, "ctx", None) else "celstream"
    message = " ".join(error.format_message().split()).replace("Value error, ", "")
    return f"celstream: {message.rstrip('.')}\nTry `{command} --help`."


def main() -> None:
    """Entry point: every expected error is one line and an exit code, a defect is a traceback and code 1."""
    try:
        sys.exit(app(prog_name="celstream", standalone_mode=False))
    except _ParserError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
        else:
            print(_usage(error), file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except typer.Abort:
        sys.exit(EXIT_INTERRUPTED)
    except CelstreamError as error:
        print(f"celstream: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `celstream models | head`
        sys.exit(0)
    except Exception:
        traceback.print_exc()
        print(
            "celstream: this is a defect of celstream; please report it with the lines above", file=sys.stderr
        )
        sys.exit(EXIT_DEFECT)


if __name__ == "__main__":
    main()
