"""Names that people give to clusters. They outlive clustering again, and live apart from what was found.

``review.sqlite`` in the work folder holds what people decide. A name belongs to a cluster of one clustering;
names of earlier clusterings stay, so that going back finds them again. A new clustering takes names over from
every clustering in which a person gave some, the latest first; an old name goes to the new cluster that
shares most crops with the old one (see :func:`stream.clustering.match_names`), if these are at least half of
either. Two clusters of one name are one character.

Crops are the same while their segment is: names of segments that were done again with other settings cannot
be told from each other and are not taken over.
"""

from __future__ import annotations

import contextlib
import sqlite3
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stream.errors import ConfigError, WorkdirError
from stream.files import text
from stream.tables import ClusterTable
from stream.workdir import WorkFolder

FILE = "review.sqlite"
FORMAT = 1  # of review.sqlite (its user_version); raised when an older reader would misread it
LONGEST = 200  # characters of a name

_APPLICATION = 0x63656C73  # "cels": tells the file from other programs' databases
_SCHEMA = """
CREATE TABLE names (
    edit       INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of changes
    clustering TEXT    NOT NULL,                   -- clusters/<clustering>.parquet
    cluster    INTEGER NOT NULL,                   -- its number in that file, from 0
    name       TEXT    NOT NULL,                   -- '': a person removed it
    origin     INTEGER,                            -- NULL: a person gave it; else taken over from that edit
    superseded INTEGER NOT NULL DEFAULT 0,         -- 1: renamed in a later clustering, not taken over again
    at         TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
    UNIQUE (clustering, cluster)
)
"""


class NameStore:
    """The names in a work folder's ``review.sqlite``. Every change is one transaction.

    Args:
        folder: the work folder.
        write: make the file where there is none; without, only reading is meant.

    Raises:
        WorkdirError: not a database of ours, of a newer format, damaged, or not writable.
    """

    def __init__(self, folder: Path, *, write: bool) -> None:
        self.path = folder / FILE
        self._base: sqlite3.Connection | None = None
        if not write and not self.path.exists():
            return
        with self._told():
            # also for reading: what a killed writer left in the middle is rolled back
            uri = f"{self.path.absolute().as_uri()}?mode={'rwc' if write else 'rw'}"
            # changes are grouped by hand, see _change
            self._base = sqlite3.connect(uri, uri=True, timeout=10, isolation_level=None)
            try:
                self._prepare(write)
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Let go of the file."""
        if self._base is not None:
            self._base.close()
            self._base = None

    def __enter__(self) -> NameStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def names(self, clustering: str) -> dict[int, str]:
        """Cluster number -> name, of those that have one."""
        found = self._ask("SELECT cluster, name FROM names WHERE clustering = ? AND name <> ''", clustering)
        return dict(sorted(found))

    def given(self, clustering: str) -> set[int]:
        """Clusters of this clustering that people said something of, also that they have no name."""
        return {
            c
            for (c,) in self._ask(
                "SELECT cluster FROM names WHERE clustering = ? AND origin IS NULL", clustering
            )
        }

    def give(self, clustering: str, names: Mapping[int, str]) -> None:
        """Name clusters; an empty name removes one. What the old name was taken over from is superseded."""
        with self._change() as base:
            for cluster, name in names.items():
                base.execute(
                    "UPDATE names SET superseded = 1 WHERE edit ="
                    " (SELECT origin FROM names WHERE clustering = ? AND cluster = ?)",
                    (clustering, int(cluster)),
                )
                base.execute(
                    "INSERT OR REPLACE INTO names (clustering, cluster, name) VALUES (?, ?, ?)",
                    (clustering, int(cluster), name),
                )

    def take_over(self, clustering: str, edits: Mapping[int, int]) -> None:
        """Replace what was taken over for a clustering by the names of these edits, by cluster number.

        What people said of the clustering stays.
        """
        with self._change() as base:
            base.execute("DELETE FROM names WHERE clustering = ? AND origin IS NOT NULL", (clustering,))
            base.executemany(
                "INSERT OR IGNORE INTO names (clustering, cluster, name, origin)"
                " SELECT ?, ?, name, edit FROM names WHERE edit = ?",
                [(clustering, int(cluster), edit) for cluster, edit in edits.items()],
            )

    def sources(self) -> dict[str, dict[int, int]]:
        """What may be taken over: clustering -> cluster -> edit, the latest change first."""
        found: dict[str, dict[int, int]] = {}
        for clustering, cluster, edit in self._ask(
            "SELECT clustering, cluster, edit FROM names WHERE origin IS NULL AND NOT superseded"
            " ORDER BY edit DESC"
        ):
            found.setdefault(clustering, {})[cluster] = edit
        return found

    def _ask(self, question: str, *values: object) -> list[Any]:
        if self._base is None:
            return []
        with self._told():
            return self._base.execute(question, values).fetchall()

    @contextlib.contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        if self._base is None:
            raise RuntimeError(f"{self.path} was opened for reading, or is closed")
        with self._told():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield self._base
            except BaseException:
                self._base.rollback()
                raise
            self._base.execute("COMMIT")

    def _prepare(self, write: bool) -> None:
        assert self._base is not None
        if write and not self._ours(self._base):
            with self._change() as base:
                if not self._ours(base):  # another process may have been faster
                    base.execute(_SCHEMA)
                    base.execute(f"PRAGMA application_id = {_APPLICATION}")
                    base.execute(f"PRAGMA user_version = {FORMAT}")
        elif not self._ours(self._base):
            self.close()  # made, and nothing was written yet

    def _ours(self, base: sqlite3.Connection) -> bool:
        """Whether the schema is there; False: the file is empty."""
        alone = not base.in_transaction
        if alone:
            base.execute("BEGIN")  # or another process could make the schema between the questions
        (tables,) = base.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (owner,) = base.execute("PRAGMA application_id").fetchone()
        (found,) = base.execute("PRAGMA user_version").fetchone()
        if alone:
            base.execute("COMMIT")
        if owner != _APPLICATION and tables:
            raise WorkdirError(
                f"{self.path}: expected what celstream keeps of a review, found another database; "
                "move it away"
            )
        if found > FORMAT:
            raise WorkdirError(
                f"{self.path}: written by a newer celstream (format {found}, this one reads {FORMAT}); "
                "upgrade celstream"
            )
        return bool(tables)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """SQLite's errors as one sentence on the file."""
        try:
            yield
        except sqlite3.Error as error:
            raise WorkdirError(f"{self.path}: cannot be used ({error}); {_advice(error)}") from error


def _advice(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the extended codes tell more in the higher bits
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another program is writing to it, try again"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return "it may not be written to: check the permissions of the file and its folder"
    if code == sqlite3.SQLITE_FULL:
        return "free some space and try again"
    return "if it is damaged, move it away: names are lost, nothing else is"


@dataclass(frozen=True)
class Character:
    """A cluster as people see it: ``number`` is that of the report, 1 for the largest."""

    number: int
    cluster: int  # number in the cluster file, from 0
    name: str  # '' where it has none
    crops: int


def list_characters(out: str | Path) -> list[Character]:
    """Every cluster of a work folder's latest clustering, the largest first, with its name.

    Raises:
        WorkdirError: no such work folder, not clustered yet, or its ``review.sqlite`` cannot be read.
    """
    with WorkFolder.open(out, create=False, write=False) as folder:
        table = _latest(folder)
        names = cluster_names(folder)
    sizes = np.bincount(table.cluster[table.cluster >= 0])
    return [
        Character(number, cluster, names.get(cluster, ""), int(sizes[cluster]))
        for cluster, number in character_numbers(table).items()
    ]


def name_characters(
    out: str | Path, names: Mapping[int, str | None], *, report: bool = True
) -> list[Character]:
    """Give names to characters of a work folder's latest clustering, and return all of them.

    Args:
        out: the work folder.
        names: name by the number in the report, from 1; None or '' removes one. Two numbers may have one
            name: they are the same character.
        report: also write ``report.html`` again.

    Raises:
        ConfigError: no such number, or no usable name.
        WorkdirError: no such work folder, not clustered yet, or not writable.
    """
    cleaned = {number: clean_name(name or "") for number, name in names.items()}
    with WorkFolder.open(out, create=False, write=False) as folder:
        table = _latest(folder)
        cluster_of = {number: cluster for cluster, number in character_numbers(table).items()}
        strange = sorted(set(cleaned) - set(cluster_of))
        if strange:
            numbers = f"they go from 1 to {len(cluster_of)}" if cluster_of else "there is none"
            raise ConfigError(
                f"{strange[0]}={cleaned[strange[0]]}: no character of that number in {folder.path}; {numbers}"
            )
        with NameStore(folder.path, write=True) as store:
            store.give(table.id, {cluster_of[number]: name for number, name in cleaned.items()})
        if report:
            from stream.report import write_report

            write_report(folder)
    return list_characters(out)


def _latest(folder: WorkFolder) -> ClusterTable:
    """The latest clustering; one of nothing where no crop was found, and so nothing is to be clustered."""
    if folder.latest_clusters() is None:
        infos = folder.segments()
        if infos and not any(info.crops for info in infos):
            ids, similarity = np.empty(0, object), np.empty(0, np.float32)
            return ClusterTable(ids, np.empty(0, np.int32), np.empty(0, np.bool_), similarity)
    return folder.read_clusters()


def cluster_names(out: str | Path | WorkFolder, clustering: str | None = None) -> dict[int, str]:
    """Cluster number (from 0, as in the cluster file) -> name; of the latest clustering for None.

    Raises:
        WorkdirError: no such work folder, or its ``review.sqlite`` cannot be read.
    """
    if not isinstance(out, WorkFolder):
        with WorkFolder.open(out, create=False, write=False) as folder:
            return cluster_names(folder, clustering)
    clustering = clustering or out.latest_clusters()
    if clustering is None:
        return {}
    with NameStore(out.path, write=False) as store:
        return store.names(clustering)


def character_numbers(table: ClusterTable) -> dict[int, int]:
    """Cluster number in the file -> the number people see ("Character 1" is the largest)."""
    clusters, sizes = np.unique(table.cluster[table.cluster >= 0], return_counts=True)
    order = np.lexsort((clusters, -sizes))
    return {int(clusters[i]): place + 1 for place, i in enumerate(order)}


def carry_names(folder: WorkFolder, table: ClusterTable) -> dict[int, str]:
    """Take names over to a clustering that was just stored, and return all it has.

    Names that people gave in this very clustering, earlier, come before all others.

    Raises:
        WorkdirError: ``review.sqlite`` cannot be used.
    """
    if not (folder.path / FILE).exists():
        return {}
    here = table.id
    with NameStore(folder.path, write=True) as store:
        taken = store.given(here)
        edits: dict[int, int] = {}
        for clustering, edit_of in store.sources().items():
            if clustering == here:
                continue
            try:
                old = folder.read_clusters(clustering)
            except WorkdirError:
                continue  # its file was deleted
            for cluster, before in matched_clusters(old, table, edit_of).items():
                if cluster not in taken:
                    edits.setdefault(cluster, edit_of[before])
        store.take_over(here, edits)
        return store.names(here)


def matched_clusters(old: ClusterTable, new: ClusterTable, named: Collection[int]) -> dict[int, int]:
    """Cluster of ``new`` -> the one of ``old``, among ``named``, whose name it takes over.

    A match counts where the shared crops are at least half of the old or of the new cluster: a few strays
    carry no name.
    """
    from stream.clustering import match_names

    same = _same_segments(old, new)
    place = {crop_id: n for n, crop_id in enumerate(new.crop_id)}
    pairs = [
        (int(cluster), int(new.cluster[place[crop_id]]))
        for crop_id, cluster in zip(old.crop_id, old.cluster, strict=True)
        if crop_id in place and _segment(crop_id) in same
    ]
    if not pairs:
        return {}
    before, after = np.array(pairs, np.int64).T
    found = {}
    for cluster, label in match_names(before, after, {label: str(label) for label in named}).items():
        ours, theirs = before == int(label), after == cluster
        if 2 * int((ours & theirs).sum()) >= min(int(ours.sum()), int(theirs.sum())):
            found[cluster] = int(label)
    return found


def clean_name(name: str) -> str:
    """The name as it is stored: one line without spaces around it.

    Raises:
        ConfigError: more than a line, too long, or with characters that cannot be shown.
    """
    if len(name.strip().splitlines()) > 1:
        raise ConfigError(f"name {name[:40]!r}: expected one line, got line breaks inside it; leave them out")
    clean = unicodedata.normalize("NFC", text(" ".join(name.split())))
    if any(unicodedata.category(c) == "Cc" for c in clean):
        raise ConfigError(f"name {clean!r}: expected text without control characters")
    if len(clean) > LONGEST:
        raise ConfigError(f"name {clean[:40]!r}...: expected at most {LONGEST} characters, got {len(clean)}")
    return clean


def _segment(crop_id: str) -> str:
    return str(crop_id).rpartition("/")[0]


def _same_segments(old: ClusterTable, new: ClusterTable) -> Collection[str]:
    """Segments whose rows are the same in both: a crop's id means another crop when its segment was redone.

    A cluster file that does not tell is believed.
    """
    before, after = old.meta.get("segments"), new.meta.get("segments")
    shared = {_segment(crop_id) for crop_id in new.crop_id}
    if not isinstance(before, dict) or not isinstance(after, dict):
        return shared
    return {key for key in shared if key not in before or before[key] == after.get(key)}
