"""Packages that only some commands need: are they there, and do they load."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.util import find_spec

from stream.errors import DependencyError


def need(names: Sequence[str], purpose: str, command: str) -> None:
    """Make sure that packages can be imported; those that are there are imported.

    Args:
        purpose: what needs them, as in "training".
        command: the pip command that installs them all.

    Raises:
        DependencyError: some are not installed, or one is and does not load (half a wheel, another library's
            version), each with the command that helps.
    """
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise DependencyError(f"{purpose} needs {', '.join(missing)}, not installed here: {command}")
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # a torn package raises whatever it comes to
            what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise DependencyError(
                f"{purpose} needs {name}, which is installed and does not load ({what});"
                f" pip install --force-reinstall {name}"
            ) from error
