"""Where built engines and converted networks are kept: made once per machine, by one process.

The folder is ``$CELSTREAM_CACHE``, else ``$XDG_CACHE_HOME/celstream``, else ``~/.cache/celstream``. Each
entry is a folder of its own, named by a hash of everything its content depends on; it appears whole, by a
rename, or not at all. It may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.runtime.base import EngineError

_ABOUT = "about.json"
_ASK_EVERY_S = 0.2

Say = Callable[[str], None]


def cache_folder() -> Path:
    """The folder that engines, networks and downloads are kept in; it may not exist yet."""
    own = os.environ.get("CELSTREAM_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "celstream"


@dataclass(frozen=True)
class Entry:
    """Something kept: its folder, and what is known about it (``about.json``).

    ``fresh``: it was made by the very call that gave it, not found.
    """

    path: Path
    about: Mapping[str, Any]
    fresh: bool = False

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(file.stat().st_size for file in self.path.iterdir() if file.is_file())


@dataclass(frozen=True)
class Damaged:
    """What was an entry and is none any more: its folder, ``about`` as far as it can be read, and why."""

    path: Path
    about: Mapping[str, Any]
    why: str


class Cache:
    """Entries of one kind, below ``cache_folder()/kind``.

    Args:
        kind: 'engines' or 'networks'.
        root: another folder in place of :func:`cache_folder`.
    """

    def __init__(self, kind: str, root: Path | None = None) -> None:
        self.folder = (root or cache_folder()) / kind

    def find(self, key: Mapping[str, Any]) -> Entry | None:
        """The entry made for this key, None where there is none (or a damaged one)."""
        entry = _read(self.folder / key_name(key))
        return entry if isinstance(entry, Entry) and entry.about.get("key") == _plain(key) else None

    def get(
        self,
        key: Mapping[str, Any],
        make: Callable[[Path], Mapping[str, Any]],
        *,
        what: str = "",
        say: Say | None = None,
        anew: bool = False,
    ) -> Entry:
        """The entry for ``key``; made by ``make(folder)`` where there is none.

        Of several processes (and threads) that ask at once, one makes it and the others wait for it. A
        process that is killed meanwhile leaves the lock free and nothing broken.

        Args:
            key: everything that the content depends on; plain values.
            make: writes files into the empty folder it is given; returns what shall be known about them.
            what: it is, for people, as in "net.onnx in int8"; empty is the folder's name.
            say: told once when another process is at it.
            anew: make it although it is there, in its place.

        Raises:
            EngineError: the folder cannot be written. Whatever ``make`` raises passes through.
        """
        found = None if anew else self.find(key)
        if found is not None:
            return found
        place = self.folder / key_name(key)
        try:
            with locked(self.folder / f"{place.name}.lock", say, what):
                found = None if anew else self.find(key)
                return found if found is not None else self._make(place, key, make)
        except OSError as error:
            raise EngineError(
                f"{error.filename or place}: cannot be written ({error.strerror}); set CELSTREAM_CACHE to a"
                " folder you may write to, with room in it"
            ) from error

    def _make(self, place: Path, key: Mapping[str, Any], make: Callable[[Path], Mapping[str, Any]]) -> Entry:
        # nobody else is here: what lies about was left by killed processes
        for left in self.folder.glob(f".{place.name}.*"):
            shutil.rmtree(left, ignore_errors=True)
        draft = self.folder / f".{place.name}.{os.getpid()}"
        draft.mkdir()
        try:
            began = time.monotonic()
            about = dict(make(draft)) | {
                "key": _plain(key),
                "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "seconds": round(time.monotonic() - began, 2),
                "files": {f.name: f.stat().st_size for f in draft.iterdir()},
            }
            (draft / _ABOUT).write_text(json.dumps(about, indent=1, default=str), encoding="utf-8")
            for file in draft.iterdir():
                _sync(file)
            if place.exists():
                old = self.folder / f".{place.name}.old"
                place.rename(old)
                shutil.rmtree(old, ignore_errors=True)
            draft.rename(place)
            _sync(self.folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return Entry(place, about, fresh=True)

    def entries(self) -> list[Entry]:
        """Every whole entry, the newest first."""
        whole = [entry for entry in self._all() if isinstance(entry, Entry)]
        return sorted(whole, key=lambda entry: str(entry.about.get("made", "")), reverse=True)

    def damaged(self) -> list[Damaged]:
        """Folders that are no whole entry: a file was cut off, changed or deleted. They are never used."""
        return sorted((e for e in self._all() if isinstance(e, Damaged)), key=lambda entry: entry.path)

    def _all(self) -> list[Entry | Damaged | None]:
        return [_read(path) for path in self.folder.iterdir()] if self.folder.is_dir() else []

    def remove(self, entry: Entry | Damaged) -> None:
        """Delete an entry. A process that has it open keeps what it loaded."""
        with locked(self.folder / f"{entry.path.name}.lock", None):
            shutil.rmtree(entry.path, ignore_errors=True)


def key_name(key: Mapping[str, Any]) -> str:
    """The folder name of a key: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(_plain(key), sort_keys=True).encode()).hexdigest()[:16]


def _plain(key: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(key, sort_keys=True, default=str))


def _read(path: Path) -> Entry | Damaged | None:
    """The entry at ``path``, damaged where a file is missing or of another size; None for anything else."""
    if path.name.startswith(".") or not path.is_dir():
        return None
    about: dict[str, Any] = {}
    try:
        about = json.loads((path / _ABOUT).read_text(encoding="utf-8"))
        sizes = {name: (path / name).stat().st_size for name in about["files"]}
    except FileNotFoundError as error:
        return Damaged(path, about, f"{Path(error.filename).name} is missing")
    except OSError as error:
        return Damaged(path, about, f"{Path(error.filename).name} cannot be read ({error.strerror})")
    except (ValueError, KeyError, AttributeError, TypeError):
        return Damaged(path, about if isinstance(about, dict) else {}, f"{_ABOUT} is not as it was written")
    for name, size in about["files"].items():
        if sizes[name] != size:
            return Damaged(path, about, f"{name} has {sizes[name]} bytes in place of {size}")
    return Entry(path, about)


@contextlib.contextmanager
def locked(path: Path, say: Say | None, what: str = "") -> Iterator[None]:
    """Hold a lock file, waiting for whoever holds it; ``say`` is told once, by ``what``, that it waits.

    The kernel lets go of it when its process ends, however it ends, so that no lock outlives its owner.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        told = False
        while not _take(file):
            if say is not None and not told:
                say(f"waiting for another process that is making {what or path.stem}")
                told = True
            time.sleep(_ASK_EVERY_S)
        yield


def _take(file: Any) -> bool:
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
