"""The export to PostgreSQL: new raw rows against a bare COPY, and few changed rows in large tables.

make bench NAME=export [SMALL=1] [ROUNDS=3]
"""

from __future__ import annotations

import json
import os
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import psycopg2

from batcher.description import ModelDescription
from batcher.postgres import PostgresExport, RowChanges
from batcher.postgres.model_rows import file_rows
from benchmarks.broker import note
from benchmarks.commits import SETTINGS, Writer
from benchmarks.postgres import postgres
from lake.config import Config, PostgresEndpoint, load_config
from lake.ledger import Ledger
from lake.storage.paths import LakePaths
from lake.storage.session import Session
from lake.storage.sql import literal

FLUSH_ROWS = 50_000
CHANGED_ROWS = 1_000
MOMENT = 1_790_000_000.0
KEY = ModelDescription(("order_id",))


@dataclass(frozen=True, slots=True)
class Logged:
    """A model with a change log: the published file, and the rows that changed in it.

    Attributes:
        relation: `schema.name`.
        state: Of its rows.
        file: All of them.
        log: Those that changed: the new row and whether it is there.
    """

    relation: str
    state: str
    file: Path
    log: Path | None = None
    description: ModelDescription = KEY

    def whole(self) -> str:
        """All rows."""
        return file_rows(self.file)

    def changes(self, since: str) -> RowChanges | None:
        """Those of the log, whatever the state before was."""
        del since
        if self.log is None:
            return None
        rows = file_rows(self.log)
        return RowChanges(
            f"SELECT * EXCLUDE (is_there) FROM ({rows}) WHERE is_there",
            f"SELECT order_id FROM ({rows}) WHERE NOT is_there",
        )


@dataclass(frozen=True, slots=True)
class Server:
    """The server, and who may tell it to write what it holds in memory.

    Attributes:
        config: Of the stack.
    """

    config: Config

    @property
    def at(self) -> PostgresEndpoint:
        """Where it is."""
        return self.config.endpoints().postgres

    def settle(self, relation: str) -> None:
        """As after a night: what a load has left is on the disk; the planner knows the table."""
        secrets = json.loads((self.config.stack_dir / "secrets.json").read_text())
        root = replace(self.at, user="postgres", password=secrets["postgres_superuser"])
        connection = _connection(root)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE {relation}")
            cursor.execute("CHECKPOINT")
        connection.close()


def _connection(at: PostgresEndpoint) -> Any:
    return psycopg2.connect(
        host=at.host, port=at.port, user=at.user, password=at.password, dbname=at.database
    )


def _bare(at: PostgresEndpoint, file: Path) -> float:
    """Seconds of a bare COPY of the exported rows into an equal empty table."""
    connection = _connection(at)
    with connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS raw.bare; CREATE TABLE raw.bare (LIKE raw.orders)")
    began = time.perf_counter()
    with connection, connection.cursor() as cursor, file.open("rb") as rows:
        cursor.copy_expert("COPY raw.bare FROM STDIN (FORMAT csv)", rows)
    took = time.perf_counter() - began
    connection.close()
    return took


def _dump(at: PostgresEndpoint, file: Path) -> None:
    connection = _connection(at)
    with connection, connection.cursor() as cursor, file.open("wb") as rows:
        cursor.copy_expert("COPY raw.orders TO STDOUT (FORMAT csv)", rows)
    connection.close()


def raw(at: PostgresEndpoint, rows: int, rounds: int) -> dict[str, float]:
    """New raw rows against the same rows by a bare COPY, alternating; medians."""
    exported, bare = [], []
    for number in range(rounds):
        with TemporaryDirectory() as folder:
            config = _lake(Path(folder), number)
            paths = LakePaths(config.data_dir)
            with Ledger(paths) as ledger, Session(paths) as session:
                writer = Writer(ledger, session)
                writer.flush(1, MOMENT)
                export = PostgresExport(config, at, ledger)
                export.export_raw(ledger.commits.last())  # the table is there, and nearly empty
                for _ in range(rows // FLUSH_ROWS):
                    writer.flush(FLUSH_ROWS, MOMENT)
                began = time.perf_counter()
                result = export.export_raw(ledger.commits.last())
                exported.append(time.perf_counter() - began)
                assert not result.held_back, result.held_back
                _dump(at, Path(folder) / "rows.csv")
                bare.append(_bare(at, Path(folder) / "rows.csv"))
        note(f"{rows:,} raw rows: {exported[-1]:.2f} s, bare {bare[-1]:.2f} s")
    took, bare_took = statistics.median(exported), statistics.median(bare)
    ratio = statistics.median(b / e for b, e in zip(bare, exported, strict=True))
    return {
        "raw_ratio": round(ratio, 3),
        "raw_rows_per_s": round(rows / took),
        "bare_rows_per_s": round(rows / bare_took),
    }


def _lake(folder: Path, number: int) -> Config:
    path = folder / "ducklake.yml"
    text = SETTINGS.format(seal_max_age_seconds=3600)
    path.write_text(text.replace("name: commits", f"name: export{number}"))
    return load_config(path)


_ROW = (
    "{key} AS order_id, ({key} * 7919) % 100003 AS customer_id,"
    " DATE '2024-01-01' + ({key} % 1000)::INTEGER AS day,"
    " ['paid', 'shipped', 'delivered', 'pending'][1 + ({key} + {more}) % 4] AS status,"
    " (({key} * 31 + {more}) % 1000000 / 100)::DECIMAL(12,2) AS total_ars,"
    " TIMESTAMP '2024-01-01' + to_seconds({key} + {more}) AS changed_at"
)


def changed(server: Server, folder: Path, rows: int, rounds: int) -> float:
    """Seconds until 1,000 changed rows of a table are there; the median of some rounds."""
    relation, file = f"consume.orders_{rows}", folder / f"{rows}.parquet"
    row = _ROW.format(key="i", more=0)
    with duckdb.connect() as db:
        db.execute(
            f"COPY (SELECT {row} FROM range({rows}) t(i)) TO {literal(str(file))} (FORMAT parquet)"
        )
    took = []
    with TemporaryDirectory() as place:
        config = _lake(Path(place), rows)
        with Ledger(LakePaths(config.data_dir)) as ledger:
            export = PostgresExport(config, server.at, ledger)
            began = time.perf_counter()
            result = export.export_models({relation: Logged(relation, "0", file)})
            assert not result.held_back, result.held_back
            note(f"{rows:,} rows written in {time.perf_counter() - began:.1f} s")
            server.settle(relation)
            for number in range(1, rounds + 1):
                log = _log(folder / f"{rows}-{number}.parquet", rows, number)
                model = Logged(relation, str(number), file, log)
                began = time.perf_counter()
                result = export.export_models({relation: model})
                took.append(time.perf_counter() - began)
                assert result.written == 1, result.held_back
                assert result.differences[relation].changed > CHANGED_ROWS // 2
    file.unlink()
    note(f"{CHANGED_ROWS:,} of {rows:,} rows: {', '.join(f'{t:.3f}' for t in took)} s")
    return round(statistics.median(took), 3)


def _log(file: Path, rows: int, number: int) -> Path:
    """New, changed and deleted rows, spread over the whole table."""
    step = rows // CHANGED_ROWS
    key = f"CASE WHEN n % 10 = 0 THEN {rows * (number + 1)} + n ELSE n * {step} + {number} END"
    row = _ROW.format(key="key", more=number)
    with duckdb.connect() as db:
        db.execute(
            f"COPY (SELECT {row}, n % 10 <> 9 AS is_there"
            f" FROM (SELECT n, {key} AS key FROM range({CHANGED_ROWS}) t(n)))"
            f" TO {literal(str(file))} (FORMAT parquet)"
        )
    return file


def main() -> None:
    """Measure and print one line of JSON."""
    small = bool(os.environ.get("SMALL"))
    rounds = int(os.environ.get("ROUNDS", "3"))
    raw_rows = 100_000 if small else 1_000_000
    sizes = (20_000, 100_000) if small else (1_000_000, 20_000_000)
    with postgres() as config, TemporaryDirectory() as folder:
        started = Server(config)
        found: dict[str, Any] = raw(started.at, raw_rows, rounds)
        seconds = {str(size): changed(started, Path(folder), size, rounds + 2) for size in sizes}
    print(json.dumps({**found, "changed_s": max(seconds.values()), "changed_seconds": seconds}))


if __name__ == "__main__":
    main()
