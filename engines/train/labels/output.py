"""The folder a conversion writes: whole or not at all, never over anything that somebody else put there."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from engines.train.labels.images import IMAGE_SUFFIXES
from stream.errors import ConfigError, WorkdirError
from stream.files import write_error

#: The file that tells a converted folder: what wrote it, and every file as it was written.
MARK = "celstream-labels.json"
_FORMAT = 1
_LOCK = ".lock"


@contextlib.contextmanager
def output_folder(out: Path, sources: Sequence[Path], about: dict[str, Any]) -> Iterator[Path]:
    """A new folder to fill, which takes the place of ``out`` when the block ends well.

    Args:
        out: missing, empty, or what a former conversion wrote and nobody has touched since.
        sources: folders and files that are read; ``out`` may not be, hold, or lie in one of them.
        about: what to write into the folder's mark.

    Raises:
        ConfigError: ``out`` overlaps with a source.
        WorkdirError: it holds something else, was changed by hand, or cannot be written.
    """
    out = out.resolve()
    _check_apart(out, sources)
    _check_free(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_over(out)
        new = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.tmp")
        new.mkdir()
        with (new / _LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield new
                _write_mark(new, about)
                (new / _LOCK).unlink()
                _check_free(out)  # somebody may have come in the meantime
                _put(new, out)
            finally:
                shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        raise write_error(out, error) from error


def _check_apart(out: Path, sources: Sequence[Path]) -> None:
    for source in (path.resolve() for path in sources):
        if out == source or source in out.parents or out in source.parents:
            raise ConfigError(f"{out}: overlaps with {source}, which is read; choose a folder beside it")


def _check_free(out: Path) -> None:
    """Raise unless the folder may be replaced without losing anything."""
    if not out.exists():
        return
    if not out.is_dir():
        raise WorkdirError(f"{out}: expected a folder, found a file; choose another name")
    files = sorted(path for path in out.rglob("*") if not path.is_dir() or path.is_symlink())
    if not files:
        return
    try:
        mark = json.loads((out / MARK).read_bytes())
        written = mark["written"]
        if mark["celstream_labels"] != _FORMAT:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError) as error:
        shown = ", ".join(str(path.relative_to(out)) for path in files[:3])
        raise WorkdirError(
            f"{out}: expected an empty folder or one of a former conversion, found {shown}; choose another"
        ) from error
    for path in files:
        name = path.relative_to(out).as_posix()
        if name == MARK:
            continue
        if name not in written:
            raise WorkdirError(f"{out}: {name} is not of the former conversion; move it, or choose another")
        if written[name] != _state(path):
            raise WorkdirError(f"{out}: {name} was changed since it was written; move it, or choose another")


def _state(path: Path) -> str:
    """What tells that a file was changed: for labels their content, for images their size."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return f"{path.stat().st_size} bytes"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def _write_mark(folder: Path, about: dict[str, Any]) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _LOCK)
    written = {path.relative_to(folder).as_posix(): _state(path) for path in files}
    mark = {"celstream_labels": _FORMAT} | about | {"written": written}
    with (folder / MARK).open("w", encoding="utf-8") as file:
        json.dump(mark, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _put(new: Path, out: Path) -> None:
    """Let ``new`` take the place of ``out``; a former conversion goes after the new one is there."""
    if not out.exists() or not any(out.iterdir()):
        new.rename(out)  # over an empty folder, too
        return
    old = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.tmp")
    out.rename(old)
    try:
        new.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _remove_left_over(out: Path) -> None:
    """Remove what killed conversions to the same folder left; one that is at work holds its lock."""
    for folder in out.parent.glob(f".{out.name}.????????.tmp"):
        if not folder.is_dir() or (folder / MARK).exists():
            continue  # a whole conversion that a kill left there is not ours to remove
        with contextlib.suppress(OSError), (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
