"""How tests adapt a detector within seconds, and what a run records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from engines.train.show.course import ShowRecipe

RECIPE = ShowRecipe(
    batch=8, creatures=6, cartoons=0, episodes=0, looks=1, fewest=4, fewest_held=1, margin=-100.0
)
QUICK: dict[str, Any] = {"minutes": 0.3, "steps": 2, "report": False}


def record(work: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((work / "run.yaml").read_text())
    return content
