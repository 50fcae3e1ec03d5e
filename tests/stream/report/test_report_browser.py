"""The page in a real browser: it draws, it answers to mouse and keyboard, it fits a phone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from stream.report import write_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        BROWSER is None, reason="no Chromium here (chromium, chromium-browser, google-chrome)"
    ),
]

LISTEN = """<script>
window.problems = [];
addEventListener('error', (e) => problems.push(String(e.message)));
addEventListener('unhandledrejection', (e) => problems.push(String(e.reason)));
addEventListener('securitypolicyviolation', (e) => problems.push('policy: ' + e.violatedDirective));
console.error = (...words) => problems.push(words.join(' '));
</script>"""

ACT = """<script>
addEventListener('load', async () => {
  const $ = (q) => document.querySelector(q), all = (q) => [...document.querySelectorAll(q)];
  const wait = () => new Promise((done) => setTimeout(done, 400));
  const key = (on, key) => on.dispatchEvent(
    new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
  const r = {};
  try {
    await wait();
    r.cards = all('.card').filter((c) => c.getBoundingClientRect().height > 100).length;
    r.pictures = all('img').filter((i) => i.getAttribute('src') && !i.naturalWidth && i.complete).length;
    r.wide = document.scrollingElement.scrollWidth - innerWidth;
    r.sheetsAside = getComputedStyle($('#sheets')).display;
    const paths = all('.wide path');
    r.drawn = paths.filter((p) => p.getBoundingClientRect().width > 2).length;
    r.inside = paths.every((p) => {
      const a = p.getBoundingClientRect(), b = p.closest('svg').getBoundingClientRect();
      return a.left >= b.left - 2 && a.right <= b.right + 2; });
    r.bands = all('.bands button').length;
    // the mouse over the time line
    const track = $('.track'), box = track.getBoundingClientRect();
    const clientX = box.left + box.width * 0.2875;
    track.dispatchEvent(new PointerEvent('pointermove', { clientX, bubbles: true }));
    r.tip = $('#tip').textContent; r.tipPicture = !!$('#tip img'); r.cursor = !$('#cursor').hidden;
    track.dispatchEvent(new PointerEvent('pointerleave')); r.tipGone = $('#tip').hidden;
    // the keyboard on it
    key(track, 'ArrowRight'); r.first = $('#announce').textContent;
    key(track, 'ArrowRight'); r.second = $('#announce').textContent;
    // one video alone
    if ($('#video')) {
      $('#video').value = '1'; $('#video').dispatchEvent(new Event('change'));
      r.ticks = all('.ticks span').map((t) => t.textContent); r.box = $('.wide').getAttribute('viewBox');
    }
    // a card opens, another character follows, a crop is enlarged, Escape closes
    const card = $('.card'); card.focus(); card.click(); await wait();
    r.opened = $('dialog').open && $('dialog h3').textContent;
    r.fits = $('dialog').scrollWidth <= $('dialog').clientWidth + 1;
    const shot = all('dialog .shot')[1]; shot.click();
    r.enlarged = $('dialog .stage img').src === shot.querySelector('img').src;
    r.caption = $('dialog .stage b').textContent;
    $('#next').click(); await wait(); r.next = $('dialog h3').textContent;
    key($('dialog'), 'ArrowLeft'); await wait(); r.previous = $('dialog h3').textContent;
    $('#close').click(); await wait();
    r.closed = !$('dialog').open; r.focusBack = document.activeElement === card;
    r.homeAgain = all('#sheets .sheet').map((s) => s.id); r.hash = location.hash;
    // light and dark
    const light = getComputedStyle(document.body).backgroundColor; $('#theme').click();
    const dark = getComputedStyle(document.body).backgroundColor; r.themes = light !== dark;
  } catch (error) { problems.push('act: ' + error.stack); }
  r.problems = problems;
  parent.postMessage(JSON.stringify(r), '*');
});
</script>"""

OUTER = """<!doctype html><body style="margin:0">
<iframe src="acted.html" style="border:0;width:{width}px;height:800px"></iframe><pre id="result"></pre>
<script>
addEventListener('message', (e) => {{ document.getElementById('result').textContent = e.data; }});
</script></body>"""


def _chromium(*arguments: str) -> str:
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def _act(report: Path, width: int) -> dict[str, Any]:
    html = report.read_text(encoding="utf-8")
    acted = html.replace("<style>", LISTEN + "<style>", 1).replace("</body>", ACT + "</body>")
    (report.parent / "acted.html").write_text(acted, encoding="utf-8")
    outer = report.parent / "outer.html"
    outer.write_text(OUTER.format(width=width), encoding="utf-8")
    dom = _chromium(
        "--virtual-time-budget=8000", f"--window-size={width + 40},900", "--dump-dom", outer.as_uri()
    )
    found = re.search(r'<pre id="result">(.*?)</pre>', dom, re.DOTALL)
    assert found, "no result element"
    assert found[1], "the page never answered"
    answer: dict[str, Any] = json.loads(unescape(found[1]))
    return answer


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_draws_and_answers(write_folder: Callable[..., Any], episode: Any, width: int) -> None:
    one = [(float(t), 0) for t in (10, 11, 20)] + [(float(t), 1) for t in range(30, 40)]
    two = [(float(t), 2) for t in range(5, 15)] + [(50.0, 1), (8.0, 0)]
    made = write_folder([episode("one", one), episode("two 'quoted' <b>", two)])
    did = _act(write_report(made.path, names={1: "A & <i>B</i>"}), width)
    assert did.pop("problems") == []
    assert did["cards"] == did["drawn"] == 3
    assert did["pictures"] == 0  # none is broken
    assert did["wide"] <= 0  # no sideways scrolling
    assert did["inside"]
    assert did["bands"] == 2
    assert did["sheetsAside"] == "none"
    assert did["tip"] == "0:34oneA & <i>B</i>"
    assert did["tipPicture"]
    assert did["cursor"]
    assert did["tipGone"]
    assert did["first"] != did["second"]
    assert did["ticks"][0] == "0:00"
    assert did["box"] == "600 0 600 10"
    assert did["opened"] == "A & <i>B</i>"
    assert did["fits"]
    assert did["enlarged"]
    assert did["caption"] == "one at 0:31"
    assert did["next"] == "Character 2"
    assert did["previous"] == "A & <i>B</i>"
    assert did["closed"]
    assert did["focusBack"]
    assert did["homeAgain"] == ["character-1", "character-2", "character-3"]
    assert did["hash"] == ""
    assert did["themes"]


def test_a_screenshot_is_not_blank(write_folder: Callable[..., Any], episode: Any) -> None:
    from PIL import Image

    made = write_folder([episode("one", [(float(t), t % 4) for t in range(40)])])
    picture = made.path / "page.png"
    page = write_report(made.path).as_uri()
    _chromium("--hide-scrollbars", "--window-size=1280,900", f"--screenshot={picture}", page)
    with Image.open(picture) as image:
        assert image.size == (1280, 900)
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 500
