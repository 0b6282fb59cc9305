"""Raw's columns as Iceberg's: which type holds a file's column, and which changes it can follow.

Iceberg has no unsigned integers, and its types widen in few ways: an int to a long, a float to a
double, a decimal to more digits before the point.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
)

from lake.errors import SchemaDrift

LARGEST_LONG = 2**63 - 1
_PLAIN = (
    (pa.types.is_boolean, BooleanType()),
    (pa.types.is_uint32, LongType()),
    (pa.types.is_uint64, LongType()),
    (pa.types.is_int64, LongType()),
    (pa.types.is_integer, IntegerType()),
    (pa.types.is_float64, DoubleType()),
    (pa.types.is_float32, FloatType()),
    (pa.types.is_string, StringType()),
    (pa.types.is_large_string, StringType()),
    (pa.types.is_binary, BinaryType()),
    (pa.types.is_large_binary, BinaryType()),
    (pa.types.is_date32, DateType()),
    (pa.types.is_time64, TimeType()),
)


@dataclass(frozen=True, slots=True)
class FileColumns:
    """The columns of one public file.

    Attributes:
        path: The file.
        types: Iceberg's type of each column, in the file's order.
    """

    path: Path
    types: dict[str, IcebergType]


def columns_of(path: Path) -> FileColumns:
    """The columns of a public file, from its footer.

    Raises:
        SchemaDrift: A value or a type has no place in Iceberg.
        FileNotFoundError: It is gone.
    """
    footer = pq.read_metadata(path)
    schema = footer.schema.to_arrow_schema()
    for at, field in enumerate(schema):
        if pa.types.is_uint64(field.type):
            _must_fit(footer, at, field.name, path)
    return FileColumns(path, {field.name: type_of(field, path) for field in schema})


def type_of(field: pa.Field, path: Path) -> IcebergType:
    """Iceberg's type of a file's column.

    Raises:
        SchemaDrift: There is none.
    """
    if pa.types.is_decimal(field.type):
        return DecimalType(field.type.precision, field.type.scale)
    if pa.types.is_timestamp(field.type):
        return TimestamptzType() if field.type.tz else TimestampType()
    for fits, type_ in _PLAIN:
        if fits(field.type):
            return type_
    raise SchemaDrift(
        f"Iceberg has no type for column {field.name} ({field.type}) of {path}.",
        "The table is read from its files, as before.",
    )


def _must_fit(footer: pq.FileMetaData, column: int, name: str, path: Path) -> None:
    """Refuse unsigned values that Iceberg's largest integer does not hold."""
    for group in range(footer.num_row_groups):
        about = footer.row_group(group).column(column)
        if about.statistics is None or not about.statistics.has_min_max:
            if about.statistics is not None and about.statistics.null_count == about.num_values:
                continue
            largest = None
        else:
            largest = about.statistics.max
        if largest is None or int(largest) > LARGEST_LONG:
            raise SchemaDrift(
                f"Column {name} of {path} has values above {LARGEST_LONG}, and Iceberg has no"
                " integer for them.",
                "The table is read from its files, as before.",
            )


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """What a table's schema needs so that it holds some files.

    Attributes:
        added: New columns.
        widened: Known columns with a type that holds more.
        replaced: Known columns that begin anew with another type: no file has the old one.
    """

    added: dict[str, IcebergType]
    widened: dict[str, IcebergType]
    replaced: dict[str, IcebergType]

    def __bool__(self) -> bool:
        return bool(self.added or self.widened or self.replaced)


def change_for(schema: Schema, files: Iterable[FileColumns], anew: bool) -> SchemaChange:
    """What a schema needs so that it holds some files.

    Args:
        schema: The table's.
        files: Files that it is to list.
        anew: Whether the table lists no other files, so that a column may begin anew.

    Raises:
        SchemaDrift: A column of other files has a type that Iceberg cannot widen to theirs.
    """
    known = {field.name: field.field_type for field in schema.fields}
    change = SchemaChange({}, {}, {})
    now: dict[str, IcebergType] = {} if anew else dict(known)
    for file in files:
        for name, type_ in file.types.items():
            wider = type_ if name not in now else wider_of(now[name], type_)
            if wider is None:
                raise _unheld(file, name, now[name], type_)
            now[name] = wider
    for name, type_ in now.items():
        if name not in known:
            change.added[name] = type_
        elif (wider := wider_of(known[name], type_)) != known[name]:
            (change.replaced if wider is None else change.widened)[name] = type_
    return change


def _unheld(file: FileColumns, name: str, was: IcebergType, is_: IcebergType) -> SchemaDrift:
    return SchemaDrift(
        f"Column {name} is {is_} in {file.path} and {was} in files before it; Iceberg cannot widen"
        " one to the other.",
        "`ducklake replay TABLE --rebuild` writes all rows that Kafka still holds with one type;"
        " until then, the table is read from its files.",
    )


def wider_of(one: IcebergType, other: IcebergType) -> IcebergType | None:
    """The type of the two that holds both; None where neither does.

    By the format's own rules: pyiceberg's `promote` takes decimals of another scale, too.
    """
    if one == other:
        return one
    if {type(one), type(other)} == {IntegerType, LongType}:
        return LongType()
    if {type(one), type(other)} == {FloatType, DoubleType}:
        return DoubleType()
    if not (isinstance(one, DecimalType) and isinstance(other, DecimalType)):
        return None
    same_scale = one.scale == other.scale
    return max(one, other, key=lambda decimal: decimal.precision) if same_scale else None


def fields_of(files: Iterable[FileColumns]) -> Iterator[NestedField]:
    """The columns of a new table that holds some files, numbered from 1."""
    change = change_for(Schema(), files, anew=False)
    for number, (name, type_) in enumerate(change.added.items(), 1):
        yield NestedField(number, name, type_, required=False)
