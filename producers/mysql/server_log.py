"""Whether the server's log still continues where Debezium has read to.

A log that was reset, or a server that was restored or replaced, may look like one with nothing to
read; so each poll compares the transactions of both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lake.config import MysqlConnection
from lake.errors import BinlogLost, ServiceUnreachable
from producers.mysql.query import ask, ask_all

_SETS = (
    "SELECT @@GLOBAL.gtid_purged, GTID_SUBSET(%s, @@GLOBAL.gtid_executed),"
    " GTID_SUBSET(@@GLOBAL.gtid_purged, %s), GTID_SUBTRACT(@@GLOBAL.gtid_purged, %s),"
    " GTID_SUBTRACT(%s, @@GLOBAL.gtid_executed), @@server_id, @@server_uuid"
)
_NEXT = re.compile(r"GTID_NEXT= '([0-9a-f-]+):(\d+)'", re.IGNORECASE)
_NO_EVENT = "(1220)"  # ER_ERROR_WHEN_EXECUTING_COMMAND: no event begins at this position


def check_log(server: MysqlConnection, source: str, offsets: Sequence[Mapping[str, Any]]) -> None:
    """Compare what was read with what the server has.

    Args:
        server: The MySQL server.
        source: The name of the source.
        offsets: The source offsets that Connect has committed.

    Raises:
        BinlogLost: Changes are missing between them, or nobody can know.
        ServiceUnreachable: The server does not answer.
    """
    for offset in offsets:
        if offset.get("file") and not offset.get("snapshot"):
            _check_offset(server, source, offset)


def _check_offset(server: MysqlConnection, source: str, offset: Mapping[str, Any]) -> None:
    read = str(offset.get("gtids") or "")
    at = f"MySQL {server.host}:{server.port}"
    remedy = (
        f"What the log no longer has cannot be read from it. `ducklake backfill {source} --reset`"
        " reads all tables again and continues from now on; the lake keeps what it has."
    )
    purged, known, complete, missing, foreign, server_id, uuid = ask(server, _SETS, *[read] * 4)
    if read and not known:
        raise BinlogLost(
            f"{at} does not know transactions that source {source} has read"
            f" ({_short(foreign)}): its log was reset (RESET MASTER), an older backup was"
            " restored, or it is another server.",
            remedy,
        )
    if read and not complete:
        raise BinlogLost(
            f"{at} has purged binlogs that source {source} had not read ({_short(missing)}).",
            f"{remedy} Raise binlog_expire_logs_seconds to bridge longer interruptions.",
        )
    if offset.get("server_id") != server_id or str(purged).strip():
        return  # files have other names on another server, and are purged in the course of time
    is_ours = f"{uuid}:" in read
    sizes = {row[0]: int(row[1]) for row in ask_all(server, "SHOW BINARY LOGS")}
    file, position = str(offset["file"]), int(offset.get("pos") or 0)
    size = sizes.get(file, -1)
    if position > size or (is_ours and position < size and not _continues(server, offset)):
        raise BinlogLost(
            f"{at} has another log than the one that source {source} has read up to"
            f" {file}:{position}: its log was reset (RESET MASTER), or an older backup was"
            " restored.",
            remedy,
        )


def _continues(server: MysqlConnection, offset: Mapping[str, Any]) -> bool:
    """Whether the transaction at the offset's place is the next one.

    A log that was reset soon has as many transactions as before, but others at other places.
    """
    sql = f"SHOW BINLOG EVENTS IN %s FROM {int(offset['pos'])} LIMIT 1"
    try:
        event = ask(server, sql, str(offset["file"]))
    except ServiceUnreachable as error:
        if _NO_EVENT in error.what:
            return False
        raise
    found = _NEXT.search(str(event[5])) if event and event[2] == "Gtid" else None
    if found is None:
        return True
    uuid, number = found[1], int(found[2])
    # one may be missing: Debezium adds a transaction to the set with the event that follows it
    before = [f"{uuid}:{n}" for n in (number - 1, number - 2) if n > 0]
    [is_read, *others] = ask(
        server,
        "SELECT " + ", ".join(["GTID_SUBSET(%s, %s)"] * (len(before) + 1)),
        *[text for gtid in (f"{uuid}:{number}", *before) for text in (gtid, str(offset["gtids"]))],
    )
    return not is_read and (not others or any(others))


def _short(transactions: Any) -> str:
    text = str(transactions).replace("\n", " ")
    return text if len(text) <= 200 else f"{text[:200]}…"
