"""What a test cannot do without, and that not every machine has."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from typing import Any, NoReturn

import pytest


def needs(module: str, install: str) -> Any:
    """The module ``module``; where it cannot be imported, it is :func:`missing`.

    Args:
        install: the pip command that gets it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        reason = f"{module} cannot be imported ({error}): {install}"
    missing(reason)


def missing(reason: str) -> NoReturn:
    """Skip the test, or the file that asks, for lack of a package.

    Not so in CI (the environment variable ``CI`` is set) on Linux on x86-64, for which there are wheels of
    everything: there it fails, so that a step of the installation that was lost is seen.
    """
    if os.environ.get("CI") and (sys.platform, platform.machine()) == ("linux", "x86_64"):
        pytest.fail(f"{reason}; CI installs it, so this is no reason to skip", pytrace=False)
    pytest.skip(reason, allow_module_level=True)
