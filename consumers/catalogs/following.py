"""The compactor's second thread: it registers what became public, and holds up nobody.

A catalogue that does not answer, a table that Iceberg cannot follow and a missing package are
states, which `ducklake status` shows until they have ended; compaction goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

import structlog

from consumers.catalogs import iceberg_must_be_installed
from lake.config import Config, TableRef
from lake.errors import ConfigError, DuckLakeError, TransientError, UnexpectedError
from lake.opening import open_lake
from lake.processes.heartbeat import MISCONFIGURED, RETRYING, STOPPED, Heartbeat, Part

if TYPE_CHECKING:
    from consumers.catalogs.iceberg import IcebergTables

log = structlog.get_logger()
LOOK_SECONDS = 1.0
RETRY_SECONDS = 10.0
WHOLE_SECONDS = 600.0
"""How often a table is compared with its catalogue although nothing became public."""
MOVES_WITHIN = 3600.0
"""Seconds within which all tables are looked at: a catalogue that is made anew takes long."""
NAME = "iceberg catalogue"


class IcebergFollower:
    """Registers public files as they are made, in a thread of its own.

    Args:
        config: The configuration.
        heartbeat: Told what cannot be registered.
    """

    def __init__(self, config: Config, heartbeat: Heartbeat) -> None:
        self._config = config
        self._heartbeat = heartbeat
        self._stop = threading.Event()
        self._failed: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="iceberg", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End after the commit under way; one that hangs is left behind with the process."""
        self._stop.set()
        self._thread.join(timeout=RETRY_SECONDS)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except Exception as error:
                self._tell(NAME, _named(error))
            self._stop.wait(RETRY_SECONDS)

    def _follow(self) -> None:
        """Register until told to stop, or until the catalogue does not answer."""
        iceberg_must_be_installed()
        from consumers.catalogs.iceberg import IcebergTables

        with ExitStack() as opened:
            lake = opened.enter_context(open_lake(self._config, for_writing=False))
            tables = opened.enter_context(closing(IcebergTables(self._config, lake.ledger)))
            self._well(NAME)
            until = time.monotonic() + WHOLE_SECONDS
            while time.monotonic() < until:
                self._heartbeat.part(NAME, Part("step", within=MOVES_WITHIN))
                for ref, _ in self._config.tables():
                    if self._stop.is_set():
                        return
                    self._register(tables, ref)
                if self._stop.wait(RETRY_SECONDS if self._failed else LOOK_SECONDS):
                    return

    def _register(self, tables: IcebergTables, ref: TableRef) -> None:
        """Register one table; one that cannot be holds up no other.

        Raises:
            TransientError: The catalogue does not answer.
        """
        name = f"iceberg {ref.topic}"
        try:
            found = tables.register(ref)
        except TransientError:
            raise
        except Exception as error:
            self._tell(name, _named(error))
            return
        self._well(name)
        if found.snapshots:
            log.info(
                "iceberg_registered",
                message="Public files were registered in an Iceberg table.",
                table=ref.topic,
                files=found.added,
                replaced=found.removed,
                snapshots=found.snapshots,
            )

    def _tell(self, name: str, error: DuckLakeError) -> None:
        """Show a failure until it has ended; log it once."""
        state = RETRYING if isinstance(error, TransientError) else STOPPED
        if isinstance(error, ConfigError):
            state = MISCONFIGURED
        part = Part("step", state, reason=error.what, remedy=error.remedy)
        self._heartbeat.part(name, part)
        if self._failed.get(name) != error.what:
            self._failed[name] = error.what
            log.warning(
                "iceberg_not_registered",
                message="An Iceberg table stays behind the lake; it is tried again.",
                subject=name,
                reason=str(error),
            )

    def _well(self, name: str) -> None:
        if self._failed.pop(name, None) is not None:
            self._heartbeat.forget(name)


@contextmanager
def followed(config: Config, heartbeat: Heartbeat) -> Iterator[None]:
    """Register what becomes public during a block, where the section `catalog` says so."""
    if not config.settings.catalog.iceberg.enabled:
        yield
        return
    follower = IcebergFollower(config, heartbeat)
    follower.start()
    try:
        yield
    finally:
        follower.stop()


def _named(error: Exception) -> DuckLakeError:
    remedy = "It is tried again; the lake goes on meanwhile."
    return UnexpectedError.unless_named("Iceberg", error, remedy)
