"""What a table does with rows of a definition that nobody has accepted: its drift policy.

`evolve` takes every definition. `freeze` stops the table, `quarantine` makes dead letters of such
rows, both until the definition is accepted. What is accepted is kept in the lake, so that live, in
a replay and in `verify` the same rows are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from consumers.ingest.schema_history import BinlogPosition, TableHistory, TableVersion
from lake.config import Config, Table, TableRef
from lake.errors import SchemaDrift
from lake.storage.json_files import read_json, write_json
from lake.storage.operations import make_folder
from lake.storage.paths import LakePaths

Policy = Literal["evolve", "freeze", "quarantine"]
EVOLVE, FREEZE, QUARANTINE = "evolve", "freeze", "quarantine"


@dataclass(frozen=True, slots=True)
class VersionMark:
    """Which version of a table is meant: its place in the binlog, and its moment."""

    file: str
    position: int
    since: int

    @classmethod
    def of(cls, version: TableVersion) -> VersionMark:
        """The mark of a version."""
        return cls(version.start.file, version.start.position, version.since)

    def reaches(self, version: TableVersion) -> bool:
        """Whether a version is this one, or was before it."""
        if version.since != self.since:
            return version.since < self.since
        return version.start <= BinlogPosition(self.file, self.position)


class AcceptedDrift:
    """The newest version of each table that is accepted, in a small file each.

    Args:
        paths: The lake.
    """

    def __init__(self, paths: LakePaths) -> None:
        self._folder = paths.accepted_schemas

    def of(self, topic: str) -> VersionMark | None:
        """What is accepted of a table; None where nobody has said anything."""
        try:
            return VersionMark(**read_json(self._folder / f"{topic}.json"))
        except TypeError:
            return None

    def accept(self, topic: str, history: TableHistory) -> None:
        """Accept all versions that are known."""
        if history.newest is not None:
            make_folder(self._folder)
            plain = asdict(VersionMark.of(history.newest))
            write_json(self._folder / f"{topic}.json", plain)


class DriftGate:
    """Applies the policy of one table.

    Args:
        topic: The table.
        policy: Its policy.
        paths: The lake.
        first: Whether to accept what there is, where nothing is accepted yet: only the consumer
            does.
    """

    def __init__(self, topic: str, policy: Policy, paths: LakePaths, first: bool) -> None:
        self.topic = topic
        self.policy = policy
        self._accepted = AcceptedDrift(paths)
        self._first = first

    def unaccepted(self, history: TableHistory) -> Sequence[TableVersion]:
        """The versions that are not accepted; none where the policy is `evolve`."""
        if self.policy == EVOLVE or history.newest is None:
            return ()
        mark = self._accepted.of(self.topic)
        if mark is None:
            if self._first:
                self._accepted.accept(self.topic, history)
            return ()
        return [version for version in history if not mark.reaches(version)]

    def frozen(self, version: TableVersion) -> SchemaDrift:
        """What stops a table whose policy is `freeze`."""
        statement = " ".join(version.statement.split())[:200]
        return SchemaDrift(
            f"Table {self.topic}: its definition changed at {version.start.file}:"
            f"{version.start.position} ({statement}), and its drift policy is `freeze`.",
            f"`ducklake schema {self.topic} --accept` accepts it and continues; or set `drift:"
            " evolve`, and restart the consumer.",
            accepted=self._accepted.of(self.topic),
        )


def gate_of(config: Config, ref: TableRef, table: Table, first: bool) -> DriftGate | None:
    """The gate of a table; None where every definition is taken.

    Args:
        config: The configuration.
        ref: The table.
        table: Its section.
        first: Whether to accept what there is, where nothing is accepted yet.
    """
    if table.drift == EVOLVE or config.kind(ref) != "cdc":
        return None
    return DriftGate(ref.topic, table.drift, LakePaths(config.data_dir), first)
