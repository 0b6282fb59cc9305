"""What the commands for sources of files do."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table as Grid

from ducklake.cli.configuration import load_checked
from lake.config import Config, Table, nearest
from lake.errors import ConfigError, SourceError
from producers.cursors import committed_cursors
from producers.files.connector import FileConnector
from producers.files.folder import FileUnavailable, shown
from producers.files.history import file_history
from producers.files.matching import matching_files
from producers.files.preview import Preview, preview
from producers.files.reading import suffixes
from producers.files.requests import request_again
from producers.files.spool import fetched
from producers.formats import FORMATS, UnreadableFile
from producers.registry import connector, connector_class


def is_file_source(config: Config, name: str) -> bool:
    """Whether a source reads files."""
    if name not in config.settings.sources:
        return False
    try:
        return issubclass(connector_class(config, name), FileConnector)
    except ConfigError:
        return False


def request_backfill(config: Config, topic: str, as_json: bool) -> None:
    """Have the files of a table read again, by the producers that run or start next."""
    name, table = _split(config, topic)
    moment = request_again(config, name, table)
    if as_json:
        print(json.dumps({"table": topic, "requested_at": moment}))
    else:
        print(f"{topic}: its files are read again by `ducklake run` or `ducklake produce`.")


def show_history(path: Path | None, topic: str, as_json: bool) -> None:
    """List the files of a table.

    Raises:
        ConfigError: There is no such table of files.
        ServiceUnreachable: Kafka or the folder's server does not answer.
    """
    config = load_checked(path, [topic.partition(".")[0]])
    name, table = _split(config, topic)
    source = _source(config, name)
    found = file_history(source, table, committed_cursors(config.endpoints(), name))
    if as_json:
        print(json.dumps({"table": topic, "files": [entry.dump() for entry in found]}))
        return
    grid = Grid("file", "state", "rows", "rejects", "seen", "read", "reason", box=None)
    for entry in found:
        numbers = (f"{entry.rows:,}", f"{entry.rejects:,}")
        grid.add_row(entry.file, entry.state, *numbers, entry.seen_at, entry.read_at, entry.reason)
    Console().print(grid if found else f"{topic}: no file yet")


def show_preview(path: Path | None, what: str, as_json: bool) -> None:
    """Show how a file, or the newest file of a table, is read.

    Raises:
        ConfigError: It is neither a file nor a table.
        SourceError: It cannot be read.
    """
    file = Path(what)
    try:
        found = _of_file(file) if file.is_file() else _of_table(path, what)
    except (UnreadableFile, FileUnavailable) as error:
        remedy = getattr(error, "remedy", "")
        raise SourceError(f"{what}: {getattr(error, 'what', error)}.", remedy) from None
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise SourceError(f"{what}: the options of its format: {said}.") from None
    if as_json:
        print(json.dumps({**asdict(found), "yaml": _yaml(found)}, default=str))
    else:
        _print(found)


def _of_file(file: Path) -> Preview:
    spec = Table(file=file.name)
    if suffixes(spec)[0] not in FORMATS:
        known = ", ".join(FORMATS)
        raise ConfigError(f"{shown(file.name)} has no known format; known: {known}.")
    with file.open("rb") as content:
        return preview(file.name, content, file.stat().st_size, spec, guess=True)


def matching(config: Config, topic: str) -> list[str]:
    """The files that a table has now.

    Raises:
        ConfigError: There is no such table of files.
        SourceError: The folder cannot be read.
    """
    name, table = _split(config, topic)
    pattern = config.settings.sources[name].tables[table].file or ""
    try:
        with _source(config, name).open_folder() as folder:
            return list(matching_files(folder, pattern))
    except FileUnavailable as error:
        raise SourceError(f"{topic}: {error.what}.", error.remedy) from None


def _of_table(path: Path | None, topic: str) -> Preview:
    if "." not in topic or "/" in topic:
        raise ConfigError(f"There is no file {topic!r}.", "Name a file, or a table: SOURCE.TABLE.")
    config = load_checked(path, [topic.partition(".")[0]])
    name, table = _split(config, topic)
    source, spec = _source(config, name), config.settings.sources[name].tables[table]
    with source.open_folder() as folder:
        states = {p: folder.state(p) for p in matching_files(folder, spec.file or "")}
        if not states:
            raise SourceError(f"{topic}: no file matches {spec.file}.", "Drop one, or mend `file`.")
        newest = max(states, key=lambda p: (states[p].mtime, p))
        with fetched(folder, newest, states[newest]) as file:
            return preview(shown(newest), file.content, file.size, spec, guess=False)


def _split(config: Config, topic: str) -> tuple[str, str]:
    name, _, table = topic.partition(".")
    sources = config.settings.sources
    if name not in sources:
        raise ConfigError(f"There is no source {name!r}{nearest(name, sources)}.")
    if not is_file_source(config, name):
        raise ConfigError(f"Source {name} reads no files.")
    tables = sources[name].tables
    if table not in tables:
        raise ConfigError(
            f"Source {name} has no table {table!r}{nearest(table, tables)}.",
            "Name it as SOURCE.TABLE.",
        )
    return name, table


def _source(config: Config, name: str) -> FileConnector:
    made = connector(config, config.endpoints(), name)
    assert isinstance(made, FileConnector), "checked before"
    return made


def _yaml(found: Preview) -> str:
    """The table's section, to paste under `tables`."""
    name = found.file.rpartition("/")[2].partition(".")[0].lower()
    table = "".join(c if c.isascii() and c.isalnum() else "_" for c in name) or "files"
    entry: dict[str, Any] = {"file": found.file.rpartition("/")[2]}
    typed = {column: type_ for column, type_ in found.columns.items() if type_ != "VARCHAR"}
    if typed:
        entry["columns"] = typed
    if found.options:
        entry["options"] = found.options
    section = {table if table[0].isalpha() else f"t_{table}": entry}
    return yaml.safe_dump(section, sort_keys=False, allow_unicode=True)


def _print(found: Preview) -> None:
    console = Console()
    options = ", ".join(f"{name} {value!r}" for name, value in found.options.items())
    console.print(f"{found.file}: {found.format}, {options or 'default options'}", markup=False)
    for note in found.notes:
        console.print(shown(note), markup=False)
    grid = Grid(*(f"{n}\n{t}" for n, t in found.columns.items()), box=None)
    for row in found.rows:
        grid.add_row(*(shown(str(row.get(name, ""))) for name in found.columns))
    console.print(grid)
    console.print(f"{found.looked_at:,} rows looked at, {len(found.rejects)} rejects shown")
    for number, reason in found.rejects:
        console.print(f"row {number}: {reason}", markup=False)
    console.print(f"\n{_yaml(found)}", markup=False)
