"""The section on show adaptation, of embedding and detector: what is in use, why, and what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from stream import embeddings
from stream.adapt.own_detector import RECORD, found_with_own
from stream.report.data import Adaptation, DetectorAdaptation, ReportData
from stream.report.record import count_of, mapping, number, text
from stream.report.words import count, esc, lasting
from stream.workdir import WorkFolder

_Measures = tuple[tuple[str, str, str], ...]
_DETECTOR_MEASURES: _Measures = (
    ("score", "Signal", "the mean of the two below; more is better"),
    ("agreement", "Agreement", "average precision against what the detector before was sure of"),
    ("steady", "Steady", "share of its boxes found again a moment before and after; more is better"),
)
_MEASURES: _Measures = (  # name in the record, heading, what it says
    ("score", "Signal", "how surely a track’s nearest tracks are nearer than a rival; more is better"),
    (
        "verification",
        "Recognized",
        "first and last crop of a track are more alike than two rivals; more is better",
    ),
    ("confusion", "Confused", "rivals nearer than the nearest tracks; less is better"),
)


def adaptation_of(folder: WorkFolder, record: Mapping[str, Any]) -> Adaptation | None:
    """What ``run.yaml`` says of the adaptation to the segments that are here; None where it was to others."""
    about = mapping(record.get("adaptation"))
    infos = folder.segments()
    here = embeddings.mark_of(infos) in (about.get("segments"), about.get("unfinished"))
    in_use = about.get("kept") is True and embeddings.matching(folder.path, infos) is not None
    if not about or not (here or in_use):
        return None
    return Adaptation(
        kept=in_use,
        finished="unfinished" not in about,
        reason=text(about.get("reason")),
        before=_measured(about.get("before"), _MEASURES),
        after=_measured(about.get("after"), _MEASURES),
        seconds=number(about.get("seconds")),
        steps=count_of(about.get("steps")),
        planned_steps=count_of(about.get("planned_steps")),
        crops=count_of(about.get("crops")),
        learned_from=count_of(about.get("learned_from")),
        peak_rss_bytes=count_of(record.get("adapt_peak_rss_bytes")),
    )


def _measured(value: object, measures: _Measures) -> dict[str, float]:
    found = {name: number(mapping(value).get(name)) for name, _, _ in measures}
    return {name: figure for name, figure in found.items() if figure is not None}


def detector_adaptation_of(folder: WorkFolder, record: Mapping[str, Any]) -> DetectorAdaptation | None:
    """What ``run.yaml`` says of the adaptation of the detector; None where it was not tried."""
    about = mapping(record.get(RECORD))
    if not about:
        return None
    return DetectorAdaptation(
        kept=about.get("kept") is True,
        in_use=found_with_own(folder, record),
        reason=text(about.get("reason")),
        seconds=number(about.get("seconds")),
        steps=count_of(about.get("steps")),
        planned_steps=count_of(about.get("planned_steps")),
        sure_boxes=count_of(about.get("sure_boxes")),
        windows=count_of(about.get("windows")),
        held_out=count_of(about.get("held_out")),
        before=_measured(about.get("before"), _DETECTOR_MEASURES),
        after=_measured(about.get("after"), _DETECTOR_MEASURES),
    )


def adaptation_section(data: ReportData) -> str:
    """What was measured without labels before and after, and what became of it."""
    parts = []
    if data.adaptation is not None:
        parts.append(
            "<p>The embedding was trained on this show’s own crops, without labels. Two boxes of one frame"
            " are rivals: different characters. Tracks that were not trained on measure it.</p></div>"
            + _embedding(data.adaptation)
        )
    if data.detector_adaptation is not None:
        words = (
            "The detector was trained on what it was sure of in windows of this show, without labels. Windows"
            " that were not trained on measure it."
        )
        about = data.detector_adaptation
        facts = _beside(_measures(about.before, about.after, _DETECTOR_MEASURES), _detector(about))
        parts.append(
            f"<p>{words}</p></div>{facts}" if not parts else f"<h3>Detector</h3><p>{words}</p>{facts}"
        )
    return '<div class="section-head"><h2>Adaptation</h2>' + "".join(parts)


def _embedding(about: Adaptation) -> str:
    facts = [("Result", _result(about)), ("Because", about.reason)]
    if about.learned_from:
        of = f" of {count(about.crops)}" if about.crops and about.crops != about.learned_from else ""
        facts.append(("Learned from", f"{count(about.learned_from)}{of} different crops"))
    facts += _trained(about.steps, about.planned_steps)
    if about.kept:
        facts.append(("Network", f"embeddings/{embeddings.ADAPTED}/{embeddings.MODEL}"))
    if about.seconds is not None:
        facts.append(("Took", f"{lasting(about.seconds)}, not counted in the run’s"))
    return _beside(_measures(about.before, about.after, _MEASURES), facts)


def _beside(measured: str, facts: list[tuple[str, str]]) -> str:
    return f'<div class="run">{measured}{_facts(facts)}</div>' if measured else _facts(facts)


def _detector(about: DetectorAdaptation) -> list[tuple[str, str]]:
    if about.in_use:
        result = "Adapted detector is in use"
    else:
        result = "Adapted detector is not in use" if about.kept else "Detector as it was"
    facts = [("Result", result), ("Because", about.reason)]
    if about.sure_boxes and about.windows:
        held = f", {count(about.held_out)} held out" if about.held_out else ""
        boxes, windows = count(about.sure_boxes, "sure box", "sure boxes"), count(about.windows, "window")
        facts.append(("Learned from", f"{boxes} in {windows}{held}"))
    facts += _trained(about.steps, about.planned_steps)
    if about.in_use:
        facts.append(("Network", "detector/adapted.onnx"))
    if about.seconds is not None:
        facts.append(("Took", f"{lasting(about.seconds)}, not counted in the run’s"))
    return facts


def _trained(steps: int | None, planned: int | None) -> list[tuple[str, str]]:
    if steps is None:
        return []
    of = f" of {count(planned)}" if planned and planned > steps else ""
    return [("Trained", f"{count(steps)}{of} steps")]


def _facts(facts: list[tuple[str, str]]) -> str:
    listed = "".join(f"<div><dt>{esc(k)}</dt><dd>{esc(v)}</dd></div>" for k, v in facts if v)
    return f'<dl class="run-facts">{listed}</dl>'


def _result(about: Adaptation) -> str:
    if about.kept:
        return "Adapted embeddings are in use"
    return "Embeddings as they were" if about.finished else "Not finished; embeddings as they were"


def _measures(before: Mapping[str, float], after: Mapping[str, float], measures: _Measures) -> str:
    rows = []
    for name, heading, words in measures:
        if name in before and name in after:
            if name != "score" and before[name] == after[name] and before[name] in (0.0, 1.0):
                continue  # at its limit before and after: it has nothing to say
            pair = "".join(
                _bar(when, measured[name], "slowest" if when == "after" else "")
                for when, measured in (("before", before), ("after", after))
            )
            rows.append(
                f'<tr><th scope="row">{heading}<small>{words}</small></th>'
                f'<td class="pair-bars">{pair}</td></tr>'
            )
    if not rows:
        return ""
    return (
        '<div class="scroll"><table class="stations measures"><thead><tr><th scope="col">Measure</th>'
        f'<th scope="col">Before and after</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _bar(when: str, value: float, kind: str) -> str:
    # the embedding's signal is the mean logarithm of a probability, which is what its bar shows
    share = math.exp(value) if value < 0 else min(value, 1.0)
    figure = f"{value:.4f}" if value < 0 else f"{100 * value:.1f} %"
    return (
        f'<span class="meter {kind}"><b>{when}</b><span class="meter-bar">'
        f'<i style="width:{100 * share:.1f}%"></i></span><small>{figure}</small></span>'
    )
