"""Pictures small enough to be embedded."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from stream.report.pictures import ICON_EDGE, LADDER, fit, icon, shrink


def _noise(width: int, height: int, seed: int = 0) -> bytes:
    out = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(values).save(out, "JPEG", quality=92)
    return out.getvalue()


@pytest.mark.parametrize(
    ("size", "expected"), [((400, 200), (100, 50)), ((200, 400), (50, 100)), ((60, 30), (60, 30))]
)
def test_shrink_keeps_the_aspect_and_never_enlarges(size: tuple[int, int], expected: tuple[int, int]) -> None:
    small = shrink(_noise(*size), 100, 80)
    assert small is not None
    with Image.open(io.BytesIO(small.jpeg)) as image:
        assert image.size == expected == (small.width, small.height)
        assert image.format == "JPEG"


def test_grey_pictures_become_rgb() -> None:
    out = io.BytesIO()
    Image.new("L", (50, 40), 90).save(out, "JPEG")
    small = shrink(out.getvalue(), 40, 80)
    assert small is not None
    assert Image.open(io.BytesIO(small.jpeg)).mode == "RGB"
    assert Image.open(io.BytesIO(icon(out.getvalue()))).size == (ICON_EDGE, ICON_EDGE)


@pytest.mark.parametrize("broken", [b"", b"not a picture", _noise(64, 64)[:200]])
def test_a_broken_picture_is_left_out(broken: bytes) -> None:
    assert shrink(broken, 100, 80) is None
    assert icon(broken) == b""
    good = _noise(64, 64)
    assert list(fit(["a", "b"], {"a": broken, "b": good}, 10**6)) == ["b"]


@pytest.mark.parametrize("budget", [10**6, 200_000, 60_000, 3_000, 0])
def test_the_budget_holds_and_the_most_wanted_stay(budget: int) -> None:
    jpegs = {f"{n}": _noise(256, 256, n) for n in range(20)}
    wanted = sorted(jpegs, key=int)
    chosen = fit(wanted, jpegs, budget)
    assert sum(len(s.jpeg) for s in chosen.values()) <= budget
    assert list(chosen) == wanted[: len(chosen)]
    if budget >= 200_000:  # smaller pictures rather than fewer
        assert len(chosen) == 20
    if budget == 10**6:
        assert max(s.width for s in chosen.values()) == LADDER[0][0]


def test_a_picture_wanted_twice_is_spent_once() -> None:
    assert list(fit(["a", "a", "missing"], {"a": _noise(64, 64)}, 10**6)) == ["a"]
