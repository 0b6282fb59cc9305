"""The configuration of Debezium's connector: the template with a source's addresses filled in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from lake.config import Config, Endpoints, MysqlConnection
from lake.errors import SourceError
from lake.installation import PROJECT
from lake.kafka.java_client import LOGIN_VARIABLE, java_client
from producers.mysql.encryption import debezium_settings
from producers.mysql.neighbours import server_id
from producers.mysql.tables import MysqlTable, table_settings

_CLIENTS = (
    "schema.history.internal.producer.",
    "schema.history.internal.consumer.",
    "signal.consumer.",
)
TEMPLATE = Path("connect") / "mysql.json"


def connector_settings(
    config: Config,
    endpoints: Endpoints,
    source: str,
    mysql: MysqlConnection,
    tables: Iterable[MysqlTable],
) -> dict[str, str]:
    """The settings of a source's connector, without its own options.

    Args:
        config: The configuration.
        endpoints: Where the services are.
        source: The source's name.
        mysql: Its server.
        tables: The tables that the connector follows.

    Raises:
        SourceError: The template, or the server's authority, cannot be read.
    """
    values = {
        "name": config.settings.name,
        "source": source,
        "server_id": str(server_id(config, source)),
        "replication_factor": str(config.settings.topics.replication_factor),
        "kafka": endpoints.kafka,
        "host": mysql.host,
        "port": str(mysql.port),
        "user": mysql.user,
        # Connect resolves it: the password is in none of its answers.
        "password": mysql.connect_reference,
        **table_settings(tables),
    }
    own = config.root / TEMPLATE
    template = own if own.exists() else PROJECT / TEMPLATE
    filled = {}
    for key, text in _template(template).items():
        for name, value in values.items():
            text = text.replace(f"<{name}>", value)
        filled[key] = text
    return filled | debezium_settings(config, mysql) | kafka_logins(endpoints)


def kafka_logins(endpoints: Endpoints) -> dict[str, str]:
    """How the connector's own Kafka clients log in; Connect's environment has the password."""
    security = java_client(endpoints.kafka_options)
    if "sasl.jaas.config" in security:
        security["sasl.jaas.config"] = f"${{env:{LOGIN_VARIABLE}}}"
    return {f"{client}{key}": value for client in _CLIENTS for key, value in security.items()}


def _template(path: Path) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{path}: {error}.", "Restore the connector's template from the repository."
        ) from None
    return found
