"""What this machine has, tried rather than assumed, and what a run would use."""

from __future__ import annotations

import importlib
import os

from stream.doctor.checks import Check, guarded
from stream.doctor.gpu import gpu_checks
from stream.doctor.video import video_checks


def examine() -> list[Check]:
    """Try everything a run may use; nothing raises."""
    return [
        _machine(),
        *video_checks(),
        guarded("default detector", lambda: _network("detector")),
        guarded("default embedder", lambda: _network("embedder")),
        *gpu_checks(),
        _package("torch", "training and show adaptation", "pip install 'celstream[train]'"),
        guarded("a run here", _used),
    ]


def _machine() -> Check:
    import psutil

    memory = psutil.virtual_memory().total / 2**30
    return Check("machine", True, f"{os.cpu_count()} cores, {memory:.0f} GiB memory")


def _network(kind: str) -> Check:
    from stream.config import DetectorConfig, EmbedderConfig
    from stream.detect import Detector
    from stream.embed import Embedder

    station = Detector(DetectorConfig()) if kind == "detector" else Embedder(EmbedderConfig())
    reasons = "; ".join(f"{f.wanted}: {f.reason}" for f in station.fallbacks)
    return Check(f"default {kind}", True, station.description + (f" ({reasons})" if reasons else ""))


def _used() -> Check:
    """Where a run with ``--device auto`` would work, and why not elsewhere."""
    from stream.config import Config
    from stream.stations import Stations

    stations = Stations(Config())
    try:
        device, fallbacks = stations.device, stations.fallbacks
    finally:
        stations.close()
    if device == "cuda":
        from stream.decode import nvdec

        lacks = nvdec.missing()
        decoded = f"decodes on the CPU and uploads ({lacks})" if lacks else "decodes with NVDEC, file by file"
        return Check("a run here", True, f"on the GPU: {decoded}")
    why = "; ".join(dict.fromkeys(fallback.reason for fallback in fallbacks))
    return Check("a run here", True, f"on the CPU: {why}" if why else "on the CPU")


def _package(module: str, purpose: str, command: str) -> Check:
    try:
        loaded = importlib.import_module(module)
    except Exception as error:
        return Check(f"{module} ({purpose})", False, f"{type(error).__name__}: {error}", command)
    return Check(f"{module} ({purpose})", True, str(getattr(loaded, "__version__", "installed")))
