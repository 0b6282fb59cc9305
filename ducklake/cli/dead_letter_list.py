"""`ducklake dead-letters list` and `show`: what could not be decoded, where, and why."""

from __future__ import annotations

import base64
import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
from rich.console import Console
from rich.table import Table as RichTable

from ducklake.cli.checks import chosen
from lake.config import Config
from lake.dead_letter_limits import DROP
from lake.errors import ConfigError
from lake.ledger import DeadLetterEntry, LedgerReader, Payload
from lake.opening import open_lake

SHOWN = 100
"""Dead letters that are listed where nobody asks for all of them."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a dead letter is: `TOPIC/PARTITION/OFFSET`."""

    topic: str
    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address.

        Raises:
            ConfigError: It is none.
        """
        try:
            topic, partition, offset = text.rsplit("/", 2)
            return cls(topic, int(partition), int(offset))
        except ValueError:
            raise ConfigError(
                f"{text!r} is not the address of a dead letter.",
                "It is TOPIC/PARTITION/OFFSET, as `ducklake dead-letters list TABLE` shows it.",
            ) from None

    @classmethod
    def of(cls, entry: DeadLetterEntry) -> Address:
        """The address of a dead letter."""
        return cls(entry.topic, entry.partition, entry.offset)

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


def list_all(config: Config, table: str | None, everything: bool, as_json: bool) -> None:
    """List the dead letters of a table, or how many each table has.

    Raises:
        ConfigError: There is no such table.
    """
    with open_lake(config, for_writing=False) as lake:
        if table is None:
            _list_tables(config, lake.ledger, as_json)
            return
        entries = _of(config, lake.ledger, table)
        shown = entries if everything or as_json else entries[:SHOWN]
        described = [_described(lake.ledger, entry) for entry in shown]
    if as_json:
        print(json.dumps(described))
        return
    listing = RichTable("address", "time", "bytes", "reason")
    for one in described:
        listing.add_row(*(str(one[key]) for key in ("address", "time", "bytes", "reason")))
    Console().print(listing)
    if len(shown) < len(entries):
        print(f"{len(entries) - len(shown):,} more: --all lists them", file=sys.stderr)


def _list_tables(config: Config, ledger: LedgerReader, as_json: bool) -> None:
    found = []
    counts, dropped = ledger.dead_letters.counts(), ledger.dead_letters.dropped()
    dropping = {r.topic for r, table in config.tables() if table.dead_letters.policy == DROP}
    for topic in sorted({*counts, *(dropped.keys() & dropping)}):
        entries = ledger.dead_letters.of_table(topic)
        times = [entry.kafka_ts for entry in entries]
        reasons = Counter(entry.reason for entry in entries).most_common(1)
        found.append(
            {
                "table": topic,
                "count": counts.get(topic, 0),
                "dropped": dropped.get(topic, 0),
                "oldest": _moment(min(times)) if times else "",
                "newest": _moment(max(times)) if times else "",
                "most_frequent_reason": reasons[0][0] if reasons else "",
            }
        )
    if as_json:
        print(json.dumps(found))
        return
    if not found:
        print("There are no dead letters.")
        return
    listing = RichTable("table", "count", "dropped", "oldest", "newest", "most frequent reason")
    for row in found:
        listing.add_row(*map(str, row.values()))
    Console().print(listing)


def show(config: Config, address: str, raw: bool, as_json: bool) -> None:
    """Show one dead letter with its bytes.

    Raises:
        ConfigError: There is none at this address.
    """
    with open_lake(config, for_writing=False) as lake:
        entry = _at(lake.ledger, [Address.parse(address)])[0]
        payload = lake.ledger.dead_letters.payload(entry) or Payload(None, None, "{}")
        described = _described(lake.ledger, entry)
    if raw:
        sys.stdout.buffer.write(payload.value or b"")
        return
    if as_json:
        print(json.dumps(described | _bytes_of(payload)))
        return
    for key, value in described.items():
        print(f"{key}: {value}")
    for key, data in (("key", payload.key), ("value", payload.value)):
        print(f"{key}: {_readable(data)}")
    kept = len(payload.value or b"")
    if kept < entry.value_bytes:
        print(f"(the first {kept:,} of {entry.value_bytes:,} bytes; Kafka may have the rest)")


def meant(config: Config, ledger: LedgerReader, words: list[str]) -> list[DeadLetterEntry]:
    """The dead letters that some words name: tables, or addresses; all for none."""
    words = words or list(ledger.dead_letters.counts())
    found: dict[Address, DeadLetterEntry] = {}
    for word in words:
        entries = _at(ledger, [Address.parse(word)]) if "/" in word else _of(config, ledger, word)
        found.update((Address.of(entry), entry) for entry in entries)
    return list(found.values())


def _of(config: Config, ledger: LedgerReader, table: str) -> list[DeadLetterEntry]:
    """The dead letters meant for a table, which may have left the configuration since."""
    if table in ledger.dead_letters.counts():
        return ledger.dead_letters.of_table(table)
    return [
        entry
        for ref, _ in chosen(config, table)
        for entry in ledger.dead_letters.of_table(ref.topic)
    ]


def _at(ledger: LedgerReader, addresses: list[Address]) -> list[DeadLetterEntry]:
    found = []
    for address in addresses:
        entries = ledger.dead_letters.at(address.topic, address.partition, address.offset)
        if not entries:
            raise ConfigError(
                f"There is no dead letter {address}.",
                "`ducklake dead-letters list` shows what there is.",
            )
        found += entries
    return found


def _described(ledger: LedgerReader, entry: DeadLetterEntry) -> dict[str, object]:
    payload = ledger.dead_letters.payload(entry)
    about: Mapping[str, object] = orjson.loads(payload.headers) if payload else {}
    return {
        "address": str(Address.of(entry)),
        "table": entry.source_table,
        "time": _moment(entry.kafka_ts),
        "bytes": entry.value_bytes,
        "reason": entry.reason,
        "provenance": {k: v for k, v in about.items() if k not in ("reason", "source_table")},
    }


def _bytes_of(payload: Payload) -> dict[str, str | None]:
    def encoded(data: bytes | None) -> str | None:
        return None if data is None else base64.b64encode(data).decode()

    return {
        "key_base64": encoded(payload.key),
        "value_base64": encoded(payload.value),
    }


def _readable(data: bytes | None) -> str:
    """Bytes on a terminal: no control character gets there."""
    if data is None:
        return "none"
    return ascii(data) if any(b < 32 for b in data) else data.decode(errors="backslashreplace")


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
