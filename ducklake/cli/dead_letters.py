"""`ducklake dead-letters redrive` and `drop`: what is done about them."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import typer

from consumers.replay.redrive import Redrive, Redriven
from ducklake.cli.dead_letter_list import Address, meant
from ducklake.cli.file_tables import is_file_source
from ducklake.cli.progress import bar
from ducklake.cli.redriven_answers import RedrivenAnswers, redrive_answers
from ducklake.cli.redriven_files import RedrivenFiles, redrive_files
from ducklake.cli.rest_tables import is_asked_again
from lake.config import Config, Table, TableRef
from lake.errors import ConfigError
from lake.ledger import DeadLetterEntry
from lake.opening import open_lake
from lake.records import REJECTS_TOPIC


def redrive(
    config: Config,
    words: Iterable[str],
    as_json: bool,
    stop: threading.Event,
    dry_run: bool = False,
) -> bool:
    """Decode dead letters again; returns whether none of those that were meant is left.

    Args:
        config: The configuration, as it is now.
        words: Tables, or addresses; none: all dead letters.
        as_json: Print one line of JSON.
        stop: Ends it.
        dry_run: Only say what would become of records; rejected inputs are only counted.

    Raises:
        ConfigError: There is no such table or dead letter.
        DuckLakeError: As `Redrive.run` says.
    """
    with open_lake(config, for_writing=False) as lake:
        entries = meant(config, lake.ledger, list(words))
    wanted = {Address.of(entry) for entry in entries}
    tables = {ref.topic: (ref, spec) for ref, spec in config.tables()}
    found: list[Redriven] = []
    rejects = _rejects(entries)
    sources = {topic: tables[topic][0].source for topic in rejects if topic in tables}
    files = [
        redrive_files(config, topic, rejects[topic], stop)
        for topic, source in sources.items()
        if is_file_source(config, source) and not dry_run
    ]
    answers = [
        redrive_answers(config, topic, rejects[topic], stop)
        for topic, source in sources.items()
        if is_asked_again(config, source) and not dry_run
    ]
    read_again = {one.table for one in files} | {one.table for one in answers}
    elsewhere = {topic: len(each) for topic, each in rejects.items() if topic not in read_again}
    for topic in dict.fromkeys(e.topic for e in entries if e.topic != REJECTS_TOPIC):
        if topic not in tables:
            raise ConfigError(
                f"{topic} is not in the configuration any more.",
                f"Put it back, or drop its dead letters: ducklake dead-letters drop {topic}.",
            )
        found.append(_redriven(config, tables[topic], wanted, stop, dry_run))
    _report(found, files, answers, elsewhere, as_json)
    if elsewhere or not all(one.is_done for one in files) or any(one.waiting for one in answers):
        return False
    return not any(one.still_dead or one.unavailable for one in found)


def _rejects(entries: Iterable[DeadLetterEntry]) -> dict[str, list[DeadLetterEntry]]:
    """Inputs that producers could not parse, by the table for which they were meant."""
    rejects: dict[str, list[DeadLetterEntry]] = {}
    for entry in entries:
        if entry.topic == REJECTS_TOPIC:
            rejects.setdefault(entry.source_table, []).append(entry)
    return rejects


def _redriven(
    config: Config,
    table: tuple[TableRef, Table],
    wanted: set[Address],
    stop: threading.Event,
    dry_run: bool,
) -> Redriven:
    ref, spec = table
    with bar(f"redriving {ref.topic}", "dead letters") as progress:
        work = Redrive(config, config.endpoints(), ref, spec, progress, dry_run)
        return work.run(stop, lambda entry: Address.of(entry) in wanted)


def _report(
    found: list[Redriven],
    files: list[RedrivenFiles],
    answers: list[RedrivenAnswers],
    rejects: Mapping[str, int],
    as_json: bool,
) -> None:
    if as_json:
        print(json.dumps(_as_json(found, files, answers, rejects)))
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
    for read in files:
        _print_files(read)
    for asked in answers:
        _print_answers(asked)
    for topic, count in rejects.items():
        print(
            f"{topic}: {count:,} inputs that its producer rejected stay dead letters: read the"
            f" source again (ducklake backfill {topic}), then drop them"
            f" (ducklake dead-letters drop {topic})"
        )
    if not (found or rejects or files or answers):
        print("There are no dead letters.")


def _as_json(
    found: list[Redriven],
    files: list[RedrivenFiles],
    answers: list[RedrivenAnswers],
    rejects: Mapping[str, int],
) -> dict[str, Any]:
    told: dict[str, Any] = {
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
    if files:
        told["files"] = [
            {
                "table": one.table,
                "resolved": one.resolved,
                "waiting": one.waiting,
                "gone": one.gone,
                "appended": one.appended,
            }
            for one in files
        ]
    if answers:
        told["answers"] = [asdict(one) for one in answers]
    return told


def _print_answers(asked: RedrivenAnswers) -> None:
    print(
        f"{asked.table}: {asked.resolved:,} rejects from before its source was asked for everything"
        " again are resolved"
    )
    if asked.waiting:
        print(
            f"  {asked.waiting:,} more, for which it was asked again: `ducklake run` or `ducklake"
            " produce` reads the answer; then run this command once more. What it no longer has"
            f" stays: ducklake dead-letters drop {asked.table}"
        )


def _print_files(read: RedrivenFiles) -> None:
    print(f"{read.table}: {read.resolved:,} rejects of files that were read again are resolved")
    if read.waiting:
        print(
            f"  {read.waiting:,} more of {len(read.files):,} files that were asked for again:"
            " `ducklake run` or `ducklake produce` reads them; then run this command once more"
        )
    if read.gone:
        print(
            f"  {read.gone:,} of files that are no longer there: put them back, or drop these"
            f" (ducklake dead-letters drop {read.table})"
        )
    if read.appended:
        print(
            f"  {read.appended:,} of files of which only new rows are read (mode: append), so that"
            f" reading them again repeats rows: if that is wanted, ducklake backfill {read.table};"
            f" then drop these (ducklake dead-letters drop {read.table})"
        )


def drop(
    config: Config, words: Iterable[str], yes: bool, as_json: bool = False, dry_run: bool = False
) -> None:
    """Count dead letters no longer, and remove their bytes.

    Args:
        config: The configuration.
        words: Tables, or addresses; none: all dead letters.
        yes: Ask nobody.
        as_json: Print one line of JSON.
        dry_run: Only count them.

    Raises:
        ConfigError: There is no such table or dead letter.
    """
    if dry_run:
        with open_lake(config, for_writing=False) as reading:
            entries = meant(config, reading.ledger, list(words))
    else:
        entries = _dropped(config, list(words), yes)
    if as_json:
        print(json.dumps({"dropped": len(entries)}))
    elif not entries:
        print("There are no dead letters.")
    else:
        print(f"{len(entries):,} dead letters {'would be ' if dry_run else ''}dropped")


def _dropped(config: Config, words: list[str], yes: bool) -> list[DeadLetterEntry]:
    with open_lake(config, for_writing=True) as lake:
        entries = meant(config, lake.ledger, words)
        if entries and not yes:
            typer.confirm(
                f"Drop {len(entries):,} dead letters for good? Their bytes are removed.", abort=True
            )
        if entries:
            lake.ledger.dead_letters.drop(entries, lake.session.id)
    return entries
