"""What a supervised program is: how it is prepared, started, asked how it is, and ended."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from signal import SIGTERM
from typing import ClassVar

from lake.processes.child import CappedLog, LogLimits

_TAIL_BYTES = 4096
_LINE_CHARACTERS = 300


class Program(ABC):
    """Something that a supervisor keeps running.

    `prepare` and `finish` must bear being interrupted anywhere and called again.

    Attributes:
        name: Its name in the status file.
        folder: Where it runs.
        log: The file that takes what it prints, over all its restarts.
        output: The same file, opened at the first line.
    """

    name: str
    needs: ClassVar[tuple[str, ...]] = ()  # programs that must be healthy before it starts
    stop_signal: ClassVar[int] = SIGTERM
    stops_first: ClassVar[bool] = False

    def __init__(self, folder: Path, log: Path, limits: LogLimits | None = None) -> None:
        self.folder = folder
        self.log = log
        self.output = CappedLog(log, limits)

    def prepare(self) -> None:  # noqa: B027 - most have nothing to prepare
        """Before every start: make what must exist (data directory, keys, settings)."""

    @abstractmethod
    def command(self) -> list[str]:
        """Program and arguments, without secrets: everybody can read them in `ps`."""

    def environment(self) -> dict[str, str]:
        """Variables in addition to those of the supervisor."""
        return {}

    def identity(self) -> str:
        """As whom it runs, see `launch`."""
        return "same"

    @abstractmethod
    def answers(self, pid: int) -> bool:
        """Whether the process that was just started is at work; an exception counts as no."""

    def finish(self) -> None:  # noqa: B027 - most have nothing to load
        """Once it answers after a start: load what the first start has to load."""

    def hangs(self, pid: int) -> str | None:
        """Why the running process counts as hanging; None while it moves."""
        return None

    def before_stop(self) -> None:  # noqa: B027 - most need no more than their signal
        """Just before `stop_signal`: what lets it end fast; an exception is ignored."""

    def cause(self, pid: int) -> str:
        """Why the process ended, as far as it said so; empty if it did not."""
        return last_line(self.log)


def tail(log: Path) -> str:
    """The last few kilobytes of a log; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    lines = [line.strip() for line in tail(log).splitlines() if line.strip()]
    return lines[-1][:_LINE_CHARACTERS] if lines else ""
