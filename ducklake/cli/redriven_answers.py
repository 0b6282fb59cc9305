"""Redrive of what a producer rejected in answers of an API, or in runs of a dlt resource.

The source is asked for everything again, as `ducklake backfill` does; what was rejected before is
resolved once all of that is in Kafka. What cannot be read in the new answer either is a dead letter
of its own. What the source no longer has cannot come back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ducklake.cli.redriven_files import LOOK_SECONDS, PATIENCE_SECONDS, is_produced
from lake.config import Config
from lake.ledger import DeadLetterEntry
from lake.opening import open_lake
from producers.cursors import committed_cursors
from producers.rest.requests import Backfill, backfills, request_backfill
from producers.rest.units import BACKFILL


@dataclass(slots=True)
class RedrivenAnswers:
    """What became of the rejects of one table.

    Attributes:
        table: Its topic.
        resolved: Rejects of a table that was asked for again since.
        waiting: Rejects of one that was asked for, and has not been answered as a whole yet.
    """

    table: str
    resolved: int = 0
    waiting: int = 0


def redrive_answers(
    config: Config, topic: str, rejects: Sequence[DeadLetterEntry], stop: threading.Event
) -> RedrivenAnswers:
    """Resolve rejects of what was asked for again, and ask for the others.

    While a producer runs, it waits until that has been read.

    Args:
        config: The configuration, as it is now.
        topic: A table of an API.
        rejects: Its rejects that are meant.
        stop: Ends the waiting; what was asked for is read all the same.

    Raises:
        ServiceUnreachable: Kafka does not answer.
        CommitConflict: Another process has resolved them in the meantime.
    """
    source, _, table = topic.partition(".")
    found = RedrivenAnswers(topic)
    whole = [request for request in backfills(config, source, table) if request.is_whole]
    left = list(rejects)
    if whole:
        left = _resolved(config, topic, left, whole[-1], found)
    if any(not whole or entry.kafka_ts >= _epoch(whole[-1]) for entry in left):
        whole = [request_backfill(config, source, table, None, None)]
    until = time.monotonic() + PATIENCE_SECONDS
    while left and is_produced(config) and time.monotonic() < until:
        if stop.wait(LOOK_SECONDS):
            break
        left = _resolved(config, topic, left, whole[-1], found)
    found.waiting = len(left)
    return found


def _resolved(
    config: Config,
    topic: str,
    rejects: list[DeadLetterEntry],
    request: Backfill,
    found: RedrivenAnswers,
) -> list[DeadLetterEntry]:
    """Resolve those from before a request that has been carried out; gives the others."""
    source, _, table = topic.partition(".")
    if not is_carried_out(table, committed_cursors(config.endpoints(), source), request):
        return rejects
    over = [entry for entry in rejects if entry.kafka_ts < _epoch(request)]
    if over:
        with open_lake(config, for_writing=True) as lake:
            lake.ledger.dead_letters.redriven(over, lake.session.id)
    found.resolved += len(over)
    return [entry for entry in rejects if entry not in over]


def is_carried_out(table: str, cursors: Mapping[str, Mapping[str, Any]], request: Backfill) -> bool:
    """Whether every part of a table that has ever been read was read again for a request."""
    done: dict[str, bool] = {}
    for key, cursor in cursors.items():
        if not key.startswith(f"{table}:"):
            continue
        part = key.removeprefix(f"{table}:").removesuffix(BACKFILL)
        is_read = bool(cursor.get("complete")) and str(cursor.get("asked", "")) >= request.at
        done[part] = done.get(part, False) or is_read
    return bool(done) and all(done.values())


def _epoch(request: Backfill) -> float:
    return datetime.fromisoformat(request.at).timestamp()
