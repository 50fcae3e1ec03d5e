"""What the tests of training share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engines.train.labels import convert
from stream.cartoon.write import render_episode


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As the commands do by default: more threads only wait for each other beside other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def episode_labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DarkNet labels of a rendered episode's frames, its two characters as classes. Not to be changed."""
    where, out = tmp_path_factory.mktemp("episode"), tmp_path_factory.mktemp("labels") / "labelled"
    episode = render_episode(
        where, seed=5, characters=2, seconds=8, width=192, height=112, fps=12, label_interval_s=0.7
    )
    convert(episode.boxes_csv, "darknet", out)
    return out
