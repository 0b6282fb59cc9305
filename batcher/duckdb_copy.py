"""A copy of the published DuckDB file that needs no other file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb

from batcher.catalog import opened
from lake.errors import BatchError
from lake.storage.operations import remove_file, rename, sync_file
from lake.storage.paths import LakePaths
from lake.storage.sql import literal, quoted

Progress = Callable[[int, int, str], None]
"""Called with the number of a relation, how many there are, and its name."""


def copy_published(
    paths: LakePaths, target: Path, progress: Progress = lambda at, count, relation: None
) -> dict[str, int]:
    """Copy every published relation, as of one cycle, into tables of a new file.

    Args:
        paths: The lake.
        target: The new file.
        progress: Told about each relation before it is copied.

    Returns:
        Rows of each relation.

    Raises:
        BatchError: Nothing is published yet, or the file cannot be written.
    """
    if not paths.lake_db.exists():
        raise BatchError(
            f"Nothing is published yet: there is no {paths.lake_db}.",
            "Run `ducklake batch --once`.",
        )
    if target.exists():
        raise BatchError(
            f"{target} is there already, and a copy never replaces a file.",
            "Remove it, or name another file.",
        )
    if not target.parent.is_dir():
        raise BatchError(f"There is no folder {target.parent}.", "Create it, or name another file.")
    staged = target.with_name(f"{target.name}.tmp")
    remove_file(staged)
    try:
        with opened(staged) as database:
            found = _copied(database, paths.lake_db, progress)
        sync_file(staged)
        rename(staged, target)
    except (duckdb.Error, OSError) as error:
        raise BatchError(
            f"The copy {target} could not be written: {str(error).partition(chr(10))[0]}.",
            "Nothing is left of it; run the same command again.",
        ) from None
    finally:
        remove_file(staged)
    return found


def _copied(
    database: duckdb.DuckDBPyConnection, lake_db: Path, progress: Progress
) -> dict[str, int]:
    database.execute(f"ATTACH {literal(str(lake_db))} AS published (READ_ONLY)")
    listed = database.execute(
        "SELECT schema_name, view_name FROM duckdb_views()"
        " WHERE NOT internal AND database_name = 'published' ORDER BY ALL"
    ).fetchall()
    rows = {}
    for at, (schema, name) in enumerate(listed):
        relation = f"{schema}.{name}"
        progress(at, len(listed), relation)
        own = f"{quoted(schema)}.{quoted(name)}"
        database.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
        database.execute(f"CREATE TABLE {own} AS FROM published.{own}")
        [(rows[relation],)] = database.execute(f"SELECT count(*) FROM {own}").fetchall()
    database.execute("DETACH published")
    return rows
