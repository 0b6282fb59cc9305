"""`ducklake verify` and `ducklake accept-loss`: what the lake holds, and what it has lost."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table as RichTable

from consumers.compaction.compactor import Compactor
from consumers.compaction.date_rewrite import rewrite_date
from consumers.maintenance.verify import Verdict, Verifier
from consumers.replay.range_reader import KafkaReader
from ducklake.supervision.condition import Condition, look
from lake.config import Config, TableRef, nearest
from lake.config import Table as TableConfig
from lake.config.suggestions import sentence
from lake.errors import ConfigError, SourceError
from lake.kafka.topics import admin, identify
from lake.opening import open_lake


def verify_lake(
    config: Config, tables: Sequence[str] | None, lake_only: bool, as_json: bool
) -> bool:
    """Verify and print; returns whether everything is as it should be."""
    endpoints = None if lake_only else config.endpoints()
    verifier = Verifier(config, endpoints, lambda name: print(f"{name} ...", file=sys.stderr))
    verdict = verifier.verify(chosen_all(config, tables))
    condition = look(config)  # what has stopped arrives in nothing that could be compared
    if as_json:
        told = {"exact": not verdict.differences, **asdict(verdict)}
        print(json.dumps({**told, "problems": condition.dump()["problems"]}))
    else:
        _show(verdict, condition)
    return not verdict.differences


def chosen_all(config: Config, tables: Sequence[str] | None) -> list[tuple[TableRef, TableConfig]]:
    """The tables that somebody names, each once; all where nothing is named.

    Raises:
        ConfigError: There is no such table.
    """
    if not tables:
        return chosen(config, None)
    found = {ref: spec for name in tables for ref, spec in chosen(config, name)}
    return list(found.items())


def chosen(config: Config, table: str | None) -> list[tuple[TableRef, TableConfig]]:
    """The tables that somebody names, by topic, relation, table, or name in MySQL; all for None.

    Where several sources have a table of that name, all of them are meant.

    Raises:
        ConfigError: There is no such table.
    """
    tables = list(config.tables())
    if table is None:
        return tables
    named = [
        (ref, spec)
        for ref, spec in tables
        if table in (ref.topic, ref.table, config.relation(ref), f"raw.{config.relation(ref)}")
    ]
    if not named:  # the name in MySQL, where it is no name in the lake
        named = [
            (ref, spec)
            for ref, spec in tables
            if spec.table is not None and table in (spec.table, f"{ref.source}.{spec.table}")
        ]
    if not named:
        known = nearest(table, [ref.topic for ref, _ in tables])
        raise ConfigError(sentence(f"There is no table {table!r}{known}"))
    return named


def chosen_one(config: Config, table: str) -> tuple[TableRef, TableConfig]:
    """The one table that somebody names.

    Raises:
        ConfigError: There is no such table, or several sources have one of that name.
    """
    found = chosen(config, table)
    if len(found) > 1:
        topics = ", ".join(ref.topic for ref, _ in found)
        raise ConfigError(f"Several tables are called {table!r}.", f"Name one of {topics}.")
    return found[0]


def _show(verdict: Verdict, condition: Condition) -> None:
    console = Console()
    for difference in verdict.differences:
        console.print(
            f"{difference.table}: {difference.kind}: {difference.where}: {difference.detail}",
            markup=False,
            soft_wrap=True,
        )
    table = RichTable(box=None, show_header=False)
    table.add_row("tables", f"{verdict.tables:,}")
    table.add_row("files", f"{verdict.files:,}")
    table.add_row("rows", f"{verdict.rows:,}")
    table.add_row("compared with Kafka", f"{verdict.compared_with_kafka:,}")
    found = len(verdict.differences)
    table.add_row("result", f"[red]{found} differences[/red]" if found else _exact(condition))
    console.print(table)
    for problem in condition.problems:
        console.print(problem.line(), markup=False, soft_wrap=True)


def _exact(condition: Condition) -> str:
    """The lake is exact as far as records came; it says nothing of a source that has stopped."""
    if condition.problems:
        return "[yellow]exact as far as records came, but not all is well[/yellow]"
    return "[green]exact[/green]"


def accept_loss(config: Config, table: str, yes: bool) -> None:
    """Take the topic as it is now, after asking.

    Raises:
        SourceError: The topic is not there.
    """
    ref, _ = chosen_one(config, table)
    endpoints = config.endpoints()
    found = identify(admin(endpoints), [ref.topic]).get(ref.topic)
    if found is None:
        raise SourceError(f"Topic {ref.topic} does not exist.", "`ducklake produce` makes it.")
    if not yes:
        typer.confirm(f"Go on with {ref.topic}, although records of it are lost?", abort=True)
    with KafkaReader(endpoints) as kafka:
        lows = {number: kafka.oldest(ref.topic, number) for number in range(found.partitions)}
    with open_lake(config, for_writing=True) as lake:
        lost = lake.ledger.tables.accept_loss(ref.topic, found.topic_id, lows)
    for span in lost:
        print(f"{ref.topic}, partition {span.partition}: offsets {span.first} to {span.last} lost")
    print(f"{ref.topic} goes on: in a running `ducklake consume` within seconds, or with its start")


def compact_days(config: Config, days: str) -> None:
    """Merge the public files of a range of days, table by table.

    Raises:
        ConfigError: It is no range of past days.
    """
    first, _, last = days.partition("..")
    try:
        begin, end = date.fromisoformat(first), date.fromisoformat(last or first)
    except ValueError:
        raise ConfigError(
            f"--days {days}: not a range of dates.", "Write 2026-10-01 or 2026-10-01..2026-10-31."
        ) from None
    if not begin <= end < datetime.now(UTC).date():
        raise ConfigError(
            f"--days {days}: only days that are over (in UTC) can be merged.",
            "Today's files are merged as they are sealed.",
        )
    compactor = Compactor(config)
    try:
        wanted = [begin + timedelta(days=n) for n in range((end - begin).days + 1)]
        tables = [ref for ref, _ in config.tables()]
        fewer = 0
        for ref in track(tables, "merging", console=Console(stderr=True), transient=True):
            fewer += sum(rewrite_date(compactor, ref, day) for day in wanted)
        print(f"{fewer} public files fewer", file=sys.stderr)
        compactor.damaged.must_be_none()
    finally:
        compactor.close()
