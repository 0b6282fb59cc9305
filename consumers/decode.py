"""Kafka messages to Arrow: whole batches through DuckDB, no Python loop over fields.

Every field is taken out of the JSON as text once and cast to its column's type; a value that does
not fit is seen, never coerced. A record that cannot be decoded becomes a dead letter, the rest of
its batch goes on. An unknown key becomes a new column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import duckdb
import orjson
import pyarrow as pa

from ducklake.config import Table, TableRef
from ducklake.lake.schema import (
    JSON_TEXT,
    TIMESTAMPTZ,
    Column,
    Kind,
    Schema,
    cast_expression,
    declared_type,
    inferred_type,
    provenance_column,
    row_columns,
    source_column,
    storage_type,
)
from ducklake.lake.sql import literal, quoted
from ducklake.records import PROVENANCE_HEADER, DeadLetter, from_millis

_ENVELOPE = (
    '{"op":"VARCHAR","source":{"ts_ms":"BIGINT","file":"VARCHAR","pos":"BIGINT","row":"INTEGER"}}'
)


class Message(Protocol):
    """What is used of a Kafka message."""

    def value(self) -> bytes | None: ...  # noqa: D102
    def key(self) -> bytes | None: ...  # noqa: D102
    def offset(self) -> int: ...  # noqa: D102
    def partition(self) -> int: ...  # noqa: D102
    def timestamp(self) -> tuple[int, int]: ...  # noqa: D102
    def headers(self) -> list[tuple[str, bytes]] | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded batch.

    Attributes:
        rows: Source columns, then system columns, ordered by partition and offset; None: no row.
        schema: The schema that the rows have: the old one, or one that has grown.
        dead_letters: What could not be decoded.
    """

    rows: pa.Table | None
    schema: Schema
    dead_letters: tuple[DeadLetter, ...]


class TableDecoder:
    """Decodes the records of one table.

    Args:
        ref: The table.
        table: Its configuration: declared types.
        kind: `cdc` (Debezium's envelope), `plain` (one object a record), or `rejects`.
        exact_types: For CDC: asks the source's own schema changes for the exact columns.
    """

    def __init__(
        self,
        ref: TableRef,
        table: Table,
        kind: Kind,
        exact_types: Callable[[], Sequence[Column]] | None = None,
    ) -> None:
        self.ref = ref
        self.kind: Kind = kind
        self._declared = tuple(
            source_column(name, declared_type(ref.table, name, type_))
            for name, type_ in table.columns.items()
        )
        self._exact_types = exact_types
        self._db = duckdb.connect(config={"threads": 1})
        self._db.execute("SET TimeZone = 'UTC'")

    def decode(self, messages: Sequence[Message], schema: Schema, epoch: int = 0) -> Decoded:
        """Decode a batch.

        Args:
            messages: Records of this table, of any of its partitions.
            schema: The table's schema so far.
            epoch: How often the topic had been made anew when these records were produced.
        """
        if self.kind == "rejects":
            return Decoded(None, schema, tuple(map(self._reject, messages)))
        texts, broken = _texts(messages)
        reasons = dict.fromkeys(broken, "the value is not UTF-8")
        self._load(messages, texts)
        reasons |= self._not_objects(reasons)
        schema = self._grown(schema)
        misfits = self._misfits(schema)
        if misfits:
            schema = self._widened(schema, misfits)
            for row, column in self._misfits(schema).items():
                reasons[row] = f"column {column.name}: the value does not fit {column.type}"
        self._db.execute("DELETE FROM parsed WHERE i IN (SELECT unnest(?))", [list(reasons)])
        rows = self._db.execute(self._select(schema, epoch)).to_arrow_table()
        letters = tuple(self._dead_letter(messages[i], reasons[i]) for i in sorted(reasons))
        return Decoded(rows if rows.num_rows else None, schema, letters)

    # The steps of one batch ------------------------------------------------------------------

    def _load(self, messages: Sequence[Message], texts: list[str | None]) -> None:
        batch = pa.table(
            {
                "i": pa.array(range(len(messages)), pa.int32()),
                "v": pa.array(texts, pa.string()),
                "h": pa.array([_provenance(m) for m in messages], pa.string()),
                "p": pa.array([m.partition() for m in messages], pa.int32()),
                "o": pa.array([m.offset() for m in messages], pa.int64()),
                "t": pa.array([m.timestamp()[1] for m in messages], pa.timestamp("ms", "UTC")),
            }
        )
        if self.kind == "cdc":
            row = "CASE WHEN e.op = 'd' THEN v -> '$.before' ELSE v -> '$.after' END"
            envelope = f"from_json(v, '{_ENVELOPE}')"
        else:
            row, envelope = "v", "NULL"
        self._db.register("batch", batch)
        self._db.execute(
            "CREATE OR REPLACE TEMP TABLE parsed AS WITH valid AS ("
            " SELECT i, p, o, t, CASE WHEN json_valid(v) THEN v::JSON END AS v,"
            " h::JSON AS h FROM batch),"
            f" opened AS (SELECT *, {envelope} AS e FROM valid)"
            f" SELECT i, p, o, t, h, e, {row} AS r FROM opened"
        )
        self._db.unregister("batch")

    def _not_objects(self, known: dict[int, str]) -> dict[int, str]:
        found = self._db.execute(
            "SELECT i FROM parsed WHERE coalesce(json_type(r), 'NULL') <> 'OBJECT'"
        ).fetchall()
        wanted = "a change event with its row" if self.kind == "cdc" else "a JSON object"
        return {i: f"the value is not {wanted}" for (i,) in found if i not in known}

    def _keys(self, expression: str) -> set[str]:
        return {
            key
            for (key,) in self._db.execute(
                f"SELECT DISTINCT unnest(json_keys({expression})) FROM parsed"
                f" WHERE json_type({expression}) = 'OBJECT'"
            ).fetchall()
        }

    def _grown(self, schema: Schema) -> Schema:
        if not schema.columns:
            schema = schema.merged(self._declared)
        unknown = self._keys("r") - schema.fields()
        if unknown and self._exact_types is not None:
            schema = schema.merged(self._exact_types())
            unknown -= schema.fields()
        new = [source_column(key, self._inferred(key)) for key in sorted(unknown)]
        if self.kind == "plain":
            known = schema.fields(provenance=True) | {"source_ts"}
            new += [provenance_column(key) for key in sorted(self._keys("h") - known)]
        return schema.merged(new) if new else schema

    def _inferred(self, key: str) -> str:
        if self.kind == "cdc":
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
        checked = [c for c in schema.columns if storage_type(c.type) != "VARCHAR"]
        if not checked:
            return {}
        tests = [f"({_text(c)} IS NOT NULL AND {_cast(c)} IS NULL)" for c in checked]
        source = _texts_query(schema)
        if not self._db.execute(f"SELECT bool_or({' OR '.join(tests)}) FROM ({source})").fetchone()[
            0
        ]:
            return {}
        branches = " ".join(f"WHEN {test} THEN {n}" for n, test in enumerate(tests))
        found = self._db.execute(
            f"SELECT * FROM (SELECT i, CASE {branches} END AS n FROM ({source}))"
            " WHERE n IS NOT NULL"
        ).fetchall()
        return {i: checked[n] for i, n in found}

    def _widened(self, schema: Schema, misfits: dict[int, Column]) -> Schema:
        """Types that were only inferred become text; a source's own types are asked for again."""
        if self._exact_types is not None:
            return schema.merged(self._exact_types())
        declared = {c.field for c in self._declared}
        widen = {c for c in misfits.values() if not c.provenance and c.field not in declared}
        return schema.merged(Column(c.name, "VARCHAR", c.field) for c in widen)

    def _select(self, schema: Schema, epoch: int) -> str:
        columns = [f"{_cast(c)} AS {quoted(c.name)}" for c in schema.columns]
        if self.kind == "cdc":
            system = ["e.op", "to_timestamp(e.source.ts_ms / 1000.0)"]
        else:
            system = ["'r'", f"TRY_CAST(h ->> '$.source_ts' AS {TIMESTAMPTZ})"]
        system += [f"t::{TIMESTAMPTZ}", literal(self.ref.topic), "p", "o", str(epoch)]
        if self.kind == "cdc":
            system += ["e.source.file", "e.source.pos", "e.source.row"]
        for (name, type_), expression in zip(row_columns(self.kind), system, strict=True):
            columns.append(f"({expression})::{type_} AS {name}")
        return f"SELECT {', '.join(columns)} FROM ({_texts_query(schema)}) ORDER BY p, o"

    # Dead letters ----------------------------------------------------------------------------

    def _dead_letter(self, message: Message, reason: str) -> DeadLetter:
        return DeadLetter(
            topic=self.ref.topic,
            partition=message.partition(),
            offset=message.offset(),
            kafka_ts=from_millis(message.timestamp()[1]),
            source_table=self.ref.topic,
            reason=reason,
            key=message.key(),
            value=message.value(),
            headers=_provenance(message) or "{}",
        )

    def _reject(self, message: Message) -> DeadLetter:
        headers = _provenance(message) or "{}"
        about: dict[str, Any] = orjson.loads(headers)
        return DeadLetter(
            topic=self.ref.topic,
            partition=message.partition(),
            offset=message.offset(),
            kafka_ts=from_millis(message.timestamp()[1]),
            source_table=str(about.get("source_table", "")),
            reason=str(about.get("reason", "rejected by its producer")),
            key=message.key(),
            value=message.value(),
            headers=headers,
        )


def _texts(messages: Sequence[Message]) -> tuple[list[str | None], list[int]]:
    """All values as text, and the rows that are none."""
    texts: list[str | None] = []
    broken: list[int] = []
    for row, message in enumerate(messages):
        value = message.value()
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            texts.append(None)
            broken.append(row)
    return texts, broken


def _provenance(message: Message) -> str | None:
    for name, value in message.headers() or ():
        if name == PROVENANCE_HEADER:
            return value.decode(errors="replace")
    return None


def _texts_query(schema: Schema) -> str:
    """All fields of all rows, as text: structs `x` (value) and `y` (provenance)."""
    value = {
        c.field: "JSON" if c.type == JSON_TEXT else "VARCHAR"
        for c in schema.columns
        if not c.provenance
    }
    about = {c.field: "VARCHAR" for c in schema.columns if c.provenance}
    parts = ["i", "p", "o", "t", "e", "h"]
    for name, source, fields in (("x", "r", value), ("y", "h", about)):
        if fields:
            shape = literal(orjson.dumps(fields).decode())
            parts.append(f"from_json({source}, {shape}) AS {name}")
    return f"SELECT {', '.join(parts)} FROM parsed"


def _text(column: Column) -> str:
    return f"{'y' if column.provenance else 'x'}.{quoted(column.field)}"


def _cast(column: Column) -> str:
    expression = cast_expression(_text(column), column.type)
    return f"{expression}::VARCHAR" if column.type == JSON_TEXT else expression
