"""Write :class:`stream.report.data.ReportData` as one HTML file that needs nothing beside it.

The frame is ``report.html``, the looks ``report.css``, the behaviour ``report.js``; without scripts the page
is whole, only longer. Every text goes through :func:`stream.report.words.esc`.
"""

from __future__ import annotations

from importlib import resources
from string import Template

from stream.report.adaptation import adaptation_section
from stream.report.data import Cluster, Picture, ReportData
from stream.report.run_page import (
    empty_section,
    left_out_section,
    run_section,
    settings_section,
    videos_section,
)
from stream.report.timeline import hue, icon, lane_svg, own_lanes, timeline_section
from stream.report.words import clock, count, data_uri, esc, lasting, rate

_LINE_UP = 5  # faces beside the title


def render(data: ReportData) -> str:
    """The page as text. The same data give the same page."""
    sections = [("", "", _summary(data))]
    if data.cast:
        sections += [("cast", "Cast", _cast(data)), ("timeline", "Time line", timeline_section(data))]
    elif data.unsorted:
        sections.append(("cast", "Crops", _unsorted(data)))
    else:
        sections.append(("try", "What to try", empty_section(data)))
    if data.small:
        sections.append(("small", "Small", _small(data)))
    if data.adaptation or data.detector_adaptation:
        sections.append(("adaptation", "Adaptation", adaptation_section(data)))
    sections.append(("run", "Run", run_section(data)))
    sections.append(("left-out", "Left out", left_out_section(data)))
    if data.videos:
        sections.append(("videos", "Videos", videos_section(data)))
    if data.settings:
        sections.append(("settings", "Settings", settings_section(data)))
    body = [f'<section id="{anchor}">{html}</section>' if anchor else html for anchor, _, html in sections]
    if data.cast:
        body.append(_sheets(data))
    nav = "".join(f'<a href="#{anchor}">{label}</a>' for anchor, label, _ in sections if anchor)
    frame = Template(_part("report.html"))
    return frame.substitute(
        title=esc(f"{_headline(data)} · {_source_name(data)}"),
        version=esc(data.version),
        style=_part("report.css"),
        script=_part("report.js"),
        nav=nav,
        body="\n".join(body),
        footer=_footer(data),
    )


def _part(name: str) -> str:
    return resources.files("stream.report").joinpath(name).read_text(encoding="utf-8")


def _headline(data: ReportData) -> str:
    if data.cast:
        # a cluster is a character only when a person says so: most have two or three
        named = sum(c.named for c in data.cast)
        return count(named, "character") if named else count(len(data.cast), "cluster")
    if data.crops and data.clusters is None:
        return count(data.crops, "crop") + ", not clustered"
    return "No characters to show" if data.crops else "No characters found"


def _all_still(data: ReportData) -> bool:
    return bool(data.videos) and all(v.still for v in data.videos)


def _on_screen(cluster: Cluster, data: ReportData) -> tuple[str, str]:
    """("1 min 18 s", "on screen"), or ("12", "images")."""
    if _all_still(data):
        return count(cluster.frames), "image" if cluster.frames == 1 else "images"
    return lasting(cluster.seconds), "on screen"


def _source_name(data: ReportData) -> str:
    if len(data.videos) == 1:
        return data.videos[0].name
    return count(len(data.videos), "video") if data.videos else data.folder


def _summary(data: ReportData) -> str:
    tiles = []
    if len(data.videos) > 1:
        tiles.append(("Videos", count(len(data.videos)), ""))
    if data.videos and not _all_still(data):
        long = data.total_s >= 3600
        tiles.append(("Video", clock(data.total_s / 60 if long else data.total_s), "h" if long else "min"))
    if data.frames is not None:
        tiles.append(("Frames", count(data.frames), "looked at"))
    if data.detections is not None:
        tiles.append(("Detections", count(data.detections), "boxes"))
    tiles.append(("Crops", count(data.crops), "kept"))
    if data.clusters is not None:
        tiles.append(("Clusters", count(data.clusters), "found"))
    if data.times_real_time:
        tiles.append(("Speed", f"{rate(data.times_real_time)}×", "real time"))
    figures = "".join(
        f'<div class="figure"><dt>{label}</dt><dd>{esc(value)}<small>{esc(unit)}</small></dd></div>'
        for label, value, unit in tiles
    )
    return (
        f'<section id="top" class="summary">{_lineup(data)}'
        f'<p class="when">{esc(data.started) or "celstream report"}</p>'
        f"<h1>{esc(_headline(data))}</h1><p class='lead'>{_lead(data)}</p>"
        f'<dl class="figures">{figures}</dl></section>'
    )


def _lineup(data: ReportData) -> str:
    """The first faces, as a greeting; the cards below say the same to those who cannot see them."""
    if len(data.cast) < 2:
        return ""
    shown = len(data.cast) if len(data.cast) <= _LINE_UP + 1 else _LINE_UP
    faces = [
        f'<a href="#character-{c.number}" tabindex="-1" title="{esc(c.name)}" style="{hue(c)}">{icon(c)}</a>'
        for c in data.cast[:shown]
    ]
    if shown < len(data.cast):
        faces.append(f"<i>+{len(data.cast) - shown}</i>")
    return f'<div class="lineup" aria-hidden="true">{"".join(reversed(faces))}</div>'


def _lead(data: ReportData) -> str:
    where = (
        f"<b>{esc(data.videos[0].name)}</b>"
        if len(data.videos) == 1
        else f"<b>{count(len(data.videos), 'video')}</b>"
    )
    if _all_still(data):
        return f"{where}: {count(data.frames or 0, 'image')}."
    parts = [f"{where}, {lasting(data.total_s)} of video" if data.videos else "No video could be used"]
    if data.videos and data.sampling == "keyframes":
        parts.append("looked at on its keyframes")
    elif data.videos and data.interval_s:
        every = "every second" if data.interval_s == 1 else f"every {data.interval_s:g} s"
        parts.append(f"looked at {every}" + (" and at every cut" if data.sampling == "scene" else ""))
    lead = ", ".join(parts) + "."
    unnamed = sum(not c.named for c in data.cast)
    if 0 < unnamed < len(data.cast):
        lead += f" {count(unnamed, 'cluster')} without a name."
    if data.small:
        lead += f' <a href="#small">{count(data.small.clusters, "small cluster")}</a> beside.'
    return lead


def _numbered(data: ReportData, number: int) -> Cluster:
    return next(c for c in data.cast if c.number == number)


def _facts(c: Cluster, data: ReportData) -> list[str]:
    """Crops, tracks, videos, and which clusters a name stands for."""
    facts = [count(c.size, "crop")]
    if c.tracks is not None:
        facts.append(count(c.tracks, "track"))
    if len(data.videos) > 1:
        facts.append(count(c.videos, "video"))
    if c.named:
        facts.append(f"cluster{'s' if len(c.numbers) > 1 else ''} {_listed(c.numbers)}")
    return facts


def _listed(numbers: tuple[int, ...]) -> str:
    """``3``, ``3 and 5``, ``3, 5 and 8``."""
    words = [str(n) for n in numbers]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _img(picture: Picture, alt: str, extra: str = "") -> str:
    return (
        f'<img src="{data_uri(picture.jpeg)}" width="{picture.width}" height="{picture.height}"'
        f' alt="{esc(alt)}" decoding="async"{extra}>'
    )


def _where(data: ReportData, picture: Picture) -> str:
    if picture.file:
        return picture.file
    at = clock(picture.time_s)
    named = len(data.videos) > 1 and 0 <= picture.video < len(data.videos)
    return f"{data.videos[picture.video].name} at {at}" if named else f"at {at}"


def _cast(data: ReportData) -> str:
    cards = []
    for c in data.cast:
        shown, unit = _on_screen(c, data)
        portrait = (
            _img(c.exemplar, f"Exemplar of {c.name}, {_where(data, c.exemplar)}")
            if c.exemplar
            else '<span class="no-picture">no picture</span>'
        )
        cards.append(
            f'<li style="{hue(c)}"><a class="card" href="#character-{c.number}">'
            f'<span class="portrait">{portrait}</span>'
            f'<span class="card-text"><strong>{esc(c.name)}</strong>'
            f'<span class="on-screen">{shown} <small>{unit}</small></span>'
            f'<span class="facts">{esc(" · ".join(_facts(c, data)))}</span>'
            f"{lane_svg(c, data, 'mini')}</span></a></li>"
        )
    intro = (
        "The picture is the cluster’s exemplar: the crop that stands for all others. Open one to see them. "
        + ("Those that the detector was surest of come first. " if len(data.cast) > 1 else "")
        + "One character is often two or three clusters: one name joins them, "
        f"<code>celstream name {esc(data.folder)} NUMBER=NAME NUMBER=NAME</code>."
    )
    return (
        f'<div class="section-head"><h2>Cast</h2><p>{intro}</p></div>{_hint(data)}'
        f'<ol class="cast">{"".join(cards)}</ol>'
    )


def _hint(data: ReportData) -> str:
    if data.hint is None:
        return ""
    one, two = _numbered(data, data.hint.first), _numbered(data, data.hint.second)
    both = (
        "They are never seen in one frame."
        if not data.hint.together
        else f"They share {count(data.hint.together, 'frame')}."
    )
    links = _chip(one) + _chip(two)
    return (
        f'<aside class="hint" aria-label="Possibly the same"><div class="pair">{links}</div>'
        f"<p><b>Possibly the same character.</b> No two others look more alike: "
        f"similarity {data.hint.similarity:.2f}. {both}</p></aside>"
    )


def _chip(cluster: Cluster) -> str:
    return (
        f'<a class="chip" style="{hue(cluster)}" href="#character-{cluster.number}">'
        f"{icon(cluster)}{esc(cluster.name)}</a>"
    )


def _shots(data: ReportData, name: str, pictures: tuple[Picture, ...]) -> str:
    shots = []
    for p in pictures:
        words = f"{name}, {_where(data, p)}"
        details = [f"detector {p.score:.2f}"]
        if p.is_exemplar:
            details.insert(0, "the exemplar")
        elif p.similarity is not None:
            details.append(f"similarity to the exemplar {p.similarity:.2f}")
        mark = ' aria-current="true"' if p.is_exemplar else ""
        ratio = min(2.4, max(0.45, p.width / p.height))
        shots.append(
            f'<li style="--r:{ratio:.2f}"><button type="button" class="shot"{mark}'
            f' data-video="{p.video}" data-time="{p.time_s:.3f}"'
            f' data-where="{esc(_where(data, p))}" data-details="{esc(" · ".join(details))}">'
            f"{_img(p, words)}<span>{esc(p.file) or clock(p.time_s)}</span></button></li>"
        )
    return f'<ul class="shots">{"".join(shots)}</ul>'


def _unsorted(data: ReportData) -> str:
    return (
        '<div class="section-head"><h2>Crops</h2><p>These crops are not clustered yet. Run '
        f"<code>celstream cluster {esc(data.folder)}</code> to find out who is who; shown are "
        f"{len(data.unsorted)} of {count(data.crops)}, spread over time.</p></div>"
        + _shots(data, "Crop", data.unsorted)
    )


def _small(data: ReportData) -> str:
    small = data.small
    assert small is not None
    span = f"{small.smallest}–{small.largest}" if small.smallest != small.largest else str(small.smallest)
    each = f"{span} {'crop' if small.largest == 1 else 'crops'} each"
    shown = len(small.pictures)
    rest = f" The first {shown} are shown." if shown < small.clusters else ""
    return (
        f'<details class="fold"><summary><h2>{count(small.clusters, "small cluster")}, {each}</h2></summary>'
        f"<p>Stray detections mostly, and characters who appear once.{rest} "
        "Raising <code>cluster.min_size</code> hides them.</p>"
        f"{_shots(data, 'Small cluster', small.pictures)}</details>"
    )


def _sheets(data: ReportData) -> str:
    sheets = []
    for c in data.cast:
        facts = [" ".join(_on_screen(c, data)), *_facts(c, data)]
        near = ""
        if c.nearest:
            other = _numbered(data, c.nearest[0])
            near = (
                f'<p class="near">Looks most like {_chip(other)}'
                f" <small>similarity {c.nearest[1]:.2f}</small></p>"
            )
        shown = (
            f"{len(c.sheet)} of {count(c.size, 'crop')}, spread over time"
            if len(c.sheet) < c.size
            else "All crops"
        )
        stage = (
            f'<figure class="stage">{_img(c.exemplar, f"{c.name}, exemplar")}<figcaption>'
            f"<b>{esc(_where(data, c.exemplar))}</b><span>the exemplar</span></figcaption></figure>"
            if c.exemplar
            else ""
        )
        sheets.append(
            f'<article class="sheet" id="character-{c.number}" style="{hue(c)}" tabindex="-1"'
            f' aria-label="{esc(c.name)}">{stage}<div class="sheet-main"><h3>{esc(c.name)}</h3>'
            f'<p class="facts">{esc(" · ".join(facts))}</p>{near}{own_lanes(c, data)}'
            f"<h4>{shown}</h4>{_shots(data, c.name, c.sheet)}</div></article>"
        )
    return f'<section id="sheets"><h2>Every character</h2>{"".join(sheets)}</section>'


def _footer(data: ReportData) -> str:
    written = f"Written by celstream {data.version}" if data.version else "Written by celstream"
    return f"{esc(written)} from the work folder <b>{esc(data.folder)}</b>."
