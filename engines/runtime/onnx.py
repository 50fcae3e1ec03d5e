"""Networks on ONNX Runtime: CPU, or CUDA where the GPU build and a GPU are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engines.runtime.base import Array, DeviceError, EngineError, Fallback, MissingRuntimeError, TensorSpec
from engines.runtime.devices import cpu_cores, cuda_missing

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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


class OnnxEngine:
    """An ONNX file on ONNX Runtime. Calls from several threads are allowed; each releases the GIL.

    See :func:`engines.runtime.open_engine` for the arguments and errors.
    """

    def __init__(self, path: str | Path, *, device: str = "auto", threads: int = 0) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise EngineError(f"device {device!r}: expected 'auto', 'cpu' or 'cuda'")
        ort = _import()
        self.path = Path(path)
        if not self.path.is_file():
            raise EngineError(f"{self.path}: no such file; give the path of an ONNX file")
        missing = None if device == "cpu" else self._no_cuda(ort)
        self._session = self._open(ort, missing is None and device != "cpu", threads)
        cuda = "CUDAExecutionProvider" in self._session.get_providers()
        if device != "cpu" and missing is None and not cuda:
            # the GPU build lists CUDA without being able to start it: only the session knows
            missing = "ONNX Runtime could not start CUDA (are the CUDA 13 and cuDNN 9 libraries installed?)"
        if device == "cuda" and missing is not None:
            raise DeviceError(
                f"device 'cuda': {missing}; it needs a driver and pip install 'celstream[gpu]'; or use 'auto'"
            )
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

    def _open(self, ort: Any, cuda: bool, threads: int) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or cpu_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = _QUIET
        # Waiting threads sleep: several stations share the cores, and one that spins takes the others' time.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = [*(["CUDAExecutionProvider"] if cuda else []), "CPUExecutionProvider"]
        try:
            return ort.InferenceSession(str(self.path), options, providers=providers)
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
            Every output by name.

        Raises:
            EngineError: the network is closed, an input is missing or unknown, or the shapes do not fit.
        """
        if self._session is None:
            raise EngineError(f"{self.path}: the network was closed")
        wanted = {spec.name: spec for spec in self.inputs}
        if arrays.keys() != wanted.keys():
            raise EngineError(f"{self.path}: expected the inputs {sorted(wanted)}, got {sorted(arrays)}")
        feed = {name: np.ascontiguousarray(array, dtype=wanted[name].dtype) for name, array in arrays.items()}
        try:
            values = self._session.run(None, feed)
        except Exception as error:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in feed.items())
            raise EngineError(f"{self.path}: running it on {shapes} failed: {_one_line(error)}") from error
        return dict(zip((spec.name for spec in self.outputs), values, strict=True))

    def close(self) -> None:
        """Free the network; calling it twice is allowed."""
        self._session = None
