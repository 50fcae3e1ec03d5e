"""What is around a TensorRT engine at run time, with one that adds up pictures in place of TensorRT's own.

The arrays are the host's, and streams do everything at once; which stream something was asked on is kept.
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engines.runtime.base import EngineError, TensorSpec
from engines.runtime.cuda_arrays import CAPTURING, Turns
from engines.runtime.onnxfile import Described
from engines.runtime.tensorrt.profiles import Profile
from engines.runtime.tensorrt.shapes import ShapeRunner

SPEC = TensorSpec("images", "float16", (None, 3, None, None))


class Memory(np.ndarray):
    """An array with its address where CuPy has it."""

    @property
    def data(self) -> Any:  # type: ignore[override]
        return SimpleNamespace(ptr=self.ctypes.data)


class Cuda:
    """CuPy as far as it is used: memory, and streams."""

    def __init__(self) -> None:
        self.stack: list[Any] = ["the caller's"]
        self.taken_on: list[Any] = []
        self.graphs = 0
        self.capturable = True
        outer = self

        class Stream:
            def __init__(self, non_blocking: bool = False) -> None:
                self.ptr, self.captured = id(self), None

            def __enter__(self) -> None:
                outer.stack.append(self)

            def __exit__(self, *_: object) -> None:
                outer.stack.pop()

            def synchronize(self) -> None: ...
            def wait_event(self, event: Any) -> None: ...

            def begin_capture(self) -> None:
                assert CAPTURING._is_owned()  # type: ignore[attr-defined]
                outer.capturing = []

            def end_capture(self) -> Any:
                (run,), outer.capturing = outer.capturing, None
                if not outer.capturable:
                    raise RuntimeError("cudaErrorStreamCaptureInvalidated")
                outer.graphs += 1
                return SimpleNamespace(launch=lambda stream: run())

        self.capturing: list[Any] | None = None
        self.cuda = SimpleNamespace(
            Stream=Stream, runtime=SimpleNamespace(CUDARuntimeError=RuntimeError),
            Device=lambda: SimpleNamespace(synchronize=lambda: None),
            Event=lambda **_: SimpleNamespace(record=lambda stream: None),
        )  # fmt: skip

    def empty(self, count: int, dtype: Any) -> Memory:
        self.taken_on.append(self.stack[-1])
        return np.full(count, 77, dtype).view(Memory)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Memory:
        return np.zeros(shape, dtype).view(Memory)

    def concatenate(self, parts: list[Any]) -> Any:
        return np.concatenate(parts)


class Context:
    """Adds up every picture: (n, 3, H, W) float16 -> (n, 2) float32, the sum and n."""

    def __init__(self, cupy: Cuda) -> None:
        self.cupy = cupy
        self.at: dict[str, int] = {}

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.shape[0], 2)

    def set_device_memory(self, pointer: int, size: int) -> None:
        assert size == 1000

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self.at[name] = pointer
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if self.cupy.capturing is not None:
            self.cupy.capturing.append(self.run)
        else:
            self.run()
        return True

    def run(self) -> None:
        n = self.shape[0]
        given = (ctypes.c_uint16 * int(np.prod(self.shape))).from_address(self.at["images"])
        result = (ctypes.c_float * (2 * n)).from_address(self.at["sums"])
        pictures = np.frombuffer(given, np.float16).reshape(self.shape)
        np.frombuffer(result, np.float32).reshape(n, 2)[...] = np.stack(
            [pictures.sum(axis=(1, 2, 3), dtype=np.float32), np.full(n, n)], axis=1
        )


def runner_of(cupy: Cuda, most: int = 12) -> ShapeRunner:
    trt = SimpleNamespace(
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="user"), nptype=lambda dtype: dtype
    )
    engine = SimpleNamespace(
        get_tensor_dtype={"images": np.float16, "sums": np.float32}.__getitem__,
        get_device_memory_size_for_profile_v2=lambda number: 1000,
        create_execution_context=lambda strategy: Context(cupy),
    )
    network = Described((SPEC,), (TensorSpec("sums", "float32", (None, 2)),), {})
    return ShapeRunner(cupy, trt, engine, 0, Profile((1, 8, most), (4, 4, 8), (4, 4, 8)), network, None)


def test_batches_of_any_size_are_filled_up_and_cut_off_again() -> None:
    cupy, rng = Cuda(), np.random.default_rng(0)
    runner, turns, stream = runner_of(cupy), Turns(cupy), cupy.cuda.Stream()
    given, found = [], []
    for n in (3, 4, 1, 5, 12, 30, 0, 3):
        images = rng.integers(0, 9, (n, 3, 4, 4)).astype(np.float32)
        given.append(images)
        found.append(runner.run(images, stream, turns)["sums"])
    for images, sums in zip(given, found, strict=True):  # what came before is left alone
        np.testing.assert_array_equal(sums[:, 0], images.sum(axis=(1, 2, 3)))
    assert found[0][:, 1].tolist() == [4] * 3
    assert found[3][:, 1].tolist() == [8] * 5
    assert found[5][:, 1].tolist() == [12] * 24 + [8] * 6
    assert cupy.graphs == len(runner._ready) == 4
    # the memory is of the runner's own stream: what the caller's let go may still be in use there
    assert cupy.taken_on == [runner._stream] * 3


def test_what_cannot_be_captured_is_enqueued_every_time() -> None:
    cupy = Cuda()
    cupy.capturable = False
    runner, turns, stream = runner_of(cupy), Turns(cupy), cupy.cuda.Stream()
    for n in (2, 3, 2):
        images = np.full((n, 3, 4, 4), n, np.float32)
        assert runner.run(images, stream, turns)["sums"][:, 0].tolist() == [48 * n] * n
    assert all(ready.graph is None for ready in runner._ready.values())


def test_graphs_are_let_go_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.runtime.tensorrt.shapes._MOST_GRAPHS", 3)
    cupy = Cuda()
    runner, turns, stream = runner_of(cupy), Turns(cupy), cupy.cuda.Stream()
    for side in (4, 5, 6, 7, 8):
        images = np.ones((1, 3, side, side), np.float32)
        assert runner.run(images, stream, turns)["sums"][0, 0] == 3 * side * side
    assert [shape[2] for shape in runner._ready] == [6, 7, 8]


def test_an_output_whose_shape_depends_on_the_pictures_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Context, "get_tensor_shape", lambda self, name: (-1, 2))
    cupy = Cuda()
    with pytest.raises(EngineError, match="output 'sums': its shape depends on what is in the pictures"):
        runner_of(cupy).run(np.ones((1, 3, 4, 4), np.float32), cupy.cuda.Stream(), Turns(cupy))
