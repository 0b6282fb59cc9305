"""Does the lake hold what it says, and what Kafka holds? Looks at every byte, changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import duckdb
import pyarrow as pa

from consumers.ingest.decoding import Decoded
from consumers.replay.range_reader import KafkaReader
from consumers.replay.row_diff import RowDiff
from consumers.replay.tables import decoder_of
from lake.config import Config, Endpoints, Table, TableRef
from lake.kafka.topics import TopicIdentity, admin, identify
from lake.ledger import LakeFile, LedgerReader, TableState
from lake.opening import open_lake
from lake.records import OffsetRange
from lake.storage.parquet_files import sha256_of
from lake.storage.paths import LakePaths, files_below, unknown_files
from lake.storage.sql import rows_query, spilling

SHOWN = 5
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
class Difference:
    """Something that is not as it should be.

    Attributes:
        table: The topic.
        kind: missing-file, damaged-file, unknown-file, gap, overlap, position, row-count, repeated,
            stray, misplaced, kafka-missing, kafka-extra, kafka-differs.
        where: File, or partition and offsets.
        detail: What was expected and what was found.
    """

    table: str
    kind: str
    where: str
    detail: str


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
        self._compared = 0
        self._kafka_reader: KafkaReader | None = None
        self._topics: dict[str, TopicIdentity] = {}

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
            if self._endpoints is not None:
                self._kafka_reader = stack.enter_context(KafkaReader(self._endpoints))
                self._topics = identify(admin(self._endpoints), [ref.topic for ref, _ in tables])
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
                if self._kafka_reader is not None:
                    differences += self._kafka(ledger, self._kafka_reader, ref, table, state)
        return Verdict(len(tables), files, rows, self._compared, tuple(differences))

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

    # Against Kafka -------------------------------------------------------------------------

    def _kafka(
        self,
        ledger: LedgerReader,
        kafka: KafkaReader,
        ref: TableRef,
        table: Table,
        state: TableState,
    ) -> Iterator[Difference]:
        found = self._topics.get(ref.topic)
        if found is None or found.topic_id != state.topic_id:
            return  # the topic is another one by now: nothing to compare with
        assert self._endpoints is not None, "who reads Kafka knows where it is"
        kind = self._config.kind(ref)
        with decoder_of(self._config, self._endpoints, ref, table) as decoder:
            for partition, position in state.positions.items():
                low = kafka.oldest(ref.topic, partition)
                for batch in kafka.read(ref.topic, partition, low, position):
                    decoded = decoder.decode(batch, state.schema, state.epoch)
                    self._compared += len(batch)
                    last = batch[-1].offset()
                    span = OffsetRange(state.topic_id, partition, low, last, len(batch))
                    held = ledger.files.within(ref.topic, state.generation, span)
                    # A column that the lake lacks counts as well: it would have values.
                    columns = decoded.schema.relation(kind)
                    lake = rows_query(columns, [f.path for f in held], [span])
                    yield from self._compare(ledger, ref, columns, lake, decoded, span, state.epoch)
                    low = last + 1

    def _compare(
        self,
        ledger: LedgerReader,
        ref: TableRef,
        columns: tuple[tuple[str, str], ...],
        lake: str,
        decoded: Decoded,
        span: OffsetRange,
        epoch: int,
    ) -> Iterator[Difference]:
        dead_letters = ledger.dead_letters.offsets(ref.topic, span)
        held = f"SELECT * FROM ({lake}) WHERE _topic_epoch = {epoch}"
        sides = RowDiff(self._db)
        relation = decoded.schema.relation(self._config.kind(ref))
        sides.load(decoded.rows, relation, dead_letters, held, columns)
        unknown = sorted({d.offset for d in decoded.dead_letters} - set(dead_letters))
        for name, offsets, detail in (
            ("kafka-missing", sides.missing(), "in Kafka, neither in the lake nor a dead letter"),
            ("kafka-extra", sides.extra(), "in the lake, not in Kafka"),
            ("kafka-differs", sides.differing(), "the row has other values"),
            ("kafka-missing", unknown, "cannot be decoded, and is no dead letter"),
        ):
            for offset in offsets[:SHOWN]:
                where = f"partition {span.partition}, offset {offset}"
                yield Difference(ref.topic, name, where, detail)


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
