"""The sources that a work folder was made of: which can be learned from, and which can be processed again."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from stream.batches import Video
from stream.errors import ConfigError, SourceError
from stream.probe import describe, is_url
from stream.sources import IMAGE_SUFFIXES, VIDEO_SUFFIXES, find_videos
from stream.workdir import WorkFolder

_TIMEOUT_S = 20.0
_STILLS = "still images have no windows of frames to learn from"


@dataclass(frozen=True)
class ShowSources:
    """``videos`` have windows of frames. ``inputs``: what a run is given to process again all that is there.

    ``unlearned``: of every source without windows, why. ``unreached``: of every one that ``inputs`` leaves
    out, why: what was found in it stays that of the former detector.
    """

    videos: tuple[Video, ...]
    inputs: tuple[str, ...]
    unlearned: tuple[str, ...]
    unreached: tuple[str, ...]


def show_sources(folder: WorkFolder) -> ShowSources:
    """What is left of the sources of an open work folder.

    Raises:
        ConfigError: none of them can be learned from.
    """
    from stream.adapt.show_windows import LENGTH_S

    infos = folder.segments()
    known = {str(video["name"]): str(video["uri"]) for video in folder.read_run().get("videos", [])}
    known |= {info.video: info.uri for info in infos if info.video not in known}
    contents = {info.video: info.notes.get("content") for info in infos}
    videos, inputs, unlearned, unreached = [], [], [], []
    stills = gone = False
    for name, uri in sorted(known.items()):
        if not is_url(uri) and Path(uri).is_dir():
            stills = True
            unlearned.append(f"{uri}: {_STILLS}")
            found = _images(uri, contents.get(name), _reached(folder, known))
            inputs += found
            if not found:
                unreached.append(f"{uri}: holds other images than were processed")
            continue
        try:
            video = describe(uri, name, _TIMEOUT_S)
        except SourceError as error:
            gone = True
            unlearned.append(str(error))
            unreached.append(str(error))
            continue
        if video.duration_s is None:
            unlearned.append(f"{uri}: its length is not known, so no place in it can be gone back to")
            if is_url(uri):
                unreached.append(f"{uri}: a live stream does not send again what it sent")
                continue
        elif video.duration_s < LENGTH_S:
            unlearned.append(f"{uri}: shorter than {LENGTH_S} s, so no window of frames is in it")
        else:
            videos.append(video)
        inputs.append(uri)
    if not videos:
        raise ConfigError(_nothing(folder, unlearned, stills, gone, sorted(known.values())))
    return ShowSources(tuple(videos), tuple(inputs), tuple(unlearned), tuple(unreached))


def _nothing(folder: WorkFolder, why: list[str], stills: bool, gone: bool, uris: list[str]) -> str:
    told = "; ".join(why) or "none is recorded"
    if gone:
        remedy = "put them back, or run them from where they are now"
        if any(not is_url(uri) and not Path(uri).is_absolute() for uri in uris):
            remedy += f" (paths that are relative are looked up from {Path.cwd()})"
    elif stills and all(why_.endswith(_STILLS) for why_ in why):
        remedy = f"run a video of the show into it, too: `celstream run VIDEO -o {folder.path}`"
    else:
        remedy = f"run longer videos of the show into it, too: `celstream run VIDEO -o {folder.path}`"
    return (
        f"{folder.path}: expected the sources of its videos to learn from, found none that can be read for"
        f" it ({told}); {remedy}"
    )


def _reached(folder: WorkFolder, known: dict[str, str]) -> set[str]:
    """Every place that was processed, or found unusable."""
    uris = [*known.values(), *(str(entry.get("uri")) for entry in folder.quarantined())]
    return {os.path.realpath(uri) for uri in uris if not is_url(uri)}


def _images(folder: str, content: str | None, reached: set[str]) -> list[str]:
    """Inputs that name the images of a folder as they were processed; none where they are others by now.

    It is the folder, but for one that holds more than was processed: then they are named one by one.
    """
    files = sorted(
        str(path)
        for path in Path(folder).iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    found = list(find_videos(files, on_bad=lambda uri, why: None))
    if len(found) != 1 or content not in (None, found[0].fingerprint):
        return []
    return [folder] if _holds_only(folder, reached) else list(found[0].files)


def _holds_only(folder: str, reached: set[str]) -> bool:
    """Whether a run over the folder would find nothing else than what was processed."""
    for path in Path(folder).rglob("*"):
        suffix = path.suffix.lower()
        if path.name.startswith(".") or suffix not in VIDEO_SUFFIXES | IMAGE_SUFFIXES or not path.is_file():
            continue
        if os.path.realpath(path.parent if suffix in IMAGE_SUFFIXES else path) not in reached:
            return False
    return True
