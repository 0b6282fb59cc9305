"""The sections of `ducklake.yml`."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from lake.config.catalogs import Catalogs
from lake.config.connections import ConnectionEntry
from lake.config.live import Live
from lake.config.relations import TableRef, relation_names
from lake.config.section import Masked, Name, Port, Positive, Section, TimeZone
from lake.config.services import Services
from lake.config.watching import Alerts, Lineage, Metrics

FOREIGN = "kafka"
"""The type of a source whose topics others write."""
MYSQL_CDC, MYSQL_POLL = "mysql_cdc", "mysql_poll"
MYSQL = frozenset({MYSQL_CDC, MYSQL_POLL})
"""The types of sources whose tables are those of a MySQL server."""


class EmbeddedPorts(Section):
    """Wished ports on loopback; a free one is chosen where one is taken."""

    kafka: Port = 19092
    connect: Port = 18083
    mysql: Port = 13306
    postgres: Port = 15432
    sftp: Port = 12222
    api: Port = 18080


class Embedded(Section):
    """Settings of the embedded stack."""

    ports: EmbeddedPorts = EmbeddedPorts()


class TopicDefaults(Section):
    """How topics are created; retention is the far end of any replay."""

    partitions: Annotated[int, Field(ge=1)] = 2
    replication_factor: Annotated[int, Field(ge=1)] = 1
    retention_days: Positive = 30
    retention_mb: Positive = 1024


AGE = r"[1-9][0-9]*[smhd]"
"""A number with `s`, `m`, `h` or `d`."""
Span = Annotated[
    str,
    # as YAML reads the word
    BeforeValidator(lambda value: "off" if value is False else value),
    Field(pattern=rf"^({AGE}|off)$"),
]
"""A span of time: a number with `s`, `m`, `h` or `d`, or `off`."""


def seconds_of(span: str) -> float | None:
    """The seconds of a span of time; None: off."""
    if span == "off":
        return None
    return float(span[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[span[-1]]


class Reconcile(Section):
    """How often the current rows of a table are compared with its source.

    Attributes:
        every: A number with `s`, `m`, `h` or `d`, or `off`.
    """

    every: Span = "24h"

    @property
    def seconds(self) -> float | None:
        """The seconds between two comparisons; None: never."""
        return seconds_of(self.every)


class DeadLetterPolicy(Section):
    """What becomes of a table's records, files and rows that cannot be read.

    Attributes:
        policy: `quarantine` keeps them, `stop` stops the table at the first one, `drop` only
            counts them.
        max_rows: How many `quarantine` keeps before the table stops.
        max_mb: The same, in megabytes of their bytes.
        max_per_hour: The same, within an hour.
    """

    policy: Literal["quarantine", "stop", "drop"] = "quarantine"
    max_rows: Annotated[int, Field(ge=1)] = 100_000
    max_mb: Positive = 1024
    max_per_hour: Annotated[int, Field(ge=1)] | None = None


class TableExport(Section):
    """What of a table goes to PostgreSQL.

    Attributes:
        raw: `on`: all raw rows; `off`: none; a number: those of today and as many days before, by
            Kafka's timestamp.
    """

    raw: Literal["on", "off"] | Annotated[int, Field(ge=1)] = "on"

    @field_validator("raw", mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        """As YAML reads the words."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @property
    def days(self) -> int | None:
        """The days before today's whose rows are kept; None: all."""
        return self.raw if isinstance(self.raw, int) else None


class Table(Section):
    """One table of a source: the topic `{source}.{table}`.

    The source's connector knows which `options` there are.

    Attributes:
        table: Of MySQL: its name there, where that is no name in the lake.
        database: Of MySQL: its database, where that is not the one of the connection.
    """

    key: list[str] = []
    table: Annotated[str, Field(min_length=1)] | None = None
    database: Annotated[str, Field(min_length=1)] | None = None
    file: str | None = None
    columns: dict[str, str] = {}
    options: dict[str, Any] = {}
    partitions: Annotated[int, Field(ge=1)] | None = None
    retention_days: Positive | None = None
    reconcile: Reconcile | None = None
    drift: Literal["evolve", "freeze", "quarantine"] = "evolve"
    dead_letters: DeadLetterPolicy = DeadLetterPolicy()
    export: TableExport = TableExport()

    @field_validator("key")
    @classmethod
    def _each_column_once(cls, key: list[str]) -> list[str]:
        if len(set(key)) < len(key):
            raise ValueError("it names a column twice")
        return key


class Source(Section):
    """One connector. `type` is a built-in kind or `package.module:Class` of your own.

    `kafka` has no connector: others write its topics. The connector knows which `options` there
    are, and which keys its `connection` has.
    """

    type: str
    tables: dict[Name, Table]
    connection: ConnectionEntry = None
    poll_seconds: Positive = 10
    directory: str = "/"
    options: dict[str, Any] = {}
    reconcile: Reconcile = Reconcile()


class Consumer(Section):
    """When buffered records become hot files, and hot files public ones."""

    flush_rows: Annotated[int, Field(ge=1)] = 50_000
    flush_mb: Positive = 64
    flush_seconds: Positive = 1
    seal_max_age_seconds: Positive = 3600
    target_file_mb: Positive = 128


class Batch(Section):
    """The timer that triggers dbt, publication and export."""

    interval_seconds: Positive = 1
    threads: Annotated[int, Field(ge=1)] = 2
    full_tests_hours: Positive = 24
    time_zone: TimeZone = "America/Argentina/Buenos_Aires"
    dbt_project: Path = Path("dbt_techstore")


class Logs(Section):
    """How much of each log file of a role or service is kept."""

    max_mb: Positive = 10
    keep: Annotated[int, Field(ge=1, le=100)] = 3


class Retention(Section):
    """How long the lake keeps what nothing of it needs any more.

    Attributes:
        quarantine: Files in `orphans/`, since they were moved there.
        generations: Generations that a rebuild has replaced, since then.
    """

    quarantine: Span = "30d"
    generations: Span = "off"


class Settings(Masked, BaseSettings):
    """The file's contents; `DUCKLAKE_SECTION__KEY` in the environment overrides a key."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="DUCKLAKE_", env_nested_delimiter="__"
    )

    name: Name = "techstore"
    data_dir: Path = Path("data")
    services: Services = Services()
    connections: dict[Name, ConnectionEntry] = {}
    embedded: Embedded = Embedded()
    topics: TopicDefaults = TopicDefaults()
    sources: dict[Name, Source]
    consumer: Consumer = Consumer()
    batch: Batch = Batch()
    logs: Logs = Logs()
    retention: Retention = Retention()
    metrics: Metrics = Metrics()
    alerts: Alerts = Alerts()
    lineage: Lineage = Lineage()
    catalog: Catalogs = Catalogs()
    live: Live | None = None

    @cached_property
    def relations(self) -> dict[TableRef, str]:
        """The name of every table in the schema raw, in the file's order."""
        refs = [
            TableRef(name, table) for name, spec in self.sources.items() for table in spec.tables
        ]
        return relation_names(refs)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes before the file."""
        return env_settings, init_settings
