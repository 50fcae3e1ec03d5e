"""Fixtures for every test: the real films beside the checkout, where they are."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import emulated_gpu
import pytest
from hypothesis import settings

# what lands is judged on the same examples every time; elsewhere hypothesis looks for new ones
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

# torch, and the commands that tests start: more threads only wait for each other beside other tests
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="module", autouse=True)
def _frozen() -> None:
    """What stays for the whole session (modules, the tests collected, session fixtures) is no garbage.

    A run collects garbage after each of its segments: among the half a million objects of a test process that
    takes longer than the segment, and finds nothing.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real films, labels and art; tests that need it are skipped where it is missing."""
    if not (SHARED / "media").is_dir():
        pytest.skip(f"the real films are not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def emulated_kernels(tmp_path_factory: pytest.TempPathFactory) -> emulated_gpu.Builder:
    """CUDA sources compiled for the host, each once."""
    if emulated_gpu.compiler() is None:
        pytest.skip("g++ is not installed")
    return emulated_gpu.Builder(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(params=["cuda_source", pytest.param("gpu", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An emulated GPU and, in the tests that run on one, the real one: :class:`emulated_gpu.Gpu`."""
    if request.param == "cuda_source":
        return emulated_gpu.install(monkeypatch, request.getfixturevalue("emulated_kernels"))
    from kernels.affinity._gpu import CupyDevice

    try:
        return emulated_gpu.Gpu(CupyDevice().xp, emulated=False)
    except RuntimeError as error:
        pytest.skip(str(error))
