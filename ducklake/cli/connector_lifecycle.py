"""What `ducklake connector` does: status, pause, resume, restart and remove."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import typer

from ducklake.cli.configuration import load_checked
from ducklake.cli.connectors import mysql_source
from ducklake.cli.output import note
from lake.config import MYSQL_CDC
from lake.errors import ConfigError, SourceError
from producers.mysql.cdc import MysqlCdcConnector
from producers.mysql.failures import cause

RUNNING, PAUSED = "RUNNING", "PAUSED"
MISSING = "MISSING"
STATE_SECONDS = 60.0
PAUSE_SECONDS = 0.3
T = TypeVar("T")


def show(path: Path | None, name: str | None, as_json: bool) -> bool:
    """Print the state of the connectors.

    Args:
        path: The configuration's file; None looks for it.
        name: A source; None: all of type `mysql_cdc`.
        as_json: Whether as one line of JSON.

    Returns:
        Whether all of them run.

    Raises:
        ConfigError: There is no such source.
        ServiceUnreachable: A service does not answer.
    """
    settings = load_checked(path, [name] if name else None)
    kinds = settings.settings.sources
    names = [name] if name else [n for n, s in kinds.items() if s.type == MYSQL_CDC]
    seen = {one: _with(path, one, _described) for one in names}
    if as_json:
        print(json.dumps(seen))
    else:
        for one, about in seen.items():
            print(f"{one}: {about['state']}{_more(about)}")
            for table in about["backfills"]:
                print(f"  {one}.{table['table']}: {table['state']}")
    return all(about["state"] == RUNNING for about in seen.values())


def pause(path: Path | None, name: str, as_json: bool) -> None:
    """Pause, and wait until it is paused."""
    _change(path, name, lambda source: source.rest.pause(), PAUSED, as_json)


def resume(path: Path | None, name: str, as_json: bool) -> None:
    """Resume, and wait until it runs."""
    _change(path, name, lambda source: source.rest.resume(), RUNNING, as_json)


def restart(path: Path | None, name: str, as_json: bool) -> None:
    """Restart everything, and wait until it runs."""
    _change(path, name, lambda source: source.rest.restart(all_of_it=True), RUNNING, as_json)


def remove(path: Path | None, name: str, yes: bool, as_json: bool) -> None:
    """Delete the connector, after a confirmation.

    Raises:
        ConfigError: There is no such source, or nobody can confirm.
        SourceError: There is no connector.
        ServiceUnreachable: A service does not answer.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError("Removing a connector has to be confirmed.", "Add --yes.")
        typer.confirm(f"Remove the connector of {name} from Kafka Connect?", abort=True)
    if not _with(path, name, lambda source: source.rest.remove()):
        raise SourceError(f"Source {name} has no connector in Kafka Connect.")
    if as_json:
        print(json.dumps({"source": name, "state": MISSING}))
        return
    print(f"{name}: removed from Kafka Connect")
    note(
        f"Its topics, its offsets and the lake stay. `ducklake produce {name}` makes it again: it"
        " continues where it was, as long as MySQL has the binlogs. To read all tables again,"
        f" run `ducklake backfill {name} --reset` then."
    )


def state_of(source: MysqlCdcConnector) -> str:
    """The worst state of the connector and its tasks; MISSING where there is no connector."""
    status = source.rest.status()
    if not status:
        return MISSING
    parts = [status.get("connector", {}), *status.get("tasks", [])]
    states = [str(part.get("state")) for part in parts]
    if states == [RUNNING]:
        return "STARTING"  # its task is not there yet
    return next((state for state in states if state != RUNNING), RUNNING)


def _described(source: MysqlCdcConnector) -> dict[str, Any]:
    status = source.rest.status()
    trace = next((p["trace"] for p in status.get("tasks", []) if p.get("trace")), "")
    pending = [state for state in source.backfills.states() if not state.done]
    return {
        "connector": source.connector,
        "state": state_of(source),
        "reason": source.rest.clean(cause(trace)),
        "backfills": [
            {"id": s.request.id, "table": s.request.table, "where": s.request.where}
            | {"state": str(s.phase)}
            for s in pending
        ],
    }


def _more(about: dict[str, Any]) -> str:
    if about["state"] == MISSING:
        return " (`ducklake produce` makes it)"
    return f" ({about['reason']})" if about["reason"] else ""


def _change(
    path: Path | None,
    name: str,
    change: Callable[[MysqlCdcConnector], None],
    wanted: str,
    as_json: bool,
) -> None:
    def run(source: MysqlCdcConnector) -> str:
        if state_of(source) == MISSING:
            raise SourceError(
                f"Source {name} has no connector in Kafka Connect.",
                f"`ducklake produce {name}` makes it.",
            )
        change(source)
        deadline = time.monotonic() + STATE_SECONDS
        while (state := state_of(source)) != wanted:
            if time.monotonic() > deadline:
                raise SourceError(
                    f"The connector of {name} is {state} after {STATE_SECONDS:.0f} s.",
                    f"`ducklake connector status {name}` and Kafka Connect's log say more.",
                )
            time.sleep(PAUSE_SECONDS)
        return state

    state = _with(path, name, run)
    print(json.dumps({"source": name, "state": state}) if as_json else f"{name}: {state}")


def _with(path: Path | None, name: str, use: Callable[[MysqlCdcConnector], T]) -> T:
    source = mysql_source(load_checked(path, [name]), name)
    try:
        return use(source)
    finally:
        source.close()
