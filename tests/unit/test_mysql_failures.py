"""What ended Debezium's task, out of the stack traces that Connect shows."""

from __future__ import annotations

import pytest

from lake.errors import BinlogLost, ServiceUnreachable, SourceError
from producers.mysql.connect_rest import ConnectRest
from producers.mysql.failures import cause, failure

OUTER = (
    "org.apache.kafka.connect.errors.ConnectException: An exception occurred in the change event"
)


def trace(*causes: str) -> str:
    return "\n\tat x.Y.z(Y.java:1)\n".join([OUTER, *(f"Caused by: {cause}" for cause in causes)])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (trace("a.B: outer", "c.D$E: the reason"), "D$E: the reason"),
        (trace("a.B"), "B"),
        ("java.lang.IllegalStateException: alone\n\tat x", "IllegalStateException: alone"),
        ("", ""),
    ],
)
def test_the_last_cause_is_kept(text: str, wanted: str) -> None:
    assert cause(text) == wanted


@pytest.mark.parametrize(
    ("message", "kind", "what", "remedy"),
    [
        (
            "org.apache.kafka.common.errors.RecordTooLargeException: 17000000 bytes",
            SourceError,
            "does not take (RecordTooLargeException: 17000000 bytes)",
            "max.message.bytes",
        ),
        (
            "com.github.shyiko.mysql.binlog.network.ServerException: Cannot replicate because the"
            " master purged required binary logs.",
            BinlogLost,
            "changes are lost",
            "ducklake backfill shop --reset",
        ),
        (
            "java.sql.SQLException: Access denied; you need (at least one of) the REPLICATION SLAVE"
            " privilege(s) for this operation",
            SourceError,
            "lacks REPLICATION SLAVE",
            "GRANT REPLICATION SLAVE",
        ),
        ("java.io.EOFException", ServiceUnreachable, "had failed (EOFException)", "restarted"),
        (
            "java.sql.SQLException: login as ducklake/s3cret-word refused",
            ServiceUnreachable,
            "login as ducklake/*** refused",
            "restarted",
        ),
        ("java.lang.ClassNotFoundException: ducklake.X", SourceError, "does not find", "converter"),
    ],
)
def test_a_failure_has_a_name_a_cause_and_a_way_out(
    message: str, kind: type[Exception], what: str, remedy: str
) -> None:
    connect = ConnectRest("http://localhost:1", "lake-shop", ("s3cret-word",))
    error = failure(connect, "shop", ["", trace("a.B: outer", message)])
    connect.close()
    assert type(error) is kind
    assert what in error.what and remedy in error.remedy
    assert "s3cret" not in str(error)
