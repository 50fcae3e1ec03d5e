"""The section on show adaptation: shown where it speaks of what is here, whatever the record holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.models import file_sha256
from stream import embeddings
from stream.report import write_report
from stream.workdir import WorkFolder

DONE = {
    "kept": False,
    "reason": "the signal was -0.1 <and> stayed",
    "before": {"score": -0.6931, "verification": 0.9, "confusion": 0.25, "rivals": 12},
    "after": {"score": -0.7, "verification": 0.875, "confusion": 0.5},
    "steps": 90,
    "planned_steps": 540,
    "seconds": 75.0,
    "crops": 1200,
    "learned_from": 400,
}


@pytest.fixture
def work(write_folder: Callable[..., Any], episode: Any) -> Path:
    path: Path = write_folder([episode("show", [(t, t % 2) for t in range(10)])]).path
    return path


def page(work: Path, about: Any, **record: Any) -> str:
    """The section's text, or nothing where there is none."""
    with WorkFolder.open(work, create=False) as folder:
        if isinstance(about, dict) and "segments" not in about:
            about = about | {"segments": embeddings.mark_of(folder.segments())}
        folder.write_run(record | {"adaptation": about})
    found = re.search(r'<section id="adaptation">.*?</section>', write_report(work).read_text(), re.S)
    return found[0] if found else ""


def test_what_was_measured_and_what_became_of_it(work: Path) -> None:
    section = page(work, DONE)
    for words in (
        "Embeddings as they were", "&lt;and&gt; stayed", "-0.6931", "-0.7000", "90.0 %", "87.5 %", "25.0 %",
        "50.0 %", "400 of 1,200 different crops", "90 of 540 steps", "1 min 15 s", "width:50.0%",
    ):  # fmt: skip
        assert words in section
    assert "in use" not in section


def test_embeddings_are_in_use_only_while_they_are_there(work: Path, tmp_path: Path) -> None:
    assert "in use" not in page(work, DONE | {"kept": True})
    (tmp_path / "net.onnx").write_bytes(b"a network")
    with WorkFolder.open(work, create=False) as folder:
        crops = folder.crops()
        parts = [(info, crops.crop_id, crops.embeddings) for info in folder.segments()]
        embeddings.write(folder.path, parts, tmp_path / "net.onnx", {"model": "abc"})
    section = page(work, DONE | {"kept": True})
    assert "Adapted embeddings are in use" in section
    assert "embeddings/adapted/embedder.onnx" in section


def test_an_adaptation_to_other_segments_is_not_shown(work: Path) -> None:
    assert page(work, DONE | {"segments": "0123456789abcdef"}) == ""


@pytest.mark.parametrize("about", [None, [], "yes", 3])
def test_what_is_no_record_is_not_shown(work: Path, about: Any) -> None:
    assert page(work, about) == ""


def test_a_record_of_the_wrong_kinds_is_shown_as_far_as_it_goes(work: Path) -> None:
    section = page(work, {"kept": "yes", "reason": ["?"], "before": 3, "after": {"score": "?"}, "steps": {}})
    assert "Embeddings as they were" in section
    assert "<table" not in section


def test_memory_is_told_with_and_without(work: Path) -> None:
    page(work, DONE, peak_rss_bytes=600 * 2**20, adapt_peak_rss_bytes=2**30)
    assert "600 MiB, 1.0 GiB with adaptation" in (work / "report.html").read_text()


def test_what_became_of_the_detector(work: Path) -> None:
    told = {
        "kept": True, "reason": "the signal <rose>", "seconds": 200.0, "steps": 230, "planned_steps": 230,
        "sure_boxes": 1201, "windows": 128, "held_out": 32,
    }  # fmt: skip
    section = page(work, None, detector_adaptation=told)
    for words in (
        "Adapted detector is not in use", "&lt;rose&gt;", "1,201 sure boxes in 128 windows, 32 held out",
        "230 steps", "3 min 20 s",
    ):  # fmt: skip
        assert words in section
    assert "embedding" not in section
    (work / "detector").mkdir()
    (work / "detector" / "adapted.onnx").write_bytes(b"a network")
    model = str(work / "detector" / "adapted.onnx")
    record: dict[str, Any] = {"detector_adaptation": told, "config": {"detector": {"model": model}}}
    models = {"detector": {"model": "default", "sha256": "of another"}}
    # a run that was stopped before it did anything: the boxes are still the former one's
    assert "Adapted detector is not in use" in page(work, DONE, models=models, **record)
    models = {"detector": {"model": model, "sha256": file_sha256(work / "detector" / "adapted.onnx")}}
    section = page(work, DONE, models=models, **record)
    assert "Adapted detector is in use" in section
    assert "Embeddings as they were" in section
    assert "Detector as it was" in page(work, None, detector_adaptation=told | {"kept": False}, config={})
    assert page(work, None, detector_adaptation="yes") == ""
