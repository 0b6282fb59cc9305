"""Each role tells that its main loop moves, and what of it has stopped: `data/run/{role}.json`.

The file's time is that of the last beat. Its lock (`{role}.lock`) says whether the role lives,
which no remembered process id could: the kernel lets go of it however the role ends.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lake.errors import AlreadyRunning, UnexpectedError
from lake.processes import lock
from lake.storage.json_files import read_json, replace_json
from lake.storage.operations import make_scratch_folder, remove_file, touch

ROLE = "DUCKLAKE_ROLE"
"""Set by a supervisor: the name under which the role is known there."""
HANG_SECONDS = "DUCKLAKE_HANG_SECONDS"
"""Replaces every limit after which a role counts as hanging."""
WRITE_SECONDS = 1.0
STARTING_WITHIN = 1800.0
"""Seconds that a start may take: recovery looks at every file that a killed process left."""
_MOST_OF_ONE_NAME = 100

STARTING = "starting"
RUNNING, RETRYING, STOPPED = "running", "retrying", "stopped"
PAUSED = "paused"
"""State of a source that somebody has told to read no further."""
DIFFERS = "differs"
"""State of a table that goes on, and may not be what its source is."""
MISCONFIGURED = "misconfigured"
"""State of a table that goes on, but not as somebody wants it who wrote what is configured."""


@dataclass(frozen=True, slots=True)
class Part:
    """A source, a table or a step of a role, which can stop while the role goes on.

    Attributes:
        kind: `source`, `table` or `step`.
        state: `running`, `retrying`, `stopped`, `paused`, `differs` or `misconfigured`.
        since: When it came into this state, in seconds of the epoch.
        reason: What happened.
        remedy: What the reader should do about it.
        next_attempt: When it is tried again, in seconds of the epoch.
        moved: When it last moved, by the machine's monotonic clock.
        within: Seconds after which it counts as hanging; None: never.
        progress: Figures of its own that say how far it is; plain values.
    """

    kind: str
    state: str = RUNNING
    since: float = 0.0
    reason: str = ""
    remedy: str = ""
    next_attempt: float | None = None
    moved: float = 0.0
    within: float | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)

    def stalled(self) -> float | None:
        """For how many seconds it has not moved, where that is longer than its limit."""
        still = time.monotonic() - self.moved
        return still if self.within is not None and still > self.within else None


class Heartbeat:
    """What a role tells of itself. This one tells nobody; `RoleHeartbeat` writes a file."""

    def beat(self, doing: str, within: float | None = None) -> None:
        """The main loop moves; call it often, it costs next to nothing.

        Args:
            doing: What it does next.
            within: Seconds within which the next beat comes, at the latest; None: nobody knows.
        """

    def part(self, name: str, part: Part) -> None:
        """A part of the role came into a state, or moved; any thread may say so."""

    def forget(self, name: str) -> None:
        """A part has nothing to tell any more."""


SILENT = Heartbeat()


class RoleHeartbeat(Heartbeat):
    """The heartbeat of a process.

    Args:
        folder: `data/run`.
        role: The role's name; the first of `role`, `role-2`, … that no living process has.

    Raises:
        AlreadyRunning: There is no free name.
    """

    def __init__(self, folder: Path, role: str) -> None:
        make_scratch_folder(folder)
        self.name, self._lock_file, self._descriptor = _claim(folder, role)
        self._path = folder / f"{self.name}.json"
        self._mutex = threading.Lock()
        self._parts: dict[str, Part] = {}
        self._told: dict[str, Any] = {
            "role": self.name,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "state": RUNNING,
            "since": time.time(),
            "doing": STARTING,
            "within": _limit(STARTING_WITHIN),
            "reason": "",
            "remedy": "",
        }
        self._changed = True
        self._next_write = 0.0
        self.beat(STARTING, STARTING_WITHIN)

    def beat(self, doing: str, within: float | None = None) -> None:
        """The main loop moves: the file gets a new time, and at most once a second new contents."""
        now = time.monotonic()
        with self._mutex:
            limit = _limit(within)
            if (doing, limit) != (self._told["doing"], self._told["within"]):
                self._told |= {"doing": doing, "within": limit}
            if now < self._next_write and not self._changed:
                return
            self._next_write = now + WRITE_SECONDS
            self._changed = False
            self._write()

    def part(self, name: str, part: Part) -> None:
        """Note a part's state; a new one is told with the next beat.

        Only beats reach the file: its time is that of the main loop.
        """
        with self._mutex:
            known = self._parts.get(name)
            part = replace(part, moved=time.monotonic(), within=_limit(part.within))
            if known is not None and known.state == part.state:
                part = replace(part, since=known.since)
            else:
                part = replace(part, since=time.time())
                self._changed = True
            self._parts[name] = part

    def forget(self, name: str) -> None:
        """Leave a part out."""
        with self._mutex:
            if self._parts.pop(name, None) is not None:
                self._changed = True

    def close(self, error: BaseException | None = None) -> None:
        """Nothing more comes.

        Args:
            error: What ended the role; its file then says so until somebody starts the role again.
                Who sees at once that it could not begin (nobody supervises it) needs no file.
        """
        with self._mutex:
            begun = self._told["doing"] != STARTING or ROLE in os.environ
            if error is None or not begun:
                remove_file(self._path)
            else:
                named = UnexpectedError.unless_named(self.name, error, "Its log says more.")
                self._told |= {"state": STOPPED, "since": time.time()}
                self._told |= {"reason": named.what, "remedy": named.remedy}
                self._write()
            lock.release(self._lock_file, self._descriptor)

    def _write(self) -> None:
        parts = {name: asdict(part) for name, part in self._parts.items()}
        try:
            replace_json(self._path, {**self._told, "parts": parts})
        except OSError:
            # On a full disk the role waits and is not to be ended: a new time needs no room.
            self._touch()

    def _touch(self) -> None:
        try:
            touch(self._path)
        except OSError:
            return


def _limit(within: float | None) -> float | None:
    override = os.environ.get(HANG_SECONDS)
    return within if within is None or not override else float(override)


def _claim(folder: Path, role: str) -> tuple[str, Path, int]:
    for number in range(1, _MOST_OF_ONE_NAME):
        name = role if number == 1 else f"{role}-{number}"
        path = folder / f"{name}.lock"
        descriptor = lock.take(path)
        if descriptor is not None:
            return name, path, descriptor
    raise AlreadyRunning(f"{_MOST_OF_ONE_NAME} processes are `{role}`.", "Stop some of them first.")


# Reading -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RoleReport:
    """What a role last told.

    Attributes:
        role: Its name.
        pid: Its process.
        alive: Whether that process lives.
        state: `running`, or `stopped` where it ended with an error.
        since: When it came into this state, in seconds of the epoch.
        doing: What it was doing.
        within: The limit after which it counts as hanging.
        reason: Why it ended.
        remedy: What the reader should do about it.
        beaten: When it last moved, in seconds of the epoch.
        parts: Its sources, tables and steps.
    """

    role: str
    pid: int
    alive: bool
    state: str
    since: float
    doing: str
    within: float | None
    reason: str
    remedy: str
    beaten: float
    parts: dict[str, Part]

    @classmethod
    def read(cls, path: Path) -> RoleReport | None:
        """The role's last words, or None if the file is none of a role."""
        try:
            beaten = path.stat().st_mtime
        except OSError:
            return None
        raw = read_json(path)
        raw.pop("host", None)  # for whoever asks within a container
        try:
            parts = {name: Part(**part) for name, part in raw.pop("parts").items()}
            alive = lock.holder(path.with_suffix(".lock")) is not None
            return cls(**raw, alive=alive, beaten=beaten, parts=parts)
        except (KeyError, TypeError, AttributeError):
            return None

    def hangs(self) -> str | None:
        """Why it counts as hanging; None while it moves."""
        if not self.alive:
            return None
        silent = time.time() - self.beaten
        if self.within is not None and silent > self.within:
            return f"nothing moves since {silent:.0f} s (last: {self.doing})"
        for name, part in self.parts.items():
            if (still := part.stalled()) is not None:
                return f"{part.kind} {name} does not move since {still:.0f} s"
        return None


def role_reports(folder: Path) -> Iterator[RoleReport]:
    """What all roles last told, by name."""
    for path in sorted(folder.glob("*.json")):
        report = RoleReport.read(path)
        if report is not None:
            yield report


def report_of(folder: Path, pid: int) -> RoleReport | None:
    """What a process last told; one that lives comes before one that once had its id."""
    found = [report for report in role_reports(folder) if report.pid == pid]
    return max(found, key=lambda report: (report.alive, report.beaten), default=None)


def forget_the_dead(folder: Path) -> None:
    """Remove what roles left that no longer live: somebody starts them again."""
    for path in folder.glob("*.json"):
        report = RoleReport.read(path)
        if report is not None and not report.alive:
            remove_file(path)
