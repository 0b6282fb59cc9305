"""What every service of the stack offers the supervisor, and what it is given."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any, ClassVar

from lake.config import Config
from lake.errors import StackError
from lake.processes.child import CappedLog, run_to_end
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


class Service(ABC):
    """One service: how it is prepared, run, asked for its health, and reached.

    `prepare` and `finish` must bear being interrupted anywhere and called again.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()  # services that must be healthy before it starts
    stop_signal: ClassVar[int] = SIGTERM
    stops_first: ClassVar[bool] = False

    def __init__(self, site: StackContext) -> None:
        self.site = site
        self.folder = site.folder / self.name
        self.log = site.folder / "logs" / f"{self.name}.log"

    @property
    def port(self) -> int:
        """The port on loopback."""
        return self.site.ports[self.name]

    def prepare(self) -> None:  # noqa: B027 - most have nothing to prepare
        """Before every start: make what must exist (data directory, keys, settings)."""

    @abstractmethod
    def command(self) -> list[str]:
        """Program and arguments, without secrets: everybody can read them in `ps`."""

    def environment(self) -> dict[str, str]:
        """Variables beside those of the supervisor."""
        return {}

    def identity(self) -> str:
        """As whom it runs, see `launch`."""
        return "same"

    @abstractmethod
    def healthy(self) -> bool:
        """Whether it answers now; an exception counts as no."""

    def finish(self) -> None:  # noqa: B027 - most have nothing to load
        """Once it answers after a start: load what the first start has to load."""

    def before_stop(self) -> None:  # noqa: B027 - most need no more than their signal
        """Just before `stop_signal`: what lets it end fast; an exception is ignored."""

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
            CappedLog(self.log),
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
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            tail = file.read().decode(errors="replace")
    except OSError:
        return ""
    return next((f": {cause}" for sign, cause in _SIGNS.items() if sign in tail), "")


def on_loopback(port: int) -> str:
    """`127.0.0.1:port`."""
    return f"{LOOPBACK}:{port}"
