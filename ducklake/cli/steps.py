"""Progress of long work on standard error: a spinner on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status


class Steps:
    """Names what is being done, and how long each step took.

    Attributes:
        seconds: Duration of each finished step by its name.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._console = Console(stderr=True, highlight=False)
        self._terminal = sys.stderr.isatty()
        self._status: Status | None = None
        self._name = ""

    @contextmanager
    def step(self, name: str, doing: str) -> Iterator[None]:
        """One step; its time is noted even where it fails."""
        began = time.monotonic()
        self._name = doing
        if self._terminal:
            self._status = self._console.status(doing)
            self._status.start()
        else:
            self._console.print(f"{doing} ...", markup=False)
        try:
            yield
        finally:
            took = self.seconds[name] = time.monotonic() - began
            if self._status is not None:
                self._status.stop()
                self._status = None
        self._console.print(f"{doing}: {took:.1f} s", markup=False)

    def detail(self, text: str) -> None:
        """What the current step is at."""
        if self._status is not None:
            self._status.update(f"{self._name}: {text}")
        elif not self._terminal:
            self._console.print(f"  {text}", markup=False)
