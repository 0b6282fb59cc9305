"""A resource of dlt for `test_random_kills`, in a module that the killed process can import."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
import orjson


@dlt.source  # type: ignore[untyped-decorator]
def lines(path: str) -> Any:
    """The objects of a file, one a line."""

    @dlt.resource(primary_key="id")  # type: ignore[untyped-decorator]
    def events(since: Any = dlt.sources.incremental("at", initial_value=0)) -> Iterator[Any]:
        with Path(path).open("rb") as file:
            found = [orjson.loads(line) for line in file]
        yield [row for row in found if row["at"] >= since.last_value]

    return events
