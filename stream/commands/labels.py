"""``celstream labels``: check and convert label files. The work is in ``engines/train/labels``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from stream.commands.options import AsJson
from stream.errors import EXIT_DONE, EXIT_QUARANTINED

if TYPE_CHECKING:
    from engines.train.labels import Conversion, ReadOptions
    from engines.train.labels.convert import Form

labels_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Check and convert labels: DarkNet text (YOLO), PASCAL VOC, COCO, and celstream's own CSV.",
)
_SHOWN = 20  # problems told on stderr; all are in the output folder, in --json, and listed by `check`

Data = Annotated[Path, typer.Argument(metavar="DATA", help="Folder with labels, or the label file in it.")]
FormName = Literal["auto", "darknet", "voc", "coco", "csv"]
From = Annotated[FormName, typer.Option("--from", help="Format of DATA, where it cannot be told.")]
Images = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="The images (or, for CSV, videos), where they are not with the labels."
    ),
]
Names = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Class names, one a line, or a data.yaml. (default: found in DATA)"),
]
Unlabelled = Annotated[
    Literal["leave-out", "background"],
    typer.Option(help="Images without labels: leave them out, or take them as pictures with nobody in them."),
]
LabelsOnly = Annotated[
    bool,
    typer.Option("--labels-only", help="Take labels whose images are not there, by the sizes they tell."),
]
VocOrigin = Annotated[
    Literal["1", "0"],
    typer.Option(help="0 for VOC files whose pixels count from 0, as LabelImg and CVAT write them."),
]


@labels_app.command()
def check(
    data: Data,
    from_: From = "auto",
    images: Images = None,
    names: Names = None,
    unlabelled: Unlabelled = "leave-out",
    labels_only: LabelsOnly = False,
    voc_origin: VocOrigin = "1",
    json_: AsJson = False,
) -> None:
    """List everything that is wrong with labels; nothing is written. Exit code 3 when something is."""
    from engines.train.labels import check as check_labels

    options = _options(images, names, unlabelled, labels_only, voc_origin)
    found = check_labels(data, form=_form(from_), options=options)
    if json_:
        print(json.dumps(found.as_json()))
    else:
        print(_counted(found))
        if len(found.problems):
            print(found.problems.as_text())
    raise typer.Exit(EXIT_QUARANTINED if found.problems.serious() else EXIT_DONE)


@labels_app.command()
def convert(
    data: Data,
    to: Annotated[Literal["darknet", "voc", "coco", "csv"], typer.Option(help="Format to write.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FOLDER", help="New, empty, or written by a former conversion."),
    ],
    from_: From = "auto",
    images: Images = None,
    names: Names = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing if anything would be clipped or left out.")
    ] = False,
    unlabelled: Unlabelled = "leave-out",
    labels_only: LabelsOnly = False,
    voc_origin: VocOrigin = "1",
    voc_fractions: Annotated[
        bool, typer.Option("--voc-fractions", help="Write decimals to VOC, which has whole pixels.")
    ] = False,
    one_class: Annotated[
        str | None, typer.Option(metavar="NAME", help="Put all boxes into one class of this name.")
    ] = None,
    val: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of images for validation; frames of a video stay together, or in runs where there are"
            " few videos.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed draws other videos for validation.")] = 0,
    link: Annotated[
        Literal["copy", "hardlink", "symlink"], typer.Option(help="How images come into the output folder.")
    ] = "copy",
    json_: AsJson = False,
) -> None:
    """Convert labels, with their images.

    Boxes that stick out are clipped, what cannot be used is left out, and all of it is listed. DATA is only
    read. Exit code 3 when something could not be used and was left out; frames that the labels mark as
    credits or uncertain are left out without it. The whole list is in FOLDER/problems.jsonl.
    """
    from engines.train.labels import convert as convert_labels

    done = convert_labels(
        data,
        to,
        out,
        form=_form(from_),
        options=_options(images, names, unlabelled, labels_only, voc_origin),
        strict=strict,
        val=val,
        seed=seed,
        one_class=one_class,
        copy=link,
        voc_fractions=voc_fractions,
    )
    if json_:
        print(json.dumps(done.as_json()))
    else:
        print(f"{_counted(done)} -> {out}")
    if len(done.problems):
        print(done.problems.as_text(_SHOWN), file=sys.stderr)
        if len(done.problems) > _SHOWN:
            print(f"All of them: {out / 'problems.jsonl'}", file=sys.stderr)
    raise typer.Exit(EXIT_QUARANTINED if done.problems.left_out() else EXIT_DONE)


def _form(name: FormName) -> Form | None:
    return None if name == "auto" else name


def _options(
    images: Path | None,
    names: Path | None,
    unlabelled: Literal["leave-out", "background"],
    labels_only: bool,
    voc_origin: Literal["1", "0"],
) -> ReadOptions:
    from engines.train.labels import ReadOptions

    origin = cast(Literal[0, 1], int(voc_origin))
    return ReadOptions(images, names, unlabelled, labels_only, origin)


def _counted(found: Conversion) -> str:
    classes = "class" if len(found.classes) == 1 else "classes"
    splits = ", ".join(f"{count} {name}" for name, count in found.splits.items())
    told = f" ({splits})" if splits else ""
    return f"{found.form}: {found.images} images{told}, {found.boxes} boxes, {len(found.classes)} {classes}"
