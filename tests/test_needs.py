"""Tests that lack a package are skipped, and in CI they fail."""

from __future__ import annotations

import platform
import sys

import pytest
from needs import needs


def test_what_cannot_be_imported_is_skipped_but_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"No module named 'no_such'.*: pip install it; CI"):
        needs("no_such", "pip install it")
    assert needs("json", "") is sys.modules["json"]
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="pip install it"):
        needs("no_such", "pip install it")
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(sys, "platform", "darwin")  # there are no wheels for it
    with pytest.raises(pytest.skip.Exception):
        needs("no_such", "pip install it")
