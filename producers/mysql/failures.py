"""What ended Debezium's task, out of its stack trace, by name and with a way out."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lake.errors import BinlogLost, DuckLakeError, ServiceUnreachable, SourceError
from producers.mysql.connect_rest import NO_JAR, ConnectRest, no_jar

_CAUSE = re.compile(r"^Caused by: (?:[\w$]+\.)*([\w$]+)(?:: (.*))?$", re.MULTILINE)
_FIRST = re.compile(r"^(?:[\w$]+\.)*([\w$]+)(?:: (.*))?$", re.MULTILINE)
_NO_BINLOG = re.compile(
    r"is no longer available on the server|purged required binary logs"
    r"|Could not find first log file name|has purged binary logs"
)
_TOO_LARGE = re.compile(r"RecordTooLargeException")
_GRANT = re.compile(r"Access denied; you need \(at least one of\) the (.+?) privilege")


def cause(trace: str) -> str:
    """The last cause of a stack trace: `Name: message`, on one line."""
    found = _CAUSE.findall(trace) or _FIRST.findall(trace)[:1]
    name, message = found[-1] if found else ("", "")
    return f"{name}: {message}" if message else str(name)


def failure(connect: ConnectRest, source: str, traces: Iterable[str]) -> DuckLakeError:
    """The error of a task that has failed.

    Args:
        connect: The connector.
        source: The source's name.
        traces: The stack traces that Connect shows.
    """
    trace = "\n".join(text for text in traces if text)
    connector, why = connect.connector, connect.clean(cause(trace))
    if NO_JAR.search(trace):
        return no_jar(connector)
    if _NO_BINLOG.search(trace):
        return BinlogLost(
            f"MySQL's binlog no longer holds the changes that Debezium's connector {connector}"
            f" would read next ({why}): changes are lost.",
            f"`ducklake backfill {source} --reset` begins the source anew.",
        )
    if _TOO_LARGE.search(trace):
        return SourceError(
            f"Debezium's connector {connector} has a record that Kafka does not take ({why}).",
            "Raise max.message.bytes of the table's topic, message.max.bytes of the broker and"
            " producer.override.max.request.size under the source's options.",
        )
    if missing := _GRANT.search(trace):
        return SourceError(
            f"MySQL refuses Debezium's connector {connector}: the user lacks {missing[1]}.",
            f"GRANT {missing[1]} ON *.* TO that user.",
        )
    return ServiceUnreachable(
        f"Debezium's connector {connector} had failed ({why}).",
        "It was restarted; if it fails again, Kafka Connect's log says more.",
    )
