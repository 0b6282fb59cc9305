"""Progress of long work, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_PLAIN_STEP = 0.1


@contextmanager
def bar(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Progress on standard error: a bar on a terminal, a line now and then otherwise.

    Args:
        what: What is being done.
        unit: What is counted.

    Yields:
        To be called with what is done and what there is in all.
    """
    if sys.stderr.isatty():
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(what, total=None)
            yield lambda done, total: bars.update(task, completed=min(done, total), total=total)
        return
    said = -1.0

    def say(done: int, total: int) -> None:
        nonlocal said
        share = done / total if total else 1.0
        if share - said >= _PLAIN_STEP or (share >= 1 > said):
            said = share
            print(f"{what}: {done:,} of {total:,} {unit}", file=sys.stderr, flush=True)

    yield say
