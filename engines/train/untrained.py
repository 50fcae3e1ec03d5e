"""Networks with random weights, for measuring speed: ``python -m engines.train.untrained --help``.

What a network finds depends on its weights, how fast it is does not. These find nothing: they show what an
engine makes of the architectures at their full size, before anybody trains or fetches weights.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import nn

from engines.nets.densenet import densenet161
from engines.nets.yolo import Yolo


@dataclass(frozen=True)
class Untrained:
    """An architecture: how it is made, the sides of its square input, and the name of its output."""

    make: Callable[[], nn.Module]
    side: int
    output: str
    metadata: dict[str, str]


_YOLO = {"task": "detect", "stride": "32", "names": "{0: 'character', 1: 'face'}"}
NETWORKS = {
    # channels and depth about those of other detectors' middle sizes
    "yolo-640": Untrained(lambda: Yolo(2, (32, 64, 128, 256, 512), 2, 128), 640, "output0", _YOLO),
    "densenet161": Untrained(lambda: densenet161(classes=0), 224, "embedding", {"task": "embed"}),
}


def export(name: str, path: Path, seed: int = 0) -> Path:
    """Write a network of :data:`NETWORKS`: ``images`` float32 (N, 3, S, S), RGB in 0..1, any N."""
    wanted = NETWORKS[name]
    torch.manual_seed(seed)
    net = wanted.make().eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            net,
            (torch.zeros(2, 3, wanted.side, wanted.side),),
            input_names=["images"],
            output_names=[wanted.output],
            dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    size = {"imgsz": str([wanted.side, wanted.side]), "mean": "[0.0, 0.0, 0.0]", "std": "[1.0, 1.0, 1.0]"}
    about = {"description": f"{name} with random weights, for measuring speed: it finds nothing"}
    onnx.helper.set_model_props(model, wanted.metadata | size | about)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    onnx.save_model(model, str(part))
    part.replace(path)
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and write the file; 0."""
    parser = argparse.ArgumentParser(prog="python -m engines.train.untrained", description=__doc__)
    parser.add_argument("--net", required=True, choices=sorted(NETWORKS))
    parser.add_argument("--out", required=True, type=Path, help="ONNX file to write")
    parser.add_argument("--seed", type=int, default=0, help="other random weights")
    given = parser.parse_args(arguments)
    path = export(given.net, given.out, given.seed)
    print(f"{path}: {given.net} with random weights, {path.stat().st_size / 1e6:.1f} MB; it finds nothing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
