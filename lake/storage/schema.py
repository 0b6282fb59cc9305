"""Columns with explicit types: from Debezium's schema changes, from declarations, or inferred.

Types are DuckDB's names (`DECIMAL(12,2)`, `UBIGINT`, `TIMESTAMP WITH TIME ZONE`); files carry them
as Arrow types. A schema only grows: a column that has gone stays, as NULLs, and a type only widens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lake.records import Kind
from lake.storage.column_names import UniqueNames, column_name
from lake.storage.mysql_types import DATE_TYPES, STORED, TIMESTAMPTZ, ZERO_DATE
from lake.storage.widening import holds, widened

SYSTEM_COLUMNS: tuple[tuple[str, str], ...] = (
    ("_op", "VARCHAR"),
    ("_source_ts", TIMESTAMPTZ),
    ("_kafka_ts", TIMESTAMPTZ),
    ("_topic", "VARCHAR"),
    ("_partition", "INTEGER"),
    ("_offset", "BIGINT"),
    ("_topic_epoch", "INTEGER"),
)
BINLOG_COLUMNS: tuple[tuple[str, str], ...] = (
    ("_binlog_file", "VARCHAR"),
    ("_binlog_pos", "BIGINT"),
    ("_binlog_row", "INTEGER"),
)
PROVENANCE_TYPES: Mapping[str, str] = {
    "file": "VARCHAR",
    "file_sha256": "VARCHAR",
    "file_row": "BIGINT",
    "file_rows": "BIGINT",
    "row_no": "BIGINT",
    "child_no": "BIGINT",
    "url": "VARCHAR",
    "status": "INTEGER",
    "fetched_at": TIMESTAMPTZ,
}


def row_columns(kind: Kind) -> tuple[tuple[str, str], ...]:
    """(name, type) of the columns that every row of this kind of table has."""
    return SYSTEM_COLUMNS + BINLOG_COLUMNS if kind == "cdc" else SYSTEM_COLUMNS


MOST_COLUMNS = 4_096
"""Of one table: as many as MySQL has, and what a batch takes seconds for."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a raw table.

    Attributes:
        name: As in the raw table.
        type: DuckDB's name of the type.
        field: The key in the record's JSON; differs from `name` only where that had to be renamed.
        provenance: Whether it comes from the provenance header and not from the value.
        former: Types that it had before it became text: what a file holds from that time is
            printed as they print it (4.00 for a 4 in a DECIMAL(12,2)).
    """

    name: str
    type: str
    field: str
    provenance: bool = False
    former: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Schema:
    """The source columns of one raw table, in order; system columns are not among them."""

    columns: tuple[Column, ...] = ()

    def fields(self, provenance: bool = False) -> frozenset[str]:
        """The JSON keys that have a column."""
        return frozenset(c.field for c in self.columns if c.provenance is provenance)

    def merged(self, new: Iterable[Column]) -> Schema:
        """This schema with new columns appended, and known fields given the new type.

        For types that somebody declared, or that were inferred. A new column gets a name that no
        other one has.
        """
        growing = _GrowingColumns(self.columns)
        for column in new:
            places = growing.of_field(column)
            if places:
                growing.retype(places[0], column.type)
            else:
                growing.append(column, column.name)
        return Schema(tuple(growing.columns))

    def redeclared(self, new: Iterable[Column]) -> Schema:
        """This schema with the types that somebody declares now: widened, never narrowed."""
        growing = _GrowingColumns(self.columns)
        for column in new:
            places = growing.of_field(column)
            if not places:
                growing.append(column, column.name)
            elif wider := widened(growing.columns[places[0]].type, column.type):
                growing.retype(places[0], wider)
        return Schema(tuple(growing.columns))

    def announced(self, new: Iterable[Column]) -> Schema:
        """This schema with columns for what a source says that its fields are from now on.

        A column's type is never replaced by one that does not hold its old values: it is widened,
        or, where bytes meet something else, the field goes on in a column of its own, `x__blob`.
        """
        growing = _GrowingColumns(self.columns)
        for column in new:
            places = growing.of_field(column)
            if not places:
                growing.append(column, column.name)
                continue
            types = [growing.columns[at].type for at in places]
            if any(holds(type_, column.type) for type_ in types):
                continue
            wider = widened(types[0], column.type)
            if wider is not None:
                growing.widen(places[0], wider)
            else:
                growing.append(column, f"{column.name}__{_word(column.type)}")
        return Schema(tuple(growing.columns))

    def column_for(self, announced: Column) -> Column | None:
        """The column that takes a field's values while the source says that it is so."""
        fitting = (c for c in self.columns if _field(c) == _field(announced))
        return next((c for c in fitting if holds(c.type, announced.type)), None)

    def with_missing(self, other: Schema) -> Schema:
        """This schema, and behind it the columns that only the other one has."""
        known = {c.name for c in self.columns}
        return Schema(self.columns + tuple(c for c in other.columns if c.name not in known))

    def united(self, other: Schema) -> Schema:
        """The columns of both; one that has two types gets one that holds both."""
        theirs = {c.name: c.type for c in other.columns}
        mine = (
            replace(c, type=widened(c.type, theirs.get(c.name, c.type)) or "VARCHAR")
            for c in self.columns
        )
        return Schema(tuple(mine)).with_missing(other)

    def tells_zero_dates(self, column: Column) -> bool:
        """Whether a column of dates has another beside it that says where MySQL's are zeros."""
        if column.type not in DATE_TYPES:
            return False
        return any(c.type == ZERO_DATE and c.field == column.field for c in self.columns)

    def relation(self, kind: Kind) -> tuple[tuple[str, str], ...]:
        """(name, stored type) of all columns of the raw table, the lake's own included."""
        own = tuple((c.name, storage_type(c.type)) for c in self.columns)
        return own + row_columns(kind)

    def dump(self) -> str:
        """As JSON, for the ledger."""
        return json.dumps(
            [
                [c.name, c.type, c.field, c.provenance, *([c.former] if c.former else [])]
                for c in self.columns
            ]
        )

    @classmethod
    def load(cls, text: str) -> Schema:
        """From the ledger's JSON."""
        return cls(
            tuple(
                Column(name, type_, field, provenance, tuple(former[0]) if former else ())
                for name, type_, field, provenance, *former in json.loads(text)
            )
        )

    def former_types(self) -> dict[str, tuple[str, ...]]:
        """The types that columns of text had before, by the column's name."""
        return {c.name: c.former for c in self.columns if c.former}


_Field = tuple[str, bool, bool]


def _field(column: Column) -> _Field:
    """What two columns of one field have in common; one of zero dates only stands beside it."""
    return column.field, column.provenance, column.type == ZERO_DATE


class _GrowingColumns:
    """Columns to which others are added; each look takes as long with ten as with ten thousand."""

    def __init__(self, columns: Iterable[Column]) -> None:
        self.columns = list(columns)
        self._names = UniqueNames(c.name for c in self.columns)
        self._places: dict[_Field, list[int]] = {}
        for at, column in enumerate(self.columns):
            self._places.setdefault(_field(column), []).append(at)

    def of_field(self, column: Column) -> Sequence[int]:
        """The places of the columns that have a column's field, in their order."""
        return self._places.get(_field(column), ())

    def retype(self, at: int, type_: str) -> None:
        was = self.columns[at]
        is_text = storage_type(type_) == "VARCHAR" != storage_type(was.type)
        former = (*was.former, was.type) if is_text else was.former
        self.columns[at] = replace(was, type=type_, former=former)

    def widen(self, at: int, type_: str) -> None:
        """Give a column a type whose values are known to be printed alike: by their position."""
        self.columns[at] = replace(self.columns[at], type=type_)

    def append(self, column: Column, name: str) -> None:
        """Add a column under a name, or under one like it that no other column has."""
        self._places.setdefault(_field(column), []).append(len(self.columns))
        self.columns.append(replace(column, name=self._names.take(name)))


def _word(type_: str) -> str:
    """A type as a part of a column's name: `blob`, `varchar`, `decimal`."""
    return type_.partition("(")[0].replace(" ", "_").lower()


def source_column(field: str, type_: str) -> Column:
    """A column from a record's value, named by `column_name`."""
    return Column(column_name(field), type_, field)


def zero_date_column(column: Column) -> Column:
    """The column that says where MySQL has zeros for a date, which no DATE can hold."""
    return Column(f"_zero_{column.name}", ZERO_DATE, column.field)


def provenance_column(field: str) -> Column:
    """A column `_{field}` from the provenance header."""
    return Column(f"_{field}", PROVENANCE_TYPES.get(field, "VARCHAR"), field, provenance=True)


def storage_type(type_: str) -> str:
    """The type in files and views: JSON is kept as the text that came."""
    return STORED.get(type_, type_)
