"""What sqlfluff puts in the place of dbt's adapter: a call of the macro's name."""

from __future__ import annotations

from collections.abc import Callable


def dispatch(name: str, package: str) -> Callable[..., str]:
    """Nobody chooses among adapters where nothing is run."""
    return lambda *arguments: f"{name}({', '.join(str(each) for each in arguments[:1])})"
