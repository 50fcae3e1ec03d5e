"""Training starts from the very network that the file holds, whatever its classes become."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch.utils.flop_counter import FlopCounterMode

from engines.models import resolve
from engines.nets.yolo import Yolo
from engines.train.calibrate import maps_of, with_platt
from engines.train.tune.start import SIZES, new_detector, read_detector, recalibrate, with_classes
from stream.errors import ModelError


@pytest.fixture(scope="module")
def default() -> tuple[Yolo, tuple[str, ...]]:
    return read_detector(resolve("default", "detector").path)


def pictures(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(4, 3, 8, 12, generator=generator)
    return torch.nn.functional.interpolate(coarse, (96, 160), mode="bilinear")


def outputs(net: Yolo, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        out = net.eval()(images)
    assert isinstance(out, torch.Tensor)
    return out


def test_what_is_read_computes_what_the_file_does(default: tuple[Yolo, tuple[str, ...]]) -> None:
    net, names = default
    assert names == ("character", "face")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = str(resolve("default", "detector").path)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    want = session.run(None, {"images": pictures().numpy()})[0]
    got = outputs(net, pictures()).numpy()
    np.testing.assert_allclose(got[:, 4:], want[:, 4:], atol=1e-4)
    np.testing.assert_allclose(got[:, :4], want[:, :4], rtol=1e-3, atol=0.05)


def test_classes_begin_as_what_they_are_called(default: tuple[Yolo, tuple[str, ...]]) -> None:
    net = with_classes(*default, ("bunny", "face", "frank"))
    old, new = outputs(default[0], pictures()), outputs(net, pictures())
    torch.testing.assert_close(new[:, :4], old[:, :4])
    torch.testing.assert_close(new[:, 4:], old[:, [4, 5, 4]])


def test_recalibrated_it_is_the_same_and_trains_on_from_there(default: tuple[Yolo, tuple[str, ...]]) -> None:
    back = [score_map.inverse for score_map in maps_of(resolve("default", "detector").path)]
    plain = with_platt(default[0], back)  # what training starts from
    net = with_classes(plain, default[1], ("character", "face"))
    before = outputs(net, pictures())
    recalibrate(net, [pictures()[:2], pictures()[2:]])
    after = outputs(net, pictures())
    torch.testing.assert_close(after[:, 4:], before[:, 4:], atol=1e-3, rtol=0)
    torch.testing.assert_close(after[:, :4], before[:, :4], atol=0.1, rtol=2e-3)
    # Normalizing by the batch, as training does, is now nearly the same; straight from the file it is not.
    raw = with_classes(plain, default[1], ("character", "face"))
    scores = []
    for each in (net, raw):
        with torch.no_grad():
            _, logits, _ = each.train()(pictures())
        scores.append(float((logits.sigmoid() - before[:, 4:].transpose(1, 2)).abs().mean()))
    assert scores[0] < 0.35 * scores[1]


def test_a_deeper_file_is_read_as_what_it_is(tmp_path: Path) -> None:
    """The recipe 'deeper' has two steps per stage."""
    torch.manual_seed(3)
    net = Yolo(2, depth=2)
    weights = [numpy_helper.from_array(v.numpy(), k) for k, v in net.state_dict().items()]
    model = helper.make_model(helper.make_graph([], "weights", [], [], initializer=weights))
    helper.set_model_props(model, {"names": "{0: 'character', 1: 'owl'}"})
    onnx.save(model, str(tmp_path / "deeper.onnx"))
    read, names = read_detector(tmp_path / "deeper.onnx")
    assert (read.depth, names) == (2, ("character", "owl"))
    torch.testing.assert_close(outputs(read, pictures()), outputs(net, pictures()))


def test_another_networks_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected the default detector's weights"):
        read_detector(resolve("default", "embedder").path)
    (tmp_path / "x.onnx").write_bytes(b"not a network")
    with pytest.raises(ModelError, match=r"x\.onnx: cannot be read as ONNX"):
        read_detector(tmp_path / "x.onnx")


def test_sizes_cost_what_they_say() -> None:
    cost = {}
    for size in SIZES:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            new_detector(size, 3).eval()(torch.zeros(1, 3, 96, 160))  # type: ignore[arg-type]
        cost[size] = counter.get_total_flops()
    assert cost["s"] / cost["n"] == pytest.approx(2, rel=0.15)
    assert cost["m"] / cost["n"] == pytest.approx(5, rel=0.15)
