"""A MySQL server as one source needs it: settings, grants, tables, its log, its clock."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ducklake.doctor.clocks import clock
from ducklake.doctor.findings import NOTE, Finding, well, wrong
from lake.config import MYSQL_CDC, Config, Endpoints, MysqlConnection
from lake.errors import BinlogLost, DuckLakeError, ServiceUnreachable, SourceError
from producers.mysql.connect_rest import ConnectRest
from producers.mysql.encryption import TlsRefused
from producers.mysql.neighbours import server_id
from producers.mysql.query import ask
from producers.mysql.server_checks import NOTE as IS_NOTED
from producers.mysql.server_checks import server_problems, table_access_problems
from producers.mysql.server_log import check_log
from producers.mysql.server_state import server_state
from producers.mysql.tables import mysql_tables
from producers.registry import source_connection

LEAST_LOG_SECONDS = 86_400
"""A weekend would be better: a reader that is away for longer has to read all tables again."""


def mysql(config: Config, endpoints: Endpoints, name: str) -> Iterator[Finding]:
    """Everything about the server of one source."""
    at = source_connection(config, name)
    assert isinstance(at, MysqlConnection)
    subject = f"source {name}"
    try:
        yield from _asked(config, endpoints, name, at)
    except ServiceUnreachable as error:
        yield wrong("DL-401", subject, error.what, error.remedy or "ducklake up")
    except TlsRefused as error:
        yield wrong("DL-415", subject, error.what, error.remedy)
    except SourceError as error:
        yield wrong("DL-402", subject, error.what, f"Mend user and password of {at.place}")


def _asked(
    config: Config, endpoints: Endpoints, name: str, at: MysqlConnection
) -> Iterator[Finding]:
    subject, source = f"source {name}", config.settings.sources[name]
    is_followed = source.type == MYSQL_CDC
    asked = time.time()
    # with its time zone: the server's own may be any
    version, theirs, kept = ask(
        at, "SELECT @@version, UNIX_TIMESTAMP(NOW(6)), @@GLOBAL.binlog_expire_logs_seconds"
    )
    yield well(subject, f"MySQL {version} at {at.host}:{at.port}")
    if (found := clock(subject, float(theirs), asked)) is not None:
        yield found
    tables = mysql_tables(source, at.database)
    state = server_state(at, tables.values())
    problems = (
        server_problems(state, source, tables, server_id(config, name))
        if is_followed
        else table_access_problems(state, tables.values())
    )
    for problem in problems:
        level = NOTE if problem.level == IS_NOTED else "error"
        where = config.place_of(("sources", name, *problem.at)) if problem.at else ""
        what = f"{where}: {problem.what}" if where else problem.what
        yield wrong(problem.code, subject, what, problem.remedy, level)
    if is_followed:
        yield from _log(config, endpoints, name, at, int(kept))


def _log(
    config: Config, endpoints: Endpoints, name: str, at: MysqlConnection, kept: int
) -> Iterator[Finding]:
    """Whether the binlog is kept for long enough, and still has what has not been read."""
    subject = f"source {name}"
    if 0 < kept < LEAST_LOG_SECONDS:
        what = f"its binlog is kept for {kept / 3600:g} hours: a longer stop loses changes"
        remedy = "SET PERSIST binlog_expire_logs_seconds = 604800"
        yield wrong("DL-413", subject, what, f"Run `{remedy}`", NOTE)
    rest = ConnectRest(endpoints.connect, f"{config.settings.name}-{name}")
    try:
        check_log(at, name, rest.offsets())
    except BinlogLost as error:
        yield wrong("DL-414", subject, error.what, f"ducklake backfill {name} --reset")
    except DuckLakeError:
        return  # Connect's own examination says what is wrong with it
    finally:
        rest.close()
