"""A lake of the shop whose raw rows are committed here, through the ledger, without Kafka.

What the batch does with them is the real thing; `tests/integration/test_incremental_models.py` and
`benchmarks/cycle.py` use it.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import duckdb

from lake.config import Config, TableRef, load_config
from lake.ledger import Ledger
from lake.ledger.entries import BuiltFile, Gap, Segment, TableState
from lake.records import OffsetRange
from lake.storage.parquet_files import WrittenFile, sha256_of
from lake.storage.paths import LakePaths
from lake.storage.schema import Schema, provenance_column, source_column
from lake.storage.sql import literal, quoted, rows_query

ROOT = Path(__file__).parents[1]
TOPIC_ID = "0" * 32
FILE = {
    "_file": "VARCHAR",
    "_file_sha256": "VARCHAR",
    "_file_row": "BIGINT",
    "_file_rows": "BIGINT",
}
API = {"_url": "VARCHAR", "_status": "INTEGER", "_fetched_at": "TIMESTAMPTZ"}
COLUMNS: dict[str, dict[str, str]] = {
    "customers": {
        "customer_id": "INTEGER",
        "email": "VARCHAR",
        "first_name": "VARCHAR",
        "last_name": "VARCHAR",
        "phone": "VARCHAR",
        "city": "VARCHAR",
        "province": "VARCHAR",
        "created_at": "TIMESTAMP",
        "updated_at": "TIMESTAMP",
    },
    "products": {
        "product_id": "INTEGER",
        "sku": "VARCHAR",
        "name": "VARCHAR",
        "category": "VARCHAR",
        "brand": "VARCHAR",
        "supplier_id": "INTEGER",
        "price_ars": "DECIMAL(12,2)",
        "cost_ars": "DECIMAL(12,2)",
        "active": "TINYINT",
        "created_at": "TIMESTAMP",
        "updated_at": "TIMESTAMP",
    },
    "orders": {
        "order_id": "UBIGINT",
        "customer_id": "INTEGER",
        "ordered_at": "TIMESTAMP",
        "status": "VARCHAR",
        "payment_method": "VARCHAR",
        "shipping_ars": "DECIMAL(12,2)",
        "total_ars": "DECIMAL(12,2)",
        "updated_at": "TIMESTAMP",
    },
    "order_items": {
        "order_item_id": "UBIGINT",
        "order_id": "UBIGINT",
        "product_id": "INTEGER",
        "quantity": "USMALLINT",
        "unit_price_ars": "DECIMAL(12,2)",
        "discount_pct": "DECIMAL(5,2)",
    },
    "inventory": {
        "sku": "VARCHAR",
        "warehouse": "VARCHAR",
        "quantity": "VARCHAR",
        "reserved": "VARCHAR",
        "unit_cost_ars": "VARCHAR",
        "counted_on": "VARCHAR",
        **FILE,
    },
    "suppliers": {
        "supplier_id": "INTEGER",
        "name": "VARCHAR",
        "cuit": "VARCHAR",
        "country": "VARCHAR",
        "lead_time_days": "INTEGER",
        "active": "BOOLEAN",
        "since": "DATE",
        "contacts": "VARCHAR",
        **FILE,
    },
    "shipments": {
        "shipment_id": "VARCHAR",
        "order_id": "VARCHAR",
        "supplier_id": "VARCHAR",
        "carrier": "VARCHAR",
        "shipped_on": "VARCHAR",
        "promised_on": "VARCHAR",
        "delivered_on": "VARCHAR",
        "cost_ars": "VARCHAR",
        **FILE,
    },
    "sales_targets": {
        "month": "DATE",
        "category": "VARCHAR",
        "target_ars": "DECIMAL(16,2)",
        "target_units": "INTEGER",
        **FILE,
    },
    "support_tickets": {
        "ticket_id": "VARCHAR",
        "order_id": "VARCHAR",
        "customer_id": "VARCHAR",
        "opened_at": "VARCHAR",
        "closed_at": "VARCHAR",
        "channel": "VARCHAR",
        "topic": "VARCHAR",
        "satisfaction": "VARCHAR",
        "comment": "VARCHAR",
        **FILE,
    },
    "dolar_blue": {
        "casa": "VARCHAR",
        "compra": "DECIMAL(12,2)",
        "venta": "DECIMAL(12,2)",
        "fecha": "DATE",
        "moneda": "VARCHAR",
        "nombre": "VARCHAR",
        "fechaActualizacion": "TIMESTAMPTZ",
        **API,
    },
    "feriados": {"fecha": "DATE", "tipo": "VARCHAR", "nombre": "VARCHAR", **API},
}


class ShopLake:
    """The shop's lake in a folder of its own, with the project's configuration.

    Args:
        folder: Where `ducklake.yml`, the dbt project and `data/` go.
        edit: Changes of the configuration: text to its replacement.
    """

    def __init__(self, folder: Path, edit: dict[str, str] | None = None) -> None:
        for name in ("dbt_techstore", "dbt_ducklake"):
            shutil.rmtree(folder / name, ignore_errors=True)  # of a cache, made with older models
            ignored = shutil.ignore_patterns("target", "logs", "dbt_packages")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored, dirs_exist_ok=True)
        text = (ROOT / "ducklake.yml").read_text(encoding="utf-8")
        for old, new in (edit or {}).items():
            assert old in text, old
            text = text.replace(old, new)
        (folder / "ducklake.yml").write_text(text, encoding="utf-8")
        self.config: Config = load_config(folder / "ducklake.yml")
        self.ledger = Ledger(LakePaths(self.config.data_dir))
        self._refs = {ref.table: ref for ref, _ in self.config.tables()}
        self._topic_ids: dict[str, str] = {}
        self._files = 0

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    def ref(self, table: str) -> TableRef:
        """A table by its name."""
        return self._refs[table]

    def schema(self, table: str) -> Schema:
        """The schema that a table's records have."""
        columns = [
            provenance_column(name[1:]) if name.startswith("_") else source_column(name, type_)
            for name, type_ in COLUMNS[table].items()
        ]
        return Schema().announced(columns)

    def position(self, table: str) -> int:
        """The next offset of a table."""
        return int(self._state(table).positions.get(0) or 0)

    def _state(self, table: str) -> TableState:
        topic_id = self._topic_ids.get(table, TOPIC_ID)
        return self.ledger.tables.open(self.ref(table).topic, topic_id, 1)

    def commit(
        self,
        table: str,
        select: str,
        op: str = "c",
        at: str = "2026-03-31 12:00:00Z",
        offsets: Sequence[int] | None = None,
        database: duckdb.DuckDBPyConnection | None = None,
    ) -> int:
        """Commit the rows of a query, in its order, as one flush would; gives their number.

        Args:
            table: Of the shop.
            select: Gives columns of the table; those that it leaves out are NULL. A column `_op`,
                `_kafka_ts` or `_source_ts` takes the place of `op` and `at`.
            op: What happened to the rows.
            at: When.
            offsets: Of the rows, where they fill a gap below the table's position.
            database: Where the query runs.
        """
        ref = self.ref(table)
        state = self._state(table)
        schema = self.schema(table)
        first = int(state.positions.get(0) or 0)
        self._files += 1
        path = self.ledger.paths.hot(ref) / f"{first}-{self._files}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        with _connection(database) as db:
            defaults = {"_op": f"'{op}'", "_topic_epoch": f"{state.epoch}"}
            defaults |= {name: f"TIMESTAMPTZ '{at}'" for name in ("_source_ts", "_kafka_ts")}
            rows = self._write(db, ref, schema, select, defaults, first, path, offsets)
        if not rows:
            path.unlink()
            return 0
        file = WrittenFile(path, path.stat().st_size, sha256_of(path), rows)
        if offsets is None:
            span = OffsetRange(state.topic_id, 0, first, first + rows - 1, rows)
            expected = {0: state.positions.get(0)}
            self.ledger.commits.add(state, "s", [span], expected, file, schema)
        else:
            gaps = [_gap(state.topic_id, offset) for offset in offsets]
            self.ledger.commits.backfill(state, "s", gaps, file, schema)
        return rows

    def skip(self, table: str, count: int = 1) -> int:
        """Leave offsets without rows, to be filled later; gives the first of them."""
        state = self._state(table)
        first = int(state.positions.get(0) or 0)
        for offset in range(first, first + count):
            span = OffsetRange(state.topic_id, 0, offset, offset, 0)
            self.ledger.commits.add(
                state, "s", [span], {0: offset if offset else None}, None, self.schema(table)
            )
            found = self.ledger.tables.get(self.ref(table).topic)
            assert found is not None
            state = found
        return first

    def rebuild(self, table: str, gaps: Collection[int] = ()) -> None:
        """Build a new generation of a table from its rows, and switch to it.

        Args:
            table: Of the shop.
            gaps: Offsets that were left without rows, to be filled later.
        """
        if not self._state(table).positions.get(0):
            return  # its topic was made anew, and nothing has come since
        ref, session = self.ref(table), "rebuild"
        number = self.ledger.generations.begin(ref.topic, session)
        path = self.ledger.paths.day(ref, date(2026, 3, 31), number) / "all.parquet"
        path.parent.mkdir(parents=True)
        with duckdb.connect() as db:
            db.execute(
                f"COPY (FROM ({self.raw(table)}) ORDER BY _offset) TO {literal(str(path))}"
                " (FORMAT parquet)"
            )
        state, ranges, first = self._state(table), [], 0
        for gap in (*sorted(gaps), state.positions[0]):
            if first < gap:
                ranges.append(OffsetRange(state.topic_id, 0, first, gap - 1, gap - first))
            if gap < state.positions[0]:
                ranges.append(OffsetRange(state.topic_id, 0, gap, gap, 0))
            first = gap + 1
        file = WrittenFile(path, path.stat().st_size, sha256_of(path), sum(r.rows for r in ranges))
        segment = Segment((tuple(ranges),), (BuiltFile("sealed", file, (0,)),))
        self.ledger.generations.add_segment(ref.topic, number, session, segment)
        self.ledger.generations.switch(state, number, session, self.schema(table))

    def restart(self, table: str) -> None:
        """Make the topic of a table anew, and accept what is lost: its offsets begin again."""
        topic_id = f"{int(self._topic_ids.get(table, TOPIC_ID), 16) + 1:032x}"
        self.ledger.tables.accept_loss(self.ref(table).topic, topic_id, {0: 0})
        self._topic_ids[table] = topic_id

    def _write(
        self,
        db: duckdb.DuckDBPyConnection,
        ref: TableRef,
        schema: Schema,
        select: str,
        defaults: Mapping[str, str],
        first: int,
        path: Path,
        offsets: Sequence[int] | None,
    ) -> int:
        columns = schema.relation(self.config.kind(ref))
        fields = {column.name: column.field for column in schema.columns if not column.provenance}
        given = {str(c[0]): c for c in db.execute(f"DESCRIBE {select}").fetchall()}
        listed = f"list_extract({list(offsets)}, n)" if offsets else f"{first} + n - 1"
        system = {
            **defaults,
            "_topic": f"'{ref.topic}'",
            "_partition": "0",
            "_offset": listed,
        }
        parts = []
        for name, type_ in columns:
            field = fields.get(name, name)
            value = quoted(field) if field in given else system.get(name, "NULL")
            parts.append(f"({value})::{type_} AS {quoted(name)}")
        found = db.execute(
            f"COPY (SELECT {', '.join(parts)} FROM (SELECT *, row_number() OVER () AS n FROM"
            f" ({select}))) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)"
        ).fetchone()
        return int(found[0]) if found else 0

    def raw(self, table: str) -> str:
        """A query of all rows of a raw table."""
        ref = self.ref(table)
        columns = self.schema(table).relation(self.config.kind(ref))
        commit = self.ledger.commits.last()
        files = [rows.path for rows in self.ledger.files.new_rows(ref.topic, 0, commit)]
        return rows_query(columns, files)


def _gap(topic_id: str, offset: int) -> Gap:
    """One offset that was left without a row, filled."""
    return Gap(
        OffsetRange(topic_id, 0, offset, offset, 1), (OffsetRange(topic_id, 0, offset, offset, 0),)
    )


@contextmanager
def _connection(
    database: duckdb.DuckDBPyConnection | None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    if database is not None:
        yield database
        return
    with duckdb.connect() as made:
        made.execute("SET TimeZone = 'UTC'")
        yield made
