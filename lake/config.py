"""The one configuration file, `ducklake.yml`: typed, validated, with the line of every error.

A service whose address is `embedded` is looked up in the state file of the embedded stack, so the
rest of the project only ever sees addresses (`Config.endpoints`).
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from lake.errors import ConfigError, StackNotRunning
from lake.records import Kind

EMBEDDED = "embedded"
CONFIG_NAME = "ducklake.yml"
FOREIGN = "kafka"
"""The type of a source whose topics others write."""
_INTERPOLATION = re.compile(
    r"(?<!\$)\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*?))?\}$"
)
_NAME = r"^[a-z][a-z0-9_]*$"

Name = Annotated[str, Field(pattern=_NAME)]
Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[float, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaService(_Section):
    """Where the broker is; `options` are librdkafka settings."""

    bootstrap_servers: str = EMBEDDED
    options: dict[str, str] = {}


class ConnectService(_Section):
    """Kafka Connect's REST address, and how Connect itself finds MySQL's password."""

    url: str = EMBEDDED
    mysql_password: str = "${env:DUCKLAKE_MYSQL_PASSWORD}"


class MysqlService(_Section):
    """The MySQL server that Debezium follows.

    The user needs SELECT, RELOAD, SHOW DATABASES, REPLICATION SLAVE and REPLICATION CLIENT.
    """

    host: str = EMBEDDED
    port: Port = 3306
    user: str = "techstore"
    password: SecretStr = SecretStr("")
    database: str = "techstore"


class PostgresService(_Section):
    """The PostgreSQL database that receives the schemas raw, staging and consume."""

    host: str = EMBEDDED
    port: Port = 5432
    user: str = "ducklake"
    password: SecretStr = SecretStr("")
    database: str = "techstore"


class SftpService(_Section):
    """The suppliers' SFTP server; its host key must be in `known_hosts`."""

    host: str = EMBEDDED
    port: Port = 22
    user: str = "techstore"
    password: SecretStr = SecretStr("")
    private_key: Path | None = None
    known_hosts: Path | None = None


class ApiService(_Section):
    """The two public APIs, or the embedded server that answers in the same shapes."""

    use: Literal["embedded", "public"] = "public"
    argentinadatos: str = "https://api.argentinadatos.com"
    dolarapi: str = "https://dolarapi.com"


class Services(_Section):
    """Every outside service: an address, or `embedded`."""

    kafka: KafkaService = KafkaService()
    connect: ConnectService = ConnectService()
    mysql: MysqlService = MysqlService()
    postgres: PostgresService = PostgresService()
    sftp: SftpService = SftpService()
    api: ApiService = ApiService()

    def embedded(self) -> tuple[str, ...]:
        """Names of the services that `ducklake up` has to start, in starting order."""
        wanted = {
            "mysql": self.mysql.host == EMBEDDED,
            "kafka": self.kafka.bootstrap_servers == EMBEDDED,
            "postgres": self.postgres.host == EMBEDDED,
            "sftp": self.sftp.host == EMBEDDED,
            "api": self.api.use == EMBEDDED,
            "connect": self.connect.url == EMBEDDED,
        }
        return tuple(name for name, yes in wanted.items() if yes)


class EmbeddedPorts(_Section):
    """Wished ports on loopback; a free one is chosen where one is taken."""

    kafka: Port = 19092
    connect: Port = 18083
    mysql: Port = 13306
    postgres: Port = 15432
    sftp: Port = 12222
    api: Port = 18080


class Embedded(_Section):
    """Settings of the embedded stack."""

    ports: EmbeddedPorts = EmbeddedPorts()


class TopicDefaults(_Section):
    """How topics are created; retention is the far end of any replay."""

    partitions: Annotated[int, Field(ge=1)] = 2
    replication_factor: Annotated[int, Field(ge=1)] = 1
    retention_days: Positive = 30
    retention_mb: Positive = 1024


class Table(_Section):
    """One table of a source: the topic `{source}.{table}`."""

    key: list[str] = []
    file: str | None = None
    columns: dict[str, str] = {}
    options: dict[str, str | int | bool] = {}
    partitions: Annotated[int, Field(ge=1)] | None = None
    retention_days: Positive | None = None


class Source(_Section):
    """One connector. `type` is a built-in kind or `package.module:Class` of your own.

    `kafka` has no connector: others write its topics.
    """

    type: str
    tables: dict[Name, Table]
    poll_seconds: Positive = 10
    directory: str = "/"
    options: dict[str, str | int | bool] = {}


class Consumer(_Section):
    """When buffered records become hot files, and hot files public ones."""

    flush_rows: Annotated[int, Field(ge=1)] = 50_000
    flush_mb: Positive = 64
    flush_seconds: Positive = 1
    seal_max_age_seconds: Positive = 3600
    target_file_mb: Positive = 128


class Batch(_Section):
    """The timer that triggers dbt, publication and export."""

    interval_seconds: Positive = 10
    threads: Annotated[int, Field(ge=1)] = 2
    dbt_project: Path = Path("dbt_techstore")


class Settings(BaseSettings):
    """The file's contents; `DUCKLAKE_SECTION__KEY` in the environment overrides a key."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="DUCKLAKE_", env_nested_delimiter="__"
    )

    name: Name = "techstore"
    data_dir: Path = Path("data")
    services: Services = Services()
    embedded: Embedded = Embedded()
    topics: TopicDefaults = TopicDefaults()
    sources: dict[Name, Source]
    consumer: Consumer = Consumer()
    batch: Batch = Batch()

    @field_validator("sources")
    @classmethod
    def _tables_are_unique(cls, sources: dict[str, Source]) -> dict[str, Source]:
        seen: dict[str, str] = {}
        for source, spec in sources.items():
            for table in spec.tables:
                if table in seen:
                    raise ValueError(
                        f"table {table!r} stands in {seen[table]!r} and in {source!r}; relations"
                        " are named raw.{table}, so give one of them another name"
                    )
                seen[table] = source
        return sources

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


@dataclass(frozen=True, slots=True)
class DatabaseEndpoint:
    """A resolved address of a database."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str


class MysqlEndpoint(DatabaseEndpoint):
    """Where MySQL is."""

    __slots__ = ()


class PostgresEndpoint(DatabaseEndpoint):
    """Where PostgreSQL is."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class SftpEndpoint:
    """A resolved SFTP address; `known_hosts` holds the server's key."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    private_key: Path | None
    known_hosts: Path | None


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where every service is, whether embedded or the user's own."""

    kafka: str
    kafka_options: dict[str, str] = field(repr=False)
    connect: str
    connect_mysql_password: str
    mysql: MysqlEndpoint
    postgres: PostgresEndpoint
    sftp: SftpEndpoint
    argentinadatos: str
    dolarapi: str

    def kafka_client(self, **settings: Any) -> dict[str, Any]:
        """Librdkafka settings for this broker, with `a_b` spelled for `a.b`."""
        named = {key.replace("_", "."): value for key, value in settings.items()}
        quiet = {"log_level": 2}  # what matters comes back as an error, and has a name then
        return {"bootstrap.servers": self.kafka, **quiet, **self.kafka_options, **named}


@dataclass(frozen=True, slots=True)
class TableRef:
    """A table by its two names; `topic` is where its records travel."""

    source: str
    table: str

    @property
    def topic(self) -> str:
        """The Kafka topic, `{source}.{table}`."""
        return f"{self.source}.{self.table}"


@dataclass(frozen=True, slots=True)
class Config:
    """Validated settings and the folder to which their relative paths refer."""

    settings: Settings
    path: Path

    @property
    def root(self) -> Path:
        """The project's folder: where the configuration file lies."""
        return self.path.parent

    @property
    def data_dir(self) -> Path:
        """Absolute folder for everything that is written."""
        return (self.root / self.settings.data_dir.expanduser()).absolute()

    @property
    def stack_dir(self) -> Path:
        """Absolute folder of the embedded stack (its data, logs and state file)."""
        return self.data_dir / "stack"

    @property
    def state_file(self) -> Path:
        """Written by the supervisor of the embedded stack once every service is healthy."""
        return self.stack_dir / "state.json"

    @property
    def dbt_project(self) -> Path:
        """Absolute folder of the dbt project."""
        return (self.root / self.settings.batch.dbt_project.expanduser()).absolute()

    def tables(self) -> Iterator[tuple[TableRef, Table]]:
        """All tables of all sources, in the file's order."""
        for source, spec in self.settings.sources.items():
            for table, entry in spec.tables.items():
                yield TableRef(source, table), entry

    def kind(self, ref: TableRef) -> Kind:
        """How the records of a table are built."""
        return "cdc" if self.settings.sources[ref.source].type == "mysql_cdc" else "plain"

    def endpoints(self) -> Endpoints:
        """Resolve every service to an address.

        Raises:
            StackNotRunning: A service is `embedded` and the stack is not up.
        """
        services = self.settings.services
        state = self._state() if services.embedded() else {}

        def pick(name: str, own: dict[str, Any], embedded: bool) -> dict[str, Any]:
            if not embedded:
                return own
            if name not in state:
                raise StackNotRunning(
                    f"The embedded {name} is not running.", "Start it with `ducklake up`."
                )
            return {**own, **state[name]}

        def own(section: _Section) -> dict[str, Any]:
            return {
                key: value.get_secret_value() if isinstance(value, SecretStr) else value
                for key, value in section
            }

        kafka = pick("kafka", own(services.kafka), services.kafka.bootstrap_servers == EMBEDDED)
        connect = pick("connect", own(services.connect), services.connect.url == EMBEDDED)
        sftp = pick("sftp", own(services.sftp), services.sftp.host == EMBEDDED)
        for key in ("private_key", "known_hosts"):
            sftp[key] = Path(sftp[key]).expanduser() if sftp.get(key) else None
        api = pick("api", own(services.api), services.api.use == EMBEDDED)
        return Endpoints(
            kafka=kafka["bootstrap_servers"],
            kafka_options=kafka["options"],
            connect=connect["url"].rstrip("/"),
            connect_mysql_password=connect["mysql_password"],
            mysql=MysqlEndpoint(
                **pick("mysql", own(services.mysql), services.mysql.host == EMBEDDED)
            ),
            postgres=PostgresEndpoint(
                **pick("postgres", own(services.postgres), services.postgres.host == EMBEDDED)
            ),
            sftp=SftpEndpoint(**sftp),
            argentinadatos=api["argentinadatos"].rstrip("/"),
            dolarapi=api["dolarapi"].rstrip("/"),
        )

    def _state(self) -> dict[str, dict[str, Any]]:
        try:
            state: dict[str, dict[str, Any]] = json.loads(self.state_file.read_text())["services"]
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError) as error:
            raise StackNotRunning(
                f"The stack's state file {self.state_file} cannot be read ({error}).",
                "Run `ducklake down`, then `ducklake up`.",
            ) from None
        return state


def find_config(start: Path | None = None) -> Path:
    """Find `ducklake.yml`: `DUCKLAKE_CONFIG`, else here or in a folder above.

    Raises:
        ConfigError: There is none.
    """
    named = os.environ.get("DUCKLAKE_CONFIG")
    if named:
        return Path(named).expanduser().absolute()
    here = (start or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        if (folder / CONFIG_NAME).is_file():
            return folder / CONFIG_NAME
    raise ConfigError(
        f"No {CONFIG_NAME} in {here} or above.", "Name one with --config or DUCKLAKE_CONFIG."
    )


def load_config(path: Path | None = None) -> Config:
    """Read and validate the configuration.

    Args:
        path: The file; None looks for it (`find_config`).

    Raises:
        ConfigError: It cannot be read, or a value is wrong; names the line and the remedy.
    """
    path = path.expanduser().absolute() if path else find_config()
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}.", "Name another file with --config."
        ) from None
    lines: dict[tuple[str, ...], int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _note_lines(node, (), lines)
        raw = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise ConfigError(f"{path.name}{where}: {problem}.", "Mend the YAML there.") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path.name}: expected keys at the top level.", "See the README.")
    data = _interpolate(raw, (), lines, path.name)
    try:
        settings = Settings(**data)
    except ValidationError as error:
        raise ConfigError(_explain(error, lines, path.name, data)) from None
    return Config(settings=settings, path=path)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `ducklake.yml`, for editors."""
    return Settings.model_json_schema()


def _note_lines(node: yaml.Node, at: tuple[str, ...], lines: dict[tuple[str, ...], int]) -> None:
    lines.setdefault(at, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, str(key.value))
            lines[here] = key.start_mark.line + 1
            _note_lines(value, here, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _note_lines(value, (*at, str(index)), lines)


def _interpolate(
    value: Any, at: tuple[str, ...], lines: dict[tuple[str, ...], int], name: str
) -> Any:
    if isinstance(value, dict):
        return {key: _interpolate(v, (*at, str(key)), lines, name) for key, v in value.items()}
    if isinstance(value, list):
        return [_interpolate(v, (*at, str(i)), lines, name) for i, v in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    match = _INTERPOLATION.match(value)
    if match:
        found = os.environ.get(match["name"], match["default"])
        if found is None:
            raise ConfigError(
                f"{name}, line {lines.get(at, 1)}: {match['name']} is not set.",
                f"Set it in the environment, or write ${{{match['name']}:-default}}.",
            )
        value = found
    return value.replace("$${", "${")


def _explain(
    error: ValidationError,
    lines: dict[tuple[str, ...], int],
    name: str,
    data: dict[str, Any],
) -> str:
    said = []
    for item in error.errors(include_input=False, include_url=False):
        at = tuple(str(part) for part in item["loc"])
        known = at
        while known and known not in lines:
            known = known[:-1]
        key = ".".join(at) or "the file"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown key" + _nearest(at)
        said.append(f"{name}, line {lines.get(known, 1)}: {key}: {message}.")
    return "\n".join(said)


def _nearest(at: tuple[str, ...]) -> str:
    model: Any = Settings
    for part in at[:-1]:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if annotation is None:
            break
        values = [a for a in getattr(annotation, "__args__", ()) if hasattr(a, "model_fields")]
        if hasattr(annotation, "model_fields"):
            model = annotation
        elif values:
            model = _MapOf(values[0])
        else:
            break
    fields = list(getattr(model, "model_fields", {}))
    close = difflib.get_close_matches(at[-1], fields, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(fields)}"


class _MapOf:
    """A mapping of free names to models, for the walk along an error's location."""

    def __init__(self, model: Any) -> None:
        self.model_fields = _Any(model)


class _Any(dict[str, Any]):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: str) -> Any:
        return type("Free", (), {"annotation": self._model})
