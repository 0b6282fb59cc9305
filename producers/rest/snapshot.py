"""Answers that are sent as a whole: each content once, however often it is killed meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lake.records import Record, Reject
from producers.base import BATCH_ROWS, Batch
from producers.rest.pages import Walk
from producers.rest.rows import GoodRow, Keep, RowForm

BATCH_BYTES = 8 * 1024 * 1024


def snapshot_batches(
    form: RowForm,
    unit: str,
    walk: Walk,
    known: Mapping[str, Any],
    fresh: Mapping[str, Any],
    keep: Keep | None = None,
) -> Iterator[Batch]:
    """The rows of an answer that are not in Kafka yet.

    Args:
        form: The table.
        unit: The name of the cursor.
        walk: The answer.
        known: The cursor.
        fresh: What the new cursor says besides: with which options, and for which request.
        keep: Which records are wanted.
    """
    digest = walk.sha256
    same = known.get("sha256") == digest and all(
        known.get(name, "") in ("", value) for name, value in fresh.items()
    )
    asked_before = str(known.get("asked", "")) >= str(fresh.get("asked", ""))
    if same and asked_before and known.get("complete"):
        return
    done = int(known.get("done", 0)) if same and asked_before else 0
    cursor: dict[str, Any] = {**fresh, "sha256": digest, "complete": False}
    records: list[Record] = []
    rejects: list[Reject] = []
    seen = held = rows = 0
    for row in form.read(walk, keep):
        seen += 1
        rows += isinstance(row, GoodRow)
        if seen <= done:
            continue
        if isinstance(row, GoodRow):
            records.append(form.record(row))
            held += len(row.encoded)
        else:
            rejects.append(form.reject(row))
            held += len(row.payload)
        if len(records) + len(rejects) >= BATCH_ROWS or held >= BATCH_BYTES:
            yield Batch(form.table, unit, {**cursor, "done": seen, "rows": rows}, records, rejects)
            records, rejects, held = [], [], 0
    validators = {"etag": walk.etag, "last_modified": walk.last_modified}
    cursor |= {name: value for name, value in validators.items() if value}
    ended = {**cursor, "done": seen, "rows": rows, "complete": True}
    yield Batch(form.table, unit, ended, records, rejects)
