"""Networks on torch: where it is installed and nothing else that runs ONNX files on the GPU is."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engines.runtime.base import Array, DeviceError, EngineError, Fallback, TensorSpec
from engines.runtime.cuda_arrays import CAPTURING
from engines.runtime.fixed import filled_up
from engines.runtime.onnxfile import describe
from engines.runtime.precision.graph import one_line
from engines.runtime.torch.graph import TorchGraph
from kernels.device import on_device

_MOST_GRAPHS = 16  # shapes that are captured at a time; the one used longest ago goes first


class TorchEngine:
    """An ONNX file, the same as every engine takes, as torch calls.

    On a GPU the pictures have their channels last, and a shape that comes again runs as a CUDA graph; batches
    are filled up so that few shapes come. Its precision is the file's (``file`` is the float16 version that
    :func:`engines.runtime.open_engine` makes). CuPy arrays in give CuPy arrays out, on CuPy's current stream,
    and nothing waits. A CPU runs plain torch.

    It takes the operators of convolutional networks and of the tails of detectors, and says at once which
    one it lacks.

    Args:
        device: 'cpu' or 'cuda'.
        threads: CPU threads of torch, which are this process's; 0 leaves them as they are.
        file: the same network in another precision, run in place of ``path``; messages name ``path``.

    Raises:
        DeviceError: ``device='cuda'`` and torch sees none.
        EngineError: no ONNX file, or an operator that is not supported.
    """

    def __init__(
        self, path: str | Path, *, device: str = "cpu", threads: int = 0, file: Path | None = None
    ) -> None:
        self.path = Path(path)
        if device == "cuda" and not torch.cuda.is_available():
            raise DeviceError(
                f"torch {torch.__version__} sees no CUDA device; install torch for CUDA (see pytorch.org),"
                " or use another engine"
            )
        if threads:
            torch.set_num_threads(threads)
        self.device = device
        described = describe(file or self.path)
        self.inputs: tuple[TensorSpec, ...] = described.inputs
        self.outputs: tuple[TensorSpec, ...] = described.outputs
        self.metadata = described.metadata
        self.fallbacks: tuple[Fallback, ...] = ()
        self._graph: TorchGraph | None = TorchGraph(file or self.path, device)
        self._dtype = getattr(torch, self.inputs[0].dtype)
        self._captured: OrderedDict[tuple[int, ...], _Captured] = OrderedDict()
        self._seen: set[tuple[int, ...]] = set()
        self._capturable = True
        self._side: torch.cuda.Stream | None = None
        self._lock = threading.Lock()
        where = torch.cuda.get_device_name() if device == "cuda" else "CPU"
        self.description = f"torch {torch.__version__}, {where}"

    def run(self, **arrays: Array) -> dict[str, Array]:
        """Run the network once; see :class:`engines.runtime.base.Engine`.

        Raises:
            EngineError: the network is closed, an input is missing or unknown, or the shapes do not fit.
        """
        if self._graph is None:
            raise EngineError(f"{self.path}: the network was closed")
        spec = self.inputs[0]
        if arrays.keys() != {spec.name}:
            raise EngineError(f"{self.path}: expected the inputs ['{spec.name}'], got {sorted(arrays)}")
        given = arrays[spec.name]
        shape = tuple(given.shape)
        fits = len(shape) == len(spec.shape) and all(
            want in (None, have) for want, have in zip(spec.shape, shape, strict=True)
        )
        try:
            if not fits:
                raise ValueError(f"expected {spec}")
            if self.device == "cpu":
                host = given.get() if on_device(given) else given
                images = torch.from_numpy(np.ascontiguousarray(host, spec.dtype))
                return {name: np.asarray(value) for name, value in self._graph(images).items()}
            with self._lock:
                return self._on_gpu(given)
        except (RuntimeError, ValueError, KeyError, IndexError) as error:
            raise EngineError(
                f"{self.path}: running it on {spec.name} {shape} failed: {one_line(error)}"
            ) from error

    def _on_gpu(self, given: Array) -> dict[str, Array]:
        if not on_device(given):
            images = torch.from_numpy(np.ascontiguousarray(given)).to("cuda", self._dtype)
            return {name: value.cpu().numpy() for name, value in self._replayed(images).items()}
        import cupy

        pointer = cupy.cuda.get_current_stream().ptr
        stream: Any = torch.cuda.ExternalStream(pointer) if pointer else torch.cuda.default_stream()
        with torch.cuda.stream(stream):
            results = self._replayed(torch.from_dlpack(given))
            return {name: cupy.from_dlpack(value.contiguous()) for name, value in results.items()}

    def _replayed(self, images: Tensor) -> dict[str, Tensor]:
        """The outputs, by replaying the captured graph from the second call at a shape on."""
        assert self._graph is not None
        shape = tuple(images.shape)
        if len(shape) == 4 and self.inputs[0].shape[0] is None and len(images):
            shape = (filled_up(len(images)), *shape[1:])
        if len(images) and shape in self._seen and shape not in self._captured and self._capturable:
            self._capture(shape, images.device)
        self._seen.add(shape)
        if shape not in self._captured:
            return self._graph(_laid_out(images.to(self._dtype)))
        self._captured.move_to_end(shape)
        return self._captured[shape].replay(images)

    def _capture(self, shape: tuple[int, ...], device: torch.device) -> None:
        """A graph for a shape; where there can be none, its calls are made one by one from now on."""
        assert self._graph is not None
        with CAPTURING:
            if len(self._captured) >= _MOST_GRAPHS:
                torch.cuda.synchronize()
                self._captured.popitem(last=False)
            given = _laid_out(torch.zeros(shape, dtype=self._dtype, device=device))
            try:
                self._side = self._side or torch.cuda.Stream()
                self._captured[shape] = _Captured(self._graph, given, self._side)
            except RuntimeError as error:
                self._capturable = False
                self.fallbacks += (Fallback("torch in CUDA graphs", "torch call by call", one_line(error)),)

    def close(self) -> None:
        """Free the network; calling it twice is allowed."""
        self._captured.clear()
        self._graph = None


class _Captured:
    """One shape as a CUDA graph, with its own input and output buffers.

    Replays on different streams follow each other through an event.

    Args:
        given: the input's buffer. Its numbers count for nothing.
        side: a stream that only this engine captures on. Libraries keep their scratch memory by stream, and
            graphs of two engines run at once.
    """

    def __init__(self, net: TorchGraph, given: Tensor, side: torch.cuda.Stream) -> None:
        self._given = given
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            net(given)  # libraries choose their kernels before the capture
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # other threads go on meanwhile, and take memory, which the usual mode forbids to all of them; nor is
        # this one to fail where Python collects an array just then
        with torch.cuda.graph(self._graph, stream=side, capture_error_mode="relaxed"):
            self._results = net(given)
        self._done = torch.cuda.Event()

    def replay(self, images: Tensor) -> dict[str, Tensor]:
        """The outputs for pictures that fill the buffer, or a part of it: what fills it up is left from
        before, and its results are cut off."""
        n, held = len(images), len(self._given)
        stream = torch.cuda.current_stream()
        self._done.wait(stream)
        self._given[:n].copy_(images)
        self._graph.replay()
        results = {
            name: (value[:n] if value.ndim and len(value) == held else value).clone()
            for name, value in self._results.items()
        }
        self._done.record(stream)
        return results


def _laid_out(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images
