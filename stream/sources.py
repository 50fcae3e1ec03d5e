"""From what a person names (files, folders, patterns, lists, addresses) to videos, each opened once.

One unusable input never stops the others: it is told to ``on_bad`` with one sentence, and left out.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from stream.batches import Video
from stream.decode.images import read_image
from stream.errors import SourceError
from stream.probe import describe, fingerprint_images, is_url
from stream.segments import plan_segments

__all__ = ["IMAGE_SUFFIXES", "PLAYLIST_SUFFIXES", "VIDEO_SUFFIXES", "find_videos", "plan_segments"]

OnBad = Callable[[str, str], None]

IMAGE_SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".webp", ".gif"])
PLAYLIST_SUFFIXES = frozenset([".m3u", ".m3u8", ".txt"])
#: What is looked for in folders; a file that is named itself is tried whatever its suffix.
VIDEO_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *(
            "3g2",
            "3gp",
            "asf",
            "avi",
            "divx",
            "dv",
            "f4v",
            "flv",
            "h264",
            "h265",
            "hevc",
            "ivf",
            "m1v",
            "m2p",
        ),
        *(
            "m2t",
            "m2ts",
            "m2v",
            "m4v",
            "mkv",
            "mjpeg",
            "mov",
            "mp4",
            "mpe",
            "mpeg",
            "mpg",
            "mts",
            "mxf",
            "nut",
        ),
        *("ogm", "ogv", "qt", "rm", "rmvb", "tod", "trp", "ts", "vob", "webm", "wmv", "wtv", "y4m"),
    )
)
MAX_PLAYLIST_DEPTH = 4


def find_videos(inputs: Sequence[str], *, on_bad: OnBad, timeout_s: float = 10) -> Iterator[Video]:
    """Find, open and describe everything the inputs name, in their order; folders in the order of names.

    Args:
        inputs: paths of videos and still images, folders (searched to any depth), glob patterns, playlists
            (``.m3u``, ``.m3u8``, ``.txt``: one input a line, relative to the list), and URLs.
            The still images of one folder become one :class:`Video` of kind "images".
        on_bad: called with what was named, and a sentence that names it, says why it cannot be used and what
            to do.
        timeout_s: how long a source may keep us waiting. Raising it is kinder to slow servers.
    """
    names = _Names()
    for uri, images in _Walk(on_bad).all(inputs):
        try:
            if images:
                video = _describe_images(uri, images, names, on_bad)
                if video is None:
                    continue  # each was told by itself
            else:
                video = describe(uri, names.reserve(uri), timeout_s)
        except SourceError as error:
            on_bad(uri, str(error))
            names.free(uri)
        except Exception as error:  # whatever a broken file does to its reader, the others go on
            kind = f"{type(error).__name__}: {error}"
            on_bad(uri, f"{uri}: cannot be examined ({kind}); leave it out, and report it")
            names.free(uri)
        else:
            yield video


class _Names:
    """Names that are unique, whatever the letter case, and safe as folder names on every system."""

    def __init__(self) -> None:
        self._taken: dict[str, str] = {}

    def reserve(self, uri: str) -> str:
        path = Path(uri.split("?", 1)[0].rstrip("/") if is_url(uri) else uri)
        # the name of a URL without a path is its host, whose dots are no suffix's
        whole = path.parent.name.endswith(":") if is_url(uri) else path.is_dir()
        base = path.name if whole else path.stem
        base = re.sub(r"[^\w.+-]+", "_", base or "root").strip("._-")[:80] or "video"
        name, number = base, 1
        while name.lower() in self._taken:
            number += 1
            name = f"{base}-{number}"
        self._taken[name.lower()] = uri
        return name

    def free(self, uri: str) -> None:
        self._taken = {name: owner for name, owner in self._taken.items() if owner != uri}


class _Walk:
    """Resolves inputs to (uri, image files); a thing named twice is used once."""

    def __init__(self, on_bad: OnBad) -> None:
        self._told = on_bad
        self._seen: set[str] = set()
        self._lists: list[str] = []

    def on_bad(self, uri: str, why: str) -> None:
        self._told(uri, f"{uri}: {why}")

    def all(self, inputs: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
        loose: dict[str, list[str]] = {}  # folder -> images named one by one
        for text in inputs:
            yield from self._one(str(text), loose)
        for folder, files in loose.items():
            yield folder, sorted(files)

    def _one(self, text: str, loose: dict[str, list[str]]) -> Iterator[tuple[str, list[str]]]:
        if is_url(text):
            if self._new(text):
                yield text, []
            return
        text = text.removeprefix("file://")
        text = str(Path(text).expanduser()) if text.startswith("~") else text
        what, why = _look(text)
        suffix = Path(text).suffix.lower()
        if not text.strip():
            self.on_bad(text, "the input is empty; give a file, a folder or a URL")
        elif why:
            self.on_bad(text, f"cannot be read ({why}); check its permissions")
        elif what == "folder":
            yield from self._folder(text)
        elif what == "file" and suffix in IMAGE_SUFFIXES:
            if self._new(os.path.realpath(text)):
                loose.setdefault(str(Path(text).parent), []).append(text)
        elif what == "file" and suffix in PLAYLIST_SUFFIXES and not _is_hls(text):
            yield from self._playlist(text, loose)
        elif what == "file":
            if self._new(os.path.realpath(text)):
                yield text, []
        elif glob.has_magic(text):
            # pathlib's own globbing refuses absolute patterns
            found = sorted(glob.glob(text, recursive=True))  # noqa: PTH207
            if not found:
                self.on_bad(text, "no file matches this pattern; check it, and quote it in the shell")
            for path in found:
                yield from self._one(path, loose)
        else:
            self.on_bad(text, "there is no such file or folder; check the path")

    def _new(self, identity: str) -> bool:
        known = identity in self._seen
        self._seen.add(identity)
        return not known

    def _folder(self, top: str) -> Iterator[tuple[str, list[str]]]:
        found = failed = False

        def unreadable(error: OSError) -> None:
            nonlocal failed
            failed = True
            where = str(error.filename or top)
            self.on_bad(where, f"the folder cannot be read ({error.strerror}); check its permissions")

        for folder, subfolders, files in os.walk(top, onerror=unreadable, followlinks=False):
            subfolders.sort()
            images = []
            for name in sorted(files):
                path = str(Path(folder, name))
                suffix = Path(name).suffix.lower()
                if name.startswith(".") or suffix not in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
                    continue
                found = True
                if not self._new(os.path.realpath(path)):
                    continue
                if suffix in IMAGE_SUFFIXES:
                    images.append(path)
                else:
                    yield path, []
            if images:
                yield folder, images
        if not found and not failed:
            self.on_bad(top, "the folder holds no video and no image; give one that does")

    def _playlist(self, path: str, loose: dict[str, list[str]]) -> Iterator[tuple[str, list[str]]]:
        real = os.path.realpath(path)
        if real in self._lists or len(self._lists) >= MAX_PLAYLIST_DEPTH:
            self.on_bad(
                path, "the playlist names itself, or playlists nest too deep; list the videos directly"
            )
            return
        try:
            text = Path(path).read_text(encoding="utf-8-sig", errors="strict")
        except OSError as error:
            self.on_bad(path, f"the playlist cannot be read ({error.strerror}); check its permissions")
            return
        except UnicodeDecodeError:
            self.on_bad(path, "the playlist is not text in UTF-8; save it as such")
            return
        entries = [line.strip() for line in text.splitlines()]
        entries = [line for line in entries if line and not line.startswith("#")]
        if not entries:
            self.on_bad(path, "the playlist names nothing; write one file or URL a line")
        self._lists.append(real)
        try:
            for entry in entries:
                absolute = is_url(entry) or entry.startswith(("~", "file://"))
                yield from self._one(entry if absolute else str(Path(path).parent / entry), loose)
        finally:
            self._lists.pop()


def _look(path: str) -> tuple[str, str]:
    """What lies at a path ('folder', 'file', or '' for nothing), and why it cannot be seen if so."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (a Path cannot hold every string)
    except PermissionError as error:
        return "", str(error.strerror)
    except (OSError, ValueError):  # missing, too long, a NUL character, a link to nothing
        return "", ""
    return ("folder" if stat.S_ISDIR(mode) else "file"), ""


def _is_hls(path: str) -> bool:
    """Whether a ``.m3u8`` is one stream in pieces (HTTP live streaming), which FFmpeg plays as one video."""
    try:
        with Path(path).open("rb") as file:
            return b"#EXT-X-" in file.read(4096)
    except OSError:
        return False


def _describe_images(folder: str, files: list[str], names: _Names, on_bad: OnBad) -> Video | None:
    """One :class:`Video` for the images of a folder; damaged ones are told and left out. None: all are."""
    good: list[str] = []
    size = (0, 0)
    for path in files:
        try:
            with Image.open(path) as image:
                if not good:
                    height, width = read_image(path).shape[:2]
                    size = (width, height)
                image.verify()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            empty = Path(path).is_file() and Path(path).stat().st_size == 0
            on_bad(
                path, f"{path}: the image is {'empty' if empty else 'damaged or not an image'}; copy it again"
            )
        else:
            good.append(path)
    if not good:
        return None
    return Video(
        name=names.reserve(folder),
        uri=folder,
        kind="images",
        width=size[0],
        height=size[1],
        fingerprint=fingerprint_images(good),
        files=tuple(good),
        duration_s=float(len(good)),
        frame_rate=1.0,
        codec="image",
    )
