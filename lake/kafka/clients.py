"""Clients of the configured broker; an option that librdkafka does not take has a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from confluent_kafka import KafkaException

from lake.config import Endpoints
from lake.errors import ConfigError

Client = TypeVar("Client")


def kafka_client(
    kind: Callable[[dict[str, Any]], Client], endpoints: Endpoints, **settings: Any
) -> Client:
    """A client of the configured broker.

    Args:
        kind: `Producer`, `Consumer` or `AdminClient`.
        endpoints: Where Kafka is.
        settings: librdkafka's settings, with underscores; they go before the configured ones.

    Raises:
        ConfigError: An option of `services.kafka` does not exist, has a value that is none, or
            does not go together with what this client needs.
    """
    try:
        return kind(endpoints.kafka_client(**settings))
    except (KafkaException, TypeError, ValueError) as error:
        said = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        raise ConfigError(
            f"services.kafka: {said.rstrip('.')}.", "Fix its options in ducklake.yml."
        ) from None
