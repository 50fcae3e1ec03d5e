"""celstream: from animation and broadcast archives to characters.

>>> from stream import run, cluster
>>> summary = run("episode.mp4", out="work")
>>> summary.clusters, summary.report
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stream.version import VERSION as __version__

if TYPE_CHECKING:
    from stream.cluster_job import cluster
    from stream.config import Config, load_config
    from stream.run_job import run
    from stream.summary import Summary

__all__ = ["Config", "Summary", "__version__", "cluster", "load_config", "run"]

_PLACES = {
    "Config": "stream.config",
    "Summary": "stream.summary",
    "cluster": "stream.cluster_job",
    "load_config": "stream.config",
    "run": "stream.run_job",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for, when it is: the parts are heavy, and a worker process needs few of them."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PLACES[name]), name)
