"""The file itself: well-formed, self-contained, escaped, bounded."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from stream.errors import WorkdirError
from stream.report import write_report

VOID = {"meta", "link", "img", "br", "hr", "input"}
NASTY = "<script>alert(1)</script>\"'&$style\x01</style>"


class Page(HTMLParser):
    """Checks nesting while it collects elements; text inside ``script`` and ``style`` is not markup."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"<{tag}> names an attribute twice: {attrs}"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def all(self, tag: str, **attrs: str) -> list[dict[str, str | None]]:
        wanted = {k.rstrip("_"): v for k, v in attrs.items()}
        return [a for t, a in self.elements if t == tag and all(a.get(k) == v for k, v in wanted.items())]


def _read(path: Path) -> tuple[str, Page]:
    html = path.read_text(encoding="utf-8")
    return html, Page(html)


def _full_record() -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "started": "2026-11-21T07:12:00+00:00",
        "seconds": 30.0,
        "device": "cpu",
        "times_real_time": 25.31,
        "frames": 120,
        "detections": 90,
        "peak_rss_bytes": 2**30,
        "stations": {
            "decode": {"seconds": 24.0, "items": 120, "batches": 8},
            "embed": {"seconds": 6.0, "items": 60, "batches": 8},
        },
        "models": {"detector": {"path": "/m/detector.onnx", "sha256": "0123456789abcdef"}},
        "quarantined": [{"uri": "/films/bad.mp4", "reason": "not a video"}],
        "fallbacks": [{"wanted": "cuda", "used": "cpu", "reason": "no driver"}],
        "notes": ["2 damaged packets"],
        "config": {"interval": 0.5, "threads": 0},
    }


def test_a_full_report_says_everything(write_folder: Callable[..., Any], episode: Any) -> None:
    seen = [(float(t), t % 3) for t in range(30)] + [(50.0, 9)]
    made = write_folder(
        [episode("one", seen), episode("two", [(3.0, 0), (4.0, 1)])],
        record=_full_record(),
        alike={1: 0},
        meta={"strength": 0.4321, "converged": True, "messages": ["searched long"]},
    )
    path = write_report(made.path)
    assert path == made.path / "report.html"
    _, page = _read(path)
    for words in (
        "3 clusters",
        "21 November 2026, 07:12 UTC",
        "25.3×",
        "0.432",
        "converged",
        "Possibly the same character",
        "1 small cluster, 1 crop each",
        "Character 3",
        "decode bottleneck",
        "80 %",
        "5.00 frames/s",
        "10.0 crops/s",
        "1 input could not be used",
        "/films/bad.mp4",
        "cuda → cpu",
        "no driver",
        "2 damaged packets",
        "searched long",
        "detector.onnx · 0123456789ab",
        "1 line differs from the defaults",
        "57 detections made no crop",
        "1.0 GiB",
    ):
        assert words in page.words, words
    assert len(page.all("a", class_="card")) == 3
    assert len(page.all("li", class_="lane")) == 3
    assert [a["class"] for t, a in page.elements if t == "tr" and "class" in a] == ["slowest"]


def test_nothing_is_fetched_and_every_link_leads_somewhere(
    write_folder: Callable[..., Any], episode: Any
) -> None:
    html, page = _read(
        write_report(write_folder([episode("one", [(float(t), t % 2) for t in range(20)])]).path)
    )
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attrs in page.elements:
        for name in ("src", "href", "data", "action", "srcset", "poster"):
            value = attrs.get(name)
            if value is None:
                continue
            assert value.startswith(("data:image/", "#")), f"<{tag} {name}={value[:60]}>"
            assert not value.startswith("#") or value[1:] in ids, value
    outside = re.sub(r"data:image/[^\"']*|http://www\.w3\.org/2000/svg", "", html)
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest|WebSocket", outside)
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert "default-src 'none'" in str(policy["content"])


def test_every_picture_has_words_or_stands_beside_them(
    write_folder: Callable[..., Any], episode: Any
) -> None:
    _, page = _read(write_report(write_folder([episode("one", [(float(t), 0) for t in range(9)])]).path))
    for attrs in page.all("img"):
        assert attrs.get("alt") is not None
        assert attrs["alt"] or attrs.get("class") == "icon"
        with Image.open(io.BytesIO(base64.b64decode(str(attrs["src"]).split(",")[1]))) as image:
            assert image.size == (int(str(attrs["width"])), int(str(attrs["height"])))
    assert [a for t, a in page.elements if t == "html"] == [{"lang": "en"}]
    assert all(a.get("type") == "button" for a in page.all("button"))


def test_hostile_text_stays_text(write_folder: Callable[..., Any], episode: Any) -> None:
    record = _full_record() | {
        "version": NASTY,
        "device": NASTY,
        "started": NASTY,
        "videos": [{"name": "one", "uri": NASTY, "codec": NASTY}, {"name": NASTY}],
        "quarantined": [{"uri": NASTY, "reason": NASTY}],
        "fallbacks": [{"wanted": NASTY, "used": NASTY, "reason": NASTY}],
        "notes": [NASTY],
        "stations": {NASTY: {"seconds": 1, "items": 3}},
        "models": {NASTY: {"path": NASTY, "sha256": NASTY}},
        "config": {NASTY: NASTY, "boxes": NASTY},
    }
    made = write_folder(
        [episode("one", [(float(t), t % 2) for t in range(20)] + [(40.0, 5)])],
        record=record,
        meta={"messages": [NASTY]},
    )
    html, page = _read(write_report(made.path, names={0: NASTY}))
    assert [t for t, _ in page.elements].count("script") == 1
    assert [t for t, _ in page.elements].count("style") == 1
    assert "alert(1)</script>" not in html
    assert "\x01" not in html
    assert page.words.count("<script>alert(1)</script>\"'&$style") > 20
    assert all(not name.startswith("on") for _, attrs in page.elements for name in attrs)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"frames": 60, "detections": 0}, "--set detector.score=0.03"),
        ({"frames": 60, "detections": 12}, "--set crops.min_size=12"),
        ({"frames": 0}, "No frame could be decoded"),
    ],
)
def test_no_crop_at_all_says_what_to_try(
    write_folder: Callable[..., Any], episode: Any, record: dict[str, Any], words: str
) -> None:
    _, page = _read(write_report(write_folder([episode("one", [])], record=record).path))
    assert "No characters found" in page.words
    assert words in page.words
    assert not page.all("a", class_="card")


def test_an_empty_folder_has_a_report(write_folder: Callable[..., Any]) -> None:
    _, page = _read(write_report(write_folder([]).path))
    assert "No characters found" in page.words
    assert "No frame could be decoded" in page.words


def test_clusters_below_the_smallest_size_are_hidden_and_counted(
    write_folder: Callable[..., Any], episode: Any
) -> None:
    seen = [(float(t), 0) for t in range(9)] + [(30.0, 1), (31.0, 1), (32.0, 1)]
    record = {"config": {"cluster": {"min_size": 5}}}
    _, page = _read(write_report(write_folder([episode("one", seen)], record=record).path))
    assert len(page.all("a", class_="card")) == 1
    assert "1 cluster not shown" in page.words


def test_everything_hidden_says_so(write_folder: Callable[..., Any], episode: Any) -> None:
    record = {"config": {"cluster": {"min_size": 50}}}
    _, page = _read(write_report(write_folder([episode("one", [(1.0, 0), (2.0, 0)])], record=record).path))
    assert "No characters to show" in page.words
    assert "cluster.min_size=1" in page.words


def test_a_run_without_clusters_names_the_command(write_folder: Callable[..., Any], episode: Any) -> None:
    made = write_folder([episode("one", [(float(t), 0) for t in range(5)])], clustered=False)
    _, page = _read(write_report(made.path))
    assert "5 crops, not clustered" in page.words
    assert "celstream cluster work" in page.words
    assert len(page.all("button", class_="shot")) == 5


def test_five_thousand_crops_of_noise_stay_below_fifteen_megabytes(
    write_folder: Callable[..., Any], episode: Any
) -> None:
    episodes = [
        episode(f"episode {v}", [(t / 2, (t * 7 + v) % 60) for t in range(1250)], length=625)
        for v in range(4)
    ]
    path = write_report(write_folder(episodes, noisy=True).path)
    _, page = _read(path)
    assert path.stat().st_size < 15_000_000
    assert len(page.all("article", class_="sheet")) == 60
    assert len(page.all("button", class_="shot")) == 60 * 24


def test_the_same_folder_gives_the_same_bytes(write_folder: Callable[..., Any], episode: Any) -> None:
    made = write_folder([episode("one", [(float(t), t % 2) for t in range(20)])], record=_full_record())
    first = write_report(made.path).read_bytes()
    assert write_report(made.path).read_bytes() == first


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(WorkdirError, match=r"run\.yaml"):
        write_report(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt"]


def test_images_are_told_by_their_files_not_by_a_clock(
    write_folder: Callable[..., Any], episode: Any
) -> None:
    record = {"videos": [{"name": "art", "kind": "images", "width": 320, "height": 240}]}
    made = write_folder([episode("art", [(float(t), 0) for t in range(7)], length=7)], record=record)
    _, page = _read(write_report(made.path))
    assert "7 images" in page.words
    assert "on screen" not in page.words.replace("When each character is on screen", "")
    assert {s["data-where"] for s in page.all("button", class_="shot")} == {"art.mp4"}


def test_a_resumed_run_does_not_claim_more_than_its_time(
    write_folder: Callable[..., Any], episode: Any
) -> None:
    record = _full_record() | {
        "seconds": 2.0,
        "segments": 3,
        "segments_done_before": 2,
        "times_real_time": 0.0,
    }
    _, page = _read(
        write_report(write_folder([episode("one", [(float(t), 0) for t in range(5)])], record=record).path)
    )
    assert "2 of 3 segments from before" in page.words
    assert "Busy, share of the busiest" in page.words
    assert "real time" not in page.words
    assert "1200 %" not in page.words
