"""Requests to read the files of a table again: beside the roles' state, where producers look."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from lake.config import Config
from lake.storage.json_files import read_json, write_json
from lake.storage.operations import make_scratch_folder
from lake.storage.paths import LakePaths
from producers.files.version import now


def request_again(
    config: Config, source: str, table: str, files: Collection[str] | None = None
) -> str:
    """Have files of a table read again as a new version; the moment of the request.

    Args:
        config: The configuration.
        source: The source.
        table: The table.
        files: The files, by the names that are shown; None: all.
    """
    path = _path(config, source, table)
    make_scratch_folder(path.parent)
    moment = now()
    known = read_json(path)
    if files is None:
        write_json(path, {"requested_at": moment})
    else:
        asked = {**known.get("files", {}), **dict.fromkeys(files, moment)}
        write_json(path, {**known, "files": asked})
    return moment


def requested_at(config: Config, source: str, table: str, file: str) -> str:
    """When a file of a table was last asked for again, ISO; empty for never.

    Args:
        config: The configuration.
        source: The source.
        table: The table.
        file: The file's name as it is shown.
    """
    found = read_json(_path(config, source, table))
    asked = found.get("files", {})
    moments = found.get("requested_at", ""), asked.get(file, "") if isinstance(asked, dict) else ""
    return max(map(str, moments))


def _path(config: Config, source: str, table: str) -> Path:
    return LakePaths(config.data_dir).run / f"{source}.{table}.backfill"
