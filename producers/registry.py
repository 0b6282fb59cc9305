"""Which class reads a source, and whether the source's section is what that class can read."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import BaseModel, ValidationError

from lake.config import (
    EMBEDDED,
    FOREIGN,
    MYSQL,
    MYSQL_CDC,
    MYSQL_POLL,
    Config,
    Connection,
    Endpoints,
    nearest,
)
from lake.errors import ConfigError
from lake.storage.declared_types import declared_type
from producers.base import Connector
from producers.connections import ConnectionUse, connect
from producers.modules import assert_module_believed

KINDS: Mapping[str, str] = {
    MYSQL_CDC: "producers.mysql.cdc:MysqlCdcConnector",
    MYSQL_POLL: "producers.mysql.polling.connector:MysqlPollConnector",
    "sftp": "producers.sftp.connector:SftpConnector",
    "files": "producers.files.local:FilesConnector",
    "rest": "producers.rest.connector:RestConnector",
    "dlt": "producers.dlt_sources.connector:DltConnector",
}


def connector_class(config: Config, name: str) -> type[Connector]:
    """The class of a source: a built-in kind, or `package.module:Class`.

    Raises:
        ConfigError: There is no such class, or it is no connector; names the line.
    """
    kind, at = config.settings.sources[name].type, ("sources", name, "type")
    if kind == FOREIGN:
        raise config.error(at, "others write its topics", "`ducklake consume` reads them.")
    target = KINDS.get(kind, kind)
    if ":" not in target:
        known = nearest(kind, [*KINDS, FOREIGN])
        raise config.error(
            at,
            f"unknown type {kind!r}{known}",
            "Or use package.module:Class, such as my_connectors.dolar:DolarConnector.",
        )
    importlib.invalidate_caches()  # the class may have been written since the last try
    module, _, attribute = target.partition(":")
    assert_module_believed(module, config.path)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever somebody's module raises while it is imported
        what = f"{kind!r} cannot be loaded ({type(error).__name__}: {error})"
        raise config.error(at, what, "Is its folder on PYTHONPATH?") from None
    if not (isinstance(found, type) and issubclass(found, Connector)):
        what = f"{kind!r} is no connector"
        raise config.error(at, what, "Derive the class from producers.base.Connector.")
    return found


def connector(config: Config, endpoints: Endpoints, name: str) -> Connector:
    """Make the connector of a source.

    Raises:
        ConfigError: Its section is wrong; names the line of each mistake.
        StackNotRunning: Its connection is `embedded` and the stack is not up.
    """
    kind = connector_class(config, name)
    check_sources(config, [name])
    return kind(name, config.settings.sources[name], config, endpoints)


def source_connection(config: Config, name: str) -> Connection:
    """Where the server of a source is.

    Raises:
        ConfigError: Its connection is wrong; names the line.
        StackNotRunning: It is `embedded` and the stack is not up.
    """
    source = config.settings.sources[name]
    return connect(config, connector_class(config, name).connections_used(name, source)[0])


def connection_uses(config: Config) -> Iterator[ConnectionUse]:
    """Every place that names a connection.

    Raises:
        ConfigError: The class of a source cannot be loaded.
    """
    for name, source in config.settings.sources.items():
        if source.type != FOREIGN:
            yield from _uses(config, name)


def _uses(config: Config, name: str) -> Sequence[ConnectionUse]:
    return connector_class(config, name).connections_used(name, config.settings.sources[name])


def embedded_services(config: Config) -> tuple[str, ...]:
    """Names of the services that `ducklake up` has to start, for the lake and for its sources.

    A source whose class cannot be loaded needs none: whoever runs the sources says what is wrong
    with it, and the others and the lake's own services are not stopped by it.
    """
    wanted = {*config.settings.services.embedded()}
    entries = config.settings.connections
    if EMBEDDED in entries.values() or any(
        source.connection == EMBEDDED for source in config.settings.sources.values()
    ):
        for name, source in config.settings.sources.items():
            with suppress(ConfigError):
                uses = () if source.type == FOREIGN else _uses(config, name)
                wanted |= {use.service for use in uses if use.service and use.is_embedded(config)}
    return tuple(sorted(wanted))


def check_sources(config: Config, names: Iterable[str] | None = None) -> None:
    """Validate what only the connectors know: options, connections, types of columns.

    Args:
        config: The configuration.
        names: Sources to look at; all by default.

    Raises:
        ConfigError: Something is wrong; one line for each mistake, with its place in the file.
    """
    said = [
        line
        for name in (config.settings.sources if names is None else names)
        for line in _mistakes(config, name)
    ]
    if said:
        raise ConfigError("\n".join(dict.fromkeys(said)))


def server_problems(config: Config, name: str) -> Iterator[tuple[str, bool]]:
    """(line, whether it is an error) for all that a source's server has against it.

    Raises:
        StackNotRunning: The server is the embedded one, and the stack is not up.
        ServiceUnreachable: It does not answer.
        SourceError: It refuses the user.
    """
    for problem in connector_class(config, name).server_problems(config, name):
        line = config.problem(("sources", name, *problem.at), problem.what)
        yield f"{line} {problem.remedy}".strip(), problem.is_error


def unused_connections(config: Config) -> list[str]:
    """Names under `connections` that no source uses; they are not validated."""
    used = {use.entry for use in connection_uses(config) if isinstance(use.entry, str)}
    return [name for name in config.settings.connections if name not in used]


def _mistakes(config: Config, name: str) -> Iterator[str]:
    source, at = config.settings.sources[name], ("sources", name)
    yield from _bad_columns(config, name)
    yield from _only_of_mysql(config, name)
    if source.type not in MYSQL:
        yield from _mysql_names(config, name)
    if source.type == FOREIGN:
        return
    try:
        kind = connector_class(config, name)
    except ConfigError as error:
        yield str(error)
        return
    problems = list(kind.problems(source))
    yield from (config.problem((*at, *problem.at), problem.what) for problem in problems)
    yield from _invalid(config, kind.Options, source.options, (*at, "options"))
    found = {problem.at[:2] for problem in problems}
    for table, spec in source.tables.items():
        if ("tables", table) not in found:
            model = kind.table_options_model(table, spec)
            yield from _invalid(config, model, spec.options, (*at, "tables", table, "options"))
    connected = True
    for use in kind.connections_used(name, source):
        try:
            use.validated(config)
        except ConfigError as error:
            connected = False
            yield str(error)
    if connected:
        for problem in kind.project_problems(config, name):
            yield config.problem((*at, *problem.at), problem.what)


def _mysql_names(config: Config, name: str) -> Iterator[str]:
    """Only tables of MySQL have another name there than in the lake."""
    for table, spec in config.settings.sources[name].tables.items():
        for key in ("table", "database"):
            if getattr(spec, key) is not None:
                at = ("sources", name, "tables", table, key)
                yield config.problem(at, "only tables of a MySQL source have it")


def _invalid(
    config: Config, model: type[BaseModel], value: Mapping[str, Any], at: tuple[str, ...]
) -> Iterator[str]:
    try:
        model.model_validate(value)
    except ValidationError as error:
        yield config.explain(error, model, at)


def _bad_columns(config: Config, name: str) -> Iterator[str]:
    for table, spec in config.settings.sources[name].tables.items():
        for column, type_ in spec.columns.items():
            try:
                declared_type(table, column, type_)
            except ConfigError as error:
                yield config.problem(
                    ("sources", name, "tables", table, "columns", column), error.what
                )


def _only_of_mysql(config: Config, name: str) -> Iterator[str]:
    """Settings that mean nothing for this kind of source."""
    source, at = config.settings.sources[name], ("sources", name)
    if source.type in MYSQL:
        return
    what = "only tables of a MySQL source have this setting"
    if "reconcile" in source.model_fields_set:
        yield config.problem((*at, "reconcile"), what)
    for table, spec in source.tables.items():
        for key in sorted({"reconcile", "drift"} & spec.model_fields_set):
            yield config.problem((*at, "tables", table, key), what)
