"""The tables that a worker reads: what it holds of each, and which of them it reads no further."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import structlog

from consumers.ingest.buffer import TableBuffer
from lake.errors import TerminalError
from lake.ledger import Ledger
from lake.openlineage.recording import stopped
from lake.processes.heartbeat import STOPPED, Heartbeat, Part

log = structlog.get_logger()


class AssignedTables:
    """Buffers by topic.

    Args:
        ledger: Says where each table stands.
        heartbeat: Told which tables are halted.
    """

    def __init__(self, ledger: Ledger, heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat
        self.halted: dict[str, TerminalError] = {}
        self._ledger = ledger
        self._buffers: dict[str, TableBuffer] = {}
        self._behind: set[str] = set()

    @property
    def buffers(self) -> Mapping[str, TableBuffer]:
        """The buffer of each table."""
        return self._buffers

    def is_read(self, topic: str) -> bool:
        """Whether records of a table are taken: it is assigned, not halted, and not behind."""
        return topic in self._buffers and topic not in self.halted and topic not in self._behind

    def reload(self, topic: str) -> TableBuffer:
        """Empty a table's buffer; it goes on from where the ledger stands."""
        state = self._ledger.tables.get(topic)
        assert state is not None, "a table with a buffer is in the ledger"
        known = self._buffers.get(topic)
        buffer = self._buffers[topic] = TableBuffer(state, known.firsts if known else {})
        return buffer

    def halt(self, topic: str, error: TerminalError) -> None:
        """Read a table no further; the others go on."""
        if topic not in self.halted:
            self.note_reason(topic, error)
            log.error(
                "table_halted",
                message="The table is stopped; the others continue.",
                table=topic,
                reason=str(error),
            )

    def note_reason(self, topic: str, error: TerminalError) -> None:
        """Why a table is halted: it may be for another reason by now, with another remedy."""
        self.halted[topic] = error
        stopped(f"consume.{topic}", error)
        self._heartbeat.part(topic, Part("table", STOPPED, reason=error.what, remedy=error.remedy))

    def resume(self, topic: str) -> None:
        """A halted table goes on."""
        del self.halted[topic]
        self._heartbeat.forget(topic)
        log.info(
            "table_resumed", message="What stopped the table was accepted; it resumes.", table=topic
        )

    def fell_behind(self, topic: str) -> None:
        """What was read of a table has been committed by somebody else."""
        self._behind.add(topic)

    def take_behind(self) -> Iterable[str]:
        """The tables that fell behind since the last call, without halted ones."""
        behind = self._behind - set(self.halted)
        self._behind.clear()
        return behind

    def drop(self, topics: Iterable[str]) -> None:
        """Forget what was read of tables that are another worker's now."""
        for topic in topics:
            self._buffers.pop(topic, None)

    def clear(self) -> None:
        """Forget what was read of all tables; the ledger knows from where."""
        self._buffers.clear()
        self._behind.clear()
