"""Compiled loops: how they are compiled, and on how many threads they run."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import numba

_log = logging.getLogger(__name__)
# NaN is refused at the door and the sign of zero does not matter: with these two the maxima vectorize.
FASTMATH = frozenset({"nnan", "nsz", "contract"})
# For what compiled loops call.
inner = numba.njit(nogil=True, fastmath=set(FASTMATH))


def compiled(function: Callable[..., Any], signature: Any) -> Callable[..., Any]:
    """Compile now, kept on disk where that can be done and without a word where it cannot. Frees the GIL."""
    options: dict[str, Any] = {"nogil": True, "fastmath": set(FASTMATH)}
    try:
        return numba.njit(signature, cache=True, **options)(function)
    except (RuntimeError, OSError) as error:  # no folder to write to, or a full one
        _log.debug("compiled code is not kept: %s", error)
        return numba.njit(signature, **options)(function)


def thread_count(threads: int | None) -> int:
    """``threads``, or all cores this process may use; below 1, ValueError."""
    if threads is None:
        may_use = getattr(os, "sched_getaffinity", None)  # Linux: also what a container allows
        threads = len(may_use(0)) if may_use else os.cpu_count() or 1
    if threads < 1:
        raise ValueError(f"threads: expected at least 1, got {threads}")
    return threads
