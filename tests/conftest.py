"""Fixtures for every test: the real films beside the checkout, where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# what lands is judged on the same examples every time; elsewhere hypothesis looks for new ones
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real films, labels and art; tests that need it are skipped where it is missing."""
    if not (SHARED / "media").is_dir():
        pytest.skip(f"the real films are not at {SHARED}")
    return SHARED
