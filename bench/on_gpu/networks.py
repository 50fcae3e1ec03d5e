"""Networks on the device: pictures per second of every engine that is there, on the same pictures.

The peer is ``torch.compile`` in fp16, which is what one has without any engine builder. The limit is the
matrix rate measured just before: a network that does F operations for a picture cannot pass rate / F pictures
per second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.on_gpu.place import Figures, Place, Skipped

ENGINES = ("tensorrt", "onnx", "torch")


@dataclass(frozen=True)
class Case:
    """A network, and the batch it is run at: ``(batch, 3, height, width)``."""

    name: str
    batch: int
    height: int
    width: int
    make: Callable[[], Any]  # the torch module, in evaluation mode


def cases(quick: bool) -> list[Case]:
    """The default networks, a detector at 640 and DenseNet-161; weights do not change their speed."""
    from engines.nets.densenet import densenet161, densenet_small
    from engines.nets.yolo import Yolo

    small = [Case("detector", 32, 192, 320, lambda: Yolo()), Case("embedder", 256, 64, 64, densenet_small)]
    large = [
        Case("yolo640", 16, 640, 640, lambda: Yolo(widths=(32, 64, 128, 256, 512), depth=2, neck=128)),
        Case("densenet161", 64, 224, 224, lambda: densenet161(classes=0)),
    ]
    return small if quick else [*large, *small]


def work_of(net: Any, height: int, width: int) -> tuple[float, float]:
    """Multiplications and additions of a picture in convolutions and matrix products, and the bytes that they
    read and write in fp16, each array once."""
    import torch

    operations = moved = 0.0

    def count(module: Any, inputs: Any, out: Any) -> None:
        nonlocal operations, moved
        per_output = module.weight.numel() / out.shape[1]
        operations += 2.0 * per_output * out.numel()
        moved += 2.0 * (inputs[0].numel() + out.numel())

    layers = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.inference_mode():
        net(torch.zeros(1, 3, height, width))
    for hook in hooks:
        hook.remove()
    return operations, moved


def networks(place: Place, limits: Figures, folder: Path, quick: bool) -> Iterator[Figures]:
    """Figures of each network and engine, one at a time, so that none is lost when time runs out.

    Raises:
        Skipped: torch is missing, which makes the networks.
    """
    try:
        import torch
    except ImportError as error:
        raise Skipped(f"networks: torch is missing ({error})") from error
    for case in cases(quick or place.rehearsal):
        batch = 2 if place.rehearsal else case.batch
        net = case.make().eval()
        work, moved = work_of(net, case.height, case.width)
        limit = 1e12 * limits["matrix_fp16_tflop_per_s"] / work
        yield {
            f"{case.name}_gflop": round(work / 1e9, 3),
            f"{case.name}_ops_per_byte": round(work / moved, 1),
            f"{case.name}_batch": batch,
        }
        pictures = np.random.default_rng(0).random((batch, 3, case.height, case.width), np.float32)
        with torch.inference_mode():
            want = net(torch.from_numpy(pictures)).numpy() if batch <= 64 else None

        def told(kind: str, seconds: float, got: Any, case: Case = case, limit: float = limit) -> Figures:
            rate = batch / seconds  # noqa: B023
            figures: Figures = {
                f"{case.name}_{kind}_per_s": round(rate, 1),
                f"{case.name}_{kind}_matrix_share": round(rate / limit, 4),
            }
            if want is not None and got is not None:  # noqa: B023
                figures[f"{case.name}_{kind}_error"] = relative_error(got, want)  # noqa: B023
            return figures

        for compiled in (False, True):
            kind = "torch_compile" if compiled else "torch_eager"
            try:
                yield told(kind, *_torch(place, net, pictures, compiled))
            except Exception as error:  # a compiler that is not there is no reason to stop
                yield {f"skipped_{case.name}_{kind}": _line(error)}
        place.release()
        yield from _engines(place, case, net, pictures, told, folder)


def _torch(place: Place, net: Any, pictures: np.ndarray, compiled: bool) -> tuple[float, np.ndarray]:
    """Seconds a batch in fp16, channels last, and the outputs."""
    import copy

    import torch

    device, kind = ("cpu", torch.float32) if place.rehearsal else ("cuda", torch.float16)
    own = copy.deepcopy(net).to(device, kind, memory_format=torch.channels_last)
    if compiled and not place.rehearsal:
        own = torch.compile(own, mode="reduce-overhead")  # with CUDA graphs, as the engines have them
    x = torch.from_numpy(pictures).to(device, kind).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        out = own(x).float().cpu().numpy()
        own(x)  # graphs are captured in the second call
        return place.wall_seconds(lambda: own(x)), out


def _engines(
    place: Place, case: Case, net: Any, pictures: np.ndarray, told: Callable[..., Figures], folder: Path
) -> Iterator[Figures]:
    from engines.runtime import EngineError, open_engine

    path = folder / f"{case.name}.onnx"
    if not path.exists():
        _export(net, path, case)
    precision = "fp32" if place.rehearsal else "fp16"
    for kind in ENGINES:
        start = time.perf_counter()
        try:
            engine = open_engine(
                path, device="cpu" if place.rehearsal else "cuda", engine=kind, precision=precision
            )
        except (EngineError, ImportError) as error:
            yield {f"skipped_{case.name}_{kind}": _line(error)}
            continue
        try:
            name = engine.inputs[0].name
            x = place.xp.asarray(pictures)
            out = next(iter(engine.run(**{name: x}).values()))
            out = out if isinstance(out, np.ndarray) else out.get()
            opened = time.perf_counter() - start
            seconds = place.wall_seconds(lambda: engine.run(**{name: x}))  # noqa: B023
            yield told(kind, seconds, out) | {f"{case.name}_{kind}_open_s": round(opened, 2)}
        except EngineError as error:
            yield {f"skipped_{case.name}_{kind}": _line(error)}
        finally:
            engine.close()
            place.release()


def _export(net: Any, path: Path, case: Case) -> None:
    """ONNX with a free batch; by the older exporter, which needs no package beside onnx."""
    import contextlib
    import io
    import warnings

    import torch

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.zeros(2, 3, case.height, case.width),),
            str(path),
            input_names=["images"],
            output_names=["output"],
            dynamic_axes={"images": {0: "N"}, "output": {0: "N"}},
            opset_version=17,
            dynamo=False,
        )


def relative_error(got: np.ndarray, want: np.ndarray) -> float:
    """Largest distance of a picture's outputs as a share of their length."""
    got, want = got.reshape(len(want), -1).astype(np.float64), want.reshape(len(want), -1).astype(np.float64)
    length = np.maximum(np.linalg.norm(want, axis=1), 1e-12)
    return round(float((np.linalg.norm(got - want, axis=1) / length).max()), 6)


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:240]
