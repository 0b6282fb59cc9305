"""Kafka messages to Arrow: whole batches through DuckDB, no Python loop over fields.

Every field is taken out of the JSON as text once and cast to its column's type; a value that does
not fit is seen, never coerced. A record that cannot be decoded becomes a dead letter, the rest of
its batch goes on. An unknown key becomes a new column.

What differs between formats of records is in one class for each (`RecordFormat`); the fast way and
the careful way know none of them by name.
"""

from consumers.ingest.decoding.columns import Changes
from consumers.ingest.decoding.decoded import Decoded, Decoder
from consumers.ingest.decoding.decoder import TableDecoder, make_decoder

__all__ = ["Changes", "Decoded", "Decoder", "TableDecoder", "make_decoder"]
