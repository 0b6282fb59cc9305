"""What goes into a polled table's topic: the envelope that Debezium's connector writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from lake.records import Record
from lake.storage.canonical import SourceColumn
from producers.mysql.polling.cursor import FILE
from producers.mysql.polling.definition import Definition
from producers.mysql.tables import MysqlTable

SNAPSHOT, CREATED, UPDATED, EMPTIED = "r", "c", "u", "t"


def source_block(
    source: str, names: MysqlTable, number: int, moment: int, row: int = 0
) -> dict[str, Any]:
    """Where a record comes from.

    Args:
        source: The source.
        names: The table's names.
        number: Of the cursor in whose batch it is; stands for the place in a binlog.
        moment: The server's clock, in milliseconds of the epoch.
        row: Its place in the batch.
    """
    return {
        "version": "ducklake-poll",
        "connector": "mysql",
        "name": source,
        "ts_ms": moment,
        "snapshot": "false",
        "db": names.database,
        "table": names.table,
        "server_id": 0,
        "gtid": None,
        "file": FILE,
        "pos": number,
        "row": row,
        "thread": None,
        "query": None,
    }


def row_record(
    definition: Definition, value: Mapping[str, Any], encoded: bytes, about: Mapping[str, Any]
) -> Record:
    """A row.

    Args:
        definition: Of its table.
        value: Its columns.
        encoded: The same as JSON.
        about: `op` and `source`.
    """
    source = orjson.dumps(about["source"])
    op, moment = str(about["op"]).encode(), str(about["source"]["ts_ms"]).encode()
    whole = b'{"before":null,"after":%b,"source":%b,"op":"%b","ts_ms":%b}' % (
        *(encoded, source),
        *(op, moment),
    )
    return Record(definition.names.name, _key(definition.table.key, value), {}, {}, whole)


def emptied_record(source: str, names: MysqlTable, number: int) -> Record:
    """What came before a number is gone: the whole table was read again since."""
    # The number alone decides, as in `producers.mysql.emptying`.
    block = source_block(source, names, number, 0)
    value = {"before": None, "after": None, "source": block, "op": EMPTIED, "ts_ms": 0}
    return Record(names.name, "", value)


def _key(columns: Sequence[SourceColumn], value: Mapping[str, Any]) -> str:
    return orjson.dumps({column.name: value[column.name] for column in columns}).decode()
