"""A DuckLake catalogue of the lake's public files: frozen, to be read only, made anew each time.

DuckLake owns the files of a catalogue that is written to: its maintenance merges and deletes them.
So nobody is to write to this one. It is a file of its own, which a rename replaces as a whole;
whoever has the old one open goes on reading it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import duckdb

from lake.config import Config, TableRef
from lake.errors import ConfigError, DuckLakeError, SchemaDrift
from lake.failpoints import failpoint
from lake.installation import install_extra
from lake.ledger import LakeFile, LedgerReader
from lake.storage.operations import (
    disk_full_is_transient,
    make_read_only,
    remove_file,
    rename,
    sync_file,
    sync_folder,
)
from lake.storage.paths import LakePaths
from lake.storage.sql import literal, quoted

_PACKAGE = "duckdb_extension_ducklake"


@dataclass(frozen=True, slots=True)
class Listed:
    """What the catalogue lists of a table.

    Attributes:
        table: The topic.
        files: Its public files; 0 where the table is left out.
        rows: Their rows.
        error: Why it is left out.
    """

    table: str
    files: int
    rows: int
    error: DuckLakeError | None = None


def extension() -> Path:
    """DuckDB's signed extension, from the package that brings it along.

    Raises:
        ConfigError: The extra `ducklake-format` is not installed, or is another DuckDB's.
    """
    found = find_spec(_PACKAGE)
    folders = list(found.submodule_search_locations or []) if found is not None else []
    for folder in folders:
        path = Path(folder) / "extensions" / f"v{duckdb.__version__}" / "ducklake.duckdb_extension"
        if path.is_file():
            return path
    raise ConfigError(
        f"DuckLake catalogues need DuckDB's extension ducklake for version {duckdb.__version__}.",
        f"Install it with `{install_extra('ducklake-format')}`.",
    )


def write_catalogue(config: Config, ledger: LedgerReader) -> list[Listed]:
    """Write the catalogue anew, and put it in the place of the one before.

    Args:
        config: The configuration.
        ledger: The lake's; its files are to stay where they are meanwhile (`pinned`).

    Returns:
        What it lists of each table that has public files.

    Raises:
        ConfigError: The extension is missing.
        DiskFull: There is no room for it; the one before stays.
    """
    found = extension()
    paths = LakePaths(config.data_dir)
    staged = paths.ducklake.with_name(f".{paths.ducklake.name}.new")
    with disk_full_is_transient(paths.root):
        _remove(staged)
        with _attached(found, staged, paths) as db:
            listed = [one for one in (_list(db, config, ledger, r) for r in _refs(config)) if one]
        sync_file(staged)
        make_read_only(staged)
        failpoint("catalog.before_rename")
        rename(staged, paths.ducklake)
        sync_folder(paths.root)
    return listed


def _refs(config: Config) -> Iterator[TableRef]:
    return (ref for ref, _ in config.tables())


def _remove(staged: Path) -> None:
    """What a killed run left."""
    for end in ("", ".wal"):
        remove_file(staged.with_name(staged.name + end))


@contextmanager
def _attached(found: Path, staged: Path, paths: LakePaths) -> Iterator[duckdb.DuckDBPyConnection]:
    """A new catalogue; its own folder for data is never made, as nothing is written to it."""
    folder = literal(str(paths.root / "catalog.ducklake.files") + "/")
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as db:
        db.execute(f"LOAD {literal(str(found))}")
        address = literal(f"ducklake:{staged}")
        db.execute(f"ATTACH {address} AS lake (DATA_PATH {folder})")
        yield db
        db.execute("DETACH lake")


def _list(
    db: duckdb.DuckDBPyConnection, config: Config, ledger: LedgerReader, ref: TableRef
) -> Listed | None:
    """List the public files of one table; None where it has none."""
    state, sealed = ledger.tables.get(ref.topic), ledger.sealed.after(ref.topic, None)
    if state is None or sealed is None or not sealed.new:
        return None
    columns = state.schema.relation(config.kind(ref))
    try:
        _add(db, ref, columns, sealed.new)
    except duckdb.Error as error:
        db.execute("ROLLBACK")
        said = " ".join(str(error).split())
        drift = SchemaDrift(
            f"DuckLake does not take the files of {ref.topic}: {said}.",
            "The table is left out, and is read from its files.",
        )
        return Listed(ref.topic, 0, 0, drift)
    return Listed(ref.topic, len(sealed.new), sum(file.rows for file in sealed.new))


def _add(
    db: duckdb.DuckDBPyConnection,
    ref: TableRef,
    columns: Sequence[tuple[str, str]],
    files: Sequence[LakeFile],
) -> None:
    schema, table = quoted(ref.source), quoted(ref.table)
    typed = ", ".join(f"{quoted(name)} {type_}" for name, type_ in columns)
    listed = ", ".join(literal(str(file.path)) for file in files)
    db.execute("BEGIN")
    db.execute(f"CREATE SCHEMA IF NOT EXISTS lake.{schema}")
    db.execute(f"CREATE TABLE lake.{schema}.{table} ({typed})")
    db.execute(
        f"CALL ducklake_add_data_files('lake', {literal(ref.table)}, [{listed}],"
        f" schema => {literal(ref.source)}, allow_missing => true, hive_partitioning => false)"
    )
    db.execute("COMMIT")
