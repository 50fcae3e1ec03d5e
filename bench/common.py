"""What every benchmark records about where it ran, and how it leaves its figures."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SHARED = Path(__file__).resolve().parents[2] / "shared"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # on the GPU machine there is no PyAV
        return "missing"


def machine() -> dict[str, Any]:
    """Processor, cores, memory, and the versions of what does the work."""
    import numpy

    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        # as psutil has it, which is not on every machine that measures
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "av": _version("av"),
        "numpy": numpy.__version__,
    }


def save(name: str, figures: dict[str, Any], *, quick: bool = False) -> Path | None:
    """Keep the figures with the machine they were measured on; a quick run leaves no record."""
    if quick:
        return None
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), "figures": figures}, indent=2) + "\n")
    return path
