"""The whole examination: one service after the other, none of which can stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ducklake.doctor.apis import api
from ducklake.doctor.connect import connect
from ducklake.doctor.files import local_files, sftp
from ducklake.doctor.findings import Finding, well, wrong
from ducklake.doctor.kafka import kafka
from ducklake.doctor.machine import machine
from ducklake.doctor.mysql import mysql
from ducklake.doctor.postgres import postgres
from lake.config import FOREIGN, MYSQL, Config, Endpoints
from lake.errors import DuckLakeError, StackNotRunning, UnexpectedError
from producers.registry import server_problems

Part = Callable[[], Iterable[Finding]]
_DEFECT = "A defect of this command: report this line"


def examine(config: Config, progress: Callable[[str], None]) -> list[Finding]:
    """Look at everything.

    Args:
        config: The configuration, already validated.
        progress: Told what is looked at next.
    """
    found = []
    for name, code, part in _parts(config):
        progress(name)
        try:
            found += list(part())
        except StackNotRunning:
            continue  # said once, for all of it
        except DuckLakeError as error:
            found.append(wrong(code, name, error.what, error.remedy))
        except Exception as error:  # one examination must not hide what the others find
            named = UnexpectedError.of(name, error, _DEFECT)
            found.append(wrong(code, name, named.what, named.remedy))
    return found


def _parts(config: Config) -> Iterator[tuple[str, str, Part]]:
    yield "this machine", "DL-102", lambda: machine(config)
    try:
        at = config.endpoints()
    except StackNotRunning:
        return
    yield "kafka", "DL-201", lambda: kafka(config, at)
    yield "connect", "DL-301", lambda: connect(config, at)
    yield "postgres", "DL-501", lambda: postgres(config, at)
    for name in config.settings.sources:
        yield _source(config, at, name)


def _source(config: Config, at: Endpoints, name: str) -> tuple[str, str, Part]:
    kind, subject = config.settings.sources[name].type, f"source {name}"
    if kind in MYSQL:
        return subject, "DL-401", lambda: mysql(config, at, name)
    if kind == "sftp":
        return subject, "DL-601", lambda: sftp(config, name)
    if kind == "files":
        return subject, "DL-605", lambda: local_files(config, name)
    if kind == "rest":
        return subject, "DL-701", lambda: api(config, name)
    return subject, "DL-801", lambda: _other(config, name)


def _other(config: Config, name: str) -> Iterator[Finding]:
    """A source of another kind: what its own class says of its server."""
    subject = f"source {name}"
    if config.settings.sources[name].type == FOREIGN:
        yield well(subject, "others write its topics")
        return
    problems = [line for line, is_error in server_problems(config, name) if is_error]
    yield from (wrong("DL-801", subject, line, "ducklake config check") for line in problems)
    if not problems:
        yield well(subject, config.settings.sources[name].type)
