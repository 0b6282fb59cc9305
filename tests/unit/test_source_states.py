"""A source that cannot go on by itself is shown as what it is, and never as "retrying"."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lake.errors import BinlogLost, DuckLakeError, ServiceUnreachable, SourceError, SourcePaused
from lake.processes.heartbeat import Heartbeat, Part
from producers.base import Batch, Connector, Cursors
from producers.mysql.connect_rest import ConnectRest
from producers.mysql.failures import failure
from producers.reject_limits import RejectLimits
from producers.source_loop import SourceLoop
from tests.unit.test_producers_base import NOWHERE, config


class Failing(Connector):
    """Fails until it is mended."""

    writes_records = False
    error: DuckLakeError | None = None

    def poll(self, cursors: Cursors) -> Iterator[Batch]:
        if self.error is not None:
            raise self.error
        yield from ()

    def count(self) -> dict[str, int]:
        return {}


class Told(Heartbeat):
    """Keeps what was told of the source, until it has changed often enough."""

    def __init__(self, stop: threading.Event) -> None:
        self.parts: list[Part] = []
        self._stop = stop

    def part(self, name: str, part: Part) -> None:
        self.parts.append(part)
        if part.next_attempt is not None:
            self._stop.set()


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (SourcePaused("It is paused.", "Resume it."), "paused"),
        (BinlogLost("Its log was reset.", "`ducklake backfill shop --reset`."), "stopped"),
        (SourceError("It has no table.", "Create it."), "retrying"),
        (ServiceUnreachable("It does not answer.", "Is it up?"), "retrying"),
    ],
)
def test_a_source_is_shown_as_what_it_is(tmp_path: Path, error: DuckLakeError, state: str) -> None:
    settings = config(tmp_path, "  own:\n    type: here:Failing\n    tables: {t: {}}\n")
    source = Failing("own", settings.settings.sources["own"], settings, NOWHERE)
    source.error = error
    stop = threading.Event()
    told = Told(stop)
    limits = RejectLimits(settings, "own")
    loop = SourceLoop("own", lambda: source, lambda: pytest.fail("it writes"), told, print, limits)
    loop.run(stop, once=False)
    last = told.parts[-1]
    assert (last.state, last.reason, last.remedy) == (state, error.what, error.remedy)
    source.error = None  # and it goes on by itself once it can
    stop.clear()
    told.parts.clear()
    threading.Timer(0.2, stop.set).start()
    loop.run(stop, once=False)
    assert told.parts[-1].state == "running"


def test_a_lost_binlog_has_its_name_in_a_failed_task_too() -> None:
    trace = "Caused by: io.debezium.DebeziumException: The db history topic is no longer available"
    trace = trace.replace("The db history topic", "The connector's offset") + " on the server"
    connect = ConnectRest("http://127.0.0.1:1", "shop", (), "shop_db")
    assert isinstance(failure(connect, "shop", [trace]), BinlogLost)
