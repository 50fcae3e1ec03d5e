"""What this machine has, tried rather than assumed, and what a run would use."""

from __future__ import annotations

import functools
import importlib
import io
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One thing that was tried. ``advice`` says how to get it, empty where nothing is to be done."""

    name: str
    ok: bool
    found: str
    advice: str = ""


def examine() -> list[Check]:
    """Try everything a run may use; nothing raises."""
    return [
        _machine(),
        *(
            _guarded(f"decode {codec}", functools.partial(_decodes, codec))
            for codec in ("libx264", "mpeg2video", "libvpx-vp9")
        ),
        _guarded("default detector", lambda: _network("detector")),
        _guarded("default embedder", lambda: _network("embedder")),
        _gpu(),
        _package("torch", "training and show adaptation", "pip install 'celstream[train]'"),
        _package("cupy", "kernels on the GPU", "pip install 'celstream[gpu]', beside an NVIDIA driver"),
        _package("nvidia.dali", "DALI decoding", "pip install 'celstream[gpu]'"),
    ]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:
        return Check(
            name,
            False,
            f"{type(error).__name__}: {error}",
            "reinstall: pip install --force-reinstall 'celstream[cpu]'",
        )


def _machine() -> Check:
    import psutil

    memory = psutil.virtual_memory().total / 2**30
    return Check("machine", True, f"{os.cpu_count()} cores, {memory:.0f} GiB memory")


def _decodes(codec: str) -> Check:
    """Encode two frames into memory and decode them: the only proof that a codec works."""
    import av
    import numpy as np

    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(2):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        count = sum(1 for _ in container.decode(video=0))
        name = container.streams.video[0].codec_context.name
    return Check(f"decode {name}", count == 2, f"{count} of 2 frames, PyAV {av.__version__}, CPU")


def _network(kind: str) -> Check:
    from stream.config import DetectorConfig, EmbedderConfig
    from stream.detect import Detector
    from stream.embed import Embedder

    station = Detector(DetectorConfig()) if kind == "detector" else Embedder(EmbedderConfig())
    reasons = "; ".join(f"{f.wanted}: {f.reason}" for f in station.fallbacks)
    return Check(f"default {kind}", True, station.description + (f" ({reasons})" if reasons else ""))


def _gpu() -> Check:
    program = shutil.which("nvidia-smi")
    advice = "runs use the CPU; for a GPU install NVIDIA's driver, then pip install 'celstream[gpu]'"
    if program is None:
        return Check("NVIDIA GPU", False, "no nvidia-smi, so no driver", advice)
    query = [program, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("NVIDIA GPU", False, f"nvidia-smi: {error}", advice)
    if answer.returncode or not answer.stdout.strip():
        return Check(
            "NVIDIA GPU", False, (answer.stderr or answer.stdout).strip() or "nvidia-smi lists none", advice
        )
    return Check("NVIDIA GPU", True, "; ".join(answer.stdout.strip().splitlines()))


def _package(module: str, purpose: str, command: str) -> Check:
    try:
        loaded = importlib.import_module(module)
    except Exception as error:
        return Check(f"{module} ({purpose})", False, f"{type(error).__name__}: {error}", command)
    return Check(f"{module} ({purpose})", True, str(getattr(loaded, "__version__", "installed")))
