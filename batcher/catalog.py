"""Raw tables as DuckDB sees them: views over the Parquet files of one ledger commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from lake.config import Config, TableRef
from lake.identifiers import postgres_columns
from lake.ledger import NOW, DeadLetterEntry, LedgerReader, Payload
from lake.storage.operations import make_scratch_folder
from lake.storage.schema import row_columns
from lake.storage.sql import literal, quoted, rows_query

DEAD_LETTERS = pa.schema(
    [
        ("_topic", pa.string()),
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
        ("_kafka_ts", pa.timestamp("us", "UTC")),
        ("source_table", pa.string()),
        ("reason", pa.string()),
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("headers", pa.string()),
        ("value_bytes", pa.int64()),
        ("state", pa.string()),
    ]
)
ROW_GROUP_ROWS = 20_480
"""As in the project's profile: a key is looked for in the row groups that may have it."""
BATCH_ROWS = 1_000
SHOWN_BYTES = 4_096
"""What raw.dead_letters shows of a key or a value; `ducklake dead-letters show` has the rest."""
_LOST = Payload(None, None, "{}")


@contextmanager
def opened(path: Path, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB file, in UTC; closed at the end, so that dbt can open it with its own settings."""
    make_scratch_folder(path.parent)
    database = duckdb.connect(str(path), read_only=read_only)
    try:
        database.execute("SET TimeZone = 'UTC'")
        yield database
    finally:
        database.close()


@contextmanager
def opened_warehouse(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The warehouse, to be written, as the project's profile opens it (`profiles.yml`).

    Whoever opens it in another way merges its row groups as they change.
    """
    make_scratch_folder(path.parent)
    with opened(Path(":memory:")) as database:
        database.execute(f"SET temp_directory = {literal(f'{path}.tmp')}")
        database.execute(
            f"ATTACH {literal(str(path))} AS warehouse (ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
        )
        database.execute("USE warehouse")
        yield database


def raw_columns(
    config: Config, ledger: LedgerReader, ref: TableRef, commit: int
) -> tuple[tuple[str, str], ...]:
    """(name, type) of a raw table's columns at a commit, also of one that has no row yet."""
    schema, kind = ledger.tables.schema_at(ref.topic, commit), config.kind(ref)
    return schema.relation(kind) if schema else row_columns(kind)


def renamed_columns(config: Config, ledger: LedgerReader) -> dict[str, str]:
    """`relation.column` of raw to its name in PostgreSQL, where that is another one."""
    found = {}
    for ref, _ in config.tables():
        columns = raw_columns(config, ledger, ref, NOW)
        for name, target in postgres_columns(name for name, _ in columns).items():
            if name != target:
                found[f"raw.{config.relation(ref)}.{name}"] = target
    return found


def refresh_raw(config: Config, ledger: LedgerReader, commit: int) -> dict[str, int]:
    """Point the views of schema raw at the files that hold everything up to a commit.

    Args:
        config: The configuration.
        ledger: The ledger, pinned at `commit`.
        commit: The newest commit to be seen.

    Returns:
        Rows of each raw table by its topic.
    """
    with opened_warehouse(ledger.paths.warehouse) as database:
        create_raw_views(config, ledger, commit, database)
        refresh_dead_letters(database, ledger, commit)
    return {ref.topic: ledger.offsets.row_count(ref.topic, commit) for ref, _ in config.tables()}


def create_raw_views(
    config: Config,
    ledger: LedgerReader,
    commit: int,
    database: duckdb.DuckDBPyConnection,
    relations: Iterable[str] | None = None,
) -> None:
    """Create views of schema raw over everything up to a commit.

    Args:
        config: The configuration.
        ledger: The ledger, pinned at `commit`.
        commit: The newest commit to be seen.
        database: The warehouse.
        relations: Which; all by default. The cost of one follows the number of its files.
    """
    database.execute("CREATE SCHEMA IF NOT EXISTS raw")
    names = {config.relation(ref): ref for ref, _ in config.tables()}
    _drop_others(database, set(names))
    for name in names if relations is None else sorted(names.keys() & set(relations)):
        ref = names[name]
        found = ledger.files.new_rows(ref.topic, 0, commit)
        columns = raw_columns(config, ledger, ref, commit)
        # A file that a later commit shares (it was sealed meanwhile) is cut to its offsets.
        later = {rows.path for rows in ledger.files.new_rows(ref.topic, commit, NOW)}
        whole = [rows.path for rows in found if rows.path not in later]
        query = rows_query(columns, whole)
        for rows in found:
            if rows.path in later:
                query += f" UNION ALL BY NAME {rows_query(columns, [rows.path], rows.ranges)}"
        database.execute(f"CREATE OR REPLACE VIEW raw.{quoted(name)} AS {query}")


def create_new_views(
    config: Config,
    ledger: LedgerReader,
    commit: int,
    database: duckdb.DuckDBPyConnection,
    since: Mapping[str, int],
) -> None:
    """Create views of schema raw_new over the rows committed after a commit, up to another.

    Args:
        config: The configuration.
        ledger: The ledger, pinned at `commit`.
        commit: The newest commit to be seen.
        database: The warehouse.
        since: Raw relation to the commit after which its rows are new.
    """
    database.execute("CREATE SCHEMA IF NOT EXISTS raw_new")
    for ref, _ in config.tables():
        name = config.relation(ref)
        columns = raw_columns(config, ledger, ref, commit)
        after = since.get(name, commit)
        found = ledger.files.new_rows(ref.topic, after, commit) if after < commit else ()
        parts = [rows_query(columns, [rows.path], rows.ranges) for rows in found]
        query = " UNION ALL BY NAME ".join(parts) or rows_query(columns, [])
        database.execute(f"CREATE OR REPLACE VIEW raw_new.{quoted(name)} AS {query}")


def _drop_others(database: duckdb.DuckDBPyConnection, relations: set[str]) -> None:
    """Drop views of tables that are called otherwise now: a model would read old rows from them."""
    found = database.execute(
        "SELECT view_name FROM duckdb_views() WHERE NOT internal AND schema_name = 'raw'"
    ).fetchall()
    for (name,) in found:
        if name not in relations:
            database.execute(f"DROP VIEW raw.{quoted(name)}")


def refresh_dead_letters(
    database: duckdb.DuckDBPyConnection, ledger: LedgerReader, commit: int
) -> None:
    """Write raw.dead_letters anew where there are others than those it has."""
    state = ledger.dead_letters.state_at(commit)
    known = database.execute(
        "SELECT comment FROM duckdb_tables() WHERE schema_name = 'raw'"
        " AND table_name = 'dead_letters'"
    ).fetchone()
    if known == (state,):
        return
    entries = ledger.dead_letters.up_to(commit, all_states=True)
    batches = (
        _as_batch(ledger, entries[at : at + BATCH_ROWS])
        for at in range(0, len(entries), BATCH_ROWS)
    )
    database.register("entries", pa.RecordBatchReader.from_batches(DEAD_LETTERS, batches))
    database.execute("CREATE OR REPLACE TABLE raw.dead_letters AS SELECT * FROM entries")
    database.unregister("entries")
    database.execute(f"COMMENT ON TABLE raw.dead_letters IS {literal(state)}")


def _as_batch(ledger: LedgerReader, entries: Sequence[DeadLetterEntry]) -> pa.RecordBatch:
    """Dead letters as raw.dead_letters has them."""
    payloads = [payload or _LOST for payload in ledger.dead_letters.payloads(entries, SHOWN_BYTES)]
    columns: list[list[object]] = [
        [e.topic for e in entries],
        [e.partition for e in entries],
        [e.offset for e in entries],
        [round(e.kafka_ts * 1e6) for e in entries],
        [e.source_table for e in entries],
        [e.reason for e in entries],
        [p.key for p in payloads],
        [p.value for p in payloads],
        [p.headers for p in payloads],
        [e.value_bytes for e in entries],
        [e.state for e in entries],
    ]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, DEAD_LETTERS, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=DEAD_LETTERS)
