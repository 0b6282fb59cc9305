"""Kafka messages to Arrow: whole batches through DuckDB, no Python loop over fields.

Every field is taken out of the JSON as text once and cast to its column's type; a value that does
not fit is seen, never coerced. A record that cannot be decoded becomes a dead letter, the rest of
its batch goes on. An unknown key becomes a new column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import duckdb
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Message

from consumers.ingest.arrow_batch import columns_of, provenance_of, texts_of, values_of
from lake.config import Table, TableRef
from lake.records import DeadLetter, Kind, from_millis
from lake.storage.schema import (
    JSON_TEXT,
    TIMESTAMPTZ,
    Column,
    Schema,
    cast_expression,
    checked_cast,
    declared_type,
    inferred_type,
    plain_cast,
    provenance_column,
    row_columns,
    source_column,
    storage_type,
)
from lake.storage.sql import literal, quoted

_ENVELOPE = (
    '{"op":"VARCHAR","source":{"ts_ms":"BIGINT","file":"VARCHAR","pos":"BIGINT","row":"INTEGER"}}'
)


SAMPLE_EVERY = 64
VECTOR_ROWS, VECTOR_BYTES = 2_048, 2 * 1024 * 1024
"""What DuckDB takes apart at once, holding it many times over; and how large that may be."""
PART_BYTES, SMALL_PART_BYTES = 32 * 1024 * 1024, 8 * 1024 * 1024
"""What one query decodes, its result beside it; less where the records are large."""
_CONSTANT = frozenset({"_topic", "_topic_epoch"})
_UNEXPECTED = "_unexpected"


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


class Changes(Protocol):
    """Where a source announces new columns and their exact types."""

    def has_grown(self) -> bool: ...  # noqa: D102
    def columns(self, table: str) -> list[Column]: ...  # noqa: D102


class TableDecoder:
    """Decodes the records of one table.

    A batch goes through one query that takes it for what it should be; whatever that query meets
    that is not as expected (bad JSON, a value that does not fit, an unknown key) sends the batch
    through the careful steps, which cost more and find out what it is.

    Args:
        ref: The table.
        table: Its configuration: declared types.
        kind: `cdc` (Debezium's envelope), `plain` (one object a record), or `rejects`.
        changes: For CDC: the source's own schema changes, with the exact columns.
    """

    def __init__(
        self, ref: TableRef, table: Table, kind: Kind, changes: Changes | None = None
    ) -> None:
        self.ref = ref
        self.kind: Kind = kind
        self._declared = tuple(
            source_column(name, declared_type(ref.table, name, type_))
            for name, type_ in table.columns.items()
        )
        self._changes = changes
        self._db = _database().cursor()
        self._warm_up()

    def _warm_up(self) -> None:
        """A first query now: at theirs, Arrow and DuckDB load for 0.3 s what they need."""
        self._db.register("batch", pa.table({"v": ["{}"]}))
        self._distinct_keys("json_keys(v)", "batch")
        self._db.unregister("batch")

    def decode(self, messages: Sequence[Message], schema: Schema, epoch: int = 0) -> Decoded:
        """Decode a batch.

        Args:
            messages: Records of this table, ordered by partition and offset.
            schema: The table's schema so far.
            epoch: How often the topic had been made anew when these records were produced.
        """
        if not messages:
            return Decoded(None, schema, ())
        if self.kind == "rejects":
            return Decoded(None, schema, tuple(map(self._reject, messages)))
        if not schema.columns:
            schema = self._foreknown(schema)
        parts = list(_parts(messages))
        if len(parts) == 1:
            return self._decode_part(messages, schema, epoch)
        while True:
            before, decoded = schema, []
            for part in parts:
                decoded.append(self._decode_part(part, schema, epoch))
                schema = decoded[-1].schema
            if schema == before:
                break
            # What was decoded before it grew has fewer columns, or other types: once more.
        tables = [one.rows for one in decoded if one.rows is not None]
        dead_letters = tuple(letter for one in decoded for letter in one.dead_letters)
        return Decoded(pa.concat_tables(tables) if tables else None, schema, dead_letters)

    def _decode_part(self, messages: Sequence[Message], schema: Schema, epoch: int) -> Decoded:
        rows = self._decode_as_expected(messages, schema, epoch)
        if rows is not None:
            return Decoded(rows, schema, ())
        return self._decode_carefully(messages, schema, epoch)

    # The one query ---------------------------------------------------------------------------

    def _decode_as_expected(
        self, messages: Sequence[Message], schema: Schema, epoch: int
    ) -> pa.Table | None:
        """All rows of a batch in which everything is as expected; None where something is not."""
        if not schema.columns:
            return None
        try:
            values = values_of(messages)
            if values is None:
                return None
            batch = columns_of(messages, values, provenance=self.kind == "plain")
            rows = self._query(batch, schema, "after")
            if self.kind == "cdc":
                deleted = pc.equal(rows.column("_op"), "d")
                if pc.any(deleted).as_py():
                    before = self._query(batch.filter(deleted), schema, "before")
                    rows = pa.concat_tables([rows.filter(pc.invert(deleted)), before])
                    rows = rows.sort_by([("_partition", "ascending"), ("_offset", "ascending")])
        except (pa.ArrowInvalid, duckdb.Error):
            return None
        unexpected = pc.any(rows.column(_UNEXPECTED)).as_py()
        if unexpected or self._may_have_unknown_keys(batch, schema):
            return None
        return _with_constants(rows.drop_columns([_UNEXPECTED]), self.kind, self.ref.topic, epoch)

    def _query(self, batch: pa.Table, schema: Schema, image: str) -> pa.Table:
        """Fields as text out of one parse of each record, cast to their types."""
        value = {c.field: _json_shape(c) for c in schema.columns if not c.provenance}
        about = {c.field: "VARCHAR" for c in schema.columns if c.provenance}
        if self.kind == "cdc":
            shape = {**orjson.loads(_ENVELOPE), image: value}
            parsed, r = f"from_json(v, {_shape(shape)}) AS j", f"j.{image}"
            system = ["j.op", "make_timestamptz(j.source.ts_ms * 1000)", "t"]
            last = ["j.source.file", "j.source.pos", "j.source.row"]
        else:
            shape = {"source_ts": "VARCHAR", **about}
            parsed = f"from_json(v, {_shape(value)}) AS x, from_json(h, {_shape(shape)}) AS y"
            r, last = "x", []
            system = ["'r'", f"TRY_CAST(y.source_ts AS {TIMESTAMPTZ})", "t"]
        texts = {c: f"{'y' if c.provenance else r}.{quoted(c.field)}" for c in schema.columns}
        # Each cast is a column of its own before anything asks for it: DuckDB would cast again in
        # every branch of a CASE or an OR.
        plain = [f"{plain_cast(text, c.type)} AS a{n}" for n, (c, text) in enumerate(texts.items())]
        casts = [
            f"{checked_cast(f'a{n}', text, c.type)} AS b{n}"
            for n, (c, text) in enumerate(texts.items())
        ]
        columns = [f"b{n} AS {quoted(c.name)}" for n, c in enumerate(schema.columns)]
        tests = [
            f"({text} IS NOT NULL AND b{n} IS NULL)"
            for n, (c, text) in enumerate(texts.items())
            if storage_type(c.type) != "VARCHAR"
        ]
        if self.kind == "cdc" and image == "after":
            tests.append(f"({r} IS NULL AND j.op IS DISTINCT FROM 'd')")
        else:
            tests.append(f"{r} IS NULL")
        own = [c for c in row_columns(self.kind) if c[0] not in _CONSTANT]
        for (name, type_), expression in zip(own, [*system, "p", "o", *last], strict=True):
            columns.append(f"({expression})::{type_} AS {name}")
        self._db.register("batch", batch)
        try:
            return self._db.execute(
                f"SELECT {', '.join(columns)}, ({' OR '.join(tests)}) AS {_UNEXPECTED}"
                f" FROM (SELECT *, {', '.join(casts)} FROM (SELECT *, {', '.join(plain)}"
                f" FROM (SELECT {parsed}, t, p, o FROM batch)))"
            ).to_arrow_table(batch.num_rows)
        finally:
            self._db.unregister("batch")

    def _may_have_unknown_keys(self, batch: pa.Table, schema: Schema) -> bool:
        """Whether a record may hold a key that has no column.

        A source that announces its changes is believed, and sampled all the same; any other is
        looked at record by record.
        """
        if self._changes is not None:
            if self._changes.has_grown():
                return True
            batch = batch.take(list(range(0, batch.num_rows, SAMPLE_EVERY)))
        paths = ("$.after", "$.before") if self.kind == "cdc" else ("$",)
        self._db.register("batch", batch)
        try:
            for path in paths:
                if self._distinct_keys(f"json_keys(v, '{path}')", "batch") - schema.fields():
                    return True
            if self.kind == "plain":
                known = schema.fields(provenance=True) | {"source_ts"}
                return bool(self._distinct_keys("json_keys(h)", "batch") - known)
            return False
        finally:
            self._db.unregister("batch")

    def _distinct_keys(self, keys: str, relation: str) -> set[str]:
        found = self._db.execute(
            f"SELECT DISTINCT unnest(k) FROM (SELECT DISTINCT {keys} AS k FROM {relation})"
        ).fetchall()
        return {key for (key,) in found}

    # The careful steps -------------------------------------------------------------------------

    def _decode_carefully(self, messages: Sequence[Message], schema: Schema, epoch: int) -> Decoded:
        texts, broken = texts_of(messages)
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
        rows = self._db.execute(self._select(schema)).to_arrow_table(len(messages))
        self._db.execute("DROP TABLE parsed")
        rows = _with_constants(rows, self.kind, self.ref.topic, epoch)
        dead_letters = tuple(self._dead_letter(messages[i], reasons[i]) for i in sorted(reasons))
        return Decoded(rows if rows.num_rows else None, schema, dead_letters)

    def _load(self, messages: Sequence[Message], texts: pa.Array) -> None:
        batch = columns_of(messages, texts, provenance=self.kind == "plain")
        batch = batch.append_column("i", pa.array(range(len(messages)), pa.int32()))
        if self.kind != "plain":
            batch = batch.append_column("h", pa.nulls(len(messages), pa.string()))
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
        objects = f"(SELECT * FROM parsed WHERE json_type({expression}) = 'OBJECT')"
        return self._distinct_keys(f"json_keys({expression})", objects)

    def _foreknown(self, schema: Schema) -> Schema:
        """What is known of the columns before the first record is read."""
        schema = schema.merged(self._declared)
        if self._changes is not None:
            schema = schema.merged(self._changes.columns(self.ref.table))
        return schema

    def _grown(self, schema: Schema) -> Schema:
        unknown = self._keys("r") - schema.fields()
        if self._changes is not None:
            schema = schema.merged(self._changes.columns(self.ref.table))
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
        tests = [f"({_text(c)} IS NOT NULL AND {_cast(c, _text(c))} IS NULL)" for c in checked]
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
        if self._changes is not None:
            return schema  # it has the source's newest word already
        declared = {c.field for c in self._declared}
        widen = {c for c in misfits.values() if not c.provenance and c.field not in declared}
        return schema.merged(Column(c.name, "VARCHAR", c.field) for c in widen)

    def _select(self, schema: Schema) -> str:
        columns = [f"{_cast(c, _text(c))} AS {quoted(c.name)}" for c in schema.columns]
        if self.kind == "cdc":
            system = ["e.op", "make_timestamptz(e.source.ts_ms * 1000)", "t"]
            last = ["e.source.file", "e.source.pos", "e.source.row"]
        else:
            system = ["'r'", f"TRY_CAST(h ->> '$.source_ts' AS {TIMESTAMPTZ})", "t"]
            last = []
        own = [c for c in row_columns(self.kind) if c[0] not in _CONSTANT]
        for (name, type_), expression in zip(own, [*system, "p", "o", *last], strict=True):
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
            headers=provenance_of(message) or "{}",
        )

    def _reject(self, message: Message) -> DeadLetter:
        headers = provenance_of(message) or "{}"
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


@cache
def _database() -> duckdb.DuckDBPyConnection:
    """One for all decoders of a process: each keeps what its largest batch needed."""
    database = duckdb.connect(config={"threads": 1})
    database.execute("SET GLOBAL TimeZone = 'UTC'")
    return database


def _texts_query(schema: Schema) -> str:
    """All fields of all rows, as text: structs `x` (value) and `y` (provenance)."""
    value = {c.field: _json_shape(c) for c in schema.columns if not c.provenance}
    about = {c.field: "VARCHAR" for c in schema.columns if c.provenance}
    parts = ["i", "p", "o", "t", "e", "h"]
    for name, source, fields in (("x", "r", value), ("y", "h", about)):
        if fields:
            parts.append(f"from_json({source}, {_shape(fields)}) AS {name}")
    return f"SELECT {', '.join(parts)} FROM parsed"


def _text(column: Column) -> str:
    return f"{'y' if column.provenance else 'x'}.{quoted(column.field)}"


def _cast(column: Column, text: str) -> str:
    expression = cast_expression(text, column.type)
    return f"{expression}::VARCHAR" if column.type == JSON_TEXT else expression


def _json_shape(column: Column) -> str:
    return "JSON" if column.type == JSON_TEXT else "VARCHAR"


def _shape(fields: Any) -> str:
    return literal(orjson.dumps(fields).decode())


def _with_constants(rows: pa.Table, kind: Kind, topic: str, epoch: int) -> pa.Table:
    """Add the columns that hold one value in the whole batch, in their places."""
    count = rows.num_rows
    index = pa.array(np.zeros(count, np.int8))
    constant = {
        "_topic": pa.DictionaryArray.from_arrays(index, pa.array([topic])).cast(pa.string()),
        "_topic_epoch": pa.array(np.full(count, epoch, np.int32)),
    }
    place = rows.num_columns - len(row_columns(kind)) + len(constant)
    for at, (name, _) in enumerate(row_columns(kind), place):
        if name in constant:
            rows = rows.add_column(at, name, constant[name])
    return rows


def _parts(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """A batch in parts of bounded size: as few as they may be, smaller where records are large."""
    sizes = np.fromiter(map(len, messages), np.int64, len(messages))
    vectors = np.add.reduceat(sizes, np.arange(0, len(messages), VECTOR_ROWS))
    limit = PART_BYTES if vectors.max() <= VECTOR_BYTES else SMALL_PART_BYTES
    ends = sizes.cumsum()
    first = 0
    while first < len(messages):
        before = ends[first] - sizes[first]
        end = max(first + 1, int(np.searchsorted(ends, before + limit, "right")))
        yield messages[first:end]
        first = end
