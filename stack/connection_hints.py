"""The lines that open each part of the project, ready to paste, without a password in them."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lake.config import EMBEDDED, Config, Endpoints
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
        _mysql(config, endpoints),
        _sftp(config, endpoints),
        ConnectionHint("kafka", endpoints.kafka, "the bootstrap address, for any client"),
        ConnectionHint("connect", f"curl -s '{endpoints.connect}/connectors?expand=status'"),
        ConnectionHint("api", f"curl -s {endpoints.dolarapi}/v1/dolares/blue"),
    ]


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


def _mysql(config: Config, endpoints: Endpoints) -> ConnectionHint:
    there = endpoints.mysql
    if config.settings.services.mysql.host != EMBEDDED:
        words = ["-h", there.host, "-P", str(there.port), "-u", there.user, "-p", there.database]
        return ConnectionHint("mysql", _command("mysql", *words))
    secret = config.stack_dir / "mysql" / "client.cnf"
    if shutil.which("mysql"):
        return ConnectionHint(
            "mysql", _command("mysql", f"--defaults-file={secret}", there.database)
        )
    ask = _command(sys.executable, "-m", "stack.mysql_shell", secret, there.database, "SHOW TABLES")
    return ConnectionHint("mysql", ask, "no `mysql` program is installed here")


def _sftp(config: Config, endpoints: Endpoints) -> ConnectionHint:
    there = endpoints.sftp
    words = ["sftp", "-P", str(there.port)]
    remark = ""
    if config.settings.services.sftp.host == EMBEDDED:
        # ssh splits this option's value at blanks unless it is quoted once more
        words += ["-o", f'UserKnownHostsFile="{there.known_hosts}"']
        words += ["-o", "PubkeyAuthentication=no"]
        remark = "password: " + _command("cat", config.stack_dir / "sftp" / "password")
    return ConnectionHint("sftp", _command(*words, f"{there.user}@{there.host}:/upload"), remark)
