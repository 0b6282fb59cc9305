"""What tells one format of records from another: all that the steps of decoding ask about it.

SQL of a format is over these names: `v` (the value's text), `e` (the envelope, parsed) and `y`
(the fields of the provenance header, parsed as text).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from confluent_kafka import Message

from lake.records import Kind


@dataclass(frozen=True, slots=True)
class RowImage:
    """A place in a record's value where its row may stand.

    Attributes:
        path: As a JSON path.
        row: SQL of the row's fields as texts, in what `RecordFormat.parsed` makes of the value.
        is_missing: SQL: whether a record has no row where it should have one.
        operation: The `_op` of the records whose row stands here; None: of all others.
    """

    path: str
    row: str
    is_missing: str
    operation: str | None = None

    @property
    def pointer(self) -> str:
        """The place as a JSON pointer."""
        return self.path.removeprefix("$").replace(".", "/")


class RecordFormat(ABC):
    """How the records of a table hold their rows.

    Attributes:
        kind: Its name elsewhere, which says which system columns a row has.
        images: Where a row may stand, the usual place first.
        has_provenance: Whether records have the provenance header, whose fields are columns.
        infers_types: Whether a field without a declared type gets that of its JSON values; else
            it is text.
        json_shape: `JSON` if a column of that type is a part of the record's JSON, `VARCHAR` if it
            is a string that holds JSON.
        tells_zero_dates: Whether a date of zeros comes as such.
        envelope: SQL of the envelope, out of `v`.
        row: SQL of the row as JSON, out of `v` and `e`.
        no_row: The reason of the dead letter that a record without a row becomes.
        operation: SQL of `_op`.
        source_ts: SQL of `_source_ts`.
        position: SQL of the record's place in its source, in the order of the system columns.
    """

    kind: ClassVar[Kind]
    images: ClassVar[tuple[RowImage, ...]]
    has_provenance: ClassVar[bool]
    infers_types: ClassVar[bool]
    json_shape: ClassVar[str]
    tells_zero_dates: ClassVar[bool]
    envelope: ClassVar[str]
    row: ClassVar[str]
    no_row: ClassVar[str]
    operation: ClassVar[str]
    source_ts: ClassVar[str]
    position: ClassVar[tuple[str, ...]]

    def database_of(self, messages: Sequence[Message]) -> str:
        """The database that some records of one table come from; empty where there is none."""
        return ""

    @abstractmethod
    def parsed(self, image: RowImage, fields: Mapping[str, str]) -> str:
        """SQL (`… AS name`) that parses a value once: its envelope and the row in one image.

        Args:
            image: One of this format's images.
            fields: Key of the row's JSON object to the shape of its value.
        """
