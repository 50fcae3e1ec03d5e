"""Show adaptation of a work folder: an embedding of its own from its crops, without labels.

The crops' pictures are read back out of the segment files, the network is trained on them for minutes (see
:mod:`engines.train.adapt`), and the embeddings it gives go into files of their own (see
:mod:`stream.embeddings`). Segment files are not touched. Where the label-free signal says that the new
embeddings are no better, the old ones stay and the reason is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from engines.models import file_sha256, resolve
from engines.runtime import EngineError
from stream import embeddings
from stream.adapt.show_crops import different, distinct, squares
from stream.batches import Array
from stream.cluster_job import cluster_again, frame_numbers
from stream.config import EmbedderConfig, load_config
from stream.embed import Embedder
from stream.errors import ConfigError
from stream.packages import need
from stream.progress import Progress, Quiet
from stream.store import SegmentInfo
from stream.tables import CropTable
from stream.workdir import WorkFolder

if TYPE_CHECKING:
    from engines.train.adapt import Adapted

Start = Literal["default", "scratch"]

MIN_CROPS = 300  # different pictures: with fewer the network learns these and not the show
SURE = 0.5  # score from which a box is learned from: below it every other one is a part or a thing
_EXPORT_S = 5.0  # about what writing and opening the network takes: less, but from scratch more
_EMBED_S = 0.003  # and embedding a crop with it
_MOST = 12_000  # pictures that are learned from, evenly over the folder: 150 MB


class AdaptationStopped(Exception):
    """Whoever asked for the adaptation asked to stop it; the folder is as it was before."""


@dataclass(frozen=True)
class AdaptSummary:
    """What an adaptation did. ``before`` and ``after`` are :class:`engines.train.adapt_signal.Signal`."""

    out: str
    kept: bool  # whether the adapted embeddings are used
    reason: str
    before: dict[str, float]
    after: dict[str, float]
    start: str
    seed: int
    minutes: float
    steps: int
    planned_steps: int
    seconds: float
    crops: int  # different pictures in the folder
    learned_from: int  # of these
    clusters: int  # in the end

    def as_json(self) -> dict[str, Any]:
        """For programs, and for the folder's record."""
        return asdict(self)

    def as_text(self) -> str:
        """A few lines for people."""
        head = "Adapted" if self.kept else "Not adapted"
        of = f" of {self.crops}" if self.crops != self.learned_from else ""
        trained = f"{self.steps} steps over {self.learned_from}{of} different crops in {self.seconds:.0f} s"
        page = Path(self.out) / "report.html"
        return f"{head}: {self.reason}\n{trained}; {self.clusters} clusters. See {page}"


def adapt(
    out: str | Path,
    *,
    minutes: float = 3.0,
    steps: int | None = None,
    start: Start = "default",
    seed: int = 0,
    min_crops: int = MIN_CROPS,
    progress: Progress | None = None,
    report: bool = True,
) -> AdaptSummary:
    """Adapt the embedding of a work folder to its show, and cluster again with it. Names are taken over.

    Args:
        out: the work folder.
        minutes: longest time for all of it, of which training has half at least. The number of steps follows
            from it, so that a seed gives the same weights; the clock only ends what takes longer.
        steps: in place of those that ``minutes`` stand for, which then are the clock alone.
        start: "default", the weights that come with celstream, or "scratch".
        seed: another seed is another order of the crops and other views of them.
        min_crops: different pictures below which it is refused.
        progress: told how far it is; nothing by default.
        report: also write ``report.html`` again.

    Raises:
        ConfigError: too few crops, or a setting out of its range.
        DependencyError: torch or onnx is not installed.
        WorkdirError: no such work folder, in use, or damaged.
    """
    needs_torch()
    with WorkFolder.open(out, create=False) as folder:
        return adapt_folder(
            folder,
            minutes=minutes,
            steps=steps,
            start=start,
            seed=seed,
            min_crops=min_crops,
            progress=progress,
            report=report,
        )


def adapt_folder(
    folder: WorkFolder,
    *,
    minutes: float = 3.0,
    steps: int | None = None,
    start: Start = "default",
    seed: int = 0,
    min_crops: int = MIN_CROPS,
    progress: Progress | None = None,
    report: bool = True,
    cluster: bool = True,
    stop: Callable[[], bool] | None = None,
) -> AdaptSummary:
    """Adapt an open work folder; arguments and errors as for :func:`adapt`.

    ``cluster`` False leaves clustering, report and the record's number of clusters to the caller. ``stop`` is
    asked at every step and between parts of the work.

    Raises:
        AdaptationStopped: ``stop`` said so.
    """
    needs_torch()
    if not (np.isfinite(minutes) and minutes > 0):
        raise ConfigError(f"minutes: expected more than 0, got {minutes}; 3 is usual")
    began = time.perf_counter()
    progress = progress or Quiet()
    show = _Show.read(folder, min_crops, stop or (lambda: False))
    progress.note(f"adapting to {len(show.rows)} crops for at most {minutes:g} minutes ...")
    adapted = _train(show, start, minutes, began, steps, seed, progress)
    if adapted.kept:
        _write(folder, show, adapted)
    summary = AdaptSummary(
        out=str(folder.path),
        kept=adapted.kept,
        reason=adapted.reason,
        before=adapted.before.as_dict(),
        after=adapted.after.as_dict(),
        start=start,
        seed=seed,
        minutes=minutes,
        steps=adapted.steps,
        planned_steps=adapted.planned_steps,
        seconds=round(time.perf_counter() - began, 2),
        crops=len(show.rows),
        learned_from=len(show.chosen),
        clusters=int(folder.read_run().get("clusters") or 0),
    )
    return _finish(folder, summary, report=report, cluster=cluster)


@dataclass(frozen=True)
class _Show:
    """What is known of the crops of a folder. ``rows`` (N,) are those of different pictures in ``crops``."""

    folder: WorkFolder
    infos: list[SegmentInfo]
    crops: CropTable
    rows: Array
    of_row: Array  # (M,) position in ``rows`` of every crop's picture
    chosen: Array  # (K,) positions in ``rows`` that are learned from
    stop: Callable[[], bool]

    @classmethod
    def read(cls, folder: WorkFolder, min_crops: int, stop: Callable[[], bool]) -> _Show:
        infos = folder.segments()
        crops = folder.crops()
        pictures = distinct(crops)
        count = len(pictures)
        if count < max(min_crops, 2):
            raise ConfigError(
                f"{folder.path}: expected at least {max(min_crops, 2)} different crops to adapt to, found"
                f" {count}; run with a smaller --interval or on more of the show, or lower adapt.min_crops"
                " (`celstream adapt --min-crops`)"
            )
        sure = np.flatnonzero(crops.score[pictures.rows] >= SURE)
        if len(sure) < max(min_crops, 2):  # another detector's scores, or few of them: all are taken
            sure = np.arange(count)
        evenly = np.linspace(0, len(sure) - 1, min(len(sure), _MOST)).round().astype(np.int64)
        chosen = sure[np.unique(evenly)]
        return cls(folder, infos, crops, pictures.rows, pictures.of_row, chosen, stop)

    def go_on(self) -> None:
        """Raises AdaptationStopped where that was asked."""
        if self.stop():
            raise AdaptationStopped

    def squares(self, rows: Array) -> Iterator[Array]:
        """The embedder's pictures of these rows of ``crops``, in parts."""
        from engines.train.views import SIDE

        for part in squares(self.folder, self.crops.crop_id[rows], SIDE, "pad"):
            self.go_on()
            yield part


def _train(
    show: _Show,
    start: Start,
    minutes: float,
    began: float,
    steps: int | None,
    seed: int,
    progress: Progress,
) -> Adapted:
    from engines.train.adapt import adapt as train
    from engines.train.adapt import planned_steps

    rows = show.rows[show.chosen]
    crops = show.crops
    assert crops.embeddings is not None
    tracks = crops.unique_tracks()[rows]
    couples = different(frame_numbers(crops)[rows], tracks, crops.boxes[rows])

    def told(step: int, steps: int, value: float | None) -> None:
        show.go_on()
        if value is not None:
            progress.note(f"adapting: step {step} of {steps}, signal {value:.4f}")

    pictures = np.concatenate(list(show.squares(rows)))
    # the clock is that of the whole: what was read took of it, and what follows will
    left = 60 * minutes - (time.perf_counter() - began) - _EXPORT_S - _EMBED_S * len(show.rows)
    try:
        return train(
            pictures,
            tracks,
            couples,
            crops.embeddings[rows],
            start=resolve("default", "embedder").path if start == "default" else None,
            seconds=max(left, 30 * minutes),
            steps=planned_steps(60 * minutes) if steps is None else steps,
            seed=seed,
            progress=told,
            threads=1,  # so small a network gains little by two, and waits for both on a busy machine
        )
    except EngineError as error:
        raise ConfigError(str(error)) from error


def _write(folder: WorkFolder, show: _Show, adapted: Adapted) -> None:
    """The adapted embeddings of every crop, and the network, as files of their own."""
    with TemporaryDirectory(prefix="celstream-") as place:
        model = Path(place) / embeddings.MODEL
        adapted.export(model)
        about = {"model": file_sha256(model), "steps": adapted.steps, "after": adapted.after.as_dict()}
        # by the runtime, which takes a third of torch's time for it
        embedder = Embedder(EmbedderConfig(model=str(model)), device="cpu")
        try:
            embeddings.write(folder.path, _parts(show, embedder), model, about)
        finally:
            embedder.close()


def _parts(show: _Show, embedder: Embedder) -> Iterator[tuple[SegmentInfo, Array, Array]]:
    """Segment by segment: the ids of its crops, and their new embeddings."""
    ends = np.cumsum([info.crops for info in show.infos])
    for info, end in zip(show.infos, ends.tolist(), strict=True):
        if info.crops:
            part = slice(end - info.crops, end)
            pictures, own = np.unique(show.of_row[part], return_inverse=True)
            vectors = np.concatenate([embedder.vectors(x) for x in show.squares(show.rows[pictures])])
            yield info, show.crops.crop_id[part], vectors[own.reshape(-1)]


def _finish(folder: WorkFolder, summary: AdaptSummary, *, report: bool, cluster: bool) -> AdaptSummary:
    """Note what was done in the folder's record, and cluster again where there are new embeddings."""
    record = folder.read_run()
    about = {key: value for key, value in summary.as_json().items() if key not in ("out", "clusters")}
    about["segments"] = embeddings.mark_of(folder.segments())
    folder.write_run(record | {"adaptation": about})
    if not cluster:
        return summary
    if summary.kept:
        asked = record.get("clustering") or (record.get("config") or {}).get("cluster", {})
        settings = load_config(values={"cluster": asked}).cluster
        table = cluster_again(folder, settings, report=report)
        return replace(summary, clusters=int(table.meta["clusters"]))
    if report:
        from stream.report import write_report

        write_report(folder)
    return summary


def is_adapted(folder: WorkFolder) -> bool:
    """Whether the folder was adapted, kept or not, to the segments that it holds now."""
    about = folder.read_run().get("adaptation")
    infos = folder.segments()
    if not isinstance(about, dict) or about.get("segments") != embeddings.mark_of(infos):
        return False
    return not about.get("kept") or embeddings.matching(folder.path, infos) is not None


def different_crops(folder: WorkFolder) -> int:
    """How many different pictures the crops of a folder show."""
    return len(distinct(folder.crops(embeddings=False)))


def needs_torch() -> None:
    """Raises DependencyError where what training needs is not installed, or does not load."""
    need(("torch", "onnx", "onnxscript"), "show adaptation", "pip install 'celstream[train]'")
