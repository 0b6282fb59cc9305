"""What a folder holds, here or on an SFTP server: its files with their dialects, as tables."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr, ValidationError

from ducklake.projects.found import (
    FoundSource,
    FoundTable,
    password_variable,
    server_address,
)
from ducklake.projects.mysql import Ask
from ducklake.projects.names import Reference, free_name
from lake.config import DEAD_LETTERS, SftpConnection, Table
from lake.errors import ConfigError, LoginRefused, SourceError
from producers.files.folder import FileUnavailable, Folder, shown
from producers.files.local import LocalFolder
from producers.files.preview import SAMPLE_ROWS, preview
from producers.files.reading import suffixes
from producers.files.spool import fetched
from producers.formats import FORMATS, UnreadableFile
from producers.sftp.folder import SftpFolder
from producers.sftp.session import open_session

_CONNECTION = "files_drop"
_DIGITS = re.compile(r"\d+")
_KEY_LIKE = re.compile(
    r"(^|_|\b)(id|key|code|codigo|clave|sku|nro|numero|number|uuid)(_|\b|$)", re.I
)


def files_source(folder: Path, project: Path) -> FoundSource:
    """Look at a folder of this machine.

    Args:
        folder: The folder.
        project: Where the project will be: a folder within it is named relative to it.

    Raises:
        ConfigError: There is no such folder.
        SourceError: It holds no file that can be read.
    """
    if not folder.is_dir():
        raise ConfigError(f"--files: there is no folder {folder}.", "Name one that is there.")
    real, home = folder.absolute(), project.absolute()
    said = real.relative_to(home).as_posix() if real.is_relative_to(home) else str(real)
    return FoundSource(
        "files",
        "files",
        settings={"directory": said},
        tables=folder_tables(LocalFolder(real), str(folder)),
    )


def sftp_source(url: str, ask_password: Ask) -> FoundSource:
    """Look at a folder of an SFTP server.

    Args:
        url: `sftp://user@host:22/folder`.
        ask_password: Asks somebody for the password that a variable holds.

    Raises:
        ConfigError: It is no such address.
        SourceError: The server refuses the user, its key is not known, or no file can be read.
        ServiceUnreachable: It does not answer.
    """
    parts = server_address(url, "sftp")
    if parts is None:
        raise ConfigError(
            "--sftp is not the address of an SFTP server.", "Write sftp://USER@HOST:22/FOLDER."
        )
    host, port = parts.hostname or "", parts.port or 22
    variable, user = password_variable(_CONNECTION), unquote(parts.username or "")
    known = unquote(parts.password or "") or os.environ.get(variable) or ask_password(variable)
    at = SftpConnection(host=host, port=port, user=user, password=SecretStr(known))
    directory = unquote(parts.path) or "/"
    try:
        with open_session(at.placed(_CONNECTION, "--sftp")) as sftp:
            tables = folder_tables(SftpFolder(sftp, directory), url_without_password(url))
    except LoginRefused as error:
        raise SourceError(
            error.what,
            f"Check the user in --sftp, and the password in {variable}. With a private key, write"
            " the connection yourself: docs/CONFIGURATION.md has its keys.",
        ) from None
    server: dict[str, Any] = {"host": host, **({"port": port} if port != 22 else {}), "user": user}
    server["password"] = Reference("${" + variable + "}")
    return FoundSource(
        "sftp",
        "sftp",
        _CONNECTION,
        server,
        {"directory": directory},
        tables,
        {variable: f"The password of {user} on SFTP {host}:{port}."},
    )


def url_without_password(url: str) -> str:
    """An address as it may be shown."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host).geturl()


def folder_tables(
    folder: Folder, shown_as: str, taken: Iterable[str] = (DEAD_LETTERS,)
) -> list[FoundTable]:
    """The files of a folder as tables.

    Args:
        folder: The folder.
        shown_as: What it is called in errors.
        taken: Names in the lake that others have.

    Raises:
        SourceError: It holds no file that can be read, or cannot be listed.
    """
    found: list[FoundTable] = []
    try:
        names = sorted(e.name for e in folder.entries("") if not e.is_folder)
    except FileUnavailable as error:
        raise SourceError(f"{shown_as}: {error.what}.", error.remedy) from None
    for pattern, members in _grouped(names).items():
        found.append(_table(folder, pattern, members, {*taken, *(t.name for t in found)}))
    if not found:
        known = ", ".join(FORMATS)
        raise SourceError(f"{shown_as} holds no file that can be read.", f"Known formats: {known}.")
    return found


def _grouped(names: Sequence[str]) -> dict[str, list[str]]:
    """Files by name, and those that differ in digits only by a pattern: `sales_*.csv`."""
    alike: dict[str, list[str]] = {}
    for name in names:
        known = suffixes(Table(file=name))[0] in FORMATS
        if known and not name.startswith(".") and name.isprintable() and not set("*?[") & set(name):
            stem, suffix = _split(name)
            alike.setdefault(_DIGITS.sub("*", stem) + suffix, []).append(name)
    return {
        (pattern if len(members) > 1 else members[0]): members for pattern, members in alike.items()
    }


def _split(name: str) -> tuple[str, str]:
    suffix = "".join(PurePosixPath(name).suffixes[-2:])
    return name.removesuffix(suffix), suffix


def _table(folder: Folder, pattern: str, members: Sequence[str], taken: set[str]) -> FoundTable:
    states = {name: folder.state(name) for name in members}
    newest = max(members, key=lambda name: (states[name].mtime, name))
    stem = _DIGITS.sub("", _split(pattern)[0].replace("*", "")) if "*" in pattern else ""
    name = free_name((stem or _split(newest)[0]).strip("_-. ") or "files", taken)
    entry: dict[str, Any] = {"file": pattern}
    size = f"{sum(s.size for s in states.values()) / 1e6:,.1f} MB"
    try:
        with fetched(folder, newest, states[newest]) as file:
            seen = preview(newest, file.content, file.size, Table(file=newest), guess=True)
    except (UnreadableFile, FileUnavailable, ValidationError) as error:
        what = "its options have to be written" if isinstance(error, ValidationError) else error
        note = f"{shown(newest)}: {what}"
        return FoundTable(name, pattern, entry, (), (), "files", size, (note,))
    # what tells the rows of one file apart may come again in the next one
    key = guessed_key(seen.distinct) if len(members) == 1 else ()
    if key:
        entry["key"] = list(key)
    typed = {column: kind for column, kind in seen.columns.items() if kind != "VARCHAR"}
    if typed:
        entry["columns"] = typed
    if seen.options:
        entry["options"] = dict(seen.options)
    notes = [f"{len(seen.rejects)} rows cannot be read"] if seen.rejects else []
    rows = f"{seen.looked_at:,}{'+' if seen.looked_at >= SAMPLE_ROWS else ''} rows, {size}"
    notes += [shown(note) for note in seen.notes]
    return FoundTable(name, pattern, entry, tuple(seen.columns), key, "files", rows, tuple(notes))


def guessed_key(distinct: Iterable[str]) -> tuple[str, ...]:
    """The first column that is named like a key, of those that tell all rows apart."""
    return next(((column,) for column in distinct if _KEY_LIKE.search(column)), ())
