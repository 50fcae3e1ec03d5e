"""When each character is on screen: the time line of all, and the lanes in the cards and sheets of one."""

from __future__ import annotations

from stream.report.data import Cluster, ReportData, VideoInfo
from stream.report.words import clock, count, data_uri, esc, lasting

_SHEET_VIDEOS = 12  # lanes in a character's own sheet
_PATH_UNITS = 1_000_000  # largest x of the time line: SVG computes in float32
_DENSE = 24  # characters, from which on the lanes are lower
_LANE = 10  # height of a lane in its own units


def hue(cluster: Cluster) -> str:
    """The golden angle keeps neighbours apart, however many there are."""
    return f"--h:{(258 + 137.508 * (cluster.number - 1)) % 360:.0f}"


def icon(cluster: Cluster) -> str:
    """The character's picture, small."""
    if not cluster.icon:
        return '<span class="icon"></span>'
    return f'<img class="icon" src="{data_uri(cluster.icon)}" width="96" height="96" alt="">'


def _scale(data: ReportData) -> float:
    """Units per second of the time line's paths."""
    return min(10.0, _PATH_UNITS / max(data.total_s, 1.0))


def _path(cluster: Cluster, data: ReportData, video: int | None = None) -> str:
    scale = _scale(data)
    parts = []
    for span in cluster.spans:
        if video is None or span.video == video:
            start = data.videos[span.video].offset_s + span.start_s
            x, width = round(start * scale), max(1, round((span.end_s - span.start_s) * scale))
            parts.append(f"M{x} 0h{width}v{_LANE}h-{width}z")
    return "".join(parts)


def lane_svg(cluster: Cluster, data: ReportData, kind: str, video: VideoInfo | None = None) -> str:
    """The stretches on screen: ``mini`` in a card, ``wide`` in the time line, ``own`` in a sheet."""
    scale = _scale(data)
    left, width = (video.offset_s, video.duration_s) if video else (0.0, data.total_s)
    box = f"{left * scale:.0f} 0 {max(1.0, width * scale):.0f} {_LANE}"
    path = _path(cluster, data, data.videos.index(video) if video else None)
    label = "" if kind == "mini" else f' role="img" aria-label="{esc(_lane_words(cluster, data, video))}"'
    hidden = ' aria-hidden="true"' if kind == "mini" else ""
    return (
        f'<svg class="lane-svg {kind}" viewBox="{box}" preserveAspectRatio="none"{label}{hidden}>'
        f'<path d="{path}"/></svg>'
    )


def _lane_words(cluster: Cluster, data: ReportData, video: VideoInfo | None) -> str:
    own = [s for s in cluster.spans if video is None or data.videos[s.video] is video]
    if not own:
        return f"{cluster.name}: not seen"
    first, last = own[0], own[-1]
    name = f" of {data.videos[first.video].name}" if len(data.videos) > 1 else ""
    end = f" of {data.videos[last.video].name}" if len(data.videos) > 1 else ""
    return (
        f"{cluster.name}: on screen for {lasting(sum(s.end_s - s.start_s for s in own))}"
        f" in {count(len(own), 'stretch', 'stretches')},"
        f" first at {clock(first.start_s)}{name}, last until {clock(last.end_s)}{end}"
    )


def timeline_section(data: ReportData) -> str:
    """A lane for every character, over one video or all of them end to end."""
    lanes = "".join(
        f'<li class="lane" style="{hue(c)}" data-number="{c.number}" data-name="{esc(c.name)}">'
        f'<a class="lane-name" href="#character-{c.number}">{icon(c)}<span>{esc(c.name)}</span></a>'
        f'<div class="track" tabindex="0" role="group" aria-label="{esc(c.name)}: arrow keys go from one'
        f' appearance to the next">{lane_svg(c, data, "wide")}</div></li>'
        for c in data.cast
    )
    options = '<option value="-1">All videos, end to end</option>' + "".join(
        f'<option value="{i}">{esc(v.name)}</option>' for i, v in enumerate(data.videos)
    )
    chooser = (
        f'<label class="chooser" hidden>Video <select id="video">{options}</select></label>'
        if len(data.videos) > 1
        else ""
    )
    videos = ",".join(f"{v.offset_s:.2f} {v.duration_s:.2f}" for v in data.videos)
    names = "".join(f"<li>{esc(v.name)}</li>" for v in data.videos)
    intro = "When each character is on screen."
    dense = " dense" if len(data.cast) > _DENSE else ""
    return (
        f'<div class="section-head"><h2>Time line</h2><p>{intro}</p>{chooser}</div>'
        f'<div id="lanes" class="lanes{dense}" data-scale="{_scale(data):.9g}"'
        f' data-total="{data.total_s:.3f}"'
        f' data-videos="{videos}"><div class="bands" id="bands" aria-hidden="true"></div>'
        f'<ol>{lanes}</ol><div class="ticks" id="ticks" aria-hidden="true"></div>'
        f'<div class="cursor" id="cursor" hidden></div></div><ol id="video-names" hidden>{names}</ol>'
    )


def own_lanes(cluster: Cluster, data: ReportData) -> str:
    """One character's lanes, in the videos where it is longest on screen."""
    seconds: dict[int, float] = {}
    for span in cluster.spans:
        seconds[span.video] = seconds.get(span.video, 0.0) + span.end_s - span.start_s
    most = sorted(seconds, key=lambda v: -seconds[v])[:_SHEET_VIDEOS]
    lanes = "".join(
        f'<li><span class="own-name">{esc(data.videos[v].name)}</span>'
        f"{lane_svg(cluster, data, 'own', data.videos[v])}"
        f"<small>{lasting(seconds[v])}</small></li>"
        for v in sorted(most)
    )
    more = len(seconds) - len(most)
    rest = f'<li class="more">and {count(more, "more video")}</li>' if more else ""
    return f'<ol class="own-lanes">{lanes}{rest}</ol>'
