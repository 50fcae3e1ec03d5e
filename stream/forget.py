"""Taking videos out of a work folder."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stream.cluster_job import cluster_again
from stream.config import load_config
from stream.errors import ConfigError
from stream.probe import is_url
from stream.summary import folder_counts
from stream.workdir import WorkFolder


@dataclass(frozen=True)
class Forgotten:
    """A video that was taken out; ``crops`` is 0 for one that was only in quarantine."""

    name: str
    uri: str
    crops: int


def forget(
    out: str | Path, videos: Sequence[str] = (), *, prune: bool = False, report: bool = True
) -> list[Forgotten]:
    """Take videos out of a work folder and cluster the rest again. The videos themselves are not touched.

    Args:
        out: the work folder.
        videos: each a name as the report has it, a path, a URL, or a file name that only one of them has.
        prune: also every video whose file is not there any more.
        report: also write ``report.html`` again.

    Raises:
        ConfigError: no such video in the folder, or several of that file name.
        WorkdirError: no such work folder, in use, or not writable.
    """
    with WorkFolder.open(out, create=False) as folder:
        infos = folder.segments()
        record = folder.read_run()
        known = {info.video: Forgotten(info.video, info.uri, 0) for info in infos}
        for about in record.get("videos", []):  # knows where a moved one is now
            if about.get("name") in known:
                known[about["name"]] = Forgotten(about["name"], str(about.get("uri")), 0)
        bad = {str(q.get("uri")): Forgotten("", str(q.get("uri")), 0) for q in folder.quarantined()}
        everything = [*known.values(), *bad.values()]
        chosen = [entry for text in videos for entry in _find(text, everything, folder)]
        if prune:
            chosen += [v for v in everything if not is_url(v.uri) and not Path(v.uri).exists()]
        crops: dict[str, int] = {}
        for info in infos:
            crops[info.video] = crops.get(info.video, 0) + info.crops
        gone = [Forgotten(v.name, v.uri, crops.get(v.name, 0)) for v in dict.fromkeys(chosen)]
        if not gone:
            return []
        names = {entry.name for entry in gone if entry.name}
        kept = {info.path for info in infos if info.video not in names}
        folder.drop_stale(kept, names)
        for entry in gone:
            folder.clear_quarantine(entry.uri)
        rest = folder.segments()
        described = [v for v in record.get("videos", []) if v.get("name") not in names]
        folder.write_run(record | folder_counts(rest) | {"videos": described})
        if any(info.crops for info in rest):
            if names:
                asked = record.get("clustering") or (record.get("config") or {}).get("cluster", {})
                cluster_again(folder, load_config(values={"cluster": asked}).cluster, report=report)
        else:
            folder.drop_clusters()
            if report:
                from stream.report import write_report

                write_report(folder)
    return gone


def _find(text: str, videos: Sequence[Forgotten], folder: WorkFolder) -> list[Forgotten]:
    """All that is known of one video: its segments and its entry in quarantine."""
    place = str(Path(text).absolute())
    found = [v for v in videos if text in (v.name, v.uri) or place == str(Path(v.uri).absolute())]
    if not found:
        found = [v for v in videos if Path(v.uri).name == text]
        places = sorted({v.uri for v in found})
        if len(places) > 1:
            raise ConfigError(
                f"{text}: there are {len(places)} of that name, give one path: {', '.join(places)}"
            )
    if found:
        return found
    names = [v.name for v in videos if v.name]
    near = difflib.get_close_matches(Path(text).stem, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(names)[:10]) or 'none'}"
    raise ConfigError(f"{text}: no such video in {folder.path}; {hint}")
