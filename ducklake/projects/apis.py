"""What an API answers: where the records are in it, their columns, and what may be their key."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

from ducklake.projects.folders import guessed_key
from ducklake.projects.found import FoundSource, FoundTable, password_variable
from ducklake.projects.mysql import Ask
from ducklake.projects.names import Reference, free_name
from lake.config import names_a_secret
from lake.errors import ConfigError, SourceError
from producers.files.preview import SAMPLE_ROWS, column_types, distinct_columns
from producers.formats.row import BadRow
from producers.http.answer import HttpRequest
from producers.http.client import HttpClient
from producers.http.connection import RestConnection
from producers.rest.options import RestRequest
from producers.rest.pages import Walk

_NAME, _CONNECTION = "api", "api_server"
_MOST_BYTES = 16 * 1024 * 1024
_DEEPEST = 3


def api_source(url: str, ask_password: Ask) -> FoundSource:
    """Ask an API once.

    Args:
        url: The whole address of the records, with its query.
        ask_password: Asks somebody for the secret that a variable holds.

    Raises:
        ConfigError: It is no such address.
        SourceError: The API refuses, or its answer holds no records.
        ServiceUnreachable: It does not answer.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("--api is not the address of an API.", "Write https://HOST/PATH.")
    base_url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    variables: dict[str, str] = {}
    server: dict[str, Any] = {"base_url": base_url}
    real: dict[str, Any] = dict(server)
    if parts.username:
        variable, user = password_variable(_CONNECTION), unquote(parts.username)
        given = unquote(parts.password or "")
        secret = given or os.environ.get(variable) or ask_password(variable)
        login = {"type": "basic", "user": user}
        server["auth"] = {**login, "password": Reference("${" + variable + "}")}
        real["auth"] = {**login, "password": secret}
        variables[variable] = f"The password of {user} at {base_url}."
    params, hidden = _params(parts.query, variables, base_url)
    connection = RestConnection.model_validate(real).placed(_CONNECTION, "--api")
    table = _ask(connection, parts.path or "/", params | hidden)
    options: dict[str, Any] = {"url": parts.path or "/"}
    shown: dict[str, Any] = params | {k: Reference("${" + _variable(k) + "}") for k in hidden}
    if shown:
        options["params"] = shown
    entry = {**table.entry, "options": {**options, **table.entry["options"]}}
    known = FoundTable(
        table.name, base_url + parts.path, entry, table.fields, table.key, size=table.size,
        notes=table.notes,
    )  # fmt: skip
    return FoundSource(_NAME, "rest", _CONNECTION, server, {"poll_seconds": 60}, [known], variables)


def _params(
    query: str, variables: dict[str, str], base_url: str
) -> tuple[dict[str, str], dict[str, str]]:
    """The parameters of the query, and those of them that are secrets."""
    plain, hidden = {}, {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if names_a_secret(name):
            hidden[name] = value
            variables[_variable(name)] = f"The parameter {name} of {base_url}."
        else:
            plain[name] = value
    return plain, hidden


def _variable(parameter: str) -> str:
    word = "".join(c if c.isascii() and c.isalnum() else "_" for c in parameter)
    return f"DUCKLAKE_API_SERVER_{word.upper()}"


def _ask(connection: RestConnection, path: str, params: Mapping[str, str]) -> FoundTable:
    first = HttpRequest(connection.base_url + path, dict(params))
    with closing(HttpClient(connection)) as client:
        with closing(Walk(client, first, RestRequest(url=path))) as walk:
            walk.fetch(most=1)
            if not walk.pages:
                raise SourceError(
                    f"GET {connection.base_url}{path}: there is no answer (status {walk.status}).",
                    "Correct the address of --api.",
                )
            content = walk.content(walk.pages[0], _MOST_BYTES)
        records = _records_path(content, walk.pages[0].url)
        with closing(Walk(client, first, RestRequest(url=path, records=records))) as walk:
            walk.fetch(most=1)
            found = [row for _, _, row in _first(walk)]
    rows = [dict(row.values) for row in found if not isinstance(row, BadRow)]
    if not rows:
        raise SourceError(
            f"GET {walk.pages[0].url}: the answer holds no records.",
            "Name an address that answers an array of objects, or an object with one.",
        )
    key = guessed_key(distinct_columns(rows))
    options = {"records": records} if records else {}
    types = {column: kind for column, kind in column_types(rows).items() if kind != "VARCHAR"}
    entry: dict[str, Any] = {**({"key": list(key)} if key else {}), "columns": types}
    name = free_name([p for p in path.split("/") if p][-1] if path.strip("/") else "answers", ())
    notes = () if key else ("nothing says what its key is: no model of current rows",)
    fields = tuple(dict.fromkeys(column for row in rows for column in row))
    size = f"{len(rows):,} records on the first page"
    return FoundTable(
        name, path, {**entry, "options": options}, fields, key, size=size, notes=notes
    )


def _first(walk: Walk) -> Iterator[Any]:
    for number, row in enumerate(walk.rows()):
        if number >= SAMPLE_ROWS:
            return
        yield row


def _records_path(content: bytes, url: str) -> str | None:
    """Keys that lead to the largest array of objects; None where the answer itself is the records.

    Raises:
        SourceError: The answer is no JSON.
    """
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise SourceError(
            f"GET {url}: the answer is no JSON, or has more than {_MOST_BYTES >> 20} MB.",
            "Name an address that answers JSON, a page at a time.",
        ) from None
    if not isinstance(answer, dict):
        return None
    found = sorted(_arrays(answer, ()), key=lambda each: each[0], reverse=True)
    return ".".join(found[0][1]) if found else None


def _arrays(value: dict[str, Any], at: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    for key, inner in value.items():
        if "." in key:
            continue
        if isinstance(inner, list) and inner and all(isinstance(each, dict) for each in inner):
            yield len(inner), (*at, key)
        elif isinstance(inner, dict) and len(at) < _DEEPEST:
            yield from _arrays(inner, (*at, key))
