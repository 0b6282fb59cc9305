"""What the commands for the connectors in Kafka Connect do."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import typer

from ducklake.cli import backfill_plan
from ducklake.cli.configuration import load_checked
from ducklake.cli.file_tables import is_file_source, request_backfill
from ducklake.cli.output import note
from ducklake.cli.polled_tables import backfill_polled
from ducklake.cli.rest_tables import Days, is_asked_again, refuse_days, request_rest_backfill
from ducklake.cli.signals import stop_on_signals
from ducklake.exit_codes import INTERRUPTED
from lake.config import MYSQL_POLL, Config, nearest
from lake.errors import ConfigError, SourceError, TransientError
from lake.kafka.topics import make_topics
from producers.mysql.arrivals import SnapshotArrivals
from producers.mysql.backfill_state import BackfillRequest, BackfillState, Phase
from producers.mysql.cdc import MysqlCdcConnector
from producers.mysql.reset import reset_source
from producers.registry import connector

SAY_SECONDS = 1.0
_TELL_TERMINAL, _TELL_LOG = 1.0, 10.0


def backfill(
    path: Path | None, topic: str, where: str, days: Days, wait: bool, as_json: bool
) -> None:
    """Have a table read again, and wait until its rows are in Kafka.

    Args:
        path: The configuration's file; None looks for it.
        topic: The table, as `SOURCE.TABLE`.
        where: A condition in MySQL's SQL; empty for all rows.
        days: The first and the last day, of a table of an API; None for no limit.
        wait: Whether to wait, and to show the progress.
        as_json: Whether the result is one line of JSON.

    Raises:
        ConfigError: There is no such table.
        SourceError: It cannot be read in this way, or could not be read.
        ServiceUnreachable: A service does not answer.
    """
    name, _, table = topic.partition(".")
    settings = load_checked(path, [name])
    if is_asked_again(settings, name):
        request_rest_backfill(settings, topic, where, days, as_json)
        return
    refuse_days(topic, days)
    if is_file_source(settings, name):
        request_backfill(settings, topic, as_json)
        return
    chosen = settings.settings.sources.get(name)
    if chosen is not None and chosen.type == MYSQL_POLL:
        backfill_polled(settings, name, table, where, wait, as_json)
        return
    source = mysql_source(settings, name)
    if table not in source.source.tables:
        known = nearest(table, source.source.tables)
        raise ConfigError(
            f"Source {name} has no table {table!r}{known}.", "Name it as SOURCE.TABLE."
        )
    make_topics(settings, settings.endpoints())
    stop = stop_on_signals()
    try:
        _require_signals(source)
        request = source.backfills.request(table, where)
        if wait:
            _wait(source, request, as_json, stop)
        else:
            _print_result(source, request, Phase.WAITING, 0, 0.0, as_json)
    finally:
        source.close()


def show_plan(
    path: Path | None, topic: str, where: str, days: Days, is_reset: bool, as_json: bool
) -> None:
    """Say what a backfill would read again, and ask for nothing.

    Raises:
        ConfigError: There is no such table, or it takes no such limit.
        SourceError: MySQL refuses the condition.
        ServiceUnreachable: The source does not answer.
    """
    if is_reset:
        raise ConfigError(
            "--dry-run and --reset do not go together.", "Without --reset it says what is read."
        )
    settings = load_checked(path, [topic.partition(".")[0]])
    backfill_plan.show_plan(settings, topic, where, days, as_json)


def reset(path: Path | None, name: str, wait: bool, as_json: bool) -> None:
    """Have a source begin anew with a snapshot of all tables, and wait until they are in Kafka.

    Args:
        path: The configuration's file; None looks for it.
        name: The source.
        wait: Whether to wait for the end of the snapshot.
        as_json: Whether the result is one line of JSON.

    Raises:
        ConfigError: There is no such source.
        SourceError: It cannot begin anew.
        ServiceUnreachable: A service does not answer.
    """
    settings = load_checked(path, [name])
    source = mysql_source(settings, name)
    stop = stop_on_signals()
    began = time.monotonic()
    try:
        reset_source(source)
        note(f"{name}: all tables are read again, and changes from now on")
        while wait and not _has_read_all(source):
            if stop.wait(SAY_SECONDS):
                note("Interrupted; the snapshot continues.")
                raise typer.Exit(INTERRUPTED)
    finally:
        source.close()
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        state = str(Phase.COMPLETED if wait else Phase.REQUESTED)
        print(json.dumps({"source": name, "state": state, "seconds": seconds}))
    elif wait:
        print(f"{name}: all tables were read again in {seconds} s")
    note(
        "Rows that MySQL has deleted in between are still in the lake: `ducklake verify"
        " --against-source` finds them."
    )


def _has_read_all(source: MysqlCdcConnector) -> bool:
    try:
        return source.has_read_all()
    except TransientError:  # it is about to start
        return False


def mysql_source(settings: Config, name: str) -> MysqlCdcConnector:
    """The connector of a source of type `mysql_cdc`.

    Raises:
        ConfigError: There is no such source, or it has another type.
    """
    sources = settings.settings.sources
    if name not in sources:
        raise ConfigError(
            f"There is no source {name!r}{nearest(name, sources)}.", "Tables are SOURCE.TABLE."
        )
    source = connector(settings, settings.endpoints(), name)
    if not isinstance(source, MysqlCdcConnector):
        raise ConfigError(
            f"Source {name} is of type {sources[name].type}: it has no connector in Kafka Connect.",
            "Name a source of type mysql_cdc.",
        )
    return source


def _require_signals(source: MysqlCdcConnector) -> None:
    """Refuse where nobody would hear the signal."""
    configuration = source.rest.configuration()
    if not configuration or "kafka" not in configuration.get("signal.enabled.channels", ""):
        what = "has no connector yet" if not configuration else "has a connector of older settings"
        raise SourceError(
            f"Source {source.name} {what} in Kafka Connect.",
            f"Run `ducklake produce {source.name} --once` first.",
        )


def _wait(
    source: MysqlCdcConnector, request: BackfillRequest, as_json: bool, stop: threading.Event
) -> None:
    began = time.monotonic()
    total = source.backfills.count(request.table, request.where)
    topic = f"{source.name}.{request.table}"
    arrivals = SnapshotArrivals(source.endpoints, topic, request.moment)
    told = 0.0
    pause = _TELL_TERMINAL if sys.stderr.isatty() else _TELL_LOG
    try:
        while True:
            source.backfills.advance(source.rest)
            state = source.backfills.state(request.id)
            rows = arrivals.read(SAY_SECONDS)
            if state is not None and state.done:
                break
            if stop.is_set():
                note(
                    f"Interrupted; the backfill of {topic} continues ({rows:,} of about"
                    f" {total:,} rows). Run the same command again to watch it."
                )
                raise typer.Exit(INTERRUPTED)
            if time.monotonic() - told >= pause:
                told = time.monotonic()
                note(f"{topic}: {_phase(source, state)}, {rows:,} of about {total:,} rows")
    finally:
        arrivals.close()
    if state.phase is Phase.FAILED:
        raise SourceError(
            f"The backfill of {topic} failed: {state.reason}.",
            "Kafka Connect's log says more. Then run the same command again.",
        )
    _print_result(source, request, state.phase, rows, time.monotonic() - began, as_json)


def _phase(source: MysqlCdcConnector, state: BackfillState | None) -> str:
    phase = state.phase if state else Phase.WAITING
    connector = source.rest.status().get("connector", {}).get("state", "missing")
    return str(phase) if connector == "RUNNING" else f"{phase} (the connector is {connector})"


def _print_result(
    source: MysqlCdcConnector,
    request: BackfillRequest,
    phase: Phase,
    rows: int,
    seconds: float,
    as_json: bool,
) -> None:
    topic = f"{source.name}.{request.table}"
    if as_json:
        result = {"table": topic, "where": request.where, "id": request.id, "state": str(phase)}
        print(json.dumps({**result, "rows": rows, "seconds": round(seconds, 1)}))
    elif phase is Phase.WAITING:
        print(f"{topic}: requested; `ducklake produce` sees to it.")
    else:
        print(f"{topic}: {rows:,} rows read again in {seconds:.1f} s")
