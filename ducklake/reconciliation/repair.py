"""Mends what a comparison found: rows are read again, and deletes are written.

The order of a key's versions is that of the offsets in its partition, and what a repair writes
comes last there. A row that the shop inserts while its delete is being written would be deleted by
it: the comparison that follows every repair finds it, and it is read again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing

from ducklake.reconciliation.comparison import MOST_ROWS, Comparison
from lake.config import Config, Endpoints, TableRef
from lake.errors import ServiceUnreachable, SourceError
from producers.mysql.canonical_sql import condition
from producers.mysql.cdc import MysqlCdcConnector
from producers.mysql.polling.connector import MysqlPollConnector
from producers.mysql.repair import RepairWriter, SurplusRow
from producers.registry import connector

KEYS_AT_ONCE = 500
PATIENCE = 300.0
"""Seconds without progress after which a repair stops waiting for the rows."""
LOOK_SECONDS = 0.5


class Repair:
    """Mends tables of MySQL sources.

    Args:
        config: The configuration.
        endpoints: Where the services are.
        wait: Sleeps; raises to stop.
    """

    def __init__(
        self,
        config: Config,
        endpoints: Endpoints,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._config = config
        self._endpoints = endpoints
        self._wait = wait

    def mend(self, ref: TableRef, comparison: Comparison) -> int:
        """Mend what differs; gives the number of rows.

        Raises:
            SourceError: The table has no key, or cannot be read again.
            ServiceUnreachable: Kafka or Connect does not answer.
        """
        found = comparison.found
        if not comparison.table.key:
            raise SourceError(
                f"{ref.topic}: a row of a table without a key cannot be mended.",
                "Give the table a primary key, or replace the table in the lake: see"
                " `ducklake reset`.",
            )
        with closing(connector(self._config, self._endpoints, ref.source)) as source:
            assert isinstance(source, MysqlCdcConnector | MysqlPollConnector), "compared"
            if found.surplus:
                rows = [SurplusRow(key, v.partition) for key, v in found.surplus.items()]
                RepairWriter(self._endpoints, ref.source).delete(
                    comparison.table, source.tables[ref.table], rows, comparison.position
                )
            for where in _conditions(comparison):
                if isinstance(source, MysqlPollConnector):
                    self._poll_again(source, ref.table, where)
                else:
                    self._read_again(source, ref.table, where)
        return found.count

    def _read_again(self, source: MysqlCdcConnector, table: str, where: str) -> None:
        request = source.backfills.request(table, where)
        deadline, seen = time.monotonic() + PATIENCE, ""
        while True:
            source.backfills.advance(source.rest)
            state = source.backfills.state(request.id)
            if state is not None and state.done:
                if state.reason:
                    raise SourceError(
                        f"{source.name}.{table} could not be read again: {state.reason}.",
                        "`ducklake backfill` says more.",
                    )
                return
            if repr(state) != seen:
                deadline, seen = time.monotonic() + PATIENCE, repr(state)
            if time.monotonic() > deadline:
                raise ServiceUnreachable(
                    f"{source.name}.{table}: Debezium did not read the rows again within"
                    f" {PATIENCE:.0f} s.",
                    "`ducklake status` says how the source is; repair the table once it runs.",
                )
            self._wait(LOOK_SECONDS)

    def _poll_again(self, source: MysqlPollConnector, table: str, where: str) -> None:
        request = source.read_again(table, where)
        deadline = time.monotonic() + PATIENCE
        while source.requests.is_open(request):
            if time.monotonic() > deadline:
                raise ServiceUnreachable(
                    f"{source.name}.{table}: nobody read the rows again within {PATIENCE:.0f} s.",
                    f"Run `ducklake produce {source.name}` (or `ducklake run`): it reads them as"
                    " requested; then compare again.",
                )
            self._wait(LOOK_SECONDS)


def _conditions(comparison: Comparison) -> Iterator[str]:
    """Which rows of MySQL have to be read again; an empty condition means all of them."""
    found = comparison.found
    keys = [*found.missing, *found.differing]
    if found.unread or len(keys) > MOST_ROWS:
        yield ""
        return
    for first in range(0, len(keys), KEYS_AT_ONCE):
        yield condition(comparison.table.key, keys[first : first + KEYS_AT_ONCE])
