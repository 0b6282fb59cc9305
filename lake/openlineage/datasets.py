"""What each dataset is called in OpenLineage: in one place, or an edge between two names is lost.

Names follow OpenLineage's specification (`openlineage.client.naming`). Two kinds have none there:
DuckDB, which is named as OpenLineage's dbt integration names it, and web APIs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lake.config import Config, Endpoints, PostgresEndpoint, TableRef
from lake.storage.paths import LakePaths

Columns = tuple[tuple[str, str], ...]
"""(name, type) of each column, in order."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A table, topic, file or address.

    Attributes:
        namespace: Where it lives: `mysql://db.example.com:3306`.
        name: What it is there: `shop.orders`.
        columns: Its columns, where they are known.
        alias: Another (namespace, name) of the same data.
    """

    namespace: str
    name: str
    columns: Columns = ()
    alias: tuple[str, str] | None = None


def mysql_table(host: str, port: int, database: str, table: str) -> Dataset:
    """A table of a MySQL server."""
    from openlineage.client.naming.dataset import MySQL

    naming = MySQL(host, str(port), database, table)
    return Dataset(naming.get_namespace(), naming.get_name())


def local_file(path: Path) -> Dataset:
    """A file, or a folder of files, of this machine."""
    from openlineage.client.naming.dataset import LocalFileSystem

    naming = LocalFileSystem(str(path))
    return Dataset(naming.get_namespace(), naming.get_name())


def remote_file(host: str, port: int, path: str) -> Dataset:
    """A file of an SFTP server, or a pattern of files; another port than 22 is part of its name."""
    from openlineage.client.naming.dataset import RemoteFileSystem

    naming = RemoteFileSystem(host if port == 22 else f"{host}:{port}", path)
    return Dataset(naming.get_namespace(), naming.get_name())


def web_address(url: str) -> Dataset:
    """What an API answers at an address; user, password and query are left out."""
    parts = urlsplit(url)
    return Dataset(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", parts.path or "/")


class DatasetNames:
    """The datasets of one lake, from its topics on.

    Args:
        config: The configuration.
        endpoints: Where Kafka and PostgreSQL are.
    """

    def __init__(self, config: Config, endpoints: Endpoints) -> None:
        self.config = config
        self._paths = LakePaths(config.data_dir)
        self._kafka = _first_server(endpoints.kafka)
        self._postgres = endpoints.postgres

    def topic(self, ref: TableRef, columns: Columns = ()) -> Dataset:
        """A table's topic; of several servers, the first one is its namespace."""
        from openlineage.client.naming.dataset import Kafka

        naming = Kafka(*self._kafka, ref.topic)
        return Dataset(naming.get_namespace(), naming.get_name(), columns)

    def raw(self, ref: TableRef, columns: Columns = ()) -> Dataset:
        """A table's raw files: its folder below `data/raw`, in whichever generation they lie now.

        In DuckDB's file the same rows are a view of the schema raw.
        """
        folder = local_file(self._paths.raw(ref).absolute())
        view = self.model(f"raw.{self.config.relation(ref)}")
        return Dataset(folder.namespace, folder.name, columns, (view.namespace, view.name))

    def model(self, relation: str, columns: Columns = ()) -> Dataset:
        """A model in DuckDB's file, or dead letters; as OpenLineage's dbt integration names it."""
        file = self._paths.lake_db.absolute()
        return Dataset(f"duckdb://{file}", f"{file.stem}.{relation}", columns)

    def relation(self, relation: str, columns: Columns = ()) -> Dataset:
        """What a model reads or is: raw files for one of the schema raw, else the model."""
        for ref, _ in self.config.tables():
            if relation == f"raw.{self.config.relation(ref)}":
                return self.raw(ref, columns)
        return self.model(relation, columns)

    def postgres(self, relation: str, columns: Columns = ()) -> Dataset:
        """A table in PostgreSQL."""
        return postgres_table(self._postgres, relation, columns)


def postgres_table(at: PostgresEndpoint, relation: str, columns: Columns = ()) -> Dataset:
    """A table in PostgreSQL, `schema.name`."""
    from openlineage.client.naming.dataset import Postgres

    schema, _, table = relation.partition(".")
    naming = Postgres(at.host, str(at.port), at.database, schema, table)
    return Dataset(naming.get_namespace(), naming.get_name(), columns)


def _first_server(servers: str) -> tuple[str, str]:
    first = servers.partition(",")[0].strip().rpartition("://")[2]
    host, _, port = first.rpartition(":")
    return (host, port) if host else (first, "9092")
