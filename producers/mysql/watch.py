"""Watching a connector in Kafka Connect: what has failed or stalled is restarted, and said."""

from __future__ import annotations

import time

from lake.config import MysqlConnection
from lake.errors import ServiceUnreachable, SourcePaused
from producers.mysql.connect_rest import ConnectRest
from producers.mysql.failures import failure
from producers.mysql.progress import DebeziumProgress
from producers.mysql.query import ask
from producers.mysql.stall import StallWatch

START_SECONDS = 10.0
START_PAUSE_SECONDS = 0.2


class ConnectorWatch:
    """Looks at one connector.

    Args:
        source: The name of its source.
        connect: Its REST.
        server: The MySQL server that it reads.
        progress: How far it is.
    """

    def __init__(
        self,
        source: str,
        connect: ConnectRest,
        server: MysqlConnection,
        progress: DebeziumProgress,
    ) -> None:
        self._source = source
        self._connect = connect
        self._server = server
        self._progress = progress
        self._stall = StallWatch()

    def await_start(self) -> None:
        """Wait while Connect still tells of the tasks that ran before, some of which had failed."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            status = self._connect.status()
            parts = [status.get("connector", {}), *status.get("tasks", [])]
            if len(parts) > 1 and all(part.get("state") == "RUNNING" for part in parts):
                return
            time.sleep(START_PAUSE_SECONDS)

    def look(self) -> None:
        """Restart what has failed, and say so.

        Raises:
            ServiceUnreachable: Something had failed.
            SourcePaused: Somebody has paused or stopped the connector.
            SourceError: The same, and it needs somebody.
        """
        status = self._connect.status()
        tasks = status.get("tasks", [])
        states = [status.get("connector", {}), *tasks]
        failed = [part for part in states if part.get("state") == "FAILED"]
        if failed:
            self._connect.restart()
            raise failure(self._connect, self._source, (p.get("trace", "") for p in failed))
        for part in states:
            if part.get("state") in {"PAUSED", "STOPPED"}:
                raise SourcePaused(
                    f"Debezium's connector {self._connect.connector} is {part['state'].lower()}.",
                    f"Resume it: `ducklake connector resume {self._source}`.",
                )

        self._restart_if_stalled()

    def _restart_if_stalled(self) -> None:
        delivered = self._progress.delivered()
        if delivered is None:
            return  # a snapshot is under way, which has its own pace
        [executed] = ask(self._server, "SELECT @@GLOBAL.gtid_executed")
        caught_up = self._progress.holds(delivered, str(executed).replace("\n", ""))
        position = repr(self._connect.offsets())
        if self._stall.look(position, not caught_up, time.monotonic()):
            self._stall = StallWatch()
            self._connect.restart(all_of_it=True)
            raise ServiceUnreachable(
                f"Debezium's connector {self._connect.connector} lagged and made no progress.",
                "It was restarted; no row is lost or sent twice.",
            )
