"""The GPU and what runs on it: driver, CuPy, TensorRT, each tried."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

from engines.runtime.devices import cuda_missing
from stream.doctor.checks import Check, guarded

_INSTALL = "pip install 'celstream[gpu]'"
_DRIVER = "runs use the CPU; for a GPU install NVIDIA's driver, then " + _INSTALL


def gpu_checks() -> Iterator[Check]:
    """Driver and GPU; CuPy by a kernel that is compiled and run; TensorRT by its import."""
    yield _gpu()
    yield guarded("cupy (kernels on the GPU)", _cupy, _INSTALL)
    yield guarded("TensorRT (networks on the GPU)", _tensorrt, "pip install tensorrt")


def _gpu() -> Check:
    missing = cuda_missing()
    if missing is not None:
        return Check("NVIDIA GPU", False, missing, _DRIVER)
    program = shutil.which("nvidia-smi")
    if program is None:
        return Check("NVIDIA GPU", True, "the driver answers; nvidia-smi, which would say more, is not there")
    query = [program, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("NVIDIA GPU", True, f"the driver answers, nvidia-smi does not: {error}")
    lines = answer.stdout.strip().splitlines()
    return Check("NVIDIA GPU", True, "; ".join(lines) or answer.stderr.strip())


def _cupy() -> Check:
    import cupy

    name = "cupy (kernels on the GPU)"
    if cuda_missing() is not None:
        return Check(name, False, f"CuPy {cupy.__version__} is installed, and there is no GPU for it")
    double = cupy.ElementwiseKernel("float32 x", "float32 y", "y = 2 * x", "celstream_doctor")
    right = double(cupy.arange(4, dtype=cupy.float32)).tolist() == [0, 2, 4, 6]
    return Check(name, right, f"CuPy {cupy.__version__} compiles and runs kernels")


def _tensorrt() -> Check:
    from engines.runtime.tensorrt.flavour import installed

    name = "TensorRT (networks on the GPU)"
    found, reasons = installed()
    if not found:
        return Check(name, False, "; ".join(reasons), "pip install tensorrt")
    built = ", ".join(str(flavour) for flavour in found)
    if cuda_missing() is not None:
        return Check(name, True, f"{built}: builds engines here, and needs a GPU to run them")
    return Check(name, True, built)
