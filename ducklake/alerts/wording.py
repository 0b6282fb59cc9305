"""What an alert says: names and states, and no reason, which may quote a row."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ducklake.monitoring.alert_state import BEGIN, END, Alert, Message
from ducklake.monitoring.printable import printable

WHY = "`ducklake status` says why."


def title(lake: str, message: Message) -> str:
    """One line."""
    said = f"{message.alert.subject} {message.alert.state}"
    ended = "ended: " if message.event == END else ""
    return printable(f"[{lake}] {ended}{said}")


def text(message: Message) -> str:
    """Some lines."""
    alert = message.alert
    lines = [f"Since {_moment(alert.since)}."]
    if message.event == END:
        lines = [f"From {_moment(alert.since)} to {_moment(message.at)}."]
    elif message.event == BEGIN:
        lines += [f"Next: {alert.remedy}"] if alert.remedy else []
        lines.append(WHY)
    return "\n".join(printable(line) for line in lines)


def payload(lake: str, message: Message) -> dict[str, Any]:
    """The same for programs."""
    alert: Alert = message.alert
    return {
        "id": message.id,
        "event": message.event,
        "lake": lake,
        "alert": alert.id,
        "kind": alert.kind,
        "subject": alert.subject,
        "state": alert.state,
        "since": alert.since,
        "ended": message.at if message.event == END else None,
        "remedy": alert.remedy,
        "title": title(lake, message),
        "text": text(message),
    }


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
