"""`ducklake catalog`: the lake's public files in catalogues that other engines read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table as RichTable

from consumers.catalogs import iceberg_must_be_installed
from consumers.catalogs.ducklake_format import write_catalogue
from ducklake.cli.checks import chosen_all
from ducklake.cli.output import note
from lake.config import Config, TableRef
from lake.errors import DuckLakeError
from lake.opening import open_lake
from lake.storage.privacy import keep_private

if TYPE_CHECKING:
    from consumers.catalogs.iceberg import IcebergTables, Registered


def register(config: Config, names: Sequence[str] | None, rebuild: bool, as_json: bool) -> bool:
    """Register public files as Iceberg tables; gives whether all tables could be.

    Raises:
        ConfigError: The extra `iceberg` is not installed, or there is no such table.
        ServiceUnreachable: The catalogue does not answer.
        LedgerError: The ledger is missing, or older than the lake's files.
    """
    iceberg_must_be_installed()
    from consumers.catalogs.iceberg import IcebergTables
    from consumers.catalogs.iceberg_catalog import shown

    keep_private(config.data_dir)
    refs = [ref for ref, _ in chosen_all(config, names)]
    with (
        open_lake(config, for_writing=False) as lake,
        closing(IcebergTables(config, lake.ledger)) as catalog,
    ):
        found = list(_each(catalog, refs, rebuild))
    if as_json:
        entries = [
            {
                **asdict(one),
                "error": why.what if why else "",
                "remedy": why.remedy if why else "",
            }
            for one, why in found
        ]
        print(json.dumps({"catalog": shown(config), "tables": entries}))
    else:
        _show(found, shown(config))
    failed = [(one.table, why) for one, why in found if why is not None]
    for name, why in failed:
        note(f"ducklake: {name}: {why}")
    return not failed


def _each(
    catalog: IcebergTables, refs: Sequence[TableRef], rebuild: bool
) -> Iterator[tuple[Registered, DuckLakeError | None]]:
    """What was registered of each table; one that fails does not stop the others."""
    from consumers.catalogs.iceberg import Registered

    for ref in refs:
        try:
            if rebuild:
                catalog.drop(ref)
            yield catalog.register(ref), None
        except DuckLakeError as error:
            yield Registered(ref.topic), error


def _show(found: Sequence[tuple[Registered, DuckLakeError | None]], where: str) -> None:
    table = RichTable(title=f"Iceberg tables in {where}", box=None, title_justify="left")
    table.add_column("Table")
    for name in ("Files", "Rows", "Registered", "Replaced", "Snapshots"):
        table.add_column(name, justify="right")
    for one, error in found:
        if error is None:
            figures = (one.files, one.rows, one.added, one.removed, one.snapshots)
            table.add_row(one.table, *(f"{figure:,}" for figure in figures))
        else:
            table.add_row(one.table, "failed")
    Console().print(table)


def freeze(config: Config, as_json: bool) -> bool:
    """Write the DuckLake catalogue anew; gives whether it lists all tables.

    Raises:
        ConfigError: The extra `ducklake-format` is not installed.
        ServiceUnreachable: The files of a date are being exchanged, and that does not end.
        LedgerError: The ledger is missing, or older than the lake's files.
        DiskFull: There is no room; the catalogue of before stays.
    """
    keep_private(config.data_dir)
    with open_lake(config, for_writing=False) as lake, lake.pinned():
        found = write_catalogue(config, lake.ledger)
        path = str(lake.paths.ducklake)
    failed = [one.error for one in found if one.error is not None]
    if as_json:
        entries = [
            {
                "table": one.table,
                "files": one.files,
                "rows": one.rows,
                "error": one.error.what if one.error else "",
                "remedy": one.error.remedy if one.error else "",
            }
            for one in found
        ]
        print(json.dumps({"catalog": path, "tables": entries}))
    else:
        listed = [one for one in found if one.error is None]
        rows = sum(one.rows for one in listed)
        print(f"{path}: {len(listed)} tables, {rows:,} rows. To be read only:")
        print(f"ATTACH 'ducklake:{path}' AS lake (READ_ONLY);")
    for error in failed:
        note(f"ducklake: {error}")
    return not failed
