"""The table in PostgreSQL that remembers what has been exported, in the exporting transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg2 import errors, sql

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
_RECORD = """
INSERT INTO ducklake.exports (relation, lake, state, rows, storage, kept_from, about)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (relation) DO UPDATE SET lake = excluded.lake, state = excluded.state,
    rows = excluded.rows, storage = excluded.storage, kept_from = excluded.kept_from,
    about = excluded.about, exported_at = now()
"""


@dataclass(frozen=True, slots=True)
class Exported:
    """What a relation holds.

    Attributes:
        state: What it shows, as the export that wrote it said.
        rows: How many rows it had then.
        kept_from: Rows of Kafka's timestamps before this may be missing; None: none is.
        primary_key: The columns of its key, as the model names them.
        described: Differs whenever the model's description does.
        columns: Differs whenever the model's columns do.
        comments: The comments that an export has written: by column, that of the table by "".
    """

    state: str
    rows: int
    kept_from: datetime | None = None
    primary_key: tuple[str, ...] = ()
    described: str = ""
    columns: str = ""
    comments: Mapping[str, str] = field(default_factory=dict)


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
                tuple(about.get("primary_key", ())),
                about.get("described", ""),
                about.get("columns", ""),
                about.get("comments", {}),
            )
        return found

    def record(self, cursor: Any, relation: str, exported: Exported) -> None:
        """Record an export, in the transaction that wrote the rows."""
        about = {
            "primary_key": exported.primary_key,
            "described": exported.described,
            "columns": exported.columns,
            "comments": dict(exported.comments),
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
