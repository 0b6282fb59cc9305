"""What nothing of the lake needs any more is removed once it is old enough (`retention`)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from consumers.compaction.old_generations import must_not_be_shown, remove_generation
from lake.config import Config, TableRef
from lake.config.settings import seconds_of
from lake.errors import DuckLakeError, LedgerError
from lake.opening import WritableLake
from lake.storage.disk_use import look_at_disk
from lake.storage.operations import remove_empty, remove_file

log = structlog.get_logger()
LOOK_SECONDS = 3600.0
QUARANTINE, GENERATION = "quarantine", "generation"


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that nothing of the lake needs.

    Attributes:
        kind: `quarantine` or `generation`.
        name: A path below the data folder, or `mysql.orders/1`: a table's generation.
        bytes: What it takes; files that two generations share count in both.
        since: Since when nothing needs it, in seconds since the epoch.
    """

    kind: str
    name: str
    bytes: int
    since: float


class Housekeeping:
    """Finds and removes what is left over in one lake.

    Args:
        config: The configuration.
        lake: Opened for writing.
        ages: Seconds after which each kind goes, in place of the configured ones; None: never.
    """

    def __init__(
        self, config: Config, lake: WritableLake, ages: Mapping[str, float | None] | None = None
    ) -> None:
        self._lake = lake
        retention = config.settings.retention
        self._ages = ages or {
            QUARANTINE: seconds_of(retention.quarantine),
            GENERATION: seconds_of(retention.generations),
        }
        self._next = 0.0

    def leftovers(self) -> list[Leftover]:
        """Everything that is left over, whether it is old enough or not; the oldest first."""
        return sorted([*self._quarantined(), *self._generations()], key=lambda one: one.since)

    def is_due(self, leftover: Leftover, now: float) -> bool:
        """Whether it is old enough."""
        age = self._ages[leftover.kind]
        return age is not None and leftover.since + age <= now

    def remove(self, leftover: Leftover) -> None:
        """Remove it for good.

        Raises:
            LedgerError: A generation that the published file still shows.
            ServiceUnreachable: A generation, and somebody reads the lake at this moment.
        """
        if leftover.kind == GENERATION:
            topic, _, number = leftover.name.rpartition("/")
            remove_generation(self._lake, TableRef(*topic.split(".", 1)), int(number))
            return
        path = self._lake.paths.root / leftover.name
        remove_file(path)
        for folder in path.parents:
            if folder == self._lake.paths.orphans or not remove_empty(folder):
                break

    def look(self, now: float | None = None) -> None:
        """Once an hour: remove what is old enough, and look at the disk.

        Raises:
            DiskFull: There is no room to keep what was found.
        """
        now = time.time() if now is None else now
        if now < self._next:
            return
        self._next = now + LOOK_SECONDS
        for leftover in self.leftovers():
            if self.is_due(leftover, now):
                with suppress(DuckLakeError):  # in use: in an hour again
                    self.remove(leftover)
                    log.info(
                        "leftover_removed",
                        message="Nothing needs it any more, and it was kept long enough.",
                        kind=leftover.kind,
                        name=leftover.name,
                        bytes=leftover.bytes,
                    )
        look_at_disk(self._lake.paths, now)

    def _quarantined(self) -> Iterator[Leftover]:
        root = self._lake.paths.root
        for path in _files(self._lake.paths.orphans):
            with suppress(FileNotFoundError):
                about = path.lstat()  # its status changed as it was moved
                name = str(path.relative_to(root))
                yield Leftover(QUARANTINE, name, about.st_size, about.st_ctime)

    def _generations(self) -> Iterator[Leftover]:
        found = self._lake.ledger.generations.all()
        current = {one.topic: one.made_at for one in found if one.state == "current"}
        for one in found:
            if one.state != "old" or one.topic not in current:
                continue
            with suppress(LedgerError):  # the published file still shows it
                must_not_be_shown(self._lake, TableRef(*one.topic.split(".", 1)), one.number)
                name = f"{one.topic}/{one.number}"
                yield Leftover(GENERATION, name, one.bytes, current[one.topic])


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield path
