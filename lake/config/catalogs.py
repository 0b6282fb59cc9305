"""The section `catalog`: in which catalogues other engines find the lake's public files."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from lake.config.section import Section

POSTGRES, SQLITE = "postgres", "sqlite"
"""Kinds of catalogue that need no address: in the lake's PostgreSQL, or in a file of `data_dir`."""
REST = ("http", "https")
_SCHEMES = (*REST, "postgresql", "postgresql+psycopg2")


class IcebergCatalog(Section):
    """The Iceberg tables of the lake.

    Attributes:
        enabled: Whether the compactor registers each public file as it makes it.
        uri: `postgres` (the lake's own), `sqlite` (a file in `data_dir`), the address of a REST
            catalogue, or a `postgresql://` address of SQLAlchemy.
        token: Sent to a REST catalogue as a bearer token.
        warehouse: The folder of the tables' metadata; by default `iceberg` in `data_dir`.
        name: The catalogue's name; other engines are told the same.
        keep_snapshots: How many snapshots of each table are kept for time travel.
    """

    enabled: bool = False
    uri: str = POSTGRES
    token: SecretStr = SecretStr("")
    warehouse: str | None = None
    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")] = "ducklake"
    keep_snapshots: Annotated[int, Field(ge=1, le=1000)] = 10

    @field_validator("uri")
    @classmethod
    def _known(cls, uri: str) -> str:
        if uri not in (POSTGRES, SQLITE) and urlsplit(uri).scheme not in _SCHEMES:
            raise ValueError(
                f"expected `{POSTGRES}`, `{SQLITE}`, an http(s):// address of a REST catalogue, or"
                " a postgresql:// address"
            )
        return uri

    @property
    def is_rest(self) -> bool:
        """Whether a server keeps it that speaks Iceberg's REST protocol."""
        return urlsplit(self.uri).scheme in REST


class Catalogs(Section):
    """The catalogues of the lake's public files."""

    iceberg: IcebergCatalog = IcebergCatalog()
