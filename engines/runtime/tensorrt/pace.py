"""How long builds took on this machine, from which the time of the next one is told.

A builder's own phases and steps are of very unlike lengths (one of them is four fifths of a build), so their
number says little about the time. Earlier builds do: the same network takes as long again, in another
precision about, and one of twice the layers about twice.
"""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

from engines.runtime.cache import locked

_KEPT = 50


class Pace:
    """Earlier builds, kept in a file: of how many layers each was, and how many seconds it took.

    Args:
        path: of the file; made at the first :meth:`note`. One that is damaged counts as empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def expected(self, layers: int) -> float | None:
        """Seconds that a build of ``layers`` will take, about; None where nothing was built here yet."""
        builds = self._read()
        if not builds:
            return None
        # the nearest in size, and the latest of these
        size, seconds = min(reversed(builds), key=lambda build: abs(math.log(build[0] / layers)))
        return seconds * layers / size

    def note(self, layers: int, seconds: float) -> None:
        """Keep what a build took; not being able to is no error."""
        with contextlib.suppress(OSError), locked(self._path.with_name(self._path.name + ".lock"), None):
            builds = [*self._read(), (layers, round(seconds, 3))][-_KEPT:]
            part = self._path.with_name(self._path.name + ".part")
            part.write_text(json.dumps(builds), encoding="utf-8")
            part.replace(self._path)

    def _read(self) -> list[tuple[int, float]]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return [(size, s) for size, s in ((int(n), float(s)) for n, s in found) if size > 0 <= s]
        except (OSError, ValueError, TypeError):
            return []
