"""A DenseNet of torchvision's names as an embedder: ``python -m engines.train.densenet --help``.

Takes a state dict (``.pth``) that a user has, of DenseNet-121 or -161, under today's or the first published
names, and writes an ONNX file for ``celstream run --embedder``. The embedding is the average over the picture
after the last normalization and ReLU; the classifier is left out. The normalization that ImageNet's weights
expect is in the file, so that its input is RGB in 0..1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import pickle
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stream.errors import CelstreamError, ConfigError, DependencyError, ModelError
from stream.packages import need

try:
    need(("torch", "onnx", "onnxscript", "onnxruntime"), "the export", "pip install 'celstream[cpu,train]'")
except DependencyError as missing:
    if __name__ != "__main__":
        raise
    print(f"error: {missing}", file=sys.stderr)
    sys.exit(2)

import onnx
import torch
from torch import Tensor, nn

from engines.nets.densenet import DenseNet, current_names, densenet121, densenet161
from engines.train.views import MEAN, STD

ARCHITECTURES: dict[str, Callable[..., DenseNet]] = {"densenet121": densenet121, "densenet161": densenet161}
SIZE = 224  # that ImageNet's weights were trained at
TOLERANCE = 1e-4  # of an embedding's length
_TOLD = 3  # keys that an error names
_WRAPPED = ("state_dict", "model_state_dict", "model", "net")  # where training scripts put the weights
_COUNTER = "num_batches_tracked"  # which the first published files do not have, and nothing here needs


class ImageEmbedder(nn.Module):
    """``(N, 3, S, S)`` RGB in 0..1 -> ``(N, D)``, not negative: the average over the last feature maps."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: DenseNet) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(STD)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        # Not folded into the first convolution: its zero padding is the mean's colour, not black.
        return self.net.embed((x - self.mean) / self.std)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """A state dict under today's names.

    What wraps it (``{"state_dict": ...}``, names that begin with ``module.``) is taken off.

    Raises:
        ConfigError: no such file, or none that torch reads without running code, or no state dict.
    """
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; give a state dict that torch.save wrote") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ConfigError(
            f"{path}: expected a state dict, names to tensors, found {_what_it_is(error)}; write it with"
            " torch.save(model.state_dict(), FILE)"
        ) from error
    for key in _WRAPPED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not (isinstance(found, Mapping) and found and all(isinstance(v, Tensor) for v in found.values())):
        raise ConfigError(
            f"{path}: expected a state dict, names to tensors, found {type(found).__name__}; write it with"
            " torch.save(model.state_dict(), FILE)"
        )
    return current_names({str(name).removeprefix("module."): value for name, value in found.items()})


def _what_it_is(error: Exception) -> str:
    """Why torch does not read a file, without torch's own advice, which is to let it run code."""
    if isinstance(error, OSError):
        return f"a file that cannot be read ({error.strerror or type(error).__name__})"
    if not isinstance(error, pickle.UnpicklingError):
        return "a file that is damaged, or is of another program"
    held = re.search(r"GLOBAL ([A-Za-z_][\w.]*)", str(error))
    if held is None:
        return "a file that torch.save did not write, or more than tensors in it"
    return f"a file that holds {held[1]} (a whole model?), which is not read since it could run any code"


def load(arch: str, path: str | Path) -> DenseNet:
    """The network ``arch`` with the weights of a file, in evaluation mode, without a classifier.

    Raises:
        ConfigError: not such an architecture, no state dict, or one of another network; the first names that
            are missing, unknown or of another shape are named.
    """
    if arch not in ARCHITECTURES:
        raise ConfigError(f"--arch {arch}: expected one of {', '.join(ARCHITECTURES)}")
    state = read_weights(path)
    net = ARCHITECTURES[arch](classes=0)
    wanted = net.state_dict()
    weights = {name: value for name, value in state.items() if not name.startswith("classifier.")}
    missing = [name for name in wanted if name not in weights and not name.endswith(_COUNTER)]
    strange = [name for name in weights if name not in wanted]
    other = [
        f"{name} {tuple(value.shape)} (expected {tuple(wanted[name].shape)})"
        for name, value in weights.items()
        if name in wanted and value.shape != wanted[name].shape
    ]
    for what, names in (("missing", missing), ("of another shape", other), ("unknown", strange)):
        if names:
            raise ConfigError(
                f"{path}: expected the weights of {arch}, found {len(names)} names {what}:"
                f" {_listed(names)}; give the --arch they were trained as"
            )
    bad = [
        name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()
    ]
    if bad:
        raise ConfigError(f"{path}: expected finite weights, found others in {_listed(bad)}")
    net.load_state_dict(weights, strict=False)  # as checked; the counters may be missing
    return net.eval()


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return ", ".join(names[:_TOLD]) + more


def export(net: DenseNet, path: Path, size: int = SIZE, facts: Mapping[str, str] | None = None) -> float:
    """Write the embedder to ``path`` (by rename) and check it in ONNX Runtime.

    ``images`` float32 (N, 3, size, size), RGB in 0..1 -> ``embedding`` (N, D), any N. Returns the largest
    difference to torch as a share of an embedding's length.

    Raises:
        ModelError: that is above 1e-4; nothing is written.
    """
    embedder = ImageEmbedder(net).eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            embedder,
            (torch.zeros(2, 3, size, size),),
            input_names=["images"],
            output_names=["embedding"],
            dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    metadata = {
        "imgsz": str([size, size]),
        "mean": "[0.0, 0.0, 0.0]",
        "std": "[1.0, 1.0, 1.0]",
        "task": "embed",
        "color": "RGB, 0..1; ImageNet's mean and deviation are taken off inside",
        "license": "as the weights have it",
        **(facts or {}),
    }
    onnx.helper.set_model_props(model, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".part{os.getpid()}")
    try:
        onnx.save(model, str(part))
        worst = compare(embedder, part, size)
        if not worst <= TOLERANCE:
            raise ModelError(
                f"{path}: ONNX Runtime and torch differ by {worst:.2e} of an embedding's length, at most"
                f" {TOLERANCE:.0e} expected; nothing was written"
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return worst


@torch.no_grad()
def compare(embedder: nn.Module, path: Path, size: int) -> float:
    """Largest difference between torch and ONNX Runtime over batches of one and three noise pictures, as a
    share of the embedding's length."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for count in (1, 3):
        images = torch.rand(count, 3, size, size, generator=generator)
        want = embedder(images).numpy()
        got = session.run(["embedding"], {"images": images.numpy()})[0]
        length = np.maximum(np.linalg.norm(want, axis=1), 1e-12)
        worst = max(worst, float((np.linalg.norm(got - want, axis=1) / length).max()))
    return worst


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and export; 0, or 2 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m engines.train.densenet", description=__doc__)
    parser.add_argument("--arch", required=True, choices=sorted(ARCHITECTURES))
    parser.add_argument("--weights", required=True, type=Path, help="state dict (.pth) of that network")
    parser.add_argument("--out", required=True, type=Path, help="ONNX file to write")
    parser.add_argument(
        "--size",
        type=int,
        default=SIZE,
        help="side of the crops; raising it is slower (default: %(default)s)",
    )
    given = parser.parse_args(arguments)
    try:
        if given.size < 32:
            raise ConfigError(f"--size: expected 32 or more, got {given.size}")
        if given.out.suffix.lower() != ".onnx":
            raise ConfigError(f"--out {given.out}: expected a file name that ends in .onnx")
        net = load(given.arch, given.weights)
        facts = {"architecture": given.arch, "weights": given.weights.name}
        worst = export(net, given.out, given.size, facts)
    except (CelstreamError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"{given.out}: {given.arch}, {given.size} px -> {net.dimensions}; differs from torch by {worst:.1e}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
