"""Intents of compactions and date rewrites that have not flipped yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from lake.formats import CompactionIntent, DateRewriteIntent
from lake.ledger.entries import OpenCompaction, OpenDateRewrite


def open_compactions(db: sqlite3.Connection) -> list[OpenCompaction]:
    """Compactions whose intent is recorded and that have not flipped yet."""
    found = db.execute("SELECT compaction_id, topic, intent FROM compactions").fetchall()
    return [OpenCompaction(i, topic, CompactionIntent.load(text)) for i, topic, text in found]


def open_date_rewrites(db: sqlite3.Connection) -> list[OpenDateRewrite]:
    """Date rewrites whose intent is recorded and that have not flipped yet."""
    found = db.execute("SELECT rewrite_id, topic, intent, claimed_by FROM date_rewrites").fetchall()
    return [
        OpenDateRewrite(number, topic, DateRewriteIntent.load(text), claimed_by)
        for number, topic, text, claimed_by in found
    ]


def open_inputs(db: sqlite3.Connection) -> Iterator[tuple[int, ...]]:
    """Ids of the files that open intents replace."""
    yield from (compaction.intent.inputs for compaction in open_compactions(db))
    yield from (rewrite.intent.inputs for rewrite in open_date_rewrites(db))


def intended_paths(db: sqlite3.Connection) -> frozenset[str]:
    """Relative paths, old and new, of the files that open intents name."""
    outputs = [o for compaction in open_compactions(db) for o in compaction.intent.outputs]
    outputs += [o for rewrite in open_date_rewrites(db) for o in rewrite.intent.outputs]
    return frozenset(path for o in outputs for path in (o.staged, o.final))
