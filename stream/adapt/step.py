"""Show adaptation as a step of the main job: after the last segment, before clustering.

Whatever goes wrong here is told, and the run clusters with the embeddings that it has.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engines.runtime import EngineError
from stream import embeddings
from stream.adapt.embedding import AdaptationStopped, adapt_folder, different_crops, is_adapted, needs_torch
from stream.config import AdaptConfig, Config
from stream.errors import CelstreamError, DependencyError, WorkdirError
from stream.ledger import Ledger
from stream.store import SegmentInfo
from stream.summary import peak_rss_bytes, release_memory
from stream.workdir import WorkFolder


@dataclass(frozen=True)
class AdaptStep:
    """What the step did; it is in the folder's record as ``adaptation``, too.

    ``about`` holds ``kept``, ``reason`` and, where it came to its end, what
    :class:`stream.adapt.embedding.AdaptSummary` has; ``peak_rss_bytes`` is that of the run up to it.
    """

    about: dict[str, Any]
    seconds: float
    peak_rss_bytes: int
    failed: bool = False


def adapt_step(
    folder: WorkFolder, config: Config, ledger: Ledger, stop: Callable[[], bool]
) -> AdaptStep | None:
    """Adapt the open folder where the config asks for it and it is not done; None where nothing was tried.

    Damaged embeddings of an earlier adaptation are put out of use first.

    Args:
        folder: every segment of the run is in it.
        config: its ``adapt`` and ``embedder`` decide.
        ledger: told what a person should know.
        stop: asked on the way; what was there stays then.
    """
    infos = folder.segments()
    if not infos:
        return None
    _drop_damaged(folder, infos, ledger)
    if not _wanted(folder, infos, config, ledger):
        return None
    peak, began = peak_rss_bytes(), time.perf_counter()
    about, failed = _attempt(folder, config.adapt, ledger, stop)
    release_memory()
    return AdaptStep(about, round(time.perf_counter() - began, 3), peak, failed)


def _wanted(folder: WorkFolder, infos: Sequence[SegmentInfo], config: Config, ledger: Ledger) -> bool:
    asked = config.adapt
    if asked.mode == "off":
        if embeddings.matching(folder.path, infos) is not None:
            ledger.note(
                "clustered with the embedding that was adapted before;"
                f" to go back, delete {folder.path / 'embeddings' / embeddings.ADAPTED}"
            )
        return False
    if is_adapted(folder):
        before = folder.read_run()["adaptation"]
        if before["kept"] or asked.minutes <= before.get("minutes", 0.0):
            if asked.mode == "on" and not before["kept"]:
                tried = f"not adapted, as {before.get('minutes', 0.0):g} minutes showed before"
                ledger.note(f"{tried}: {before['reason']}; `celstream adapt` or more minutes try again")
            return False
    if asked.mode == "on":
        return True
    # whoever brings an embedder wants what it says
    if config.embedder.model != "default" or sum(info.crops for info in infos) < asked.min_crops:
        return False
    if different_crops(folder) < asked.min_crops:
        return False
    try:
        needs_torch()
    except DependencyError as error:
        ledger.note(f"{error}; clustered without")
        return False
    return True


def _attempt(
    folder: WorkFolder, asked: AdaptConfig, ledger: Ledger, stop: Callable[[], bool]
) -> tuple[dict[str, Any], bool]:
    """What is known of it afterwards, and whether it failed."""
    try:
        adapt_folder(
            folder,
            minutes=asked.minutes,
            steps=asked.steps,
            seed=asked.seed,
            min_crops=asked.min_crops,
            progress=ledger.progress,
            report=False,
            cluster=False,
            stop=stop,
        )
        about: dict[str, Any] = folder.read_run()["adaptation"]
        ledger.progress.note(f"{'adapted' if about['kept'] else 'not adapted'}: {about['reason']}")
        return about, False
    except AdaptationStopped:
        return _unfinished(folder, "stopped on the way; the same command again adapts"), False
    except (CelstreamError, EngineError) as error:
        ledger.note(f"not adapted: {error}")
        return _unfinished(folder, str(error)), True
    except Exception as error:
        # the run's result does not depend on it, and is not to be lost by it
        traceback.print_exception(error, file=sys.stderr)
        ledger.defects += 1
        reason = f"internal error ({type(error).__name__}: {error}); report it"
        ledger.note(f"not adapted: {reason}")
        return _unfinished(folder, reason), True


def _unfinished(folder: WorkFolder, reason: str) -> dict[str, Any]:
    """Note why it came to nothing. The record names no segments, so another run tries again."""
    about = {"kept": False, "reason": reason, "unfinished": embeddings.mark_of(folder.segments())}
    folder.write_run(folder.read_run() | {"adaptation": about})
    return about


def _drop_damaged(folder: WorkFolder, infos: Sequence[SegmentInfo], ledger: Ledger) -> None:
    found = embeddings.matching(folder.path, infos)
    if found is None:
        return
    try:
        embeddings.check(found, infos)
    except WorkdirError as error:
        embeddings.drop(folder.path)
        ledger.note(f"adapted embeddings that cannot be read are not used any more: {error}")
