"""What could not be decoded: where, when, why, and its bytes as text that is safe to show."""

from __future__ import annotations

from dataclasses import dataclass

from ducklake.monitoring.printable import printable
from lake.ledger import DeadLetterEntry, LedgerReader

SHOWN = 200
"""Dead letters of a table that are listed; all are counted."""
SHOWN_BYTES = 16_384
"""Of a value that are shown."""


@dataclass(frozen=True, slots=True)
class DeadLetterCount:
    """The dead letters of a table."""

    table: str
    count: int
    dropped: int


@dataclass(frozen=True, slots=True)
class DeadLetterView:
    """A dead letter.

    Attributes:
        address: `TOPIC/PARTITION/OFFSET`, as the commands take it.
        table: The topic for which it was meant.
        at: When it was produced, in seconds of the epoch.
        bytes: Size of its value.
        reason: Why it could not be decoded.
    """

    address: str
    table: str
    at: float
    bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class DeadLetterContent:
    """A dead letter with its bytes.

    Attributes:
        letter: Which one.
        key: As text; control characters and invalid bytes are escaped; None: there is none.
        value: The same, cut after `SHOWN_BYTES`.
        headers: Its provenance, as JSON.
        kept_bytes: How many bytes of the value are kept.
    """

    letter: DeadLetterView
    key: str | None
    value: str | None
    headers: str
    kept_bytes: int


def dead_letter_counts(ledger: LedgerReader) -> tuple[DeadLetterCount, ...]:
    """How many each table has, the most first."""
    counts, dropped = ledger.dead_letters.counts(), ledger.dead_letters.dropped()
    listed = [
        DeadLetterCount(table, count, dropped.get(table, 0)) for table, count in counts.items()
    ]
    return tuple(sorted(listed, key=lambda one: (-one.count, one.table)))


def dead_letters_of(ledger: LedgerReader, table: str) -> tuple[DeadLetterView, ...]:
    """The newest dead letters that were meant for a table, newest first."""
    entries = sorted(ledger.dead_letters.of_table(table), key=lambda entry: -entry.kafka_ts)
    return tuple(_view(entry) for entry in entries[:SHOWN])


def dead_letter_content(
    ledger: LedgerReader, topic: str, partition: int, offset: int
) -> DeadLetterContent | None:
    """A dead letter with its bytes; None where there is none at this place."""
    found = ledger.dead_letters.at(topic, partition, offset)
    if not found:
        return None
    payload = ledger.dead_letters.payload(found[-1])
    if payload is None:
        return DeadLetterContent(_view(found[-1]), None, None, "{}", 0)
    value = payload.value
    return DeadLetterContent(
        _view(found[-1]),
        _text(payload.key),
        _text(value[:SHOWN_BYTES] if value is not None else None),
        payload.headers,
        len(value or b""),
    )


def _text(data: bytes | None) -> str | None:
    return None if data is None else printable(data.decode(errors="backslashreplace"))


def _view(entry: DeadLetterEntry) -> DeadLetterView:
    return DeadLetterView(
        f"{entry.topic}/{entry.partition}/{entry.offset}",
        entry.source_table,
        entry.kafka_ts,
        entry.value_bytes,
        entry.reason,
    )
