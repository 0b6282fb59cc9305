"""What a connector is: one class with one method that matters, `poll`.

A connector only reads its source and says what is new; `producers.transactions` puts each batch
and its cursor into Kafka in one transaction. A simple connector offers `extract` instead.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import pandas as pd

from ducklake.config import Config, Endpoints, Source, Table
from ducklake.errors import ConfigError
from ducklake.records import Record, Reject

Cursors = Mapping[str, Mapping[str, Any]]
"""Cursors of one source by unit (a file, a URL, a frame); what a cursor holds is the connector's."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that go into Kafka together with the cursor that says that they are there.

    Attributes:
        table: The table whose cursor moves.
        unit: The part of the table's source that was read, such as a file's name.
        cursor: The unit's new cursor, JSON-serialisable.
        records: Rows; may be empty where only the cursor moves.
        rejects: What could not be parsed.
    """

    table: str
    unit: str
    cursor: Mapping[str, Any]
    records: Sequence[Record] = ()
    rejects: Sequence[Reject] = ()

    @property
    def key(self) -> str:
        """The cursor's key within its source."""
        return f"{self.table}:{self.unit}"


class Connector(ABC):
    """A source.

    Args:
        name: The source's key in `ducklake.yml`; topics are `{name}.{table}`.
        source: Its section of the configuration.
        config: The whole configuration.
        endpoints: Where the services are.
    """

    writes_records = True
    """False where the records reach Kafka by another way (Debezium)."""

    def __init__(self, name: str, source: Source, config: Config, endpoints: Endpoints) -> None:
        self.name = name
        self.source = source
        self.config = config
        self.endpoints = endpoints

    @abstractmethod
    def poll(self, cursors: Cursors) -> Iterator[Batch]:
        """Read what is new; called every `poll_seconds`, and once more after a failure.

        Args:
            cursors: Cursors as Kafka has them, by `{table}:{unit}`.

        Yields:
            Batches; each is committed before the next is asked for.

        Raises:
            TransientError: The source does not answer; it is asked again later.
            SourceError: The source cannot be read as configured.
        """

    @abstractmethod
    def count(self) -> dict[str, int]:
        """Ask the source itself how many rows each table has now."""

    def settled(self) -> bool:
        """Whether everything that the source held at the last poll is in Kafka."""
        return True

    def close(self) -> None:  # noqa: B027 - most connectors hold nothing
        """Let go of connections."""


class ExtractConnector(Connector):
    """A connector that hands over whole tables; unchanged ones are not sent again."""

    @abstractmethod
    def extract(self) -> dict[str, pd.DataFrame]:
        """Fetch all tables: name to frame, one row a record."""

    def poll(self, cursors: Cursors) -> Iterator[Batch]:
        """Send every frame whose contents have changed."""
        for table, frame in self.extract().items():
            spec = self._table(table)
            rows = orjson.loads(frame.to_json(orient="records", date_format="iso"))
            digest = hashlib.sha256(orjson.dumps(rows)).hexdigest()
            if cursors.get(f"{table}:frame", {}).get("sha256") == digest:
                continue
            about = {"fetched_at": datetime.now(UTC).isoformat()}
            records = [Record(table, record_key(spec, row), row, about) for row in rows]
            yield Batch(table, "frame", {"sha256": digest, "rows": len(rows)}, records)

    def count(self) -> dict[str, int]:
        """Fetch again and count."""
        return {table: len(frame) for table, frame in self.extract().items()}

    def _table(self, table: str) -> Table:
        if table not in self.source.tables:
            raise ConfigError(
                f"Source {self.name}: extract() returned the table {table!r}, which is not"
                " configured.",
                f"Add it under sources.{self.name}.tables in ducklake.yml.",
            )
        return self.source.tables[table]


def record_key(table: Table, row: Mapping[str, Any]) -> str:
    """The record's key: its key columns as JSON, or a digest of the row where none are named."""
    if table.key:
        return orjson.dumps([row.get(column) for column in table.key], default=str).decode()
    return hashlib.sha256(orjson.dumps(row, default=str)).hexdigest()[:32]
