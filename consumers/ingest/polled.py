"""What a poll brings: records, and events in their place among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from confluent_kafka import Message

_error = Message.error  # called without a lookup for each message


def runs(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Records in runs, and each event alone in its place: it counts for what came before it."""
    if not any(map(_error, messages)):
        if messages:
            yield list(messages)
        return
    for failed, group in groupby(messages, lambda message: message.error() is not None):
        if failed:
            yield from ([event] for event in group)
        else:
            yield list(group)
