"""One line of ``celstream doctor``: what was tried, what was found, and how to get what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One thing that was tried. ``advice`` says how to get it, empty where nothing is to be done."""

    name: str
    ok: bool
    found: str
    advice: str = ""


def guarded(
    name: str,
    check: Callable[[], Check],
    advice: str = "reinstall: pip install --force-reinstall 'celstream[cpu]'",
) -> Check:
    """The check; one that raises has failed, and ``advice`` is given."""
    try:
        return check()
    except Exception as error:  # whatever a broken installation raises is what is to be told
        return Check(name, False, " ".join(f"{type(error).__name__}: {error}".split())[:300], advice)
