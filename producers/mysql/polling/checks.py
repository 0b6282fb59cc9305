"""Whether a table can be polled: decided on its definition alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lake.config.suggestions import nearest
from producers.mysql.polling.definition import Definition
from producers.mysql.tables import quoted


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a table that is not as polling needs it.

    Attributes:
        at: The keys below the table that lead to it.
        what: What is wrong.
        remedy: What the reader should do about it.
    """

    at: tuple[str, ...]
    what: str
    remedy: str


def refusal(definition: Definition, watermark: str) -> Finding | None:
    """Why a table cannot be polled; None if it can.

    Args:
        definition: The table's.
        watermark: Name of its watermark column.
    """
    table, at = definition.names.sql, ("options", "watermark")
    column = definition.column(watermark)
    if column is None:
        near = nearest(watermark, [c.name for c in definition.table.columns])
        return Finding(
            at,
            f"MySQL's table {table} has no column {watermark!r}{near}",
            "Correct the name, case included, or add the column: ALTER TABLE"
            f" {table} ADD COLUMN {quoted(watermark)} TIMESTAMP(6) NOT NULL DEFAULT"
            " CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6), ADD INDEX"
            f" ({quoted(watermark)})",
        )
    if not definition.is_watermark(column):
        return Finding(
            at,
            f"{watermark} of {table} is a {column.data_type}, whose order does not say what is new",
            "Name a column of a DATE, DATETIME, TIMESTAMP or integer type.",
        )
    if not definition.table.key:
        return Finding(
            (),
            f"{table} has neither a primary key nor a unique index without NULLs: its rows cannot"
            " be told apart",
            f"ALTER TABLE {table} ADD COLUMN id BIGINT AUTO_INCREMENT PRIMARY KEY.",
        )
    return None


def advice(definition: Definition, watermark: str, key: list[str]) -> Iterator[Finding]:
    """What should be otherwise, though the table can be polled.

    Args:
        definition: The table's; `refusal` has nothing against it.
        watermark: Name of its watermark column.
        key: The key as it is configured; may be empty.
    """
    table, at = definition.names.sql, ("options", "watermark")
    column = definition.column(watermark)
    assert column is not None, "refused otherwise"
    if column.nullable:
        yield Finding(
            at,
            f"{watermark} of {table} may be NULL, and rows in which it is are not read",
            f"Run `ALTER TABLE {table} MODIFY COLUMN {quoted(watermark)} … NOT NULL`.",
        )
    if watermark not in definition.first_of_index:
        yield Finding(
            at,
            f"no index of {table} begins with {watermark}, so that each poll reads all of it",
            f"Run `ALTER TABLE {table} ADD INDEX ({quoted(watermark)})`.",
        )
    actual = [c.name for c in definition.table.key]
    if key and set(key) != set(actual):
        listed = ", ".join(actual)
        yield Finding(
            ("key",),
            f"the key of {table} is ({listed}), which is what its records have",
            f"Write `key: [{listed}]`.",
        )
