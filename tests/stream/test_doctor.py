"""What doctor says is what was tried: real files through real decoders, and what is broken is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream import doctor
from stream.decode import nvdec
from stream.doctor import video as doctor_video
from stream.doctor.checks import Check, guarded


@pytest.fixture(scope="module")
def checks() -> dict[str, Check]:
    return {check.name: check for check in doctor.examine()}


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "mpeg2video"])
def test_codecs_are_decoded(checks: dict[str, Check], codec: str) -> None:
    assert checks[f"decode {codec}"].ok
    assert "10 frames" in checks[f"decode {codec}"].found


def test_dali_decodes_a_file(checks: dict[str, Check]) -> None:
    assert checks["decode with DALI"] == Check("decode with DALI", True, "10 frames of H.264 on the CPU")


@pytest.mark.skipif(nvdec.missing() is None, reason="this machine has NVDEC")
def test_what_is_missing_comes_with_the_step_to_take(checks: dict[str, Check]) -> None:
    nvdec_check = checks["decode on the GPU (NVDEC)"]
    assert not nvdec_check.ok
    assert "pip install" in nvdec_check.advice
    assert checks["a run here"].found.startswith("on the CPU: no NVIDIA driver")


def test_a_decoder_of_wrong_colours_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = doctor_video._encoded(tmp_path, "h264")
    assert guarded("decode h264", lambda: doctor_video._on_cpu(file)).ok
    monkeypatch.setattr(doctor_video, "_GREEN", (60, 40, 180))
    check = guarded("decode h264", lambda: doctor_video._on_cpu(file))
    assert not check.ok
    assert "expected the colour (60, 40, 180)" in check.found
    assert check.advice


def test_a_torn_file_is_a_failed_check(tmp_path: Path) -> None:
    file = doctor_video._encoded(tmp_path, "h264")
    file.write_bytes(file.read_bytes()[:300])
    assert not guarded("decode h264", lambda: doctor_video._on_cpu(file)).ok
