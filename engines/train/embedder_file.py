"""The embedder as an ONNX file with the metadata that the pipeline needs."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from engines.train.folded import fill, folded_densenet
from engines.train.quiet import quiet_export
from engines.train.views import MEAN, SIDE, STD

if TYPE_CHECKING:
    from engines.train.embedder import Embedder

CREDITS = (
    "Big Buck Bunny (c) 2008 Blender Foundation, www.bigbuckbunny.org, CC BY 3.0; "
    "Sintel (c) Blender Foundation, durian.blender.org, CC BY 3.0; "
    "Pepper&Carrot universe by David Revoy, game art by Anna Dorokhova, CC BY 4.0; "
    "Popeye the Sailor Meets Sindbad the Sailor (1936), public domain"
)


def export(embedder: Embedder, path: Path, facts: dict[str, Any], graph: Path | None = None) -> None:
    """The embedder as ONNX, dynamic batch: ``images`` (N, 3, 64, 64) -> ``embedding`` (N, D); atomic.

    Args:
        facts: what the file's metadata says besides what the pipeline needs.
        graph: a file that this function wrote of the same architecture. Its graph is taken with these weights
            in it, at once; a trace takes ten seconds.

    Raises:
        ValueError: ``graph`` is of another architecture.
    """
    import onnx

    embedder = copy.deepcopy(embedder).eval().to(memory_format=torch.contiguous_format)
    if graph is None:
        model = _traced(embedder)
    else:
        model = onnx.load(str(graph))
        fill(model, embedder, folded_densenet)
    metadata = {
        "imgsz": json.dumps([SIDE, SIDE]),
        "mean": json.dumps(MEAN),
        "std": json.dumps(STD),
        "task": "embed",
        "fit": "pad",
        "margin": "0.08",
        "color": "RGB, 0..1, then (x - mean) / std",
        "author": "celstream",
        "license": "Apache-2.0",
        "credits": CREDITS,
        **{k: str(v) for k, v in facts.items()},
    }
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    onnx.save(model, part)
    part.replace(path)


def _traced(embedder: Embedder) -> Any:
    batch = torch.export.Dim("N", min=1)
    with quiet_export():
        program = torch.onnx.export(
            embedder,
            (torch.zeros(2, 3, SIDE, SIDE),),
            input_names=["images"],
            output_names=["embedding"],
            dynamic_shapes=({0: batch},),
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    return program.model_proto
