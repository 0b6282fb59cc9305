"""What every service of the stack offers the supervisor, and what it is given."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lake.config import Config
from lake.errors import StackError
from lake.processes.child import log_limits, run_to_end
from lake.processes.program import Program, tail
from stack.ports import LOOPBACK
from stack.secrets import Secrets
from stack.tools import Tools


@dataclass(frozen=True, slots=True)
class StackContext:
    """Where a stack lives: its folder, ports, passwords and programs."""

    config: Config
    ports: Mapping[str, int]
    secrets: Secrets
    tools: Tools

    @property
    def folder(self) -> Path:
        """The stack's folder."""
        return self.config.stack_dir


class Service(Program):
    """One service: how it is prepared, run, asked for its health, and reached."""

    def __init__(self, site: StackContext) -> None:
        log = site.folder / "logs" / f"{self.name}.log"
        super().__init__(site.folder / self.name, log, log_limits(site.config))
        self.site = site

    @property
    def port(self) -> int:
        """The port on loopback."""
        return self.site.ports[self.name]

    @abstractmethod
    def healthy(self) -> bool:
        """Whether it answers now; an exception counts as no."""

    def answers(self, pid: int) -> bool:
        """Whether the service answers now, by whatever process."""
        return self.healthy()

    def cause(self, pid: int) -> str:
        """A known cause in the last lines of its log."""
        return reason(self.log).removeprefix(": ")

    @abstractmethod
    def endpoint(self) -> dict[str, Any]:
        """Its entry in the state file, as `Config.endpoints` reads it."""

    @abstractmethod
    def address(self) -> str:
        """For people."""

    def run(self, command: list[str], what: str, **environment: str) -> None:
        """Run a preparing command to its end, its output in the service's log.

        Raises:
            StackError: It failed.
        """
        code = run_to_end(
            command,
            {**os.environ, **environment},
            self.folder,
            self.output,
            self.identity(),
        )
        if code != 0:
            raise StackError(
                f"{what} failed with exit code {code}{reason(self.log)}.", f"See {self.log}."
            )


_SIGNS = {
    "No space left on device": "the disk is full",
    "Disk is full": "the disk is full",
    "Address already in use": "its port was taken meanwhile; run `ducklake up` again",
    "error while loading shared libraries": "a shared library is missing",
    "Cannot allocate memory": "there is not enough memory",
    "insufficient memory for the Java Runtime": "there is not enough memory",
}


def reason(log: Path) -> str:
    """A known cause in the last lines of a log, as `: cause`; empty if there is none."""
    text = tail(log)
    return next((f": {cause}" for sign, cause in _SIGNS.items() if sign in text), "")


def on_loopback(port: int) -> str:
    """`127.0.0.1:port`."""
    return f"{LOOPBACK}:{port}"
