"""Mends what a comparison found: rows are read again, and deletes are written.

The order of a key's versions is that of the offsets in its partition, and what a repair writes
comes last there. A row that the shop inserts while its delete is being written would be deleted by
it: the comparison that follows every repair finds it, and it is read again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from ducklake.reconciliation.comparison import MOST_ROWS, Comparison
from lake.config import Config, Endpoints, TableRef
from lake.errors import ServiceUnreachable, SourceError
from producers.mysql.canonical_sql import condition
from producers.mysql.cdc import MysqlCdcConnector
from producers.mysql.polling.connector import MysqlPollConnector
from producers.mysql.polling.requests import PollRequest
from producers.mysql.repair import RepairWriter, SurplusRow
from producers.registry import connector

KEYS_AT_ONCE = 2000
"""In one request, which Debezium serves in a few seconds, however few rows it has."""
PATIENCE = 300.0
"""Seconds without progress after which a repair stops waiting for the rows."""
LOOK_SECONDS = 0.5


class Repair:
    """Mends tables of MySQL sources.

    Args:
        config: The configuration.
        endpoints: Where the services are.
        wait: Sleeps; raises to stop.
        tell: Told how far it is, in words.
    """

    def __init__(
        self,
        config: Config,
        endpoints: Endpoints,
        wait: Callable[[float], object] = time.sleep,
        tell: Callable[[str], object] = lambda text: None,
    ) -> None:
        self._config = config
        self._endpoints = endpoints
        self._wait = wait
        self._tell = tell

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
                "Give it one, such as ALTER TABLE … ADD COLUMN id BIGINT AUTO_INCREMENT PRIMARY"
                " KEY, and compare again.",
            )
        with closing(connector(self._config, self._endpoints, ref.source)) as source:
            assert isinstance(source, MysqlCdcConnector | MysqlPollConnector), "compared"
            if found.surplus:
                rows = [SurplusRow(key, v.partition) for key, v in found.surplus.items()]
                RepairWriter(self._endpoints, ref.source).delete(
                    comparison.table, source.tables[ref.table], rows, comparison.position
                )
            conditions = list(_conditions(comparison))
            if isinstance(source, MysqlPollConnector):
                polled = [source.read_again(ref.table, where) for where in conditions]
                self._await_poll(source, ref.table, polled)
            else:
                # All are stored first: Debezium has the next one as soon as it is ready.
                requests = [source.backfills.request(ref.table, where) for where in conditions]
                self._await(source, ref.table, [request.id for request in requests])
        return found.count

    def _await(self, source: MysqlCdcConnector, table: str, ids: Sequence[str]) -> None:
        """Wait until all requests have been served, and say how far that is."""
        topic, seen, told = f"{source.name}.{table}", "", ""
        deadline = time.monotonic() + PATIENCE
        while ids:
            source.backfills.advance(source.rest)
            states = source.backfills.states()
            mine = [state for state in states if state.request.id in ids]
            failed = next((state for state in mine if state.reason and state.done), None)
            if failed is not None:
                raise SourceError(
                    f"{topic} could not be read again: {failed.reason}.",
                    f"`ducklake backfill {topic}` reads the whole table again; Kafka Connect's log"
                    " says more.",
                )
            if len(mine) == len(ids) and all(state.done for state in mine):
                return
            served = sum(state.done for state in mine)
            others = sum(not s.done and s.request.id not in ids for s in states)
            ahead = f", {others} others of the source are waiting, too" if others else ""
            text = f"{topic}: {served} of {len(ids)} parts read again{ahead}"
            if text != told:
                told = text
                self._tell(text)
            if repr(states) != seen:
                deadline, seen = time.monotonic() + PATIENCE, repr(states)
            if time.monotonic() > deadline:
                raise ServiceUnreachable(
                    f"{topic}: Debezium did not read the rows again within {PATIENCE:.0f} s.",
                    "`ducklake status` says how the source is; repair the table once it runs.",
                )
            self._wait(LOOK_SECONDS)

    def _await_poll(
        self, source: MysqlPollConnector, table: str, requests: Sequence[PollRequest]
    ) -> None:
        deadline, left = time.monotonic() + PATIENCE, -1
        while pending := [r for r in requests if source.requests.is_open(r)]:
            if len(pending) != left:
                deadline, left = time.monotonic() + PATIENCE, len(pending)
                served = len(requests) - left
                text = f"{served} of {len(requests)} parts read again"
                self._tell(f"{source.name}.{table}: {text}")
            if time.monotonic() > deadline:
                raise ServiceUnreachable(
                    f"{source.name}.{table}: nobody read the rows again within {PATIENCE:.0f} s.",
                    f"Run `ducklake produce {source.name}` (or `ducklake run`): it reads them as"
                    " requested; then compare again.",
                )
            self._wait(LOOK_SECONDS)
        for request in requests:
            refused = source.requests.refusal(request)
            if refused is not None:
                what = f"{source.name}.{table} could not be read again: {refused.what}"
                raise SourceError(what, refused.remedy)


def _conditions(comparison: Comparison) -> Iterator[str]:
    """Which rows of MySQL have to be read again; an empty condition means all of them."""
    found = comparison.found
    keys = [*found.missing, *found.differing]
    if found.unread or len(keys) > MOST_ROWS:
        yield ""
        return
    for first in range(0, len(keys), KEYS_AT_ONCE):
        yield condition(comparison.table.key, keys[first : first + KEYS_AT_ONCE])
