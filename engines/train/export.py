"""A trained detector as an ONNX file that the pipeline, and every reader of YOLOv8 exports, can run."""

from __future__ import annotations

import copy
import math
import os
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from engines.nets.yolo import Yolo
from engines.train.folded import fill, folded_yolo
from engines.train.quiet import quiet_export

NAMES = {0: "character", 1: "face"}
IMAGE_SIZE = (192, 320)  # the working size: what most training pictures have
TOLERANCE = 1e-4  # of a score, and of a box's longer side


def calibrated(net: Yolo, score: float, to: float = 0.25) -> tuple[Yolo, float]:
    """A copy of ``net`` whose scores are moved so that what was ``score`` is ``to``; and the move in logits.

    0.25 is the pipeline's smallest score kept, so ``score`` should be the working point. The order of the
    scores does not change. Raising ``score`` makes the pipeline keep fewer boxes.
    """
    moved = copy.deepcopy(net)
    if not 0 < score < 1:
        return moved, 0.0
    shift = math.log(to / (1 - to)) - math.log(score / (1 - score))
    with torch.no_grad():
        for layer in moved.class_out:
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            layer.bias += shift
    return moved, shift


def export_detector(
    net: nn.Module,
    path: Path,
    version: str,
    extra: dict[str, str] | None = None,
    graph: Path | None = None,
) -> float:
    """Write ``net`` with free batch, height and width to ``path`` (by rename) and check it in ONNX Runtime.

    Input ``images`` float32 (N, 3, H, W), RGB 0..1, sides multiples of 32; output ``output0`` (N, 4 + C, A).
    ``graph``: a file that this function wrote of the same architecture; its graph is taken with these weights
    in it, at once; a trace takes ten seconds. Returns the largest difference to torch at three sizes, as in
    :func:`compare`. Raises RuntimeError, and writes nothing, when it is above 1e-4; ValueError when ``graph``
    is of another architecture.
    """
    net = copy.deepcopy(net).float().eval()
    if graph is None:
        model = _traced(net)
    else:
        model = onnx.load(str(graph))
        fill(model, net, folded_yolo)
    meta = {
        "names": str(NAMES),
        "stride": "32",
        "imgsz": str(list(IMAGE_SIZE)),
        "task": "detect",
        "batch": "1",
        "channels": "3",
        "author": "celstream contributors",
        "license": "Apache-2.0; training material and credits in the model card",
        "version": version,
        "description": "celstream default detector: animation characters and their faces",
        **(extra or {}),
    }
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, meta)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".part{os.getpid()}")
    try:
        onnx.save_model(model, str(part))
        worst = compare(net, part)
        if worst > TOLERANCE:
            raise RuntimeError(
                f"{path}: ONNX Runtime and torch differ by {worst:.2e}, at most {TOLERANCE:.0e} expected; "
                "nothing was written"
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return worst


def _traced(net: nn.Module) -> onnx.ModelProto:
    sample = torch.rand(2, 3, *IMAGE_SIZE)
    batch = torch.export.Dim("batch", min=1, max=1024)
    rows = torch.export.Dim("rows", min=1, max=128)
    cols = torch.export.Dim("cols", min=1, max=128)
    with quiet_export():
        program = torch.onnx.export(
            net,
            (sample,),
            input_names=["images"],
            output_names=["output0"],
            dynamic_shapes=({0: batch, 2: 32 * rows, 3: 32 * cols},),
            dynamo=True,
            opset_version=18,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def compare(net: nn.Module, path: Path) -> float:
    """Largest difference between torch and ONNX Runtime over noise pictures of three shapes: of scores as
    they are, of boxes as a share of 1 px + their longer side (a centre is half the sum of two far edges)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst = 0.0
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for shape in ((1, 3, 192, 320), (3, 3, 256, 256), (2, 3, 64, 416)):
            images = torch.rand(*shape, generator=generator)
            want = net(images)
            assert isinstance(want, Tensor)
            got = session.run(["output0"], {"images": images.numpy()})[0]
            gap = np.abs(got - want.numpy())
            gap[:, :4] /= 1 + want.numpy()[:, 2:4].max(1, keepdims=True)
            worst = max(worst, float(gap.max()))
    return worst
