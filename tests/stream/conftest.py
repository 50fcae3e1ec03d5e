"""One short rendered episode for all tests of the whole job."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.cartoon.write import Episode, render_episode


@pytest.fixture(scope="session")
def episode(tmp_path_factory: pytest.TempPathFactory) -> Episode:
    """Twelve seconds, three characters, a keyframe every second, so that segments can be short."""
    folder = tmp_path_factory.mktemp("episode")
    return render_episode(
        folder / "show.mp4", seed=3, characters=3, seconds=12, width=320, height=180, gop=24
    )


@pytest.fixture
def bad_inputs(tmp_path: Path) -> Path:
    """A folder with inputs that no run can use."""
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "notes.mp4").write_text("this is a text file\n" * 50)
    (folder / "empty.mkv").touch()
    return folder
