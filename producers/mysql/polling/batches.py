"""The batches of one polled table: rows as records, with the cursor that stands behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lake.records import Record
from producers.base import Batch
from producers.mysql.polling.cursor import PollCursor
from producers.mysql.polling.definition import Definition
from producers.mysql.polling.options import PollOptions
from producers.mysql.polling.reader import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    Chunk,
    DefinitionChanged,
    PollReader,
)
from producers.mysql.polling.records import row_record, source_block
from producers.mysql.polling.requests import PollRequests
from producers.mysql.tables import MysqlTable

UNIT = "rows"


class TableBatches:
    """What every reading of a table has in common.

    Args:
        source: The source.
        names: The table's names.
        options: How it is polled.
        requests: What others ask for.

    Attributes:
        cursor: As of the last batch that is in Kafka; newer where nothing had to be written.
        definition: As it was read last.
        refused: The request that MySQL refused, and why.
    """

    def __init__(
        self, source: str, names: MysqlTable, options: PollOptions, requests: PollRequests
    ) -> None:
        self.cursor = PollCursor()
        self.definition: Definition | None = None
        self.refused = ""
        self._source = source
        self._names = names
        self._options = options
        self._requests = requests
        self._rows_at_once = 0

    def _step(self, changes: Mapping[str, Any], moment: int) -> Iterator[Batch]:
        following = self.cursor.advanced(moment, **changes)
        yield Batch(self._names.name, UNIT, following.dump())
        self.cursor = following

    def _about(self, cursor: PollCursor, op: str, row: int) -> dict[str, Any]:
        block = source_block(self._source, self._names, cursor.number, cursor.moment, row)
        return {"op": op, "source": block}

    def _behind(
        self, chunk: Chunk, before: tuple[str | None, ...] | None
    ) -> tuple[str | None, ...] | None:
        after = chunk.rows[-1].place
        if after == before:
            raise RuntimeError("the rows behind a place are not told from those before")
        return after

    def _adapt(self, encoded: Sequence[bytes]) -> None:
        self._rows_at_once = rows_at_once(sum(map(len, encoded)) // max(1, len(encoded)))

    def _compare(self, reader: PollReader, definition: Definition) -> None:
        """A column that was added at once is not noticed by a SELECT that names all columns."""
        if reader.definition(self._names).digest != definition.digest:
            raise DefinitionChanged(f"{self._names.sql} was altered.", "It is read again.")

    def _records(
        self,
        definition: Definition,
        chunk: Chunk,
        encoded: Sequence[bytes],
        numbers: Iterable[int],
        about: tuple[str, PollCursor],
    ) -> list[Record]:
        """Some rows of a chunk, by their numbers, with an operation and the batch's cursor."""
        op, cursor = about
        return [
            row_record(
                definition,
                chunk.rows[number].value,
                encoded[number],
                self._about(cursor, op, place),
            )
            for place, number in enumerate(numbers)
        ]


def rows_at_once(row_bytes: int) -> int:
    """How many rows of a length are read at once."""
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES // max(1, row_bytes)))
