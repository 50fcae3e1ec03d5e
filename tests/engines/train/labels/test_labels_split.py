"""Training and validation parts: deterministic, of the size asked for, without shared videos."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.train.labels import LabelledDataset, LabelledImage, split
from stream.errors import ConfigError


def dataset(*images: tuple[str, str, float | None]) -> LabelledDataset:
    """Images of (name, video, time)."""
    return LabelledDataset(
        tuple(LabelledImage(name, None, 10, 10, video=video, time_s=time) for name, video, time in images),
        ("x",),
    )


def part(found: LabelledDataset, name: str) -> set[str]:
    return {image.name for image in found.of_split(name)}


@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=12),
    val=st.floats(0.05, 0.6),
    seed=st.integers(0, 99),
    declared=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_videos_stay_together_and_the_order_does_not_matter(
    sizes: list[int], val: float, seed: int, declared: bool
) -> None:
    images = [
        (f"v{'abcdefghijkl'[v]}_{i:04d}.png", f"v{v}.mp4" if declared else "", float(i) if declared else None)
        for v, size in enumerate(sizes)
        for i in range(size)
    ]
    found = split(dataset(*images), val, seed)
    chosen, rest = part(found, "val"), part(found, "train")
    assert chosen
    assert rest
    if min(sizes) <= 2 * val * len(images):
        assert not {name[:2] for name in chosen} & {name[:2] for name in rest}
    assert abs(len(chosen) - val * len(images)) <= max(sizes)
    assert part(split(dataset(*reversed(images)), val, seed), "val") == chosen


def test_seeds_draw_different_parts_and_one_seed_the_same() -> None:
    images = dataset(*((f"{chr(97 + i // 26)}{chr(97 + i % 26)}x.png", "", None) for i in range(200)))
    drawn = [part(split(images, 0.1, seed), "val") for seed in range(5)]
    assert all(len(names) == 20 for names in drawn)
    assert len({frozenset(names) for names in drawn}) == 5
    assert part(split(images, 0.1, 3), "val") == drawn[3]


def test_a_lone_video_is_split_in_runs_of_its_frames() -> None:
    images = dataset(*((f"show_t{i:04d}.0.png", "show.mp4", float(i)) for i in range(400)))
    found = split(images, 0.1, 0)
    sides = [image.split for image in found]
    assert sides.count("val") == 40
    assert sum(a != b for a, b in pairwise(sides)) <= 8  # single frames would make 72


def test_two_long_videos_are_split_in_runs_rather_than_in_halves() -> None:
    images = dataset(*((f"v{v}_{i:04d}.png", f"v{v}", float(i)) for v in (1, 2) for i in range(200)))
    assert len(part(split(images, 0.1, 0), "val")) == 40


def test_copies_of_one_picture_stay_together() -> None:
    names = [f"p{chr(97 + i)}_jpg.rf.{j:032x}.jpg" for i in range(10) for j in range(3)]
    found = split(dataset(*((name, "", None) for name in names)), 0.2, 1)
    assert not {n[:2] for n in part(found, "val")} & {n[:2] for n in part(found, "train")}
    assert len(part(found, "val")) == 6


@pytest.mark.parametrize("val", [0.0, 1.0, -0.1, float("nan")])
def test_share_out_of_range_is_refused(val: float) -> None:
    with pytest.raises(ConfigError, match="over 0 and below 1"):
        split(dataset(("a.png", "", None), ("b.png", "", None)), val)


def test_one_image_cannot_be_split() -> None:
    with pytest.raises(ConfigError, match="two images or more"):
        split(dataset(("a.png", "", None)), 0.5)
