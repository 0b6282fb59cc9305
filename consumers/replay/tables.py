"""What every replay asks of its table first: the lake's state of it, and its decoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from consumers.ingest.decoding import Decoder, make_decoder
from consumers.ingest.drift import gate_of
from consumers.ingest.schema_changes import SchemaChanges
from lake.config import Config, Endpoints, Table, TableRef
from lake.errors import LedgerError
from lake.ledger import LedgerReader, TableState


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


@contextmanager
def decoder_of(
    config: Config, endpoints: Endpoints, ref: TableRef, table: Table
) -> Iterator[Decoder]:
    """A decoder as the live consumer has it, for a table."""
    kind = config.kind(ref)
    changes = SchemaChanges(endpoints, ref.source) if kind == "cdc" else None
    try:
        yield make_decoder(ref, table, kind, changes, gate_of(config, ref, table, first=False))
    finally:
        if changes is not None:
            changes.close()
