"""Read a work folder into :class:`stream.report.data.ReportData`.

Whatever ``run.yaml`` lacks is left out of the page: the report of an older or a hand-made folder is a
shorter one, not an error.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from stream.batches import Array
from stream.names import character_numbers
from stream.report.adaptation import adaptation_of, detector_adaptation_of
from stream.report.axis import Axis
from stream.report.data import (
    Cluster,
    Hint,
    Picture,
    Quarantined,
    ReportData,
    SmallClusters,
    Span,
)
from stream.report.pictures import Small, fit, icon
from stream.report.record import from_record, number, text
from stream.report.select import alike, coarser, frame_steps, spans, spread, together
from stream.tables import ClusterTable, CropTable
from stream.workdir import WorkFolder

_PORTION = 50_000  # crops whose embeddings are read together

_METHODS = {
    "dense": "all pairs of tracks",
    "neighbours": "every track's nearest neighbours",
    "two-level": "in two levels, for want of memory",
}


@dataclass(frozen=True)
class Limits:
    """What keeps the page small however long the archive is."""

    sheet: int = 24
    """Crops shown per cluster. Raising it shows more of each and makes the file larger."""
    cast: int = 80
    """Clusters with a card of their own; smaller ones are folded. Raising it makes a longer page."""
    small_size: int = 2
    """Clusters of at most this many crops are folded, if there are larger ones. Raising it folds more."""
    small_share: float = 0.02
    """So are those of at most this share of the largest one's crops. Raising it folds more."""
    small_pictures: int = 96
    """Pictures of folded clusters. Raising it shows more of them."""
    unsorted: int = 48
    """Crops shown of a run that is not clustered."""
    picture_bytes: int = 8_000_000
    """All pictures together, as JPEG; the file is a third larger. Raising it keeps larger pictures."""
    spans: int = 20_000
    """Stretches drawn in the time line; above it, short gaps are closed."""


def collect(
    folder: WorkFolder, names: Mapping[int, str] | None = None, limits: Limits | None = None
) -> ReportData:
    """Everything the page shows.

    Args:
        folder: an opened work folder.
        names: names that people gave, by the cluster's number in the cluster file. Clusters of one name are
            shown as one character.
        limits: how much is shown.

    Raises:
        WorkdirError: a segment or cluster file is damaged.
    """
    limits = limits or Limits()
    record = folder.read_run()
    crops = folder.crops(embeddings=False)
    axis = Axis.of(folder, crops, record)
    base = dataclasses.replace(
        from_record(record),
        folder=folder.path.resolve().name,
        crops=len(crops),
        videos=tuple(axis.videos),
        total_s=sum(v.duration_s for v in axis.videos),
        held=axis.held,
        adaptation=adaptation_of(folder, record),
        detector_adaptation=detector_adaptation_of(folder, record),
    )
    known = {q.uri for q in base.quarantined}
    others = [q for q in folder.quarantined() if text(q.get("uri")) not in known]
    earlier = tuple(Quarantined(text(q.get("uri")), text(q.get("reason"))) for q in others)
    base = dataclasses.replace(base, quarantined=base.quarantined + earlier)
    if base.frames is None and axis.times:
        base = dataclasses.replace(base, frames=sum(map(len, axis.times.values())))
    if base.detections is not None:  # rows of held frames were not detected, they repeat
        base = dataclasses.replace(base, dropped=max(0, base.detections - int((~crops.held).sum())))
    clusters = folder.read_clusters() if folder.latest_clusters() else None
    if clusters is None:
        return _unclustered(base, folder, crops, axis, limits)
    return _clustered(base, folder, crops, clusters, axis, names or {}, limits)


def _unclustered(
    base: ReportData, folder: WorkFolder, crops: CropTable, axis: Axis, limits: Limits
) -> ReportData:
    fresh = np.flatnonzero(~crops.held)
    when = axis.when(crops)[fresh]
    picked = [int(fresh[i]) for i in spread(when, crops.sharpness[fresh], limits.unsorted)]
    jpegs = folder.jpegs([str(crops.crop_id[i]) for i in picked])
    small = fit([str(crops.crop_id[i]) for i in picked], jpegs, limits.picture_bytes)
    pictures = [_picture(crops, i, small, axis, None) for i in picked]
    return dataclasses.replace(base, unsorted=tuple(p for p in pictures if p))


@dataclass(frozen=True)
class _Group:
    """The rows in the crop table of one cluster, or of all clusters of one name."""

    numbers: tuple[int, ...]  # as people see them, see stream.names.character_numbers
    rows: Array  # (n,) int64
    exemplar: int  # row
    name: str = ""


def _clustered(
    base: ReportData,
    folder: WorkFolder,
    crops: CropTable,
    clusters: ClusterTable,
    axis: Axis,
    names: Mapping[int, str],
    limits: Limits,
) -> ReportData:
    similarity, every = _groups(crops, clusters, names)
    groups = [g for g in every if len(g.rows) >= base.smallest_shown or g.name]
    shown, folded = _split(groups, limits)
    shown = sorted(shown, key=lambda g: (not g.name, -_sureness(g, crops)))
    when = axis.when(crops)
    sheets = [_sheet(g, crops, when, limits.sheet) for g in shown]
    small_rows = [g.exemplar for g in folded][: limits.small_pictures]

    exemplar_ids = [str(crops.crop_id[g.exemplar]) for g in shown]
    # when bytes are short, every cluster keeps about the same number of pictures
    turns = [str(crops.crop_id[row]) for row in _in_turn(sheets)]
    wanted = [*exemplar_ids, *(str(crops.crop_id[r]) for r in small_rows), *turns]
    jpegs = folder.jpegs(dict.fromkeys(wanted))
    pictures = fit(wanted, jpegs, limits.picture_bytes)

    frames = [_frame_ids(crops, g.rows) for g in shown]
    hint, nearest = _resemblance(folder, crops, shown, frames)
    all_spans = coarser([_spans(crops, g.rows, axis) for g in shown], limits.spans)
    unique = crops.unique_tracks() if len(crops) else np.empty(0, np.int64)
    cast = []
    for position, group in enumerate(shown):
        sheet = [_picture(crops, row, pictures, axis, similarity, group.exemplar) for row in sheets[position]]
        cast.append(
            Cluster(
                number=group.numbers[0],
                name=group.name or f"Character {group.numbers[0]}",
                size=len(group.rows),
                tracks=len(np.unique(unique[group.rows])) if (crops.track[group.rows] >= 0).any() else None,
                seconds=_seconds(crops, group.rows, axis),
                frames=len(frames[position]),
                videos=len(set(crops.video[group.rows])),
                exemplar=_picture(crops, group.exemplar, pictures, axis, similarity, group.exemplar),
                icon=icon(jpegs[exemplar_ids[position]]),
                sheet=tuple(p for p in sheet if p),
                spans=tuple(all_spans[position]),
                nearest=nearest.get(position),
                named=bool(group.name),
                numbers=group.numbers,
            )
        )
    meta = clusters.meta
    strength = number(meta.get("strength"))
    converged = meta.get("converged")
    return dataclasses.replace(
        base,
        clusters=sum(len(g.numbers) for g in every),
        hidden=sum(len(g.numbers) for g in every) - sum(len(g.numbers) for g in groups),
        strength=strength,
        converged=converged if isinstance(converged, bool) else None,
        method=_METHODS.get(text(meta.get("method")), ""),
        cluster_messages=tuple(text(m) for m in meta.get("messages") or () if m),
        cast=tuple(cast),
        hint=hint,
        small=_small(folded, small_rows, crops, pictures, axis, similarity),
    )


def _groups(crops: CropTable, clusters: ClusterTable, names: Mapping[int, str]) -> tuple[Array, list[_Group]]:
    """Similarity to the exemplar per crop (NaN: none), and the clusters, largest first, one for each name."""
    row_of = {crop_id: row for row, crop_id in enumerate(crops.crop_id)}
    rows = np.array([row_of.get(crop_id, -1) for crop_id in clusters.crop_id], np.int64)
    similarity = np.full(len(crops), np.nan, np.float32)
    similarity[rows[rows >= 0]] = clusters.similarity[rows >= 0]
    usable = np.flatnonzero((rows >= 0) & (clusters.cluster >= 0))
    usable = usable[np.argsort(clusters.cluster[usable], kind="stable")]
    numbers = character_numbers(clusters)
    groups = []
    starts = np.flatnonzero(np.diff(clusters.cluster[usable])) + 1
    for part in np.split(usable, starts) if len(usable) else []:
        own = rows[part]
        marked = own[clusters.is_exemplar[part]]
        # the exemplar's segment may have been done again since: the most similar crop stands in
        best = marked[0] if len(marked) else own[np.argmax(clusters.similarity[part])]
        label = int(clusters.cluster[part[0]])
        groups.append(_Group((numbers[label],), np.sort(own), int(best), names.get(label, "")))
    groups = _one_for_each_name(sorted(groups, key=lambda g: g.numbers))
    groups.sort(key=lambda g: (-len(g.rows), g.numbers))
    return similarity, groups


def _one_for_each_name(groups: Sequence[_Group]) -> list[_Group]:
    """Clusters of one name are one character; the first of them gives number and exemplar."""
    joined: dict[object, _Group] = {}
    for group in groups:
        key = group.name or group.numbers
        if (first := joined.get(key)) is not None:
            rows = np.union1d(first.rows, group.rows)
            group = _Group(first.numbers + group.numbers, rows, first.exemplar, first.name)
        joined[key] = group
    return list(joined.values())


def _split(groups: Sequence[_Group], limits: Limits) -> tuple[list[_Group], list[_Group]]:
    """Clusters with a card of their own, and those that are folded together."""
    most = max((len(g.rows) for g in groups), default=0)
    small = max(limits.small_size, limits.small_share * most)
    large = [g for g in groups if len(g.rows) > small or g.name]
    shown = (large or list(groups))[: limits.cast]
    numbers = {g.numbers for g in shown}
    return shown, [g for g in groups if g.numbers not in numbers]


def _sureness(group: _Group, crops: CropTable) -> float:
    """How sure the detector was, on average: things that are no character come last."""
    return round(float(crops.score[group.rows].mean()), 2)


def _sheet(group: _Group, crops: CropTable, when: Array, count: int) -> list[int]:
    """Rows of the crops that are shown of a cluster, in time order."""
    fresh = group.rows[~crops.held[group.rows]]
    rows = np.union1d(fresh, [group.exemplar])
    quality = crops.sharpness[rows] * crops.score[rows]
    always = [int(np.searchsorted(rows, group.exemplar))]
    return [int(rows[i]) for i in spread(when[rows], quality, count, always)]


def _in_turn(sheets: Sequence[Sequence[int]]) -> list[int]:
    """The first of each sheet, then the second of each, and so on; each sheet halved, so gaps stay even."""
    orders = []
    for sheet in sheets:
        steps = [2**k for k in range(len(sheet).bit_length(), -1, -1)]
        orders.append(list(dict.fromkeys(i for step in steps for i in range(0, len(sheet), step))))
    longest = max(map(len, sheets), default=0)
    return [
        sheets[s][order[turn]]
        for turn in range(longest)
        for s, order in enumerate(orders)
        if turn < len(order)
    ]


def _small(
    folded: Sequence[_Group],
    rows: Sequence[int],
    crops: CropTable,
    pictures: Mapping[str, Small],
    axis: Axis,
    similarity: Array,
) -> SmallClusters | None:
    if not folded:
        return None
    sizes = [len(g.rows) for g in folded]
    shown = [_picture(crops, row, pictures, axis, similarity) for row in rows]
    return SmallClusters(len(folded), sum(sizes), min(sizes), max(sizes), tuple(p for p in shown if p))


def _resemblance(
    folder: WorkFolder, crops: CropTable, shown: Sequence[_Group], frames: Sequence[Array]
) -> tuple[Hint | None, dict[int, tuple[int, float]]]:
    """The pair to look at, and the most similar other cluster of each.

    Two clusters are possibly the same when their centres are as near to each other as their own crops
    usually are to them, and when they are hardly ever seen in one frame (two boxes of one frame are two
    characters, up to a doubled box now and then).
    """
    if len(shown) < 2:
        return None, {}
    centres, usual = _centres(folder, crops, shown)
    cosine = alike(centres)
    both = together(frames)
    fewest = np.array([max(1, len(f)) for f in frames])
    apart = both <= 0.05 * np.minimum(fewest[:, None], fewest[None, :])
    possible = np.where(apart, cosine, -2)
    nearest = {
        a: (shown[int(cosine[a].argmax())].numbers[0], float(cosine[a].max())) for a in range(len(shown))
    }
    first, second = divmod(int(possible.argmax()), len(shown))
    value = float(possible[first, second])
    if value < min(usual[first], usual[second]):
        return None, nearest
    first, second = sorted((first, second))
    one, two = shown[first].numbers[0], shown[second].numbers[0]
    return Hint(one, two, value, int(both[first, second])), nearest


def _centres(folder: WorkFolder, crops: CropTable, shown: Sequence[_Group]) -> tuple[Array, Array]:
    """(C, D) sums of embeddings, and (C,) the mean cosine of a cluster's crops to its centre."""
    group_of = {str(crops.crop_id[row]): c for c, g in enumerate(shown) for row in g.rows}
    sums: Array | None = None
    for videos in _portions(crops):
        part = folder.crops(embeddings=True, videos=videos)
        if part.embeddings is None or not len(part):
            continue
        owner = np.array([group_of.get(str(i), -1) for i in part.crop_id])
        if sums is None:
            sums = np.zeros((len(shown), part.embeddings.shape[1]))
        np.add.at(sums, owner[owner >= 0], part.embeddings[owner >= 0])
    if sums is None:
        sums = np.zeros((len(shown), 1))
    # the mean cosine of unit vectors to the direction of their sum is the sum's length over their number
    usual = np.linalg.norm(sums, axis=1) / np.array([max(1, len(g.rows)) for g in shown])
    return sums, usual


def _portions(crops: CropTable) -> list[list[str]]:
    """Videos in groups of about ``_PORTION`` crops: the embeddings of an archive do not fit in memory."""
    found: list[list[str]] = []
    filled = _PORTION
    for video, many in Counter(str(v) for v in crops.video).items():
        if filled + many > _PORTION:
            found.append([])
            filled = 0
        found[-1].append(video)
        filled += many
    return found


def _frame_ids(crops: CropTable, rows: Array) -> Array:
    """Ascending distinct ids of the frames a cluster is seen in."""
    keys = np.stack([crops.segment[rows].astype(np.int64), crops.frame_index[rows]], axis=1)
    return np.unique(keys[:, 0] * (1 << 40) + keys[:, 1])


def _per_video(crops: CropTable, rows: Array, axis: Axis) -> list[tuple[str, Array]]:
    """(video, ascending positions of the sampled frames the rows are in), in the order of the videos."""
    names = crops.video[rows]
    found = []
    for name in sorted(set(names), key=lambda n: axis.place[str(n)]):
        times = np.unique(crops.time_s[rows[names == name]])
        found.append((str(name), np.searchsorted(axis.times[str(name)], times)))
    return found


def _seconds(crops: CropTable, rows: Array, axis: Axis) -> float:
    return float(sum(frame_steps(axis.times[v])[seen].sum() for v, seen in _per_video(crops, rows, axis)))


def _spans(crops: CropTable, rows: Array, axis: Axis) -> list[Span]:
    found: list[Span] = []
    for name, seen in _per_video(crops, rows, axis):
        times = axis.times[name]
        found += spans(seen, times, frame_steps(times), axis.place[name])
    return found


def _picture(
    crops: CropTable,
    row: int,
    pictures: Mapping[str, Small],
    axis: Axis,
    similarity: Array | None,
    exemplar: int = -1,
) -> Picture | None:
    small = pictures.get(str(crops.crop_id[row]))
    if small is None:
        return None
    known = similarity is not None and not np.isnan(similarity[row])
    place = axis.place[str(crops.video[row])]
    return Picture(
        jpeg=small.jpeg,
        width=small.width,
        height=small.height,
        video=place,
        time_s=float(crops.time_s[row]),
        score=float(crops.score[row]),
        similarity=float(similarity[row]) if known and similarity is not None else None,
        is_exemplar=row == exemplar,
        file=PurePath(str(crops.source[row])).name if axis.videos[place].still else "",
    )
