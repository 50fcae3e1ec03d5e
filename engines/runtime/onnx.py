"""Networks on ONNX Runtime: CPU, or CUDA where the GPU build and a GPU are there."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from engines.runtime.base import Array, DeviceError, EngineError, Fallback, MissingRuntimeError, TensorSpec
from engines.runtime.cuda_arrays import Turns, import_cupy
from engines.runtime.devices import cpu_cores, cuda_missing
from kernels.device import on_device

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
_QUIET = 4  # only fatal messages: what goes wrong is raised, not printed


def _import() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingRuntimeError(
            f"ONNX Runtime is not installed ({error}); pip install 'celstream[cpu]', or on a machine with an"
            " NVIDIA GPU pip install 'celstream[gpu]'"
        ) from error
    return onnxruntime


def _spec(node: Any) -> TensorSpec:
    shape = tuple(n if isinstance(n, int) and n > 0 else None for n in node.shape)
    return TensorSpec(node.name, _DTYPES.get(node.type, node.type), shape)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


class OnnxEngine:
    """An ONNX file on ONNX Runtime. Calls from several threads are allowed; each releases the GIL.

    On CUDA, CuPy arrays go in and come out without passing through the host, on CuPy's current stream, and
    nothing waits; NumPy arrays in give NumPy arrays out.

    See :func:`engines.runtime.open_engine` for the arguments and errors. ``file`` is the same network in
    another precision, run in place of ``path``; messages name ``path``.
    """

    def __init__(
        self, path: str | Path, *, device: str = "auto", threads: int = 0, file: Path | None = None
    ) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise EngineError(f"device {device!r}: expected 'auto', 'cpu' or 'cuda'")
        ort = _import()
        self.path = Path(path)
        self._file = file or self.path
        if not self.path.is_file():
            raise EngineError(f"{self.path}: no such file; give the path of an ONNX file")
        missing = None if device == "cpu" else self._no_cuda(ort)
        wanted = missing is None and device != "cpu"
        self._device_io = _device_io(ort) if wanted else None
        try:
            self._session = self._open(ort, wanted, threads)
        except EngineError as error:
            if not wanted:
                raise
            self._session = self._open(ort, False, threads)  # fails, too, where it is the file
            missing = f"ONNX Runtime could not start CUDA ({_one_line(error.__cause__ or error)})"
        cuda = "CUDAExecutionProvider" in self._session.get_providers()
        if device != "cpu" and missing is None and not cuda:
            # the GPU build lists CUDA without being able to start it: only the session knows
            missing = "ONNX Runtime could not start CUDA (are the CUDA 13 and cuDNN 9 libraries installed?)"
        if device == "cuda" and missing is not None:
            raise DeviceError(
                f"device 'cuda': {missing}; it needs a driver and pip install 'celstream[gpu]'; or use 'auto'"
            )
        if not cuda:
            self._device_io = None
        self.fallbacks: tuple[Fallback, ...] = (
            (Fallback("cuda", "cpu", missing),) if missing is not None else ()
        )
        self.inputs = tuple(_spec(node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(node) for node in self._session.get_outputs())
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        self.device = "cuda" if cuda else "cpu"
        used = threads or cpu_cores()
        where = "CUDA" if cuda else f"CPU, {used} thread{'s' * (used != 1)}"
        self.description = f"ONNX Runtime {ort.__version__} {where}"

    @staticmethod
    def _no_cuda(ort: Any) -> str | None:
        reason = cuda_missing()
        if reason is None and "CUDAExecutionProvider" not in ort.get_available_providers():
            return (
                "the installed ONNX Runtime is the CPU build;"
                " pip uninstall onnxruntime, then pip install 'celstream[gpu]'"
            )
        return reason

    def _open(self, ort: Any, on_cuda: bool, threads: int) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or cpu_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = _QUIET
        # Waiting threads sleep: several stations share the cores, and one that spins takes the others' time.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        cuda: list[Any] = ["CUDAExecutionProvider"] if on_cuda else []
        if on_cuda and self._device_io is not None:
            cuda = [self._device_io.provider]
        try:
            # it would tell an error of CUDA's on stdout, and go on elsewhere and without what was asked for
            return ort.InferenceSession(
                str(self._file), options, providers=[*cuda, "CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise EngineError(
                f"{self.path}: expected an ONNX file that ONNX Runtime {ort.__version__} can load,"
                f" got: {_one_line(error)}"
            ) from error

    def run(self, **arrays: Array) -> dict[str, Array]:
        """Run the network once.

        Args:
            arrays: one array per input, by name; cast to the input's dtype.

        Returns:
            Every output by name, CuPy arrays where an input is one.

        Raises:
            EngineError: the network is closed, an input is missing or unknown, or the shapes do not fit.
        """
        if self._session is None:
            raise EngineError(f"{self.path}: the network was closed")
        wanted = {spec.name: spec for spec in self.inputs}
        if arrays.keys() != wanted.keys():
            raise EngineError(f"{self.path}: expected the inputs {sorted(wanted)}, got {sorted(arrays)}")
        outputs = tuple(spec.name for spec in self.outputs)
        dtypes = {name: spec.dtype for name, spec in wanted.items()}
        try:
            if self._device_io is not None and any(on_device(array) for array in arrays.values()):
                return self._device_io.run(self._session, arrays, dtypes, outputs)
            feed = {
                name: np.ascontiguousarray(_host(array), dtype=dtypes[name]) for name, array in arrays.items()
            }
            values = self._session.run(None, feed)
        except Exception as error:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            raise EngineError(f"{self.path}: running it on {shapes} failed: {_one_line(error)}") from error
        return dict(zip(outputs, values, strict=True))

    def close(self) -> None:
        """Free the network; calling it twice is allowed."""
        self._session = None


def _host(array: Array) -> Array:
    return array.get() if on_device(array) else array


def _device_io(ort: Any) -> _DeviceIO | None:
    """What binds CuPy arrays; None where CuPy is missing, and nobody can have any."""
    try:
        return _DeviceIO(ort)
    except MissingRuntimeError:
        return None


class _DeviceIO:
    """CuPy arrays bound to a session by their device pointers.

    The session has a stream of its own, given to it when it is made; events put its work behind the caller's
    stream and the caller's next work behind it, so that the host never waits.
    """

    def __init__(self, ort: Any) -> None:
        self._cupy = import_cupy()
        self._stream = self._cupy.cuda.Stream(non_blocking=True)
        self._turns = Turns(self._cupy)
        self._lock = threading.Lock()
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._device = int(self._cupy.cuda.Device().id)
        self.provider = (
            "CUDAExecutionProvider",
            {
                "device_id": str(self._device),
                "user_compute_stream": str(self._stream.ptr),
                # else every way to convolve is tried at every new shape, and every number of crops is one
                "cudnn_conv_algo_search": "HEURISTIC",
            },
        )

    def run(
        self, session: Any, arrays: dict[str, Array], dtypes: dict[str, str], outputs: tuple[str, ...]
    ) -> dict[str, Array]:
        cupy, caller = self._cupy, self._cupy.cuda.get_current_stream()
        given = {
            name: cupy.ascontiguousarray(cupy.asarray(array, dtype=dtypes[name]))
            for name, array in arrays.items()
        }
        with self._lock:
            binding = session.io_binding()
            for name, array in given.items():
                binding.bind_input(name, "cuda", self._device, array.dtype.type, array.shape, array.data.ptr)
            for name in outputs:
                binding.bind_output(name, "cuda", self._device)
            self._stream.wait_event(caller.record())
            with self._turns(self._stream):
                session.run_with_iobinding(binding, self._options)
                results = {
                    name: self._taken(value)
                    for name, value in zip(outputs, binding.get_outputs(), strict=True)
                }
            caller.wait_event(self._stream.record())
        return results

    def _taken(self, value: Any) -> Array:
        """A copy of an output on the session's stream: its own memory goes back to the session's pool."""
        cupy = self._cupy
        dtype = np.dtype(_DTYPES[value.data_type()])
        shape = tuple(value.shape())
        out = cupy.empty(shape, dtype)  # on the caller's stream, which waits for the copy
        if out.nbytes:
            out.data.copy_from_device_async(
                cupy.cuda.MemoryPointer(
                    cupy.cuda.UnownedMemory(value.data_ptr(), out.nbytes, value, self._device), 0
                ),
                out.nbytes,
                self._stream,
            )
        return out
