"""Announces changes of a MySQL table's definition: each once, in the log and for `status`.

The newest announcement of each table is a small file in the lake, so that a restart repeats none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from consumers.ingest.drift import VersionMark
from consumers.ingest.schema_history import TableHistory, TableVersion
from lake.config import Config
from lake.storage.json_files import read_json, write_json
from lake.storage.operations import make_folder
from lake.storage.paths import LakePaths

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """A column that came, went, or has another type.

    Attributes:
        name: Its name.
        before: Its type before; empty where it is new.
        after: Its type from now on; empty where it has gone.
    """

    name: str
    before: str = ""
    after: str = ""

    def __str__(self) -> str:
        if not self.before:
            return f"+{self.name} {self.after}"
        return f"-{self.name}" if not self.after else f"{self.name} {self.before} → {self.after}"


def changes(before: dict[str, str], after: dict[str, str]) -> Iterator[ColumnChange]:
    """How columns differ, by their names and types."""
    for name, type_ in after.items():
        if before.get(name) != type_:
            yield ColumnChange(name, before.get(name, ""), type_)
    for name, type_ in before.items():
        if name not in after:
            yield ColumnChange(name, type_)


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """The newest change of a table's definition that was announced.

    Attributes:
        table: The topic.
        at: When it was announced, in seconds of the epoch.
        position: `file:position` of the binlog.
        columns: What changed: `+x INTEGER, -y, z DATE → TIMESTAMP`; empty for the first definition.
        mark: Of the version.
    """

    table: str
    at: float
    position: str
    columns: str
    mark: VersionMark

    @classmethod
    def load(cls, plain: dict[str, Any]) -> SchemaChange:
        """From its file.

        Raises:
            TypeError: It is something else.
        """
        return cls(**{**plain, "mark": VersionMark(**plain.get("mark", {}))})


class Announcements:
    """What was announced of each table.

    Args:
        paths: The lake.
    """

    def __init__(self, paths: LakePaths) -> None:
        self._folder = paths.accepted_schemas / "announced"
        self._known: dict[str, SchemaChange] = {}

    def look(self, topic: str, history: TableHistory) -> None:
        """Announce the versions that are newer than the last one; call it for every batch."""
        newest = history.newest
        if newest is None:
            return
        known = self._known.get(topic) or self.last(topic)
        if known is not None and known.mark.reaches(newest):
            self._known[topic] = known
            return
        said = "" if known is None else self._announced(topic, history, known)
        position = f"{newest.start.file}:{newest.start.position}"
        change = SchemaChange(topic, time.time(), position, said, VersionMark.of(newest))
        make_folder(self._folder)
        write_json(self._folder / f"{topic}.json", asdict(change))
        self._known[topic] = change

    def _announced(self, topic: str, history: TableHistory, known: SchemaChange) -> str:
        """Log each new version; gives how the newest differs from the one before."""
        before: dict[str, str] = {}
        said = ""
        for version in history:
            after = _types(version)
            if not known.mark.reaches(version):
                said = ", ".join(map(str, changes(before, after)))
                log.warning(
                    "schema_changed",
                    message="The definition of a table changed in its source.",
                    table=topic,
                    position=f"{version.start.file}:{version.start.position}",
                    columns=said,
                )
            before = after
        return said

    def last(self, topic: str) -> SchemaChange | None:
        """The newest announcement of a table."""
        try:
            return SchemaChange.load(read_json(self._folder / f"{topic}.json"))
        except TypeError:
            return None  # there is none, or none that this release can read


def last_changes(config: Config) -> Iterator[SchemaChange]:
    """The newest change of each configured table whose definition ever changed."""
    announced = Announcements(LakePaths(config.data_dir))
    for ref, _ in config.tables():
        found = announced.last(ref.topic)
        if found is not None and found.columns:
            yield found


def _types(version: TableVersion) -> dict[str, str]:
    return {column.field: column.type for column in version.columns}
