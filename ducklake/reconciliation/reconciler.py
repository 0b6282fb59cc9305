"""Compares tables with their source one by one, mends them where asked to, and keeps the results.

A table that cannot be compared has a result, too, and stops no other one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from ducklake.mysql_sources import mysql_source
from ducklake.reconciliation.comparison import Progress, SourceComparison
from ducklake.reconciliation.repair import Repair
from ducklake.reconciliation.result import DIFFERENT, EQUAL, FAILED, LastResults, TableResult
from lake.config import MYSQL_POLL, Config, Endpoints, TableRef
from lake.errors import DuckLakeError, Interrupted
from lake.opening import open_lake
from lake.storage.paths import LakePaths
from producers.mysql.notices import Notices
from producers.mysql.polling.requests import TRUST, PollRequests

log = structlog.get_logger()
ROUNDS = 3
"""How often a table is mended, at most: its rows may change meanwhile."""


class Reconciler:
    """Reconciles tables of one lake with their sources.

    Args:
        config: The configuration.
        endpoints: Where the services are.
        progress: Told how far the reading of MySQL is.
        wait: Sleeps; raises to stop.
        tell: Told what a repair does, in words.
    """

    def __init__(
        self,
        config: Config,
        endpoints: Endpoints,
        progress: Progress = lambda done, total: None,
        wait: Callable[[float], object] = time.sleep,
        tell: Callable[[str], object] = lambda text: None,
    ) -> None:
        self._tell = tell
        self._config = config
        self._endpoints = endpoints
        self._progress = progress
        self._wait = wait
        self._results = LastResults(LakePaths(config.data_dir))

    def reconcile(self, ref: TableRef, repair: bool = False) -> TableResult:
        """Compare a table, keep the result, and announce what is wrong.

        Args:
            ref: The table.
            repair: Mend what differs, and compare again.
        """
        try:
            result = self._compared(ref, repair)
        except Interrupted:
            raise
        except DuckLakeError as error:
            return self.keep_failure(ref, error)
        self._results.keep(result)
        _announce(result)
        if result.state == EQUAL and self._config.settings.sources[ref.source].type == MYSQL_POLL:
            PollRequests(self._config, ref.source).add(TRUST, ref.table)
        elif result.state == EQUAL:
            self._settle_notices(ref, result)
        return result

    def keep_failure(self, ref: TableRef, error: DuckLakeError) -> TableResult:
        """Note that a table could not be compared.

        Args:
            ref: The table.
            error: Why.
        """
        now = time.time()
        result = TableResult(ref.topic, FAILED, now, reason=error.what, remedy=error.remedy)
        self._results.keep(result)
        _announce(result)
        return result

    def _settle_notices(self, ref: TableRef, result: TableResult) -> None:
        """What the binlog did not tell of the table is made good, up to where MySQL stood."""
        place = _place(result.position)
        if place is None:
            return
        _, tables = mysql_source(self._config, ref.source)
        notices = Notices(self._config.settings.name, ref.source, tables, self._endpoints)
        try:
            notices.settle(ref.table, place)
            places = [self._equal_at(TableRef(ref.source, name).topic) for name in tables]
            if all(places):
                notices.settle_all(filter(None, places))
        except DuckLakeError as error:
            log.warning(
                "notices_not_settled",
                message="Notices of a table that is equal again could not be settled.",
                table=ref.topic,
                reason=str(error),
            )
        finally:
            notices.close()

    def _equal_at(self, topic: str) -> tuple[str, int] | None:
        """Where a table was equal when it was last compared; None if it was not."""
        found = (result for result in self._results.all() if result.table == topic)
        last = next(found, None)
        return _place(last.position) if last is not None and last.state == EQUAL else None

    def _compared(self, ref: TableRef, repair: bool) -> TableResult:
        mended = 0
        with open_lake(self._config, for_writing=False) as lake:
            comparison = SourceComparison(
                self._config, self._endpoints, lake, self._progress, self._wait
            )
            found = comparison.compare(ref)
            for _ in range(ROUNDS if repair else 0):
                if found.result.state != DIFFERENT:
                    break
                try:
                    self._tell(f"{ref.topic}: {found.result.summary()}; they are mended")
                    repair_of = Repair(self._config, self._endpoints, self._wait, self._tell)
                    mended += repair_of.mend(ref, found)
                except Interrupted:
                    raise
                except DuckLakeError as error:
                    return replace(found.result, reason=error.what, remedy=error.remedy)
                found = comparison.compare(ref)
        return replace(found.result, repaired=mended)


def _place(position: str) -> tuple[str, int] | None:
    file, _, place = position.rpartition(":")
    return (file, int(place)) if place.isdecimal() else None


def _announce(result: TableResult) -> None:
    if result.state == FAILED:
        log.warning(
            "reconciliation_failed",
            message="A table could not be compared with its source.",
            table=result.table,
            reason=f"{result.reason} {result.remedy}".strip(),
        )
    elif result.state == DIFFERENT:
        log.error(
            "source_differs",
            message="The lake does not hold what the source holds.",
            table=result.table,
            differences=result.summary(),
            position=result.position,
        )
    else:
        log.info(
            "source_equal",
            message="The lake holds what the source holds.",
            table=result.table,
            rows=result.source_rows,
            position=result.position,
        )
