"""SQL that every format and both ways of decoding have in common: shapes, texts, system columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from consumers.ingest.decoding.record_format import RecordFormat
from consumers.ingest.decoding.versions import VersionedSchema
from lake.storage.mysql_types import JSON_TEXT
from lake.storage.schema import Column, Schema, row_columns
from lake.storage.sql import literal, quoted

SOURCE_TS = "source_ts"
"""The field of the provenance header that is `_source_ts` and no column of its own."""
COLUMNS_AT_ONCE = 100
_CONSTANT = frozenset({"_topic", "_topic_epoch"})


def shape(fields: Any) -> str:
    """The structure argument of DuckDB's `from_json`, as an SQL string."""
    return literal(orjson.dumps(fields).decode())


def groups_of(schema: Schema) -> list[tuple[Column, ...]]:
    """The columns of a schema, as many as one query takes: what a query costs grows by the square.

    A table of usual width is one group.
    """
    columns = schema.columns
    return [columns[n : n + COLUMNS_AT_ONCE] for n in range(0, len(columns), COLUMNS_AT_ONCE)] or [
        ()
    ]


def side_by_side(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables with the same rows as one, their columns in order."""
    if len(tables) == 1:
        return tables[0]
    names = [name for table in tables for name in table.column_names]
    return pa.table([column for table in tables for column in table.columns], names=names)


def value_shapes(
    schema: Schema, record_format: RecordFormat, group: Sequence[Column] | None = None
) -> Mapping[str, str]:
    """The keys of a row's JSON object, each taken as text; those of a group of columns alone."""
    odd = no_struct_member(schema)
    return {
        c.field: record_format.json_shape if c.type == JSON_TEXT else "VARCHAR"
        for c in (schema.columns if group is None else group)
        if not c.provenance and c.field not in odd
    }


def no_struct_member(schema: Schema) -> frozenset[str]:
    """Fields that no DuckDB struct can have: its names are not empty, and differ by more than case.

    They are taken out of the JSON one by one.
    """
    fields = {c.field for c in schema.columns if not c.provenance}
    spellings = Counter(field.casefold() for field in fields)
    return frozenset(f for f in fields if not f or spellings[f.casefold()] > 1)


def field_texts(
    versioned: VersionedSchema, struct: str, document: str, about: str = "y"
) -> list[str]:
    """SQL of the text of each column's field, in the order of the columns.

    NULL where another column has the field's values in this version of the table.

    Args:
        versioned: The schema of the rows.
        struct: SQL of the parsed row.
        document: SQL of the row as JSON, for a field that no struct can have.
        about: SQL of the parsed provenance.
    """
    odd = no_struct_member(versioned.schema)
    texts = []
    for column in versioned.schema.columns:
        if column.name in versioned.inactive:
            texts.append("NULL::VARCHAR")
        elif column.provenance:
            texts.append(f"{about}.{quoted(column.field)}")
        elif column.field in odd:
            texts.append(f"json_extract_string({document}, {literal(pointer(column.field))})")
        else:
            texts.append(f"{struct}.{quoted(column.field)}")
    return texts


def pointer(field: str) -> str:
    """A key as a JSON pointer: no character of it has a meaning there."""
    return "/" + field.replace("~", "~0").replace("/", "~1")


def parsed_provenance(schema: Schema) -> str:
    """SQL (`… AS y`) that parses the provenance header `h`, each field as text."""
    fields = {c.field: "VARCHAR" for c in schema.columns if c.provenance}
    return f"from_json(h, {shape({SOURCE_TS: 'VARCHAR', **fields})}) AS y"


def known_provenance(schema: Schema) -> frozenset[str]:
    """The keys of the provenance header that are known."""
    return schema.fields(provenance=True) | {SOURCE_TS}


def system_columns(of: RecordFormat) -> list[str]:
    """SQL (`… AS name`) of the system columns that differ from record to record."""
    own = [c for c in row_columns(of.kind) if c[0] not in _CONSTANT]
    expressions = [of.operation, of.source_ts, "t", "p", "o", *of.position]
    return [
        f"({expression})::{type_} AS {name}"
        for (name, type_), expression in zip(own, expressions, strict=True)
    ]


def with_constants(rows: pa.Table, record_format: RecordFormat, topic: str, epoch: int) -> pa.Table:
    """Add the system columns that hold one value in the whole batch, in their places."""
    count = rows.num_rows
    index = pa.array(np.zeros(count, np.int8))
    constant = {
        "_topic": pa.DictionaryArray.from_arrays(index, pa.array([topic])).cast(pa.string()),
        "_topic_epoch": pa.array(np.full(count, epoch, np.int32)),
    }
    own = row_columns(record_format.kind)
    place = rows.num_columns - len(own) + len(constant)
    for at, (name, _) in enumerate(own, place):
        if name in constant:
            rows = rows.add_column(at, name, constant[name])
    return rows
