"""From a real work folder to what the page shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from stream.config import load_config
from stream.report import Limits
from stream.report.collect import collect
from stream.report.data import ReportData, Span
from stream.workdir import WorkFolder


def _collect(made: Any, **options: Any) -> ReportData:
    with WorkFolder.open(made.path, create=False, write=False) as folder:
        return collect(folder, **options)


def test_sizes_time_on_screen_videos_and_spans(write_folder: Callable[..., Any], episode: Any) -> None:
    one = episode("one", [(t, 7) for t in (3.0, 4, 5, 9)] + [(5.0, 2), (6.0, 2), (7.0, 2)])
    two = episode("two", [(10.0, 7), (11.0, 7)], length=30)
    data = _collect(write_folder([one, two]))
    first, second = data.cast
    assert [c.name for c in data.cast] == ["Character 1", "Character 2"]
    assert (first.size, first.videos, first.seconds, first.tracks) == (6, 2, 6.0, 2)
    assert (second.size, second.videos, second.seconds, second.tracks) == (3, 1, 3.0, 1)
    assert first.spans == (Span(0, 3, 6), Span(0, 9, 10), Span(1, 10, 12))
    assert [(v.name, v.offset_s, v.duration_s, v.frames) for v in data.videos] == [
        ("one", 0.0, 60.0, 60),
        ("two", 60.0, 30.0, 30),
    ]
    assert data.total_s == 90
    assert [p.time_s for p in first.sheet if p.video == 0] == [3, 4, 5, 9]
    assert sum(p.is_exemplar for p in first.sheet) == 1
    assert first.exemplar is not None
    assert first.exemplar.similarity == pytest.approx(1, abs=1e-3)


def test_held_frames_are_on_screen_but_not_shown_again(
    write_folder: Callable[..., Any], episode: Any
) -> None:
    data = _collect(
        write_folder(
            [episode("one", [(float(t), 0) for t in range(6)], held=(2, 3))],
            record={"detections": 9},
        )
    )
    assert data.cast[0].size == 6
    assert data.cast[0].seconds == 6
    assert [p.time_s for p in data.cast[0].sheet] == [0, 1, 4, 5]
    assert data.held == 2
    assert data.dropped == 9 - 4


def test_small_clusters_are_folded_only_beside_larger_ones(
    write_folder: Callable[..., Any], episode: Any
) -> None:
    seen = [(float(t), 0) for t in range(5)] + [(20.0, 1), (21.0, 1), (30.0, 2)]
    made = write_folder([episode("one", seen)])
    data = _collect(made)
    assert [c.size for c in data.cast] == [5]
    assert data.small is not None
    assert (data.small.clusters, data.small.crops, data.small.smallest, data.small.largest) == (2, 3, 1, 2)
    assert len(data.small.pictures) == 2
    everyone = _collect(made, limits=Limits(small_size=10))
    assert [c.size for c in everyone.cast] == [5, 2, 1]
    assert everyone.small is None


def test_names_that_people_gave_stay_with_their_cluster(
    write_folder: Callable[..., Any], episode: Any
) -> None:
    made = write_folder([episode("one", [(1.0, 4), (2.0, 4), (3.0, 4), (9.0, 1)])])
    data = _collect(made, names={1: "Bluto"})
    assert [c.name for c in data.cast] == ["Bluto", "Character 1"]  # named, so not folded, and first


def test_what_the_detector_was_sure_of_comes_first(write_folder: Callable[..., Any], episode: Any) -> None:
    bushes = [(float(t), 0, 0.3) for t in range(30)]
    faces = [(float(t), 1, 0.6) for t in range(20)] + [(float(t), 2, 0.604) for t in range(10)]
    data = _collect(write_folder([episode("one", bushes + faces)]))
    assert [(c.name, c.size) for c in data.cast] == [
        ("Character 2", 20),  # as good as equal, and larger
        ("Character 3", 10),
        ("Character 1", 30),
    ]


def test_clusters_far_smaller_than_the_largest_are_folded(
    write_folder: Callable[..., Any], episode: Any
) -> None:
    seen = [(t / 4, 0) for t in range(200)] + [(float(t), 1) for t in range(4)]
    seen += [(float(t), 2) for t in range(5)]
    data = _collect(write_folder([episode("one", seen)]))
    assert [c.size for c in data.cast] == [200, 5]
    assert data.small is not None
    assert data.small.crops == 4


def test_the_sheet_is_spread_and_bounded(write_folder: Callable[..., Any], episode: Any) -> None:
    made = write_folder([episode("one", [(float(t), 0) for t in range(55)])])
    times = [p.time_s for p in _collect(made, limits=Limits(sheet=5)).cast[0].sheet]
    assert len(times) == 5
    assert times == sorted(times)
    assert times[0] < 11
    assert times[-1] >= 44


def test_two_that_look_alike_and_never_meet_are_hinted(
    write_folder: Callable[..., Any], episode: Any
) -> None:
    apart = [(float(t), t % 3) for t in range(30)]
    data = _collect(write_folder([episode("one", apart)], alike={1: 0}))
    assert data.hint is not None
    assert {data.hint.first, data.hint.second} == {1, 2}
    assert data.hint.similarity > 0.9
    assert data.hint.together == 0


def test_clusters_seen_in_one_frame_are_not_hinted(write_folder: Callable[..., Any], episode: Any) -> None:
    seen = [(float(t), c) for t in range(20) for c in (0, 1)]
    data = _collect(write_folder([episode("one", seen)], alike={1: 0}))
    assert data.hint is None
    assert data.cast[0].nearest is not None
    assert data.cast[0].nearest[0] == 2


def test_different_looking_clusters_are_not_hinted(write_folder: Callable[..., Any], episode: Any) -> None:
    data = _collect(write_folder([episode("one", [(float(t), t % 3) for t in range(30)])]))
    assert data.hint is None


def test_clusters_of_rows_that_are_gone_do_not_stop_the_report(
    write_folder: Callable[..., Any], episode: Any
) -> None:
    made = write_folder([episode("one", [(float(t), 0) for t in range(5)]), episode("two", [(1.0, 0)])])
    (made.path / "segments" / "two" / "0000000000.parquet").unlink()
    data = _collect(made)
    assert data.cast[0].size == 5


def test_a_run_that_is_not_clustered_shows_its_crops(write_folder: Callable[..., Any], episode: Any) -> None:
    data = _collect(write_folder([episode("one", [(float(t), 0) for t in range(9)])], clustered=False))
    assert data.cast == ()
    assert data.clusters is None
    assert len(data.unsorted) == 9


def test_everything_of_the_record_may_be_missing_or_odd(
    write_folder: Callable[..., Any], episode: Any
) -> None:
    odd = {
        "videos": ["one", None, {"name": "one", "duration_s": "long", "width": None}],
        "seconds": "soon",
        "stations": {"decode": None, "detect": {"seconds": -1}, "embed": {"seconds": 2}},
        "models": {"detector": "path/x.onnx", "embedder": {"engine": "net.onnx on ORT 1/2"}},
        "notes": [None, {"video": "one", "damage": "2 packets"}, "text"],
        "fallbacks": {"not": "a list"},
        "quarantined": [{"uri": None}, 3],
        "config": {"interval": None, "cluster": None},
        "device": {"kind": "cpu", "name": "2 cores"},
        "started": 12,
        "times_real_time": float("nan"),
    }
    data = _collect(write_folder([episode("one", [(1.0, 0)])], record=odd))
    assert data.seconds is None
    assert data.times_real_time is None
    assert [s.name for s in data.stations] == ["embed"]
    assert data.notes == ("video: one; damage: 2 packets", "text")
    assert data.device == "cpu, 2 cores"
    assert [m.name for m in data.models] == ["x.onnx", "net.onnx on ORT 1/2"]
    assert data.videos[0].duration_s == 60


def test_changed_settings_are_marked(write_folder: Callable[..., Any], episode: Any) -> None:
    config = {"interval": 0.5, "threads": 0, "detector": {"score": 0.4, "iou": 0.52}}
    data = _collect(write_folder([episode("one", [(1.0, 0)])], record={"config": config}))
    assert [(s.text, s.changed) for s in data.settings] == [
        ("interval: 0.5", True),
        ("threads: 0", False),
        ("detector:", False),
        ("  score: 0.4", True),
        ("  iou: 0.52", False),
    ]


def test_the_settings_as_shown_are_the_settings(write_folder: Callable[..., Any], episode: Any) -> None:
    config = load_config(
        assignments=["boxes='a: b #c.csv'", "cluster.clusters=5:40", "detector.classes=[x, y]"]
    )
    whole = config.model_dump(mode="json")
    data = _collect(write_folder([episode("one", [(1.0, 0)])], record={"config": whole}))
    shown = yaml.safe_load("\n".join(s.text for s in data.settings))
    assert load_config(values=shown) == config
    assert sum(s.changed for s in data.settings) == 3
    assert data.wanted_clusters == "5:40"
