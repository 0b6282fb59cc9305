"""The careful way: several steps find out which record is not as expected, and why.

Costs more than the fast way; an unknown key becomes a column, a value that does not fit widens a
type that was only inferred, and what still cannot be decoded becomes a dead letter.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa
from confluent_kafka import Message

from consumers.ingest.arrow_batch import columns_of, texts_of
from consumers.ingest.decoding.columns import KnownColumns
from consumers.ingest.decoding.database import distinct_keys, registered
from consumers.ingest.decoding.record_format import RecordFormat
from consumers.ingest.decoding.row_sql import (
    known_provenance,
    parsed_provenance,
    shape,
    system_columns,
    value_shapes,
)
from lake.storage.schema import (
    JSON_TEXT,
    Column,
    Schema,
    cast_expression,
    inferred_type,
    storage_type,
)
from lake.storage.sql import literal, quoted

Undecodable = dict[int, str]
"""Number of a record in its batch to the reason why it has no row."""


class CarefulDecoder:
    """Decodes whatever comes.

    Args:
        db: Where its queries run.
        record_format: How the records hold their rows.
        known: What is known of the columns.
    """

    def __init__(
        self, db: duckdb.DuckDBPyConnection, record_format: RecordFormat, known: KnownColumns
    ) -> None:
        self._db = db
        self._format = record_format
        self._known = known

    def decode(
        self, messages: Sequence[Message], schema: Schema
    ) -> tuple[pa.Table, Schema, Undecodable]:
        """The rows of a batch, without the constant columns; their schema; and what has no row."""
        texts, broken = texts_of(messages)
        reasons = dict.fromkeys(broken, "the value is not UTF-8")
        self._load(messages, texts)
        reasons |= self._without_row(reasons)
        schema = self._grown(schema)
        misfits = self._misfits(schema)
        if misfits:
            schema = self._known.widened(schema, misfits.values())
            for row, column in self._misfits(schema).items():
                reasons[row] = f"column {column.name}: the value does not fit {column.type}"
        self._db.execute("DELETE FROM parsed WHERE i IN (SELECT unnest(?))", [list(reasons)])
        rows = self._db.execute(self._rows_query(schema)).to_arrow_table(len(messages))
        self._db.execute("DROP TABLE parsed")
        return rows, schema, reasons

    def _load(self, messages: Sequence[Message], texts: pa.Array) -> None:
        """Make the table `parsed`: of each record its number, place, header, envelope and row."""
        batch = columns_of(messages, texts, provenance=self._format.has_provenance)
        batch = batch.append_column("i", pa.array(range(len(messages)), pa.int32()))
        if not self._format.has_provenance:
            batch = batch.append_column("h", pa.nulls(len(messages), pa.string()))
        with registered(self._db, batch):
            self._db.execute(
                "CREATE OR REPLACE TEMP TABLE parsed AS WITH valid AS ("
                " SELECT i, p, o, t, CASE WHEN json_valid(v) THEN v::JSON END AS v,"
                " h::JSON AS h FROM batch),"
                f" opened AS (SELECT *, {self._format.envelope} AS e FROM valid)"
                f" SELECT i, p, o, t, h, e, {self._format.row} AS r FROM opened"
            )

    def _without_row(self, known: Undecodable) -> Undecodable:
        found = self._db.execute(
            "SELECT i FROM parsed WHERE coalesce(json_type(r), 'NULL') <> 'OBJECT'"
        ).fetchall()
        return {i: self._format.no_row for (i,) in found if i not in known}

    def _grown(self, schema: Schema) -> Schema:
        """The schema with a column for every key; the source's own word comes first."""
        unknown = self._keys("r") - schema.fields()
        schema = self._known.announced(schema)
        unknown -= schema.fields()
        fields = {key: self._type_of(key) for key in sorted(unknown)}
        about: set[str] = set()
        if self._format.has_provenance:
            about = self._keys("h") - known_provenance(schema)
        return self._known.found(schema, fields, sorted(about))

    def _keys(self, expression: str) -> set[str]:
        objects = f"(SELECT * FROM parsed WHERE json_type({expression}) = 'OBJECT')"
        return distinct_keys(self._db, f"json_keys({expression})", objects)

    def _type_of(self, key: str) -> str:
        """The type of a field that nobody declared."""
        if not self._format.infers_types:
            return "VARCHAR"
        path = literal("$." + '"' + key.replace('"', '\\"') + '"')
        types = {
            inferred_type(t)
            for (t,) in self._db.execute(
                f"SELECT DISTINCT json_type(r, {path}) FROM parsed"
            ).fetchall()
            if t not in (None, "NULL")
        }
        if types == {"BIGINT", "DOUBLE"}:
            return "DOUBLE"
        return types.pop() if len(types) == 1 else "VARCHAR"

    def _misfits(self, schema: Schema) -> dict[int, Column]:
        """Records with a value that does not fit its column's type; the first such column."""
        checked = [c for c in schema.columns if storage_type(c.type) != "VARCHAR"]
        if not checked:
            return {}
        tests = [f"({_text(c)} IS NOT NULL AND {_cast(c)} IS NULL)" for c in checked]
        source = self._texts_query(schema)
        [(is_any,)] = self._db.execute(
            f"SELECT bool_or({' OR '.join(tests)}) FROM ({source})"
        ).fetchall()
        if not is_any:
            return {}
        branches = " ".join(f"WHEN {test} THEN {n}" for n, test in enumerate(tests))
        found = self._db.execute(
            f"SELECT * FROM (SELECT i, CASE {branches} END AS n FROM ({source}))"
            " WHERE n IS NOT NULL"
        ).fetchall()
        return {i: checked[n] for i, n in found}

    def _texts_query(self, schema: Schema) -> str:
        """All fields of all rows, as text: structs `x` (row) and `y` (provenance)."""
        parts = ["i", "p", "o", "t", "e"]
        if fields := value_shapes(schema):
            parts.append(f"from_json(r, {shape(fields)}) AS x")
        if self._format.has_provenance:
            parts.append(parsed_provenance(schema))
        return f"SELECT {', '.join(parts)} FROM parsed"

    def _rows_query(self, schema: Schema) -> str:
        columns = [f"{_cast(c)} AS {quoted(c.name)}" for c in schema.columns]
        columns += system_columns(self._format)
        return f"SELECT {', '.join(columns)} FROM ({self._texts_query(schema)}) ORDER BY p, o"


def _text(column: Column) -> str:
    return f"{'y' if column.provenance else 'x'}.{quoted(column.field)}"


def _cast(column: Column) -> str:
    expression = cast_expression(_text(column), column.type)
    return f"{expression}::VARCHAR" if column.type == JSON_TEXT else expression
