"""Opening the Iceberg catalogue: in PostgreSQL, in a file of the lake, or behind a REST address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import CommitFailedException, RESTError, ValidationException
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from lake.config import Config, PostgresEndpoint, without_login
from lake.config.catalogs import POSTGRES, SQLITE
from lake.errors import CommitConflict, ServiceUnreachable
from lake.storage.operations import disk_full_is_transient, make_folder
from lake.storage.paths import LakePaths

SCHEMA = "iceberg"
"""Where the catalogue's two tables are in the lake's PostgreSQL."""
CONNECT_SECONDS = 10


def open_catalog(config: Config) -> Catalog:
    """The configured catalogue; its tables are made where there are none.

    Raises:
        ServiceUnreachable: It does not answer, or refuses the login.
        StackNotRunning: It is the embedded PostgreSQL, which is not up.
        DiskFull: There is no room for its file.
    """
    own = config.settings.catalog.iceberg
    with answers(config):
        return load_catalog(own.name, **_properties(config))


def _properties(config: Config) -> dict[str, Any]:
    own = config.settings.catalog.iceberg
    paths = LakePaths(config.data_dir)
    if own.is_rest:
        token = own.token.get_secret_value()
        return {
            "type": "rest",
            "uri": own.uri,
            **({"token": token} if token else {}),
            **({"warehouse": own.warehouse} if own.warehouse else {}),
        }
    with disk_full_is_transient(paths.root):
        make_folder(paths.iceberg)
    if own.uri == SQLITE:
        address = URL.create("sqlite", database=str(paths.iceberg / "catalog.db"))
    elif own.uri == POSTGRES:
        address = _lake_postgres(config.endpoints().postgres)
    else:
        address = make_url(own.uri).set(drivername="postgresql+psycopg2")
    uri = address.render_as_string(hide_password=False)
    return {"type": "sql", "uri": uri, "warehouse": warehouse_of(config)}


def _lake_postgres(at: PostgresEndpoint) -> URL:
    """The address of a schema of the lake's PostgreSQL, which is made here."""
    login = at.login()
    place = [login.pop(name) for name in ("user", "password", "host", "port", "dbname")]
    more = {"connect_timeout": str(CONNECT_SECONDS), "application_name": "ducklake"}
    address = URL.create("postgresql+psycopg2", *place, query=login | more)
    engine = create_engine(address)
    try:
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    finally:
        engine.dispose()
    return address.update_query_dict({"options": f"-csearch_path={SCHEMA}"})


def warehouse_of(config: Config) -> str:
    """The address below which the tables' metadata is, without a slash at its end."""
    own = config.settings.catalog.iceberg.warehouse
    if own is None:
        return address_of(LakePaths(config.data_dir).iceberg)
    return own.rstrip("/") if "://" in own else address_of(config.root / own)


def address_of(path: Path) -> str:
    """A file or folder as Iceberg's metadata names it."""
    return f"file://{path}"


def path_of(address: str) -> Path:
    """The path of an address that `address_of` gave."""
    return Path(address.removeprefix("file://"))


def shown(config: Config) -> str:
    """Where the catalogue is, without a login."""
    own = config.settings.catalog.iceberg
    if own.uri == POSTGRES:
        return "the lake's PostgreSQL"
    if own.uri == SQLITE:
        return quote(str(LakePaths(config.data_dir).iceberg / "catalog.db"), safe="/ ")
    return without_login(own.uri)


@contextmanager
def answers(config: Config) -> Iterator[None]:
    """Give what a catalogue fails with a name.

    Raises:
        ServiceUnreachable: It does not answer.
        CommitConflict: Somebody else changed the table first.
    """
    try:
        yield
    except (CommitFailedException, ValidationException) as error:
        raise CommitConflict(
            f"Another process changed an Iceberg table first ({_line(error)}).",
            "It is tried again; nothing was changed.",
        ) from None
    except SQLAlchemyError as error:
        reason = _line(getattr(error, "orig", None) or error)
        raise _unreachable(config, reason) from None
    except (RESTError, requests.RequestException) as error:
        raise _unreachable(config, type(error).__name__) from None


def _unreachable(config: Config, reason: str) -> ServiceUnreachable:
    return ServiceUnreachable(
        f"The Iceberg catalogue in {shown(config)} does not answer: {reason}.",
        "Is it up, and does it let this user in? It is tried again; the lake goes on meanwhile.",
    )


def _line(error: BaseException) -> str:
    lines = without_login(str(error)).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
