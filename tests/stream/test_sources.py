"""Every way to name a video, and every way for it to be unusable."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from films import numbered, write_film
from PIL import Image

from stream.batches import Video
from stream.config import Config
from stream.decode import decode_segment, plan_decode
from stream.errors import SourceError
from stream.probe import fingerprint_file
from stream.sources import find_videos, plan_segments


def find(*inputs: object, timeout_s: float = 10) -> tuple[list[Video], dict[str, str]]:
    bad: dict[str, str] = {}

    def on_bad(uri: str, why: str) -> None:
        assert uri not in bad, "told twice"
        assert why.startswith(f"{uri}: ")
        bad[uri] = why

    return list(find_videos([str(i) for i in inputs], on_bad=on_bad, timeout_s=timeout_s)), bad


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", 48, audio=True)


def picture(path: Path, number: int = 1, size: tuple[int, int] = (64, 48)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numbered(number, *size)).save(path)
    return path


def test_a_file(film: Path) -> None:
    (video,), bad = find(film)
    assert not bad
    assert (video.name, video.width, video.height, video.codec) == ("film", 192, 144, "h264")
    assert video.duration_s == pytest.approx(2, abs=0.1)
    assert video.frame_rate == pytest.approx(24)
    assert video.stream_index == 0
    assert "sampled frames need" in str(plan_decode(video, Config()))


def test_folders_globs_and_lists_name_each_video_once(tmp_path: Path, film: Path) -> None:
    for name in ("a/one.mp4", "a/deep/er/two.mp4", "b/one.mp4", "b/.hidden.mp4", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(film, tmp_path / name)
    (tmp_path / "list.txt").write_text(f"# a comment\n\na/one.mp4\n{tmp_path}/b/one.mp4\n")
    (tmp_path / "list.m3u").write_text("#EXTM3U\n#EXTINF:2,One\na/one.mp4\n")
    videos, bad = find(tmp_path)
    assert not bad
    assert [Path(v.uri).relative_to(tmp_path).as_posix() for v in videos] == [
        "a/one.mp4",
        "a/deep/er/two.mp4",
        "b/one.mp4",
    ]
    assert [v.name for v in videos] == ["one", "two", "one-2"]
    videos, bad = find(tmp_path / "**/*.mp4")
    assert not bad
    assert len(videos) == 3
    videos, bad = find(tmp_path / "list.txt", tmp_path / "list.m3u", tmp_path / "a")
    assert not bad
    assert [v.name for v in videos] == ["one", "one-2", "two"]


def test_names_are_safe(tmp_path: Path, film: Path) -> None:
    for name in ("Épisode 1: L'été?.mp4", "-- film.mp4", "CON file.mp4", "con FILE.mp4"):
        shutil.copy(film, tmp_path / name)
    videos, bad = find(tmp_path)
    assert not bad
    names = [v.name for v in videos]
    assert len({n.lower() for n in names}) == 4
    assert all(n and n[0] not in "._-" and not set(n) & set(" :/\\?*'\"<>|") for n in names)


def test_images_of_a_folder_are_one_video(tmp_path: Path) -> None:
    for number, suffix in enumerate(("png", "webp", "gif", "jpg")):
        picture(tmp_path / "art" / f"{number}.{suffix}", number, (96, 64) if number < 3 else (120, 72))
    picture(tmp_path / "art" / "sub" / "x.png", 9)
    (tmp_path / "art" / "bad.png").write_bytes(b"\x89PNG nothing")
    (tmp_path / "art" / "empty.jpg").write_bytes(b"")
    videos, bad = find(tmp_path / "art")
    assert [(v.name, v.kind, len(v.files)) for v in videos] == [("art", "images", 4), ("sub", "images", 1)]
    assert {Path(p).name for p in bad} == {"bad.png", "empty.jpg"}
    assert "empty" in bad[str(tmp_path / "art" / "empty.jpg")]
    segments = plan_segments(videos[0], 3, 1.0)
    assert [(s.start_s, s.end_s) for s in segments] == [(0.0, 3.0), (3.0, 4.0)]
    batches = [b for s in segments for b in decode_segment(s, Config())]
    assert [b.images.shape for b in batches] == [(3, 64, 96, 3), (1, 72, 120, 3)]
    assert [i for b in batches for i in b.indices] == [0, 1, 2, 3]
    loose, _ = find(tmp_path / "art" / "1.webp", tmp_path / "art" / "0.png")
    assert [(v.kind, [Path(f).name for f in v.files]) for v in loose] == [("images", ["0.png", "1.webp"])]


def test_a_damaged_image_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(picture(tmp_path / "whole" / "a.png").read_bytes()[:60])
    videos, bad = find(tmp_path / "torn.png")
    assert videos == []
    assert list(bad) == [str(tmp_path / "torn.png")]
    videos, bad = find(tmp_path)
    assert len(videos) == 1
    assert list(bad) == [str(tmp_path / "torn.png")]


def test_images_stand_upright_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 10, 20))
    image.save(tmp_path / "clear.png")
    turned = Image.new("RGB", (40, 20), "blue")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    (video,), _ = find(tmp_path)
    first, second = (b.images[0] for s in plan_segments(video, 300, 1) for b in decode_segment(s, Config()))
    assert first[10, 5].tolist() == [255, 0, 0]
    assert first[10, 30].tolist() == [255, 255, 255]
    assert second.shape == (40, 20, 3)


BAD = {
    "text.mp4": (b"just some words\nand more\n" * 20, "text file"),
    "empty.mp4": (b"", "empty"),
    "zip.mkv": (b"PK\3\4" + bytes(range(256)) * 8, "ZIP"),
    "noise.avi": (np.random.default_rng(1).integers(0, 255, 9000, np.uint8).tobytes(), "no video in it"),
    "short.mp4": (b"\0\0\0\x20ftypisom", "no video in it"),
}


@pytest.mark.parametrize("name", BAD)
def test_unusable_files_are_told_and_the_good_ones_done(tmp_path: Path, film: Path, name: str) -> None:
    content, words = BAD[name]
    (tmp_path / name).write_bytes(content)
    shutil.copy(film, tmp_path / "z.mp4")
    videos, bad = find(tmp_path)
    assert [v.name for v in videos] == ["z"]
    assert list(bad) == [str(tmp_path / name)]
    assert words in bad[str(tmp_path / name)]
    assert ";" in bad[str(tmp_path / name)], "says what to do"


def test_missing_things(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "gone.mp4")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "self.txt").write_text("self.txt\nnot-there.mp4\n")
    for what, words in {
        "gone.mp4": "no such file",
        "dangling.mp4": "no such file",
        "*.mkv": "no file matches",
        "none": "no video",
        "empty.txt": "names nothing",
    }.items():
        videos, bad = find(tmp_path / what)
        assert not videos
        assert [words in why for why in bad.values()] == [True], bad
    _, bad = find(tmp_path / "self.txt")
    assert "names itself" in bad[str(tmp_path / "self.txt")]
    assert "no such file" in bad[str(tmp_path / "not-there.mp4")]


def test_audio_only_and_cover_art(tmp_path: Path) -> None:
    sound = tmp_path / "sound.m4a"
    with av.open(str(sound), "w") as out:
        stream = out.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    _, bad = find(sound)
    assert "no video stream (it holds only audio)" in bad[str(sound)]

    picture(tmp_path / "cover.jpg")
    covered = tmp_path / "covered.mp4"
    with (
        av.open(str(covered), "w") as out,
        av.open(str(sound)) as src,
        av.open(str(tmp_path / "cover.jpg")) as art,
    ):
        tracks = {s: out.add_stream_from_template(s) for s in (src.streams[0], art.streams[0])}
        tracks[art.streams[0]].disposition = 1 << 10
        for container in (src, art):
            for packet in container.demux():
                if packet.size:
                    packet.stream = tracks[packet.stream]
                    out.mux(packet)
    with av.open(str(covered)) as check:
        assert check.streams.video
        assert check.streams.video[0].disposition & 1 << 10
    _, bad = find(covered)
    assert "cover art" in bad[str(covered)]


def test_folders_that_may_not_be_read(film: Path) -> None:
    top = Path(tempfile.mkdtemp())
    try:
        shutil.copy(film, top / "a.mp4")
        (top / "locked" / "inner").mkdir(parents=True)
        (top / "secret.mp4").write_bytes(film.read_bytes())
        (top / "secret.mp4").chmod(0)
        top.chmod(0o755)
        (top / "a.mp4").chmod(0o644)
        (top / "locked").chmod(0)
        with _as_nobody():
            videos, bad = find(top, top / "locked" / "inner")
    finally:
        (top / "locked").chmod(0o755)
        shutil.rmtree(top)
    assert [v.name for v in videos] == ["a"]
    assert sorted(bad) == [str(top / "locked"), str(top / "locked/inner"), str(top / "secret.mp4")]
    assert all("Permission denied" in why and "check its permissions" in why for why in bad.values())


@contextlib.contextmanager
def _as_nobody() -> Iterator[None]:
    """Root reads everything, so it steps down for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("name", ["n" * 300 + ".mp4", "nul\0.mp4", " ", ""])
def test_impossible_names(film: Path, name: str) -> None:
    videos, bad = find(name, film)
    assert len(videos) == 1
    assert list(bad) == [name]


def test_fingerprints(tmp_path: Path, film: Path) -> None:
    copy = tmp_path / "copy.mp4"
    shutil.copy(film, copy)
    assert fingerprint_file(copy) == fingerprint_file(film)
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    assert fingerprint_file(copy) != fingerprint_file(film)
    huge = tmp_path / "huge.bin"
    with huge.open("wb") as file:
        file.truncate(60 << 30)  # sparse: takes no room
    start = time.perf_counter()
    fingerprint_file(huge)
    assert time.perf_counter() - start < 1


def test_http(film: Path) -> None:
    handler = partial(_Quiet, directory=str(film.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/film.mp4"
        (video,), bad = find(url)
        assert not bad
        assert video.name == "film"
        (segment,) = plan_segments(video, 300, 1.0)
        assert [len(b) for b in decode_segment(segment, Config())] == [2]
        gone = f"http://127.0.0.1:{server.server_port}/gone.mp4"
        _, bad = find(gone)
        assert "cannot be opened" in bad[gone]
        server.shutdown()


def test_a_server_that_does_not_seek_is_not_called_a_damaged_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 256, (240, 320, 3), np.uint8) for _ in range(24)]
    write_film(tmp_path / "late.mp4", pictures)  # its index comes last, after more than FFmpeg buffers
    write_film(tmp_path / "early.mp4", pictures, container_options={"movflags": "+faststart"})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        late, early = (f"http://127.0.0.1:{server.server_port}/{name}.mp4" for name in ("late", "early"))
        videos, bad = find(late, early)
        server.shutdown()
    assert [video.uri for video in videos] == [early]
    assert "server may not seek" in bad[late]
    assert "download it" in bad[late]
    assert "-movflags +faststart" in bad[late]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        return None


def test_a_url_that_does_not_answer_times_out(film: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # accepts, and says nothing
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/film.mp4"
        start = time.perf_counter()
        videos, bad = find(url, film, timeout_s=1)
        assert time.perf_counter() - start < 8
    assert len(videos) == 1
    assert "did not answer within 1 s" in bad[url]


class _Live(BaseHTTPRequestHandler):
    """A stream without length or seeking, that falls silent at its end and stays open."""

    content = b""
    over = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "video/mp2t")
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(self.content)
            self.wfile.flush()
            self.over.wait(20)

    def log_message(self, *_: object) -> None:
        return None


def test_a_live_stream_that_falls_silent_keeps_what_it_gave(tmp_path: Path) -> None:
    options = {"g": "24", "preset": "ultrafast"}
    _Live.content = write_film(tmp_path / "a.ts", 240, options=options, start=2400).read_bytes()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Live) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/live"
        (video,), bad = find(url, timeout_s=2)
        assert not bad
        assert video.duration_s is None
        (segment,) = plan_segments(video, 3, 1.0)
        assert math.isinf(segment.end_s)
        notes: list[str] = []
        got = [t for b in decode_segment(segment, Config(held=0), note=notes.append) for t in b.times]
        _Live.over.set()
        server.shutdown()
    assert np.allclose(got, range(10), atol=0.03)
    assert any("no data for 2 s: taken as the end" in n for n in notes), notes


def test_a_file_that_goes_away_is_an_error_of_its_own(tmp_path: Path, film: Path) -> None:
    copy = tmp_path / "copy.mp4"
    shutil.copy(film, copy)
    (video,), _ = find(copy)
    (segment,) = plan_segments(video, 300, 1.0)
    copy.unlink()
    with pytest.raises(SourceError, match="cannot be opened any more"):
        next(decode_segment(segment, Config()))


def test_hls_is_one_video(tmp_path: Path) -> None:
    listing = tmp_path / "film.m3u8"
    write_film(listing, 96, options={"g": "24", "preset": "ultrafast"}, container="hls")
    (video,), bad = find(listing)
    assert not bad
    segments = plan_segments(video, 1.5, 1.0)
    assert len(segments) > 1
    got = [t for s in segments for b in decode_segment(s, Config(held=0)) for t in b.times]
    assert np.allclose(got, [0, 1, 2, 3], atol=0.03)
