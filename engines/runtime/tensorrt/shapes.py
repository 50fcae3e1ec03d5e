"""The shapes of one profile at run time: buffers, execution contexts and CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from engines.runtime.base import Array, EngineError
from engines.runtime.cuda_arrays import CAPTURING
from engines.runtime.fixed import filled_up
from engines.runtime.onnxfile import Described
from engines.runtime.tensorrt.profiles import Profile

_MOST_GRAPHS = 40  # of a profile; the oldest goes first


@dataclass
class _Ready:
    """One shape that is set up: its context, views of the buffers in that shape, and the captured graph."""

    context: Any
    given: Array
    results: dict[str, Array]
    graph: Any


class ShapeRunner:
    """One optimization profile. Its buffers are made once, for its largest shape.

    Every shape has a context of its own: a captured graph is valid only while its context stays as it was.
    They share one block of working memory, because their runs follow each other.
    """

    def __init__(
        self,
        cupy: Any,
        trt: Any,
        engine: Any,
        number: int,
        profile: Profile,
        network: Described,
        new_context: Callable[[], Any] | None,
    ) -> None:
        self.profile = profile
        self._cupy, self._engine, self._number = cupy, engine, number
        managed = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._new_context = new_context or (lambda: engine.create_execution_context(managed))
        (self._input,), self._outputs = network.inputs, network.outputs
        self._dtypes = {
            spec.name: np.dtype(trt.nptype(engine.get_tensor_dtype(spec.name)))
            for spec in (self._input, *self._outputs)
        }
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._buffers: dict[str, Any] = {}
        self._memory: Any = None
        self._ready: dict[tuple[int, ...], _Ready] = {}
        self._batched = len(self._input.shape) == 4
        self._fixed = self._batched and self._input.shape[0] is not None

    def _allocate(self) -> None:
        """Buffers for the largest shape, and working memory; once."""
        cupy = self._cupy
        largest = self.profile.shapes(self._input)[2]
        context = self._context(largest)
        sizes = {self._input.name: largest}
        sizes |= {spec.name: self._result_shape(context, spec.name) for spec in self._outputs}
        size = int(self._engine.get_device_memory_size_for_profile_v2(self._number))
        # what the caller's stream let go, CuPy's pool would give to it alone: it may still be in use there
        with self._stream:
            for name, shape in sizes.items():
                self._buffers[name] = cupy.empty(max(1, int(np.prod(shape))), self._dtypes[name])
            self._memory = cupy.empty(max(1, size), np.uint8)

    def _context(self, shape: tuple[int, ...]) -> Any:
        context = self._new_context()
        if context is None:
            raise EngineError("TensorRT could not make an execution context: is the device memory used up?")
        context.set_optimization_profile_async(self._number, self._stream.ptr)
        self._stream.synchronize()
        if not context.set_input_shape(self._input.name, shape):
            raise EngineError(f"TensorRT refuses {self._input.name} {shape}; it is built for {self.profile}")
        return context

    def _result_shape(self, context: Any, name: str) -> tuple[int, ...]:
        shape = tuple(context.get_tensor_shape(name))
        if any(side < 0 for side in shape):
            raise EngineError(
                f"output {name!r}: its shape depends on what is in the pictures, which this engine does not"
                " serve; export the network without NMS, or use engine onnx"
            )
        return shape

    def run(self, images: Array, stream: Any, turns: Any) -> dict[str, Array]:
        """Run pictures of one size, (n, 3, H, W) or (3, H, W), in parts of the profile's largest batch."""
        if not self._batched:
            return self._part(images, stream, turns)
        n, most = len(images), self.profile.batch[2]
        if self._fixed and n != self._input.shape[0]:
            raise EngineError(f"expected batches of {self._input.shape[0]}, as the network fixes it, got {n}")
        if n <= most and n > 0:
            return self._part(images, stream, turns)
        if n == 0:
            one = self._part(self._cupy.zeros((1, *images.shape[1:]), images.dtype), stream, turns)
            return {name: value[:0] for name, value in one.items()}
        parts = [self._part(images[start : start + most], stream, turns) for start in range(0, n, most)]
        return {name: self._cupy.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _part(self, images: Array, stream: Any, turns: Any) -> dict[str, Array]:
        n = len(images)
        shape = tuple(images.shape)
        if self._batched and not self._fixed:
            shape = (min(self.profile.batch[2], filled_up(n)), *shape[1:])
        ready = self._ready.get(shape) or self._set_up(shape, turns)
        with turns(stream), stream:
            # what fills the batch up is left from before, and its results are cut off
            (ready.given[:n] if self._batched else ready.given)[...] = images
            if ready.graph is not None:
                ready.graph.launch(stream)
            elif not ready.context.execute_async_v3(stream.ptr):
                raise EngineError(f"TensorRT failed on {self._input.name} {shape}")
            return {
                name: (value[:n] if self._batched and len(value) == shape[0] else value).copy()
                for name, value in ready.results.items()
            }

    def _set_up(self, shape: tuple[int, ...], turns: Any) -> _Ready:
        """A context for this shape, run once and captured; happens once per shape, and waits for the GPU."""
        cupy = self._cupy
        if not self._buffers:
            self._allocate()
        context = self._context(shape)
        context.set_device_memory(int(self._memory.data.ptr), int(self._memory.nbytes))
        views = {self._input.name: shape}
        views |= {spec.name: self._result_shape(context, spec.name) for spec in self._outputs}
        arrays = {}
        for name, sides in views.items():
            arrays[name] = self._buffers[name][: int(np.prod(sides))].reshape(sides)
            context.set_tensor_address(name, int(arrays[name].data.ptr))
        with turns(self._stream), self._stream:
            arrays[self._input.name].fill(0)
            if not context.execute_async_v3(self._stream.ptr):  # the first run still sets things up
                raise EngineError(f"TensorRT failed on {self._input.name} {shape}")
        self._stream.synchronize()
        graph = self._captured(context)
        given = arrays.pop(self._input.name)
        while len(self._ready) >= _MOST_GRAPHS:
            with CAPTURING:
                cupy.cuda.Device().synchronize()
            self._ready.pop(next(iter(self._ready)))
        self._ready[shape] = _Ready(context, given, arrays, graph)
        return self._ready[shape]

    def _captured(self, context: Any) -> Any:
        """The run as a CUDA graph; None where it cannot be captured (it is then enqueued every time)."""
        capturable = getattr(context, "is_stream_capturable", None)
        if capturable is not None and not capturable(self._stream.ptr):
            return None
        with CAPTURING, self._stream:
            self._stream.begin_capture()
            done = context.execute_async_v3(self._stream.ptr)
            try:
                graph = self._stream.end_capture()
            except self._cupy.cuda.runtime.CUDARuntimeError:  # something in it ended the capture
                return None
        return graph if done else None
