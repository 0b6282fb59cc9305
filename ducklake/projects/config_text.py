"""`ducklake.yml` and the other files of a new project, as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ducklake.projects.found import FoundSource, FoundTable
from ducklake.projects.names import flow

_HEAD = """\
# DuckLake Stream: sources, tables, intervals and targets. `ducklake config check` validates it.
# ${{NAME}} takes a value from the environment; `ducklake config schema` prints all keys.
name: {name}
data_dir: data                     # all data, relative to this file

services:                          # each is `embedded` (started by `ducklake up`) or your own
  kafka:
    bootstrap_servers: embedded    # your own: broker1:9092,broker2:9092
  connect:
    url: embedded                  # your own: http://connect:8083
  postgres:                        # receives the schemas raw, staging and, if there is one, history
    host: embedded
    port: 5432
    user: ducklake
    password: ${{DUCKLAKE_POSTGRES_PASSWORD:-}}
    database: {name}
"""
_TAIL = """
batch:
  time_zone: UTC                   # whose date is "today": America/Argentina/Buenos_Aires
  dbt_project: dbt
"""
_IGNORED = """\
data/
.env
dbt/target/
dbt/logs/
dbt/dbt_packages/
dbt/package-lock.yml
"""
_ABOUT = {
    "mysql_cdc": "Debezium follows the binlog",
    "sftp": "files of an SFTP server",
    "files": "files of a folder on this machine",
    "rest": "an API that answers JSON",
}


def config_text(name: str, sources: Sequence[FoundSource]) -> str:
    """`ducklake.yml`."""
    lines = [_HEAD.format(name=name).rstrip("\n")]
    servers = {source.connection: source.server for source in sources if source.connection}
    if servers:
        lines += ["", "connections:                       # passwords come from the environment"]
        lines += [f"  {each}: {flow(dict(server))}" for each, server in servers.items()]
    lines += ["", "sources:"]
    for source in sources:
        lines += source_lines(source)
    return "\n".join(lines) + "\n" + _TAIL


def source_lines(source: FoundSource) -> Iterator[str]:
    """A source's section, indented as it stands under `sources`."""
    about = _ABOUT.get(source.type, "")
    yield f"  {source.name}:"
    yield f"    type: {source.type}".ljust(35) + f"# {about}"
    if source.connection:
        yield f"    connection: {source.connection}"
    for key, value in source.settings.items():
        yield f"    {key}: {flow(value)}"
    yield "    tables:"
    for table in source.tables:
        yield f"      {entry_text(table)}"


def entry_text(table: FoundTable) -> str:
    """A table's section on one line."""
    return f"{flow(table.name)}: {flow(dict(table.entry))}"


def other_files(name: str, sources: Sequence[FoundSource]) -> Iterator[tuple[str, str]]:
    """(path, text) of what stands beside `ducklake.yml` and the dbt project."""
    variables = {k: text for source in sources for k, text in source.variables.items()}
    yield ".env.example", _environment(variables)
    yield ".gitignore", _IGNORED
    yield "README.md", _readme(name, sources, bool(variables))


def _environment(variables: dict[str, str]) -> str:
    lines = ["# cp .env.example .env, fill it in, then: set -a; . ./.env; set +a"]
    for name, what in variables.items():
        lines += ["", f"# {what}", f"{name}="]
    if not variables:
        lines += ["", "# Nothing here needs a secret yet."]
    return "\n".join(lines) + "\n"


def _readme(name: str, sources: Sequence[FoundSource], needs_secrets: bool) -> str:
    tables = [
        f"- `{source.name}.{t.name}`: {t.origin}" for source in sources for t in source.tables
    ]
    first = "cp .env.example .env          # and fill it in\nset -a; . ./.env; set +a\n"
    listed = "\n".join(tables)
    return f"""\
# {name}

A data lake of DuckLake Stream, written by `ducklake init`.

```sh
{first if needs_secrets else ""}ducklake up                   # what is `embedded` in ducklake.yml
ducklake run                  # sources to tested tables, until Ctrl-C
ducklake status               # in another terminal: what runs, and how to connect
```

The tables:

{listed}

- `ducklake.yml` says which sources and tables; `ducklake plan` says what a change of it will do.
- `dbt/models/staging` has the current rows of each table.
  Models of your own go to `dbt/models/consume`.
- `ducklake init --add SOURCE.TABLE` adds a table.
- `.env` has the passwords, and is not committed.
"""
