"""Writing files so that a kill, a crash or a full disk leaves whole ones only.

A file is written beside its place under a temporary name, brought to the disk, and renamed: a reader sees
the old file or the new one, never a part. What a killed process leaves behind is a temporary, which
:func:`remove_temporaries` finds by its name.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import numpy as np

from stream.errors import WorkdirError

_TEMPORARY = ".*.tmp"
_NO_ROOM = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota is used up", errno.EFBIG: "too large"}


def is_temporary(path: Path) -> bool:
    """Whether the name is one that :func:`atomic_file` gives to a file in the making."""
    return path.match(_TEMPORARY)


def remove_temporaries(*folders: Path) -> list[Path]:
    """Remove what killed writers left directly in these folders; returns what was removed."""
    found = sorted(path for folder in folders for path in folder.glob(_TEMPORARY) if path.is_file())
    for path in found:
        path.unlink(missing_ok=True)
    return found


@contextlib.contextmanager
def atomic_file(path: Path, *, size: int | None = None) -> Iterator[BinaryIO]:
    """A binary file to write that appears at ``path`` when the block ends well, and not at all if it fails.

    Args:
        path: where it shall be; missing folders are made.
        size: bytes it is going to take, about; named in the error when they do not fit.

    Raises:
        WorkdirError: the file cannot be written: disk full (how much is missing), no permission, ...
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            _sync(path.parent.parent)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(path.parent)  # the name itself survives a power cut
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise write_error(path, error, size) from error
        raise


def append_line(path: Path, entry: Mapping[str, Any]) -> None:
    """Add one JSON object as a line and bring it to the disk. A line torn by a kill is closed off first.

    Raises:
        WorkdirError: the file cannot be written.
    """
    line = json.dumps(entry).encode() + b"\n"
    try:
        with path.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise write_error(path, error, len(line)) from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file, one a line; a missing file has none, torn lines are passed over."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise WorkdirError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    entries = []
    for line in lines:
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return [entry for entry in entries if isinstance(entry, dict)]


def plain(value: Any) -> Any:
    """The same value in what JSON and YAML know: paths as text, tuples as lists, NumPy's as Python's."""
    if isinstance(value, Mapping):
        return {text(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, str | PurePath):
        return text(str(value))
    return value


def text(value: str) -> str:
    """The text with what no file can hold replaced: a file name may be bytes that are not UTF-8."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def write_error(path: Path, error: OSError, size: int | None = None) -> WorkdirError:
    """Say why ``path`` could not be written, and what to do about it."""
    reason = error.strerror or str(error)
    if error.errno not in _NO_ROOM:
        return WorkdirError(f"{path}: cannot be written ({reason}); choose a folder you may write to")
    found = f"{_NO_ROOM[error.errno]} ({reason})"
    with contextlib.suppress(OSError):
        existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        found += f", {_bytes(shutil.disk_usage(existing).free)} are free"
    need = "" if size is None else f", about {_bytes(size)} are needed"
    return WorkdirError(
        f"{path}: not written, {found}{need}; free some space and run the same command again, "
        "what is finished stays"
    )


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _bytes(count: int) -> str:
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
