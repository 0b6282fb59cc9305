"""The table in PostgreSQL that remembers what has been exported, in the exporting transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg2 import errors, sql

from batcher.postgres.columns import known_table
from batcher.postgres.database import PostgresDatabase, claim, identifier
from batcher.postgres.failures import split

_TABLE = """
CREATE SCHEMA IF NOT EXISTS ducklake;
CREATE TABLE IF NOT EXISTS ducklake.exports (
    relation text PRIMARY KEY, lake text NOT NULL, state text NOT NULL, rows bigint NOT NULL,
    exported_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE ducklake.exports ADD COLUMN IF NOT EXISTS storage text;
ALTER TABLE ducklake.exports ADD COLUMN IF NOT EXISTS kept_from timestamptz;
ALTER TABLE ducklake.exports ADD COLUMN IF NOT EXISTS about jsonb NOT NULL DEFAULT '{}';
"""
_IS_CURRENT = (
    "SELECT count(*) = 3 FROM pg_attribute WHERE attrelid = to_regclass('ducklake.exports')"
    " AND attname IN ('storage', 'kept_from', 'about') AND NOT attisdropped"
)
_STORAGES = (
    "SELECT n.nspname, c.relname, c.oid || '/' || coalesce(pg_relation_filenode(c.oid), 0)"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = ANY(%s) AND c.relname = ANY(%s)"
)
_KNOWN = (
    "SELECT relation, state, rows, storage, kept_from, about FROM ducklake.exports"
    " WHERE lake = %s AND (%s OR relation = ANY(%s)) ORDER BY relation"
)
_MADE = (
    "SELECT about FROM ducklake.exports e WHERE relation = %s"
    " AND split_part(storage, '/', 1) = (SELECT c.oid::text FROM pg_class c"
    " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s)"
)
_LEFT = (
    "SELECT relation, column_name FROM ducklake.exports,"
    " jsonb_array_elements_text(about #> '{made,left}') AS column_name"
    " WHERE lake = %s ORDER BY 1, 2"
)
_RECORD = """
INSERT INTO ducklake.exports (relation, lake, state, rows, storage, kept_from, about)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (relation) DO UPDATE SET lake = excluded.lake, state = excluded.state,
    rows = excluded.rows, storage = excluded.storage, kept_from = excluded.kept_from,
    about = excluded.about, exported_at = now()
"""


@dataclass(frozen=True, slots=True)
class Made:
    """What exports have given a table, whatever became of its rows; what else it has is a user's.

    Attributes:
        key: The columns of its key, as PostgreSQL names them.
        columns: Its columns, and those that its rows have no longer.
        left: These; they have been emptied.
        is_key_unnamed: Whether an earlier release made the key, under PostgreSQL's own name.
    """

    key: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    is_key_unnamed: bool = False

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> Made:
        """From what is recorded of a relation."""
        found = about.get("made")
        if found is None:
            key = tuple(about.get("primary_key", ()))
            return cls(key, is_key_unnamed=bool(key))
        return cls(
            tuple(found["key"]), tuple(found["columns"]), tuple(found["left"]), found["unnamed"]
        )

    def dump(self) -> dict[str, Any]:
        """As it is recorded."""
        return {
            "key": self.key,
            "columns": self.columns,
            "left": self.left,
            "unnamed": self.is_key_unnamed,
        }


@dataclass(frozen=True, slots=True)
class Exported:
    """What a relation holds.

    Attributes:
        state: What it shows, as the export that wrote it said.
        rows: How many rows it had then.
        kept_from: Rows of Kafka's timestamps before this may be missing; None: none is.
        described: Differs whenever the model's description does.
        columns: Differs whenever the model's columns do.
        comments: The comments that an export has written: by column, that of the table by "".
        made: What the table has got from exports.
    """

    state: str
    rows: int
    kept_from: datetime | None = None
    described: str = ""
    columns: str = ""
    comments: Mapping[str, str] = field(default_factory=dict)
    made: Made = field(default_factory=Made)


class Exports:
    """The exports of one lake.

    Args:
        lake: Its identity: rows of another one do not count.
    """

    def __init__(self, lake: str) -> None:
        self._lake = lake

    @staticmethod
    def prepare(database: PostgresDatabase) -> None:
        """Make the table where it is missing, or that of an earlier release.

        Raises:
            BatchError: The database refuses this user.
        """
        with database.transaction("ducklake.exports") as cursor:
            cursor.execute(_IS_CURRENT)
            if not cursor.fetchone()[0]:
                claim(cursor, "ducklake.exports")
                cursor.execute(_TABLE)

    def known(self, cursor: Any, relations: Iterable[str] | None = None) -> dict[str, Exported]:
        """What each relation holds that has been exported and is still there.

        One that was dropped, or emptied, by somebody else is not among them: it is exported whole.

        Args:
            cursor: Of a transaction.
            relations: Only these; None: all.
        """
        wanted = list(relations or ())
        cursor.execute(_KNOWN, (self._lake, relations is None, wanted))
        rows = cursor.fetchall()
        storages = _storages(cursor, (relation for relation, *_ in rows))
        found = {}
        for relation, state, count, storage, kept_from, about in rows:
            now = storages.get(relation)
            if now is None:
                continue
            # Emptied, made anew, or only rewritten, as by VACUUM FULL.
            if now != storage and not _is_whole(cursor, relation, now, count):
                continue
            found[relation] = Exported(
                state,
                count,
                kept_from,
                about.get("described", ""),
                about.get("columns", ""),
                about.get("comments", {}),
                Made.of(about),
            )
        return found

    def made(self, cursor: Any, relation: str) -> Made:
        """What exports have given a table: those of another lake as well, before a reset."""
        cursor.execute(_MADE, (relation, *split(relation)))
        row = cursor.fetchone()
        return Made() if row is None else Made.of(row[0])

    def left(self, cursor: Any) -> dict[str, tuple[str, ...]]:
        """Relation to the columns that its rows have no longer, until somebody drops them."""
        cursor.execute(_LEFT, (self._lake,))
        found: dict[str, tuple[str, ...]] = {}
        for relation, column in cursor.fetchall():
            found[relation] = (*found.get(relation, ()), column)
        there = {relation: known_table(cursor, relation) for relation in found}
        return {
            relation: tuple(name for name in columns if name in table.columns)
            for relation, columns in found.items()
            if (table := there[relation]) is not None
        }

    def record(self, cursor: Any, relation: str, exported: Exported) -> None:
        """Record an export, in the transaction that wrote the rows."""
        about = {
            "described": exported.described,
            "columns": exported.columns,
            "comments": dict(exported.comments),
            "made": exported.made.dump(),
        }
        storage = _storages(cursor, [relation]).get(relation)
        kept = (storage, exported.kept_from, json.dumps(about))
        cursor.execute(_RECORD, (relation, self._lake, exported.state, exported.rows, *kept))


def _storages(cursor: Any, relations: Iterable[str]) -> Mapping[str, str]:
    """Which file in PostgreSQL holds each relation that is there; a new one after a TRUNCATE."""
    places = {split(relation): relation for relation in relations}
    schemas, names = {schema for schema, _ in places}, {name for _, name in places}
    cursor.execute(_STORAGES, (sorted(schemas), sorted(names)))
    return {
        places[schema, name]: storage
        for schema, name, storage in cursor.fetchall()
        if (schema, name) in places
    }


def _is_whole(cursor: Any, relation: str, storage: str, rows: int) -> bool:
    """Whether a relation in another storage than it was has as many rows; remembers that.

    Where somebody locks it nobody can tell: whoever writes it asks again, with a lock of its own.
    """
    cursor.execute("SAVEPOINT counting")
    try:
        if count_rows(cursor, relation) != rows:
            return False
    except errors.LockNotAvailable:
        cursor.execute("ROLLBACK TO SAVEPOINT counting")
        return True
    cursor.execute(
        "UPDATE ducklake.exports SET storage = %s WHERE relation = %s", (storage, relation)
    )
    cursor.execute("RELEASE SAVEPOINT counting")
    return True


def count_rows(cursor: Any, relation: str) -> int:
    """The rows of a relation."""
    cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(identifier(relation)))
    row = cursor.fetchone()
    return int(row[0]) if row else 0
