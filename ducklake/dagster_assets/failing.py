"""Named errors as Dagster shows them: what happened and what to do, without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import Failure

from lake.errors import DuckLakeError


@contextmanager
def named() -> Iterator[None]:
    """End a step by name.

    Raises:
        Failure: What a `DuckLakeError` within the block says.
    """
    try:
        yield
    except DuckLakeError as error:
        kind = type(error).__name__
        raise Failure(str(error), {"error": kind}, allow_retries=False) from None
