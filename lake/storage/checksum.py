"""A checksum of rows that depends neither on their order nor on columns that hold nothing.

It is made over (place of the row, column, canonical value): two lakes that read the same offsets
have the same sum, whatever files, types of NULL columns or order of columns they have.
"""

from __future__ import annotations

from collections.abc import Sequence

from lake.storage.sql import literal, quoted

PLACE = ("_topic_epoch", "_partition", "_offset")


def checksum_query(columns: Sequence[str], source: str, place: Sequence[str] = PLACE) -> str:
    """SQL for (rows, checksum) of a relation.

    Args:
        columns: The columns that count.
        source: A query or a relation's name, in parentheses or not.
        place: Columns that identify a row, so that two rows cannot exchange values.

    Returns:
        A query of one row: BIGINT, and HUGEINT as text.
    """
    where = ", ".join(quoted(name) for name in place)
    cells = [
        f"coalesce(hash({where}{', ' if place else ''}{literal(name)},"
        f" {quoted(name)}::VARCHAR)::HUGEINT * ({quoted(name)} IS NOT NULL)::INTEGER, 0)"
        for name in columns
    ]
    return f"SELECT count(*), coalesce(sum({' + '.join(cells)}), 0)::VARCHAR FROM {source}"
