"""What `ducklake backfill` does for a table of a source of type `mysql_poll`."""

from __future__ import annotations

import json
import time
from contextlib import closing

import typer

from ducklake.cli.output import note
from ducklake.cli.signals import stop_on_signals
from ducklake.exit_codes import INTERRUPTED
from lake.config import Config, nearest
from lake.errors import ConfigError, SourceError
from producers.mysql.arrivals import SnapshotArrivals
from producers.mysql.polling.connector import MysqlPollConnector
from producers.registry import connector

LOOK_SECONDS = 1.0
SAY_SECONDS = 10.0


def backfill_polled(
    config: Config, name: str, table: str, where: str, wait: bool, as_json: bool
) -> None:
    """Have whoever polls the source read a table again, and wait until its rows are in Kafka.

    Raises:
        ConfigError: There is no such table.
        SourceError: MySQL does not have it, or refuses the condition, be it while it is read.
        ServiceUnreachable: A service does not answer.
    """
    stop = stop_on_signals()
    began, topic = time.monotonic(), f"{name}.{table}"
    with closing(connector(config, config.endpoints(), name)) as source:
        assert isinstance(source, MysqlPollConnector)
        if table not in source.tables:
            known = nearest(table, source.tables)
            raise ConfigError(
                f"Source {name} has no table {table!r}{known}.", "Name it as SOURCE.TABLE."
            )
        request = source.read_again(table, where)
        rows, told = 0, time.monotonic()
        if wait:
            with closing(SnapshotArrivals(source.endpoints, topic, request.moment)) as arrivals:
                while source.requests.is_open(request):
                    rows = arrivals.read(LOOK_SECONDS)
                    if stop.is_set():
                        note(f"Interrupted; `ducklake produce {name}` sees to the request.")
                        raise typer.Exit(INTERRUPTED)
                    if time.monotonic() - told >= SAY_SECONDS:
                        told = time.monotonic()
                        note(f"{topic}: {rows:,} rows; `ducklake produce {name}` reads them")
                rows = arrivals.read(LOOK_SECONDS)
            refused = source.requests.refusal(request)
            if refused is not None:
                raise SourceError(f"The backfill of {topic} failed: {refused.what}", refused.remedy)
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        state = "completed" if wait else "waiting"
        told_of = {"table": topic, "where": where, "id": request.id, "state": state}
        print(json.dumps({**told_of, "rows": rows, "seconds": seconds}))
    elif wait:
        print(f"{topic}: {rows:,} rows read again in {seconds} s")
    else:
        print(f"{topic}: requested; `ducklake produce` sees to it.")
