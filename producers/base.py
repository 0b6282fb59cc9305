"""What a connector is: one class with one method that matters, `poll`.

A connector only reads its source and says what is new; `producers.transactions` puts each batch
and its cursor into Kafka in one transaction. A simple connector offers `extract` instead.
"""

from __future__ import annotations

import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import orjson

from lake.config import Config, Endpoints, Section, Source, Table
from lake.config import Connection as ConnectionBase
from lake.errors import ConfigError
from lake.openlineage.datasets import Dataset
from lake.records import Record, Reject
from producers.connections import ConnectionUse, NoConnection, connect

if TYPE_CHECKING:
    import pandas as pd

Cursors = Mapping[str, Mapping[str, Any]]
"""Cursors of one source by unit (a file, a URL, a frame); their contents are the connector's."""

BATCH_ROWS = 20_000
"""Rows in one transaction: it has to end long before it times out."""
REJECT_BYTES = 1024 * 1024
"""Of unparsable input: more than this is cut."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that go into Kafka together with the cursor that says that they are there.

    Attributes:
        table: The table whose cursor moves.
        unit: The part of the table's source that was read, such as a file's name.
        cursor: The unit's new cursor, JSON-serialisable.
        records: Rows; may be empty where only the cursor moves.
        rejects: What could not be parsed.
        definitions: Changes of the table's definition; rows that have it come in a later batch.
    """

    table: str
    unit: str
    cursor: Mapping[str, Any]
    records: Sequence[Record] = ()
    rejects: Sequence[Reject] = ()
    definitions: Sequence[Mapping[str, Any]] = ()

    @property
    def key(self) -> str:
        """The cursor's key within its source."""
        return f"{self.table}:{self.unit}"


@dataclass(frozen=True, slots=True)
class TableState:
    """A table of which not all is well, while its source goes on.

    Attributes:
        table: Its name; `*` where nobody knows which one it is.
        state: `stopped` where rows are left out, `retrying` where it is asked again soon, `differs`
            where the lake may not be what the source is, `misconfigured` where it is read, but not
            as somebody wanted it.
        reason: What happened, and where.
        remedy: What the reader should do about it.
        next_attempt: When it is asked again, in seconds of the epoch, if that is known.
    """

    table: str
    state: str
    reason: str
    remedy: str
    next_attempt: float | None = None


class NoOptions(Section):
    """The options of what has none."""


class Problem(NamedTuple):
    """What is wrong with a source, and the keys below it that lead there.

    Attributes:
        at: The keys.
        what: What is wrong.
        remedy: What the reader should do about it.
        is_error: False for what only has to be known.
    """

    at: tuple[str, ...]
    what: str
    remedy: str = ""
    is_error: bool = True


@dataclass(frozen=True, slots=True)
class Trouble:
    """A part of a source that cannot be read, while the rest of it can.

    Attributes:
        name: What: `sftp:/upload/stock.csv`.
        since: When that began, in seconds of the epoch.
    """

    name: str
    since: float
    reason: str
    remedy: str


class Connector(ABC):
    """A source.

    Args:
        name: The source's key in `ducklake.yml`; topics are `{name}.{table}`.
        source: Its section of the configuration.
        config: The whole configuration.
        endpoints: Where the services are that all sources share.

    Attributes:
        Options: The model of the source's `options`; a wrong one is an error with its line.
        TableOptions: The model of a table's `options`, unless `table_options_model` says another.
        Connection: The model of the source's `connection`.
        embedded_service: The service of the embedded stack that `connection: embedded` means.
        known_connections: Connections that have a name of their own, such as `public`.
        writes_records: False where the records reach Kafka by another way (Debezium).
        options: The source's options.
        table_options: The options of each table.
        connection: Where the source is.
    """

    Options: ClassVar[type[Section]] = NoOptions
    TableOptions: ClassVar[type[Section]] = NoOptions
    Connection: ClassVar[type[ConnectionBase]] = NoConnection
    embedded_service: ClassVar[str] = ""
    known_connections: ClassVar[Mapping[str, ConnectionBase]] = {}
    writes_records = True
    options: Section
    connection: ConnectionBase

    def __init__(self, name: str, source: Source, config: Config, endpoints: Endpoints) -> None:
        self.name = name
        self.source = source
        self.config = config
        self.endpoints = endpoints
        self.options = self.Options.model_validate(source.options)
        self.table_options: Mapping[str, Section] = {
            table: self.table_options_model(table, spec).model_validate(spec.options)
            for table, spec in source.tables.items()
        }
        [own, *_] = self.connections_used(name, source)
        self.connection = connect(config, own)

    @classmethod
    def table_options_model(cls, table: str, spec: Table) -> type[Section]:
        """The model of a table's `options`."""
        return cls.TableOptions

    @classmethod
    def connections_used(cls, name: str, source: Source) -> Sequence[ConnectionUse]:
        """Every connection that the source needs, its own first."""
        at = ("sources", name, "connection")
        return [
            ConnectionUse(
                at, source.connection, cls.Connection, cls.embedded_service, cls.known_connections
            )
        ]

    @classmethod
    def problems(cls, source: Source) -> Iterator[Problem]:
        """What is wrong with the source's section and no model can tell."""
        yield from ()

    @classmethod
    def project_problems(cls, config: Config, name: str) -> Iterator[Problem]:
        """What is wrong with a source in view of its connection and of the other sources.

        Args:
            config: The configuration; the source's section itself is valid.
            name: The source.
        """
        yield from ()

    @classmethod
    def server_problems(cls, config: Config, name: str) -> Iterator[Problem]:
        """What is wrong with a source in view of its server, which is asked.

        Raises:
            StackNotRunning: The server is the embedded one, and the stack is not up.
            ServiceUnreachable: It does not answer.
            SourceError: It refuses the user.
        """
        yield from ()

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

    def origin(self, table: str) -> Sequence[Dataset]:
        """What a table is at its source, as OpenLineage names it."""
        return (Dataset(f"{self.source.type}://{self.name}", table),)

    def settled(self) -> bool:
        """Whether everything that the source held at the last poll is in Kafka."""
        return True

    def progress(self) -> Mapping[str, Any]:
        """Figures that say how far the source is, for those who watch; plain values.

        `binlog_behind_s`: seconds that a change has waited in a log. `snapshot`: table to its rows,
        while the tables are read for the first time.
        """
        return {}

    def table_states(self) -> Sequence[TableState]:
        """The tables of which not all is well, as of the last poll."""
        return ()

    def troubles(self) -> Sequence[Trouble]:
        """What of the source could not be read at the last poll; it is asked for again."""
        return ()

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Wait for the next poll; shorter where the source itself says that something is new."""
        stop.wait(seconds)

    def close(self) -> None:  # noqa: B027 - most connectors hold nothing
        """Let go of connections."""


class ExtractConnector(Connector):
    """A connector that hands over whole tables; unchanged ones are not sent again."""

    @abstractmethod
    def extract(self) -> dict[str, pd.DataFrame]:
        """Fetch all tables: name to frame, one row a record."""

    def poll(self, cursors: Cursors) -> Iterator[Batch]:
        """Send every frame whose contents have changed."""
        from producers.frames import frame_rows  # pandas takes 40 MB, and only this needs it

        for table, frame in self.extract().items():
            spec = self._table(table)
            rows = frame_rows(frame)
            digest = hashlib.sha256(orjson.dumps(rows, default=str)).hexdigest()
            known = cursors.get(f"{table}:frame", {})
            done = int(known.get("done", 0)) if known.get("sha256") == digest else 0
            if known.get("sha256") == digest and known.get("complete"):
                continue
            about = {"fetched_at": datetime.now(UTC).isoformat()}
            for first in range(done, max(len(rows), 1), BATCH_ROWS):
                part = rows[first : first + BATCH_ROWS]
                end = first + len(part)
                cursor = {"sha256": digest, "done": end, "complete": end == len(rows)}
                records = [Record(table, record_key(spec, row), row, about) for row in part]
                yield Batch(table, "frame", cursor, records)

    def count(self) -> dict[str, int]:
        """Fetch again and count."""
        return {table: len(frame) for table, frame in self.extract().items()}

    def _table(self, table: str) -> Table:
        if table not in self.source.tables:
            raise ConfigError(
                f"Source {self.name}: extract() returned {table!r}, which is not configured.",
                f"Add it under sources.{self.name}.tables in ducklake.yml.",
            )
        return self.source.tables[table]


def record_key(table: Table, row: Mapping[str, Any]) -> str:
    """The record's key: its key columns as JSON, or a digest of the row where none are named."""
    if table.key:
        return orjson.dumps([row.get(column) for column in table.key], default=str).decode()
    return hashlib.sha256(orjson.dumps(row, default=str)).hexdigest()[:32]
