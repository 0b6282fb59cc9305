"""Tables whose old rows a statement has changed, which no event tells: they are read as a whole.

Another table took the name; a column got another name, type or key, or a value in the rows that
were there. The notice of it stays until the table has been read.
"""

from __future__ import annotations

from collections.abc import Collection

import structlog

from lake.config import Endpoints, Source
from lake.errors import SourceError
from producers.mysql.backfill import Backfills
from producers.mysql.column_history import had_column_before
from producers.mysql.notice_texts import REPLACED_KIND
from producers.mysql.notices import Notice, Notices

log = structlog.get_logger()
EVOLVE = "evolve"
Place = tuple[str, str, str, int]
"""A table, the kind of a notice, and where in the binlog it stands."""


class ChangedTables:
    """Has the changed tables of one source read again.

    Args:
        name: The source's name.
        source: Its section.
        endpoints: Where Kafka is.
        notices: What is told of its tables.
        backfills: Reads them.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        endpoints: Endpoints,
        notices: Notices,
        backfills: Backfills,
    ) -> None:
        self._name = name
        self._source = source
        self._endpoints = endpoints
        self._notices = notices
        self._backfills = backfills
        self._read_anew: set[Place] = set()

    def look(self, followed: Collection[str]) -> None:
        """Read what was told, and request what follows from it.

        Once for each change: a table that cannot be read `differs` with its remedy.

        Args:
            followed: The tables that the connector follows.

        Raises:
            ServiceUnreachable: Kafka or MySQL does not answer.
        """
        self._notices.read()
        self._notices.judge_added(self._is_back)
        changed = self._notices.to_read_again()
        # one that was settled may be told again, by a connector that begins at its statement
        self._read_anew &= {_place(table, notice) for table, notice in changed}
        for table, notice in changed:
            if table in followed and self._follows_by_itself(table, notice):
                self._read_again(table, notice)

    def _is_back(self, notice: Notice) -> bool:
        return had_column_before(self._endpoints, self._name, notice)

    def _follows_by_itself(self, table: str, notice: Notice) -> bool:
        """Whether nobody has to accept the change before its rows are taken."""
        return notice.kind == REPLACED_KIND or self._source.tables[table].drift == EVOLVE

    def _read_again(self, table: str, notice: Notice) -> None:
        place = _place(table, notice)
        if place in self._read_anew:
            return
        if self._backfills.is_reading(table):  # perhaps since before the change
            return
        self._read_anew.add(place)
        try:
            self._backfills.request(table)
        except SourceError as error:
            log.warning(
                "changed_table_not_read",
                message="A table whose old rows are others in MySQL cannot be read as a whole.",
                table=f"{self._name}.{table}",
                reason=str(error),
            )


def _place(table: str, notice: Notice) -> Place:
    return table, notice.kind, notice.file, notice.pos
