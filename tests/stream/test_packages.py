"""Packages that are missing, and those that are there and do not load, each in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stream.errors import DependencyError
from stream.packages import need


def test_what_is_there_is_fine() -> None:
    need(("json", "numpy"), "testing", "pip install numpy")


def test_what_is_missing_is_named_with_the_command() -> None:
    with pytest.raises(DependencyError, match=r"testing needs nosuch1, nosuch2, not installed here: pip x"):
        need(("json", "nosuch1", "nosuch2"), "testing", "pip x")


@pytest.mark.parametrize(
    "code", ["raise ImportError('libtorn.so: cannot open\\nshared object')", "raise OSError(8)", "1 / 0"]
)
def test_what_does_not_load_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    (tmp_path / "torn_package.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DependencyError, match="installed and does not load") as caught:
        need(("torn_package",), "testing", "pip x")
    assert "\n" not in str(caught.value)
    assert "pip install --force-reinstall torn_package" in str(caught.value)
    sys.modules.pop("torn_package", None)
