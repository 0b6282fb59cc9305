"""A record that cannot be decoded, as a value: whole, with its coordinates and the reason."""

from __future__ import annotations

from dataclasses import replace

from confluent_kafka import Message

from consumers.ingest.arrow_batch import provenance_of
from lake.records import DeadLetter, from_millis


def dead_letter(
    topic: str, message: Message, reason: str, source_table: str | None = None
) -> DeadLetter:
    """Make a record a dead letter.

    Args:
        topic: The topic from which it was read.
        message: The record.
        reason: Why it cannot be decoded; no row contents.
        source_table: The topic for which it was meant; None: the one from which it was read.
    """
    return DeadLetter(
        topic=topic,
        partition=message.partition(),
        offset=message.offset(),
        kafka_ts=from_millis(message.timestamp()[1]),
        source_table=topic if source_table is None else source_table,
        reason=reason,
        key=message.key(),
        value=message.value(),
        headers=provenance_of(message) or "{}",
    )


def dropped(letter: DeadLetter) -> DeadLetter:
    """The same, to be counted and not kept."""
    return replace(letter, state="dropped")
