"""Whose a work folder is: the mark in its ``run.yaml``, and the lock of the one process that writes."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO, Any

import yaml

from stream.errors import WorkdirError
from stream.files import is_temporary
from stream.store import FORMAT

MARK = "celstream_format"


def check_folder(path: Path, create: bool) -> None:
    """Raise WorkdirError unless ``path`` is a work folder of this format, or may become one (``create``)."""
    try:
        if path.exists() and not path.is_dir():
            raise WorkdirError(f"{path}: expected a folder, found a file; name a new or an empty folder")
        if (path / "run.yaml").exists():
            read_mark(path / "run.yaml")
            return
        # a run killed while it made the folder leaves these
        ours = path.is_dir() and all(p.name == ".lock" or is_temporary(p) for p in path.iterdir())
        missing = not path.exists()
    except OSError as error:
        raise WorkdirError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if not missing and not ours:
        raise WorkdirError(
            f"{path}: holds other files and no run.yaml, so it is not celstream's; "
            "name a new or an empty folder"
        )
    if not create:
        raise WorkdirError(f"{path}: no work folder here; `celstream run VIDEO -o {path}` makes one")


def read_mark(path: Path) -> dict[str, Any]:
    """What a ``run.yaml`` holds. Raises WorkdirError: unreadable, another program's, or another format's."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WorkdirError(f"{path}: missing; the folder was moved or deleted meanwhile") from None
    except OSError as error:
        raise WorkdirError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except (yaml.YAMLError, UnicodeDecodeError):
        content = None
    found = content.get(MARK) if isinstance(content, dict) else None
    if not isinstance(content, dict) or type(found) is not int:
        raise WorkdirError(
            f"{path}: expected {MARK}: {FORMAT} in it, found none: this is another program's folder; "
            "name a new or an empty folder"
        )
    if found != FORMAT:
        age, remedy = (
            ("a newer", "upgrade celstream") if found > FORMAT else ("an older", "run the videos again")
        )
        raise WorkdirError(
            f"{path}: written by {age} celstream (format {found}, this one reads {FORMAT}); "
            f"{remedy}, or name a new or an empty folder"
        )
    return content


def take_lock(path: Path) -> IO[bytes]:
    """Open and lock the file, and leave our process number in it for who comes second.

    Raises WorkdirError: another process has it, or the file system cannot lock.
    """
    lock = path.open("a+b", buffering=0)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        owner = lock.read(20).decode(errors="replace").strip() or "unknown"
        lock.close()
        raise WorkdirError(
            f"{path.parent}: in use by another run (process {owner}); wait until it ends, "
            "or name another folder"
        ) from None
    except OSError as error:
        lock.close()
        raise WorkdirError(
            f"{path}: this file system cannot lock files ({error.strerror}); put the work folder on another"
        ) from error
    with contextlib.suppress(OSError):  # a full disk does not keep us from reading what is there
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n".encode())
    return lock
