"""Compiling CUDA sources for real GPUs, without one: NVIDIA's runtime compiler."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path

from needs import missing

from kernels.device import Source

# what CuPy adds to a source's own options: numbers below 1e-38 are 0 on a GPU
_OF_CUPY = ("-ftz=true", "--device-as-default-execution-space")


def library() -> ctypes.CDLL:
    """The compiler; where it is not installed the test is skipped, in CI it fails."""
    spec = importlib.util.find_spec("nvidia")
    places = list(spec.submodule_search_locations or []) if spec else []
    found = sorted(path for place in places for path in Path(place).glob("*/lib/libnvrtc.so.*"))
    if not found:
        missing("nvrtc is not installed: pip install nvidia-cuda-nvrtc")
    return ctypes.CDLL(str(found[-1]))


def compile_source(source: Source, architecture: int, text: str | None = None) -> tuple[int, str, bytes]:
    """nvrtc's exit status (0: compiled, down to machine code), its log, and the machine code.

    Args:
        text: other code than the source's own.
    """
    nvrtc, program, size = library(), ctypes.c_void_p(), ctypes.c_size_t()
    code = (source.text() if text is None else text).encode()
    assert not nvrtc.nvrtcCreateProgram(ctypes.byref(program), code, b"kernels.cu", 0, None, None)
    given = (*source.options, *_OF_CUPY, f"-arch=sm_{architecture}")
    options = [option.encode() for option in given]
    status = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    cubin = b""
    if status == 0:
        assert not nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
        machine = ctypes.create_string_buffer(size.value)
        assert not nvrtc.nvrtcGetCUBIN(program, machine)
        cubin = machine.raw
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return status, log.value.decode(), cubin


def check_compiles(source: Source, architecture: int) -> None:
    """The source compiles for sm_``architecture``, down to machine code, without a warning."""
    status, log, machine = compile_source(source, architecture)
    assert status == 0, log
    assert "warning" not in log
    assert len(machine) > 10_000
