"""How far Debezium is: which of the server's transactions are in Kafka with all their rows."""

from __future__ import annotations

import time
from collections import deque

from lake.config import MysqlConnection
from producers.mysql.connect_rest import ConnectRest
from producers.mysql.query import ask, binlog_end
from producers.mysql.server_log import check_log

Place = tuple[str, int]
"""A file of the binlog, and the position in it; later places are greater."""
PLACES = 720


class BinlogClock:
    """Remembers when the binlog's end was first seen at each place: the lag in seconds follows.

    An offset tells when the last change that was read happened, not for how long the next waits.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[Place, float]] = deque(maxlen=PLACES)

    def behind(self, read: Place, end: Place, now: float) -> float:
        """For how many seconds the oldest change that was not read has waited.

        Args:
            read: How far the log was read.
            end: Where it ends now.
            now: The time in seconds.
        """
        if not self._seen or self._seen[-1][0] != end:
            self._seen.append((end, now))
        while self._seen and self._seen[0][0] <= read:
            self._seen.popleft()
        return max(0.0, now - self._seen[0][1]) if self._seen and end > read else 0.0


class DebeziumProgress:
    """Compares the offsets that Connect has committed with the server.

    Args:
        server: The MySQL server.
        connect: The connector's REST.
    """

    def __init__(self, server: MysqlConnection, connect: ConnectRest) -> None:
        self._server = server
        self._connect = connect
        self._clock = BinlogClock()

    def check_log(self, source: str) -> None:
        """See that the server's log continues what was read.

        Raises:
            BinlogLost: It does not, with the way out.
            ServiceUnreachable: MySQL or Connect does not answer.
        """
        check_log(self._server, source, self._connect.offsets())

    def holds(self, delivered: str, wanted: str) -> bool:
        """Whether all rows of some transactions are in Kafka.

        Args:
            delivered: What `delivered` has said.
            wanted: The transactions, as a set of GTIDs.

        Raises:
            ServiceUnreachable: MySQL or Connect does not answer.
        """
        # MySQL itself compares the two sets of transactions.
        [whole] = ask(self._server, "SELECT GTID_SUBSET(%s, %s)", wanted, delivered)
        return bool(whole) or self._is_at_the_end()

    def behind(self) -> float | None:
        """For how many seconds a change has waited in the binlog; None before the snapshot's end.

        Raises:
            SourceError: The server writes no binlog.
            ServiceUnreachable: MySQL or Connect does not answer.
        """
        streaming = [o for o in self._connect.offsets() if o.get("file") and not o.get("snapshot")]
        if not streaming:
            return None
        read = max((str(o["file"]), int(o.get("pos") or 0)) for o in streaming)
        return self._clock.behind(read, binlog_end(self._server), time.monotonic())

    def _is_at_the_end(self) -> bool:
        """Whether Debezium has read the server's log to its end.

        It confirms a transaction with an event that comes after it, and not always: a change of a
        table's definition, at the very end of the log, may wait there for ever. An offset at the
        end of the log is a heartbeat's, which Connect sends after all rows before it.
        """
        end = binlog_end(self._server)
        return any((o.get("file"), o.get("pos")) == end for o in self._connect.offsets())

    def delivered(self) -> str | None:
        """The transactions that are in Kafka with all their rows; None before the snapshot's end.

        Connect commits an offset in the transaction of the rows before it, and Debezium adds a
        transaction to the set only with the first event after its last row.
        """
        for offset in self._connect.offsets():
            if offset.get("gtids") is not None and not offset.get("snapshot"):
                return str(offset["gtids"])
        return None
