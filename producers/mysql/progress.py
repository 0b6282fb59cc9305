"""How far Debezium is: which of the server's transactions are in Kafka with all their rows."""

from __future__ import annotations

from lake.config import MysqlConnection
from producers.mysql.connect_rest import ConnectRest
from producers.mysql.query import ask, binlog_status
from producers.mysql.server_log import check_log


class DebeziumProgress:
    """Compares the offsets that Connect has committed with the server.

    Args:
        server: The MySQL server.
        connect: The connector's REST.
    """

    def __init__(self, server: MysqlConnection, connect: ConnectRest) -> None:
        self._server = server
        self._connect = connect

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

    def _is_at_the_end(self) -> bool:
        """Whether Debezium has read the server's log to its end.

        It confirms a transaction with an event that comes after it, and not always: a change of a
        table's definition, at the very end of the log, may wait there for ever. An offset at the
        end of the log is a heartbeat's, which Connect sends after all rows before it.
        """
        [version] = ask(self._server, "SELECT VERSION()")
        end = ask(self._server, binlog_status(str(version)))[:2]
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
