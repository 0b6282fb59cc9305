"""The columns that a MySQL table had at each position of the binlog.

A row is decoded by the columns that its table had where the row stands in the binlog, whatever the
table has become since: live, late, in a replay and in `verify` alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import total_ordering
from typing import Any

from lake.storage.mysql_types import mysql_type
from lake.storage.schema import Column, source_column

_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


@total_ordering
@dataclass(frozen=True, slots=True)
class BinlogPosition:
    """A place in a server's binlog: the file's name and the byte in it."""

    file: str
    position: int

    @property
    def _order(self) -> tuple[int, int]:
        # binlog.999999 comes before binlog.1000000
        number = self.file.rpartition(".")[2]
        return (int(number) if number.isdecimal() else 0, self.position)

    def __lt__(self, other: BinlogPosition) -> bool:
        return self._order < other._order


@dataclass(frozen=True, slots=True)
class TableVersion:
    """A table's columns from a place of the binlog on.

    Attributes:
        start: Where the definition stands; rows behind it have these columns.
        since: When it was read, in milliseconds of the epoch.
        columns: With the types that the source gives them.
        statement: That made it.
    """

    start: BinlogPosition
    since: int
    columns: tuple[Column, ...]
    statement: str = field(default="", compare=False)


@dataclass(slots=True)
class TableHistory:
    """The versions of one table, oldest first.

    A binlog that begins again (`RESET MASTER`, another server) counts its positions anew: versions
    are kept by binlog, and the moment of a row says which one it comes from.
    """

    binlogs: list[list[TableVersion]] = field(default_factory=list)

    def add(self, version: TableVersion) -> None:
        """Append a version; one that changes no column is left out."""
        newest = self.newest
        if newest is None or version.start < newest.start:
            self.binlogs.append([version])
        elif version.columns != newest.columns:
            self.binlogs[-1].append(version)

    @property
    def newest(self) -> TableVersion | None:
        """The version that holds now; None where none is known."""
        return self.binlogs[-1][-1] if self.binlogs else None

    @property
    def count(self) -> int:
        """How many versions there are."""
        return sum(map(len, self.binlogs))

    def without(self, versions: Iterable[TableVersion]) -> TableHistory:
        """The history as if some versions had never been."""
        gone = {id(version) for version in versions}
        kept = ([v for v in binlog if id(v) not in gone] for binlog in self.binlogs)
        return TableHistory([binlog for binlog in kept if binlog])

    def __iter__(self) -> Iterator[TableVersion]:
        return (version for binlog in self.binlogs for version in binlog)

    def at(self, place: BinlogPosition, moment: int) -> TableVersion:
        """The version that held at a place of the binlog, at a moment (milliseconds).

        A place before all versions has the oldest one's columns.
        """
        begun = [binlog for binlog in self.binlogs if binlog[0].since <= moment]
        binlog = (begun or self.binlogs[:1])[-1]
        return next((v for v in reversed(binlog) if v.start <= place), binlog[0])


def table_versions(event: Mapping[str, Any]) -> Iterable[tuple[str, str, TableVersion]]:
    """(database, table, version) for each table that a schema-change event defines.

    Args:
        event: The value of a record of Debezium's schema-change topic; it may define tables of
            other databases of the same server.
    """
    source = event.get("source") or {}
    start = BinlogPosition(str(source.get("file") or ""), int(source.get("pos") or 0))
    since = int(source.get("ts_ms") or event.get("ts_ms") or 0)
    statement = str(event.get("ddl") or "")
    for change in event.get("tableChanges") or []:
        described = change.get("table")
        if described:
            database, table = _names(str(change.get("id", "")))
            columns = (source_column(c["name"], mysql_type(c)) for c in described["columns"])
            yield database, table, TableVersion(start, since, tuple(columns), statement)


def _names(identifier: str) -> tuple[str, str]:
    """Database and table of `"database"."table"`, in which a quote within a name is doubled."""
    parts = [part.replace('""', '"') for part in _QUOTED.findall(identifier)]
    return (parts[0], parts[-1]) if len(parts) > 1 else ("", "".join(parts))


class SourceHistory:
    """The versions of all tables of a source."""

    def __init__(self) -> None:
        self._tables: dict[tuple[str, str], TableHistory] = {}

    def add(self, event: Mapping[str, Any]) -> None:
        """Take note of what a schema-change event defines."""
        for database, table, version in table_versions(event):
            self._tables.setdefault((database, table), TableHistory()).add(version)

    def of(self, database: str, table: str) -> TableHistory:
        """The versions of a table.

        Args:
            database: Its database; where a record does not name it, the only one that has a table
                of this name is meant.
            table: Its name.
        """
        known = self._tables.get((database, table))
        if known is None and not database:
            named = [history for (_, name), history in self._tables.items() if name == table]
            known = named[0] if len(named) == 1 else None
        return TableHistory() if known is None else known
