"""`ducklake dead-letters redrive` and `drop`: what is done about them."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Mapping

import typer

from consumers.replay.redrive import Redrive, Redriven
from ducklake.cli.dead_letter_list import Address, meant
from ducklake.cli.progress import bar
from lake.config import Config, Table, TableRef
from lake.errors import ConfigError
from lake.opening import open_lake
from lake.records import REJECTS_TOPIC


def redrive(config: Config, words: Iterable[str], as_json: bool, stop: threading.Event) -> bool:
    """Decode dead letters again; returns whether none of those that were meant is left.

    Args:
        config: The configuration, as it is now.
        words: Tables, or addresses; none: all dead letters.
        as_json: Print one line of JSON.
        stop: Ends it.

    Raises:
        ConfigError: There is no such table or dead letter.
        DuckLakeError: As `Redrive.run` says.
    """
    with open_lake(config, for_writing=False) as lake:
        entries = meant(config, lake.ledger, list(words))
    wanted = {Address.of(entry) for entry in entries}
    tables = {ref.topic: (ref, spec) for ref, spec in config.tables()}
    found: list[Redriven] = []
    elsewhere = Counter(e.source_table for e in entries if e.topic == REJECTS_TOPIC)
    for topic in dict.fromkeys(e.topic for e in entries if e.topic != REJECTS_TOPIC):
        if topic not in tables:
            raise ConfigError(
                f"{topic} is not in the configuration any more.",
                "Put the table back into ducklake.yml, or drop its dead letters:"
                f" ducklake dead-letters drop {topic}.",
            )
        found.append(_redriven(config, *tables[topic], wanted, stop))
    _report(found, elsewhere, as_json)
    return not elsewhere and not any(one.still_dead or one.unavailable for one in found)


def _redriven(
    config: Config, ref: TableRef, spec: Table, wanted: set[Address], stop: threading.Event
) -> Redriven:
    with bar(f"redriving {ref.topic}", "dead letters") as progress:
        work = Redrive(config, config.endpoints(), ref, spec, progress)
        return work.run(stop, lambda entry: Address.of(entry) in wanted)


def _report(found: list[Redriven], rejects: Mapping[str, int], as_json: bool) -> None:
    if as_json:
        print(
            json.dumps(
                {
                    "tables": [
                        {
                            "table": one.table,
                            "rows": one.rows,
                            "still_dead": len(one.still_dead),
                            "unavailable": len(one.unavailable),
                            "reasons": Counter(letter.reason for letter in one.still_dead),
                        }
                        for one in found
                    ],
                    "rejects": dict(rejects),
                }
            )
        )
        return
    for one in found:
        print(f"{one.table}: {one.rows:,} rows, {len(one.still_dead):,} still dead letters")
        for reason, count in Counter(letter.reason for letter in one.still_dead).most_common(5):
            print(f"  {count:,} times: {reason}")
        if one.unavailable:
            print(
                f"  {len(one.unavailable):,} larger than what is kept, and no longer in Kafka:"
                f" ducklake dead-letters drop {Address.of(one.unavailable[0])}"
            )
    for topic, count in rejects.items():
        print(
            f"{topic}: {count:,} inputs that its producer rejected stay dead letters: read the"
            f" source again (ducklake backfill {topic}), then drop them"
            f" (ducklake dead-letters drop {topic})"
        )
    if not found and not rejects:
        print("There are no dead letters.")


def drop(config: Config, words: Iterable[str], yes: bool) -> None:
    """Count dead letters no longer, and remove their bytes.

    Raises:
        ConfigError: There is no such table or dead letter.
    """
    with open_lake(config, for_writing=True) as lake:
        entries = meant(config, lake.ledger, list(words))
        if not entries:
            print("There are no dead letters.")
            return
        if not yes:
            typer.confirm(
                f"Drop {len(entries):,} dead letters for good? Their bytes are removed.", abort=True
            )
        lake.ledger.dead_letters.drop(entries, lake.session.id)
    print(f"{len(entries):,} dead letters dropped")
