"""The record that says that what came before a place of the binlog is gone from a table.

TRUNCATE and DROP write one by themselves. After a whole table was read again, everything that was
not read is gone, too: what a cascade deleted, a partition that was dropped, the rows of a table
whose name another one has taken.
"""

from __future__ import annotations

import time

import orjson
from confluent_kafka import KafkaException, Producer

from lake.config import Endpoints
from lake.errors import ServiceUnreachable
from lake.kafka.clients import kafka_client
from lake.kafka.sending import Outgoing, send
from producers.mysql.tables import MysqlTable


def tell_emptied(
    endpoints: Endpoints, source: str, table: MysqlTable, place: tuple[str, int]
) -> None:
    """Write the record into the table's topic.

    Args:
        endpoints: Where Kafka is.
        source: The source.
        table: The table.
        place: The binlog's file and the place in it; rows from there on stay.

    Raises:
        ServiceUnreachable: Kafka has not taken it.
    """
    file, pos = place
    about: dict[str, str | int] = {
        "connector": "mysql",
        "name": source,
        "db": table.database,
        "table": table.table,
    }
    # The place alone decides: the moment at which the server was there is not known.
    about |= {"file": file, "pos": pos, "row": 0, "ts_ms": 0}
    moment = int(time.time() * 1000)
    value = {"before": None, "after": None, "source": about, "op": "t", "ts_ms": moment}
    record = Outgoing(f"{source}.{table.name}", orjson.dumps(value))
    try:
        send(kafka_client(Producer, endpoints, enable_idempotence=True), [record])
    except KafkaException as error:
        raise ServiceUnreachable(
            f"Kafka at {endpoints.kafka} has not taken a record of {record.topic}:"
            f" {error.args[0].str()}.",
            "It is retried.",
        ) from None
