"""Episodes as files: what a decoder sees, and labels that say what is on each frame."""

from __future__ import annotations

import hashlib
from pathlib import Path

import av
import numpy as np
import pytest

from stream.cartoon.characters import make_cast
from stream.cartoon.episode import render_frames
from stream.cartoon.script import Script
from stream.cartoon.write import Episode, render_episode
from stream.errors import ConfigError
from stream.labels import Labels


@pytest.fixture(scope="module")
def episode(tmp_path_factory: pytest.TempPathFactory) -> Episode:
    out = tmp_path_factory.mktemp("episode") / "show.mp4"
    return render_episode(
        out, seed=3, characters=3, seconds=8.0, width=320, height=180, fps=24, style="cel", gop=48
    )


def test_the_file_is_h264_with_aac_of_the_length_asked_for(episode: Episode) -> None:
    with av.open(str(episode.video)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.codec_context.name == "h264"
        assert audio.codec_context.name == "aac"
        assert video.average_rate == 24
        assert (video.width, video.height) == (320, 180)
        frames = list(container.decode(video))
        assert len(frames) == 192 == episode.script.frames
        times = np.array([frame.time for frame in frames])
        np.testing.assert_allclose(times, np.arange(192) / 24, atol=1e-6)
        keys = [n for n, frame in enumerate(frames) if frame.key_frame]
        assert keys[0] == 0
        assert max(np.diff([*keys, 192])) <= 48
    with av.open(str(episode.video)) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        assert abs(len(sound) / 44100 - 8.0) < 0.1
        assert np.abs(sound).max() > 0.05


def test_the_decoded_pictures_are_the_rendered_ones(episode: Episode) -> None:
    with av.open(str(episode.video)) as container:
        for decoded, (image, _) in zip(container.decode(video=0), render_frames(episode.script), strict=True):
            error = np.abs(decoded.to_ndarray(format="rgb24").astype(int) - image).mean()
            assert error < 12


def test_labels_are_the_truth_of_every_frame(episode: Episode) -> None:
    labels = Labels.read(episode.boxes_csv)
    assert episode.boxes_csv.name == "show_boxes.csv"
    assert episode.frames_csv.name == "show_frames.csv"
    assert len(labels.frames) == 192
    by_time: dict[float, list[tuple[str, tuple[float, ...], tuple[str, ...]]]] = {}
    for box in labels.boxes:
        assert box.video_file == "show.mp4"
        assert (box.frame_width, box.frame_height) == (320, 180)
        by_time.setdefault(box.time_s, []).append((box.identity, box.box, box.flags))
    for number, (status, (_, truths)) in enumerate(
        zip(labels.frames, render_frames(episode.script), strict=True)
    ):
        # "The first frame with pts >= time_s" is this one and not the next.
        assert number / 24 - 1e-5 < status.time_s <= number / 24
        assert status.status == ("ok" if truths else "empty")
        assert by_time.get(status.time_s, []) == [(t.identity, t.box, t.flags) for t in truths]
    assert {box.identity for box in labels.boxes} <= {member.name for member in episode.cast}


def test_same_seed_same_file_and_labels(tmp_path: Path) -> None:
    def render(name: str, seed: int) -> dict[str, list[str]]:
        """Digests of what the file is made of, part by part, so that a difference says where it is."""
        made = render_episode(
            tmp_path / name, seed=seed, characters=2, seconds=2, width=160, height=90, fps=12
        )
        parts = {"labels": made.boxes_csv.read_text().splitlines()}
        parts["frames"] = [
            hashlib.sha256(image.tobytes()).hexdigest() for image, _ in render_frames(made.script)
        ]
        with av.open(str(made.video)) as container:
            for packet in container.demux():
                digest = hashlib.sha256(bytes(packet)).hexdigest()
                parts.setdefault(packet.stream.type, []).append(f"{packet.pts} {digest}")
        parts["file"] = [hashlib.sha256(made.video.read_bytes()).hexdigest()]
        return parts

    first, second, other = render("a/x.mp4", 1), render("b/x.mp4", 1), render("c/x.mp4", 2)
    assert set(first) == {"labels", "frames", "video", "audio", "file"}
    for part, found in first.items():
        assert found == second[part], part
        assert found != other[part], part


def test_label_interval_folder_and_an_empty_cast(tmp_path: Path) -> None:
    made = render_episode(
        tmp_path, seed=9, characters=0, seconds=3, width=64, height=36, fps=10, label_interval_s=1.0
    )
    assert made.video == tmp_path / "cartoon_9.mp4"
    labels = Labels.read(made.boxes_csv)
    assert labels.boxes == ()
    assert [(frame.time_s, frame.status) for frame in labels.frames] == [
        (0.0, "empty"),
        (1.0, "empty"),
        (2.0, "empty"),
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 321}, "width: expected an even number"),
        ({"height": 0}, "height: expected an even number"),
        ({"seconds": 0}, "seconds: expected a positive number"),
        ({"fps": 0}, "fps: expected a whole number"),
        ({"gop": 0}, "gop: expected a whole number"),
        ({"characters": -1}, "characters: expected 0 or more"),
        ({"label_interval_s": -1.0}, "label_interval_s: expected seconds over 0"),
        ({"style": "clay"}, "style: expected one of"),
    ],
)
def test_wrong_values_are_refused_before_a_file_is_made(
    tmp_path: Path, wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        render_episode(tmp_path / "no.mp4", **{"seconds": 1.0, **wrong})  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_scripts_are_the_same_for_the_same_seed() -> None:
    cast = make_cast(3, 0)
    assert Script.random(cast, 5, seconds=20) == Script.random(cast, 5, seconds=20)
    assert Script.random(cast, 5, seconds=20) != Script.random(cast, 6, seconds=20)
    kinds = {shot.kind for seed in range(10) for shot in Script.random(cast, seed, seconds=60).shots}
    assert kinds == {"talk", "walk", "close", "action", "still", "empty"}
