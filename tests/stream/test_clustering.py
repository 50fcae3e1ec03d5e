"""Clusters of crops on made-up episodes: characters with several looks, tracks, false detections."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from stream.clustering import Clustering, cluster_embeddings, match_names
from stream.config import ClusterConfig
from stream.errors import WorkdirError
from stream.evaluate import ami, clusters_per_identity, purity
from stream.exemplars import find_exemplars, nearest_exemplar
from stream.rivals import covered


class Episode:
    """Crops of ``cast`` characters with ``looks`` looks each; one in ten detections is nobody (-1)."""

    def __init__(self, cast: int, seconds: int, looks: int = 3, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        centres = rng.standard_normal((cast, 64))
        views = centres[:, None] + 0.7 * rng.standard_normal((cast, looks, 64))
        rows: list[tuple[np.ndarray, int, int, int]] = []
        track = 0
        for frame in range(0, seconds, 4):  # shots of four seconds
            who = rng.choice(cast, min(cast, 1 + rng.integers(0, 3)), replace=False)
            for character in who:
                start = views[character, rng.integers(looks)] + 0.35 * rng.standard_normal(64)
                for f in range(frame, min(frame + 4, seconds)):
                    rows.append((start + 0.3 * rng.standard_normal(64), character, track, f))
                track += 1
            if rng.random() < 0.4:
                rows.append((rng.standard_normal(64), -1, track, frame))
                track += 1
        x, who_is, tracks, frames = zip(*rows, strict=True)
        x = np.array(x) + 2 * rng.standard_normal(64)  # what all pictures of a show have in common
        self.embeddings = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
        self.identity = np.array(who_is)
        self.tracks = np.array(tracks, np.int64)
        self.frames = np.array(frames, np.int64)
        self.times = self.frames.astype(np.float64)

    def cluster(self, **config: object) -> Clustering:
        return cluster_embeddings(
            self.embeddings, self.tracks, self.frames, self.times, ClusterConfig(**config)
        )

    def scores(self, found: Clustering) -> tuple[float, float]:
        known = self.identity >= 0
        names = self.identity[known].astype(str)
        return purity(found.labels[known], names), clusters_per_identity(found.labels[known], names)


def check(found: Clustering, m: int) -> None:
    k = len(found.exemplars)
    assert found.labels.shape == (m,)
    assert (found.labels[found.exemplars] == np.arange(k)).all()
    sizes = np.bincount(found.labels, minlength=k)
    assert sizes.min() >= 1
    assert (np.diff(sizes) <= 0).all()
    assert np.allclose(found.similarity[found.exemplars], 1, atol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_default_on_a_minute_with_five_characters(seed: int) -> None:
    episode = Episode(5, 60, seed=seed)
    found = episode.cluster()
    check(found, len(episode.tracks))
    assert 5 <= len(found.exemplars) <= 10
    assert found.converged
    pure, split = episode.scores(found)
    assert pure >= 0.97
    assert split <= 2


def test_default_on_ten_minutes_with_ten_characters() -> None:
    episode = Episode(10, 600, looks=4)
    found = episode.cluster()
    check(found, len(episode.tracks))
    pure, split = episode.scores(found)
    assert pure >= 0.95
    assert split <= 3
    assert found.method == "dense"
    assert found.n_points == episode.tracks.max() + 1


def test_a_track_stays_together_and_the_boxes_of_a_frame_apart() -> None:
    episode = Episode(6, 120, seed=3)
    for config in ({}, {"clusters": (8, 12)}):
        found = episode.cluster(**config)
        check(found, len(episode.tracks))
        for track in np.unique(episode.tracks):
            assert len(set(found.labels[episode.tracks == track].tolist())) == 1
        for frame in np.unique(episode.frames):
            here = found.labels[episode.frames == frame]
            assert len(set(here.tolist())) == len(here)


def test_what_was_asked_for_is_kept_where_boxes_of_a_frame_contradict() -> None:
    episode = Episode(6, 120, seed=3)  # up to four boxes in a frame
    few = episode.cluster(clusters=(2, 2))
    assert len(few.exemplars) == 2
    assert "raise the number of clusters" in few.messages[-1]
    assert len(episode.cluster(strength=0.0).exemplars) == 1
    # a strength names no limit: as many clusters as it takes
    found = episode.cluster(strength=0.2)
    assert "more than were found" in found.messages[-1]
    for frame in np.unique(episode.frames):
        here = found.labels[episode.frames == frame]
        assert len(set(here.tolist())) == len(here)


def test_boxes_that_lie_on_each_other_may_be_one_character() -> None:
    """A head in its body's box stays with it; the same picture elsewhere in the frame does not."""
    x = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    frames = np.array([0, 0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9])
    boxes = np.tile(np.array([[0, 0, 20, 40]], np.float32), (12, 1))
    boxes[1] = (5, 0, 15, 10)  # on the box of crop 0
    boxes[5] = (50, 0, 60, 10)  # beside that of crop 4
    config = ClusterConfig(clusters=(3, 3))
    found = cluster_embeddings(x, frames=frames, config=config, boxes=boxes)
    assert found.labels[0] == found.labels[1]
    assert found.labels[4] != found.labels[5]
    blind = cluster_embeddings(x, frames=frames, config=config)
    assert blind.labels[0] != blind.labels[1]


def test_share_covered_by_hand() -> None:
    big, inside, half, away = [0, 0, 10, 10], [2, 2, 4, 4], [8, 0, 12, 10], [20, 0, 30, 10]
    share = covered(np.array([big], np.float32), np.array([inside, half, away, big], np.float32))
    np.testing.assert_allclose(share, [[1, 0.5, 0, 1]])


def test_without_frames_one_cluster_is_one() -> None:
    episode = Episode(4, 40)
    found = cluster_embeddings(episode.embeddings, episode.tracks, config=ClusterConfig(strength=0.0))
    assert len(found.exemplars) == 1
    every = cluster_embeddings(episode.embeddings, episode.tracks, config=ClusterConfig(strength=1.0))
    assert len(every.exemplars) == every.n_points


@pytest.mark.parametrize("wanted", [(5, 10), (12, 12), (20, 40)])
def test_a_range_is_met(wanted: tuple[int, int]) -> None:
    episode = Episode(8, 240)
    found = cluster_embeddings(episode.embeddings, episode.tracks, config=ClusterConfig(clusters=wanted))
    assert wanted[0] <= len(found.exemplars) <= wanted[1]
    assert found.messages == ()
    # the strength it names gives about as many again
    again = cluster_embeddings(
        episode.embeddings, episode.tracks, config=ClusterConfig(strength=found.strength)
    )
    assert wanted[0] * 0.7 <= len(again.exemplars) <= wanted[1] * 1.4


def test_more_clusters_than_points_is_said() -> None:
    episode = Episode(3, 8)
    found = episode.cluster(clusters=(500, 600))
    assert len(found.exemplars) == found.n_points
    assert "500:600" in found.messages[0]


def test_two_levels_agree_with_one() -> None:
    episode = Episode(10, 600, looks=3)
    one, two = episode.cluster(clusters=(12, 20)), episode.cluster(clusters=(12, 20), memory_mb=0.12)
    check(two, len(episode.tracks))
    assert (one.method, two.method) == ("dense", "two-level")
    assert one.n_points == two.n_points
    assert episode.scores(two)[0] >= episode.scores(one)[0] - 0.03


@pytest.mark.parametrize("how", [{"clusters": (40, 60)}, {"strength": 0.65}, {}])
def test_neighbours_agree_with_all_pairs(how: dict[str, object]) -> None:
    """Real crops' clusters are of unlike sizes: 12 characters with views, some seen much more than others."""
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((70, 32))
    share = rng.dirichlet(np.full(70, 1.0))
    x = (centres[rng.choice(70, 2400, p=share)] + 0.6 * rng.standard_normal((2400, 32))).astype(np.float32)
    dense = cluster_embeddings(x, config=ClusterConfig(memory_mb=1000, **how))
    near = cluster_embeddings(x, config=ClusterConfig(memory_mb=20, **how))
    assert (dense.method, near.method) == ("dense", "neighbours")
    check(near, 2400)
    assert ami(dense.labels, near.labels.astype(str)) >= 0.95
    assert near.strength == pytest.approx(dense.strength, rel=0.02)


def test_the_exemplars_of_two_levels_are_the_best_of_their_clusters() -> None:
    """No other point of a cluster is nearer to all of it, whatever stretch it came from."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((1500, 6)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    weights = rng.integers(1, 5, 1500).astype(np.float32)
    found = find_exemplars(x, weights, np.arange(1500), ClusterConfig(memory_mb=0.3, clusters=(30, 30)))
    assert found.method == "two-level"
    labels = nearest_exemplar(x, x[found.exemplars])
    for k, exemplar in enumerate(found.exemplars):
        members = np.flatnonzero(labels == k)
        cost = (weights[members, None] * ((x[members, None] - x[members]) ** 2).sum(-1)).sum(axis=0)
        assert members[cost.argmin()] == exemplar


def test_memory_does_not_grow_with_the_square_of_the_points() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((20, 32))
    x = (centres[rng.integers(0, 20, 6000)] + 0.5 * rng.standard_normal((6000, 32))).astype(np.float32)
    tracemalloc.start()
    found = cluster_embeddings(x, config=ClusterConfig(memory_mb=0.7))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    check(found, 6000)
    assert found.method == "two-level"
    assert peak < 6000 * 6000 * 4 / 4  # not even a quarter of one matrix over all points


def test_same_twice() -> None:
    episode = Episode(6, 120)
    one, two = episode.cluster(), episode.cluster()
    assert (one.labels == two.labels).all()
    assert (one.exemplars == two.exemplars).all()
    assert one.strength == two.strength


@pytest.mark.parametrize("m", [0, 1, 2, 3])
def test_hardly_any_crops(m: int) -> None:
    x = np.eye(4, dtype=np.float32)[:m]
    found = cluster_embeddings(x, np.arange(m), np.arange(m), np.arange(m, dtype=np.float64))
    assert found.labels.shape == (m,)
    assert len(found.exemplars) <= m
    if m:
        check(found, m)


def test_equal_and_empty_embeddings() -> None:
    for x in (np.ones((30, 5), np.float32), np.zeros((30, 5), np.float32)):
        found = cluster_embeddings(x)
        assert found.labels.shape == (30,)
        assert found.labels.max() == len(found.exemplars) - 1
    apart = cluster_embeddings(np.ones((4, 5), np.float32), frames=np.zeros(4, np.int64))
    assert len(set(apart.labels.tolist())) == 4
    assert apart.messages


def test_table_says_how_it_was_made() -> None:
    episode = Episode(5, 60)
    found = episode.cluster()
    table = found.as_table(np.array([f"c{i}" for i in range(len(episode.tracks))], object))
    assert (table.cluster == found.labels).all()
    assert table.is_exemplar.sum() == len(found.exemplars) == table.meta["clusters"]
    assert table.meta["strength"] == found.strength


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="finite"):
        cluster_embeddings(np.full((2, 2), np.nan, np.float32))
    with pytest.raises(ValueError, match="tracks: expected 2 values"):
        cluster_embeddings(np.zeros((2, 2), np.float32), np.zeros(3, np.int64))


def test_names_follow_the_crops() -> None:
    old = np.array([0, 0, 0, 1, 1, 2, 2, -1])
    new = np.array([5, 5, 6, 6, 6, 7, -1, 7])
    names = {0: "Ann", 1: "Bob", 2: "Cy", 3: "nobody"}
    assert match_names(old, new, names) == {5: "Ann", 6: "Bob", 7: "Cy"}
    # one name is given once, to the larger share
    assert match_names(np.zeros(5, int), np.array([0, 0, 0, 1, 1]), {0: "Ann"}) == {0: "Ann"}
    assert match_names(old, np.full(8, -1), names) == {}
    with pytest.raises(ValueError, match=r"\(8,\)"):
        match_names(old, new[:3], names)


def test_the_function_is_at_hand_before_and_after_its_modules_are(tmp_path: Path) -> None:
    from stream import cluster

    with pytest.raises(WorkdirError):
        cluster(tmp_path / "nothing")


def test_what_is_wrong_in_an_array_is_named_with_its_row() -> None:
    x = np.ones((3, 2), np.float32)
    boxes = np.zeros((3, 4), np.float32)
    boxes[1, 2] = np.nan
    wrong: list[tuple[dict[str, object], str]] = [
        ({"boxes": boxes}, "boxes: expected finite numbers, got nan in row 1"),
        ({"boxes": np.zeros((3, 3))}, "boxes: expected 3 values"),
        ({"times": np.array([0, 1, np.inf])}, "times: expected finite numbers, got inf in row 2"),
        ({"tracks": np.zeros((3, 1), np.int64)}, "tracks: expected 3 values"),
    ]
    for arguments, message in wrong:
        with pytest.raises(ValueError, match=message):
            cluster_embeddings(x, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("factor", [1e-30, 1e-7, 1e18, 1e30])
def test_lengths_do_not_matter(factor: float) -> None:
    episode = Episode(5, 200)
    expected = episode.cluster()
    episode.embeddings = (episode.embeddings * factor).astype(np.float32)
    assert episode.cluster().labels.tolist() == expected.labels.tolist()


@pytest.mark.parametrize("memory", [0.3, 1.0])
def test_two_levels_take_points_that_are_equal(memory: float) -> None:
    """Stills and slides: many tracks of one picture, in a row; they stand for one another."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.standard_normal((600, 8)), 10, axis=0).astype(np.float32)
    found = cluster_embeddings(x, config=ClusterConfig(memory_mb=memory))
    check(found, 6000)
    assert found.method == "two-level"
    assert (found.labels.reshape(600, 10) == found.labels[::10, None]).all()
    same = cluster_embeddings(np.ones((6000, 4), np.float32), config=ClusterConfig(memory_mb=memory))
    check(same, 6000)


def test_everybody_for_himself_takes_no_memory() -> None:
    x = np.random.default_rng(0).standard_normal((900, 8)).astype(np.float32)
    for how in ({"strength": 1.0}, {"clusters": (900, 900)}):
        found = cluster_embeddings(x, config=ClusterConfig(memory_mb=0.05, **how))
        check(found, 900)
        assert (len(found.exemplars), found.messages) == (900, ())


def test_a_range_beyond_the_memory_says_what_to_raise() -> None:
    x = np.random.default_rng(0).standard_normal((1200, 8)).astype(np.float32)
    found = cluster_embeddings(x, config=ClusterConfig(memory_mb=0.05, clusters=(800, 900)))
    check(found, 1200)
    assert "800:900 clusters were asked for" in found.messages[0]
    assert "raise cluster.memory_mb" in found.messages[0]


def test_two_who_cross_each_other_once_are_still_two() -> None:
    """Boxes side by side in 20 frames and on each other in one; and a head in its body, loose once."""
    frames = np.repeat(np.arange(21), 2)
    tracks = np.tile([0, 1], 21)
    x = np.tile(np.array([[1.0, 0.1], [1.0, 0.2]], np.float32), (21, 1))
    apart, crossed = [[0, 0, 10, 10], [20, 0, 30, 10]], [[0, 0, 10, 10], [4, 0, 14, 10]]
    config = ClusterConfig(strength=0.0001)
    for common, once, clusters in ((apart, crossed, 2), (crossed, apart, 1)):
        boxes = np.array([*common * 20, *once], np.float32)
        found = cluster_embeddings(x, tracks, frames, boxes=boxes, config=config)
        assert len(found.exemplars) == clusters
