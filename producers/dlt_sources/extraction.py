"""Runs one resource of dlt from a state, without a pipeline: Kafka keeps the state, not dlt."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import orjson

from lake.config import nearest
from lake.errors import ConfigError, SourceError
from producers.dlt_sources.options import DltOptions, DltTable, load
from producers.dlt_sources.run import RunRow
from producers.dlt_sources.values import rows_of
from producers.formats.row import ROW_BYTES

_QUIET = {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "CRITICAL"}


class Extraction:
    """One run.

    Args:
        name: The source's name in `ducklake.yml`.
        options: Its options.
        table: The table's options.
        resource: The resource.
        state: What `state` told after the run before; empty for the first one.

    Raises:
        SourceError: There is no such source.
        ConfigError: It has no such resource.
    """

    def __init__(
        self, name: str, options: DltOptions, table: DltTable, resource: str, state: str
    ) -> None:
        for variable, value in _QUIET.items():
            os.environ.setdefault(variable, value)
        made = load(options.source)(**options.arguments)
        from dlt.common.json import json
        from dlt.sources import incremental

        self._json: Any = json
        self._resource = _resource(name, made, resource)
        if table.incremental is not None:
            given = table.incremental
            cursor = incremental(given.cursor, initial_value=given.start)
            self._resource.apply_hints(incremental=cursor)
        self._state: dict[str, Any] = json.typed_loads(state) if state else {}

    def key(self) -> list[str]:
        """The resource's own primary key; empty where it has none."""
        columns = self._resource.compute_table_schema().get("columns", {})
        return [name for name, column in columns.items() if column.get("primary_key")]

    def rows(self, key: list[str]) -> Iterator[RunRow]:
        """Its rows.

        Args:
            key: Columns that each row must have.
        """
        from dlt.common.configuration.container import Container
        from dlt.common.pipeline import StateInjectableContext

        with Container().injectable_context(StateInjectableContext(state=self._state)):
            for item in self._resource:
                for row in rows_of(item):
                    yield _encoded(row, key)

    def state(self) -> str:
        """The state of dlt after all rows."""
        text: str = self._json.typed_dumps(self._state, sort_keys=True)
        return text


def _resource(name: str, made: Any, resource: str) -> Any:
    from dlt.extract import DltResource, DltSource

    if isinstance(made, DltResource):
        found = {made.name: made}
    elif isinstance(made, DltSource):
        found = dict(made.resources)
    else:
        raise SourceError(
            f"Source {name}: its function returns {type(made).__name__}, no source of dlt.",
            "Name a function that is decorated with @dlt.source or @dlt.resource.",
        )
    if resource not in found:
        known = nearest(resource, found)
        raise ConfigError(
            f"Source {name}: dlt's source has no resource {resource!r}{known}.",
            "Name it in `options.resource` of the table.",
        )
    return found[resource]


def _encoded(row: dict[str, Any], key: list[str]) -> RunRow:
    try:
        encoded = orjson.dumps(row)
    except TypeError:  # such as half a surrogate pair
        return RunRow(repr(row).encode(errors="replace"), "JSON cannot hold it")
    missing = [column for column in key if column not in row]
    if missing:
        return RunRow(encoded, f"it has no {', '.join(missing)}, which `key` names")
    if len(encoded) > ROW_BYTES:
        return RunRow(encoded[:ROW_BYTES], f"it has more than {ROW_BYTES:,} bytes")
    return RunRow(encoded)
