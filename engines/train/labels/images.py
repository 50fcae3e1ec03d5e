"""The image files of a dataset: which there are, which one a label means, and how large they are."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image, UnidentifiedImageError

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"))
MAX_PIXELS = 400_000_000  # as stream/decode/images.py: beyond it is a decompression bomb
_ORIENTATION = 0x0112
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b";"}
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True)
class ImageFile:
    """An image file: its path, and its name below the folder it was found in, with ``/``."""

    path: Path
    name: str


def safe_name(name: str) -> str | None:
    """The name as a path with ``/`` that stays below the folder it is joined to, or None if it cannot.

    Refused: absolute paths, drives, ``..``, nothing at all, control characters, what UTF-8 cannot write.
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    absolute = name[:1] in ("/", "\\") or name[1:2] == ":"
    if absolute or not parts or ".." in parts or not printable(name) or any(len(p) > 250 for p in parts):
        return None
    return "/".join(parts)


def printable(name: str) -> bool:
    """Whether a name is one line that UTF-8 can write and XML can hold."""
    return not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in "\ufffe\uffff" for c in name)


def same_name(name: str) -> str:
    """What two names share that some file system takes for one: composed, without case."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels from the file's header, upright (turned by EXIF).

    A file that breaks off is told by its end; pixels are decoded only where the end does not tell
    (and of PNG, whose EXIF may lie behind them).

    Raises:
        ValueError: not an image, damaged, cut short, or absurdly large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                width, height = image.size
                turned = image.getexif().get(_ORIENTATION) in _TURNED
                if 0 < width * height <= MAX_PIXELS and not _has_its_end(path, image.format):
                    image.load()  # says what is missing; what lies behind some images is no damage
    except (UnidentifiedImageError, OSError, SyntaxError, EOFError, ValueError) as error:
        detail = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ValueError(f"cannot be read as an image ({detail})") from error
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(f"{width}x{height} is no size for one picture")
    return (height, width) if turned else (width, height)


def _has_its_end(path: Path, form: str | None) -> bool:
    """Whether the last bytes of the file are those of a whole one."""
    with path.open("rb") as file:
        head = file.read(8)
        size = file.seek(0, os.SEEK_END)
        if form == "WEBP":
            return (
                size >= int.from_bytes(head[4:], "little") + 8
            )  # RIFF: as long as it says, and its own head
        file.seek(max(0, size - 16))
        return form in _ENDS and file.read().endswith(_ENDS[form])


def walk(root: Path) -> Iterator[Path]:
    """All files below a folder in a stable order, without hidden files and folders and __MACOSX."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX")
        for file in sorted(files):
            if not file.startswith("."):
                yield Path(folder, file)


class ImageIndex:
    """The image files below some folders, to be found by the names that labels give them.

    Only these files are ever read: a name in a label file that leads elsewhere finds nothing.
    """

    def __init__(self, roots: Iterable[Path]) -> None:
        """Raises nothing: a folder that is not there has no images."""
        self.roots = tuple(roots)
        self.files: dict[Path, ImageFile] = {}
        self._by_base: dict[str, list[ImageFile]] = defaultdict(list)
        self._by_stem: dict[str, list[ImageFile]] = defaultdict(list)
        for root in self.roots:
            for path in walk(root):
                if path.suffix.lower() in IMAGE_SUFFIXES and path not in self.files:
                    self._add(ImageFile(path, path.relative_to(root).as_posix()))

    def _add(self, file: ImageFile) -> None:
        self.files[file.path] = file
        self._by_base[same_name(file.path.name)].append(file)
        self._by_stem[same_name(file.path.stem)].append(file)

    def find(self, name: str, near: Path | None = None) -> list[ImageFile]:
        """The images that ``name`` may mean: none, one, or several of which nothing tells them apart.

        Folders in the name decide where files of one name are in several folders; ``near``, the label file's
        folder, comes first. A path of another machine is told by its last part.
        """
        base = PurePosixPath(name.replace("\\", "/")).name
        return self._narrow(self._by_base.get(same_name(base), []), safe_name(name) or base, near)

    def find_stem(self, stem: str, near: Path | None = None) -> list[ImageFile]:
        """The images of this name but for the suffix; ``stem`` may have folders."""
        base = PurePosixPath(stem).name
        return self._narrow(self._by_stem.get(same_name(base), []), stem, near, stem=True)

    def _narrow(
        self, files: list[ImageFile], name: str, near: Path | None, *, stem: bool = False
    ) -> list[ImageFile]:
        def called(file: ImageFile) -> str:
            return str(PurePosixPath(file.name).with_suffix("")) if stem else file.name

        tests = (
            lambda f: near is not None and (f.path.with_suffix("") if stem else f.path) == near / name,
            lambda f: called(f) == name,
            lambda f: same_name(called(f)) == same_name(name),
            lambda f: same_name(called(f)).endswith("/" + same_name(name)),
        )
        for test in tests:
            found = [file for file in files if test(file)]
            if found:
                return found
        return files
