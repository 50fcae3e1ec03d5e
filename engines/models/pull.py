"""Fetching weights of others: resumed where it was cut off, checked, and there whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engines.models import part_of
from engines.runtime.base import EngineError
from engines.runtime.cache import locked

_PART = 1 << 18
_TIMEOUT_S = 30.0

OnBytes = Callable[[int, int | None], None]


def download(url: str, target: Path, sha256: str, *, on_bytes: OnBytes | None = None) -> Path:
    """Fetch ``url`` to ``target``, unless it is there; returns ``target``.

    What was fetched before it was cut off lies beside it (``.part``), and goes on where the server can.

    Args:
        sha256: of the file, or its first digits as its publisher gives them (8 at least).
        on_bytes: told the bytes so far, and of how many where the server says so.

    Raises:
        EngineError: the server cannot be reached, or refuses; the file is another one than expected; or it
            cannot be written.
    """
    if not url.startswith(("https://", "http://")):
        raise EngineError(f"{url}: expected an address that begins with https://")
    try:
        with locked(target.with_name(f"{target.name}.lock"), None):
            if target.is_file() and _digest(target).startswith(sha256):
                return target
            part = part_of(target)
            _fetch(url, part, on_bytes)
            return _checked(part, target, sha256, url, "run the same command again")
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise EngineError(
            f"{url}: cannot be fetched ({reason}); run the same command again to go on, or fetch it on a"
            " machine with a connection and give it with --file"
        ) from error
    except OSError as error:
        raise EngineError(f"{target}: cannot be written ({error.strerror}); set CELSTREAM_CACHE") from error


def adopt(file: Path, target: Path, sha256: str) -> Path:
    """Take a file that was fetched elsewhere, checked in the same way; returns ``target``.

    Raises:
        EngineError: no such file, or another one than expected; or it cannot be written.
    """
    if not file.is_file():
        raise EngineError(f"{file}: is a folder; give a file" if file.is_dir() else f"{file}: no such file")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_file() and _digest(target) == _digest(file):
            return target  # it was checked when it came
        part = part_of(target)
        shutil.copyfile(file, part)
        return _checked(part, target, sha256, str(file), "it is as it was; give the published one")
    except OSError as error:
        raise EngineError(f"{target}: cannot be written ({error.strerror}); set CELSTREAM_CACHE") from error


def _fetch(url: str, part: Path, on_bytes: OnBytes | None) -> None:
    have = part.stat().st_size if part.is_file() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    request = urllib.request.Request(url, headers={"User-Agent": "celstream", **headers})
    try:
        answer: Any = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        return  # there is nothing beyond what is here; whether it is right, its hash says
    with answer:
        resumed = answer.status == 206 and _begins(answer.headers.get("Content-Range"), have)
        if not resumed and have and answer.status == 206:
            raise EngineError(f"{url}: the server went on elsewhere than asked; delete {part} and try again")
        have = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length and length.isdecimal() else None
        with part.open("ab" if resumed else "wb") as file:
            while chunk := answer.read(_PART):
                file.write(chunk)
                have += len(chunk)
                if on_bytes is not None:
                    on_bytes(have, total)
    if total is not None and have < total:
        raise ConnectionError(f"the connection ended after {have} of {total} bytes")


def _begins(content_range: str | None, start: int) -> bool:
    return content_range is not None and content_range.startswith(f"bytes {start}-")


def _checked(part: Path, target: Path, sha256: str, origin: str, advice: str) -> Path:
    found = _digest(part)
    if not found.startswith(sha256):
        part.unlink(missing_ok=True)
        raise EngineError(
            f"{origin}: expected a file whose sha256 begins with {sha256}, got {found}: it was damaged or"
            f" changed on the way, or is another file; {advice}"
        )
    part.replace(target)
    return target


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
