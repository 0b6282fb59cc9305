"""The fast way: one query takes a batch for what it should be, and says where it is not.

Every field is taken out of the JSON as text once, and cast to its column's type once.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Message

from consumers.ingest.arrow_batch import columns_of, values_of
from consumers.ingest.decoding.columns import KnownColumns
from consumers.ingest.decoding.database import distinct_keys, registered
from consumers.ingest.decoding.exact_numbers import with_exact_numbers
from consumers.ingest.decoding.record_format import RecordFormat, RowImage
from consumers.ingest.decoding.row_sql import (
    field_texts,
    groups_of,
    known_provenance,
    parsed_provenance,
    side_by_side,
    system_columns,
    value_shapes,
)
from consumers.ingest.decoding.versions import VersionedSchema
from lake.storage.casts import Spelling, checked_cast, misfit, plain_cast
from lake.storage.schema import Column, Schema
from lake.storage.sql import literal, quoted

SAMPLE_EVERY = 64
_UNEXPECTED = "_unexpected"


class FastDecoder:
    """Decodes batches in which everything is as expected.

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

    def decode(self, messages: Sequence[Message], versioned: VersionedSchema) -> pa.Table | None:
        """All rows of a batch, without the constant columns; None where one is not as expected."""
        if not versioned.schema.columns:
            return None
        try:
            values = values_of(messages)
            if values is None:
                return None
            batch = columns_of(messages, values, provenance=self._format.has_provenance)
            if self._format.infers_types:
                batch = with_exact_numbers(batch)
            rows = self._rows(batch, versioned)
        except (pa.ArrowInvalid, duckdb.Error):
            return None
        unexpected = pc.any(rows.column(_UNEXPECTED)).as_py()
        if unexpected or self._may_have_unknown_keys(batch, versioned.schema):
            return None
        return rows.drop_columns([_UNEXPECTED])

    def _rows(self, batch: pa.Table, schema: VersionedSchema) -> pa.Table:
        """The rows of all images, ordered by partition and offset."""
        usual, *others = self._format.images
        rows = self._query(batch, schema, usual)
        for image in others:
            elsewhere = pc.equal(rows.column("_op"), image.operation)
            if pc.any(elsewhere).as_py():
                more = self._query(batch.filter(elsewhere), schema, image)
                rows = pa.concat_tables([rows.filter(pc.invert(elsewhere)), more])
                rows = rows.sort_by([("_partition", "ascending"), ("_offset", "ascending")])
        return rows

    def _query(self, batch: pa.Table, versioned: VersionedSchema, image: RowImage) -> pa.Table:
        """Fields as text out of one parse of each record, cast to their types."""
        groups = groups_of(versioned.schema)
        document = f"json_extract(v, {literal(image.pointer)})"
        texts = list(
            zip(
                versioned.schema.columns,
                field_texts(versioned, image.row, document),
                strict=True,
            )
        )
        tables, at = [], 0
        with registered(self._db, batch):
            for group in groups:
                query = self._group_query(versioned.schema, image, texts[at : at + len(group)])
                tables.append(self._db.execute(query).to_arrow_table(batch.num_rows))
                at += len(group)
        return _of_groups(tables, len(system_columns(self._format)))

    def _group_query(self, schema: Schema, image: RowImage, texts: list[tuple[Column, str]]) -> str:
        """SQL of some columns, with the SQL of each one's text, and of the system columns."""
        group = [column for column, _ in texts]
        # A group of provenance alone takes some field as well: no struct is empty.
        shapes = value_shapes(schema, self._format, group) or value_shapes(
            schema, self._format, schema.columns[:1]
        )
        parsed = [self._format.parsed(image, shapes)]
        if self._format.has_provenance:
            parsed.append(parsed_provenance(schema))
        # Each cast is a column of its own before anything asks for it: DuckDB would cast again in
        # every branch of a CASE or an OR.
        plain = [f"{plain_cast(text, c.type)} AS a{n}" for n, (c, text) in enumerate(texts)]
        casts = [
            f"{checked_cast(f'a{n}', text, c.type, self._spelling(c))} AS b{n}"
            for n, (c, text) in enumerate(texts)
        ]
        columns = [f"b{n} AS {quoted(c.name)}" for n, c in enumerate(group)]
        tests = [misfit(schema, c, text, f"b{n}") for n, (c, text) in enumerate(texts)]
        unexpected = [image.is_missing, *(test for test in tests if test)]
        columns += system_columns(self._format)
        return (
            f"SELECT {', '.join(columns)}, ({' OR '.join(unexpected)}) AS {_UNEXPECTED}"
            f" FROM (SELECT *, {', '.join(casts)} FROM (SELECT *, {', '.join(plain)}"
            f" FROM (SELECT {', '.join(parsed)}, v, t, p, o FROM batch)))"
        )

    def _spelling(self, column: Column) -> Spelling:
        if not self._format.infers_types:
            return Spelling.ANNOUNCED
        return self._known.spelling(column)

    def _may_have_unknown_keys(self, batch: pa.Table, schema: Schema) -> bool:
        """Whether a record may hold a key that has no column, or one twice.

        A source that announces its changes is believed, and sampled all the same; any other is
        looked at record by record.
        """
        if self._known.are_announced:
            batch = batch.take(list(range(0, batch.num_rows, SAMPLE_EVERY)))
        with registered(self._db, batch):
            for image in self._format.images:
                keys, twice = distinct_keys(self._db, f"json_keys(v, '{image.path}')", "batch")
                if twice or keys - schema.fields():
                    return True
            if self._format.has_provenance:
                keys, _ = distinct_keys(self._db, "json_keys(h)", "batch")
                return bool(keys - known_provenance(schema))
        return False


def _of_groups(tables: Sequence[pa.Table], system: int) -> pa.Table:
    """Groups of columns as one table: the system columns once, unexpected where one group is."""
    if len(tables) == 1:
        return tables[0]
    unexpected = tables[0].column(_UNEXPECTED)
    for table in tables[1:]:
        unexpected = pc.or_kleene(unexpected, table.column(_UNEXPECTED))
    own = [table.select(range(table.num_columns - system - 1)) for table in tables]
    ends = tables[-1].select(range(tables[-1].num_columns - system - 1, tables[-1].num_columns))
    made = side_by_side([*own, ends])
    return made.set_column(made.num_columns - 1, _UNEXPECTED, unexpected)
