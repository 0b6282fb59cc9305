"""The careful way: several steps find out which record is not as expected, and why.

Costs more than the fast way; an unknown key becomes a column, a value that does not fit widens a
type that was only inferred, and what still cannot be decoded becomes a dead letter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import duckdb
import pyarrow as pa
from confluent_kafka import Message

from consumers.ingest.arrow_batch import columns_of, texts_of
from consumers.ingest.decoding.columns import KnownColumns
from consumers.ingest.decoding.database import distinct_keys, registered
from consumers.ingest.decoding.exact_numbers import with_exact_numbers
from consumers.ingest.decoding.record_format import RecordFormat
from consumers.ingest.decoding.row_sql import (
    field_texts,
    groups_of,
    known_provenance,
    parsed_provenance,
    pointer,
    shape,
    side_by_side,
    system_columns,
    value_shapes,
)
from consumers.ingest.decoding.versions import VersionedSchema
from lake.storage.casts import Spelling, cast_expression, misfit
from lake.storage.declared_types import inferred_type
from lake.storage.mysql_types import DATE_TYPES, JSON_TEXT, is_zero_date
from lake.storage.schema import MOST_COLUMNS, Column, Schema, zero_date_column
from lake.storage.sql import literal, quoted

_FEW_KEYS = 50
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
        self, messages: Sequence[Message], versioned: VersionedSchema
    ) -> tuple[pa.Table, Schema, Undecodable]:
        """The rows of a batch, without the constant columns; their schema; and what has no row."""
        inactive = versioned.inactive
        texts, broken = texts_of(messages)
        reasons = dict.fromkeys(broken, "the value is not UTF-8")
        self._load(messages, texts)
        reasons |= self._without_row(reasons)
        reasons |= self._with_nul_in_a_key(reasons)
        if self._format.infers_types:
            reasons |= self._with_a_key_twice(reasons)
        reasons |= self._with_too_many_keys(versioned.schema)
        schema = self._grown(versioned.schema)
        misfits = self._misfits(VersionedSchema(schema, inactive))
        if misfits:
            if self._format.tells_zero_dates:
                schema = self._with_zero_dates(VersionedSchema(schema, inactive))
            schema = self._known.widened(schema, misfits.values())
            for row, column in self._misfits(VersionedSchema(schema, inactive)).items():
                reasons[row] = f"column {column.name}: the value does not fit {column.type}"
        self._db.execute("DELETE FROM parsed WHERE i IN (SELECT unnest(?))", [list(reasons)])
        rows = self._rows(VersionedSchema(schema, inactive), len(messages))
        self._db.execute("DROP TABLE parsed")
        return rows, schema, reasons

    def _load(self, messages: Sequence[Message], texts: pa.Array) -> None:
        """Make the table `parsed`: of each record its number, place, header, envelope and row."""
        batch = columns_of(messages, texts, provenance=self._format.has_provenance)
        if self._format.infers_types:
            batch = with_exact_numbers(batch)
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

    def _with_nul_in_a_key(self, known: Undecodable) -> Undecodable:
        """Such a key has no name in SQL, in Parquet or in PostgreSQL."""
        found = self._db.execute(
            "SELECT i FROM parsed WHERE json_type(r) = 'OBJECT'"
            " AND contains(array_to_string(json_keys(r), ''), chr(0))"
        ).fetchall()
        reason = "a key of the object contains a NUL character"
        rows = {i: reason for (i,) in found if i not in known}
        if rows:
            self._db.execute("DELETE FROM parsed WHERE i IN (SELECT unnest(?))", [list(rows)])
        return rows

    def _with_a_key_twice(self, known: Undecodable) -> Undecodable:
        """Which of its values is meant, nobody knows."""
        found = self._db.execute(
            "SELECT i FROM (SELECT i, json_keys(r) AS k FROM parsed WHERE json_type(r) = 'OBJECT')"
            " WHERE len(k) > len(list_distinct(k))"
        ).fetchall()
        return {i: "the object has a key twice" for (i,) in found if i not in known}

    def _with_too_many_keys(self, schema: Schema) -> Undecodable:
        """Records whose keys would give the table more columns than it may have."""
        taken = set(schema.fields())
        room = MOST_COLUMNS - len(schema.columns)
        if len(self._keys("r") - taken) <= room:
            return {}
        reasons: Undecodable = {}
        for i, keys in self._db.execute(
            "SELECT i, json_keys(r) FROM parsed WHERE json_type(r) = 'OBJECT' ORDER BY i"
        ).fetchall():
            new = set(keys) - taken
            if len(new) > room:
                reasons[i] = f"its table would have more than {MOST_COLUMNS:,} columns"
                continue
            taken |= new
            room -= len(new)
        self._db.execute("DELETE FROM parsed WHERE i IN (SELECT unnest(?))", [list(reasons)])
        return reasons

    def _grown(self, schema: Schema) -> Schema:
        """The schema with a column for every key."""
        unknown = sorted(self._keys("r") - schema.fields())
        if len(unknown) > _FEW_KEYS and self._format.infers_types:
            fields = self._types_of(unknown)
        else:
            fields = {key: self._type_of(key) for key in unknown}
        about: set[str] = set()
        if self._format.has_provenance:
            about = self._keys("h") - known_provenance(schema)
        return self._known.found(schema, fields, sorted(about))

    def _keys(self, expression: str) -> set[str]:
        objects = f"(SELECT * FROM parsed WHERE json_type({expression}) = 'OBJECT')"
        keys, _ = distinct_keys(self._db, f"json_keys({expression})", objects)
        return keys

    def _type_of(self, key: str) -> str:
        """The type of a field that nobody declared."""
        if not self._format.infers_types:
            return "VARCHAR"
        path = literal(pointer(key))
        found = self._db.execute(f"SELECT DISTINCT json_type(r, {path}) FROM parsed").fetchall()
        return _common_type(t for (t,) in found)

    def _types_of(self, keys: Sequence[str]) -> dict[str, str]:
        """The same of many fields: each record is parsed once for all of them."""
        found: dict[str, list[str | None]] = {key: [] for key in keys}
        objects = "(SELECT r FROM parsed WHERE json_type(r) = 'OBJECT')"
        for key, type_ in self._db.execute(
            f"SELECT DISTINCT e.key, e.type FROM {objects} AS o, json_each(o.r) AS e"
        ).fetchall():
            if key in found:
                found[key].append(type_)
        return {key: _common_type(types) for key, types in found.items()}

    def _misfits(self, versioned: VersionedSchema) -> dict[int, Column]:
        """Records with a value that does not fit its column's type; the first such column."""
        texts = _texts(versioned)
        found: dict[int, Column] = {}
        for group in groups_of(versioned.schema):
            for i, column in self._misfits_of(versioned.schema, group, texts).items():
                found.setdefault(i, column)
        return found

    def _misfits_of(
        self, schema: Schema, group: Sequence[Column], texts: Mapping[str, str]
    ) -> dict[int, Column]:
        tested = [
            (c, test)
            for c in group
            if (test := misfit(schema, c, texts[c.name], self._cast(c, texts[c.name])))
        ]
        if not tested:
            return {}
        tests = [test for _, test in tested]
        source = self._texts_query(schema, group)
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
        return {i: tested[n][0] for i, n in found}

    def _with_zero_dates(self, versioned: VersionedSchema) -> Schema:
        """The schema with a column beside each column of dates in which MySQL has zeros."""
        schema, texts = versioned.schema, _texts(versioned)
        dates = [
            c for c in schema.columns if c.type in DATE_TYPES and not schema.tells_zero_dates(c)
        ]
        if not dates:
            return schema
        tests = ", ".join(f"bool_or({is_zero_date(texts[c.name])})" for c in dates)
        [told] = self._db.execute(f"SELECT {tests} FROM ({self._texts_query(schema)})").fetchall()
        zeros = [c for c, is_told in zip(dates, told, strict=True) if is_told]
        return schema.merged(map(zero_date_column, zeros))

    def _texts_query(self, schema: Schema, group: Sequence[Column] | None = None) -> str:
        """Fields of all rows, as text: structs `x` (row) and `y` (provenance)."""
        parts = ["i", "p", "o", "t", "e", "r"]
        if fields := value_shapes(schema, self._format, group):
            parts.append(f"from_json(r, {shape(fields)}) AS x")
        if self._format.has_provenance:
            parts.append(parsed_provenance(schema))
        return f"SELECT {', '.join(parts)} FROM parsed"

    def _rows(self, versioned: VersionedSchema, most: int) -> pa.Table:
        texts = _texts(versioned)
        groups = groups_of(versioned.schema)
        tables = []
        for number, group in enumerate(groups, 1):
            columns = [f"{self._cast(c, texts[c.name])} AS {quoted(c.name)}" for c in group]
            columns += system_columns(self._format) if number == len(groups) else []
            source = self._texts_query(versioned.schema, group)
            query = f"SELECT {', '.join(columns)} FROM ({source}) ORDER BY p, o"
            tables.append(self._db.execute(query).to_arrow_table(most))
        return side_by_side(tables)

    def _cast(self, column: Column, text: str) -> str:
        is_announced = not self._format.infers_types
        spelling = Spelling.ANNOUNCED if is_announced else self._known.spelling(column)
        expression = cast_expression(text, column.type, spelling)
        return f"{expression}::VARCHAR" if column.type == JSON_TEXT else expression


def _common_type(json_types: Iterable[str | None]) -> str:
    types = {inferred_type(t) for t in json_types if t is not None and t != "NULL"}
    if types == {"BIGINT", "DOUBLE"}:
        return "DOUBLE"
    return types.pop() if len(types) == 1 else "VARCHAR"


def _texts(versioned: VersionedSchema) -> dict[str, str]:
    """SQL of each column's text, by the column's name."""
    names = [column.name for column in versioned.schema.columns]
    return dict(zip(names, field_texts(versioned, "x", "r"), strict=True))
