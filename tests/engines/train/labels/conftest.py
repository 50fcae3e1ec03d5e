"""Small label folders, made file by file as the tools of this world write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Path]:
    """``picture("images/a.jpg", 100, 50)`` makes an image file below tmp_path and gives its path."""

    def make(name: str, width: int = 100, height: int = 50, **options: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, height), (200, 80, 40)).save(path, **options)
        return path

    return make


@pytest.fixture
def text(tmp_path: Path) -> Callable[[str, str], Path]:
    """``text("labels/a.txt", "0 .5 .5 1 1")`` writes a text file below tmp_path and gives its path."""

    def make(name: str, content: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8", newline="")
        return path

    return make
