"""Held frames and shots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from films import Picture, number_of, write_film

from stream.batches import FrameBatch, Video
from stream.config import Config
from stream.decode import decode_segment
from stream.decode.scan import Scan
from stream.sources import find_videos, plan_segments

GOOD = {"preset": "veryfast", "crf": "16", "g": "48"}


def background(seed: int) -> Picture:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 235, (6, 8, 3)).astype(np.uint8)
    return coarse.repeat(24, 0).repeat(24, 1)


def with_actor(ground: Picture, x: int, mouth: bool = False) -> Picture:
    picture = ground.copy()
    picture[60:130, x : x + 30] = (250, 220, 180)
    if mouth:
        picture[100:108, x + 8 : x + 20] = (60, 10, 10)
    return picture


def decode(pictures: list[Picture], path: Path, **settings: object) -> tuple[Video, list[FrameBatch]]:
    def bad(uri: str, why: str) -> None:
        raise AssertionError(f"{uri}: {why}")

    (video,) = find_videos([str(write_film(path, pictures, options=GOOD))], on_bad=bad)
    config = Config(interval=1 / 8, threads=2, **settings)  # type: ignore[arg-type]
    (segment,) = plan_segments(video, 300, config.interval)
    return video, list(decode_segment(segment, config))


def test_animation_on_twos_is_held(tmp_path: Path) -> None:
    """Each drawing stands for 6 frames; sampled every 3 frames, every second sample is held."""
    ground = background(1)
    pictures = [with_actor(ground, 10 + 12 * (i // 6)) for i in range(72)]
    _, batches = decode(pictures, tmp_path / "a.mp4")
    numbers = np.concatenate([b.numbers for b in batches])
    held = np.concatenate([b.held.times for b in batches])
    of = np.concatenate([b.held.of for b in batches])
    assert numbers.tolist() == list(range(12))
    assert np.allclose(held, [0.125 + 0.25 * i for i in range(12)])
    assert of.tolist() == list(range(12))
    for batch in batches:  # a held frame is told in the batch that has its picture
        assert set(batch.held.of) <= set(batch.numbers)


def test_a_moving_mouth_is_not_held(tmp_path: Path) -> None:
    ground = background(2)
    pictures = [with_actor(ground, 60, mouth=(i // 6) % 2 == 1) for i in range(48)]
    _, batches = decode(pictures, tmp_path / "a.mp4")
    assert sum(len(b) for b in batches) == 8


def test_held_off(tmp_path: Path) -> None:
    pictures = [background(3)] * 24
    _, batches = decode(pictures, tmp_path / "a.mp4", held=0)
    assert sum(len(b) for b in batches) == 8
    assert sum(len(b.held) for b in batches) == 0


def test_a_slow_fade_is_not_one_long_still() -> None:
    scan = Scan(held=2.0, shot=0.35)
    delivered = 0
    for level in range(100):
        held, _ = scan.look(np.full((18, 24, 3), level, np.uint8))
        if not held:
            scan.deliver()
            delivered += 1
    assert 30 <= delivered <= 50


def test_shots_change_at_cuts_and_only_there(tmp_path: Path) -> None:
    pictures = []
    for shot in range(4):
        pictures += [with_actor(background(shot), 5 + 3 * i) for i in range(24)]
    _, batches = decode(pictures, tmp_path / "a.mp4", held=0)
    times = np.concatenate([b.times for b in batches])
    shots = np.concatenate([b.shots for b in batches])
    assert shots.tolist() == [int(t) for t in times]


@pytest.mark.parametrize("gop", ["9999", "24"])
def test_scene_sampling_adds_the_first_frame_of_each_shot(tmp_path: Path, gop: str) -> None:
    cuts = [0, 37, 65, 90]
    pictures = []
    for shot, (start, end) in enumerate(zip(cuts, [*cuts[1:], 120], strict=True)):
        for i in range(start, end):
            pictures.append(with_actor(background(shot + 10), 5 + (i - start) * 2))
    options = {**GOOD, "g": gop}
    path = write_film(tmp_path / "a.mp4", pictures, options=options)
    (video,) = find_videos([str(path)], on_bad=lambda *_: None)
    config = Config(interval=2.0, sampling="scene", held=0, threads=2)
    (segment,) = plan_segments(video, 300, 2.0)
    frames = [(t, s) for b in decode_segment(segment, config) for t, s in zip(b.times, b.shots, strict=True)]
    assert [t for t, _ in frames] == sorted(t for t, _ in frames)
    times = [t * 24 for t, _ in frames]
    assert {0, 48, 96} <= {round(t) for t in times}
    for cut in cuts[1:]:
        assert min(abs(t - cut) for t in times if t >= cut - 0.01) <= 4
    assert len(frames) == 6
    assert frames[-1][1] == 3


def test_number_of_reads_what_was_drawn() -> None:
    from films import numbered

    assert [number_of(numbered(n)) for n in (0, 1, 77, 4095)] == [0, 1, 77, 4095]
