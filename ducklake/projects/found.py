"""What a source holds, as far as a project needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from lake.storage.column_names import UniqueNames, column_name


def password_variable(connection: str) -> str:
    """The variable that holds the password of a connection; Kafka Connect asks for the same."""
    return f"DUCKLAKE_{connection.upper()}_PASSWORD"


def server_address(url: str, scheme: str) -> SplitResult | None:
    """The parts of `scheme://USER@HOST:PORT/…`; None for what is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # looked at only when it is asked for
    except ValueError:
        return None
    return parts if parts.hostname and parts.scheme == scheme and parts.username else None


@dataclass(frozen=True, slots=True)
class FoundTable:
    """A table, a file, or an answer.

    Attributes:
        name: Its name in the lake.
        origin: What it is called where it is: `sakila.film`, `sales.csv`.
        entry: Its section in `ducklake.yml`, as it would be read from there.
        fields: Its columns as its source calls them.
        key: Those by which a row is known; empty where nothing says.
        kind: How its current rows are found: `versions` of rows, or `files` that are replaced.
        size: Rows and bytes, in words.
        notes: What deserves attention: types, a missing key.
    """

    name: str
    origin: str
    entry: Mapping[str, Any]
    fields: tuple[str, ...]
    key: tuple[str, ...] = ()
    kind: str = "versions"
    size: str = ""
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> dict[str, str]:
        """The name in the schema raw of each field."""
        names = UniqueNames()
        return {name: names.take(column_name(name)) for name in self.fields}

    @property
    def has_history(self) -> bool:
        """Whether a model of its rows' versions can be made."""
        return bool(self.key) and self.kind == "versions"

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of the key; of a file without one, where a row stood."""
        if not self.key and self.kind == "files":
            return ("_file", "_file_row")
        columns = self.columns
        return tuple(columns[name] for name in self.key)


@dataclass(frozen=True, slots=True)
class FoundSource:
    """A source with all that it holds.

    Attributes:
        name: Its name in `ducklake.yml`.
        type: Its type there.
        connection: The name of its connection; empty where it has none.
        server: The keys of that connection; secrets are references to the environment.
        settings: What else its section has.
        tables: What was found.
        variables: Variables of the environment that it needs, and what each of them is.
        notes: What deserves attention about the whole source.
    """

    name: str
    type: str
    connection: str = ""
    server: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    tables: Sequence[FoundTable] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
