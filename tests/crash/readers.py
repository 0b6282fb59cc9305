"""Readers that look all the while: one globs the public tree, one asks the ledger what is new."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import duckdb
import pyarrow.parquet as pq

from lake.ledger import Ledger
from lake.recovery import pinned
from lake.storage.paths import files_below
from lake.storage.session import Session
from lake.storage.sql import literal
from tests.crash.oracle import LakeUnderTest

PAUSE = 0.1
Key = tuple[int, int, int]  # epoch of the topic, partition, offset


class Reader(threading.Thread):
    """Looks again and again; what it found wrong is raised at the end."""

    def __init__(self, lake: LakeUnderTest) -> None:
        super().__init__(name=type(self).__name__, daemon=True)
        self._lake = lake
        self._stop_event = threading.Event()
        self._error: BaseException | None = None
        self.looks = 0

    def run(self) -> None:
        try:
            while not self._stop_event.wait(PAUSE):
                self.look()
                self.looks += 1
        except BaseException as error:
            self._error = error

    def look(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Reader:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stop_event.set()
        self.join(60)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error
        if error is None:
            self.look()
            self.last_look()

    def last_look(self) -> None: ...


@dataclass(frozen=True)
class Seen:
    """A public file when it was seen first."""

    size: int
    moment: int
    sha: str
    rows: frozenset[Key]


class PublicReader(Reader):
    """Globs: never a half, double, changed or vanished file, never a row twice in a tree.

    The trees of rebuilt generations are looked at as well; files may vanish there, with a rebuild
    that was killed.
    """

    def __init__(self, lake: LakeUnderTest) -> None:
        super().__init__(lake)
        self._seen: dict[Path, Seen] = {}

    def look(self) -> None:
        root = self._lake.paths.root
        trees = (root / "raw", *(root / "generations").glob("*"))
        found = {p for tree in trees for p in files_below(tree)}
        for path in set(self._seen) - found:
            assert not path.is_relative_to(trees[0]), f"a public file vanished: {path}"
            del self._seen[path]
        for path in found:
            try:
                self._look_at(path)
            except FileNotFoundError:
                assert not path.is_relative_to(trees[0]), f"a public file vanished: {path}"

    def _look_at(self, path: Path) -> None:
        stat = path.stat()
        known = self._seen.get(path)
        if known is not None:
            if (stat.st_size, stat.st_mtime_ns) == (known.size, known.moment):
                return
            # A rebuild that was killed may leave its number to the next one.
            assert "generations" in path.parts, f"changed: {path}"
        keys = pq.ParquetFile(path).read(["_topic_epoch", "_partition", "_offset"]).to_pydict()
        rows = list(zip(*keys.values(), strict=True))
        assert len(rows) == len(set(rows)), f"rows repeat within {path}"
        table = path.parents[3]
        for other, seen in self._seen.items():
            if other != path and other.parents[3] == table and other.exists():
                again = seen.rows & set(rows)
                assert not again, f"{path} repeats rows of {other}: {sorted(again)[:5]}"
        self._seen[path] = Seen(stat.st_size, stat.st_mtime_ns, _sha(path), frozenset(rows))

    def last_look(self) -> None:
        for path, seen in self._seen.items():
            assert _sha(path) == seen.sha, f"changed: {path}"


class LedgerReader(Reader):
    """Asks the ledger: never a missing file, never a row twice, never fewer rows than before.

    It reads everything, and again only what is new since its last look: both are the same.
    """

    def __init__(self, lake: LakeUnderTest) -> None:
        super().__init__(lake)
        self._at = 0
        self._new: dict[str, set[Key]] = defaultdict(set)

    def run(self) -> None:
        # duckdb's connections, SQLite's and the session belong to this thread
        super().run()

    def look(self) -> None:
        paths = self._lake.paths
        if not paths.ledger.exists():
            return
        with (
            duckdb.connect() as db,
            Ledger(paths) as ledger,
            Session(paths) as session,
            pinned(ledger, session) as last,
        ):
            for topic in self._lake.topics:
                everything = self._read(db, ledger, topic, 0, last)
                fresh = self._read(db, ledger, topic, self._at, last)
                if ledger.tables.generation_at(topic, self._at) != ledger.tables.generation_at(
                    topic, last
                ):
                    self._new[topic] = set()  # rebuilt meanwhile: all of it is new
                again = self._new[topic] & set(fresh)
                assert not again, f"{topic}: new twice: {sorted(again)[:5]}"
                self._new[topic] |= set(fresh)
                counts = Counter(everything)
                twice = [key for key, n in counts.items() if n > 1]
                assert not twice, f"{topic}: through the ledger twice: {sorted(twice)[:5]}"
                assert set(counts) == self._new[topic], f"{topic}: the whole is not its parts"
                assert len(counts) == ledger.offsets.row_count(topic, last), topic
            self._at = last
            ledger.readers.state(f"test {id(self)}", last)  # as every reader must

    @staticmethod
    def _read(
        db: duckdb.DuckDBPyConnection, ledger: Ledger, topic: str, after: int, up_to: int
    ) -> list[Key]:
        rows: list[Key] = []
        for new in ledger.files.new_rows(topic, after, up_to):
            wanted = " OR ".join(
                f"(_partition = {r.partition} AND _offset BETWEEN {r.first} AND {r.last})"
                for r in new.ranges
            )
            query = (
                "SELECT _topic_epoch, _partition, _offset"
                f" FROM read_parquet({literal(str(new.path))}) WHERE {wanted or 'true'}"
            )
            rows += db.execute(query).fetchall()
        return rows


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
