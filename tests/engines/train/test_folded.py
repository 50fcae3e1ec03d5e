"""Weights put into an exported graph compute there what they do in torch, normalizations folded or not."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from engines.models import resolve
from engines.nets.yolo import Yolo
from engines.train.adapt_start import read_embedder
from engines.train.folded import fill, folded_densenet, folded_yolo
from engines.train.tune.start import new_detector, read_detector


def shaken(net: nn.Module) -> nn.Module:
    """Other weights and statistics everywhere, as a training leaves them."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                change = torch.rand(value.shape, generator=generator) * 0.2
                value *= 1 + change
                value += change.mean() * (0 if name.endswith("weight") else 0.1)
    return net.eval()


def computed(model: onnx.ModelProto, images: torch.Tensor) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"images": images.numpy()})[0])


@pytest.mark.parametrize("kind", ["embedder", "detector"])
def test_filled_graphs_compute_what_torch_does(kind: str) -> None:
    path = resolve("default", kind).path
    folded = folded_densenet if kind == "embedder" else folded_yolo
    net = shaken(read_embedder(path) if kind == "embedder" else read_detector(path)[0])
    images = torch.rand(2, 3, *((64, 64) if kind == "embedder" else (96, 160)))
    model = onnx.load(str(path))
    before = computed(model, images)
    fill(model, net, folded)
    with torch.inference_mode():
        want = net(images).numpy()
    assert np.abs(want - before).max() > 0.01  # they are other weights
    np.testing.assert_allclose(computed(model, images), want, rtol=1e-3, atol=1e-3)


def test_another_architecture_is_refused_and_names_the_weight() -> None:
    model = onnx.load(str(resolve("default", "detector").path))
    with pytest.raises(ValueError, match=r"stem\.0\..*: expected \(24, 3, 3, 3\), found \(16, 3, 3, 3\)"):
        fill(model, new_detector("s", 2), folded_yolo)
    with pytest.raises(ValueError, match=r"class_out\.0.weight: expected \(5, "):
        fill(model, new_detector("n", 5), folded_yolo)
    with pytest.raises(ValueError, match="found none"):
        fill(model, Yolo(2, depth=2), folded_yolo)
