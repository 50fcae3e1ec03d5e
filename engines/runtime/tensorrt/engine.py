"""Running a TensorRT engine: device pointers in and out, one CUDA graph per shape, no wait for the host."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engines.runtime.base import Array, DeviceError, EngineError, Fallback, TensorSpec
from engines.runtime.cache import Say
from engines.runtime.cuda_arrays import CAPTURING, Turns, import_cupy
from engines.runtime.devices import cuda_missing
from engines.runtime.devices import gpu as this_gpu
from engines.runtime.precision import Precision
from engines.runtime.progress import OnProgress
from engines.runtime.tensorrt.build import Messages, started
from engines.runtime.tensorrt.flavour import Flavour
from engines.runtime.tensorrt.plans import Plan, PlanError, get_plan, load_plan
from engines.runtime.tensorrt.profiles import Profile
from engines.runtime.tensorrt.shapes import ShapeRunner
from kernels.device import on_device

_RUNTIME_CACHE = "kernels.cache"


class TensorRTEngine:
    """An ONNX file on TensorRT or TensorRT-RTX. Inputs are float16 with precision 'fp16', outputs float32.

    Works on CuPy's current stream: CuPy arrays in, CuPy arrays out, nothing waits. NumPy arrays in give NumPy
    arrays out. A batch larger than its largest is run in parts. Calls from several threads take turns.

    Args:
        path, precision, profiles, flavour, on_progress, say, cache: as for :func:`get_plan`, which builds
            the engine where there is none yet.

    Raises:
        DeviceError: there is no GPU or driver.
        MissingRuntimeError: TensorRT, CuPy or onnx is not installed.
        EngineError: the file cannot be built, or the engine not loaded.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        precision: Precision = "fp16",
        profiles: Sequence[Profile] | None = None,
        flavour: Flavour | None = None,
        on_progress: OnProgress | None = None,
        say: Say | None = None,
        cache: Path | None = None,
    ) -> None:
        missing = cuda_missing()
        if missing is not None:
            raise DeviceError(
                f"TensorRT: {missing}; engines are built here with TensorRT-RTX, and run where NVIDIA's"
                " driver and a GPU are: install the driver, or use engine onnx on the CPU"
            )
        self._cupy = import_cupy()
        self.path = Path(path)

        def build(for_this_gpu: bool = False) -> Plan:
            return get_plan(
                path,
                precision,
                profiles=profiles,
                flavour=flavour,
                for_this_gpu=for_this_gpu,
                anew=for_this_gpu,
                on_progress=on_progress,
                say=say,
                cache=cache,
            )

        self.fallbacks: tuple[Fallback, ...] = ()
        plan = build()
        try:
            self._load(plan)
        except PlanError as error:
            # it was kept by another driver, or is one for many GPUs that is not for this one
            plan = build(for_this_gpu=True)
            self._load(plan)
            self.fallbacks = (Fallback("the engine that was kept", "one built anew", str(error)),)
        self.inputs: tuple[TensorSpec, ...] = plan.network.inputs
        self.outputs: tuple[TensorSpec, ...] = plan.network.outputs
        self.metadata = dict(plan.network.metadata)
        self.device = "cuda"
        self.description = f"{plan.flavour} {plan.about['precision']}, {this_gpu()}"

    def _load(self, plan: Plan) -> None:
        trt = plan.flavour.module
        self._plan = plan
        self._messages = Messages(trt)
        self._runtime = started(trt.Runtime, plan.flavour, self._messages)
        self._engine: Any = load_plan(plan, self._runtime, self._messages)
        self._lock = threading.Lock()
        self._turns = Turns(self._cupy)
        self._jit = _JitCache(plan, self._engine) if plan.flavour.rtx else None
        self._runners = [
            ShapeRunner(
                self._cupy,
                trt,
                self._engine,
                number,
                profile,
                plan.network,
                self._jit.context if self._jit is not None else None,
            )
            for number, profile in enumerate(plan.profiles)
        ]

    def run(self, **arrays: Array) -> dict[str, Array]:
        """Run the network once; see :class:`engines.runtime.base.Engine`.

        Returns:
            Every output by name, on the device where the inputs are: fresh arrays, which later calls leave
            alone.

        Raises:
            EngineError: the network is closed, an input is missing or unknown, or no profile holds its shape.
        """
        if self._engine is None:
            raise EngineError(f"{self.path}: the network was closed")
        (spec,) = self.inputs
        if arrays.keys() != {spec.name}:
            raise EngineError(f"{self.path}: expected the inputs ['{spec.name}'], got {sorted(arrays)}")
        given = arrays[spec.name]
        cupy = self._cupy
        images = cupy.asarray(given if on_device(given) else np.asarray(given))
        runner = self._runner(spec, tuple(images.shape))
        with self._lock:
            outputs: dict[str, Array] = runner.run(images, cupy.cuda.get_current_stream(), self._turns)
        if not on_device(given):
            return {name: cupy.asnumpy(value) for name, value in outputs.items()}
        return outputs

    def _runner(self, spec: TensorSpec, shape: tuple[int, ...]) -> ShapeRunner:
        fits = len(shape) == len(spec.shape) and all(
            want in (None, have) for want, have in zip(spec.shape[1:], shape[1:], strict=True)
        )
        if fits:
            for runner in self._runners:
                if runner.profile.holds(shape[-2], shape[-1]):
                    return runner
        built = "; ".join(str(profile) for profile in self._plan.profiles)
        raise EngineError(
            f"{self.path}: running it on {spec.name} {shape} failed: expected {spec}, for which the engine is"
            f" built at {built}"
        )

    def close(self) -> None:
        """Free the engine and its device memory; calling it twice is allowed."""
        if self._engine is None:
            return
        with self._lock:
            if self._jit is not None:
                self._jit.save()
            with CAPTURING:
                self._cupy.cuda.Device().synchronize()  # what was enqueued still uses the memory
            self._runners.clear()
            self._engine = self._runtime = self._jit = None


class _JitCache:
    """Kernels that TensorRT-RTX compiled for this GPU, kept beside the plan: the next start need not."""

    def __init__(self, plan: Plan, engine: Any) -> None:
        trt = plan.flavour.module
        self._path = plan.entry.path.parent.parent / "kernels" / f"{plan.entry.path.name}-{_RUNTIME_CACHE}"
        self._config = engine.create_runtime_config()
        # compiled before it runs, not meanwhile: a captured graph would keep the kernels of the first time
        self._config.dynamic_shapes_kernel_specialization_strategy = (
            trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        self._config.set_execution_context_allocation_strategy(
            trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        self._cache = self._config.create_runtime_cache()
        if self._path.is_file():
            self._cache.deserialize(self._path.read_bytes())  # False, and empty, where it does not fit
        self._config.set_runtime_cache(self._cache)
        self._engine = engine

    def context(self) -> Any:
        """An execution context that takes its kernels from the cache."""
        return self._engine.create_execution_context(self._config)

    def save(self) -> None:
        """Keep what was compiled; not being able to is no error."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part = self._path.with_name(f"{self._path.name}.{threading.get_ident()}")
            part.write_bytes(bytes(self._cache.serialize()))
            part.replace(self._path)
        except (OSError, TypeError):
            return
