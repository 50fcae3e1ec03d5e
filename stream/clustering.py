"""Characters out of crops: affinity propagation over tracks, with a strength that sets how many clusters.

**Strength** (cluster determination strength) is a number in 0..1. With N points to cluster, strength t asks
for about N^t clusters: 0 gives one cluster, 1 every point its own, and equal steps multiply the number of
clusters by equal factors. It is mapped onto the preference of affinity propagation by what one more exemplar
would gain on the very data (see :mod:`kernels.affinity.strength`). Raising it gives more, purer clusters.
Where a range MIN:MAX of clusters is asked for, the strength is searched until the count falls inside: fewer
than MIN raises it, more than MAX lowers it.

**Points.** The mean of all tracks is taken off the embeddings (what all pictures of a show have in common)
and they are normalized again. The crops of one track are one point, the normalized mean of its embeddings,
and count as many: similarity s(i,k) = -size_i x ||x_i - x_k||^2.

**Default.** Without a range or a strength, the count K is taken between N^0.45 and N^0.55 points: there,
where the Kth exemplar gains most in comparison with the next one. Some 40 tracks of a one-minute episode
give 5 to 8 clusters, 500 tracks of a ten-minute film 16 to 31: about twice its cast, as a character's views
(front, back, close-up) are easily merged by a person and mixed clusters are not.

**Boxes of one frame** that do not lie on each other are different characters. Affinity propagation does not
know; afterwards, points that are nearest to their exemplar keep it, and each one that shares a frame with a
point there before it moves to its most similar exemplar that is free of such, or becomes its own cluster
where none is, or where even that one is less similar than the preference. So no two such boxes end in one
cluster, and more clusters are opened than were found, if need be. What was asked for contradicts that where
it is a range with a MAX that is too small, or strength 0, which is one cluster: then no more are opened, and
a track for which every cluster holds a rival stays where it was, with a message. Boxes that lie on each other
by a quarter of the smaller one may be one character found twice (a head in its body's box): two tracks are
held apart where they lie apart in more frames than on one another. A track is one point, so two boxes of one
frame in one track stay together; the tracks of :mod:`stream.tracks` never hold such.

**Many points.** What fits the memory budget (``memory_mb``) is clustered over all pairs or, with less memory
and the same answer, among neighbours. Above it two levels are used: affinity propagation inside stretches of
time, over their exemplars weighted by what they stand for, then every point to its most similar exemplar. See
:mod:`stream.exemplars`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stream.batches import _check, _ShapeRepr
from stream.config import ClusterConfig
from stream.errors import ConfigError
from stream.exemplars import Method, find_exemplars, nearest_exemplar
from stream.rivals import find_rivals, separate
from stream.summary import release_memory

if TYPE_CHECKING:
    from kernels.affinity._gpu import Device
    from stream.tables import ClusterTable

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_ROUNDING = 1e-6  # of vectors of length 1 when what is common to them is taken off
_ROWS = 4096  # crops compared at once
_COLUMNS = 32  # of the embeddings, added up at once


@dataclass(frozen=True, repr=False)
class Clustering(_ShapeRepr):
    """Clusters of M crops, numbered by falling number of crops.

    ``similarity`` is the cosine of a crop's embedding to its exemplar's, the mean of all taken off.
    ``messages`` say for the report what a person should know.
    """

    labels: NDArray[np.int32]  # (M,) cluster of every crop, 0 is the largest
    exemplars: Ints  # (K,) position of the crop that shows each cluster best: the most central one
    similarity: Floats  # (M,)
    strength: float
    preference: float
    converged: bool
    n_points: int
    method: Method
    probes: int  # runs of affinity propagation that the search took (of the last level)
    messages: tuple[str, ...] = ()
    device: str = "cpu"  # what the exemplars were found on

    def __post_init__(self) -> None:
        _check(self, "labels", ("M",), np.int32)
        _check(self, "exemplars", ("K",), np.int64)
        _check(self, "similarity", (len(self.labels),), np.float32)

    def as_table(self, crop_ids: NDArray[Any]) -> ClusterTable:
        """What the work folder stores; ``crop_ids`` (M,) in the order of the crops clustered."""
        from stream.tables import ClusterTable

        is_exemplar = np.zeros(len(self.labels), np.bool_)
        is_exemplar[self.exemplars] = True
        meta = {
            "clusters": len(self.exemplars),
            "strength": self.strength,
            "preference": self.preference,
            "converged": self.converged,
            "points": self.n_points,
            "method": self.method,
            "device": self.device,
            "probes": self.probes,
            "messages": list(self.messages),
        }
        ids = np.asarray(crop_ids, dtype=object)
        return ClusterTable(ids, self.labels, is_exemplar, self.similarity, meta)


def clustering_gpu(device: str) -> tuple[Device | None, list[str]]:
    """The GPU to cluster on, None for the CPU; and what is lacking where one is there and cannot be used.

    Raises:
        ConfigError: ``device`` is "cuda" and cannot be had.
    """
    if device == "cpu":
        return None, []
    from engines.runtime.devices import cuda_missing

    missing = cuda_missing()
    if missing is None:
        from kernels.affinity._gpu import CupyDevice

        try:
            return CupyDevice(), []
        except RuntimeError as error:
            lacking = str(error)
    elif device == "cuda":
        lacking = (
            f"device 'cuda': {missing}; it needs a driver and pip install 'celstream[gpu]'; or use 'auto'"
        )
    else:
        return None, []
    if device == "cuda":
        raise ConfigError(lacking)
    return None, [f"clustered on the CPU: {lacking}"]


def cluster_embeddings(
    embeddings: Floats,
    tracks: Ints | None = None,
    frames: Ints | None = None,
    times: NDArray[np.float64] | None = None,
    config: ClusterConfig | None = None,
    boxes: Floats | None = None,
    overwrite: bool = False,
    device: str = "cpu",
) -> Clustering:
    """Cluster crops by their embeddings; how is told in the module's docstring. Deterministic.

    Args:
        embeddings: (M, D) float32; lengths do not matter.
        tracks: (M,) int64, crops of one number are one character; None: every crop for itself.
        frames: (M,) int64, crops of one number are different characters; None: nothing is known.
        times: (M,) seconds, the order in which two levels cut stretches; None: as the crops come.
        boxes: (M, 4) xyxy; boxes of one frame that lie on each other may be one character found twice, and
            are not held to be different; None: all of a frame are.
        config: range or strength, damping and so on; see :class:`stream.config.ClusterConfig`.
        overwrite: work in the memory of ``embeddings``, whose numbers are lost.
        device: "cpu"; "cuda", or "auto" for a GPU where there is one. It takes all pairs where these fit
            half of its free memory (or ``memory_mb``); the clusters are the same but for rounding.

    Raises:
        ValueError: arrays of unlike lengths, NaN or infinity.
        ConfigError: device "cuda" that cannot be had.
    """
    config = config or ClusterConfig()
    embeddings = np.ascontiguousarray(embeddings, dtype=np.float32)
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings: expected float32 (M, D), got shape {embeddings.shape}")
    m = len(embeddings)
    _check_column("embeddings", embeddings, embeddings.shape)
    for name, array in (("tracks", tracks), ("frames", frames), ("times", times)):
        _check_column(name, array, (m,))
    _check_column("boxes", boxes, (m, 4))
    if m == 0:
        nothing = np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.float32)
        return Clustering(*nothing, 0.0, 0.0, True, 0, "dense", 0, ("there are no crops to cluster",))
    ours = overwrite and embeddings.flags.writeable
    crops, point_of, points, sizes = _points(embeddings if ours else embeddings.copy(), tracks)
    del embeddings
    order = np.arange(len(points))
    if times is not None:
        first = np.full(len(points), np.inf)
        np.minimum.at(first, point_of, np.asarray(times, np.float64))
        order = np.argsort(first, kind="stable")
    gpu, lacking = clustering_gpu(device)
    found = find_exemplars(points, sizes, order, config, gpu)
    release_memory()  # what follows is not to come on top of the matrices
    labels = nearest_exemplar(points, points[found.exemplars])
    labels[found.exemplars] = np.arange(len(found.exemplars))
    messages = [*lacking, *found.messages]
    if frames is not None:
        rivals = find_rivals(point_of, np.asarray(frames), boxes)
        most = None
        if config.clusters is not None:
            most = max(config.clusters[1], len(found.exemplars))
        elif config.strength == 0:
            most = 1
        labels, moved, opened, left = separate(
            points, sizes, labels, found.exemplars, rivals, found.preference, most
        )
        if opened > 0:
            messages.append(
                f"{opened} more than were found, to keep boxes of one frame apart (tracks moved: {moved})"
            )
        if left:
            messages.append(
                f"tracks that share a cluster with another box of one of their frames: {left}, as there are "
                f"only so many clusters: {len(found.exemplars) + max(opened, 0)}; "
                "raise the number of clusters to part them"
            )
    numbered, exemplars, similarity = _describe(crops, labels[point_of])
    return Clustering(
        numbered,
        exemplars,
        similarity,
        found.strength,
        found.preference,
        found.converged,
        len(points),
        found.method,
        found.probes,
        tuple(messages),
        found.device,
    )


def _check_column(name: str, array: Any, shape: tuple[int, ...]) -> None:
    """Refuse another shape, and NaN or infinity."""
    if array is None:
        return
    if np.shape(array) != shape:
        raise ValueError(f"{name}: expected {shape[0]} values, shape {shape}, got shape {np.shape(array)}")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        value = np.asarray(array)[tuple(bad[0])]
        raise ValueError(f"{name}: expected finite numbers, got {value} in row {bad[0][0]}")


def _normalize(x: Floats, nothing: float = 0.0) -> Floats:
    """Rows of length 1, in place, archives are large; one with no value above ``nothing`` becomes zeros."""
    largest = np.maximum(x.max(axis=1, initial=0), -x.min(axis=1, initial=0))[:, None]
    some = largest > nothing
    np.divide(x, largest, out=x, where=some)  # squares of what is very large or small would be lost
    lengths = np.sqrt(np.einsum("md,md->m", x, x))[:, None]
    np.divide(x, lengths, out=x, where=some)
    x[~some[:, 0]] = 0
    return x


def _points(unit: Floats, tracks: Ints | None) -> tuple[Floats, Ints, Floats, Floats]:
    """Crops less the mean (M, D), the point of each (M,), the points (N, D), crops in each (N,).

    The crops are in the memory of ``unit``.
    """
    _normalize(unit)
    keys = np.arange(len(unit)) if tracks is None else np.asarray(tracks)
    _, point_of, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    point_of = point_of.reshape(-1).astype(np.int64)

    def means(x: Floats) -> Floats:
        out = np.empty((len(sizes), x.shape[1]), np.float32)
        for columns in (slice(start, start + _COLUMNS) for start in range(0, x.shape[1], _COLUMNS)):
            part = x[:, columns]
            total = np.zeros((len(sizes), part.shape[1]), np.float64)
            np.add.at(total, point_of, part)
            out[:, columns] = total / sizes[:, None]
        return out

    # the mean over tracks, not crops: a long still picture is not what all have in common
    unit -= means(unit).mean(axis=0, dtype=np.float64).astype(np.float32)
    crops = _normalize(unit, _ROUNDING)
    return crops, point_of, _normalize(means(crops), _ROUNDING), sizes.astype(np.float32)


def _describe(crops: Floats, labels: Ints) -> tuple[NDArray[np.int32], Ints, Floats]:
    """Labels by falling size, the most central crop of each, and every crop's cosine to it."""
    count = int(labels.max()) + 1
    sizes = np.bincount(labels, minlength=count)
    first = np.full(count, len(labels))
    np.minimum.at(first, labels, np.arange(len(labels)))
    rank = np.empty(count, np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(count)
    numbered = rank[labels]
    total = np.zeros((count, crops.shape[1]), np.float64)
    np.add.at(total, numbered, crops)
    central = _products(crops, total.astype(np.float32), numbered)
    best = np.lexsort((np.arange(len(labels)), -central, numbered))
    exemplars = best[np.searchsorted(numbered[best], np.arange(count))].astype(np.int64)
    similarity = np.clip(_products(crops, crops[exemplars], numbered), -1, 1)
    similarity[exemplars] = 1  # also where nothing is left when the mean is taken off
    return numbered.astype(np.int32), exemplars, similarity


def _products(crops: Floats, anchors: Floats, which: Ints) -> Floats:
    """(M,) the product of every crop with the one of ``anchors`` (K, D) that ``which`` (M,) names."""
    parts = [
        np.einsum("md,md->m", crops[part], anchors[which[part]])
        for part in (slice(start, start + _ROWS) for start in range(0, len(crops), _ROWS))
    ]
    return np.concatenate(parts).astype(np.float32)


def match_names(
    old_labels: NDArray[Any], new_labels: NDArray[Any], names: Mapping[int, str]
) -> dict[int, str]:
    """Names for the new clusters of the same crops, each old name kept once, where most crops are shared.

    One to one, so that the number of crops that keep their name is largest (Hungarian); -1 is no cluster.

    Args:
        old_labels, new_labels: (M,) clusters of the same M crops, before and after.
        names: old cluster -> name.

    Raises:
        ValueError: labels of unlike lengths.
    """
    from scipy.optimize import linear_sum_assignment

    old, new = np.asarray(old_labels), np.asarray(new_labels)
    if old.shape != new.shape or old.ndim != 1:
        raise ValueError(f"new_labels: expected {old.shape}, got {new.shape}")
    named = sorted(names)
    inside = np.isin(old, named) & (new >= 0)
    found = np.unique(new[inside])
    if not len(found):
        return {}
    overlap = np.zeros((len(named), len(found)), np.int64)
    np.add.at(overlap, (np.searchsorted(named, old[inside]), np.searchsorted(found, new[inside])), 1)
    rows, columns = linear_sum_assignment(-overlap)
    return {int(found[k]): names[named[i]] for i, k in zip(rows, columns, strict=True) if overlap[i, k] > 0}
