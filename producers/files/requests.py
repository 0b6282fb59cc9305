"""Requests to read the files of a table again: beside the roles' state, where producers look."""

from __future__ import annotations

from pathlib import Path

from lake.config import Config
from lake.storage.json_files import read_json, write_json
from lake.storage.operations import make_scratch_folder
from lake.storage.paths import LakePaths
from producers.files.version import now


def request_again(config: Config, source: str, table: str) -> str:
    """Have every file of a table read again as a new version; the moment of the request."""
    path = _path(config, source, table)
    make_scratch_folder(path.parent)
    moment = now()
    write_json(path, {"requested_at": moment})
    return moment


def requested_at(config: Config, source: str, table: str) -> str:
    """When the files of a table were last asked for again, ISO; empty for never."""
    found = read_json(_path(config, source, table))
    return str(found.get("requested_at", "")) if isinstance(found, dict) else ""


def _path(config: Config, source: str, table: str) -> Path:
    return LakePaths(config.data_dir).run / f"{source}.{table}.backfill"
