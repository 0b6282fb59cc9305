"""What a person sees while the stack starts: rich on a terminal, plain lines otherwise.

Everything goes to standard error: standard output belongs to results.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import TaskID


class Reporter(Protocol):
    """Takes news of the start; `up` calls it from one thread."""

    def note(self, text: str) -> None:
        """One sentence."""

    def downloading(self, done: int, total: int) -> None:
        """Bytes so far, bytes in all; done == total is the last call."""

    def services(self, states: Mapping[str, str]) -> None:
        """The state of every service by its name; called again and again."""

    def close(self) -> None:
        """Nothing more comes."""


class Silent:
    """Says nothing."""

    def note(self, text: str) -> None:
        """Ignore it."""

    def downloading(self, done: int, total: int) -> None:
        """Ignore it."""

    def services(self, states: Mapping[str, str]) -> None:
        """Ignore it."""

    def close(self) -> None:
        """Nothing to end."""


class PlainLines:
    """One line for each change, for logs and pipes.

    Args:
        stream: Where to; standard error unless told otherwise.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._tenth = -1
        self._states: dict[str, str] = {}

    def note(self, text: str) -> None:
        """Print it."""
        print(text, file=self._stream or sys.stderr, flush=True)

    def downloading(self, done: int, total: int) -> None:
        """Print every tenth."""
        tenth = done * 10 // total if total else 10
        if tenth != self._tenth:
            self._tenth = tenth
            self.note(f"download: {done / 1e6:.0f} of {total / 1e6:.0f} MB")

    def services(self, states: Mapping[str, str]) -> None:
        """Print what changed."""
        for name, state in states.items():
            if self._states.get(name) != state:
                self._states[name] = state
                self.note(f"{name}: {state}")

    def close(self) -> None:
        """Nothing to end."""


class Terminal:
    """Bars and a spinner on standard error."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn

        self._console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            console=self._console,
            transient=True,
        )
        self._live = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), console=self._console, transient=True
        )
        self._download: TaskID | None = None
        self._services: TaskID | None = None
        self._done: set[str] = set()

    def note(self, text: str) -> None:
        """Print it above whatever moves."""
        self._console.print(text, markup=False, highlight=False)

    def downloading(self, done: int, total: int) -> None:
        """Move the bar."""
        if self._download is None:
            self._progress.start()
            self._download = self._progress.add_task("downloading", total=total)
        self._progress.update(self._download, completed=done)
        if done >= total:
            self._progress.stop()

    def services(self, states: Mapping[str, str]) -> None:
        """Print what became healthy, and keep one moving line of the rest."""
        if self._services is None:
            self._live.start()
            self._services = self._live.add_task("", total=None)
        for name, state in states.items():
            if state == "healthy" and name not in self._done:
                self._done.add(name)
                self._console.print(f"[green]✓[/green] {name}")
        rest = ", ".join(f"{n} {s}" for n, s in states.items() if s != "healthy")
        self._live.update(self._services, description=rest)
        if not rest:
            self._live.stop()

    def close(self) -> None:
        """Give the terminal back."""
        self._progress.stop()
        self._live.stop()


def for_stderr() -> Reporter:
    """Rich on a terminal, plain lines otherwise."""
    return Terminal() if sys.stderr.isatty() else PlainLines()
