"""One JSON object a record, as producers write it, with its provenance in a header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from consumers.ingest.decoding.record_format import RecordFormat, RowImage
from consumers.ingest.decoding.row_sql import SOURCE_TS, shape
from lake.records import Kind
from lake.storage.mysql_types import TIMESTAMPTZ


class PlainJson(RecordFormat):
    """The value is the row."""

    kind: ClassVar[Kind] = "plain"
    images = (RowImage("$", "x", "x IS NULL"),)
    has_provenance = True
    infers_types = True
    json_shape = "JSON"
    tells_zero_dates = False
    envelope = "NULL"
    row = "v"
    no_row = "the value is not a JSON object"
    operation = "'r'"
    source_ts = f"TRY_CAST(y.{SOURCE_TS} AS {TIMESTAMPTZ})"
    position = ()

    def parsed(self, image: RowImage, fields: Mapping[str, str]) -> str:
        """Parse the row."""
        return f"from_json(v, {shape(fields)}) AS x"
