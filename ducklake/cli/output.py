"""What commands print in addition to their results."""

from __future__ import annotations

import sys


def note(text: str) -> None:
    """A line on standard error: standard output belongs to results."""
    print(text, file=sys.stderr, flush=True)
