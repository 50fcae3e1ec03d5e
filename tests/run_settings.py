"""How the tests of a whole run set it: short segments, frames close together, no adaptation."""

from __future__ import annotations

import sys

SETTINGS = {"interval": 0.5, "segment_seconds": 3.0, "detector": {"score": 0.1}, "adapt": "off"}
COMMAND = [
    *(sys.executable, "-m", "stream.cli", "run"),
    *("--interval", "0.5", "--set", "segment_seconds=3", "--set", "detector.score=0.1", "--adapt", "off"),
    *("--log", "quiet"),
]
