"""The section on show adaptation: whether its embeddings are in use, why, and what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from stream import embeddings
from stream.report.data import Adaptation, ReportData
from stream.report.record import count_of, mapping, number, text
from stream.report.words import count, esc, lasting
from stream.workdir import WorkFolder

_MEASURES = (  # name in the record, heading, what it says
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
        before=_measured(about.get("before")),
        after=_measured(about.get("after")),
        seconds=number(about.get("seconds")),
        steps=count_of(about.get("steps")),
        planned_steps=count_of(about.get("planned_steps")),
        crops=count_of(about.get("crops")),
        learned_from=count_of(about.get("learned_from")),
        peak_rss_bytes=count_of(record.get("adapt_peak_rss_bytes")),
    )


def _measured(value: object) -> dict[str, float]:
    found = {name: number(mapping(value).get(name)) for name, _, _ in _MEASURES}
    return {name: figure for name, figure in found.items() if figure is not None}


def adaptation_section(data: ReportData) -> str:
    """What was measured without labels before and after, and what became of it."""
    about = data.adaptation
    assert about is not None
    facts = [("Result", _result(about)), ("Because", about.reason)]
    if about.learned_from:
        of = f" of {count(about.crops)}" if about.crops and about.crops != about.learned_from else ""
        facts.append(("Learned from", f"{count(about.learned_from)}{of} different crops"))
    if about.steps is not None:
        planned = about.planned_steps or 0
        of = f" of {count(planned)}" if planned > about.steps else ""
        facts.append(("Trained", f"{count(about.steps)}{of} steps"))
    if about.kept:
        facts.append(("Network", f"embeddings/{embeddings.ADAPTED}/{embeddings.MODEL}"))
    if about.seconds is not None:
        facts.append(("Took", f"{lasting(about.seconds)}, not counted in the run’s"))
    listed = "".join(f"<div><dt>{esc(k)}</dt><dd>{esc(v)}</dd></div>" for k, v in facts if v)
    facts_list = f'<dl class="run-facts">{listed}</dl>'
    measured = _measures(about)
    return (
        '<div class="section-head"><h2>Adaptation</h2><p>The embedding was trained on this show’s own crops,'
        " without labels. Two boxes of one frame are rivals: different characters. Tracks that were not"
        " trained on measure it.</p></div>"
        + (f'<div class="run">{measured}{facts_list}</div>' if measured else facts_list)
    )


def _result(about: Adaptation) -> str:
    if about.kept:
        return "Adapted embeddings are in use"
    return "Embeddings as they were" if about.finished else "Not finished; embeddings as they were"


def _measures(about: Adaptation) -> str:
    rows = []
    for name, heading, words in _MEASURES:
        if name in about.before and name in about.after:
            pair = "".join(
                _bar(when, name, measured[name], "slowest" if when == "after" else "")
                for when, measured in (("before", about.before), ("after", about.after))
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


def _bar(when: str, name: str, value: float, kind: str) -> str:
    # the signal is the mean logarithm of a probability
    share = math.exp(min(value, 0.0)) if name == "score" else min(max(value, 0.0), 1.0)
    figure = f"{value:.4f}" if name == "score" else f"{100 * value:.1f} %"
    return (
        f'<span class="meter {kind}"><b>{when}</b><span class="meter-bar">'
        f'<i style="width:{100 * share:.1f}%"></i></span><small>{figure}</small></span>'
    )
