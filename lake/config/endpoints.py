"""Where the services of the whole lake are, whether embedded or the user's own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import SecretStr

from lake.config.section import EMBEDDED, Section
from lake.config.services import Services
from lake.errors import StackNotRunning


@dataclass(frozen=True, slots=True)
class PostgresEndpoint:
    """Where PostgreSQL is."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    sslmode: str = "prefer"
    sslrootcert: str | None = None
    sslcert: Path | None = None
    sslkey: Path | None = None

    def login(self) -> dict[str, Any]:
        """What libpq needs to connect and log in."""
        files = {
            "sslrootcert": self.sslrootcert,
            "sslcert": self.sslcert,
            "sslkey": self.sslkey,
        }
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
            "sslmode": self.sslmode,
            **{name: str(path) for name, path in files.items() if path},
        }


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Resolved addresses; those of sources are in their connections."""

    kafka: str
    kafka_options: dict[str, str] = field(repr=False)
    connect: str = field(repr=False)  # may carry user and password
    postgres: PostgresEndpoint

    def kafka_client(self, **settings: Any) -> dict[str, Any]:
        """Librdkafka settings for this broker, with `a_b` spelled for `a.b`, and callbacks."""
        named = {k if callable(v) else k.replace("_", "."): v for k, v in settings.items()}
        quiet = {"log_level": 2}  # what matters comes back as an error, and has a name then
        return {"bootstrap.servers": self.kafka, **quiet, **self.kafka_options, **named}


NOWHERE = Endpoints("", {}, "", PostgresEndpoint("", 0, "", "", ""))
"""For who asks a source's server alone, which may be up when the services of the lake are not."""


class StackState:
    """What the embedded stack says of itself.

    Args:
        path: Its state file, written once every service is healthy.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def entry(self, service: str) -> dict[str, Any]:
        """The address of an embedded service, with user and password.

        Raises:
            StackNotRunning: It is not up.
        """
        found = self._read().get(service)
        if found is None:
            raise StackNotRunning(
                f"The embedded {service} is not running.", "Start it with `ducklake up`."
            )
        return found

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            services: dict[str, dict[str, Any]] = json.loads(self._path.read_text())["services"]
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError) as error:
            raise StackNotRunning(
                f"The stack's state file {self._path} cannot be read ({error}).",
                "Run `ducklake down`, then `ducklake up`.",
            ) from None
        return services


def resolve_services(services: Services, state: StackState) -> Endpoints:
    """Resolve the services of the whole lake.

    Raises:
        StackNotRunning: One is `embedded` and the stack is not up.
    """

    def pick(name: str, section: Section, address: str) -> dict[str, Any]:
        own = {
            key: value.get_secret_value() if isinstance(value, SecretStr) else value
            for key, value in section
        }
        return {**own, **state.entry(name)} if address == EMBEDDED else own

    kafka = pick("kafka", services.kafka, services.kafka.bootstrap_servers)
    connect = pick("connect", services.connect, services.connect.url)
    postgres = pick("postgres", services.postgres, services.postgres.host)
    return Endpoints(
        kafka=kafka["bootstrap_servers"],
        kafka_options=kafka["options"],
        connect=_with_login(connect["url"].rstrip("/"), connect["user"], connect["password"]),
        postgres=PostgresEndpoint(**postgres),
    )


def _with_login(url: str, user: str, password: str) -> str:
    """The address with user and password in it, as `requests` logs in with them."""
    parts = urlsplit(url)
    if not user or "@" in parts.netloc:
        return url
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc}"))
