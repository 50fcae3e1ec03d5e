"""What the report shows, and nothing else: plain values that the page is written from.

The page depends on these classes alone; ``collect.py`` fills them from a work folder. Times are seconds from
the start of a video, pictures are small JPEG files ready to be embedded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Picture:
    """One crop as the page shows it: ``jpeg`` is ``width`` x ``height`` pixels."""

    jpeg: bytes
    width: int
    height: int
    video: int  # position in ReportData.videos, -1 where unknown
    time_s: float
    score: float  # the detector's, 0..1
    similarity: float | None = None  # cosine to the exemplar, -1..1
    is_exemplar: bool = False
    file: str = ""  # the image file it was cut from, of a folder of images

    def __repr__(self) -> str:
        return f"Picture({self.width}x{self.height}, video={self.video}, time_s={self.time_s})"


@dataclass(frozen=True)
class VideoInfo:
    """One input. ``offset_s`` is where it begins on the time line of all videos laid end to end."""

    name: str
    uri: str
    duration_s: float  # > 0; where the header has none, up to the last crop
    offset_s: float
    width: int | None = None
    height: int | None = None
    frame_rate: float | None = None
    codec: str = ""
    still: bool = False  # a folder of images: its "time" only counts them
    frames: int | None = None
    crops: int | None = None


@dataclass(frozen=True)
class Span:
    """A stretch of one video in which a character was seen in every sampled frame."""

    video: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Cluster:
    """One found character: a cluster, or all clusters of one name."""

    number: int  # 1 for the largest cluster; of those of one name, the largest's
    name: str
    size: int  # crops
    tracks: int | None
    seconds: float  # on screen
    frames: int  # sampled frames it is seen in
    videos: int
    exemplar: Picture | None
    icon: bytes  # the exemplar, tiny
    sheet: tuple[Picture, ...]  # in time order
    spans: tuple[Span, ...]  # in time order
    nearest: tuple[int, float] | None = None  # the most similar other cluster: its number, cosine
    named: bool = False  # a person gave the name
    numbers: tuple[int, ...] = ()  # of all its clusters, ``number`` first


@dataclass(frozen=True)
class Hint:
    """Two clusters that may be one character. ``together`` counts the frames that show both."""

    first: int  # a cluster's number
    second: int
    similarity: float
    together: int


@dataclass(frozen=True)
class SmallClusters:
    """The clusters that are folded into one heap of pictures."""

    clusters: int
    crops: int
    smallest: int
    largest: int
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Station:
    """One station of the pipeline: ``seconds`` is the time it was busy."""

    name: str
    seconds: float
    items: int | None
    batches: int | None


@dataclass(frozen=True)
class Fallback:
    """What was wanted, what was used in its place, and why."""

    wanted: str
    used: str
    reason: str


@dataclass(frozen=True)
class Quarantined:
    """An input that could not be used."""

    uri: str
    reason: str


@dataclass(frozen=True)
class Model:
    """A network that took part: role "detector" or "embedder"."""

    role: str
    name: str
    sha256: str


@dataclass(frozen=True)
class Adaptation:
    """Show adaptation: what was measured without labels before and after, and whether it is in use."""

    kept: bool
    finished: bool  # not stopped, and no error
    reason: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    seconds: float | None
    steps: int | None
    planned_steps: int | None
    crops: int | None  # different ones
    learned_from: int | None  # of these
    peak_rss_bytes: int | None  # of the run with it


@dataclass(frozen=True)
class DetectorAdaptation:
    """Adaptation of the detector: what came of it, why, what it learned from, and what it took."""

    kept: bool  # by the signal
    in_use: bool  # the last run found its boxes with it
    reason: str
    seconds: float | None
    steps: int | None
    planned_steps: int | None
    sure_boxes: int | None
    windows: int | None
    held_out: int | None
    before: dict[str, float]
    after: dict[str, float]


@dataclass(frozen=True)
class SettingLine:
    """One line of the resolved configuration, as YAML. ``changed`` where it is not the default."""

    text: str
    changed: bool


@dataclass(frozen=True)
class ReportData:
    """One run, ready to be shown. None is "not recorded", and the page leaves it out."""

    folder: str
    version: str = ""
    started: str = ""  # as people read it, from run.yaml
    seconds: float | None = None
    device: str = ""
    times_real_time: float | None = None
    peak_rss_bytes: int | None = None
    interval_s: float | None = None
    sampling: str = ""
    frames: int | None = None
    detections: int | None = None
    crops: int = 0
    clusters: int | None = None  # all of them, small ones too; None: not clustered yet
    strength: float | None = None
    wanted_clusters: str = ""
    converged: bool | None = None
    method: str = ""  # what was compared in clustering
    cluster_messages: tuple[str, ...] = ()
    held: int | None = None  # sampled frames that repeat a picture
    dropped: int | None = None  # detections that became no crop
    hidden: int = 0  # clusters smaller than cluster.min_size
    smallest_shown: int = 1  # cluster.min_size
    segments: int | None = None  # of the run's plan
    segments_done_before: int | None = None  # of those, done by an earlier run
    interrupted: bool = False
    videos: tuple[VideoInfo, ...] = ()
    cast: tuple[Cluster, ...] = ()
    hint: Hint | None = None
    small: SmallClusters | None = None
    unsorted: tuple[Picture, ...] = ()  # crops of a run that is not clustered
    stations: tuple[Station, ...] = ()
    models: tuple[Model, ...] = ()
    adaptation: Adaptation | None = None
    detector_adaptation: DetectorAdaptation | None = None
    quarantined: tuple[Quarantined, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()
    notes: tuple[str, ...] = ()
    settings: tuple[SettingLine, ...] = ()
    total_s: float = field(default=0.0)  # of all videos laid end to end
