"""`ducklake init --add`: a table more in a project that is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ducklake.cli.configuration import load_checked
from ducklake.projects.adding import check_text, replace_text, with_entry
from ducklake.projects.config_text import entry_text
from ducklake.projects.dbt_text import project_files, table_files
from ducklake.projects.folders import folder_tables
from ducklake.projects.found import FoundTable
from ducklake.projects.mysql import check_server, is_wanted, server_tables, without_home
from ducklake.projects.writing import write_new
from lake.config import (
    DEAD_LETTERS,
    MYSQL_CDC,
    Config,
    MysqlConnection,
    SftpConnection,
    TableRef,
    nearest,
)
from lake.errors import ConfigError
from producers.files.folder import Folder
from producers.files.local import LocalFolder
from producers.registry import source_connection
from producers.sftp.folder import SftpFolder
from producers.sftp.session import open_session

_SHARED = "macros/newest_files.sql", "tests/generic/unique_combination.sql"
"""What the models of tables use."""


def add_table(path: Path | None, topic: str, history: bool, as_json: bool) -> None:
    """Add a table to its source in `ducklake.yml`, with its models.

    Raises:
        ConfigError: There is no such source or table, or it is there already.
        SourceError: The source cannot be read.
        ServiceUnreachable: It does not answer.
    """
    name, _, wanted = topic.partition(".")
    config = load_checked(path, [name])
    if name not in config.settings.sources or not wanted:
        known = nearest(name, config.settings.sources)
        raise ConfigError(f"There is no source {name!r}{known}.", "Name a table as SOURCE.TABLE.")
    table = _found(config, name, wanted)
    text = with_entry(config.path.read_text(encoding="utf-8"), name, entry_text(table))
    after = check_text(config, text)
    relation = after.relation(TableRef(name, table.name))
    files = dict(table_files(table, relation, history))
    for shared, content in project_files(config.settings.name):
        if shared in _SHARED and not (config.dbt_project / shared).exists():
            files[shared] = content
    written = write_new(config.dbt_project, files)
    replace_text(config, text)
    paths = [str(config.dbt_project / each) for each in written]
    if as_json:
        told = {"table": f"{name}.{table.name}", "from": table.origin, "notes": list(table.notes)}
        print(json.dumps({**told, "changed": [str(config.path)], "written": paths}))
        return
    print(f"{name}.{table.name}: {table.origin}, added to {config.path}")
    for each in (*table.notes, *paths):
        print(each)


def _found(config: Config, name: str, wanted: str) -> FoundTable:
    source = config.settings.sources[name]
    taken = {DEAD_LETTERS, *(ref.table for ref, _ in config.tables())}
    if source.type == MYSQL_CDC:
        at = source_connection(config, name)
        assert isinstance(at, MysqlConnection), "the connector's own"
        known = {(t.database or at.database, t.table or key) for key, t in source.tables.items()}
        tables = [
            table
            for table in server_tables(at, "", set(taken))
            if tuple(table.origin.split(".", 1)) not in known
        ]
        found = _one(tables, name, wanted)
        check_server(at, [found])
        return without_home(found, at.database)
    if source.type in ("files", "sftp"):
        files = {spec.file for spec in source.tables.values()}
        with _folder(config, name) as folder:
            seen = folder_tables(folder, f"sources.{name}", taken)
        return _one([table for table in seen if table.origin not in files], name, wanted)
    raise ConfigError(
        f"Source {name} is of type {source.type}, whose tables cannot be looked up.",
        f"Write the table under sources.{name}.tables; docs/CONFIGURATION.md has its keys.",
    )


@contextmanager
def _folder(config: Config, name: str) -> Iterator[Folder]:
    source = config.settings.sources[name]
    if source.type == "files":
        yield LocalFolder((config.root / Path(source.directory).expanduser()).absolute())
        return
    at = source_connection(config, name)
    assert isinstance(at, SftpConnection), "the connector's own"
    with open_session(at) as sftp:
        yield SftpFolder(sftp, source.directory)


def _one(tables: list[FoundTable], source: str, wanted: str) -> FoundTable:
    found = [table for table in tables if is_wanted(table, (wanted,))]
    if len(found) == 1:
        return found[0]
    names = [table.origin.partition(".")[2] or table.name for table in tables]
    if found:
        several = ", ".join(table.origin for table in found)
        raise ConfigError(
            f"{source}: several tables are called {wanted!r}: {several}.",
            f"Name one of them: `ducklake init --add {source}.{found[0].origin}`.",
        )
    raise ConfigError(
        f"{source} has no table {wanted!r} that is not taken already{nearest(wanted, names)}.",
        f"There are: {', '.join(names[:20]) or 'none'}.",
    )
