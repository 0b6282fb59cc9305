"""Requests to ask an API again: beside the roles' state, where producers look."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from lake.config import Config
from lake.storage.json_files import read_json, write_json
from lake.storage.operations import make_scratch_folder
from lake.storage.paths import LakePaths

MOST = 200
"""Requests of a table that are remembered; older ones have been carried out long ago."""


@dataclass(frozen=True, slots=True)
class Backfill:
    """One request.

    Attributes:
        at: When it was made, ISO.
        first: The first day; None for the beginning.
        last: The last day; None for the end.
    """

    at: str
    first: date | None = None
    last: date | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it means everything."""
        return self.first is None and self.last is None


def request_backfill(
    config: Config, source: str, table: str, first: date | None, last: date | None
) -> Backfill:
    """Have a table asked for again by the producers that run or start next."""
    path = _path(config, source, table)
    make_scratch_folder(path.parent)
    made = Backfill(datetime.now(UTC).isoformat(timespec="microseconds"), first, last)
    kept = [*backfills(config, source, table), made][-MOST:]
    write_json(path, {"requests": [_dump(request) for request in kept]})
    return made


def backfills(config: Config, source: str, table: str) -> list[Backfill]:
    """What was requested, the oldest first."""
    found = read_json(_path(config, source, table))
    entries = found.get("requests", []) if isinstance(found, dict) else []
    return [_load(entry) for entry in entries]


def _dump(request: Backfill) -> dict[str, Any]:
    days = {"first": request.first, "last": request.last}
    return {"at": request.at, **{n: d.isoformat() for n, d in days.items() if d is not None}}


def _load(entry: dict[str, Any]) -> Backfill:
    days = {n: date.fromisoformat(entry[n]) for n in ("first", "last") if n in entry}
    return Backfill(str(entry["at"]), **days)


def _path(config: Config, source: str, table: str) -> Path:
    return LakePaths(config.data_dir).run / f"{source}.{table}.requests"
