"""The sections on the run itself: throughput, what was left out, videos, settings, and what to try."""

from __future__ import annotations

from stream.report.data import ReportData, VideoInfo
from stream.report.words import clock, count, esc, lasting, rate, size

_MOST_ROWS = 200
_OPEN_ROWS = 8
_UNITS = {"decode": "frames", "detect": "boxes"} | dict.fromkeys(
    ("crop", "crops", "embed", "track", "cluster"), "crops"
)


def run_section(data: ReportData) -> str:
    """Who did what: device, models, clustering, and each station's throughput."""
    facts = [("Device", data.device)]
    if data.seconds is not None:
        facts.append(("Took", lasting(data.seconds)))
    if data.segments and data.segments_done_before:
        facts.append(
            ("Kept", f"{data.segments_done_before} of {count(data.segments, 'segment')} from before")
        )
    if data.peak_rss_bytes:
        adapting = data.adaptation.peak_rss_bytes if data.adaptation else None
        more = f", {size(adapting)} with adaptation" if adapting else ""
        facts.append(("Peak memory", size(data.peak_rss_bytes) + more))
    for model in data.models:
        sha = f" · {model.sha256[:12]}" if model.sha256 else ""
        facts.append((model.role.capitalize(), f"{model.name}{sha}"))
    if data.strength is not None:
        wanted = f", looking for {data.wanted_clusters} clusters" if data.wanted_clusters else ""
        facts.append(("Strength", f"{data.strength:.3g}{wanted}"))
    if data.converged is not None:
        state = "converged" if data.converged else "stopped before it converged"
        facts.append(("Clustering", f"{data.method}, {state}" if data.method else state))
    if data.version:
        facts.append(("Version", data.version))
    listed = "".join(f"<div><dt>{esc(k)}</dt><dd>{esc(v)}</dd></div>" for k, v in facts if v)
    return (
        '<div class="section-head"><h2>How it ran</h2><p>Stations work at the same time; the busiest one '
        f'sets the pace.</p></div><div class="run">{_stations(data)}<dl class="run-facts">{listed}</dl></div>'
    )


def _stations(data: ReportData) -> str:
    if not data.stations:
        return '<p class="muted">No station’s time was recorded.</p>'
    busiest = max(s.seconds for s in data.stations)
    # the stations of a resumed run count what earlier runs did, too
    in_run = data.seconds is not None and data.seconds >= busiest and not data.segments_done_before
    whole = (data.seconds if in_run else busiest) or 1.0
    rows = []
    for s in data.stations:
        share = s.seconds / whole
        slowest = s.seconds == busiest and busiest > 0
        unit = _UNITS.get(s.name, "items")
        speed = f"{rate(s.items / s.seconds)} {unit}/s" if s.items and s.seconds > 0 else "–"
        mark = ' <span class="badge">bottleneck</span>' if slowest else ""
        rows.append(
            f'<tr{" class=slowest" if slowest else ""}><th scope="row">{esc(s.name)}{mark}</th>'
            f'<td class="meter"><span class="meter-bar"><i style="width:{100 * share:.1f}%"></i></span>'
            f"<small>{100 * share:.0f} %</small></td><td>{lasting(s.seconds)}</td><td>{speed}</td></tr>"
        )
    of = "of the run" if in_run else "of the busiest"
    return (
        '<div class="scroll"><table class="stations"><thead><tr><th scope="col">Station</th>'
        f'<th scope="col">Busy, share {of}</th><th scope="col">Busy</th><th scope="col">Throughput</th></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def left_out_section(data: ReportData) -> str:
    """What was skipped, and why."""
    items = []
    if data.held:
        items.append(
            (
                count(data.held, "held frame"),
                "They show a picture that was already looked at, so they were not detected again; "
                "their characters count as on screen.",
                "",
            )
        )
    if data.dropped:
        items.append(
            (
                count(data.dropped, "detection") + " made no crop",
                "Smaller than <code>crops.min_size</code>, or less sharp than "
                "<code>crops.min_sharpness</code>.",
                "",
            )
        )
    if data.hidden:
        items.append(
            (
                count(data.hidden, "cluster") + " not shown",
                f"Fewer than {count(data.smallest_shown, 'crop')} each, the <code>cluster.min_size</code>.",
                "",
            )
        )
    if data.interrupted:
        items.append(("Interrupted", "The same command again does what is missing.", "fallback"))
    items += [(esc(f"{f.wanted} → {f.used}"), esc(f.reason), "fallback") for f in data.fallbacks]
    items += [("Note", esc(note), "") for note in [*data.notes, *data.cluster_messages][:_MOST_ROWS]]
    body = "".join(
        f"<li{f' class={kind}' if kind else ''}><b>{head}</b><span>{why}</span></li>"
        for head, why, kind in items
    )
    bad = "".join(
        f"<tr><th scope='row'>{esc(q.uri)}</th><td>{esc(q.reason)}</td></tr>"
        for q in data.quarantined[:_MOST_ROWS]
    )
    more = len(data.quarantined) - _MOST_ROWS
    rest = f'<p class="muted">and {count(more)} more, in quarantine.jsonl.</p>' if more > 0 else ""
    table = (
        f'<h3 class="alarm">{count(len(data.quarantined), "input")} could not be used</h3>'
        f'<div class="scroll"><table class="quarantine"><thead><tr><th scope="col">Input</th>'
        f'<th scope="col">Reason</th></tr></thead><tbody>{bad}</tbody></table></div>{rest}'
        if bad
        else ""
    )
    nothing = "" if body or table else '<p class="good">Nothing. Every input was used from end to end.</p>'
    listed = f'<ul class="left-out">{body}</ul>' if body else ""
    return f'<div class="section-head"><h2>Left out, and why</h2></div>{nothing}{table}{listed}'


def videos_section(data: ReportData) -> str:
    """The inputs; folded where there are many."""
    rows = "".join(_video(v) for v in data.videos[:_MOST_ROWS])
    more = len(data.videos) - _MOST_ROWS
    rest = f'<p class="muted">and {count(more)} more, in run.yaml.</p>' if more > 0 else ""
    heads = "".join(
        f'<th scope="col">{h}</th>'
        for h in ("Video", "Length", "Picture", "Rate", "Codec", "Frames", "Crops")
    )
    state = " open" if len(data.videos) <= _OPEN_ROWS else ""
    return (
        f'<details class="fold"{state}><summary><h2>{count(len(data.videos), "video")}</h2></summary>'
        f'<div class="scroll"><table class="videos"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{rest}</details>"
    )


def _video(v: VideoInfo) -> str:
    cells = [
        "–" if v.still else clock(v.duration_s),
        f"{v.width}×{v.height}" if v.width and v.height else "–",
        f"{v.frame_rate:.4g}/s" if v.frame_rate and not v.still else "–",
        v.codec or "–",
        count(v.frames) if v.frames is not None else "–",
        count(v.crops) if v.crops is not None else "–",
    ]
    return (
        f'<tr><th scope="row" title="{esc(v.uri)}">{esc(v.name)}</th>'
        + "".join(f"<td>{esc(c)}</td>" for c in cells)
        + "</tr>"
    )


def settings_section(data: ReportData) -> str:
    """The resolved configuration; what differs from the defaults is marked."""
    lines = "\n".join(f"<mark>{esc(s.text)}</mark>" if s.changed else esc(s.text) for s in data.settings)
    changed = sum(s.changed for s in data.settings)
    words = (
        f"{count(changed, 'line')} differ{'s' if changed == 1 else ''} from the defaults"
        if changed
        else "all defaults"
    )
    return (
        f'<details class="fold"><summary><h2>Settings</h2> <span class="muted">{words}</span></summary>'
        "<p>Save as YAML and pass with <code>--config</code> to run the same again.</p>"
        f'<pre tabindex="0" aria-label="Settings as YAML">{lines}</pre></details>'
    )


def empty_section(data: ReportData) -> str:
    """No crop at all: what to try, depending on how far the run came."""
    tips = []
    if not data.videos or data.frames == 0:
        tips.append(
            "<b>No frame could be decoded.</b> Check that the file plays in a video player; "
            '<a href="#left-out">Left out, and why</a> says what was wrong with it.'
        )
    elif data.crops:
        tips.append(
            f"<b>{count(data.hidden, 'cluster')} found, all too small to be shown.</b> "
            "Lower <code>cluster.min_size</code>: "
            f"<code>celstream cluster {esc(data.folder)} --set cluster.min_size=1</code>."
        )
    elif data.detections:
        tips += [
            f"<b>{count(data.detections, 'box', 'boxes')} found, all too small or too blurred.</b> "
            "Keep smaller ones: <code>--set crops.min_size=12</code>, and blurred ones: "
            "<code>--set crops.min_sharpness=0</code>.",
        ]
    else:
        tips += [
            "<b>Admit less certain boxes.</b> Lower the detector’s threshold: "
            "<code>--set detector.score=0.03</code>.",
            "<b>Look more often.</b> A short appearance falls between two samples: "
            "<code>--set interval=0.25</code>.",
            "<b>Check the video.</b> Does it show drawn characters at all, larger than about a tenth of the "
            "picture’s height?",
            "<b>Bring your own detector.</b> <code>--detector yours.onnx</code> takes a YOLO or YOLOX export "
            "that knows your characters.",
        ]
    listed = "".join(f"<li>{t}</li>" for t in tips)
    return (
        '<div class="section-head"><h2>What to try</h2><p>The run ended well, and there is nothing to '
        f'show.</p></div><ol class="tips">{listed}</ol>'
    )
