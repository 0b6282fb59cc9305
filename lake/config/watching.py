"""How the lake is watched: where metrics and lineage go, and who is told what is wrong."""

from __future__ import annotations

import ipaddress
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator

from lake.config.section import Port, Section

LEAST_TOKEN = 16
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _off(value: Any) -> Any:
    """As YAML reads the words."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


Duration = Annotated[str, Field(pattern=r"^((0|[1-9][0-9]*)[smhd]|off)$"), BeforeValidator(_off)]
"""A number with `s`, `m`, `h` or `d`, or `off`."""
Switch = Annotated[Literal["on", "off"], BeforeValidator(_off)]


class Metrics(Section):
    """Where `ducklake monitor` serves metrics.

    Attributes:
        token: What whoever asks has to show; empty: nothing.
        host: Where it listens; elsewhere than on loopback, it needs the token.
        port: The preferred port, or `off`.
    """

    token: SecretStr = SecretStr("")  # before the host, which needs it
    host: str = "127.0.0.1"
    port: Annotated[Port | Literal["off"], BeforeValidator(_off)] = 18300

    @field_validator("token")
    @classmethod
    def _long(cls, token: SecretStr) -> SecretStr:
        if 0 < len(token.get_secret_value()) < LEAST_TOKEN:
            raise ValueError(f"it has fewer than {LEAST_TOKEN} characters")
        return token

    @field_validator("host")
    @classmethod
    def _guarded(cls, host: str, known: ValidationInfo) -> str:
        try:
            is_own = ipaddress.ip_address(host).is_loopback
        except ValueError:
            is_own = host == "localhost"
        token: SecretStr | None = known.data.get("token")
        if not is_own and token is not None and not token.get_secret_value():
            raise ValueError(
                "it is no address of loopback: set metrics.token, by which Prometheus logs in"
            )
        return host


class AlertCommand(Section):
    """A program that is told of alerts.

    Attributes:
        command: Its words, or a line of them; the alert is JSON on its standard input.
    """

    command: Annotated[list[str], Field(min_length=1)]

    @field_validator("command", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return shlex.split(value) if isinstance(value, str) else value


class Alerts(Section):
    """What is told to whom.

    Attributes:
        to: An address of Apprise, an `http(s)://` address that takes JSON, or a command.
        freshness: Rows of a table wait for longer on the way to PostgreSQL.
        stalled: Something that should run or move has not for so long.
        tests: Failed tests, and models that are held back.
        dead_letters: A table has so many.
        differences: A table differs from its source, or could not be compared.
    """

    to: tuple[SecretStr | AlertCommand, ...] = ()
    freshness: Duration = "15m"
    stalled: Duration = "2s"
    tests: Switch = "on"
    dead_letters: Annotated[Annotated[int, Field(ge=1)] | Literal["off"], BeforeValidator(_off)] = 1
    differences: Switch = "on"


class Lineage(Section):
    """Where OpenLineage events go: nowhere, unless a target is named.

    Attributes:
        file: One event a line; relative to the project.
        url: The address of a server that takes them, such as Marquez.
        endpoint: The path below it.
        api_key: Sent as a bearer token.
        namespace: Of the jobs; the lake's name by default.
        every: How often a job is told that goes on as before.
    """

    file: Path | None = None
    url: str | None = None
    endpoint: str = "api/v1/lineage"
    api_key: SecretStr = SecretStr("")
    namespace: Annotated[str, Field(min_length=1)] | None = None
    every: Annotated[str, Field(pattern=r"^(0|[1-9][0-9]*)[smhd]$")] = "60s"

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected an http:// or https:// address")
        if "@" in parts.netloc or parts.query:
            raise ValueError("it holds a login or a query: what is secret belongs into `api_key`")
        return url.rstrip("/") + "/"

    @property
    def seconds(self) -> float:
        """The seconds of `every`."""
        return float(self.every[:-1]) * _UNITS[self.every[-1]]


def seconds_of(duration: str) -> float | None:
    """The seconds of a duration; None: off."""
    return None if duration == "off" else float(duration[:-1]) * _UNITS[duration[-1]]
