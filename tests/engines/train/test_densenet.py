"""A user's DenseNet: its names, the weights of a file, the ONNX file, and the pipeline that takes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from engines.nets.densenet import DenseNet
from engines.train import densenet
from engines.train.densenet import ARCHITECTURES, load, main, read_weights
from stream import run
from stream.cartoon.write import render_episode
from stream.config import EmbedderConfig
from stream.embed import IMAGENET_MEAN, IMAGENET_STD, Embedder
from stream.errors import ConfigError
from stream.workdir import WorkFolder

# Huang et al. 2017, table 1: growth, layers of the four blocks, channels of the first convolution
PUBLISHED = {"densenet121": (32, (6, 12, 24, 16), 64), "densenet161": (48, (6, 12, 36, 24), 96)}


def published(arch: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes as the paper's table and torchvision's naming give them."""
    growth, blocks, channels = PUBLISHED[arch]
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, width: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (width,)
        shapes[f"{name}.num_batches_tracked"] = ()

    shapes["features.conv0.weight"] = (channels, 3, 7, 7)
    norm("features.norm0", channels)
    for block, layers in enumerate(blocks, 1):
        for layer in range(1, layers + 1):
            at = f"features.denseblock{block}.denselayer{layer}"
            norm(f"{at}.norm1", channels)
            shapes[f"{at}.conv1.weight"] = (4 * growth, channels, 1, 1)
            norm(f"{at}.norm2", 4 * growth)
            shapes[f"{at}.conv2.weight"] = (growth, 4 * growth, 3, 3)
            channels += growth
        if block < len(blocks):
            norm(f"features.transition{block}.norm", channels)
            shapes[f"features.transition{block}.conv.weight"] = (channels // 2, channels, 1, 1)
            channels //= 2
    norm("features.norm5", channels)
    return shapes | {"classifier.weight": (1000, channels), "classifier.bias": (1000,)}


@pytest.mark.parametrize(
    ("arch", "parameters", "dimensions"),
    [("densenet121", 7_978_856, 1024), ("densenet161", 28_681_000, 2208)],
)
def test_names_shapes_and_counts_are_the_published_ones(arch: str, parameters: int, dimensions: int) -> None:
    with torch.device("meta"):
        net = ARCHITECTURES[arch]()
    assert {name: tuple(value.shape) for name, value in net.state_dict().items()} == published(arch)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert net.dimensions == dimensions


@pytest.mark.parametrize("arch", sorted(ARCHITECTURES))
def test_torchvision_has_the_same(arch: str) -> None:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    theirs = getattr(models, arch)(weights=None).eval()
    ours = ARCHITECTURES[arch]().eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(ours(images), theirs(images))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> DenseNet:
    """A DenseNet of the same kind that costs nothing, as an architecture of its own."""

    def build(classes: int = 7) -> DenseNet:
        return DenseNet(8, (2, 3), stem=16, classes=classes)

    monkeypatch.setitem(densenet.ARCHITECTURES, "small", build)
    torch.manual_seed(0)
    net = build()
    with torch.no_grad():  # statistics as training leaves them
        net.train()(torch.rand(8, 3, 64, 64))
    return net.eval()


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in state.items():
        for part in ("norm1", "norm2", "conv1", "conv2"):
            if "denselayer" in name:
                name = name.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.")
        if not name.endswith("num_batches_tracked"):
            renamed[name] = value
    return renamed


@pytest.mark.parametrize("form", ["plain", "old names", "wrapped", "parallel", "no classifier"])
def test_state_dicts_as_people_have_them(small: DenseNet, form: str, tmp_path: Path) -> None:
    state = dict(small.state_dict())
    saved: object = {
        "plain": state,
        "old names": old_names(state),
        "wrapped": {"epoch": 90, "state_dict": state},
        "parallel": {f"module.{name}": value for name, value in state.items()},
        "no classifier": {k: v for k, v in state.items() if "classifier" not in k},
    }[form]
    torch.save(saved, tmp_path / "w.pth")
    net = load("small", tmp_path / "w.pth")
    images = torch.rand(2, 3, 64, 64)
    assert net.classifier is None
    torch.testing.assert_close(net(images), small.embed(images))


def test_old_names_are_those_of_the_published_files(tmp_path: Path) -> None:
    old = {"features.denseblock1.denselayer1.norm.1.weight": torch.ones(3)}
    torch.save(old, tmp_path / "w.pth")
    assert set(read_weights(tmp_path / "w.pth")) == {"features.denseblock1.denselayer1.norm1.weight"}


def test_the_file_computes_what_torch_does_for_any_batch_and_the_pipeline_takes_it(
    small: DenseNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(small.state_dict(), tmp_path / "w.pth")
    model = tmp_path / "mine.onnx"
    arguments = ["--arch", "small", "--weights", str(tmp_path / "w.pth"), "--out", str(model), "--size", "64"]
    assert main(arguments) == 0
    assert f"small, 64 px -> {small.dimensions}; differs from torch by" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).random((5, 3, 64, 64), dtype=np.float32)
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        want = torch.relu(small.features(torch.from_numpy((images - mean) / std))).mean((2, 3)).numpy()
    for count in (1, 2, 5):
        got = session.run(None, {"images": images[:count]})[0]
        np.testing.assert_allclose(got, want[:count], rtol=1e-3, atol=1e-5)
    embedder = Embedder(EmbedderConfig(model=str(model), mirror=False), device="cpu")
    assert (embedder.input_size, embedder.dim) == (64, small.dimensions)
    _run(model, small.dimensions, tmp_path)


def _run(model: Path, dimensions: int, folder: Path) -> None:
    episode = render_episode(
        folder / "in", seed=3, characters=2, seconds=4, width=320, height=192, fps=8, label_interval_s=1.0
    )
    run(episode.video, folder / "work", embedder=model, boxes=str(episode.boxes_csv), device="cpu", threads=1)
    with WorkFolder.open(folder / "work", create=False, write=False) as work:
        vectors = np.asarray(work.crops().embeddings)
    assert vectors.shape[1] == dimensions
    assert len(vectors) >= 3
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)


@pytest.mark.slow
def test_densenet121_by_the_command_and_in_the_pipeline(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(ARCHITECTURES["densenet121"]().state_dict(), tmp_path / "w.pth")
    command = [sys.executable, "-m", "engines.train.densenet", "--arch", "densenet121"]
    files = ["--weights", str(tmp_path / "w.pth"), "--out", str(tmp_path / "d.onnx"), "--size", "96"]
    done = subprocess.run([*command, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "densenet121, 96 px -> 1024" in done.stdout
    _run(tmp_path / "d.onnx", 1024, tmp_path)


def broken(small: DenseNet, how: str) -> object:
    state = dict(small.state_dict())
    first = "features.denseblock1.denselayer1.conv1.weight"
    if how == "missing":
        del state[first]
    elif how == "shape":
        state[first] = torch.zeros(3, 3)
    elif how == "unknown":
        state["layer1.0.conv1.weight"] = torch.zeros(1)
    elif how == "nan":
        state[first] = torch.full_like(state[first], float("nan"))
    elif how == "numbers":
        return [1, 2]
    return state


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("missing", "found 1 names missing: features.denseblock1.denselayer1.conv1.weight; give the --arch"),
        (
            "shape",
            "of another shape: features.denseblock1.denselayer1.conv1.weight (3, 3) (expected (32, 16,",
        ),
        ("unknown", "found 1 names unknown: layer1.0.conv1.weight; give"),
        ("nan", "expected finite weights, found others in features.denseblock1.denselayer1.conv1.weight"),
        ("numbers", "expected a state dict, names to tensors, found list"),
    ],
)
def test_another_networks_weights_are_one_line(small: DenseNet, how: str, says: str, tmp_path: Path) -> None:
    torch.save(broken(small, how), tmp_path / "w.pth")
    with pytest.raises(ConfigError) as caught:
        load("small", tmp_path / "w.pth")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", ["missing", "torn"])
def test_without_torch_it_is_one_line(how: str, tmp_path: Path) -> None:
    command = "import runpy; runpy.run_module('engines.train.densenet', run_name='__main__')"
    if how == "missing":
        command = f"import sys; sys.modules['torch'] = None; {command}"
    else:
        (tmp_path / "torch").mkdir()
        (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libcudart.so.12: gone')")
        command = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {command}"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert done.returncode == 2
    says = {
        "missing": "needs torch, not installed here: pip install 'celstream[cpu,train]'",
        "torn": "cudart",
    }
    assert says[how] in done.stderr
    assert "pip install" in done.stderr
    assert done.stderr.count("\n") == 1


class RunsCode:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


def test_what_is_no_state_dict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"gone\.pth: no such file"):
        read_weights(tmp_path / "gone.pth")
    (tmp_path / "w.pth").write_bytes(b"not weights")
    with pytest.raises(ConfigError, match=r"w\.pth: .* found a file that torch\.save did not write"):
        read_weights(tmp_path / "w.pth")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "m.pth")  # a whole module would run code
    with pytest.raises(
        ConfigError, match=r"write it with torch\.save\(model\.state_dict\(\), FILE\)"
    ) as caught:
        read_weights(tmp_path / "m.pth")
    assert "found a file that holds torch.nn.modules.linear.Linear (a whole model?)" in str(caught.value)
    torch.save(RunsCode(), tmp_path / "bad.pth")
    with pytest.raises(ConfigError, match=r"holds \w+\.system \(a whole model") as caught:
        read_weights(tmp_path / "bad.pth")
    for torchs in ("\n", "\x1b", "weights_only"):
        assert torchs not in str(caught.value)
    for flags, says in (
        (["--out", "x.onnx"], "expected a state dict, names to tensors, found a file that"),
        (["--out", "x.pt"], "expected a file name that ends in .onnx"),
        (["--out", "x.onnx", "--size", "8"], "--size: expected 32 or more, got 8"),
    ):
        assert main(["--arch", "densenet121", "--weights", str(tmp_path / "w.pth"), *flags]) == 2
        told = capsys.readouterr().err
        assert says in told
        assert told.count("\n") == 1
