"""Live streams over real connections: a server that sends a transport stream as slowly as it plays."""

from __future__ import annotations

import http.server
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from run_settings import OPTIONS, SETTINGS

from stream import cluster, load_config, run
from stream.cartoon.write import Episode
from stream.config import Config
from stream.live import LiveSource
from stream.sources import find_videos
from stream.workdir import WorkFolder


@pytest.fixture(scope="module")
def transport(episode: Episode, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The episode's picture as a transport stream."""
    path = tmp_path_factory.mktemp("live") / "live.ts"
    with av.open(str(episode.video)) as source, av.open(str(path), "w", format="mpegts") as out:
        picture = source.streams.video[0]
        copy = out.add_stream_from_template(picture)
        for packet in source.demux(picture):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
    return path.read_bytes()


class Station:
    """Sends ``content`` to whoever connects, in ``seconds``, and then ``then``s: closes, or falls silent."""

    def __init__(self, content: bytes, seconds: float, then: str = "close") -> None:
        self.sent = threading.Event()
        self.over = threading.Event()
        station = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "video/mp2t")
                self.end_headers()
                pieces = 60
                size = -(-len(content) // pieces)
                try:
                    for n in range(pieces):
                        self.wfile.write(content[n * size : (n + 1) * size])
                        if station.over.wait(seconds / pieces):
                            return
                    station.sent.set()
                    if then == "silence":
                        station.over.wait(60)
                except OSError:
                    pass  # the probe hangs up

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/show.ts"

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def on_air(transport: bytes) -> Iterator[Callable[..., Station]]:
    stations: list[Station] = []

    def start(seconds: float, then: str = "close", share: float = 1.0, skip: float = 0.0) -> Station:
        begin, end = (int(len(transport) * part) for part in (skip, share))
        stations.append(Station(transport[begin - begin % 188 : end], seconds, then))
        return stations[-1]

    yield start
    for station in stations:
        station.close()


def test_segments_are_written_as_they_come_and_are_those_of_the_file(
    on_air: Callable[..., Station], transport: bytes, tmp_path: Path
) -> None:
    station = on_air(3.0)
    early: list[int] = []

    def watch() -> None:
        while not station.sent.wait(0.05):
            early.append(len(list((tmp_path / "live").glob("segments/*/*.parquet"))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    summary = run(station.url, tmp_path / "live", load_config(values=SETTINGS))
    watcher.join()
    assert summary.exit_code == 0, summary.quarantined
    assert max(early) >= 2  # on the disk while the stream still runs
    (tmp_path / "show.ts").write_bytes(transport)
    run(tmp_path / "show.ts", tmp_path / "file", load_config(values=SETTINGS), report=False)
    tables = []
    for work in (tmp_path / "live", tmp_path / "file"):
        with WorkFolder.open(work, create=False, write=False) as folder:
            tables.append((folder.frames()["show"], folder.crops(), folder.segments()))
    (live, live_crops, segments), (file, file_crops, _) = tables
    assert np.allclose(live.times, file.times)
    assert len(live) == summary.frames == 24
    assert [(i.start_s, i.end_s) for i in segments] == [(0, 3), (3, 6), (6, 9), (9, 12)]
    assert summary.segments == 4
    # the first frame of a segment is looked at anew, so what is found can differ by held frames alone
    assert abs(len(live_crops) - len(file_crops)) <= 4
    assert summary.clusters > 0
    assert (tmp_path / "live" / "report.html").exists()


def test_another_run_is_another_recording(on_air: Callable[..., Station], tmp_path: Path) -> None:
    station = on_air(0.3, share=0.3)
    for _ in range(2):
        summary = run(station.url, tmp_path / "work", load_config(values=SETTINGS), report=False)
    assert summary.videos == 2
    assert "show-2" in " ".join(summary.notes)
    assert {p.name for p in (tmp_path / "work" / "segments").iterdir()} == {"show", "show-2"}


def test_ctrl_c_ends_the_recording_and_keeps_what_came(
    on_air: Callable[..., Station], tmp_path: Path
) -> None:
    station, work = on_air(6.0, then="silence"), tmp_path / "work"
    command = [sys.executable, "-m", "stream.cli", "run", station.url, "-o", str(work), "--json"]
    process = subprocess.Popen(
        [*command, *OPTIONS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while len(list(work.glob("segments/*/*.parquet"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    result = json.loads(output)
    assert result["interrupted"] is True
    assert not result["quarantined"]
    kept = sorted(work.glob("segments/*/*.parquet"))
    assert len(kept) >= 2
    for path in kept:
        pq.read_table(path)
    assert not list(work.rglob("*.tmp*"))
    assert cluster(work).meta["clusters"] > 0
    assert (work / "report.html").exists()


def test_silence_is_taken_as_the_end(on_air: Callable[..., Station]) -> None:
    station = on_air(0.2, then="silence", share=0.6)
    (video,) = find_videos([station.url], on_bad=lambda uri, why: pytest.fail(why), timeout_s=1.5)
    source = LiveSource(video, Config(interval=0.5, segment_seconds=2), threading.Event())
    notes: list[str] = []
    began = time.monotonic()
    times = [
        float(time_s)
        for segment in source.segments()
        for batch in source.decode(segment, notes.append)
        for time_s in [*batch.times, *batch.held.times]
    ]
    assert time.monotonic() - began < 15
    assert 5 < max(times) < 8
    assert notes == ["no data for 2 s: taken as the end"]


def test_a_segment_given_up_in_the_middle_does_not_leak_into_the_next(
    on_air: Callable[..., Station],
) -> None:
    station = on_air(0.3)
    (video,) = find_videos([station.url], on_bad=lambda uri, why: pytest.fail(why))
    source = LiveSource(video, Config(interval=0.5, segment_seconds=3, batch_size=1), threading.Event())
    first: list[float] = []
    for segment in source.segments():
        batches = source.decode(segment, lambda _: None)
        first.append(float(next(batches).times[0]))
        batches.close()
    assert np.allclose(first, [0, 3, 6, 9], atol=0.05)


def test_a_stream_joined_in_the_middle_begins_at_its_first_keyframe(on_air: Callable[..., Station]) -> None:
    station = on_air(0.2, skip=0.33)
    (video,) = find_videos([station.url], on_bad=lambda uri, why: pytest.fail(why))
    source = LiveSource(video, Config(interval=0.5, segment_seconds=30), threading.Event())
    notes: list[str] = []
    (segment,) = (s for s in source.segments() if list(source.decode(s, notes.append)))
    assert segment.index == 0
    assert not [note for note in notes if "decoded whole" in note]


def test_a_url_without_a_path_is_named_by_its_host() -> None:
    from stream.sources import _Names

    names = _Names()
    assert names.reserve("udp://127.0.0.1:5000?pkt_size=1316") == "127.0.0.1_5000"
    assert names.reserve("rtsp://10.0.0.2:8554/door.cam/") == "door"


def test_a_live_stream_that_fails_is_quarantined_and_the_file_is_done(
    on_air: Callable[..., Station], episode: Episode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stream import live

    station = on_air(0.3, share=0.4)

    def breaks(*_: object) -> Iterator[None]:
        raise ZeroDivisionError("on purpose")
        yield

    monkeypatch.setattr(live, "sampled_frames", breaks)
    summary = run(
        [station.url, str(episode.video)], tmp_path / "work", load_config(values=SETTINGS), report=False
    )
    assert [q["uri"] for q in summary.quarantined] == [station.url]
    assert summary.videos == 1
