"""What sqlfluff puts in the place of the package's macros, which only dbt can run.

Its Jinja templater calls these where a model calls `dbt_ducklake.…`, so that the model can be read
as SQL; a whole build has no touched groups, and neither has this.
"""

from __future__ import annotations

from collections.abc import Callable


def latest_version(relation: object, key: str) -> str:
    """As a model that reads one row of every key."""
    return f"select * from {relation}"


def changes(relation: object) -> str:
    """As rows of the model before."""
    return f"(select * from {relation})"


def touched(caller: Callable[[], str]) -> str:
    """Nothing; but what stands in it has to be read."""
    caller()
    return ""


def touched_rows(relation: object, columns: object) -> object:
    """All rows of the model before."""
    return relation


def tested_like(relation: object, column: str, changed: object) -> object:
    """All rows of the model."""
    return relation


def all_but(columns: str) -> str:
    """All columns."""
    return "*"
