"""Damaged videos of every container end in frames or in a reason. No crash, no hang."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from films import write_film

HERE = Path(__file__).parent
X264 = {"preset": "ultrafast", "g": "24", "bf": "2"}
FILMS = {
    "h264.mp4": {"options": X264, "audio": True},
    "h264.mkv": {"options": X264},
    "h264.ts": {"options": X264},
    "h264.flv": {"options": X264},
    "h264.avi": {"options": X264},
    "raw.h264": {"options": X264, "container": "h264"},
    "hevc.mp4": {
        "codec": "libx265",
        "options": {"preset": "ultrafast", "x265-params": "keyint=24:log-level=none"},
    },
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {"g": "12", "bf": "2", "b": "2M"}, "rate": 25},
    "mpeg2.ts": {
        "codec": "mpeg2video",
        "options": {"g": "12", "bf": "2", "flags": "+ildct+ilme"},
        "rate": 25,
    },
    "mpeg4.avi": {"codec": "mpeg4", "options": {"g": "24", "b": "2M"}},
    "vp8.webm": {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8", "g": "24"}},
    "mjpeg.mov": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "frag.mp4": {"options": X264, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
}


def damage(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """One kind of damage, or two."""
    out = bytearray(data)
    kinds = rng.sample(
        ["flip", "burst", "cut", "head", "zero", "insert", "remove", "header"], rng.choice([1, 1, 2])
    )
    for kind in kinds:
        size = max(len(out), 1)
        at = rng.randrange(size)
        if kind == "flip":
            for _ in range(rng.choice([1, 8, 64, 512])):
                out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        elif kind == "burst":
            length = rng.choice([16, 256, 4096])
            out[at : at + length] = rng.randbytes(len(out[at : at + length]))
        elif kind == "cut":
            del out[at:]
        elif kind == "head":
            del out[: rng.choice([4, 64, 1000, size // 2])]
        elif kind == "zero":
            length = rng.choice([64, 2048, 20000])
            out[at : at + length] = bytes(len(out[at : at + length]))
        elif kind == "insert":
            out[at:at] = rng.randbytes(rng.choice([1, 100, 5000]))
        elif kind == "remove":
            del out[at : at + rng.choice([1, 188, 3000])]
        else:
            for _ in range(8):
                out[rng.randrange(min(len(out), 600))] = rng.randrange(256)
        if not out:
            out = bytearray(b"\0")
    return bytes(out), "+".join(kinds)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("films")
    return [write_film(folder / name, 72, **settings) for name, settings in FILMS.items()]  # type: ignore[arg-type]


def run(paths: list[Path]) -> list[dict[str, object]]:
    """Decode in a child process; if it dies on a file, that is an outcome, and the rest goes on."""
    left = [str(path) for path in paths]
    outcomes: list[dict[str, object]] = []
    while left:
        child = subprocess.run(
            [sys.executable, str(HERE / "decode_all.py"), *left],
            capture_output=True,
            text=True,
            cwd=HERE.parents[1],
            env={"PYTHONPATH": str(HERE.parents[1]), "PATH": "/usr/bin:/bin"},
            timeout=170,
        )
        lines = [json.loads(line) for line in child.stdout.splitlines() if line.startswith("{")]
        done = [line for line in lines if "end" in line]
        outcomes += done
        begun = [line["begin"] for line in lines if "begin" in line]
        if len(done) < len(begun):
            outcomes.append({"end": begun[-1], "failed": f"exit {child.returncode}: {child.stderr[-1500:]}"})
        elif not begun:
            raise AssertionError(child.stderr[-3000:])
        left = left[len(begun) :]
    return outcomes


def check(films: list[Path], folder: Path, seeds: range) -> None:
    paths = []
    for seed in seeds:
        rng = random.Random(seed)
        film = films[seed % len(films)]
        data, kinds = damage(film.read_bytes(), rng)
        path = folder / f"{seed:04d}-{kinds}-{film.name}"
        path.write_bytes(data)
        paths.append(path)
    outcomes = run([*paths, *films])
    assert len(outcomes) == len(paths) + len(films)
    failed = [o for o in outcomes if "failed" in o or float(str(o["seconds"])) > 30]
    assert not failed, json.dumps(failed, indent=1)
    for outcome in outcomes:
        assert outcome["frames"] or outcome["reasons"], f"neither decoded nor refused: {outcome}"
        for reason in outcome["reasons"]:  # type: ignore[attr-defined]
            assert ";" in reason or "(" in reason, f"says not what to do: {reason}"
    for outcome in outcomes[len(paths) :]:
        assert outcome["frames"], f"a good film was refused: {outcome}"
        assert not outcome["reasons"]


def test_forty_fuzzed_videos(films: list[Path], tmp_path: Path) -> None:
    check(films, tmp_path, range(40))


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("part", range(10))
def test_three_hundred_fuzzed_videos(films: list[Path], tmp_path: Path, part: int) -> None:
    check(films, tmp_path, range(1000 + 30 * part, 1030 + 30 * part))
