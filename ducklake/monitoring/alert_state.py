"""Which alerts have begun, and which messages about them wait: kept in the lake by the monitor."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lake.storage.json_files import read_json
from lake.storage.paths import LakePaths

VERSION = 1
BEGIN, END, TEST = "begin", "end", "test"


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert that has begun.

    Attributes:
        id: Of this alert; the next one of the same cause has another.
        kind: The key under `alerts` that asks for it.
        subject: What.
        state: In the word of `ducklake status`, as it began.
        since: In seconds of the epoch.
        remedy: The command, or the step, that goes on.
        told: Who was told, or will be: fingerprints of targets.
    """

    id: str
    kind: str
    subject: str
    state: str
    since: float
    remedy: str = ""
    told: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The same for each alert of one cause."""
        return f"{self.kind}:{self.subject}"


@dataclass(frozen=True, slots=True)
class Message:
    """One event of an alert for one target.

    Attributes:
        alert: The alert.
        event: `begin` or `end`.
        target: The fingerprint of the target.
        at: When it was written, in seconds of the epoch.
        attempts: How often it was tried.
        is_sending: Whether it is being sent: whoever dies meanwhile does not know whether it was.
    """

    alert: Alert
    event: str
    target: str
    at: float
    attempts: int = 0
    is_sending: bool = False

    @property
    def id(self) -> str:
        """Of the event, the same for each try: a receiver can tell a second one by it."""
        return f"{self.alert.id}-{self.event}"


@dataclass(frozen=True, slots=True)
class AlertState:
    """What is kept.

    Attributes:
        active: The alerts that have begun and not ended.
        messages: Those that are not sent yet, in their order.
    """

    active: tuple[Alert, ...] = ()
    messages: tuple[Message, ...] = field(default=())

    def dump(self) -> dict[str, Any]:
        """Plain values."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def read(cls, path: Path) -> AlertState:
        """What a file holds; nothing where there is none that this release can read."""
        raw = read_json(path)
        try:
            return cls(
                tuple(_alert(one) for one in raw["active"]),
                tuple(Message(**{**one, "alert": _alert(one["alert"])}) for one in raw["messages"]),
            )
        except (KeyError, TypeError):
            return cls()


NO_ALERTS = AlertState()


def alert_state(paths: LakePaths) -> AlertState:
    """What is kept of a lake's alerts."""
    return AlertState.read(paths.alerts)


def _alert(raw: dict[str, Any]) -> Alert:
    return Alert(**{**raw, "told": tuple(raw["told"])})
