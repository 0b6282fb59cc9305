"""What has become of the requests for backfills, decided on the two logs alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from lake.kafka.topics import NOTIFICATIONS, SIGNALS
from producers.mysql.signals import GIVEN_UP, REQUEST, SETTLED, Entry

MOST_ATTEMPTS = 10
_WELL = {"SUCCEEDED", "EMPTY"}
_NOT_YET = {"UNKNOWN_SCHEMA"}  # the connector was about to restart with the table
_REASONS = {
    "NO_PRIMARY_KEY": "it has no primary key",
    "SQL_EXCEPTION": "MySQL refused the query that reads it",
    "UNKNOWN_SCHEMA": "Debezium does not know its definition",
    "STOPPED": "it was told to stop",
    "SKIPPED": "Debezium skipped it",
    GIVEN_UP: f"Debezium did not begin with it, though it was told {MOST_ATTEMPTS} times",
}


class Phase(StrEnum):
    """How far a backfill has come."""

    WAITING = "waiting"
    REQUESTED = "requested"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class BackfillRequest:
    """A table that is to be read again, whole or in part.

    Attributes:
        id: Its identity.
        table: The table's name in the lake.
        where: A condition in MySQL's SQL; empty for all rows.
        moment: When it was asked for, in seconds of the epoch.
    """

    id: str
    table: str
    where: str
    moment: float


@dataclass(slots=True)
class BackfillState:
    """What has become of a request.

    Attributes:
        request: The request.
        phase: How far it is.
        attempts: How many signals were sent for it; a lost one is sent again.
        moment: When it was last heard of, in seconds of the epoch.
        rows: Rows that Debezium says it has read; None before the end.
        last_key: The last key that it has read.
        reason: Why it failed.
        started: Where the binlog was followed to as Debezium began: its file and the place in it.
        settled: Whether what came before it was declared gone.
    """

    request: BackfillRequest
    phase: Phase = Phase.WAITING
    attempts: int = 0
    moment: float = 0.0
    rows: int | None = None
    last_key: str = ""
    reason: str = ""
    started: tuple[str, int] | None = None
    settled: bool = False

    @property
    def is_to_settle(self) -> bool:
        """Whether the whole table has been read, and what came before has still to go."""
        whole = self.phase is Phase.COMPLETED and not self.request.where
        return whole and self.started is not None and not self.settled

    @property
    def done(self) -> bool:
        """Whether nothing more will come of it."""
        return self.phase in {Phase.COMPLETED, Phase.FAILED}

    def signalled(self, signal: Entry) -> None:
        """Note that a signal was sent."""
        if self.done:
            return
        self.attempts += 1
        self.phase, self.moment = Phase.REQUESTED, signal.moment

    def notified(self, entry: Entry) -> None:
        """Note what Debezium says about it."""
        if self.done:
            return
        about = entry.value.get("additional_data") or {}
        self.moment = entry.moment
        if self.started is None and about.get("file") and str(about.get("pos")).isdecimal():
            self.started = (str(about["file"]), int(about["pos"]))
        match entry.value.get("type"):
            case "COMPLETED" if not self.reason:
                self.phase = Phase.COMPLETED
            case "COMPLETED":
                self._failed()
            case "TABLE_SCAN_COMPLETED":
                self._scanned(about.get("status", ""), about.get("total_rows_scanned", ""))
            case _:
                self.phase = Phase.RUNNING
                self.last_key = about.get("last_processed_key", self.last_key)

    def _scanned(self, status: str, rows: str) -> None:
        self.rows = int(rows) if rows.isdecimal() else None
        self.reason = "" if status in _WELL else status

    def _failed(self) -> None:
        if self.reason in _NOT_YET and self.attempts < MOST_ATTEMPTS:
            self.reason, self.phase = "", Phase.REQUESTED
            return
        self.phase = Phase.FAILED
        self.reason = _REASONS.get(self.reason, self.reason)


def backfill_states(source: str, entries: Iterable[Entry]) -> list[BackfillState]:
    """The states of all requests, in the order in which they are served.

    Args:
        source: The name of the source, which is the key of its signals.
        entries: Everything in the two topics.
    """
    said = list(entries)
    states: dict[str, BackfillState] = {}
    for entry in said:
        if entry.kind != SIGNALS:
            continue
        if entry.key == REQUEST:
            states.setdefault(entry.value["id"], BackfillState(_request(entry)))
        elif entry.key == SETTLED and (state := states.get(_request_of(entry))):
            state.settled = True
        elif entry.key == GIVEN_UP and (state := states.get(_request_of(entry))):
            state.phase, state.reason = Phase.FAILED, _REASONS[GIVEN_UP]
        elif entry.key == source and (state := states.get(_request_of(entry))):
            state.signalled(entry)
    for entry in said:
        if entry.kind != NOTIFICATIONS:
            continue
        subject = states.get(_request_of(entry))
        if subject is not None:
            subject.notified(entry)
    return list(states.values())


def _request(entry: Entry) -> BackfillRequest:
    value = entry.value
    return BackfillRequest(value["id"], value["table"], value.get("where", ""), entry.moment)


def _request_of(entry: Entry) -> str:
    """The request in an id of the form request/attempt."""
    return str(entry.value.get("id", "")).partition("/")[0]
