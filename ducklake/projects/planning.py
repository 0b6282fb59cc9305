"""What a changed `ducklake.yml` or dbt project will do: asked of Kafka, Connect and the lake."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaException
from confluent_kafka.admin import ConfigResource, ResourceType

from batcher.dbt_graph import ModelGraph
from batcher.edits import Definition, edits, read_definitions
from batcher.lineage import parents_of, read_lineage
from batcher.selection import DESCRIBED, EDITED, NEW, RETESTED
from batcher.waiting_rows import upstream
from ducklake.projects.models import read_project
from ducklake.supervision.freshness import can_be_read
from lake.config import FOREIGN, MYSQL_CDC, Config, Endpoints, MysqlConnection, TableRef
from lake.errors import ServiceUnreachable
from lake.kafka.refusals import unreachable
from lake.kafka.topics import TopicSpec, admin, wanted_topics
from lake.ledger import LedgerReader
from lake.records import REJECTS_TOPIC
from lake.storage.paths import LakePaths
from producers.cursors import committed_cursors
from producers.files.checks import changed_options
from producers.files.connector import FileConnector
from producers.mysql.cdc import DebeziumSettings
from producers.mysql.connect_rest import ConnectRest
from producers.mysql.settings import connector_settings
from producers.mysql.snapshot_select import SETTING
from producers.mysql.tables import TABLES, TOPICS, captured, mysql_tables
from producers.registry import connector_class, source_connection

SECONDS = 15.0
TOPIC, CONNECTOR, TABLE, FILES, MODEL = "topic", "connector", "table", "files", "model"


@dataclass(frozen=True, slots=True)
class Step:
    """Something that will be done.

    Attributes:
        kind: `topic`, `connector`, `table`, `files` or `model`.
        name: What it is done to.
        what: What is done.
    """

    kind: str
    name: str
    what: str


def plan(config: Config, endpoints: Endpoints) -> list[Step]:
    """Everything that will be done once the roles run with a configuration.

    Raises:
        ServiceUnreachable: Kafka or Connect does not answer.
        StackNotRunning: A connection is `embedded`, and the stack is not up.
        BatchError: dbt cannot read its project.
    """
    existing = _existing_topics(endpoints)
    steps = [*_topics(config, endpoints, existing), *_sources(config, endpoints, existing)]
    steps += _left(config)
    read = {step.name for step in steps if step.kind in (TABLE, FILES)}
    return steps + list(model_steps(config, read))


def _existing_topics(endpoints: Endpoints) -> dict[str, int]:
    try:
        about = admin(endpoints).list_topics(timeout=SECONDS)
    except KafkaException as error:
        raise _no_kafka(endpoints, error) from None
    return {name: len(topic.partitions) for name, topic in about.topics.items()}


def _no_kafka(endpoints: Endpoints, error: KafkaException) -> ServiceUnreachable:
    remedy = "Is it up? `ducklake up` starts the embedded one."
    return unreachable(endpoints, error, remedy=remedy)


def _topics(config: Config, endpoints: Endpoints, existing: Mapping[str, int]) -> Iterator[Step]:
    known = [spec for spec in wanted_topics(config) if spec.name in existing]
    for spec in wanted_topics(config):
        if spec.name not in existing:
            count = f"{spec.partitions} partition{'s' if spec.partitions > 1 else ''}"
            yield Step(TOPIC, spec.name, f"is created with {count}")
    for spec, have in _current(endpoints, known):
        changed = [
            f"{key} from {have.get(key)} to {value}"
            for key, value in spec.settings.items()
            if have.get(key) != value
        ]
        if changed:
            yield Step(TOPIC, spec.name, f"gets {', '.join(changed)}")


def _current(
    endpoints: Endpoints, known: list[TopicSpec]
) -> Iterator[tuple[TopicSpec, Mapping[str, str]]]:
    if not known:
        return
    resources = [ConfigResource(ResourceType.TOPIC, spec.name) for spec in known]
    try:
        client = admin(endpoints)  # the answers come for as long as it is there
        answers = client.describe_configs(resources, request_timeout=SECONDS)
        found = {at.name: answer.result(SECONDS) for at, answer in answers.items()}
    except KafkaException as error:
        raise _no_kafka(endpoints, error) from None
    for spec in known:
        yield spec, {key: str(entry.value) for key, entry in found[spec.name].items()}


def _sources(config: Config, endpoints: Endpoints, existing: Mapping[str, int]) -> Iterator[Step]:
    for name, source in config.settings.sources.items():
        if source.type == FOREIGN:
            continue
        if source.type == MYSQL_CDC:
            yield from _connector(config, endpoints, name)
            continue
        for table in source.tables:
            if TableRef(name, table).topic not in existing:
                yield Step(TABLE, f"{name}.{table}", "is read for the first time")
        if issubclass(connector_class(config, name), FileConnector):
            for problem in changed_options(source, committed_cursors(endpoints, name)):
                yield Step(FILES, f"{name}.{problem.at[-1]}", problem.what)


def _connector(config: Config, endpoints: Endpoints, name: str) -> Iterator[Step]:
    at = source_connection(config, name)
    assert isinstance(at, MysqlConnection), "the connector's own"
    source, connector = config.settings.sources[name], f"{config.settings.name}-{name}"
    tables = mysql_tables(source, at.database)
    rest = ConnectRest(endpoints.connect, connector, (at.plain_password,), at.place)
    try:
        current = rest.configuration()
    finally:
        rest.close()
    if current is None:
        yield Step(CONNECTOR, connector, "is created")
        for table in tables:
            yield Step(TABLE, f"{name}.{table}", "is read whole by the connector's snapshot")
        return
    wanted = connector_settings(config, endpoints, name, at, tables.values())
    wanted |= DebeziumSettings.model_validate(source.options).texts()
    changed = _changed_settings(current, wanted)
    if changed:
        yield Step(CONNECTOR, connector, f"is updated and restarts: {', '.join(changed)}")
    followed = captured(current)
    for table, place in tables.items():
        if (place.database, place.table) not in followed:
            what = "is added: an incremental snapshot reads it whole, while changes keep flowing"
            yield Step(TABLE, f"{name}.{table}", what)
    mine = {(table.database, table.table) for table in tables.values()}
    for database, table in sorted(followed - mine):
        what = f"{database}.{table} in MySQL is followed no longer"
        yield Step(CONNECTOR, connector, what)


def _changed_settings(current: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Names of settings that differ, without their values; those made of tables are one."""
    names = {
        key
        for key in current.keys() | wanted.keys()
        if not key.startswith(SETTING) and current.get(key) != wanted.get(key) and key != "name"
    }
    of_tables = {TABLES, TOPICS, "database.include.list"}
    return sorted(names - of_tables) + (["tables"] if names & of_tables else [])


def _left(config: Config) -> Iterator[Step]:
    """Tables that the lake has and the configuration no longer names."""
    paths = LakePaths(config.data_dir)
    if not can_be_read(paths):
        return
    with LedgerReader(paths) as ledger:
        known = ledger.tables.topics()
    mine = {REJECTS_TOPIC, *(ref.topic for ref, _ in config.tables())}
    for topic in sorted(set(known) - mine):
        yield Step(TABLE, topic, "is read no longer; its files stay, and raw no longer shows it")


def model_steps(config: Config, read: Container[str] = ()) -> Iterator[Step]:
    """Models that were edited, and those behind them or behind tables that are read anew.

    The warehouse is not opened, and a cycle that runs is not disturbed.

    Args:
        config: The configuration.
        read: Topics whose tables or files are read anew.

    Raises:
        BatchError: dbt cannot read the project.
    """
    if not (config.dbt_project / "dbt_project.yml").is_file():
        return
    paths, graph = LakePaths(config.data_dir), read_project(config)
    found = edits(graph, _definitions(paths, graph))
    again = {f"raw.{config.relation(ref)}" for ref, _ in config.tables() if ref.topic in read}
    parents = parents_of(graph)
    if paths.lineage.exists() and not paths.definitions.exists():
        what = "were last built by an earlier release, and may be built anew"
        yield Step(MODEL, "all others", what)
    for relation in parents:
        if relation in found.built:
            yield Step(MODEL, relation, _of_edit(found.built[relation]))
        elif again & upstream(parents, relation):
            yield Step(MODEL, relation, "is computed anew where rows arrive")
    for relation in found.removed:
        yield Step(MODEL, relation, "is built no longer; its last state stays published")


def _definitions(paths: LakePaths, graph: ModelGraph) -> Mapping[str, Definition]:
    """What the models were built from; where nobody knows, the same as now."""
    known = read_definitions(paths)
    if known is not None:
        return known
    built = read_lineage(paths).keys()
    return {
        model.relation: Definition(model.fingerprint, model.tests, model.described)
        for model in graph.models
        if model.relation in built
    }


def _of_edit(why: str) -> str:
    """What a cycle does with a model, by the reason for which it chooses it."""
    if why == NEW:
        return "is built for the first time"
    if why == EDITED:
        return "is built from nothing: its definition was edited"
    if why == RETESTED:
        return "is tested as a whole: its tests were edited"
    if why == DESCRIBED:
        return "is published with its new description"
    return f"is computed anew: {why}"
