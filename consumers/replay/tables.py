"""What every replay asks of its table first: the lake's state of it, and its decoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from consumers.ingest.decoding import Decoder, make_decoder
from consumers.ingest.decoding.rejects import RejectsDecoder
from consumers.ingest.drift import gate_of
from consumers.ingest.schema_changes import SchemaChanges
from consumers.replay.context import ReplayContext
from consumers.replay.range_reader import KafkaReader
from lake.config import Config, Endpoints, Table, TableRef
from lake.errors import LedgerError
from lake.kafka.topics import admin, identify
from lake.ledger import LedgerReader, TableState
from lake.opening import open_lake
from lake.storage.sql import spilling


def known_table(ledger: LedgerReader, ref: TableRef) -> TableState:
    """The state of a table that the lake must have.

    Raises:
        LedgerError: It has not.
    """
    state = ledger.tables.get(ref.topic)
    if state is None:
        raise LedgerError(
            f"The lake has no table {ref.topic}.", "`ducklake consume` brings it in from Kafka."
        )
    return state


def must_be_the_same_topic(endpoints: Endpoints, state: TableState) -> None:
    """See that a table's topic in Kafka is the one that the lake has read.

    Raises:
        LedgerError: It is not.
    """
    found = identify(admin(endpoints), [state.topic]).get(state.topic)
    if found is None or found.topic_id != state.topic_id:
        raise LedgerError(
            f"Topic {state.topic} is not the one that the lake has read.",
            f"`ducklake accept-loss {state.topic}` continues with the new one; the old one's"
            " records are gone from Kafka.",
        )


@contextmanager
def opened(
    config: Config, endpoints: Endpoints, ref: TableRef, table: Table, for_writing: bool
) -> Iterator[ReplayContext]:
    """Open the lake, Kafka and a decoder for one table."""
    with ExitStack() as stack:
        # A killed rebuild is dropped: while a table is being rebuilt, nothing is filled.
        lake = stack.enter_context(open_lake(config, for_writing=for_writing))
        if for_writing:  # the ranges that are looked at are cut or replaced later
            stack.enter_context(lake.readers.nothing_is_joined(lake.session.id))
        kafka = stack.enter_context(KafkaReader(endpoints))
        decoder = stack.enter_context(decoder_of(config, endpoints, ref, table))
        db = stack.enter_context(spilling(lake.session, 400))
        yield ReplayContext(ref, config.kind(ref), lake, kafka, decoder, db)


@contextmanager
def decoder_of(
    config: Config, endpoints: Endpoints, ref: TableRef, table: Table
) -> Iterator[Decoder]:
    """A decoder as the live consumer has it, for a table."""
    kind = config.kind(ref)
    if kind == "rejects":
        yield RejectsDecoder.of(config)
        return
    changes = SchemaChanges(endpoints, ref.source) if kind == "cdc" else None
    try:
        yield make_decoder(ref, table, kind, changes, gate_of(config, ref, table, first=False))
    finally:
        if changes is not None:
            changes.close()
