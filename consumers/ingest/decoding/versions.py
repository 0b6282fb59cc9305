"""Which columns take the values of a record, by the version of the table that it comes from.

A table has one schema in the lake, with all columns that it ever had. Where bytes met another type
a field has two columns, and the version of a row says which of them its value belongs to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa
from confluent_kafka import Message

from consumers.ingest.arrow_batch import texts_of
from consumers.ingest.decoding.database import registered
from consumers.ingest.schema_history import BinlogPosition, TableHistory, TableVersion
from lake.storage.mysql_types import ZERO_DATE
from lake.storage.schema import Column, Schema


@dataclass(frozen=True, slots=True)
class VersionedSchema:
    """A table's schema, as rows of one version of it fill it.

    Attributes:
        inactive: Names of columns that are NULL, since another one has their field's values.
    """

    schema: Schema
    inactive: frozenset[str] = frozenset()


def inactive_columns(schema: Schema, version: TableVersion) -> frozenset[str]:
    """Names of the columns that rows of a version leave to another column of the same field."""
    shared = _shared_fields(schema)
    announced = [column for column in version.columns if column.field in shared]
    known = {column.field for column in announced}
    active = {found.name for c in announced if (found := schema.column_for(c)) is not None}
    return frozenset(c.name for c in _values(schema) if c.field in known and c.name not in active)


def by_version(
    db: duckdb.DuckDBPyConnection,
    messages: Sequence[Message],
    schema: Schema,
    history: TableHistory,
) -> Iterator[tuple[Sequence[Message], frozenset[str]]]:
    """Records in groups that fill the same columns, and the names of those that are inactive.

    The order of a group's records stays. All are one group, without a look at them, while no field
    has more than one column.
    """
    if not _shared_fields(schema) or history.count < 2:
        yield messages, frozenset()
        return
    inactive = {id(version): inactive_columns(schema, version) for version in history}
    groups: dict[frozenset[str], list[Message]] = {}
    for message, (place, moment) in zip(messages, places(db, messages), strict=True):
        groups.setdefault(inactive[id(history.at(place, moment))], []).append(message)
    yield from ((group, names) for names, group in groups.items())


def _values(schema: Schema) -> list[Column]:
    """The columns that hold the values of a row's fields."""
    return [c for c in schema.columns if not c.provenance and c.type != ZERO_DATE]


def _shared_fields(schema: Schema) -> frozenset[str]:
    """The fields that have several columns."""
    counted = Counter(column.field for column in _values(schema))
    return frozenset(field for field, count in counted.items() if count > 1)


def places(
    db: duckdb.DuckDBPyConnection, messages: Sequence[Message]
) -> Iterator[tuple[BinlogPosition, int]]:
    """Where each record stands in the binlog, and when it was written there.

    A record that is no change event becomes a dead letter in any version.
    """
    texts, _ = texts_of(messages)
    with registered(db, pa.table({"v": texts})):
        found = db.execute(
            "SELECT f, TRY_CAST(p AS BIGINT), TRY_CAST(t AS BIGINT) FROM (SELECT"
            " json_extract_string(j, '/source/file') AS f,"
            " json_extract_string(j, '/source/pos') AS p,"
            " json_extract_string(j, '/source/ts_ms') AS t"
            " FROM (SELECT CASE WHEN json_valid(v) THEN v END AS j FROM batch))"
        ).fetchall()
    for file, position, moment in found:
        yield BinlogPosition(file or "", position or 0), moment or 0
