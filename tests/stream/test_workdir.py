"""The work folder: whose it is, what survives a kill and a full disk, and what comes out of it again."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import store_samples as sample
import yaml

from stream.batches import Segment
from stream.errors import WorkdirError
from stream.files import append_line, read_lines, write_error
from stream.rows import FrameTable, SegmentRows
from stream.tables import ClusterTable
from stream.workdir import WorkFolder

HERE = Path(__file__).parents[1]
PATHS = [str(HERE.parent), str(HERE)]  # what a process of its own needs to import us


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[WorkFolder]:
    """A new, open work folder."""
    with WorkFolder.open(tmp_path / "work", create=True) as opened:
        yield opened


def put(folder: WorkFolder, of: Segment, count: int = 6, seed: int = 0) -> Path:
    return folder.write_segment(of, "f", sample.rows(of, count, seed), frames=sample.frames(of))


def files_of(folder: Path) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


# --- whose folder it is ---


def test_a_new_folder_is_marked_and_opens_again(tmp_path: Path) -> None:
    path = tmp_path / "a" / "work"
    WorkFolder.open(path, create=True).close()
    assert yaml.safe_load((path / "run.yaml").read_text()) == {"celstream_format": 1}
    with WorkFolder.open(path, create=False) as again:
        assert again.read_run() == {"celstream_format": 1}


def test_a_folder_left_by_a_run_killed_at_its_start_is_made(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("1\n")
    (tmp_path / ".run.yaml.0badc0de.tmp").write_text("celst")
    with WorkFolder.open(tmp_path, create=True) as folder:
        assert [path.name for path in folder.clean()] == [".run.yaml.0badc0de.tmp"]
        assert folder.read_run() == {"celstream_format": 1}


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (None, "holds other files and no run.yaml"),
        ("experiment: 3\n", "expected celstream_format: 1 in it, found none: this is another program's"),
        ("- a\n- list\n", "another program's"),
        ("celstream_format: yes\n", "another program's"),
        ("a: [unclosed", "another program's"),
        ("celstream_format: 2\n", "written by a newer celstream .format 2, this one reads 1.; upgrade"),
        ("celstream_format: 0\n", "written by an older celstream"),
    ],
)
@pytest.mark.parametrize("create", [True, False])
def test_what_is_not_ours_is_refused_and_left_alone(
    tmp_path: Path, marker: str | None, message: str, create: bool
) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    if marker is not None:
        (tmp_path / "run.yaml").write_text(marker)
    before = files_of(tmp_path)
    with pytest.raises(WorkdirError, match=message):
        WorkFolder.open(tmp_path, create=create)
    assert files_of(tmp_path) == before


def test_missing_folders_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkdirError, match=r"nowhere: no work folder here; `celstream run"):
        WorkFolder.open(tmp_path / "nowhere", create=False)
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "file").touch()
    with pytest.raises(WorkdirError, match="expected a folder, found a file"):
        WorkFolder.open(tmp_path / "file", create=True)
    with pytest.raises(WorkdirError, match="cannot be written"):
        WorkFolder.open(tmp_path / "file" / "below", create=True)


def test_a_folder_that_cannot_be_made_is_an_error_that_says_so() -> None:
    with pytest.raises(WorkdirError, match=r"cannot be written .*; choose a folder you may write to"):
        WorkFolder.open("/proc/celstream", create=True)  # not even root may


def test_a_second_process_is_refused_and_told_who_is_first(tmp_path: Path) -> None:
    program = (
        f"import sys, time; sys.path[:0] = {PATHS!r}\n"
        "from stream.workdir import WorkFolder\n"
        "folder = WorkFolder.open(sys.argv[1], create=True)\n"
        "print('open', flush=True); time.sleep(60)\n"
    )
    first = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "open\n"
        with pytest.raises(WorkdirError, match=rf"in use by another run \(process {first.pid}\)"):
            WorkFolder.open(tmp_path, create=True)
        with WorkFolder.open(tmp_path, create=False, write=False) as reader:
            assert len(reader.crops()) == 0
            with pytest.raises(RuntimeError, match="opened for reading"):
                reader.write_run({})
    finally:
        first.kill()
        first.communicate()
    WorkFolder.open(tmp_path, create=True).close()  # a kill leaves no lock behind


# --- segments ---


def test_a_segment_is_done_when_content_settings_and_span_are_the_same(folder: WorkFolder) -> None:
    of = sample.segment(1)
    assert not folder.has_segment(of, "f")
    path = put(folder, of)
    assert path == folder.segment_path(of) == folder.path / "segments" / "film" / "0000010000.parquet"
    assert folder.has_segment(of, "f")
    assert not folder.has_segment(of, "other settings")
    assert not folder.has_segment(Segment(of.video, 1, of.start_s, of.end_s + 5), "f")
    assert not folder.has_segment(sample.segment(0), "f")
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert not folder.has_segment(of, "f")
    with pytest.raises(WorkdirError, match=r"0000010000\.parquet: not a whole segment file"):
        folder.crops()


def test_crops_are_one_table_in_the_order_of_the_films(folder: WorkFolder) -> None:
    for of in (sample.segment(1, "b"), sample.segment(0, "b"), sample.segment(0, "a")):
        put(folder, of, count=4)
    folder.write_segment(
        sample.segment(2, "b"), "f", SegmentRows.empty(0), frames=sample.frames(sample.segment(2, "b"))
    )
    table = folder.crops()
    assert len(table) == 12
    assert table.crop_id.tolist() == [
        f"{where}/{n}" for where in ("a/0000000000", "b/0000000000", "b/0000010000") for n in range(4)
    ]
    assert table.video.tolist() == ["a"] * 4 + ["b"] * 8
    assert table.segment.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert table.classes.tolist() == ["face", "character", "character", "face"] * 3
    assert table.track.tolist() == [0, 1] * 6
    assert table.unique_tracks().tolist() == [0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5]
    expected = sample.rows(sample.segment(1, "b"), 4)
    assert np.array_equal(table.boxes[8:], expected.boxes)
    assert table.embeddings is not None
    assert table.embeddings.dtype == np.float32
    assert np.abs(table.embeddings[8:] - expected.embeddings).max() < 1e-3
    assert np.abs(np.linalg.norm(table.embeddings, axis=1) - 1).max() < 1e-6
    assert folder.crops(embeddings=False).embeddings is None
    assert folder.crops(videos={"a"}).video.tolist() == ["a"] * 4
    assert [info.crops for info in folder.segments()] == [4, 4, 4, 0]


def test_crops_without_a_track_stand_alone(folder: WorkFolder) -> None:
    of = sample.segment()
    rows = sample.rows(of, 5).with_tracks(np.array([-1, 3, 3, -1, 0]))
    folder.write_segment(of, "f", rows, frames=FrameTable())
    tracks = folder.crops().unique_tracks().tolist()
    assert tracks[1] == tracks[2]
    assert len(set(tracks)) == 4
    assert sorted(set(tracks)) == [0, 1, 2, 3]


def test_an_empty_folder_has_an_empty_table(folder: WorkFolder) -> None:
    table = folder.crops()
    assert len(table) == 0
    assert len(table.unique_tracks()) == 0
    assert folder.frames() == {}
    assert folder.jpegs([]) == {}


def test_embeddings_of_two_sizes_are_not_mixed(folder: WorkFolder) -> None:
    put(folder, sample.segment(0))
    small = vars(sample.rows(sample.segment(1)))
    small["embeddings"] = small["embeddings"][:, :8].copy()
    folder.write_segment(sample.segment(1), "g", SegmentRows(**small), frames=FrameTable())
    with pytest.raises(WorkdirError, match=r"embeddings of one size, found 8 in .*, 16 in"):
        folder.crops()
    assert len(folder.crops(embeddings=False)) == 12


def test_pictures_come_by_id(folder: WorkFolder) -> None:
    put(folder, sample.segment(0))
    put(folder, sample.segment(1), seed=1)
    found = folder.jpegs(["film/0000010000/2", "film/0000000000/5", "film/0000010000/0"])
    assert found == {
        "film/0000010000/2": sample.jpeg(1002),
        "film/0000000000/5": sample.jpeg(5),
        "film/0000010000/0": sample.jpeg(1000),
    }
    for gone in ("film/0000000000/6", "other/0000000000/0"):
        with pytest.raises(WorkdirError, match="cluster"):
            folder.jpegs([gone])
    with pytest.raises(WorkdirError, match="expected <video>/<segment>/<row>"):
        folder.jpegs(["nonsense"])


def test_frames_are_known_by_film_with_and_without_crops(folder: WorkFolder) -> None:
    put(folder, sample.segment(1))
    put(folder, sample.segment(0), count=0)
    frames = folder.frames()
    assert list(frames) == ["film"]
    assert frames["film"].times.tolist() == [float(t) for t in range(20)]


def test_what_the_plan_no_longer_has_is_dropped_on_demand_only(folder: WorkFolder) -> None:
    kept, stale, other = (put(folder, sample.segment(*of)) for of in ((0, "a"), (1, "a"), (0, "b")))
    assert folder.clean() == []
    assert folder.drop_stale({kept}, videos={"a"}) == [stale]
    assert (kept.exists(), stale.exists(), other.exists()) == (True, False, True)
    assert folder.drop_stale({kept}) == [other]
    assert sorted(path.name for path in (folder.path / "segments").iterdir()) == ["a"]


def test_times_taken_are_kept_apart_so_that_files_repeat(folder: WorkFolder) -> None:
    of = sample.segment()
    rows, frames = sample.rows(of), sample.frames(of)
    path = folder.write_segment(of, "f", rows, frames=frames, notes={"damaged": 1}, stats={"decode": 1.5})
    first = path.read_bytes()
    folder.write_segment(
        of, "f", rows, frames=frames, notes={"damaged": 1}, stats={"decode": np.float32(2.5)}
    )
    assert path.read_bytes() == first
    assert folder.stats() == [{"segment": "film/0000000000", "fingerprint": "f", "stats": {"decode": 2.5}}]
    assert folder.segments()[0].notes == {"damaged": 1}


# --- kills and full disks ---

WRITERS = f"""
import os, sys; sys.path[:0] = {PATHS!r}
import store_samples as sample
from stream.workdir import WorkFolder
made = [(of, sample.rows(of, 40, side=160)) for of in map(sample.segment, range(3))]

def write(target, times):
    with WorkFolder.open(target, create=True) as folder:
        for fingerprint in range(times):
            for of, rows in made:
                folder.write_segment(of, str(fingerprint), rows, frames=sample.frames(of), stats={{"s": 1}})

print("ready", flush=True)
for line in sys.stdin:  # a process for each line: forked, since importing takes longer than writing
    target, times = line.split()
    writer = os.fork()
    if not writer:
        write(target, int(times))
        os._exit(0)
    print(writer, flush=True)
    print(os.waitpid(writer, 0)[1], flush=True)
"""


def test_twenty_kills_leave_whole_files_only(tmp_path: Path) -> None:
    chance = random.Random(7)
    work, calm = tmp_path / "work", tmp_path / "calm"
    left = done = 0
    with subprocess.Popen(
        [sys.executable, "-c", WRITERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writers:
        assert writers.stdin is not None
        assert writers.stdout is not None
        assert writers.stdout.readline() == "ready\n"
        kills = 0
        while kills < 20 or (kills < 80 and not (done > 20 and left)):  # a busy machine writes slowly
            kills += 1
            print(work, 100_000, file=writers.stdin, flush=True)
            writer = int(writers.stdout.readline())
            time.sleep(chance.uniform(0, 0.01 * kills))
            os.kill(writer, signal.SIGKILL)
            assert int(writers.stdout.readline()) == signal.SIGKILL
            with WorkFolder.open(work, create=True) as folder:
                infos = folder.segments()  # raises where a file is not whole, as does crops
                assert len(folder.crops()) == 40 * len(infos)
                done += len(infos)
                left += len(folder.clean())
                assert not [name for name in files_of(work) if name.endswith(".tmp")]
        for target in (work, calm):
            print(target, 1, file=writers.stdin, flush=True)
            writers.stdout.readline()
            assert int(writers.stdout.readline()) == 0
        writers.stdin.close()
    assert done > 20, "the kills came before anything was written: the test shows nothing"
    assert left > 0, "no kill met a file in the making: the test shows nothing"
    names = [f"segments/film/{n:06d}0000.parquet" for n in range(3)]
    after_kills, uninterrupted = files_of(work), files_of(calm)
    assert [after_kills[name] for name in names] == [uninterrupted[name] for name in names]


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        with WorkFolder.open(tmp_path, create=True) as folder:
            kept = put(folder, sample.segment(0))
            before = files_of(tmp_path)
            of = sample.segment(1)
            large = sample.rows(of, 200, side=120)
            with pytest.raises(
                WorkdirError, match=r"the disk is full .*, \S+ [kM]B are free, about 1\.\d+ MB"
            ):
                folder.write_segment(of, "f", large, frames=sample.frames(of))
            assert files_of(tmp_path) == before
            assert folder.has_segment(sample.segment(0), "f")
            put(folder, of)  # what is smaller still fits
            assert len(folder.crops()) == 12
            assert kept.exists()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize("limit", [0, 1, 4096, 60_000])
def test_a_write_that_fails_midway_leaves_nothing(folder: WorkFolder, limit: int) -> None:
    """A limit on file sizes stands for a full disk: the kernel refuses the write at that very byte."""
    of = sample.segment()
    rows = sample.rows(of, 100, side=80)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = put(folder, of).read_bytes()
    before = files_of(folder.path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(WorkdirError, match="not written, too large"):
            folder.write_segment(of, "f", rows, frames=sample.frames(of))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files_of(folder.path) == before
    assert folder.segment_path(of).read_bytes() == old


def test_an_error_while_rows_are_made_leaves_nothing(folder: WorkFolder) -> None:
    of = sample.segment()
    rows = SegmentRows(**{**vars(sample.rows(of)), "classes": (None,) * 5 + (3,)})  # not text
    with pytest.raises(TypeError):
        folder.write_segment(of, "f", rows, frames=sample.frames(of))
    assert [path.name for path in (folder.path / "segments" / "film").iterdir()] == []


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    full = write_error(tmp_path / "a" / "b", OSError(errno.ENOSPC, "No space left on device"), 3_200_000)
    assert "the disk is full" in str(full)
    assert "about 3.2 MB are needed; free some space and run the same command again" in str(full)
    denied = write_error(tmp_path, PermissionError(errno.EACCES, "Permission denied"))
    assert (
        str(denied) == f"{tmp_path}: cannot be written (Permission denied); choose a folder you may write to"
    )


# --- clusters, quarantine, run.yaml ---


def clusters(similarity: float = 0.5, **meta: object) -> ClusterTable:
    return ClusterTable(
        crop_id=np.array(["film/0/0", "film/0/1"], object),
        cluster=np.array([0, 0], np.int32),
        is_exemplar=np.array([True, False]),
        similarity=np.array([1, similarity], np.float32),
        meta=dict(meta),
    )


def test_clusters_are_named_by_content_and_the_latest_is_known(folder: WorkFolder) -> None:
    with pytest.raises(WorkdirError, match="not clustered yet; run `celstream cluster"):
        folder.read_clusters()
    first = folder.write_clusters(clusters(0.5, strength=np.float64(0.25), range=(5, 40)))
    second = folder.write_clusters(clusters(0.75))
    assert first != second
    assert folder.latest_clusters() == second
    back = folder.read_clusters(first)
    assert back.crop_id.tolist() == ["film/0/0", "film/0/1"]
    assert back.is_exemplar.tolist() == [True, False]
    assert (back.similarity.tolist(), back.cluster.dtype) == ([1.0, 0.5], np.int32)
    assert back.meta == {"strength": 0.25, "range": [5, 40]}
    assert folder.write_clusters(clusters(0.5)) == first
    assert folder.latest_clusters() == first
    with pytest.raises(
        WorkdirError, match=f"no clusters 'abc'; there are: {', '.join(sorted([first, second]))}"
    ):
        folder.read_clusters("abc")
    path = folder.path / "clusters" / f"{second}.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WorkdirError, match="not a whole cluster file"):
        folder.read_clusters(second)


def test_the_quarantine_keeps_the_last_word_and_forgives(folder: WorkFolder) -> None:
    assert folder.quarantined() == []
    folder.quarantine("a.mp4", "no video stream", "probe")
    folder.quarantine("b\udcff.mp4", "damaged", "decode")
    folder.quarantine("a.mp4", "empty file", "probe")
    assert [(e["uri"], e["reason"]) for e in folder.quarantined()] == [
        ("a.mp4", "empty file"),
        ("b\udcff.mp4", "damaged"),
    ]
    folder.clear_quarantine("a.mp4")
    folder.clear_quarantine("never there")
    assert [e["uri"] for e in folder.quarantined()] == ["b\udcff.mp4"]


def test_a_torn_last_line_costs_that_line_only(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append_line(path, {"n": 1})
    append_line(path, {"n": 2})
    path.write_bytes(path.read_bytes()[:-4])
    assert read_lines(path) == [{"n": 1}]
    append_line(path, {"n": 3})
    assert read_lines(path) == [{"n": 1}, {"n": 3}]
    path.write_bytes(path.read_bytes() + b'[4]\n\xff\xfe\n{"n": 5}\n')
    assert read_lines(path) == [{"n": 1}, {"n": 3}, {"n": 5}]


def test_the_record_of_a_run_keeps_mark_and_clusters(folder: WorkFolder) -> None:
    name = folder.write_clusters(clusters())
    folder.write_run({"videos": ["Père Noël.mp4"], "seconds": np.float64(1.5), "celstream_format": 99})
    folder.write_run({"config": {"interval": 1.0}, "output": Path("/out"), "range": (5, 40)})
    assert folder.read_run() == {
        "celstream_format": 1,
        "latest_clusters": name,
        "config": {"interval": 1.0},
        "output": "/out",
        "range": [5, 40],
    }
