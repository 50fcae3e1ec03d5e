"""How the tests of a whole run set it: short segments, close frames, one look at each, no adaptation.

The default detector looks three times at each frame, which takes most of a run's time. What the default finds
is for the tests that say so (``tests/stream/test_cli.py`` runs it from end to end).
"""

from __future__ import annotations

import sys
from typing import Any

SETTINGS: dict[str, Any] = {
    "interval": 0.5,
    "segment_seconds": 3.0,
    "detector": {"score": 0.1, "scales": [1]},
    "adapt": "off",
}
OPTIONS = [
    *("--interval", "0.5", "--set", "segment_seconds=3", "--set", "detector.score=0.1"),
    *("--set", "detector.scales=[1]", "--adapt", "off"),
]
COMMAND = [sys.executable, "-m", "stream.cli", "run", *OPTIONS, "--log", "quiet"]


def with_detector(**values: Any) -> dict[str, Any]:
    """SETTINGS with other values for the detector."""
    return {**SETTINGS, "detector": SETTINGS["detector"] | values}
