"""What a run is going to work on: inputs become videos with a name in the work folder, and their segments."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from stream.batches import Segment, Video
from stream.config import Config
from stream.errors import SourceError
from stream.live import is_live
from stream.probe import fingerprint_file, is_url
from stream.sources import find_videos, plan_segments
from stream.workdir import WorkFolder


def plan_inputs(
    inputs: Sequence[str],
    folder: WorkFolder,
    config: Config,
    *,
    on_bad: Callable[[str, str, str], None],
    note: Callable[[str], None],
) -> list[Segment]:
    """Find, open and cut everything that the inputs name.

    A video goes by the name that its content has in the folder, so a moved or renamed one is the same video.
    A live stream is one segment without an end, under a name that no earlier recording has.

    Args:
        inputs: as for :func:`stream.sources.find_videos`.
        folder: opened for writing; what is usable now is out of its quarantine.
        config: ``segment_seconds`` and ``interval`` are used.
        on_bad: called with what cannot be used, why, and the stage that found out.
        note: called with a sentence for what a person should know.
    """
    return _Plan(folder, config, on_bad, note).of(inputs)


class _Plan:
    def __init__(
        self,
        folder: WorkFolder,
        config: Config,
        on_bad: Callable[[str, str, str], None],
        note: Callable[[str], None],
    ) -> None:
        self.folder = folder
        self.config = config
        self._bad = on_bad
        self._note = note
        self.names: dict[str, str] = {}  # video name -> its URI, in this run
        self._known = folder.contents()  # content -> name, URI in the folder

    def of(self, inputs: Sequence[str]) -> list[Segment]:
        segments: list[Segment] = []
        for found in find_videos(inputs, on_bad=lambda uri, why: self._bad(uri, why, "open")):
            video = self._named(found)
            try:
                parts = plan_segments(video, self.config.segment_seconds, self.config.interval)
            except SourceError as error:
                self._bad(video.uri, str(error), "plan")
                continue
            if is_live(parts[0]):
                video = self._recording(video)
                parts = [dataclasses.replace(parts[0], video=video)]
            self.names[video.name] = video.uri
            self._known.setdefault(video.fingerprint, (video.name, video.uri))
            segments += parts
            self.folder.clear_quarantine(video.uri)
        return segments

    def _named(self, video: Video) -> Video:
        """The name that its content has in the folder; else one that no other video has, here or there."""
        name, uri = self._known.get(video.fingerprint, ("", ""))
        elsewhere = uri != video.uri and not _is_one_file(uri, video.uri)
        if name and elsewhere and _has_content(uri, video):
            self._note(f"{video.uri}: the same content as {uri}, counted twice; leave one of them out")
        elif name and name not in self.names and not is_url(video.uri):
            if elsewhere:
                self._note(f"{video.uri}: known as {name}, moved from {uri}; what is done of it is kept")
            return dataclasses.replace(video, name=name)
        other = self.folder.uri_of(video.name)
        theirs = other is not None and other != video.uri and Path(other).exists()
        if not theirs and video.name not in self.names:
            return video
        suffix = hashlib.sha256(video.uri.encode()).hexdigest()[:6]
        return dataclasses.replace(video, name=f"{video.name}-{suffix}")

    def _recording(self, video: Video) -> Video:
        """A name that no earlier recording has: what a live stream sends now is not what it sent then."""
        name, number = video.name, 1
        while name in self.names or self.folder.uri_of(name) is not None:
            number += 1
            name = f"{video.name}-{number}"
        if name != video.name:
            self._note(
                f"{video.uri}: a live stream, recorded as {name}: {video.name} is an earlier recording"
            )
        return dataclasses.replace(video, name=name)


def _is_one_file(uri: str, other: str) -> bool:
    """Whether two spellings of a path, one of them relative, say, mean one file."""
    try:
        return Path(uri).samefile(other)
    except (OSError, ValueError):  # not there, or no path at all
        return False


def _has_content(uri: str, video: Video) -> bool:
    """Whether the content of ``video`` is also at ``uri``."""
    path = Path(uri)
    with contextlib.suppress(OSError):
        return fingerprint_file(path) == video.fingerprint if path.is_file() else path.exists()
    return False
