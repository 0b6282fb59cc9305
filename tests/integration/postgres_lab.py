"""A lake whose rows a test writes itself, and a PostgreSQL server that stands alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import psycopg2
import pytest

from batcher.catalog import raw_columns
from batcher.description import ModelDescription
from batcher.postgres import ExportResult, PostgresExport
from batcher.snapshot import Snapshot
from benchmarks.postgres import SERVER, postgres
from lake.config import Config, PostgresEndpoint, TableRef, load_config
from lake.ledger import Ledger
from lake.records import OffsetRange
from lake.storage.parquet_files import WrittenFile
from lake.storage.paths import LakePaths
from lake.storage.schema import Column, Schema, source_column
from lake.storage.sql import literal, quoted, rows_query
from tests.integration.producers_lab import unique


@pytest.fixture(scope="module")
def server() -> Iterator[Config]:
    """A stack of PostgreSQL alone."""
    with postgres() as config:
        yield config


def connection(at: PostgresEndpoint) -> Any:
    opened = psycopg2.connect(
        host=at.host, port=at.port, user=at.user, password=at.password, dbname=at.database
    )
    opened.autocommit = True
    return opened


def answer(at: PostgresEndpoint, query: str) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    with closing(connection(at)) as opened, opened.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


class Lake:
    """A lake of some tables whose rows are written here, and its PostgreSQL."""

    def __init__(self, folder: Path, server: Config, *tables: str, options: str = "{}") -> None:
        self.source = unique("s")
        self.tables = [unique(table) for table in tables]
        path = folder / "ducklake.yml"
        listed = ", ".join(f"{table}: {options}" for table in self.tables)
        path.write_text(
            SERVER.replace("name: bench", f"name: {unique('l')}")
            .replace("sources:", f"  postgres: {json.dumps(self._service(server))}\nsources:")
            .replace(
                "s: {type: kafka, tables: {t: {}}}",
                f"{self.source}: {{type: kafka," f" tables: {{{listed}}}}}",
            )
        )
        self.config = load_config(path)
        self.at = server.endpoints().postgres
        self.ledger = Ledger(LakePaths(self.config.data_dir))
        (self.ledger.paths.root / "work").mkdir(parents=True, exist_ok=True)
        self.schemas: dict[str, Schema] = {}
        self.snapshots: dict[str, Snapshot] = {}

    @staticmethod
    def _service(server: Config) -> dict[str, Any]:
        at = server.endpoints().postgres
        return {
            "host": at.host,
            "port": at.port,
            "user": at.user,
            "password": at.password,
            "database": at.database,
        }

    def ref(self, table: str) -> TableRef:
        return TableRef(self.source, table)

    def start_anew(self) -> None:
        """Another lake of the same name, configuration and PostgreSQL."""
        self.ledger.close()
        shutil.rmtree(self.config.data_dir)
        self.ledger = Ledger(LakePaths(self.config.data_dir))
        (self.ledger.paths.root / "work").mkdir(parents=True)
        self.schemas.clear()

    def commit(
        self, table: str, columns: dict[str, str], *rows: tuple[Any, ...], at: float = 0.0
    ) -> None:
        """Commit rows, whose columns may be new ones or have other types than before.

        Args:
            table: Which.
            columns: Name and type of each.
            rows: As SQL writes their values.
            at: Kafka's timestamp, in seconds of the epoch.
        """
        ref = self.ref(table)
        tables = self.ledger.tables
        tables.open(ref.topic, "a" * 32, 1)
        state = tables.get(ref.topic)
        assert state is not None
        schema = self.schemas.get(table, Schema()).announced(
            source_column(name, type_) for name, type_ in columns.items()
        )
        names = [self._column(schema, name, type_) for name, type_ in columns.items()]
        first = int(state.positions.get(0) or 0)
        path = self.ledger.paths.hot(ref) / f"{first}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        with duckdb.connect() as db:
            db.execute("SET TimeZone = 'UTC'")
            values = ", ".join(
                "("
                + ", ".join(f"{v}::{c.type}" for v, c in zip(row, names, strict=True))
                + f", 'c', {first + n}, 0, to_timestamp({at}))"
                for n, row in enumerate(rows)
            )
            heads = ", ".join(
                [quoted(c.name) for c in names] + ["_op", "_offset", "_partition", "_kafka_ts"]
            )
            given = f"SELECT * FROM (VALUES {values}) v({heads})"
            typed = schema.relation("plain")
            empty = rows_query(typed, [])
            db.execute(
                f"COPY (({empty}) UNION ALL BY NAME ({given})) TO {literal(str(path))}"
                " (FORMAT parquet)"
            )
        span = OffsetRange("a" * 32, 0, first, first + len(rows) - 1, len(rows))
        file = WrittenFile(path, path.stat().st_size, "sha", len(rows))
        self.ledger.commits.add(state, "s", [span], {0: state.positions.get(0)}, file, schema)
        self.schemas[table] = schema

    @staticmethod
    def _column(schema: Schema, name: str, type_: str) -> Column:
        found = schema.column_for(source_column(name, type_))
        assert found is not None
        return found

    def model(
        self,
        name: str,
        query: str,
        key: tuple[str, ...] = (),
        text: str = "",
        columns: Mapping[str, str] | None = None,
    ) -> None:
        """Publish a model's rows."""
        relation, digest = f"consume.{name}", unique("d")
        path = self.ledger.paths.root / f"{digest}-0.parquet"
        with duckdb.connect() as db:
            db.execute(f"COPY ({query}) TO {literal(str(path))} (FORMAT parquet)")
        about = ModelDescription(key, text, columns or {})
        self.snapshots[relation] = Snapshot(relation, path, 0, digest, about)

    def export(self) -> ExportResult:
        export = PostgresExport(self.config, self.at, self.ledger)
        return export.export(self.snapshots, self.ledger.commits.last())

    def held_back(self, relation: str) -> str:
        """Export; this relation alone must be held back. Gives the reason with its remedy."""
        result = self.export()
        assert list(result.held_back) == [relation], result.held_back
        return str(result.held_back[relation])

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        opened = connection(self.at)
        try:
            with opened.cursor() as cursor:
                cursor.execute("SET TimeZone = 'UTC'")
                cursor.execute(query)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            opened.close()

    def ids(self, table: str) -> list[int]:
        return [row[0] for row in self.ask(f"SELECT id FROM raw.{table} ORDER BY id")]

    def is_as_in_the_lake(self, table: str) -> bool:
        """Whether PostgreSQL prints every value of a table as DuckDB does."""
        ref = self.ref(table)
        columns = raw_columns(self.config, self.ledger, ref, self.ledger.commits.last())
        files = [rows.path for rows in self.ledger.files.new_rows(ref.topic, 0, 10**9)]
        names = [name for name, _ in columns if not name.startswith("_")]
        shown = ", ".join(
            (
                f"'\\x' || lower(hex({quoted(n)}))"
                if dict(columns)[n] == "BLOB"
                else f"{quoted(n)}::VARCHAR"
            )
            for n in names
        )
        with duckdb.connect() as db:
            db.execute("SET TimeZone = 'UTC'")
            wanted = db.execute(
                f"SELECT {shown} FROM ({rows_query(columns, files)}) ORDER BY id"
            ).fetchall()
        texts = ", ".join(f"{quoted(name)}::text" for name in names)
        found = self.ask(f"SELECT {texts} FROM raw.{table} ORDER BY id")
        assert found == wanted
        return True


@pytest.fixture
def lake(tmp_path: Path, server: Config) -> Iterator[Lake]:
    made = Lake(tmp_path, server, "one", "two")
    yield made
    made.ledger.close()


@contextmanager
def superuser(server: Config) -> Iterator[Any]:
    at = server.endpoints().postgres
    password = json.loads((server.stack_dir / "secrets.json").read_text())["postgres_superuser"]
    root = PostgresEndpoint(at.host, at.port, "postgres", password, at.database)
    opened = connection(root)
    try:
        with opened.cursor() as cursor:
            yield cursor
    finally:
        opened.close()


ID = {"id": "INTEGER"}
