"""A heartbeat that keeps what it is told."""

from __future__ import annotations

from lake.processes.heartbeat import Heartbeat, Part


class KeptHeartbeat(Heartbeat):
    """Keeps what a role tells of its parts."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}

    def part(self, name: str, part: Part) -> None:
        self.parts[name] = part

    def forget(self, name: str) -> None:
        self.parts.pop(name, None)
