"""The ledger's tables, and how those of earlier releases become those of this one.

Forward only, each step in one transaction that also raises the version, after a copy of the whole
file was kept. A ledger of a later release is left alone.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import structlog

from lake.errors import UnsupportedFormatVersion
from lake.ledger.dead_letter_counts import FROM_7_TO_8
from lake.ledger.payloads import Payloads
from lake.storage.operations import (
    disk_full_is_transient,
    make_folder,
    rename,
    sync_file,
    sync_folder,
)
from lake.storage.paths import LakePaths

log = structlog.get_logger()

_TABLES_4 = """
CREATE TABLE IF NOT EXISTS lake (one INTEGER PRIMARY KEY CHECK (one = 1), identity TEXT) STRICT;
INSERT OR IGNORE INTO lake VALUES (1, lower(hex(randomblob(8))));
CREATE TABLE IF NOT EXISTS lake_tables (
    topic TEXT PRIMARY KEY, generation INTEGER NOT NULL DEFAULT 0, topic_id TEXT NOT NULL,
    partitions INTEGER NOT NULL, schema TEXT NOT NULL, schema_version INTEGER NOT NULL DEFAULT 0,
    epoch INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS epochs (
    topic TEXT NOT NULL, epoch INTEGER NOT NULL, topic_id TEXT NOT NULL,
    PRIMARY KEY (topic, epoch)
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO epochs SELECT topic, epoch, topic_id FROM lake_tables;
CREATE TABLE IF NOT EXISTS positions (
    topic TEXT NOT NULL, generation INTEGER NOT NULL, topic_id TEXT NOT NULL,
    partition INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, generation, topic_id, partition)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS commits (
    commit_no INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, generation INTEGER NOT NULL,
    session TEXT NOT NULL, committed_at REAL NOT NULL, records INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS commits_of_topic ON commits (topic, generation, commit_no);
CREATE TABLE IF NOT EXISTS ranges (
    topic TEXT NOT NULL, generation INTEGER NOT NULL, topic_id TEXT NOT NULL,
    partition INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    rows INTEGER NOT NULL, commit_no INTEGER NOT NULL,
    PRIMARY KEY (topic, generation, topic_id, partition, first)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ranges_of_commit ON ranges (commit_no);
CREATE TABLE IF NOT EXISTS losses (
    topic TEXT NOT NULL, generation INTEGER NOT NULL, topic_id TEXT NOT NULL,
    partition INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    accepted_at REAL NOT NULL, PRIMARY KEY (topic, generation, topic_id, partition, first)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    file_id INTEGER PRIMARY KEY, topic TEXT NOT NULL, generation INTEGER NOT NULL,
    tier TEXT NOT NULL CHECK (tier IN ('hot', 'sealed')), path TEXT NOT NULL UNIQUE,
    rows INTEGER NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
    created_at REAL NOT NULL, obsolete_at REAL
) STRICT;
CREATE INDEX IF NOT EXISTS live_files ON files (topic, generation, tier) WHERE obsolete_at IS NULL;
CREATE INDEX IF NOT EXISTS obsolete_files ON files (obsolete_at) WHERE obsolete_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS file_commits (
    file_id INTEGER NOT NULL, commit_no INTEGER NOT NULL, PRIMARY KEY (commit_no, file_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS commits_of_file ON file_commits (file_id, commit_no);
CREATE TABLE IF NOT EXISTS seals (
    seal_id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, intent TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS days (
    day_id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, intent TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS dead_letters (
    topic TEXT NOT NULL, generation INTEGER NOT NULL, topic_id TEXT NOT NULL,
    partition INTEGER NOT NULL, offset INTEGER NOT NULL, commit_no INTEGER NOT NULL,
    kafka_ts REAL NOT NULL, source_table TEXT NOT NULL, reason TEXT NOT NULL, key BLOB,
    value BLOB, headers TEXT NOT NULL,
    PRIMARY KEY (topic, generation, topic_id, partition, offset)
) STRICT;
CREATE TABLE IF NOT EXISTS generations (
    topic TEXT NOT NULL, generation INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('building', 'current', 'old')), session TEXT NOT NULL,
    made_at REAL NOT NULL, since_commit INTEGER NOT NULL, schema TEXT NOT NULL,
    held_until REAL NOT NULL DEFAULT 0, PRIMARY KEY (topic, generation)
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO generations SELECT topic, generation, 'current', '', 0, 0, schema, 0
    FROM lake_tables;
CREATE TABLE IF NOT EXISTS pins (
    session TEXT PRIMARY KEY, pinned_at REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS cycles (
    cycle INTEGER PRIMARY KEY AUTOINCREMENT, started_at REAL NOT NULL, seconds REAL NOT NULL,
    first_commit INTEGER NOT NULL, last_commit INTEGER NOT NULL, summary TEXT NOT NULL
) STRICT;
"""
# Dead letters had no generation before the fourth version.
_FROM_OLDER_THAN_4 = f"""
ALTER TABLE dead_letters RENAME TO dead_letters_3;
{_TABLES_4}
INSERT INTO dead_letters SELECT topic, 0, topic_id, partition, offset, commit_no, kafka_ts,
    source_table, reason, key, value, headers FROM dead_letters_3;
DROP TABLE dead_letters_3;
"""
# The intents in these tables stay as they are: `lake/formats.py` reads both versions of them.
_FROM_4_TO_5 = """
ALTER TABLE seals RENAME TO compactions;
ALTER TABLE compactions RENAME COLUMN seal_id TO compaction_id;
ALTER TABLE days RENAME TO date_rewrites;
ALTER TABLE date_rewrites RENAME COLUMN day_id TO rewrite_id;
ALTER TABLE date_rewrites ADD COLUMN claimed_by TEXT NOT NULL DEFAULT '';
ALTER TABLE cycles RENAME TO runs;
ALTER TABLE runs RENAME COLUMN cycle TO run;
"""
# Bytes of dead letters are in a database of their own: `_before` has moved them there.
_FROM_5_TO_6 = """
ALTER TABLE dead_letters RENAME TO dead_letters_5;
CREATE TABLE dead_letters (
    topic TEXT NOT NULL, generation INTEGER NOT NULL, topic_id TEXT NOT NULL,
    partition INTEGER NOT NULL, offset INTEGER NOT NULL, commit_no INTEGER NOT NULL,
    kafka_ts REAL NOT NULL, source_table TEXT NOT NULL, reason TEXT NOT NULL,
    value_bytes INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'dead' CHECK (state IN ('dead', 'dropped', 'redriven')),
    PRIMARY KEY (topic, generation, topic_id, partition, offset)
) STRICT, WITHOUT ROWID;
INSERT INTO dead_letters SELECT topic, generation, topic_id, partition, offset, commit_no,
    kafka_ts, source_table, reason, coalesce(length(value), 0), 'dead' FROM dead_letters_5;
DROP TABLE dead_letters_5;
"""
# Ranges that nobody asks for one by one are joined: see `joining.py`. The rows of a table are a
# running total, kept by the database itself: whoever adds or removes ranges cannot forget it.
_FROM_6_TO_7 = """
ALTER TABLE commits ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pins ADD COLUMN commit_no INTEGER NOT NULL DEFAULT 0;
CREATE TABLE readers (
    name TEXT PRIMARY KEY, session TEXT NOT NULL, commit_no INTEGER NOT NULL,
    stated_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO readers SELECT 'batch', '', last_commit, started_at + seconds FROM runs
    ORDER BY run DESC LIMIT 1;
CREATE TABLE row_counts (
    topic TEXT NOT NULL, generation INTEGER NOT NULL, rows INTEGER NOT NULL,
    PRIMARY KEY (topic, generation)
) STRICT, WITHOUT ROWID;
INSERT INTO row_counts SELECT topic, generation, sum(rows) FROM ranges GROUP BY 1, 2;
CREATE TABLE freshness (
    topic TEXT NOT NULL, hop TEXT NOT NULL, commit_no INTEGER NOT NULL, source_at REAL,
    kafka_at REAL, reached_at REAL NOT NULL, PRIMARY KEY (topic, hop)
) STRICT, WITHOUT ROWID;
CREATE TABLE lags (
    run INTEGER NOT NULL, topic TEXT NOT NULL, hop TEXT NOT NULL, bucket INTEGER NOT NULL,
    rows INTEGER NOT NULL, PRIMARY KEY (run, topic, hop, bucket)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER range_added AFTER INSERT ON ranges BEGIN
    INSERT INTO row_counts VALUES (NEW.topic, NEW.generation, NEW.rows)
        ON CONFLICT DO UPDATE SET rows = rows + excluded.rows;
END;
CREATE TRIGGER range_removed AFTER DELETE ON ranges BEGIN
    UPDATE row_counts SET rows = rows - OLD.rows
        WHERE topic = OLD.topic AND generation = OLD.generation;
END;
CREATE TRIGGER range_counted_again AFTER UPDATE OF rows ON ranges BEGIN
    UPDATE row_counts SET rows = rows - OLD.rows + NEW.rows
        WHERE topic = NEW.topic AND generation = NEW.generation;
END;
"""
MIGRATIONS: dict[int, tuple[int, str]] = {
    **dict.fromkeys((1, 2, 3), (4, _FROM_OLDER_THAN_4)),
    4: (5, _FROM_4_TO_5),
    5: (6, _FROM_5_TO_6),
    6: (7, _FROM_6_TO_7),
    7: (8, FROM_7_TO_8),
}
"""A version to the one that follows it, and the SQL that leads there."""
VERSION = 8


def version_of(db: sqlite3.Connection) -> int:
    """The version of a ledger's tables; 0 where it has none yet."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def is_older(db: sqlite3.Connection) -> bool:
    """Whether an earlier release wrote it."""
    return 0 < version_of(db) < VERSION


def bring_up_to_date(db: sqlite3.Connection, file: Path, paths: LakePaths) -> None:
    """Make the tables, or turn those of an earlier release into this one's.

    Args:
        db: A connection in autocommit mode.
        file: The database.
        paths: Of the lake whose ledger it is; the copy goes to its quarantine.

    Raises:
        UnsupportedFormatVersion: A later release wrote it.
        DiskFull: There is no room for the copy; nothing has changed.
    """
    _must_not_be_newer(version_of(db), file)
    if version_of(db) == 0:
        _make(db)
        return
    if version_of(db) == VERSION:
        return
    kept = _copied(db, version_of(db), paths)
    while (version := version_of(db)) < VERSION:
        following, script = MIGRATIONS[version]
        if version == 5:
            _move_dead_letters(db, paths)
        _step(db, version, following, script)
        log.warning(
            "ledger_migrated",
            message="The ledger of an earlier release was migrated.",
            was=version,
            now=following,
            copy=str(kept),
        )
    # Bytes of dead letters have left it. Nothing depends on that: without room it stays large.
    with suppress(sqlite3.OperationalError):
        db.execute("VACUUM")


def _must_not_be_newer(version: int, file: Path) -> None:
    if version > VERSION:
        raise UnsupportedFormatVersion(
            f"{file} has version {version}, this release writes {VERSION}.",
            "Use the release that wrote it, or a newer one. Nothing was changed.",
        )


def _make(db: sqlite3.Connection) -> None:
    """All tables of an empty ledger at once: nobody sees those of an earlier version."""
    _step(db, 0, VERSION, _TABLES_4 + _FROM_4_TO_5 + _FROM_5_TO_6 + _FROM_6_TO_7 + FROM_7_TO_8)


def _step(db: sqlite3.Connection, version: int, following: int, script: str) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        if version_of(db) == version:  # or another process was faster
            for statement in _statements(f"{script}PRAGMA user_version = {following};"):
                db.execute(statement)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; those within a trigger end with a semicolon, too."""
    statement = ""
    for part in script.split(";"):
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _move_dead_letters(db: sqlite3.Connection, paths: LakePaths) -> None:
    """Copy the bytes of dead letters to their own database; to do it twice changes nothing."""
    with closing(Payloads(paths)) as payloads:
        found = db.execute(
            "SELECT topic_id, partition, offset, key, value, headers FROM dead_letters"
        )
        while rows := found.fetchmany(100):
            payloads.put(rows)


def _copied(db: sqlite3.Connection, version: int, paths: LakePaths) -> Path:
    """A durable copy of the whole ledger as it was, named with its version."""
    moment = f"{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 10**6}"
    path = paths.orphans / f"ledger-v{version}-{moment}" / "ledger.db"
    with disk_full_is_transient(paths.orphans):
        make_folder(path.parent)
        staged = path.with_name(f".{path.name}")
        with closing(sqlite3.connect(staged)) as target:
            db.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")
        sync_file(staged)
        rename(staged, path)
        sync_folder(path.parent)
    return path
