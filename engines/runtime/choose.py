"""Choosing what runs a network: the best there is, with the reason for everything that could not be had."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from engines.runtime.base import DeviceError, Engine, EngineError, Fallback, MissingRuntimeError
from engines.runtime.cache import Cache
from engines.runtime.devices import cuda_missing
from engines.runtime.precision import PRECISIONS, Precision, Prepared, prepare
from engines.runtime.progress import BuildLine, OnProgress

EngineName = Literal["auto", "tensorrt", "onnx", "torch"]
ENGINES: tuple[EngineName, ...] = ("auto", "tensorrt", "onnx", "torch")
_ON_A_GPU: tuple[EngineName, ...] = ("tensorrt", "onnx", "torch")  # the fastest first


def open_engine(
    path: str | Path,
    *,
    device: str = "auto",
    threads: int = 0,
    engine: str = "auto",
    precision: str = "auto",
    on_progress: OnProgress | None = None,
) -> Engine:
    """Load an ONNX file on the best runtime there is.

    Args:
        device: 'cpu'; 'cuda', whose absence is an error; or 'auto', a GPU where there is one, else the CPU
            with the reason in :attr:`Engine.fallbacks`.
        threads: CPU threads per call; 0 takes all cores. Raising it makes one call faster and takes cores
            from the other stations.
        engine: 'auto' takes the first of TensorRT, ONNX Runtime and torch that works on the GPU, and ONNX
            Runtime on the CPU. A named one that cannot be had is an error with ``device='cuda'``, else a
            fallback.
        precision: 'auto' is 'fp16' on a GPU and 'fp32' on a CPU. Lowering it is faster on a GPU and less
            exact; 'int8' needs a calibration and is faster on a CPU, too. A file that is in float16 or int8
            itself stays as it is.
        on_progress: told how far the building of an engine is; None writes a line to stderr.

    Raises:
        MissingRuntimeError: no package that runs ONNX files is installed.
        DeviceError: ``device='cuda'`` and something it needs is missing.
        EngineError: the file is missing or no network that the runtime can load; it cannot be had in
            ``precision``; or a choice that is none.
    """
    _check("device", device, ("auto", "cpu", "cuda"))
    _check("engine", engine, ENGINES)
    _check("precision", precision, ("auto", *PRECISIONS))
    path = Path(path)
    if not path.is_file():
        raise EngineError(f"{path}: no such file; give the path of an ONNX file")
    missing = "device is 'cpu'" if device == "cpu" else cuda_missing()
    if device == "cuda" and missing is not None:
        raise DeviceError(
            f"device 'cuda': {missing}; it needs a driver and pip install 'celstream[gpu]'; or use 'auto'"
        )
    if missing is not None:
        return _on_cpu(path, device, threads, engine, precision, missing)
    return _on_gpu(path, device, threads, engine, precision, on_progress or BuildLine())


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        listed = ", ".join(repr(k) for k in known[:-1])
        raise EngineError(f"{name} {value!r}: expected {listed} or {known[-1]!r}")


def _on_cpu(path: Path, device: str, threads: int, engine: str, precision: str, missing: str) -> Engine:
    fallbacks: list[Fallback] = []
    if device != "cpu":
        fallbacks.append(Fallback("cuda", "cpu", missing))
    if engine == "tensorrt":
        if device == "cpu":
            raise EngineError(
                "engine 'tensorrt' with device 'cpu': TensorRT runs on a GPU only; use engine 'onnx' or"
                " device 'auto'"
            )
        fallbacks.append(Fallback("tensorrt", "onnx", missing))
        engine = "onnx"
    prepared = _prepared(path, "fp32" if precision == "auto" else precision, "fp32")
    return _with(_opened(path, prepared, engine, "cpu", threads, None), fallbacks, prepared)


def _on_gpu(
    path: Path, device: str, threads: int, engine: str, precision: str, on_progress: OnProgress
) -> Engine:
    fallbacks: list[Fallback] = []
    wanted: Precision = "fp16" if precision == "auto" else precision  # type: ignore[assignment]
    try:
        prepared = _prepared(path, wanted, "fp16")
    except EngineError as error:
        if precision != "auto":
            raise
        fallbacks.append(Fallback("fp16", "fp32", str(error)))
        wanted, prepared = "fp32", _prepared(path, "fp32", "fp16")
    chosen = [engine] if engine != "auto" else []
    if not (chosen and device == "cuda"):
        chosen += [name for name in _ON_A_GPU if name not in chosen]
    reasons: list[str] = []
    for number, name in enumerate(chosen):
        try:
            opened = _opened(path, prepared, name, "cuda", threads, on_progress)
        except EngineError as error:
            if len(chosen) == 1:
                raise
            reasons.append(str(error))
            following = chosen[number + 1] if number + 1 < len(chosen) else "onnx on the CPU"
            fallbacks.append(Fallback(name, following, str(error)))
        else:
            return _with(opened, fallbacks, prepared)
    if device == "cuda":
        raise DeviceError(f"device 'cuda': {path} runs on no engine there is: {'; '.join(reasons)}")
    prepared = _prepared(path, "fp32" if precision == "auto" else precision, "fp32")
    return _with(_opened(path, prepared, "onnx", "cpu", threads, None), fallbacks, prepared)


def _prepared(path: Path, precision: str, rest: Literal["fp32", "fp16"]) -> Prepared | None:
    """The file in a precision; None is the file as it is, which needs no package to look into it."""
    if precision == "fp32":
        return None
    return prepare(path, precision, rest=rest)  # type: ignore[arg-type]


def _opened(
    path: Path,
    prepared: Prepared | None,
    engine: str,
    device: str,
    threads: int,
    on_progress: OnProgress | None,
) -> Engine:
    file = prepared.path if prepared is not None else path
    if engine == "tensorrt":
        from engines.runtime.tensorrt import TensorRTEngine

        return TensorRTEngine(
            path,
            precision=prepared.precision if prepared is not None else "fp32",
            on_progress=on_progress,
            say=lambda message: print(message, file=sys.stderr),
        )
    if engine == "torch":
        try:
            from engines.runtime.torch import TorchEngine
        except ImportError as error:
            raise MissingRuntimeError(f"torch is not installed ({error}); pip install torch") from error

        return TorchEngine(path, device=device, threads=threads, file=file)
    from engines.runtime.onnx import OnnxEngine

    return OnnxEngine(path, device=device, threads=threads, file=file)


def open_exactly(
    path: str | Path,
    *,
    engine: str,
    device: str,
    precision: Precision,
    threads: int = 0,
    on_progress: OnProgress | None = None,
    cache: Path | None = None,
) -> Engine:
    """Load an ONNX file on this engine, device and precision and on no other; for comparing them.

    Args:
        cache: folder of engines and converted files in place of the user's.

    Raises:
        MissingRuntimeError, DeviceError, EngineError: as for :func:`open_engine`, for whatever is missing.
    """
    path = Path(path)
    if engine == "tensorrt":
        from engines.runtime.tensorrt import TensorRTEngine

        return TensorRTEngine(path, precision=precision, on_progress=on_progress, cache=cache)
    missing = cuda_missing() if device == "cuda" else None
    if missing is not None:
        raise DeviceError(f"{engine} on 'cuda': {missing}")
    rest: Literal["fp32", "fp16"] = "fp16" if device == "cuda" else "fp32"
    prepared = prepare(path, precision, rest=rest, cache=Cache("networks", cache))
    return _with(_opened(path, prepared, engine, device, threads, on_progress), [], prepared)


def _with(engine: Engine, fallbacks: list[Fallback], prepared: Prepared | None) -> Engine:
    engine.fallbacks = (*fallbacks, *engine.fallbacks)
    if prepared is not None and prepared.precision not in engine.description:
        engine.description += f", {prepared.precision}"
    return engine
