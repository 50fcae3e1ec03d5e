"""What the windows of a show teach, and whether that is enough to learn from and to measure by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from stream.adapt.detector_start import DetectorStart
from stream.batches import Video
from stream.errors import ConfigError, SourceError
from stream.progress import Progress
from stream.report.words import count as counted

if TYPE_CHECKING:
    from engines.train.show.course import ShowRecipe
    from engines.train.show.pseudo import Lesson

MOST_WINDOWS = 600


def lessons(
    videos: Sequence[Video],
    source: DetectorStart,
    count: int,
    seed: int,
    recipe: ShowRecipe,
    progress: Progress,
) -> tuple[list[Lesson], list[Lesson]]:
    """What up to ``count`` windows of the videos teach: those to learn from, and those held out.

    Raises:
        ConfigError: none is held out, too few boxes are sure, or no window could be read. It says whether
            more minutes would help: they do not where the show has no more windows.
    """
    from engines.train.show.pseudo import PseudoSettings, lesson
    from engines.train.show.teacher import net_of_file
    from stream.adapt.show_windows import parted, places, window

    where = places(videos, min(max(1, count), MOST_WINDOWS), seed)
    whole = len(places(videos, MOST_WINDOWS, seed)) <= len(where)
    learned, held = parted(where)
    if not (learned and held):
        raise ConfigError(_too_short(videos, len(where), whole))
    net, settings = net_of_file(source.path), PseudoSettings()
    if not source.calibrated:
        settings = settings.at(source.threshold)

    def each(positions: list[int], measures: bool) -> Iterator[Lesson]:
        for i in positions:
            number, start_s = where[i]
            try:
                frames = window(videos[number], start_s)
            except SourceError as error:
                progress.note(str(error))
                continue
            if frames is not None:
                yield lesson(net, frames, source.imgsz, number, settings, measures=measures)

    to_learn = list(each(learned, False))
    if not to_learn:
        raise ConfigError(
            f"expected windows of frames to learn from in {counted(len(videos), 'video')}, found none that"
            " can be decoded; what was there stays; check that they play"
        )
    _check(to_learn, recipe.fewest, "to learn from", whole)
    to_measure = list(each(held, True))
    _check(to_measure, recipe.fewest_held, "to measure by", whole)
    progress.note(
        f"adapting: {_sure(to_learn)} sure boxes in {counted(len(to_learn), 'window')}, {len(to_measure)}"
        " held out"
    )
    return to_learn, to_measure


def _sure(of: Sequence[Lesson]) -> int:
    return sum(len(lesson.sure) for lesson in of)


def _check(of: Sequence[Lesson], fewest: int, purpose: str, whole: bool) -> None:
    if _sure(of) >= fewest:
        return
    if whole:
        remedy = "these are all that there are, so more minutes do not help: run more of the show into it"
    else:
        remedy = "give more minutes, which look at more frames, or more of the show"
    raise ConfigError(
        f"expected at least {counted(fewest, 'sure box', 'sure boxes')} {purpose}, found {_sure(of)} in"
        f" {counted(len(of), 'frame')}; what was there stays; {remedy}"
    )


def _too_short(videos: Sequence[Video], windows: int, whole: bool) -> str:
    found = f"expected windows to learn from and others to measure by, found {windows} in all"
    if not whole:
        return f"{found}; what was there stays; give more minutes, which look at more frames"
    long = sum(video.duration_s or 0.0 for video in videos)
    return (
        f"{found}, which is all that {long:.0f} s of video have; what was there stays; run more of the show"
        f" into it: {_needed_s(videos[0])} s in one video are the least"
    )


def _needed_s(video: Video) -> int:
    """Seconds that a video must last, alone, for windows to learn from and to measure by."""
    from stream.adapt.show_windows import parted, places

    for seconds in range(1, 600):
        if all(parted(places([replace(video, duration_s=float(seconds))], MOST_WINDOWS, 0))):
            return seconds
    return 600
