"""`ducklake export`: PostgreSQL brought up to date or mended, or a copy of the DuckDB file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ducklake.cli.options import ConfigOption, JsonOption
from ducklake.cli.output import note
from lake.config import load_config
from lake.errors import ConfigError
from lake.storage.paths import LakePaths

_MEANING = {True: "as in the lake", False: "mended"}


def export(
    relations: Annotated[
        list[str] | None,
        typer.Argument(help="With --repair: only these relations, such as raw.orders."),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Compare everything with the lake, and mend what differs."),
    ] = False,
    duckdb: Annotated[
        Path | None,
        typer.Option(
            help="Write a DuckDB file that needs no other file; PostgreSQL is left alone."
        ),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Export to PostgreSQL what it does not have yet, or repair what it has.

    Exit code 1: a relation could not be exported or compared.
    """
    settings = load_config(config)
    if duckdb is not None:
        if repair:
            raise ConfigError("--duckdb writes a new file, --repair mends.", "Omit one of them.")
        _copy(settings, duckdb, as_json)
        return
    if relations and not repair:
        raise ConfigError("An export writes whatever is new.", "Name relations with --repair only.")
    endpoint = settings.endpoints().postgres
    rows = _repaired(settings, endpoint, relations or ()) if repair else _now(settings, endpoint)
    if as_json:
        print(json.dumps({"relations": rows}))
    else:
        _show(rows, repair)
    for row in rows:
        if row["error"]:
            note(f"ducklake: {row['relation']}: {row['error']}")
    if any(row["error"] for row in rows):
        raise typer.Exit(1)


def _copy(settings: Any, target: Path, as_json: bool) -> None:
    from batcher.duckdb_copy import copy_published

    def progress(at: int, count: int, relation: str) -> None:
        note(f"{at + 1} of {count}: {relation} ...")

    found = copy_published(LakePaths(settings.data_dir), target, progress)
    if as_json:
        print(json.dumps({"file": str(target), "rows": found}))
    else:
        note(f"{target}: {len(found)} tables, {sum(found.values()):,} rows")


def _now(settings: Any, endpoint: Any) -> list[dict[str, Any]]:
    from batcher.manual_export import manual_export

    note("export ...")
    with manual_export(settings, endpoint) as exporting:
        result = exporting.now()
    return [
        {"relation": relation, **asdict(difference), "error": ""}
        for relation, difference in result.differences.items()
    ] + [
        {"relation": relation, "added": 0, "changed": 0, "removed": 0, "error": str(error)}
        for relation, error in result.held_back.items()
    ]


def _repaired(settings: Any, endpoint: Any, names: Iterable[str]) -> list[dict[str, Any]]:
    from batcher.manual_export import manual_export

    with manual_export(settings, endpoint) as exporting:
        chosen = exporting.chosen(list(names))

        def progress(done: int, relation: str) -> None:
            note(f"{done + 1} of {len(chosen)}: {relation} ...")

        return [
            {
                "relation": found.relation,
                **asdict(found.difference),
                "error": str(found.error or ""),
            }
            for found in exporting.repair(chosen, progress)
        ]


def _show(rows: Iterable[dict[str, Any]], repair: bool) -> None:
    table = Table("Relation", "Added", "Changed", "Removed", "", box=None)
    for row in rows:
        figures = [f"{row[name]:,}" for name in ("added", "changed", "removed")]
        equal = not (row["added"] or row["changed"] or row["removed"])
        state = "failed" if row["error"] else _MEANING[equal] if repair else "exported"
        table.add_row(row["relation"], *figures, state)
    Console().print(table)
