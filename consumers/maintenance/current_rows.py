"""The latest version of each row that a MySQL table has in the lake, in canonical form.

As staging does it: a key always travels in the same partition, so that its greatest offset in the
newest epoch is its latest version, and a key whose latest version is a delete is gone. So are rows
from before the table was emptied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from lake.ledger import LedgerReader, TableState
from lake.storage.canonical import ZERO, Form, SourceColumn, SourceTable
from lake.storage.mysql_types import TIMESTAMPTZ, ZERO_DATE
from lake.storage.schema import Column, Schema, source_column
from lake.storage.sql import literal, quoted, rows_query

Cell = str | None
Key = tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a row.

    Attributes:
        place: Epoch and offset.
        partition: Of the topic.
        deleted: Whether it says that the row is gone.
        cells: The values that are compared, in canonical form.
    """

    place: tuple[int, int]
    partition: int
    deleted: bool
    cells: tuple[Cell, ...]


class CurrentRows:
    """The rows of one table, as files have them.

    Args:
        ledger: Says which files there are.
        db: Where queries run.
        state: The table in the lake.
        table: The table in MySQL.
    """

    def __init__(
        self,
        ledger: LedgerReader,
        db: duckdb.DuckDBPyConnection,
        state: TableState,
        table: SourceTable,
    ) -> None:
        self._db = db
        self._table = table
        schema = state.schema
        files = [file.path for file in ledger.files.live(state.topic)]
        rows = rows_query(schema.relation("cdc"), files)
        self._keys = [f"k{number}" for number in range(len(table.key))]
        listed = [
            f"{canonical(schema, column)} AS {name}"
            for name, column in zip(self._keys, table.key, strict=True)
        ]
        self._versions = ", ".join([*listed, "_topic_epoch e", "_partition p", "_offset o"])
        self._cells = [canonical(schema, column) for column in table.compared]
        self._checksum = checksum(schema, table)
        self._rows = _after_emptying(rows)

    def load(self) -> int:
        """Make the relation `lake_rows` of the newest versions; gives how many rows are there.

        Its columns: `k0`, … of the key, `e`, `p`, `o` (epoch, partition, offset), and `h`, the
        checksum, which is NULL where the newest version is a delete.
        """
        latest = f"PARTITION BY {', '.join(self._keys)} ORDER BY e DESC, o DESC"
        self._db.execute(
            f"CREATE OR REPLACE TEMP TABLE lake_rows AS SELECT {self._versions},"
            f" CASE WHEN _op IS DISTINCT FROM 'd' THEN {self._checksum} END AS h"
            f" FROM ({self._rows}) AS r QUALIFY row_number() OVER ({latest}) = 1"
        )
        [(count,)] = self._db.execute("SELECT count(h) FROM lake_rows").fetchall()
        return int(count)

    def load_multiset(self) -> tuple[int, int]:
        """Make `lake_rows` of a table without a key: how often (`n`) it has each row (`h`).

        An update adds a row, and nothing says which one it replaced.

        Returns:
            The number of rows, and how many of them have been replaced by updates.
        """
        names = [f"c{number}" for number in range(len(self._cells))]
        cells = ", ".join(f"{c} AS {n}" for c, n in zip(self._cells, names, strict=True))
        self._db.execute(
            "CREATE OR REPLACE TEMP TABLE lake_rows AS SELECT h, sum(n)::BIGINT AS n,"
            f" any_value(shown) AS shown FROM (SELECT {row_checksum(self._table, names)}, n FROM"
            f" (SELECT {cells}, if(_op = 'd', -1, 1) AS n FROM ({self._rows}) AS r))"
            " GROUP BY h HAVING sum(n) <> 0"
        )
        [(updates,)] = self._db.execute(
            f"SELECT count(*) FROM ({self._rows}) WHERE _op = 'u'"
        ).fetchall()
        [(rows,)] = self._db.execute("SELECT coalesce(sum(n), 0) FROM lake_rows").fetchall()
        return int(rows) - int(updates), int(updates)

    def versions(self, keys: Sequence[Key]) -> dict[Key, list[Version]]:
        """All versions of some rows, oldest first."""
        arrays = [pa.array(values, pa.string()) for values in zip(*keys, strict=True)]
        self._db.register("asked", pa.table(arrays, names=self._keys))
        names, cells = ", ".join(self._keys), ", ".join(self._cells)
        try:
            rows = self._db.execute(
                f"SELECT {names}, e, p, o, gone, cells FROM (SELECT {self._versions},"
                f" _op = 'd' AS gone, [{cells}] AS cells FROM ({self._rows}) AS r)"
                f" SEMI JOIN asked USING ({names}) ORDER BY e, o"
            ).fetchall()
        finally:
            self._db.unregister("asked")
        found: dict[Key, list[Version]] = {}
        width = len(self._keys)
        for row in rows:
            epoch, partition, offset, gone, values = row[width:]
            version = Version((epoch, offset), partition, gone, tuple(values))
            found.setdefault(row[:width], []).append(version)
        return found


def _after_emptying(rows: str) -> str:
    """SQL for the rows that no TRUNCATE has removed; staging's macro `latest_version` has the same.

    They came later, or stood later in the binlog: one that begins again counts anew.
    """
    place = (
        "(coalesce(try_cast(regexp_extract({0}._binlog_file, '[0-9]+$') AS BIGINT), 0),"
        " coalesce({0}._binlog_pos, 0))"
    )
    return (
        f"SELECT * FROM ({rows}) AS v WHERE v._op IS DISTINCT FROM 't' AND NOT EXISTS"
        f" (SELECT 1 FROM ({rows}) AS t WHERE t._op = 't' AND t._topic_epoch >= v._topic_epoch"
        " AND t._kafka_ts >= v._kafka_ts AND (t._source_ts > v._source_ts"
        f" OR {place.format('t')} > {place.format('v')}))"
    )


def row_checksum(table: SourceTable, cells: Sequence[str]) -> str:
    """SQL (`… AS h, … AS shown`) for the checksum and a text of a row, out of canonical values.

    Args:
        table: The table.
        cells: SQL of the value of each column that is compared.
    """
    values = (
        f"TRY_CAST({cell} AS DOUBLE)::VARCHAR" if column.form in (Form.FLOAT, Form.DOUBLE) else cell
        for column, cell in zip(table.compared, cells, strict=True)
    )
    hashed = ", ".join(f"coalesce(md5({value}), '-')" for value in values)
    shown = ", ".join(f"coalesce({cell}, 'NULL')" for cell in cells)
    return f"md5(concat_ws(',', {hashed})) AS h, left(concat_ws(', ', {shown}), 100) AS shown"


def checksum(schema: Schema, table: SourceTable) -> str:
    """SQL for the checksum of a row, equal to the one that MySQL computes."""
    cells = []
    for column in table.compared:
        value = canonical(schema, column, as_bytes=True)
        hashed = f"md5({value})" if column.is_hashed else value
        cells.append(f"coalesce({hashed}, '-')")
    return f"md5(concat_ws(',', {', '.join(cells)}))"


def canonical(schema: Schema, column: SourceColumn, as_bytes: bool = False) -> str:
    """SQL for the canonical form of a column's values; NULL where the lake has no such column.

    Args:
        schema: The table's, in the lake.
        column: As MySQL has it now.
        as_bytes: Give bytes as such; else as hexadecimal digits.
    """
    active = schema.column_for(source_column(column.name, column.raw_type))
    of_field = [
        c
        for c in schema.columns
        if c.field == column.name and not c.provenance and c.type != ZERO_DATE
    ]
    # Rows of before a change of the type have their value in another column of the same field.
    ordered = sorted(of_field, key=lambda c: c is not active)
    values = [_in_form(c, column, as_bytes) for c in ordered]
    zero = next((c for c in schema.columns if c.field == column.name and c.type == ZERO_DATE), None)
    if zero is not None and column.form is Form.DATE and not column.nullable:
        values.append(f"CASE WHEN {quoted(zero.name)} THEN {literal(ZERO)} END")
    if not values:
        return "NULL::BLOB" if as_bytes and column.form is Form.BYTES else "NULL::VARCHAR"
    return values[0] if len(values) == 1 else f"coalesce({', '.join(values)})"


def _in_form(held: Column, column: SourceColumn, as_bytes: bool) -> str:
    """SQL for a value of one column of the lake."""
    name, form, type_ = quoted(held.name), column.form, held.type
    if form is Form.BYTES:
        value = name if type_ == "BLOB" else f"encode({name}::VARCHAR)"
        return value if as_bytes else f"hex({value})"
    if type_ == "BLOB":
        return f"TRY(decode({name}))" if form is not Form.NUMBER else f"hex({name})"
    text = f"{name}::VARCHAR"
    if form is Form.NUMBER:
        return _number(text)
    if form in (Form.FLOAT, Form.DOUBLE):
        return _double(name, type_, form)
    if form is Form.BIT:
        return f"CASE {text} WHEN 'true' THEN '1' WHEN 'false' THEN '0' ELSE {text} END"
    if form is Form.DATE:
        return _date(name, type_)
    if form is Form.TIME:
        return _without_zeros(text)
    if form is Form.GEOMETRY:
        wkb = f"upper(hex(TRY(from_base64(json_extract_string({name}, '$.wkb')))))"
        return f"{wkb} || ':' || coalesce(json_extract_string({name}, '$.srid'), '0')"
    return text


def _number(text: str) -> str:
    """Without zeros behind the point, and, where a text was widened, before the first digit."""
    return rf"regexp_replace({_without_zeros(text)}, '^(-?)0+(\d)', '\1\2')"


def _without_zeros(text: str) -> str:
    return f"CASE WHEN contains({text}, '.') THEN rtrim(rtrim({text}, '0'), '.') ELSE {text} END"


def _double(name: str, type_: str, form: Form) -> str:
    value = name if type_ == "DOUBLE" else f"TRY_CAST({name} AS DOUBLE)"
    if form is Form.FLOAT:
        value = f"{value}::FLOAT::DOUBLE"
    # MySQL writes 16777216, DuckDB 16777216.0; whatever else they write differently is found
    # equal as soon as the values themselves are compared.
    return (
        f"CASE WHEN abs({value}) < 1e15 AND {value} = trunc({value})"
        f" THEN {value}::BIGINT::VARCHAR ELSE {value}::VARCHAR END"
    )


def _date(name: str, type_: str) -> str:
    if type_ == TIMESTAMPTZ:
        name = f"({name} AT TIME ZONE 'UTC')"
    elif type_ not in ("DATE", "TIMESTAMP"):
        name = f"coalesce(TRY_CAST({name} AS TIMESTAMP)::VARCHAR, {name}::VARCHAR)"
    text = f"{name}::VARCHAR"
    return f"CASE WHEN ends_with({text}, ' 00:00:00') THEN left({text}, -9) ELSE {text} END"
