"""Does the lake hold what it says, and what Kafka holds? Looks at every byte, changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import duckdb
import pyarrow as pa

from consumers.maintenance.difference import SHOWN, Difference
from consumers.maintenance.kafka_comparison import KafkaComparison
from lake.config import Config, Endpoints, Table, TableRef
from lake.ledger import LakeFile, LedgerReader, TableState
from lake.opening import open_lake
from lake.storage.parquet_files import sha256_of
from lake.storage.paths import LakePaths, files_below, unknown_files
from lake.storage.sql import rows_query, spilling

BATCH_RANGES = 50_000
_RANGES = pa.schema(
    [("e", pa.int32()), ("p", pa.int32())] + [(n, pa.int64()) for n in ("first", "last", "n")]
)
# Each row with the last range that begins before it. A join on "between" would compare every row
# with every range.
_PLACED = (
    "CREATE OR REPLACE TEMP TABLE placed AS SELECT h.e, h.p, h.o, r.first, r.last FROM held h"
    " ASOF LEFT JOIN ranges r ON h.e = r.e AND h.p = r.p AND h.o >= r.first"
)
# (kind, query over these for partition, first and last offset, figures; detail)
_ROW_CHECKS = (
    (
        "repeated",
        "SELECT p, o, o, count(*) FROM held GROUP BY e, p, o HAVING count(*) > 1 ORDER BY ALL",
        "the lake holds it {0} times",
    ),
    (
        "row-count",
        "SELECT p, first, last, coalesce(found, 0) AS found, n FROM ranges LEFT JOIN"
        " (SELECT e, p, first, count(*) AS found FROM placed WHERE o <= last GROUP BY ALL)"
        " USING (e, p, first) WHERE n <> coalesce(found, 0) ORDER BY ALL",
        "{0} rows, {1} were committed",
    ),
    (
        "stray",
        "SELECT p, o, o FROM placed WHERE last IS NULL OR o > last ORDER BY ALL",
        "in a file, but in no commit",
    ),
)

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification looked at, and what it found."""

    tables: int
    files: int
    rows: int
    compared_with_kafka: int
    differences: tuple[Difference, ...]


class Verifier:
    """Verifies tables of one lake.

    Args:
        config: The configuration.
        endpoints: Where Kafka is; None looks at the lake alone.
        progress: Called with each table's name as its turn comes.
    """

    def __init__(
        self,
        config: Config,
        endpoints: Endpoints | None,
        progress: Progress = lambda table: None,
    ) -> None:
        self._config = config
        self._endpoints = endpoints
        self._progress = progress
        self._paths = LakePaths(config.data_dir)
        self._db: duckdb.DuckDBPyConnection

    def verify(self, tables: list[tuple[TableRef, Table]]) -> Verdict:
        """Verify these tables, as of one pinned moment.

        Raises:
            LedgerError: The ledger is older than the files: all differences would be its own.
            ServiceUnreachable: Kafka stopped answering.
        """
        differences: list[Difference] = []
        files = rows = 0
        # Pinned, so that the compactor does not take away the files that we look at.
        with ExitStack() as stack:
            lake = stack.enter_context(open_lake(self._config, for_writing=False))
            ledger = lake.ledger
            self._db = stack.enter_context(spilling(lake.session, 1024, threads=2))
            stack.enter_context(lake.pinned())
            kafka = None
            if self._endpoints is not None:
                kafka = KafkaComparison(self._config, self._endpoints, ledger, self._db)
                stack.enter_context(kafka)
            for ref, table in tables:
                self._progress(ref.topic)
                state = ledger.tables.get(ref.topic)
                if state is None:
                    continue
                live = ledger.files.live(ref.topic)
                files += len(live)
                rows += sum(file.rows for file in live)
                damaged = list(self._files(ref, live))
                differences += damaged
                differences += self._strangers(ledger, ref, state.generation)
                differences += self._positions(ledger, state)
                if damaged:
                    continue  # what cannot be read cannot be compared
                differences += self._rows(ledger, ref, state, live)
                if kafka is not None:
                    differences += kafka.differences(ref, table, state)
        compared = 0 if kafka is None else kafka.compared
        return Verdict(len(tables), files, rows, compared, tuple(differences))

    # The lake by itself --------------------------------------------------------------------

    def _files(self, ref: TableRef, live: tuple[LakeFile, ...]) -> Iterator[Difference]:
        for file in live:
            where = self._paths.relative(file.path)
            if not file.path.exists():
                yield Difference(ref.topic, "missing-file", where, "the ledger lists it")
                continue
            size = file.path.stat().st_size
            if size != file.bytes:
                detail = f"{size} bytes, the ledger says {file.bytes}"
                yield Difference(ref.topic, "damaged-file", where, detail)
            elif sha256_of(file.path) != file.sha256:
                yield Difference(ref.topic, "damaged-file", where, "its checksum is another one")

    def _strangers(
        self, ledger: LedgerReader, ref: TableRef, generation: int
    ) -> Iterator[Difference]:
        public = self._paths.raw(ref, generation)
        found = map(self._paths.relative, files_below(public))
        for relative in unknown_files(found, ledger.files.known_paths("sealed")):
            yield Difference(
                ref.topic, "unknown-file", relative, "a glob reads it, no commit made it"
            )

    def _positions(self, ledger: LedgerReader, state: TableState) -> Iterator[Difference]:
        ends = ledger.offsets.ends(state.topic)
        for partition, stands_at in state.positions.items():
            if (state.topic_id, partition) not in ends:
                detail = f"the position is {stands_at}, and no range leads there"
                yield Difference(state.topic, "position", f"partition {partition}", detail)
        for found in ledger.offsets.breaks(state.topic):
            where = f"partition {found.partition}, offset {found.before}"
            if found.first > found.before:
                detail = f"nothing is known of the offsets up to {found.first - 1}"
                yield Difference(state.topic, "gap", where, detail)
            else:
                detail = f"committed again from {found.first}"
                yield Difference(state.topic, "overlap", where, detail)
        for (topic_id, partition), end in ends.items():
            position = state.positions.get(partition)
            if topic_id == state.topic_id and position != end:
                detail = f"the position is {position}, the ranges end before {end}"
                yield Difference(state.topic, "position", f"partition {partition}", detail)

    def _rows(
        self,
        ledger: LedgerReader,
        ref: TableRef,
        state: TableState,
        live: tuple[LakeFile, ...],
    ) -> Iterator[Difference]:
        if not live:
            if ledger.offsets.row_count(ref.topic):
                yield Difference(
                    ref.topic, "row-count", "all", "rows were committed, no file is left"
                )
            return
        query = rows_query(state.schema.relation(self._config.kind(ref)), [f.path for f in live])
        ranges = pa.RecordBatchReader.from_batches(_RANGES, _ranges(ledger, ref.topic))
        self._db.register("listed", ranges)
        self._db.execute("CREATE OR REPLACE TEMP TABLE ranges AS SELECT * FROM listed")
        self._db.unregister("listed")
        self._db.execute(
            "CREATE OR REPLACE TEMP TABLE held AS"
            f" SELECT _topic_epoch e, _partition p, _offset o FROM ({query})"
        )
        self._db.execute(_PLACED)
        for kind, sql, detail in _ROW_CHECKS:
            for partition, first, last, *figures in self._db.execute(sql).fetchmany(SHOWN):
                where = f"partition {partition}, offset" + (
                    f" {first}" if first == last else f"s {first} to {last}"
                )
                yield Difference(ref.topic, kind, where, detail.format(*figures))
        yield from self._misplaced(ref, live)

    def _misplaced(self, ref: TableRef, live: tuple[LakeFile, ...]) -> Iterator[Difference]:
        """Public rows in the folder of another day than their own."""
        public = [str(file.path) for file in live if file.tier == "sealed"]
        if not public:
            return
        found = self._db.execute(
            "SELECT DISTINCT filename, _kafka_ts::DATE::VARCHAR FROM read_parquet(?,"
            " filename = true, union_by_name = true, hive_partitioning = false) WHERE filename NOT"
            " LIKE '%/' || strftime(_kafka_ts, 'year=%Y/month=%m/day=%d') || '/%' ORDER BY ALL",
            [public],
        )
        for name, day in found.fetchmany(SHOWN):
            where = self._paths.relative(Path(name))
            yield Difference(ref.topic, "misplaced", where, f"it holds rows of {day}")


def _ranges(ledger: LedgerReader, topic: str) -> Iterator[pa.RecordBatch]:
    """All ranges of a table, as they come: of years, they need not fit into memory."""
    epochs = ledger.tables.epochs(topic)
    spans = ledger.offsets.history(topic)
    while some := list(islice(spans, BATCH_RANGES)):
        rows = [(epochs[s.topic_id], s.partition, s.first, s.last, s.rows) for s in some]
        yield pa.record_batch(
            [
                pa.array(values, field.type)
                for values, field in zip(zip(*rows, strict=True), _RANGES, strict=True)
            ],
            schema=_RANGES,
        )
