"""New versions of the demo's files: the warehouses count their stock while the shop sells."""

from __future__ import annotations

import csv
import io
import posixpath
import threading
from datetime import date, datetime, timedelta, timezone
from random import Random

import structlog

from lake.config import Config, SftpConnection
from lake.errors import DuckLakeError
from producers.registry import source_connection
from producers.sftp.session import open_session
from techstore import files

log = structlog.get_logger()
_COUNTED = 20
"""Rows that differ from one version to the next."""
_ARGENTINA = timezone(timedelta(hours=-3))


def stock_drop(config: Config) -> tuple[SftpConnection, str] | None:
    """The server and the path of the demo's inventory; None where no source reads it.

    Raises:
        ConfigError: Its connection is wrong.
        StackNotRunning: It is `embedded` and the stack is not up.
    """
    for name, source in config.settings.sources.items():
        table = source.tables.get("inventory")
        if source.type == "sftp" and table is not None and table.file == "inventory.csv":
            found = source_connection(config, name)
            assert isinstance(found, SftpConnection)
            return found, posixpath.join(source.directory or "/", table.file)
    return None


def deliver_stock(server: SftpConnection, path: str, rng: Random, today: date) -> int:
    """Put a new version of the inventory in the place of the last one, whole.

    Args:
        server: Where it lies.
        path: Where there.
        rng: Chooses what was counted.
        today: The day of the count.

    Returns:
        How many rows it has.

    Raises:
        DuckLakeError: The server does not answer, or refuses.
        OSError: It has no such file, or it may not be written.
    """
    with open_session(server) as sftp:
        with sftp.open(path, "rb") as file:
            content = file.read().decode("utf-8-sig")
        rows = counted(content, rng, today)
        part = posixpath.join(posixpath.dirname(path), f".{posixpath.basename(path)}.part")
        with sftp.open(part, "wb") as file:
            file.write(files.inventory(rows))
        sftp.posix_rename(part, path)
    return len(rows)


def counted(content: str, rng: Random, today: date) -> list[list[str]]:
    """The rows of an inventory after some of them were counted."""
    _, *rows = csv.reader(io.StringIO(content, newline=""), delimiter=";")
    for row in rng.sample(rows, min(_COUNTED, len(rows))):
        reserved = int(row[3])
        row[2] = str(max(reserved, int(row[2]) + rng.choice((-3, -2, -1, 1, 2, 5))))
        row[5] = f"{today:%d/%m/%Y}"
    return rows


def deliver(config: Config, every: float, stop: threading.Event, seed: int | None) -> None:
    """Deliver a new version again and again until told to stop, also after a server was away.

    Args:
        config: The demo's.
        every: Seconds between two versions.
        stop: Ends it.
        seed: Makes the counts repeatable.
    """
    rng = Random(seed)
    while not stop.wait(every):
        try:
            found = stock_drop(config)
            if found is None:
                return
            deliver_stock(*found, rng, datetime.now(_ARGENTINA).date())
        except (DuckLakeError, OSError) as error:
            log.warning(
                "file_not_delivered",
                message="The demo's inventory cannot be delivered now; it is tried again.",
                reason=error.what if isinstance(error, DuckLakeError) else type(error).__name__,
            )
