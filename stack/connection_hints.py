"""The lines that open each part of the project, ready to paste, without a password in them."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from lake.config import (
    EMBEDDED,
    FOREIGN,
    Config,
    Endpoints,
    MysqlConnection,
    SftpConnection,
    Source,
)
from lake.installation import PROJECT, is_installed
from producers.connections import connect
from producers.http.connection import RestConnection
from producers.registry import connector_class
from producers.rest.options import RestTable, placeholders
from stack.connect import CURL
from stack.kafka import CLIENT
from stack.tools import Tools

LAKE = "lake.duckdb"


@dataclass(frozen=True, slots=True)
class ConnectionHint:
    """A part, the line that opens it, and a remark (may be empty)."""

    part: str
    line: str
    remark: str = ""


def connection_hints(config: Config) -> list[ConnectionHint]:
    """Lines for every part, embedded or the user's own.

    Raises:
        StackNotRunning: A service is embedded and the stack is not up.
    """
    endpoints = config.endpoints()
    return [
        *_duckdb(config),
        _postgres(config, endpoints),
        *_sources(config),
        _kafka(config, endpoints),
        _connect(config, endpoints),
    ]


def _kafka(config: Config, endpoints: Endpoints) -> ConnectionHint:
    remark = "the bootstrap address, for any client"
    if config.settings.services.kafka.bootstrap_servers == EMBEDDED:
        login = shlex.quote(str(config.stack_dir / "kafka" / CLIENT))
        remark = f"the bootstrap address; Kafka's tools log in by --command-config {login}"
    return ConnectionHint("kafka", endpoints.kafka, remark)


def _sources(config: Config) -> Iterator[ConnectionHint]:
    """One line for each server that a source reads, called after the first source that does."""
    seen: set[str] = set()
    for name, source in config.settings.sources.items():
        if source.type == FOREIGN:
            continue
        [use, *_] = connector_class(config, name).connections_used(name, source)
        found, embedded = connect(config, use), use.is_embedded(config)
        match found:
            case MysqlConnection():
                hint = _mysql(config, name, found, embedded)
            case SftpConnection():
                hint = _sftp(config, name, found, embedded, source.directory)
            case RestConnection():
                hint = ConnectionHint(name, f"curl -s {_first_address(found, source)}")
            case _:
                continue
        if hint.line not in seen:
            seen.add(hint.line)
            yield hint


def _first_address(api: RestConnection, source: Source) -> str:
    """An address of the API that can be opened as it is; the API itself where there is none."""
    for spec in source.tables.values():
        try:
            requests = RestTable.model_validate(spec.options).all_requests()
        except ValidationError:
            continue  # whoever runs the source says what is wrong
        for request in requests.values():
            url = request.url or ""
            if request.connection is None and "://" not in url and not placeholders(url):
                return shlex.quote(f"{api.base_url}/{url.lstrip('/')}")
    return shlex.quote(api.base_url)


def _connect(config: Config, endpoints: Endpoints) -> ConnectionHint:
    """Without the password: the embedded one's is in a file, and curl asks for another."""
    parts = urlsplit(endpoints.connect)
    host = parts.netloc.rpartition("@")[2]
    login = f" -u {shlex.quote(unquote(parts.username))}" if parts.username else ""
    if config.settings.services.connect.url == EMBEDDED:
        login = f" -K {shlex.quote(str(config.stack_dir / 'connect' / CURL))}"
    address = f"{parts.scheme}://{host}{parts.path}/connectors?expand=status"
    return ConnectionHint("connect", f"curl -s{login} '{address}'")


def _command(*words: str | Path, **environment: str | Path) -> str:
    settings = (f"{name}={shlex.quote(str(value))}" for name, value in environment.items())
    return " ".join((*settings, *(shlex.quote(str(word)) for word in words)))


def _duckdb(config: Config) -> Iterator[ConnectionHint]:
    lake = config.data_dir / LAKE
    remark = "" if lake.exists() else "there after the first batch"
    if shutil.which("duckdb"):
        yield ConnectionHint("duckdb", _command("duckdb", "-readonly", lake), remark)
    code = (
        f"import duckdb; lake = duckdb.connect({json.dumps(str(lake))}, read_only=True);"
        ' print(lake.sql("SHOW ALL TABLES"))'
    )
    yield ConnectionHint("duckdb", _command(sys.executable, "-i", "-c", code), remark)


def _postgres(config: Config, endpoints: Endpoints) -> ConnectionHint:
    there = endpoints.postgres
    words = ["-h", there.host, "-p", str(there.port), "-U", there.user, "-d", there.database]
    if config.settings.services.postgres.host != EMBEDDED:
        return ConnectionHint("psql", _command("psql", *words))
    # the one of the server's own version: an older one fails at \l and \d
    program = Tools.locate().postgres_bin / "psql"
    secret = config.stack_dir / "postgres" / "pgpass"
    return ConnectionHint("psql", _command(program, *words, PGPASSFILE=secret))


def _mysql(config: Config, part: str, there: MysqlConnection, embedded: bool) -> ConnectionHint:
    if not embedded:
        words = ["-h", there.host, "-P", str(there.port), "-u", there.user, "-p", there.database]
        return ConnectionHint(part, _command("mysql", *words))
    secret = config.stack_dir / "mysql" / "client.cnf"
    if shutil.which("mysql"):
        return ConnectionHint(part, _command("mysql", f"--defaults-file={secret}", there.database))
    path = {"PYTHONPATH": PROJECT} if is_installed() else {}
    shell = (sys.executable, "-m", "stack.mysql_shell", secret, there.database, "SHOW TABLES")
    ask = _command(*shell, **path)
    return ConnectionHint(part, ask, "no `mysql` program is installed here")


def _sftp(
    config: Config, part: str, there: SftpConnection, embedded: bool, folder: str
) -> ConnectionHint:
    words = ["sftp", "-P", str(there.port)]
    remark = ""
    if embedded:
        # ssh splits this option's value at blanks unless it is quoted once more
        words += ["-o", f'UserKnownHostsFile="{there.known_hosts}"']
        words += ["-o", "PubkeyAuthentication=no"]
        remark = "password: " + _command("cat", config.stack_dir / "sftp" / "password")
    return ConnectionHint(part, _command(*words, f"{there.user}@{there.host}:{folder}"), remark)
