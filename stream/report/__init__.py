"""``report.html``: one file that shows what a run found, opened in any browser, with no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stream.files import atomic_file
from stream.names import cluster_names
from stream.report.collect import Limits, collect
from stream.report.page import render
from stream.workdir import WorkFolder

__all__ = ["Limits", "write_report"]


def write_report(
    folder: WorkFolder | str | Path,
    *,
    names: Mapping[int, str] | None = None,
    limits: Limits | None = None,
) -> Path:
    """Write ``report.html`` into a work folder and return its path. The same folder gives the same bytes.

    Args:
        folder: an opened work folder, or the path of one.
        names: names of clusters, by the number in the cluster file; those that people gave for None.
        limits: how much is shown; the defaults keep the file below about 12 MB.

    Raises:
        WorkdirError: no work folder, damaged, or the page cannot be written.
    """
    if not isinstance(folder, WorkFolder):
        with WorkFolder.open(folder, create=False, write=False) as opened:
            return write_report(opened, names=names, limits=limits)
    if names is None:
        names = cluster_names(folder)
    page = render(collect(folder, names, limits)).encode("utf-8")
    path = folder.path / "report.html"
    with atomic_file(path, size=len(page)) as file:
        file.write(page)
    return path
