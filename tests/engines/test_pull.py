"""Fetching weights from a real server: checked, resumed, and there whole or not at all."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml

from engines.models import MANIFEST, list_downloads, list_models, register, resolve
from engines.models.pull import adopt, download
from engines.runtime import EngineError

CONTENT = np.random.default_rng(0).bytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves CONTENT; ``stop_after`` cuts the first answers off, ``ranges`` says whether it resumes."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        self.stop_after: int | None = None
        self.ranges = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                outer.asked.append(wanted)
                if self.path != "/weights.pth":
                    self.send_error(404)
                    return
                start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and outer.ranges else 0
                if start >= len(CONTENT):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
                self.send_header("Content-Length", str(len(CONTENT) - start))
                self.end_headers()
                stop, outer.stop_after = outer.stop_after, None
                self.wfile.write(CONTENT[start : len(CONTENT) if stop is None else start + stop])

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/weights.pth"


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    thread = threading.Thread(target=found.http.serve_forever, daemon=True)
    thread.start()
    yield found
    found.http.shutdown()
    found.http.server_close()


def test_fetches_once(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "models" / "weights.pth"
    told: list[tuple[int, int | None]] = []
    assert (
        download(server.url, target, SHA256[:8], on_bytes=lambda have, of: told.append((have, of))) == target
    )
    assert target.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    download(server.url, target, SHA256)
    assert server.asked == [None]
    assert sorted(p.name for p in target.parent.iterdir()) == ["weights.pth", "weights.pth.lock"]


def test_goes_on_where_it_was_cut_off(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "weights.pth"
    server.stop_after = 400_000
    with pytest.raises(
        EngineError, match=r"cannot be fetched .*400000 of 1000000.*run the same command again"
    ):
        download(server.url, target, SHA256)
    assert not target.exists()
    download(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=400000-"]


def test_begins_again_where_the_server_cannot_go_on(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "weights.pth.part").write_bytes(b"x" * 1000)
    told: list[int] = []
    target = tmp_path / "weights.pth"
    download(server.url, target, SHA256, on_bytes=lambda have, _of: told.append(have))
    assert target.read_bytes() == CONTENT
    assert told[-1] == len(CONTENT)


def test_a_whole_part_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "weights.pth.part").write_bytes(CONTENT)
    assert download(server.url, tmp_path / "weights.pth", SHA256).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_another_file_than_expected_is_deleted(server: Server, tmp_path: Path) -> None:
    with pytest.raises(
        EngineError, match=r"expected a file whose sha256 begins with 00000000, got [0-9a-f]{64}"
    ):
        download(server.url, tmp_path / "weights.pth", "0" * 8)
    (tmp_path / "weights.pth.part").write_bytes(b"y" * 500)  # damaged, then resumed
    with pytest.raises(EngineError, match="damaged or changed on the way"):
        download(server.url, tmp_path / "weights.pth", SHA256)
    assert [p.name for p in tmp_path.iterdir()] == ["weights.pth.lock"]
    download(server.url, tmp_path / "weights.pth", SHA256)


def test_no_server_no_such_file_no_address(server: Server, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"cannot be fetched \(Not Found\)"):
        download(server.url.replace("weights", "gone"), tmp_path / "x", SHA256)
    with pytest.raises(EngineError, match=r"cannot be fetched .*machine with a connection.*--file"):
        download("http://127.0.0.1:9/weights.pth", tmp_path / "x", SHA256)
    with pytest.raises(EngineError, match="expected an address that begins with https"):
        download("file:///etc/passwd", tmp_path / "x", SHA256)


def test_a_file_fetched_elsewhere(tmp_path: Path) -> None:
    brought = tmp_path / "brought.pth"
    brought.write_bytes(CONTENT)
    assert adopt(brought, tmp_path / "models" / "weights.pth", SHA256).read_bytes() == CONTENT
    assert brought.exists()
    time = (tmp_path / "models" / "weights.pth").stat().st_mtime_ns
    adopt(brought, tmp_path / "models" / "weights.pth", SHA256)
    assert (tmp_path / "models" / "weights.pth").stat().st_mtime_ns == time
    brought.write_bytes(CONTENT[:-1])
    with pytest.raises(EngineError, match=r"brought\.pth: expected a file whose sha256"):
        adopt(brought, tmp_path / "models" / "other.pth", SHA256)
    with pytest.raises(EngineError, match="no such file"):
        adopt(tmp_path / "gone", tmp_path / "models" / "other.pth", SHA256)


def test_what_can_be_pulled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is found by name once its network is there, and says how to get it before."""
    monkeypatch.setenv("CELSTREAM_CACHE", str(tmp_path))
    (found,) = list_downloads()
    assert (found.name, found.kind, found.url[:8]) == ("densenet161", "embedder", "https://")
    assert found.licence
    with pytest.raises(EngineError, match="not on this machine yet; celstream models pull densenet161"):
        resolve("densenet161", "embedder")
    found.path.parent.mkdir(parents=True)
    found.path.write_bytes(b"network")
    model = resolve("densenet161", "embedder")
    assert (model.path, model.sha256) == (found.path, hashlib.sha256(b"network").hexdigest())


def test_registering_keeps_what_can_be_pulled(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(MANIFEST.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "new.onnx").write_bytes(b"n")
    register(tmp_path / "new.onnx", "detector", "new", "MIT", "", manifest=manifest)
    assert list_downloads(manifest) == list_downloads()
    assert {m.name for m in list_models(manifest)} == {m.name for m in list_models()} | {"new"}
    manifest.write_text(yaml.safe_dump({"models": {}, "downloads": {"x": {"address": "?"}}}))
    with pytest.raises(EngineError, match=r"manifest\.yaml: 'downloads': .*address"):
        list_downloads(manifest)
